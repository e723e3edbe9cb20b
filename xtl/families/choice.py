"""Family `choice`: which of several continuations is right. HellaSwag, Cosmos QA, CommonsenseQA, Social IQa, (X)COPA.

Every choice is a segment `<s> prompt </s></s> choice </s>` of its own; over-long parts lose pieces at their front,
because the end of a prompt is what the choice continues (jiant). The classification head with one output scores each
segment; softmax over the choices of an example.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data.rows import Encoded, offsets_of
from xtl.data.sequences import pairs
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.families.interface import NEVER, Batch, Family, Outputs, Pool, Scores, cross_entropy, weighted
from xtl.families.pair import Classifier
from xtl.metrics.classification import accuracy
from xtl.models.encoder import EncoderConfig
from xtl.task import Choice, Loaded, Task


class Head(nnx.Module):
    """Logits [E, C], -1e30 where an example has fewer choices."""

    def __init__(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs):
        self.classifier = Classifier(config, task, 1, rngs=rngs)

    def __call__(
        self,
        hidden_rtd: jax.Array,
        batch: Batch,
        embedding: jax.Array | None = None,
        key: jax.Array | None = None,
        *,
        pool: Pool | None = None,
    ) -> jax.Array:
        score_rs = self.classifier(hidden_rtd, batch, key=key, pool=pool)[..., 0]
        # An example's choices may lie in different rows; only their scores travel between devices.
        score_ec = score_rs.reshape(-1)[batch["segments_ec"]]
        return jnp.where(batch["segment_weight_ec"] > 0, score_ec, NEVER)


class ChoiceFamily(Family[Choice, jax.Array, int]):
    """Logits [E, C], the index of one choice per example."""

    label_columns = ("label_e",)
    segments = 4
    few_labels = True
    counterpart = "ForMultipleChoice"
    counterpart_options: ClassVar = {"head": "hf"}

    def encode(
        self, task: Task, examples: Sequence[Choice], tokenizer: Tokenizer, *, max_length: int, train: bool
    ) -> Encoded:
        """One segment per choice; example column `label` (-1: hidden).

        XtlError for a label that is no choice, or is missing in training.
        """
        for x in examples:
            if x.label is None and train:
                raise XtlError(f"{task.name}: training example {x.id} has no label")
            if len(x.choices) < 2 or not 0 <= (x.label or 0) < len(x.choices):
                raise XtlError(f"{task.name}: example {x.id} has {len(x.choices)} choices and label {x.label}")
        prompts = tokenizer.encode_ids_batch(x.prompt for x in examples for _ in x.choices)
        choices = tokenizer.encode_ids_batch(c for x in examples for c in x.choices)
        counts = np.array([len(x.choices) for x in examples], np.int64)
        return replace(
            pairs(prompts, choices, max_length=max_length, front=True),
            example_offsets=offsets_of(counts),
            example_columns={"label": np.array([-1 if x.label is None else x.label for x in examples], np.int32)},
        )

    def head(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        return Head(config, task, rngs=rngs)

    def loss(self, logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Softmax cross-entropy over the choices: (sum, number of labelled examples)."""
        labels_e = batch["label_e"]
        return weighted(cross_entropy(logits, labels_e), batch["weight_e"] * (labels_e >= 0))

    def outputs(self, task: Task, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        return {"logits_ec": logits}

    def decode(self, task: Task, examples: Sequence[Choice], encoded: Encoded, outputs: Outputs) -> list[int]:
        """The index of the chosen continuation of each example."""
        return outputs["logits_ec"].argmax(axis=-1).tolist()

    def score(
        self, task: Task, language: str, loaded: Loaded, predictions: Sequence[int], carried: Scores | None = None
    ) -> dict[str, float]:
        """`accuracy` and `n` over the labelled examples; without any, {"n": 0}."""
        labels = [x.label if isinstance(x, Choice) else None for x in loaded.examples]
        known = [(a, b) for a, b in zip(labels, predictions, strict=True) if a is not None]
        if not known:
            return {"n": 0}
        right, predicted = zip(*known, strict=True)
        return {"accuracy": accuracy(right, predicted), "n": len(known)}

    def file_kind(self, task: Task) -> str:
        return "choices"


FAMILY = ChoiceFamily()
