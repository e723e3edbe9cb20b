"""Family `retrieve`: which sentence of the other language means the same? Tatoeba, BUCC2018. No head, no training.

A sentence is the mean (or `<s>`) vector of one layer of the encoder. Which layer, pooling and centring decides much
and differs between published numbers, so all are options, to be printed beside every score:
  layer    0 = embedding output, L = last; default 14 of 24 layers, 8 of 12, else 0.6 L (jiant, XTREME)
  pooling  "mean" (all pieces, `<s>` and `</s>` included) or "cls" (`<s>`)
  centre   subtract the mean vector of each side, i.e. of each language
  sweep    score every layer and pooling besides, from the same pass
  mining   False: cosine nearest neighbour of each query in the pool (Tatoeba). True: pairs by ratio margin over 4
           neighbours in both directions, above a threshold (BUCC2018) that is the best on the development data
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xtl.data.rows import Encoded
from xtl.data.sequences import singles
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.errors import nearest as nearest_name
from xtl.families.interface import Batch, Family, Gold, Outputs, Scores
from xtl.families.nearest import nearest
from xtl.metrics import retrieval
from xtl.models.encoder import Pooled
from xtl.task import Loaded, Task, Text

LAYERS = {24: 14, 12: 8}  # number of layers -> the one whose output is used
POOLINGS = ("mean", "cls")
NEIGHBOURS = 4  # of the margin


class Neighbour(NamedTuple):
    """The nearest pool sentence of one query; `row` counts the pool from 0."""

    query: str
    answer: str
    row: int
    cosine: float


class Candidate(NamedTuple):
    """A mined pair and its margin."""

    source: str
    target: str
    margin: float


class RetrieveFamily(Family[Text, Pooled, Neighbour | Candidate]):
    """Vectors of the encoder's layers; one neighbour per query, or mined pairs."""

    has_head = False
    whole_pool = True
    english_pool = True

    # ---------------------------------------------------------------- examples -> tokens -> vectors

    def encode(
        self, task: Task, examples: Sequence[Text], tokenizer: Tokenizer, *, max_length: int, train: bool = False
    ) -> Encoded:
        """`<s> sentence </s>`, cut at its end: one segment per sentence, of either side. XtlError in training."""
        if train:
            raise XtlError(f"{task.name} has no training: evaluate it on a handed-on encoder")
        return singles(tokenizer.encode_ids_batch(x.text for x in examples), max_length=max_length)

    def outputs(self, task: Task, logits: Pooled, batch: Batch) -> dict[str, jax.Array]:
        """One vector per segment, float32; with `sweep` those of both poolings and all layers, [R, S, 2, L + 1, D]."""
        pooling = _pooling(task)
        if task.options.get("sweep"):
            return {"vectors_rspld": jnp.moveaxis(jnp.stack([logits.mean_lrsd, logits.cls_lrsd]), (0, 1), (2, 3))}
        layers = len(logits.mean_lrsd) - 1
        layer = _layer(task, layers)
        if not 0 <= layer <= layers:
            raise XtlError(
                f"retrieval: layer {layer} is asked for, but the encoder has layers 0 (embedding) to {layers}"
            )
        return {"vector_rsd": (logits.mean_lrsd if pooling == "mean" else logits.cls_lrsd)[layer]}

    # ---------------------------------------------------------------- vectors -> predictions -> scores

    def decode(
        self, task: Task, examples: Sequence[Text], encoded: Encoded, outputs: Outputs
    ) -> list[Neighbour | Candidate]:
        """A `Neighbour` for each query, in order; or with the option `mining` the candidate pairs, best first."""
        queries, pool = sides(task, examples)
        vector_sd, centre = _chosen(task, outputs), bool(task.options.get("centre"))
        query_qd, pool_pd = _side(vector_sd, queries, centre), _side(vector_sd, pool, centre)
        if task.options.get("mining"):
            return [*_mined([examples[i] for i in queries], query_qd, [examples[i] for i in pool], pool_pd)]
        row_q1, cosine_q1 = nearest(query_qd, pool_pd, k=1)
        return [
            Neighbour(examples[q].id, examples[pool[row]].id, row, cosine)
            for q, row, cosine in zip(queries.tolist(), row_q1[:, 0].tolist(), cosine_q1[:, 0].tolist(), strict=True)
        ]

    def score(
        self,
        task: Task,
        language: str,
        loaded: Loaded,
        predictions: Sequence[Neighbour | Candidate],
        carried: Scores | None = None,
    ) -> dict[str, float]:
        """`accuracy` over the queries with gold. With the option `mining`: `f1`, `precision`, `recall`, `threshold`.

        The threshold is the one carried over; if there is none (development data), the one with the best F1 here.
        Where the data says which sentences share no word with the other language, `anchor_free_accuracy` or
        `anchor_free_f1` scores the gold pairs with such a side alone (`anchor_free_n` of them), because shared words
        give retrieval for nothing. `n` counts gold pairs; without gold the result is {"n": 0}.
        """
        gold, anchor_free = loaded.gold, loaded.anchor_free
        if not gold:
            return {"n": 0}
        free = [pair for pair in gold if pair[0] in anchor_free or pair[1] in anchor_free]
        if task.options.get("mining"):
            candidates = [p for p in predictions if isinstance(p, Candidate)]
            scores = _mining_scores(gold, candidates, (carried or {}).get("threshold"))
            if free:
                kept = [p for p in candidates if p.source in anchor_free or p.target in anchor_free]
                scores["anchor_free_f1"] = _mining_scores(free, kept, scores["threshold"])["f1"]
        else:
            neighbours = [p for p in predictions if isinstance(p, Neighbour)]
            scores = {"accuracy": _accuracy(gold, neighbours)}
            if free:
                scores["anchor_free_accuracy"] = _accuracy(free, neighbours)
        return {**scores, **({"anchor_free_n": len(free)} if free else {}), "n": len(gold)}

    def reference_split(self, task: Task, split: str) -> str:
        """Mining the test data needs the threshold of the development data, as in BUCC."""
        return "dev" if split == "test" and task.options.get("mining") else ""

    def carry(self, scores: Scores) -> Scores:
        return {"threshold": scores["threshold"]}

    def details(self, task: Task, loaded: Loaded, outputs: Outputs) -> dict[str, Any]:
        """With the option `sweep`: the accuracy of every layer (see `sweep`)."""
        if not task.options.get("sweep") or not loaded.gold:
            return {}
        return {"sweep": sweep(task, [x for x in loaded.examples if isinstance(x, Text)], outputs, loaded.gold)}

    # ---------------------------------------------------------------- what others read

    def file_kind(self, task: Task) -> str:
        return "pairs" if task.options.get("mining") else "rows"

    def file_content(
        self, predictions: Sequence[Neighbour | Candidate], scores: Scores
    ) -> list[int] | list[tuple[str, str]]:
        """The pool row of each query's answer; or the mined pairs with a margin of at least the scores' threshold."""
        if predictions and isinstance(predictions[0], Candidate):
            threshold = scores.get("threshold", 0.0)
            return [(p.source, p.target) for p in predictions if isinstance(p, Candidate) and p.margin >= threshold]
        return [p.row for p in predictions if isinstance(p, Neighbour)]

    def setting(self, task: Task, layers: int) -> str:
        """Such as `layer 8 of 12, mean pooling, centred`."""
        parts = [
            f"layer {_layer(task, layers)} of {layers}",
            f"{task.options.get('pooling', 'mean')} pooling",
            "centred" if task.options.get("centre") else "not centred",
        ]
        return ", ".join([*parts, "ratio margin over 4 neighbours"] if task.options.get("mining") else parts)


# ---------------------------------------------------------------- options


def default_layer(layers: int) -> int:
    """The layer used when none is given."""
    return LAYERS.get(layers, round(0.6 * layers))


def _layer(task: Task, layers: int) -> int:
    layer = task.options.get("layer")
    return default_layer(layers) if layer is None else int(layer)


def _pooling(task: Task) -> str:
    pooling = str(task.options.get("pooling", "mean"))
    if pooling not in POOLINGS:
        raise XtlError(f"retrieval: unknown pooling {pooling!r}.{nearest_name(pooling, POOLINGS)}")
    return pooling


# ---------------------------------------------------------------- vectors


def sides(task: Task, examples: Sequence[Text]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the queries and of the pool among the examples. XtlError where a text is on neither side."""
    queries = np.flatnonzero(np.array([x.side == "query" for x in examples], bool))
    pool = np.flatnonzero(np.array([x.side == "pool" for x in examples], bool))
    if not len(queries) or not len(pool) or len(queries) + len(pool) != len(examples):
        raise XtlError(
            f"{task.name}: {len(queries)} queries and {len(pool)} pool sentences of {len(examples)} examples"
        )
    return queries, pool


def _chosen(task: Task, outputs: Outputs) -> np.ndarray:
    """The vectors of the layer and pooling asked for, also when all of them were fetched."""
    if "vector_sd" in outputs:
        return outputs["vector_sd"]
    vectors_spld = outputs["vectors_spld"]
    return vectors_spld[:, POOLINGS.index(_pooling(task)), _layer(task, vectors_spld.shape[2] - 1)]


def _side(vector_sd: np.ndarray, chosen: np.ndarray, centre: bool) -> np.ndarray:
    side = np.asarray(vector_sd[chosen], np.float32)
    return side - side.mean(axis=0, dtype=np.float64).astype(np.float32) if centre else side


def _mined(
    sources: Sequence[Text], source_xd: np.ndarray, targets: Sequence[Text], target_yd: np.ndarray
) -> list[Candidate]:
    """BUCC: repeated sentences once, 4 neighbours in both directions, margin, one-to-one."""
    of_x = retrieval.unique_sentences([t.id for t in sources], [t.text for t in sources])
    of_y = retrieval.unique_sentences([t.id for t in targets], [t.text for t in targets])
    source_xd, target_yd = source_xd[of_x.rows_x], target_yd[of_y.rows_x]
    forward, backward = nearest(source_xd, target_yd, k=NEIGHBOURS), nearest(target_yd, source_xd, k=NEIGHBOURS)
    named = retrieval.named_pairs(*retrieval.mine_pairs(*forward, *backward), of_x, of_y)
    return [Candidate(source, target, margin) for (source, target), margin in named.items()]


# ---------------------------------------------------------------- scores


def _accuracy(gold: Gold, predictions: Sequence[Neighbour]) -> float:
    answers = {p.query: p.answer for p in predictions}
    missing = [query for query, _ in gold if query not in answers]
    if missing:
        raise XtlError(f"{len(missing)} of {len(gold)} gold queries have no prediction, the first is {missing[0]}")
    return 100.0 * sum(answers[query] == answer for query, answer in gold) / len(gold)


def _mining_scores(gold: Gold, predictions: Sequence[Candidate], threshold: float | None) -> dict[str, float]:
    candidates = {(p.source, p.target): p.margin for p in predictions}
    threshold = retrieval.best_threshold(candidates, gold) if threshold is None else threshold
    return {**retrieval.pair_f1(gold, retrieval.above(candidates, threshold)), "threshold": threshold}


def sweep(task: Task, examples: Sequence[Text], outputs: Outputs, gold: Gold) -> dict[str, list[float]]:
    """Nearest-neighbour accuracy by layer (0 = embedding output) for each pooling, plain and centred ("mean, centred"),
    from one pass with `sweep` outputs. To look at, not to choose by: the layer is fixed once, on `none` or dev data."""
    queries, pool = sides(task, examples)
    accuracies: dict[str, list[float]] = {}
    for p, pooling in enumerate(POOLINGS):
        for layer in range(outputs["vectors_spld"].shape[2]):
            for centred in (False, True):
                vector_sd = outputs["vectors_spld"][:, p, layer]
                row_q1, _ = nearest(_side(vector_sd, queries, centred), _side(vector_sd, pool, centred), k=1)
                predictions = [
                    Neighbour(examples[q].id, examples[pool[row]].id, row, 0.0)
                    for q, row in zip(queries.tolist(), row_q1[:, 0].tolist(), strict=True)
                ]
                setting = f"{pooling}, centred" if centred else pooling
                accuracies.setdefault(setting, []).append(_accuracy(gold, predictions))
    return accuracies


FAMILY = RetrieveFamily()
