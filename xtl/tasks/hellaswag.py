"""HellaSwag: which of four endings continues the story? Prompt = first sentence; choice = start of the second + ending
(jiant's form). English."""

from collections.abc import Mapping
from typing import Any

from xtl.data.sources.formats.base import At, Files, Place, by_row
from xtl.data.sources.formats.examples import choice_label, choices
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import json_lines
from xtl.task import Choice, Task


def example(row: Mapping[str, Any], place: Place) -> Choice:
    """The label is an integer in the original files, a string on the hub, and empty where it is hidden."""
    endings = place.texts(row, "endings", count=4)
    joined = "ctx_a" not in row  # TFDS has only the whole context, so the split before the ending is lost there
    start = "" if joined else place.text(row, "ctx_b")
    return choices(
        place.text(row, "context" if joined else "ctx_a"),
        [f"{start} {ending}" for ending in endings],
        choice_label(row, "label", place, names=("0", "1", "2", "3")),
        str(place.index),
    )


THEIRS = {"train": "train", "dev": "validation", "test": "test"}

TASK = Task(
    name="hellaswag",
    family="choice",
    about="HellaSwag: choose the continuation of a story among four",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    sizes={"train": 39905, "dev": 10042, "test": 10003},
    files=Files(
        task="hellaswag",
        at=(
            At(
                paths=("hellaswag_{split}.jsonl",),
                splits={"train": "train", "dev": "val", "test": "test"},
                read=by_row(json_lines, example),
            ),
        ),
        get="Put hellaswag_{train,val,test}.jsonl of github.com/rowanz/hellaswag (data/) into hellaswag/",
    ),
    hub=Tables(task="hellaswag", at=(Table(name="Rowan/hellaswag", splits=THEIRS, read=by_example(example)),)),
    tfds=Tables(task="hellaswag", at=(Table(name="hellaswag", splits=THEIRS, read=by_example(example)),)),
    licence="MIT",
)
