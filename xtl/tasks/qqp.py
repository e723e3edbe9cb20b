"""Quora Question Pairs: do two questions ask the same? English. A few lines of the training file lack columns."""

from functools import partial

from xtl.data.sources.formats.base import At, Files, by_row
from xtl.data.sources.formats.examples import Labels, pair
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import tsv
from xtl.task import Task

LABELS = Labels("qqp", ("0", "1"), spelled={"not_duplicate": "0", "duplicate": "1"})
ROW = pair(LABELS, "question1", "question2", label="is_duplicate")
ROWS = by_example(pair(LABELS, "question1", "question2"))
SPLITS = {"train": "train", "dev": "validation", "test": "test"}

TASK = Task(
    name="qqp",
    family="pair",
    about="Quora Question Pairs: duplicate questions",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy_f1",
    labels=LABELS.words,
    sizes={"train": 363846, "dev": 40430, "test": 390965},
    files=Files(
        task="qqp",
        at=(
            At(
                paths=("QQP/{split}.tsv",),
                splits={"train": ("train", "train_9k"), "dev": ("dev", "dev_1k"), "test": "test"},
                read=by_row(partial(tsv, short_rows=True), ROW),
            ),
        ),
        get="Unpack QQP.zip of gluebenchmark.com into qqp/",
    ),
    hub=Tables(task="qqp", at=(Table(name="nyu-mll/glue", config="qqp", splits=SPLITS, read=ROWS),)),
    tfds=Tables(task="qqp", at=(Table(name="glue/qqp", splits=SPLITS, read=ROWS),)),
    licence="Quora's terms, non-commercial",
)
