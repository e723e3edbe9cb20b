"""CommonsenseQA: questions on everyday knowledge, five answers. English. Prompt = question, choice = answer."""

from collections.abc import Mapping
from typing import Any

from xtl.data.sources.formats.base import At, Files, Place, by_row
from xtl.data.sources.formats.examples import choice_label, choices
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import json_lines
from xtl.errors import XtlError
from xtl.task import Choice, Task

NAMES = ("A", "B", "C", "D", "E")


def example(row: Mapping[str, Any], place: Place) -> Choice:
    """The original nests question{stem, choices[{label, text}]}; the hub has choices{label[], text[]} beside it."""
    question = place.get(row, "question")
    nested = isinstance(question, Mapping)
    prompt = place.text(question, "stem") if nested else place.text(row, "question")
    listed = place.get(question, "choices") if nested else place.get(row, "choices")
    if isinstance(listed, Mapping):
        texts = dict(zip(place.get(listed, "label"), place.get(listed, "text"), strict=True))
    else:
        texts = {place.text(c, "label"): place.text(c, "text") for c in listed}
    if sorted(texts) != list(NAMES):
        raise XtlError(f"{place.where}: choices {', '.join(map(str, texts))}, expected {', '.join(NAMES)}")
    label = choice_label(row.get("answerKey"), place, names=NAMES)
    return choices(prompt, [texts[name] for name in NAMES], label, place.text(row, "id"))


THEIRS = {"train": "train", "dev": "validation", "test": "test"}

TASK = Task(
    name="commonsenseqa",
    family="choice",
    about="CommonsenseQA: everyday knowledge, five answers",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    sizes={"train": 9741, "dev": 1221, "test": 1140},
    files=Files(
        task="commonsenseqa",
        at=(
            At(
                paths=("{split}.jsonl",),
                splits={"train": "train_rand_split", "dev": "dev_rand_split", "test": "test_rand_split_no_answers"},
                read=by_row(json_lines, example),
            ),
        ),
        get="Put {train,dev}_rand_split.jsonl and test_rand_split_no_answers.jsonl of www.tau-nlp.org/commonsenseqa "
        "into commonsenseqa/",
    ),
    hub=Tables(
        task="commonsenseqa",
        at=(Table(name="tau/commonsense_qa", splits=THEIRS, read=by_example(example)),),
    ),
    licence="MIT",
)
