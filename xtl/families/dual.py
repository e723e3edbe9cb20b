"""Family `dual`: rank a pool of candidates for a query by a fine-tuned dual encoder. LAReQA, Mewsli-X (XTREME-R).

Query and candidate go through the same encoder, each as a segment of its own. A text's vector is the pooler's output at
`<s>`, brought to length 1. Training: softmax over the candidates of the batch, cosines times a learned scale that
starts at 100; every other candidate of the batch is a negative. With gradient accumulation the negatives are those of
the micro-batch, so here `accumulate` changes the loss (with other families it does not).

Evaluation ranks one pool for the queries of all languages (`Task.pool`), whose texts are encoded once. Pairs (the
development data of training) are ranked among each other's candidates; a set that brings its own pool, among that.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data.rows import Encoded
from xtl.data.sequences import interleaved, singles
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.families.interface import (
    NEVER,
    Batch,
    Family,
    Outputs,
    Pool,
    Scores,
    SharedPool,
    cross_entropy,
    weighted,
)
from xtl.families.nearest import Index
from xtl.families.retrieve import sides
from xtl.metrics.retrieval import mean_average_precision
from xtl.models.encoder import EncoderConfig
from xtl.models.layers import ones, param, take_slots
from xtl.task import Example, Loaded, Pair, Task, Text

SCALE = 100.0  # of the cosines at the start
RANKED = 20  # candidates of a ranking


class Similarity(NamedTuple):
    """Vectors of length 1, float32 [R, S, D], and the scale of their products."""

    vector_rsd: jax.Array
    scale: jax.Array


class Ranking(NamedTuple):
    """The best candidates of one query, best first."""

    query: str
    candidates: tuple[str, ...]


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


class DualFamily(Family[Pair | Text, Similarity, Ranking]):
    """Vectors of queries and candidates; one ranking per query. Option: query_length."""

    segments = 2

    def encode(
        self, task: Task, examples: Sequence[Pair | Text], tokenizer: Tokenizer, *, max_length: int, train: bool
    ) -> Encoded:
        """`Pair(a=query, b=candidate)`s, as training needs them: two segments per example. `Text`s: one segment each.

        Candidates are cut at max_length pieces, queries at the option `query_length` (default: max_length).
        XtlError for training examples that are no pairs, and for a mixture of both kinds.
        """
        query_length = min(int(task.options.get("query_length", max_length)), max_length)
        texts = [x for x in examples if isinstance(x, Text)]
        pairs = [(x.a, x.b) for x in examples if isinstance(x, Pair) and x.b is not None]
        if len(pairs) == len(examples):
            queries = _segments([query for query, _ in pairs], tokenizer, query_length)
            return interleaved(queries, _segments([candidate for _, candidate in pairs], tokenizer, max_length))
        if train or len(texts) < len(examples):
            raise XtlError(
                f"{task.name}: {len(examples) - len(pairs)} of {len(examples)} examples are no pairs with candidate"
            )
        limits = np.array([query_length if x.side == "query" else max_length for x in texts], np.int64)
        return _segments([x.text for x in texts], tokenizer, limits)

    def head(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        return Head(config, task, rngs=rngs)

    def loss(self, logits: Similarity, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """In-batch softmax cross-entropy, query -> candidate: (sum, number of pairs)."""
        flat_xd = logits.vector_rsd.reshape(-1, logits.vector_rsd.shape[-1])
        query_ed, candidate_ed = flat_xd[batch["segments_ec"][:, 0]], flat_xd[batch["segments_ec"][:, 1]]
        # 100 x a bfloat16 rounding error would be felt in the softmax.
        cosine_ee = jnp.einsum("ed,fd->ef", query_ed, candidate_ed, precision=jax.lax.Precision.HIGHEST)
        score_ee = jnp.where(batch["weight_e"][None, :] > 0, logits.scale * cosine_ee, NEVER)
        return weighted(cross_entropy(score_ee, jnp.arange(len(score_ee))), batch["weight_e"])

    def outputs(self, task: Task, logits: Similarity, batch: Batch) -> dict[str, jax.Array]:
        return {"vector_rsd": logits.vector_rsd}

    def decode(self, task: Task, examples: Sequence[Pair | Text], encoded: Encoded, outputs: Outputs) -> list[Ranking]:
        """The 20 candidates of the pool with the largest cosine, for each query in order. The pool of `Pair`s are their
        candidates; equal ones are one, under the id of the first pair that has it."""
        if isinstance(examples[0], Pair):
            first = _first_pairs(examples)
            names, queries = [x.id for x in examples], 2 * np.arange(len(examples))
            ids, pool = list(first.values()), np.flatnonzero([first[_text(x)] == x.id for x in examples]) * 2 + 1
        else:
            queries, pool = sides(task, [x for x in examples if isinstance(x, Text)])
            ids, names = [examples[i].id for i in pool.tolist()], [examples[i].id for i in queries.tolist()]
        return _ranked(names, outputs["vector_sd"][queries], SharedPool(tuple(ids), Index(outputs["vector_sd"][pool])))

    def shared_pool(self, task: Task, parts: Iterable[tuple[Loaded, Outputs]]) -> SharedPool:
        """The texts on the pool's side of every part, in order. XtlError where there are none, or an id repeats."""
        ids: list[str] = []
        vectors: list[np.ndarray] = []
        for loaded, outputs in parts:
            at = _on_side(loaded.examples, "pool")
            ids += [loaded.examples[i].id for i in at.tolist()]
            vectors.append(outputs["vector_sd"][at])
        if len(set(ids)) < len(ids) or not ids:
            raise XtlError(f"{task.name}: the pool has {len(ids)} texts under {len(set(ids))} ids")
        return SharedPool(tuple(ids), Index(np.concatenate(vectors)))

    def rank(self, task: Task, loaded: Loaded, outputs: Outputs, pool: SharedPool) -> list[Ranking]:
        """The 20 candidates of the pool with the largest cosine, for each query in order."""
        queries = _on_side(loaded.examples, "query")
        return _ranked([loaded.examples[i].id for i in queries.tolist()], outputs["vector_sd"][queries], pool)

    def score(
        self, task: Task, language: str, loaded: Loaded, predictions: Sequence[Ranking], carried: Scores | None = None
    ) -> dict[str, float]:
        """`map20`: mean average precision of the first 20 over the queries with gold (`Pair`s bring their own), and
        their number `n`."""
        examples, gold = loaded.examples, loaded.gold
        if examples and isinstance(examples[0], Pair):
            first = _first_pairs(examples)
            gold = [(x.id, first[_text(x)]) for x in examples]
        if not gold:
            return {"n": 0}
        right: dict[str, list[str]] = {}
        for query, candidate in gold:
            right.setdefault(query, []).append(candidate)
        rankings = {p.query: p.candidates for p in predictions if p.query in right}
        return {"map20": mean_average_precision(right, rankings, k=RANKED), "n": len(right)}

    def file_kind(self, task: Task) -> str:
        return "rankings"

    def file_content(self, predictions: Sequence[Ranking], scores: Scores) -> list[tuple[str, ...]]:
        """Ranked candidate ids of each query."""
        return [p.candidates for p in predictions]


def _segments(texts: Sequence[str], tokenizer: Tokenizer, max_length: int | np.ndarray) -> Encoded:
    return singles(tokenizer.encode_ids_batch(texts), max_length=max_length)


def _on_side(examples: Sequence[Example], side: str) -> np.ndarray:
    return np.flatnonzero([isinstance(x, Text) and x.side == side for x in examples])


def _ranked(names: Sequence[str], queries_qd: np.ndarray, pool: SharedPool) -> list[Ranking]:
    rows_qk, _ = pool.index(queries_qd, k=RANKED)
    return [
        Ranking(name, tuple(pool.ids[row] for row in rows)) for name, rows in zip(names, rows_qk.tolist(), strict=True)
    ]


def _text(x: Example) -> str:
    assert isinstance(x, Text | Pair)
    return x.text if isinstance(x, Text) else x.b or ""


def _first_pairs(examples: Sequence[Example]) -> dict[str, str]:
    """Candidate text -> id of the first pair that has it."""
    first: dict[str, str] = {}
    for x in examples:
        first.setdefault(_text(x), x.id)
    return first


FAMILY = DualFamily()
