"""SNLI: natural language inference on image captions. English. Rows without a gold label ("-") are left out.

GLUE's copy has rows with five annotator labels under a header with one; the gold label is the last column there.
"""

from functools import partial

from xtl.data.sources.formats.base import At, Files, by_row
from xtl.data.sources.formats.examples import Labels, pair
from xtl.data.sources.formats.tables import ENTAILMENT_FIRST, Table, Tables, by_example
from xtl.data.sources.formats.text import json_lines, tsv
from xtl.task import NLI, Task

LABELS = Labels("snli", NLI, order=ENTAILMENT_FIRST, dropped=("-", -1))
ROW = pair(LABELS, "sentence1", "sentence2", label="gold_label")
ROWS = by_example(pair(LABELS, "premise", "hypothesis"))
SPLITS = {"train": "train", "dev": "validation", "test": "test"}

TASK = Task(
    name="snli",
    family="pair",
    about="SNLI: natural language inference on image captions",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    labels=NLI,
    sizes={"train": 549367, "dev": 9842, "test": 9824},
    files=Files(
        task="snli",
        at=(
            At(
                paths=("SNLI/{split}.tsv",),
                splits={"train": ("train", "train_9k"), "dev": ("dev", "dev_1k"), "test": "test"},
                read=by_row(partial(tsv, label_last=True), ROW),
            ),
            At(paths=("snli_1.0/snli_1.0_{split}.jsonl",), read=by_row(json_lines, ROW)),
            At(paths=("snli_1.0/snli_1.0_{split}.txt",), read=by_row(tsv, ROW)),
        ),
        get="Unpack snli_1.0.zip of nlp.stanford.edu/projects/snli (or GLUE's SNLI.zip) into snli/",
    ),
    hub=Tables(task="snli", at=(Table(name="stanfordnlp/snli", config="plain_text", splits=SPLITS, read=ROWS),)),
    tfds=Tables(task="snli", at=(Table(name="snli", splits=SPLITS, read=ROWS),)),
    licence="CC BY-SA 4.0",
)
