"""COPA: which of two sentences is the cause, or the effect, of the premise? English, from SuperGLUE; trains XCOPA.

Prompt = premise + a fixed question, choice = alternative (XTREME-R's form).
"""

from collections.abc import Mapping
from typing import Any

from xtl.data.sources.formats.base import At, Files, Place, by_row
from xtl.data.sources.formats.examples import choice_label, choices
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import json_lines
from xtl.errors import XtlError
from xtl.task import Choice, Task

QUESTIONS = {"cause": "What was the cause?", "effect": "What was the effect?"}
SPLITS = {"train": "train", "dev": "val", "test": "test"}


def example(row: Mapping[str, Any], place: Place) -> Choice:
    kind = place.text(row, "question")
    if kind not in QUESTIONS:
        raise XtlError(f"{place.where}: question {kind!r} is neither cause nor effect")
    return choices(
        f"{place.text(row, 'premise')} {QUESTIONS[kind]}",
        [place.text(row, "choice1"), place.text(row, "choice2")],
        choice_label(row, "label", place, names=("0", "1"), spelled={"choice1": "0", "choice2": "1"}),
        place.name(row, "idx") if "idx" in row else str(place.index),
    )


READ = by_row(json_lines, example)
THEIRS = {"train": "train", "dev": "validation", "test": "test"}

TASK = Task(
    name="copa",
    family="choice",
    about="COPA: cause or effect of a premise, two alternatives",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    sizes={"train": 400, "dev": 100, "test": 500},
    files=Files(
        task="copa",
        folder=".",
        at=(
            At(paths=("copa/COPA/{split}.jsonl",), splits=SPLITS, read=READ),
            At(paths=("xcopa/{split}.en.jsonl",), splits=SPLITS, read=READ),
            At(paths=("xcopa/xtreme/{split}-en.jsonl",), splits=SPLITS, read=READ),
        ),
        get="Unpack COPA.zip of super.gluebenchmark.com into copa/",
    ),
    hub=Tables(
        task="copa",
        at=(Table(name="aps/super_glue", config="copa", splits=THEIRS, read=by_example(example)),),
    ),
    tfds=Tables(task="copa", at=(Table(name="super_glue/copa", splits=THEIRS, read=by_example(example)),)),
    licence="BSD 2-Clause",
)
