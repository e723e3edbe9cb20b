"""Family `choice`: which of several continuations is right. HellaSwag, Cosmos QA, CommonsenseQA, Social IQa, (X)COPA.

Every choice is a segment `<s> prompt </s></s> choice </s>` of its own; over-long parts lose pieces at their front,
because the end of a prompt is what the choice continues (jiant). The classification head with one output scores each
segment; softmax over the choices of an example.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data.rows import Encoded, offsets_of
from xtl.data.sequences import pairs
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.families.interface import NEVER, Batch, Gold, Outputs, Pool, cross_entropy, weighted
from xtl.families.pair import Classifier
from xtl.metrics.classification import accuracy
from xtl.models.encoder import EncoderConfig
from xtl.task import Choice, Task


def encode(
    task: Task, examples: Sequence[Choice], tokenizer: Tokenizer, *, max_length: int, train: bool, **options: Any
) -> Encoded:
    """One segment a choice; example column `label` (-1: hidden). XtlError for a label that is no choice, or is missing
    in training."""
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


def loss(logits_ec: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Softmax cross-entropy over the choices: (sum, number of labelled examples)."""
    labels_e = batch["label_e"]
    return weighted(cross_entropy(logits_ec, labels_e), batch["weight_e"] * (labels_e >= 0))


def outputs(logits_ec: jax.Array, batch: Batch, **options: Any) -> dict[str, jax.Array]:
    return {"logits_ec": logits_ec}


def decode(task: Task, examples: Sequence[Choice], encoded: Encoded, outputs: Outputs, **options: Any) -> list[int]:
    """The index of the chosen continuation of each example."""
    return outputs["logits_ec"].argmax(axis=-1).tolist()


def score(
    task: Task,
    language: str,
    examples: Sequence[Choice],
    predictions: Sequence[int],
    *,
    gold: Gold = (),
    **options: Any,
) -> dict[str, float]:
    """`accuracy` and `n` over the labelled examples; without any, {"n": 0}."""
    known = [(x.label, p) for x, p in zip(examples, predictions, strict=True) if x.label is not None]
    if not known:
        return {"n": 0}
    right, predicted = zip(*known, strict=True)
    return {"accuracy": accuracy(right, predicted), "n": len(known)}


def written(predictions: Sequence[int], **options: Any) -> Sequence[int]:
    """Indices."""
    return predictions
