"""Adversarial NLI: three rounds of examples written against models, read one after the other. English."""

from xtl.data.sources.formats.base import At, Files, by_row
from xtl.data.sources.formats.examples import Labels, pair
from xtl.data.sources.formats.tables import ENTAILMENT_FIRST, Table, Tables, by_example
from xtl.data.sources.formats.text import json_lines
from xtl.task import NLI, Task

LETTERS = {"e": "entailment", "n": "neutral", "c": "contradiction"}
LABELS = Labels("anli", NLI, spelled=LETTERS, order=ENTAILMENT_FIRST)
ROW = pair(LABELS, "context", "hypothesis", id="uid")
ROUNDS = ("R1", "R2", "R3")

TASK = Task(
    name="anli",
    family="pair",
    about="Adversarial NLI, rounds 1 to 3 together",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    labels=NLI,
    max_length=256,
    sizes={"train": 162865, "dev": 3200, "test": 3200},
    files=Files(
        task="anli",
        at=tuple(
            At(paths=tuple(f"{version}/{r}/{{split}}.jsonl" for r in ROUNDS), read=by_row(json_lines, ROW))
            for version in ("anli_v1.0", "anli_v0.1")
        ),
        get="Unpack anli_v1.0.zip of github.com/facebookresearch/anli into anli/",
    ),
    hub=Tables(
        task="anli",
        at=(
            Table(
                name="facebook/anli",
                config="plain_text",
                splits={s: "+".join(f"{s}_{r.lower()}" for r in ROUNDS) for s in ("train", "dev", "test")},
                read=by_example(pair(LABELS, "premise", "hypothesis", id="uid")),
            ),
        ),
    ),
    tfds=Tables(
        task="anli",
        at=(
            Table(
                name="+".join(f"anli/{r.lower()}" for r in ROUNDS),
                splits={"train": "train", "dev": "validation", "test": "test"},
                read=by_example(ROW),
            ),
        ),
    ),
    licence="CC BY-NC 4.0",
)
