"""What an analysis says, ready for the report: a question, a headline number, tables, figures, sentences, limits."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from xtl.studies.statistics import Estimate


def name_points(axes: Any, points: Iterable[tuple[str, float, float]], *, size: float = 7) -> None:
    """Write each name beside its point, where it covers no other name and no other point; far ones with a line."""
    from matplotlib.text import Text

    points = list(points)
    axes.figure.canvas.draw()  # settles the layout, on which the sizes of texts depend
    renderer = axes.figure.canvas.get_renderer()
    taken = [_around(axes.transData.transform((x, y)), 3.0) for _, x, y in points]
    for name, x, y in points:
        best: tuple[Any, Any] | None = None
        least = math.inf
        for reach, (right, up) in itertools.product(REACHES, SIDES):
            text = axes.annotate(
                name,
                (x, y),
                xytext=(right * reach, up * reach),
                textcoords="offset points",
                fontsize=size,
                ha={-1: "right", 0: "center", 1: "left"}[right],
                va={-1: "top", 0: "center", 1: "bottom"}[up],
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.6"} if reach > REACHES[0] else None,
            )
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer).extents  # without the line
            covered = sum(_overlap(box, other) for other in taken) + _outside(box, axes.bbox.extents)
            if covered < least:
                if best is not None:
                    best[0].remove()
                best, least = (text, box), covered
            else:
                text.remove()
            if least == 0:
                break
        if best is not None:
            taken.append(best[1])


REACHES = (4, 12, 22, 34)  # points from the mark to its name
SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))


def _around(at: Sequence[float], margin: float) -> tuple[float, float, float, float]:
    x, y = at
    return x - margin, y - margin, x + margin, y + margin


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return float(wide * high) if wide > 0 and high > 0 else 0.0


def _outside(box: Sequence[float], frame: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, frame)


@dataclass
class Figure:
    """One figure: `draw(axes)` puts it on matplotlib axes; the caption says what to see."""

    name: str
    caption: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (6.4, 4.2)


@dataclass
class Analysis:
    """The answer of one study to its question."""

    study: str
    question: str
    design: str
    headline: list[Estimate]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)  # caption -> table
    figures: list[Figure] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)  # the statistics in words
    limits: list[str] = field(default_factory=list)
    methods: str = ""  # a paragraph with references, ready to paste
