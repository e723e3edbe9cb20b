"""PAWS-X: paraphrase or only the same words? Seven languages, trained on English; machine-translated training data of
the distribution load as further training languages.

Copies lose rows to quotation marks: google/xtreme and TFDS have 49,175 of 49,401 English training rows.
"""

from functools import partial

from xtl.data.sources.formats.base import At, Files, by_row
from xtl.data.sources.formats.examples import Labels, pair
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.data.sources.formats.text import tsv
from xtl.task import Task

LABELS = Labels(
    "pawsx", ("0", "1"), spelled={"different_meaning": "0", "paraphrase": "1"}, dropped=(-1,)
)  # words: TFDS
COLUMNS = ("sentence1", "sentence2", "label")
TRANSLATED = ("de", "es", "fr", "ja", "ko", "zh")
ORIGINAL = by_row(tsv, pair(LABELS, "sentence1", "sentence2", id="id"))
XTREME = by_row(partial(tsv, columns=COLUMNS, quoted=True), pair(LABELS, "sentence1", "sentence2"))
SPLITS = {"train": "train", "dev": "validation", "test": "test"}
WORDS = {"train": "train", "dev": "dev_2k", "test": "test_2k"}

TASK = Task(
    name="pawsx",
    family="pair",
    about="PAWS-X: paraphrase identification in 7 languages, trained on English",
    languages=("de", "en", "es", "fr", "ja", "ko", "zh"),
    splits=("train", "dev", "test"),
    metric="accuracy",
    labels=LABELS.words,
    train="pawsx",
    sizes={"train": {"en": 49401}, "dev": 2000, "test": 2000},
    files=Files(
        task="pawsx",
        at=(
            At(paths=("x-final/{language}/{split}.tsv",), splits=WORDS, read=ORIGINAL),
            At(
                paths=("x-final/{language}/{split}.tsv",),
                splits={"train": "translated_train"},
                languages=TRANSLATED,
                read=ORIGINAL,
            ),
            At(paths=("xtreme/{split}-{language}.tsv",), read=XTREME),
        ),
        get="Unpack x-final.tar.gz of github.com/google-research-datasets/paws/tree/master/pawsx into pawsx/",
    ),
    hub=Tables(
        task="pawsx",
        at=(
            Table(
                name="google-research-datasets/paws-x",
                config="{language}",
                splits=SPLITS,
                read=by_example(pair(LABELS, "sentence1", "sentence2", id="id")),
            ),
            Table(
                name="google/xtreme",
                config="PAWS-X.{language}",
                splits=SPLITS,
                read=by_example(pair(LABELS, "sentence1", "sentence2")),
            ),
        ),
    ),
    tfds=Tables(
        task="pawsx",
        at=(
            Table(
                name="paws_x_wiki/{language}",
                splits=SPLITS,
                read=by_example(pair(LABELS, "sentence1", "sentence2")),
            ),
            Table(  # XTREME's translations, where the others are not prepared
                name="xtreme_pawsx/{language}",
                splits={"train": "train"},
                languages=TRANSLATED,
                read=by_example(pair(LABELS, "sentence1", "sentence2")),
            ),
        ),
    ),
    benchmarks=("xtreme",),
    licence="free for any purpose, credit to Google LLC",
)
