"""Sentence vectors of a pretrained encoder: what divergence is measured on."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from xtl.config.schema import Stage
from xtl.data.batches import EvalBatches
from xtl.data.sequences import singles
from xtl.data.tokenizer import load_tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.families.retrieve import default_layer
from xtl.parallel.mesh import make_mesh
from xtl.tasks import get_task
from xtl.training import handoff, state
from xtl.training.evaluator import batch_shape
from xtl.training.step import build_eval_step, place


class Vectors:
    """Sentence vectors as retrieval takes them: the mean over pieces of one layer."""

    def __init__(self, stage: Stage, parent: Path | None, *, layer: int = -1):
        """stage: a resolved stage; its start, or `parent`, the folder of the stage it starts from, holds the encoder.

        layer: -1 is the one that retrieval uses. XtlError if several hosts are at work: vectors are computed on one.
        """
        if jax.process_count() > 1:
            raise XtlError("divergence embeds on one host: give `xtl report --workdir=...` there, when the run is done")
        self.config = state.encoder_config(stage)
        self.tokenizer = load_tokenizer(stage.data.tokenizer, stage.data.world)
        self.mesh = make_mesh({"data": -1, "fsdp": 1, "tensor": 1})
        self.layer = default_layer(self.config.layers) if layer < 0 else layer
        source = stage.start if parent is None else parent
        self.params = handoff.load(source, config=self.config, mesh=self.mesh, tokenizer=self.tokenizer).params

    def __call__(self, sentences: Sequence[str], *, max_length: int = 128) -> np.ndarray:
        """Vectors [texts, hidden], float32."""
        task, max_length = get_task("tatoeba"), min(max_length, self.config.max_positions - 2)
        encoded = singles(self.tokenizer.encode_ids_batch(list(sentences)), max_length=max_length)
        step = build_eval_step(self.config, task, self.mesh, (("layer", self.layer), ("pooling", "mean")))
        shape = batch_shape([encoded], mesh=self.mesh)
        batches = EvalBatches(encoded, family(task), **shape, tokenizer=self.tokenizer)
        with jax.set_mesh(self.mesh):
            outputs = [jax.device_get(step(self.params, place(batch, self.mesh))) for batch in batches]
        return batches.gather(outputs)["vector_sd"]
