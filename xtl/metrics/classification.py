"""Accuracy (NLI, paraphrase, multiple choice, Tatoeba) and the F1 of one class (QQP)."""

from collections.abc import Sequence, Sized
from typing import Any

from xtl.errors import XtlError


def require_aligned(gold: Sized, predictions: Sized, what: str = "examples") -> None:
    """XtlError unless both have the same, nonzero length."""
    if len(gold) != len(predictions):
        raise XtlError(f"{len(predictions)} predictions for {len(gold)} {what}; there must be one for each, in order")
    if len(gold) == 0:
        raise XtlError(f"nothing to score: there are no {what}")


def _require_same_type(gold: Sequence[Any], predictions: Sequence[Any]) -> None:
    # "1" == 1 is False in Python, so comparing words with indices would give a quiet zero.
    kinds = [{isinstance(label, str) for label in labels} for labels in (gold, predictions)]
    if kinds[0].isdisjoint(kinds[1]):
        raise XtlError(f"gold label {gold[0]!r} and prediction {predictions[0]!r} are of different kinds; use one")


def accuracy(gold: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Share of equal labels, 0..100 (XTREME evaluate.py `accuracy`)."""
    require_aligned(gold, predictions)
    _require_same_type(gold, predictions)
    return 100.0 * sum(g == p for g, p in zip(gold, predictions, strict=True)) / len(gold)


def binary_f1(gold: Sequence[Any], predictions: Sequence[Any], *, positive: Any = 1) -> float:
    """F1 of the class `positive`, 0..100; 0 when that class is neither predicted nor gold (as scikit-learn)."""
    require_aligned(gold, predictions)
    _require_same_type(gold, predictions)
    hits = sum(g == positive and p == positive for g, p in zip(gold, predictions, strict=True))
    total = sum(g == positive for g in gold) + sum(p == positive for p in predictions)
    return 200.0 * hits / total if total else 0.0


def accuracy_and_f1(gold: Sequence[Any], predictions: Sequence[Any], *, positive: Any = 1) -> dict[str, float]:
    """`accuracy`, `f1` and their mean `accuracy_f1`, the number jiant selects QQP models by."""
    scores = {"accuracy": accuracy(gold, predictions), "f1": binary_f1(gold, predictions, positive=positive)}
    return scores | {"accuracy_f1": (scores["accuracy"] + scores["f1"]) / 2}
