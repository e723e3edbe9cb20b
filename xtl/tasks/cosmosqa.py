"""Cosmos QA: commonsense questions on blog paragraphs, four answers. Prompt = context + question. English."""

from collections.abc import Mapping
from typing import Any

from xtl.data.sources.formats.base import At, Files, Place, by_row
from xtl.data.sources.formats.examples import choice_label, choices
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import comma_separated, json_lines
from xtl.task import Choice, Task

ANSWERS = ("answer0", "answer1", "answer2", "answer3")
DEV_IN_JSON = {"train": "train", "dev": "valid", "test": "test"}


def example(row: Mapping[str, Any], place: Place) -> Choice:
    return choices(
        f"{place.text(row, 'context')} {place.text(row, 'question')}",
        [place.text(row, answer) for answer in ANSWERS],
        choice_label(row, "label", place, names=("0", "1", "2", "3")),
        place.name(row, "id"),
    )


THEIRS = {"train": "train", "dev": "validation", "test": "test"}

TASK = Task(
    name="cosmosqa",
    family="choice",
    about="Cosmos QA: commonsense reading comprehension, four answers",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    max_length=256,
    sizes={"train": 25262, "dev": 2985, "test": 6963},
    files=Files(
        task="cosmosqa",
        at=(
            At(
                paths=("{split}.csv",),
                splits={"train": ("train", "train_sample"), "dev": "valid", "test": "test"},
                read=by_row(comma_separated, example),
            ),
            At(paths=("{split}.jsonl",), splits=DEV_IN_JSON, read=by_row(json_lines, example)),
        ),
        get="Put train.csv and valid.csv of github.com/wilburOne/cosmosqa (data/) into cosmosqa/",
    ),
    hub=Tables(task="cosmosqa", at=(Table(name="allenai/cosmos_qa", splits=THEIRS, read=by_example(example)),)),
    tfds=Tables(task="cosmosqa", at=(Table(name="cosmos_qa", splits=THEIRS, read=by_example(example)),)),
    licence="CC BY 4.0",
)
