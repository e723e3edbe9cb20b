"""What an analysis says, ready for the report: a question, a headline number, tables, figures, sentences, limits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from xtl.studies.statistics import Estimate


def name_points(axes: Any, points: Iterable[tuple[str, float, float]], *, size: float = 7) -> None:
    """Write each name beside its point; of points that lie close together, some to the left and some below."""
    places = [
        ((4, 3), "left", "bottom"),
        ((-4, 3), "right", "bottom"),
        ((4, -3), "left", "top"),
        ((-4, -3), "right", "top"),
    ]
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    named: list[tuple[float, float]] = []
    for name, x, y in sorted(points, key=lambda point: (point[2], point[1])):
        u, v = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        close = sum(abs(u - a) < 0.07 and abs(v - b) < 0.05 for a, b in named)
        offset, across, up = places[close % len(places)]
        axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", fontsize=size, ha=across, va=up)
        named.append((u, v))


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
