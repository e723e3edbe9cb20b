"""Bitext mining (BUCC2018), sentence retrieval (Tatoeba) and ranked retrieval (Mewsli-X, LAReQA).

The nearest-neighbour search runs on the device elsewhere; here is what comes after it. Letters: X source sentences,
Y target sentences, K neighbours (4), N candidate pairs. Source: google-research/xtreme third_party/utils_retrieve.py
(after LASER) and third_party/utils_mewslix.py.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xtl.errors import XtlError
from xtl.metrics.classification import require_aligned

IdPair = tuple[str, str]  # (source id, target id), e.g. ("de-000000123", "en-000000456")


# ---------------------------------------------------------------- Tatoeba


def tatoeba_gold(english: Sequence[str]) -> list[int]:
    """For each English sentence in sorted order, its 0-based row in the files: XTREME sorts the English side (by code
    points, white space at the ends stripped) and asks for the foreign row. Scored by `classification.accuracy`."""
    return sorted(range(len(english)), key=lambda row: english[row].strip())


# ---------------------------------------------------------------- BUCC: before the search


@dataclass(frozen=True)
class Unique:
    """The distinct sentences of one side of a mining corpus, in order of first occurrence."""

    rows_x: np.ndarray  # int64: the row whose vector stands for the sentence, its *last* occurrence as in the reference
    ids: tuple[str | None, ...]  # None for a sentence that occurs more than once: it cannot be mapped to one id


def unique_sentences(ids: Sequence[str], sentences: Sequence[str]) -> Unique:
    """Drops repeated sentences. Two that differ only in white space at the ends keep two vectors but share a key in the
    reference's id map, so both lose their id."""
    require_aligned(sentences, ids, "sentences")
    last_row = {sentence: row for row, sentence in enumerate(sentences)}  # keeps the order of first occurrence
    occurrences = Counter(sentence.strip() for sentence in sentences)
    return Unique(
        rows_x=np.fromiter(last_row.values(), np.int64, len(last_row)),
        ids=tuple(ids[row] if occurrences[text.strip()] == 1 else None for text, row in last_row.items()),
    )


# ---------------------------------------------------------------- BUCC: after the search


def mine_pairs(
    forward_ids_xk: np.ndarray,
    forward_cosines_xk: np.ndarray,
    backward_ids_yk: np.ndarray,
    backward_cosines_yk: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one candidate pairs by ratio margin and the "max" strategy, best first.

    Input: each source sentence's neighbours among the targets and their cosines, and the other direction. The margin
    of (x, y) is cos(x, y) over the mean of the two mean neighbour cosines. Every sentence proposes its best neighbour;
    going down the union of proposals, a pair is kept if neither side was used before, and, as in the reference, only
    pairs above 0 are returned. Equal scores keep the order source proposals, then target proposals, by index (the
    reference sorts unstably). Returns pairs_n2 int64 (source, target) and scores_n float64, descending.
    """
    for name, ids, cosines in (
        ("forward", forward_ids_xk, forward_cosines_xk),
        ("backward", backward_ids_yk, backward_cosines_yk),
    ):
        if ids.shape != cosines.shape or ids.ndim != 2 or ids.size == 0:
            raise XtlError(
                f"{name} neighbours have shape {ids.shape}, their cosines {cosines.shape}; expected one [n, k]"
            )
    source_mean_x = np.asarray(forward_cosines_xk, np.float64).mean(axis=1)
    target_mean_y = np.asarray(backward_cosines_yk, np.float64).mean(axis=1)
    best_y, score_x = _best_neighbour(forward_ids_xk, forward_cosines_xk, source_mean_x, target_mean_y)
    best_x, score_y = _best_neighbour(backward_ids_yk, backward_cosines_yk, target_mean_y, source_mean_x)
    source_n = np.concatenate([np.arange(len(best_y)), best_x])
    target_n = np.concatenate([best_y, np.arange(len(best_x))])
    score_n = np.concatenate([score_x, score_y])
    if not np.isfinite(score_n).all():
        raise XtlError("a margin is not finite: look for zero or non-finite sentence vectors")

    used_x, used_y = np.zeros(len(best_y), bool), np.zeros(len(best_x), bool)
    kept = []
    for n in np.argsort(-score_n, kind="stable"):
        x, y = source_n[n], target_n[n]
        if not used_x[x] and not used_y[y]:
            used_x[x] = used_y[y] = True
            if score_n[n] > 0:
                kept.append(n)
    return np.stack([source_n[kept], target_n[kept]], axis=1).astype(np.int64), score_n[kept]


def _best_neighbour(
    ids_qk: np.ndarray, cosines_qk: np.ndarray, own_mean_q: np.ndarray, other_mean_p: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        margin_qk = np.asarray(cosines_qk, np.float64) / ((own_mean_q[:, None] + other_mean_p[ids_qk]) / 2)
    queries = np.arange(len(ids_qk))
    best_q = margin_qk.argmax(axis=1)
    return ids_qk[queries, best_q], margin_qk[queries, best_q]


def named_pairs(pairs_n2: np.ndarray, scores_n: np.ndarray, source: Unique, target: Unique) -> dict[IdPair, float]:
    """Scores by id pair, best first. A pair with a sentence that has no id of its own is dropped, as in the script."""
    named: dict[IdPair, float] = {}
    for (x, y), score in zip(pairs_n2.tolist(), scores_n.tolist(), strict=True):
        source_id, target_id = source.ids[x], target.ids[y]
        if source_id is not None and target_id is not None:
            named[source_id, target_id] = score
    return named


def best_threshold(candidates: Mapping[IdPair, float], gold: Collection[IdPair]) -> float:
    """The margin threshold with the best F1 on development gold, to be carried over to test candidates.

    Candidates are admitted by falling score (ties in the given order); at the first best F1 the threshold is half-way
    to the next candidate's score. After the last candidate there is no next one (the reference fails there): its own
    score is taken. 0 if no candidate is right.
    """
    gold = set(gold)
    ranked = sorted(candidates.items(), key=lambda item: -item[1])
    best_f1, best_rank, hits = 0.0, None, 0
    for rank, (pair, _) in enumerate(ranked):
        hits += pair in gold
        f1 = 2 * hits / (rank + 1 + len(gold))
        if f1 > best_f1:
            best_f1, best_rank = f1, rank
    if best_rank is None:
        return 0.0
    score, following = ranked[best_rank][1], ranked[min(best_rank + 1, len(ranked) - 1)][1]
    return (score + following) / 2


def above(candidates: Mapping[IdPair, float], threshold: float) -> list[IdPair]:
    """The pairs with score >= threshold."""
    return [pair for pair, score in candidates.items() if score >= threshold]


def pair_f1(gold: Iterable[IdPair], predictions: Iterable[IdPair]) -> dict[str, float]:
    """`f1`, `precision` and `recall` of a set of id pairs, each 0..100; repeated pairs count once."""
    gold, predictions = set(gold), set(predictions)
    if not gold:
        raise XtlError("nothing to score: there are no gold pairs")
    hits = len(gold & predictions)
    precision = hits / len(predictions) if predictions else 0.0
    recall = hits / len(gold)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"f1": 100.0 * f1, "precision": 100.0 * precision, "recall": 100.0 * recall}


# ---------------------------------------------------------------- ranked retrieval


def mean_average_precision(
    gold: Mapping[str, Collection[str]], rankings: Mapping[str, Sequence[str]], *, k: int = 20, strict: bool = True
) -> float:
    """mAP@k, 0..100: mean over queries of the average precision of the first k candidates, best first.

    The divisor is min(number of right candidates, k), so that a perfect ranking scores 100 (LAReQA); with one right
    candidate this is the mean reciprocal rank within k (Mewsli-X). A candidate listed twice counts once. With
    strict=False a query without ranking scores 0 and foreign ids are ignored, as in the Mewsli-X script; by default
    both are errors. The LAReQA file of google-research/xtreme also holds an average precision over the whole pool
    (scikit-learn's); the benchmark's number is the one over the top 20.
    """
    if not gold:
        raise XtlError("nothing to score: there are no queries")
    if strict:
        missing = [query for query in gold if query not in rankings]
        if missing:
            raise XtlError(f"{len(missing)} of {len(gold)} queries have no ranking, the first is {missing[0]}")
        foreign = [query for query in rankings if query not in gold]
        if foreign:
            raise XtlError(f"{len(foreign)} rankings are for unknown queries, the first is {foreign[0]}")
    total = 0.0
    for query, right in gold.items():
        wanted = {candidate.strip() for candidate in right}
        if not wanted:
            raise XtlError(f"query {query} has no right candidate")
        divisor, hits, precisions = min(len(wanted), k), 0, 0.0
        for rank, candidate in enumerate(rankings.get(query, ())[:k], start=1):
            if candidate in wanted:
                wanted.remove(candidate)
                hits += 1
                precisions += hits / rank
        total += precisions / divisor
    return 100.0 * total / len(gold)
