"""Family `pair`: one label for one text or two. NLI, paraphrase.

Input `<s> A </s></s> B </s>`, over-long pairs cut at the end of the longer part, one piece at a time.
Head (jiant, so that intermediate and target stages see what the paper's did): the encoder's pooler on `<s>`, dropout,
dense h -> h, tanh, dropout, linear. `options["head"] = "hf"` leaves the pooler out, as transformers'
XLMRobertaForSequenceClassification does.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data.rows import Encoded
from xtl.data.sequences import pairs
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError, nearest
from xtl.families.interface import Batch, Family, Outputs, Pool, Scores, cross_entropy, weighted
from xtl.metrics.classification import accuracy, accuracy_and_f1
from xtl.models.encoder import EncoderConfig
from xtl.models.layers import Dense, dropout, take_slots
from xtl.task import Loaded, Pair, Task

HEADS = ("jiant", "hf")


class Classifier(nnx.Module):
    """Scores [..., outputs] float32 of the segments in the slots: (pooler,) dropout, dense, tanh, dropout, linear."""

    def __init__(self, config: EncoderConfig, task: Task, outputs: int, *, rngs: nnx.Rngs):
        self.rate, self.style = config.dropout, str(task.options.get("head", HEADS[0]))
        if self.style not in HEADS:
            raise XtlError(f"{task.name}: unknown option head={self.style!r}.{nearest(self.style, HEADS)}")
        self.dense = Dense(config.hidden, config.hidden, ("embed", None), dtype=config.dtype, rngs=rngs)
        self.out = Dense(config.hidden, outputs, ("embed", None), dtype=config.dtype, rngs=rngs)

    def __call__(
        self,
        hidden_rtd: jax.Array,
        batch: Batch,
        embedding: jax.Array | None = None,
        key: jax.Array | None = None,
        *,
        pool: Pool | None = None,
    ) -> jax.Array:
        x_rsd = take_slots(hidden_rtd, batch["slots_rs"])
        if self.style == "jiant":
            assert pool is not None
            x_rsd = pool(x_rsd)
        keys = (None, None) if key is None else jax.random.split(key)
        x_rsd = jnp.tanh(self.dense(dropout(x_rsd, self.rate, keys[0])))
        return self.out.add_bias(self.out.product(dropout(x_rsd, self.rate, keys[1])))


class PairFamily(Family[Pair, jax.Array, str]):
    """Logits [R, S, labels], one label word per example."""

    label_columns = ("label_rs",)
    few_labels = True
    counterpart = "ForSequenceClassification"
    counterpart_options: ClassVar = {"head": "hf"}

    def encode(
        self, task: Task, examples: Sequence[Pair], tokenizer: Tokenizer, *, max_length: int, train: bool
    ) -> Encoded:
        """One segment per example; segment column `label` (-1: hidden).

        XtlError for a training example without label.
        """
        single = np.array([x.b is None for x in examples], bool)
        a = tokenizer.encode_ids_batch(x.a for x in examples)
        b = tokenizer.encode_ids_batch(x.b or "" for x in examples)
        labels = np.array([-1 if x.label is None else x.label for x in examples], np.int32)
        if train and (labels < 0).any():
            raise XtlError(f"{task.name}: training example {examples[int(np.argmax(labels < 0))].id} has no label")
        return replace(pairs(a, b, max_length=max_length, single=single), segment_columns={"label": labels})

    def head(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        if not task.labels:
            raise XtlError(f"task {task.name} of family pair must list its labels")
        return Classifier(config, task, len(task.labels), rngs=rngs)

    def loss(self, logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Softmax cross-entropy: (sum, number of labelled segments)."""
        labels_rs = batch["label_rs"]
        return weighted(cross_entropy(logits, labels_rs), batch["slot_weight_rs"] * (labels_rs >= 0))

    def outputs(self, task: Task, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        return {"logits_rsk": logits}

    def decode(self, task: Task, examples: Sequence[Pair], encoded: Encoded, outputs: Outputs) -> list[str]:
        """The label word of each example."""
        return [task.labels[i] for i in outputs["logits_sk"].argmax(axis=-1).tolist()]

    def score(
        self, task: Task, language: str, loaded: Loaded, predictions: Sequence[str], carried: Scores | None = None
    ) -> dict[str, float]:
        """`accuracy` and `n` labelled examples; for tasks with such a metric also `f1` of the last label and
        `accuracy_f1`.

        Examples with hidden labels are left out; without any labelled one the result is {"n": 0}.
        """
        labels = [x.label if isinstance(x, Pair) else None for x in loaded.examples]
        known = [(task.labels[a], b) for a, b in zip(labels, predictions, strict=True) if a is not None]
        if not known:
            return {"n": 0}
        right, predicted = zip(*known, strict=True)
        if task.metric in ("f1", "accuracy_f1"):
            return {**accuracy_and_f1(right, predicted, positive=task.labels[-1]), "n": len(known)}
        return {"accuracy": accuracy(right, predicted), "n": len(known)}

    def file_kind(self, task: Task) -> str:
        return "labels"


FAMILY = PairFamily()
