"""MultiNLI: does sentence b follow from a, contradict it, or neither? English; machine-translated training data of the
XNLI distribution load as further training languages (their files spell contradiction "contradictory").

The data option `genre` (fiction, government, slate, telephone or travel) keeps one genre of the training data.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xtl.data.sources.formats.base import At, Files, Read, Rows, SplitFiles, by_row
from xtl.data.sources.formats.examples import Labels, pair
from xtl.data.sources.formats.tables import ENTAILMENT_FIRST, Request, Table, Tables, by_example
from xtl.data.sources.formats.text import json_lines, tsv
from xtl.errors import XtlError, nearest
from xtl.task import NLI, Loaded, Task
from xtl.tasks import xnli
from xtl.tasks._tables import words

LABELS = Labels("mnli", NLI, spelled={"contradictory": "contradiction"}, order=ENTAILMENT_FIRST, dropped=("-",))
TRANSLATED = words("ar bg de el es fr hi ru sw th tr ur vi zh")

ROW = pair(LABELS, "sentence1", "sentence2", label="gold_label")
HUB_ROW = pair(LABELS, "premise", "hypothesis")
HUB_ROWS = by_example(HUB_ROW)
GLUE = {"train": "train", "dev": "validation_{domain}", "test": "test_{domain}"}
ORIGINAL = {"train": "train", "dev": "dev_{domain}"}
GENRES = words("fiction government slate telephone travel")  # of the training data


def of_genre(row: Mapping[str, Any], request: Request | SplitFiles) -> bool:
    """Whether a row is of the genre asked for; evaluation data is taken whole."""
    genre = request.options["genre"]
    if genre and genre not in GENRES:
        raise XtlError(f"mnli has no genre {genre!r}.{nearest(genre, GENRES)}")
    return not genre or request.split != "train" or row.get("genre") == genre


def one_genre(rows: Callable[[Path], Rows]) -> Read:
    """A reader of rows with a `genre` column."""

    def read(files: SplitFiles) -> Loaded:
        return by_row(lambda path: (r for r in rows(path) if of_genre(r[1], files)), ROW)(files)

    return read


TASK = Task(
    name="mnli",
    family="pair",
    about="MultiNLI: natural language inference, three labels",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    labels=NLI,
    sizes={"train": 392702, "dev": 9815, "test": 9796},
    files=Files(
        task="mnli",
        folder=".",
        options={"domain": "matched", "genre": ""},  # domain of dev and test: or "mismatched"
        at=(
            At(
                paths=("mnli/MNLI/{split}.tsv",),
                splits={
                    "train": ("train", "train_9k"),
                    "dev": ("dev_{domain}", "dev_1k"),
                    "test": "test_{domain}",
                },
                languages=("en",),
                read=one_genre(tsv),
            ),
            At(
                paths=("mnli/multinli_1.0/multinli_1.0_{split}.jsonl",),
                splits=ORIGINAL,
                languages=("en",),
                read=one_genre(json_lines),
            ),
            At(
                paths=("xnli/XNLI-MT-1.0/multinli/multinli.train.{language}.tsv",),
                splits={"train": "train"},
                languages=("en", *TRANSLATED),
                when={"genre": ""},
                read=by_row(tsv, pair(LABELS, "premise", "hypo")),
            ),
        ),
        get="Unpack MNLI.zip of gluebenchmark.com into mnli/ (translations: XNLI-MT-1.0.zip into xnli/)",
    ),
    hub=Tables(
        task="mnli",
        options={"domain": "matched", "genre": ""},
        at=(
            Table(
                name="nyu-mll/glue", config="mnli", splits=GLUE, languages=("en",), when={"genre": ""}, read=HUB_ROWS
            ),
            Table(
                name="facebook/xnli",
                config="{language}",
                splits={"train": "train"},
                languages=("en", *TRANSLATED),
                when={"genre": ""},
                read=HUB_ROWS,
            ),
            Table(  # the copy that tells genres apart
                name="nyu-mll/multi_nli",
                splits={"train": "train", "dev": "validation_{domain}"},
                languages=("en",),
                read=by_example(HUB_ROW, only=of_genre),
            ),
        ),
    ),
    tfds=Tables(
        task="mnli",
        options={"domain": "matched"},
        at=(
            Table(name="glue/mnli", splits=GLUE, languages=("en",), read=HUB_ROWS),
            Table(name="xtreme_xnli", splits={"train": "train"}, languages=TRANSLATED, read=by_example(xnli.nested)),
        ),
    ),
    options={"translated": TRANSLATED},
    licence="OANC; parts CC BY 3.0 and CC BY-SA 3.0",
)
