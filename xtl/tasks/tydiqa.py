"""TyDiQA-GoldP: questions written by speakers of nine languages. Trained on its 3,696 English questions only.

There is no test set: the development files play its part, as in XTREME, and are what both "dev" and "test" read here.
The official files hold all nine languages; the language is the first part of the id. XTREME's training files keep only
the last part of the id, so ids repeat there and are numbered; its development files have their answers blanked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xtl.data.sources.formats import fields, squad
from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.examples import flat_span
from xtl.data.sources.formats.tables import Request, Table, Tables, by_example
from xtl.task import Task
from xtl.tasks._tables import counts, table

NAMES = table("ar=arabic bn=bengali en=english fi=finnish id=indonesian ko=korean ru=russian sw=swahili te=telugu")
EVALUATION = counts("ar=921 bn=113 en=440 fi=782 id=565 ko=276 ru=812 sw=499 te=669")
TRAINING = counts("ar=14805 bn=2390 en=3696 fi=6855 id=5702 ko=1625 ru=6490 sw=2755 te=5563")


def of_language(id: str, language: str) -> bool:
    """All languages are in one file; taking them all for English would make results that are not zero-shot."""
    return id.split("-")[0] == NAMES[language]


def languages_inside(path: Path) -> set[str]:
    return {str(row.get("id", "")).split("-")[0] for _, row in squad.questions(path)}


THEIRS = {"train": "train", "dev": "validation", "test": "validation"}


def row_of_language(row: Mapping[str, Any], request: Request) -> bool:
    return of_language(fields.name(row, "id", "tydiqa"), request.language)


TASK = Task(
    name="tydiqa",
    family="span",
    about="TyDiQA-GoldP: extractive question answering in 9 languages, trained on its English part; dev serves as test",
    languages=tuple(NAMES),
    splits=("train", "dev", "test"),
    metric="em_f1",
    train="tydiqa",
    max_length=384,
    sizes={"train": TRAINING, "dev": EVALUATION, "test": EVALUATION},
    files=Files(
        task="tydiqa",
        at=(
            At(
                paths=("tydiqa-goldp-v1.1-{split}.json",),
                splits={"train": "train", "dev": "dev", "test": "dev"},
                codes=NAMES,
                inside=languages_inside,
                read=squad.read(only=of_language),
            ),
            At(
                paths=("tydiqa-goldp-v1.1-train/tydiqa-goldp-v1.1-train.json",),
                splits={"train": "train"},
                codes=NAMES,
                inside=languages_inside,
                read=squad.read(only=of_language),
            ),
            At(
                paths=("tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-{code}.json",),
                splits={"dev": "dev", "test": "dev"},
                codes=NAMES,
                read=squad.read(),
            ),
            At(
                paths=("tydiqa-goldp-v1.1-{split}/tydiqa.goldp.{language}.{split}.json",),
                splits={"train": "train", "dev": "dev", "test": "dev"},
                codes=NAMES,
                read=squad.read(),
            ),
        ),
        get="Put tydiqa-goldp-v1.1-train.json and the unpacked tydiqa-goldp-v1.1-dev.tgz into tydiqa/",
    ),
    hub=Tables(
        task="tydiqa",
        at=(
            Table(
                name="google-research-datasets/tydiqa",
                config="secondary_task",
                splits=THEIRS,
                codes=NAMES,
                read=by_example(flat_span, only=row_of_language),
            ),
            Table(
                name="google/xtreme",
                config="tydiqa",
                splits=THEIRS,
                codes=NAMES,
                read=by_example(flat_span, only=row_of_language),
            ),
        ),
    ),
    tfds=Tables(
        task="tydiqa",
        at=(
            Table(
                name="tydi_qa/goldp",
                splits=THEIRS,
                codes=NAMES,
                read=by_example(flat_span, only=row_of_language),
            ),
        ),
    ),
    benchmarks=("xtreme", "xtreme-r"),
    licence="Apache 2.0",
)
