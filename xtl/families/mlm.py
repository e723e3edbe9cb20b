"""Family `mlm`: masked language modelling on plain text.

15 % of the pieces are chosen anew at every visit, addressed by (seed, step, example): 80 % become `<mask>`, 10 % a
random piece, 10 % stay. Only chosen positions reach the vocabulary product: they are gathered first, into a fixed
number of places per row. Output layer as in XLM-R: dense, GELU, LayerNorm, the token table, a bias of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data import order, rows
from xtl.data.rows import FILL, Column, Encoded, RowShape, Segment
from xtl.data.sequences import singles
from xtl.data.tokenizer import UNK, Tokenizer
from xtl.families.interface import Batch, Family, Outputs, Pool, Scores, cross_entropy, weighted
from xtl.models.encoder import EncoderConfig
from xtl.models.layers import Dense, LayerNorm, gelu, param, zeros
from xtl.parallel.mesh import constrain
from xtl.task import Loaded, Task, Text

SHARE = 0.15  # of the pieces are predicted
MASKED, RANDOM = 0.8, 0.1  # shares of these that become <mask>, or a random piece


class Guesses(NamedTuple):
    """What became of the chosen pieces of one text: summed loss (nats), right ones, all."""

    loss: float
    hits: float
    chosen: float


class Head(nnx.Module):
    """Logits [R, M, V], float32, of the chosen positions. The output matrix is the token table."""

    def __init__(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs):
        width, dtype = config.hidden, config.dtype
        self.dense = Dense(width, width, ("embed", None), dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(width, eps=config.eps, dtype=dtype, rngs=rngs)
        self.bias = param(rngs, zeros, (config.vocab_size,), ("vocab",))

    def __call__(
        self,
        hidden_rtd: jax.Array,
        batch: Batch,
        embedding: jax.Array | None = None,
        key: jax.Array | None = None,
        *,
        pool: Pool | None = None,
    ) -> jax.Array:
        assert embedding is not None
        x_rmd = jnp.take_along_axis(hidden_rtd, batch["masked_rm"][:, :, None], axis=1)
        x_rmd = self.norm(gelu(self.dense.add_bias(self.dense.product(x_rmd)), "float32"))
        table_vd = embedding.astype(x_rmd.dtype)
        logits_rmv = jnp.einsum("rmd,vd->rmv", x_rmd, table_vd, preferred_element_type=jnp.float32)
        return constrain(logits_rmv, "rows", None, "vocab") + self.bias[...]


class MlmFamily(Family[Text, jax.Array, Guesses]):
    """Logits [R, M, V] of the chosen pieces; what became of them, per text."""

    judges = False  # a stage that trains MLM beside a task is there for the task
    head_of_encoder = True  # the loss of a new head would first undo what the encoder has learnt
    predicted = SHARE
    counterpart = "ForMaskedLM"

    def encode(
        self, task: Task, examples: Sequence[Text], tokenizer: Tokenizer, *, max_length: int, train: bool
    ) -> Encoded:
        """`<s> text </s>`; a text longer than a row goes on in further segments, so that no text is lost.

        Segment column `_example`: index into `examples`. In training, texts without a piece are left out.
        """
        ids, offsets = tokenizer.encode_ids_batch(x.text for x in examples)
        room, pieces = max_length - 2, np.diff(offsets)
        parts = np.maximum(-(-pieces // room), 0 if train else 1)
        source = np.repeat(np.arange(len(pieces)), parts)
        part = np.arange(len(source)) - np.repeat(np.cumsum(parts) - parts, parts)
        begins = offsets[source] + part * room
        encoded = singles((ids, np.append(begins, offsets[-1])), max_length=max_length)
        return replace(encoded, segment_columns={"_example": source.astype(np.int32)})

    def augment(self, segments: list[Segment], address: Sequence[int], tokenizer: Tokenizer | None) -> list[Segment]:
        """Each segment with some of its pieces masked, and the token column `target`."""
        assert tokenizer is not None
        rng = order.generator(*address)
        masked = []
        for segment in segments:
            ids, target = mask(segment.ids, rng, tokenizer)
            masked.append(replace(segment, ids=ids, token_columns={**segment.token_columns, "target": target}))
        return masked

    def finish(self, batch: rows.Batch, shape: RowShape) -> rows.Batch:
        """`target_rt` replaced by masked_rm (positions of chosen pieces), target_rm and target_weight_rm (0: empty
        place)."""
        target_rt = batch.pop("target_rt")
        row, at = np.nonzero(target_rt >= 0)
        count = np.bincount(row, minlength=len(target_rt))
        place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        size = (len(target_rt), places(shape))
        batch["masked_rm"], batch["target_rm"] = np.zeros(size, np.int32), np.full(size, FILL, np.int32)
        batch["target_weight_rm"] = np.zeros(size, np.float32)
        batch["masked_rm"][row, place] = at
        batch["target_rm"][row, place] = target_rt[row, at]
        batch["target_weight_rm"][row, place] = 1
        return batch

    def columns(self, shape: RowShape) -> dict[str, Column]:
        """The arrays of `finish`."""
        size = (shape.rows, places(shape))
        return {
            "masked_rm": (size, "int32"),
            "target_rm": (size, "int32"),
            "target_weight_rm": (size, "float32"),
        }

    def head(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        return Head(config, task, rngs=rngs)

    def loss(self, logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Softmax cross-entropy over the vocabulary: (sum, number of chosen pieces)."""
        return weighted(cross_entropy(logits, batch["target_rm"]), batch["target_weight_rm"])

    def outputs(self, task: Task, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Of each segment the summed loss, the right guesses, and the number of chosen pieces."""
        weight_rm, target_rm = batch["target_weight_rm"], batch["target_rm"]
        slot_rm = jnp.take_along_axis(batch["segments_rt"], batch["masked_rm"], axis=1) - 1
        member_rms = jax.nn.one_hot(slot_rm, batch["slots_rs"].shape[1]) * weight_rm[..., None]
        values = {
            "loss_rs": cross_entropy(logits, target_rm),
            "hits_rs": (jnp.argmax(logits, axis=-1) == target_rm).astype(jnp.float32),
            "chosen_rs": jnp.ones_like(weight_rm),
        }
        # A sum of products, not a matrix product: that would round the losses to bfloat16 on TPU.
        return {key: jnp.sum(value_rm[..., None] * member_rms, axis=1) for key, value_rm in values.items()}

    def decode(self, task: Task, examples: Sequence[Text], encoded: Encoded, outputs: Outputs) -> list[Guesses]:
        """One `Guesses` per text, summed over its segments."""
        total = np.zeros((len(examples), 3))
        columns = np.stack([outputs[f"{name}_s"] for name in Guesses._fields], axis=1)
        np.add.at(total, encoded.segment_columns["_example"], columns)
        return [Guesses(*row) for row in total.tolist()]

    def score(
        self, task: Task, language: str, loaded: Loaded, predictions: Sequence[Guesses], carried: Scores | None = None
    ) -> dict[str, float]:
        """`loss` (nats per chosen piece), `perplexity`, `masked_accuracy` (0..100), `n` texts; {"n": 0} if none is
        chosen."""
        loss_sum, hits, chosen = np.sum(np.array(predictions, np.float64).reshape(-1, 3), axis=0).tolist()
        if not chosen:
            return {"n": 0}
        mean = loss_sum / chosen
        return {
            "loss": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "masked_accuracy": 100.0 * hits / chosen,
            "n": len(loaded.examples),
        }

    def file_kind(self, task: Task) -> str:
        return ""  # a loss, not predictions


def mask(ids: np.ndarray, rng: np.random.Generator, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """(ids with masks, the original piece at chosen positions and -1 elsewhere). Specials are never chosen.

    The number chosen is 15 % rounded up or down at random, so that 15 % are chosen on average in short texts, too.
    """
    candidates = np.flatnonzero((ids > UNK) & (ids != tokenizer.mask))
    count = int(SHARE * len(candidates) + rng.random())
    chosen = rng.choice(candidates, size=count, replace=False)
    fate = rng.random(count)
    pieces = rng.integers(UNK + 1, tokenizer.mask, size=count)
    masked, target = ids.copy(), np.full(len(ids), FILL, np.int32)
    target[chosen] = ids[chosen]
    kept = np.where(fate < MASKED + RANDOM, pieces, ids[chosen])
    masked[chosen] = np.where(fate < MASKED, tokenizer.mask, kept)
    return masked, target


def places(shape: RowShape) -> int:
    """M, the places for chosen pieces in a row: enough for any row, each of its segments having rounded up."""
    return math.ceil(SHARE * shape.length) + shape.slots


FAMILY = MlmFamily()
