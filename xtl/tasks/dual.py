"""Family `dual`: rank a pool of candidates for a query by a fine-tuned dual encoder. LAReQA, Mewsli-X (XTREME-R).

Query and candidate go through the same encoder, each as a segment of its own; a tab in a text makes it a pair (LAReQA's
candidates: sentence and paragraph). A text's vector is the pooler's output at `<s>`, brought to length 1. Training:
softmax over the candidates of the batch, cosines times a learned scale that starts at 100; every other candidate of the
batch is a negative. With gradient accumulation the negatives are those of the micro-batch, so here `accumulate` changes
the loss (with other families it does not).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data.rows import Encoded
from xtl.data.sequences import interleaved, pairs
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.metrics.retrieval import mean_average_precision
from xtl.models.encoder import EncoderConfig
from xtl.models.layers import ones, param, take_slots
from xtl.nearest import nearest
from xtl.tasks.base import Loaded, Pair, Task, Text
from xtl.tasks.interface import NEVER, Batch, Gold, Outputs, Pool, cross_entropy, weighted
from xtl.tasks.retrieve import sides

SCALE = 100.0  # of the cosines at the start
RANKED = 20  # candidates of a ranking

# ---------------------------------------------------------------- examples -> tokens


def encode(
    task: Task,
    examples: Sequence[Pair | Text],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    train: bool,
    **options: Any,
) -> Encoded:
    """Training: `Pair(a=query, b=candidate)`, two segments an example. Evaluation: `Text`s, one segment each.

    Candidates are cut at max_length pieces, queries at the option `query_length` (default: max_length).
    """
    query_length = min(int({**task.options, **options}.get("query_length", max_length)), max_length)
    if train:
        texts = [(x.a, x.b) for x in examples if isinstance(x, Pair) and x.b is not None]
        if len(texts) < len(examples):
            raise XtlError(
                f"{task.name}: {len(examples) - len(texts)} training examples are no pair of query and candidate"
            )
        queries = _segments([query for query, _ in texts], tokenizer, query_length)
        return interleaved(queries, _segments([candidate for _, candidate in texts], tokenizer, max_length))
    bare = [x for x in examples if isinstance(x, Text)]
    limits = np.array([query_length if x.side == "query" else max_length for x in bare], np.int64)
    return _segments([x.text for x in bare], tokenizer, limits)


def _segments(texts: Sequence[str], tokenizer: Tokenizer, max_length: int | np.ndarray) -> Encoded:
    parts = [text.partition("\t") for text in texts]
    first, second = (tokenizer.encode_ids_batch(part[side] for part in parts) for side in (0, 2))
    return pairs(first, second, max_length=max_length, single=np.array([not tab for _, tab, _ in parts], bool))


def training_pairs(loaded: Loaded) -> Loaded:
    """Queries and pool with gold, as evaluation has them, as the `Pair`s of training: one a gold pair."""
    texts = {x.id: x.text for x in loaded.examples if isinstance(x, Text)}
    pairs = [Pair(f"{query} {answer}", texts[query], texts[answer], None) for query, answer in loaded.gold]
    return replace(loaded, examples=pairs, gold=())


# ---------------------------------------------------------------- tokens -> logits -> loss


class Similarity(NamedTuple):
    """Vectors of length 1, float32 [R, S, D], and the scale of their products."""

    vector_rsd: jax.Array
    scale: jax.Array


class Head(nnx.Module):
    """The learned scale; the vectors are the encoder's own."""

    def __init__(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs):
        self.scale = param(rngs, lambda key, shape, dtype: SCALE * ones(key, shape, dtype), (), ())

    def __call__(
        self,
        hidden_rtd: jax.Array,
        batch: Batch,
        embedding: jax.Array | None = None,
        key: jax.Array | None = None,
        *,
        pool: Pool | None = None,
    ) -> Similarity:
        assert pool is not None
        x_rsd = pool(take_slots(hidden_rtd, batch["slots_rs"])).astype(jnp.float32)
        square_rs1 = jnp.sum(jnp.square(x_rsd), axis=-1, keepdims=True)
        return Similarity(x_rsd * jax.lax.rsqrt(jnp.maximum(square_rs1, 1e-24)), self.scale[...])


def loss(logits: Similarity, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """In-batch softmax cross-entropy, query -> candidate: (sum, number of pairs)."""
    flat_xd = logits.vector_rsd.reshape(-1, logits.vector_rsd.shape[-1])
    query_ed, candidate_ed = flat_xd[batch["segments_ec"][:, 0]], flat_xd[batch["segments_ec"][:, 1]]
    # 100 x a bfloat16 rounding error would be felt in the softmax.
    cosine_ee = jnp.einsum("ed,fd->ef", query_ed, candidate_ed, precision=jax.lax.Precision.HIGHEST)
    score_ee = jnp.where(batch["weight_e"][None, :] > 0, logits.scale * cosine_ee, NEVER)
    return weighted(cross_entropy(score_ee, jnp.arange(len(score_ee))), batch["weight_e"])


def outputs(logits: Similarity, batch: Batch, **options: Any) -> dict[str, jax.Array]:
    return {"vector_rsd": logits.vector_rsd}


# ---------------------------------------------------------------- vectors -> predictions -> scores


class Ranking(NamedTuple):
    """The best candidates of one query, best first."""

    query: str
    candidates: tuple[str, ...]


def decode(task: Task, examples: Sequence[Text], encoded: Encoded, outputs: Outputs, **options: Any) -> list[Ranking]:
    """The 20 candidates of the pool with the largest cosine, for each query in order."""
    queries, pool = sides(task, examples)
    rows_qk, _ = nearest(outputs["vector_sd"][queries], outputs["vector_sd"][pool], k=RANKED)
    ids = [examples[i].id for i in pool]
    return [
        Ranking(examples[q].id, tuple(ids[row] for row in rows))
        for q, rows in zip(queries.tolist(), rows_qk.tolist(), strict=True)
    ]


def score(
    task: Task,
    language: str,
    examples: Sequence[Text],
    predictions: Sequence[Ranking],
    *,
    gold: Gold = (),
    **options: Any,
) -> dict[str, float]:
    """`map20`: mean average precision of the first 20 over the queries with gold, and their number `n`."""
    if not gold:
        return {"n": 0}
    right: dict[str, list[str]] = {}
    for query, candidate in gold:
        right.setdefault(query, []).append(candidate)
    rankings = {p.query: p.candidates for p in predictions if p.query in right}
    return {"map20": mean_average_precision(right, rankings, k=RANKED), "n": len(right)}


def written(predictions: Sequence[Ranking], **options: Any) -> list[tuple[str, ...]]:
    """Ranked candidate ids of each query."""
    return [p.candidates for p in predictions]
