"""Social IQa: reasoning about people's motives and reactions, three answers. English; trains XCOPA's first stage.

Labels are 1 to 3 in a list beside the first distribution's questions, letters inside version 1.4, strings on the hub.
"""

from collections.abc import Mapping
from typing import Any

from xtl.data.sources.formats.base import At, Files, Place, SplitFiles, by_row, collect
from xtl.data.sources.formats.examples import choice_label, choices
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import Row, json_lines, lines
from xtl.errors import XtlError
from xtl.task import Choice, Loaded, Task

ANSWERS = ("answerA", "answerB", "answerC")


def example(row: Mapping[str, Any], place: Place) -> Choice:
    key, names = ("correct", ("A", "B", "C")) if "correct" in row else ("label", ("1", "2", "3"))
    return choices(
        f"{place.text(row, 'context')} {place.text(row, 'question')}",
        [place.text(row, answer) for answer in ANSWERS],
        choice_label(row, key, place, names=names),
        str(place.index),
    )


def read_with_label_list(files: SplitFiles) -> Loaded:
    questions, labels = files.paths
    rows: list[tuple[str, Row]] = list(json_lines(questions))
    gold = [line.strip() for _, line in lines(labels) if line.strip()]
    if len(rows) != len(gold):
        raise XtlError(f"{questions}: {len(rows)} questions, but {len(gold)} labels in {labels.name}")
    labelled = ((where, {**row, "label": label}) for (where, row), label in zip(rows, gold, strict=True))
    return collect(labelled, example, language=files.language, split=files.split)


TASK = Task(
    name="socialiqa",
    family="choice",
    about="Social IQa: social commonsense, three answers",
    languages=("en",),
    splits=("train", "dev"),
    metric="accuracy",
    sizes={"train": 33410, "dev": 1954},
    files=Files(
        task="socialiqa",
        at=(
            At(
                paths=("socialIQa_v1.4/socialIQa_v1.4_{split}.jsonl",),
                splits={"train": "trn", "dev": "dev"},
                read=by_row(json_lines, example),
            ),
            At(
                paths=("socialiqa-train-dev/{split}.jsonl", "socialiqa-train-dev/{split}-labels.lst"),
                splits={"train": "train", "dev": "dev"},
                read=read_with_label_list,
            ),
        ),
        get="Unpack socialIQa_v1.4.tgz (or socialiqa-train-dev.zip) into socialiqa/",
    ),
    hub=Tables(
        task="socialiqa",
        at=tuple(  # the second is a parquet mirror of the first, which has only a loading script
            Table(name=name, splits={"train": "train", "dev": "validation"}, read=by_example(example))
            for name in ("allenai/social_i_qa", "lighteval/siqa")
        ),
    ),
    licence="CC BY 4.0",
)
