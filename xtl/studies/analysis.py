"""What an analysis comes to, ready for its page: a question, headline numbers, tables, figures, sentences, limits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from xtl.studies.statistics import Estimate


@dataclass
class Figure:
    """One figure: `draw(axes)` draws it on matplotlib axes; the caption says what to see."""

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
