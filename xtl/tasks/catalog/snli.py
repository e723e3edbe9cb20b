"""SNLI: natural language inference on image captions. English. Rows without a gold label ("-") are left out.

GLUE's copy has rows with five annotator labels under a header with one; the gold label is the last column there.
"""

from functools import partial

from xtl.data.formats.base import At, Files, by_row
from xtl.data.formats.examples import Labels, pair
from xtl.data.formats.text import json_lines, tsv
from xtl.tasks.base import NLI, Task

LABELS = Labels("snli", NLI, dropped=("-",))
ROW = pair(LABELS, "sentence1", "sentence2", label="gold_label")

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
    licence="CC BY-SA 4.0",
)
