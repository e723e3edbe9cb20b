"""MedMCQA: questions of Indian medical entrance examinations, four options. English. Prompt = question.

`cop` is the right option: 1 to 4 in the original files, which are JSON Lines in spite of their names; on the hub 0 to 3
with the class names a to d, and -1 in the test set. The original test file is taken to leave it out (not verified).
Questions marked as having several right options name one, too, and are kept. Explanations (`exp`) are not used.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xtl.data.sources.formats.base import At, Files, MakeExample, Place, by_row
from xtl.data.sources.formats.examples import choice_label, choices
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import json_lines
from xtl.task import Choice, Task

OPTIONS = ("opa", "opb", "opc", "opd")
CLASSES = {"0": "a", "1": "b", "2": "c", "3": "d"}  # of the hub; copies may have lost the names


def example(names: Sequence[str], spelled: Mapping[str, str] | None = None) -> MakeExample:
    """Rows whose `cop` names the options as `names` does; a file that counts otherwise would shift every label."""

    def make(row: Mapping[str, Any], place: Place) -> Choice:
        return choices(
            place.text(row, "question"),
            [place.text(row, option) for option in OPTIONS],
            choice_label(row, "cop", place, names=names, spelled=spelled),
            place.name(row, "id"),
        )

    return make


TASK = Task(
    name="medmcqa",
    family="choice",
    about="MedMCQA: questions of medical examinations, four answers",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    sizes={"train": 182822, "dev": 4183, "test": 6150},
    files=Files(
        task="medmcqa",
        at=(At(paths=("{split}.json",), read=by_row(json_lines, example(("1", "2", "3", "4")))),),
        get="Put train.json, dev.json and test.json of github.com/medmcqa/medmcqa into medmcqa/",
    ),
    hub=Tables(
        task="medmcqa",
        at=(
            Table(
                name="openlifescienceai/medmcqa",
                splits={"train": "train", "dev": "validation", "test": "test"},
                read=by_example(example(tuple(CLASSES.values()), CLASSES)),
            ),
        ),
    ),
    options={"world": "reason"},
    licence="Apache 2.0",
)
