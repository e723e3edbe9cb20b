"""CommonsenseQA: questions on everyday knowledge, five answers. English. Prompt = question, choice = answer."""

from collections.abc import Mapping
from typing import Any

from xtl.data.sources.formats import fields
from xtl.data.sources.formats.base import At, Files, Place, by_row
from xtl.data.sources.formats.examples import choice_label, choices
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import json_lines
from xtl.errors import XtlError
from xtl.task import Choice, Task

NAMES = ("A", "B", "C", "D", "E")


def example(row: Mapping[str, Any], place: Place) -> Choice:
    """The original nests question{stem, choices[{label, text}]}; the hub has choices{label[], text[]} beside it."""
    nested = isinstance(row.get("question"), Mapping)
    question = place.record(row, "question") if nested else row
    prompt = place.text(question, "stem" if nested else "question")
    if isinstance(question.get("choices"), Mapping):
        listed = place.record(question, "choices")
        names, texts = place.texts(listed, "label"), place.texts(listed, "text")
    else:
        entries = fields.records(question, "choices", place.where)
        names, texts = [place.text(c, "label") for c in entries], [place.text(c, "text") for c in entries]
    if sorted(names) != list(NAMES) or len(texts) != len(names):
        raise XtlError(f"{place.where}: {len(texts)} choices named {', '.join(names)}, expected {', '.join(NAMES)}")
    text_of = dict(zip(names, texts, strict=True))
    label = choice_label(row, "answerKey", place, names=NAMES)
    return choices(prompt, [text_of[name] for name in NAMES], label, place.name(row, "id"))


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
