"""Which checkpoint is kept: the best by development score, early stopping with patience, and signs of collapse.

Pure bookkeeping, a few numbers that go into every checkpoint, so that a resumed stage decides as an uninterrupted one.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOWER_IS_BETTER = ("loss", "perplexity")

FEWEST = 4  # evaluations of a stage that is shorter than the distance between two

MAJORITY = 0.99  # share of one label among predictions from which a classifier counts as collapsed
FLAT = 0.98  # a run whose loss never fell below this share of its first value has learnt nothing


def interval(every: int, steps: int) -> int:
    """Steps between two evaluations: `every` (above 0), or a quarter of a stage that has fewer steps than that.

    One evaluation, at the end, would leave nothing to choose from.
    """
    return every if steps >= every else -(-steps // FEWEST)


@dataclass(frozen=True)
class Selection:
    """The best evaluation so far, and how many there have been since without gain. best_step 0: none yet."""

    metric: str
    patience: int = 0  # 0: never stops early
    best_step: int = 0
    best_score: float = 0.0
    since: int = 0

    def seen(self, step: int, score: float) -> tuple["Selection", bool]:
        """After one more evaluation: (new record, whether it is the best). A tie keeps the earlier checkpoint."""
        sign = -1.0 if self.metric in LOWER_IS_BETTER else 1.0
        if self.best_step == 0 or sign * score > sign * self.best_score:
            return dataclasses.replace(self, best_step=step, best_score=score, since=0), True
        return dataclasses.replace(self, since=self.since + 1), False

    @property
    def exhausted(self) -> bool:
        return 0 < self.patience <= self.since

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Selection":
        return cls(**values)


# ---------------------------------------------------------------- collapse


def majority_share(predictions: Sequence[Any]) -> float:
    """The share of the most frequent prediction, 0..1; sequences (tags) count item by item; 0 if there are none."""
    flat: list[Any] = []
    for prediction in predictions:
        flat.extend(prediction) if isinstance(prediction, list | tuple) else flat.append(prediction)
    return Counter(flat).most_common(1)[0][1] / len(flat) if flat else 0.0


def collapse(losses: Sequence[float], *, majority: float | None = None) -> str:
    """Why a finished stage looks collapsed (XLM-R at too high a learning rate does), or "".

    losses: the training losses in order, as means over equal parts of the stage (Meter.losses). majority:
    `majority_share` of development predictions, for families that predict one of a few labels.
    """
    if majority is not None and majority >= MAJORITY:
        return f"{100 * majority:.1f} % of the development predictions are one and the same label"
    if len(losses) >= 10:
        first, last = sum(losses[:2]) / 2, min(losses[len(losses) // 2 :])
        if last > FLAT * first:
            return f"the training loss went from {first:.4f} to no less than {last:.4f}"
    return ""
