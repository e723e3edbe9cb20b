"""Texts of a task's examples, and their vectors from one layer of an encoder: what divergence is measured on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xtl.data import sources
from xtl.data.settings import Data
from xtl.errors import XtlError
from xtl.families import family
from xtl.task import Choice, Example, Pair, Span, Tagged, Task, Text, with_options

SOURCE = "en"
UNSPACED = ("zh", "ja", "th", "my")  # words are written without spaces between them


def text_of(example: Example, language: str = SOURCE) -> str:
    """The whole input of an example as one text, without its answer."""
    match example:
        case Pair():
            return f"{example.a} {example.b}"
        case Choice():
            return f"{example.prompt} {' '.join(example.choices)}"
        case Span():
            return f"{example.question} {example.context}"
        case Tagged():
            return ("" if language in UNSPACED else " ").join(example.words)
        case Text():
            return example.text
    raise XtlError(f"an example of type {type(example).__name__} has no text")


def texts(task: Task, language: str, split: str, data: Data, *, count: int, limit: int = 0, seed: int = 0) -> list[str]:
    """`count` different texts of one language, drawn without replacement by (task, language, seed).

    limit: of the first so many examples (0: all). Retrieval pairs a language with English: "en" is the pool of the
    first language, any other its queries. Returns fewer where there are no more.
    """
    side = ""
    if family(task).english_pool:
        side = "pool" if language == SOURCE else "query"
        language = next(iter(sources.languages(task, data, split=split))) if language == SOURCE else language
    examples = sources.load(task, language, split, data).examples
    kept = [e for e in examples if not side or (isinstance(e, Text) and e.side == side)]
    spoken = SOURCE if side == "pool" else language
    found = list(dict.fromkeys(text_of(e, spoken) for e in kept[: limit or None]))
    address = [seed, *f"{task.name}/{language}/{side}".encode()]
    chosen = np.sort(np.random.default_rng(address).permutation(len(found))[:count])
    return [found[i] for i in chosen]


class Vectors:
    """Sentence vectors of a pretrained encoder, as retrieval takes them: the mean over pieces of one layer."""

    def __init__(self, stage: Any, parent: Path | None, *, layer: int = -1):
        """stage: a resolved stage; its start, or `parent`, the folder of the stage it starts from, holds the encoder.

        layer: -1 is the one that retrieval uses. Raises XtlError if several hosts are at work: one is enough.
        """
        import jax

        from xtl.data.tokenizer import load_tokenizer
        from xtl.families.retrieve import default_layer
        from xtl.parallel.mesh import make_mesh
        from xtl.training import state

        if jax.process_count() > 1:
            raise XtlError("divergence embeds on one host: give `xtl report --workdir=...` there, when the run is done")
        self.config = state.encoder_config(stage)
        self.tokenizer = load_tokenizer(stage.data.tokenizer, stage.data.world)
        self.mesh = make_mesh({"data": -1, "fsdp": 1, "tensor": 1})
        self.layer = default_layer(self.config.layers) if layer < 0 else layer
        self.params = {"encoder": self._load(stage, parent), "heads": {}}

    def _load(self, stage: Any, parent: Path | None) -> Any:
        import jax
        from flax import nnx

        from xtl.models.hf.load import load_hf
        from xtl.training import checkpoint, state

        path = Path(stage.start).expanduser() if parent is None else parent
        if parent is not None or any((path / name).exists() for name in ("checkpoints", "encoder")):
            target = state.target(self.config, (), self.mesh)["params"]["encoder"]
            return checkpoint.load_encoder(path, target)[0]
        loaded = load_hf(str(stage.start), config=self.config, mesh=self.mesh, key=jax.random.key(0))
        return nnx.to_pure_dict(loaded.params)

    def __call__(self, sentences: Sequence[str], *, max_length: int = 128) -> np.ndarray:
        """Vectors [texts, hidden], float32."""
        import jax

        from xtl.data.batches import EvalBatches
        from xtl.data.sequences import singles
        from xtl.tasks import get_task
        from xtl.training.evaluator import batch_shape
        from xtl.training.step import build_eval_step, place

        task = with_options(get_task("tatoeba"), {"layer": self.layer, "pooling": "mean"})
        max_length = min(max_length, self.config.max_positions - 2)
        encoded = singles(self.tokenizer.encode_ids_batch(list(sentences)), max_length=max_length)
        step = build_eval_step(self.config, task, self.mesh)
        shape = batch_shape([encoded], mesh=self.mesh)
        batches = EvalBatches(encoded, family(task), **shape, tokenizer=self.tokenizer)
        with jax.set_mesh(self.mesh):
            found = [jax.device_get(step(self.params, place(batch, self.mesh))) for batch in batches]
        return batches.gather(found)["vector_sd"]
