"""Adversarial NLI: three rounds of examples written against models, read one after the other. English."""

from xtl.data.formats.base import At, Files, by_row
from xtl.data.formats.examples import Labels, pair
from xtl.data.formats.text import json_lines
from xtl.tasks.base import NLI, Task

LABELS = Labels("anli", NLI, spelled={"e": "entailment", "n": "neutral", "c": "contradiction"})
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
    licence="CC BY-NC 4.0",
)
