"""Masked language modelling on text of any language: the first phase, and the MLM share of a mixture.

Text is taken from `mlm/LANGUAGE.txt` (one passage per line) if that exists; otherwise from the Bible files and from
XNLI's development sentences, whichever exist. One text in 50 is held out as "dev".
"""

from xtl.data.sources.formats import plain
from xtl.data.sources.formats import xnli as xnli_files
from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.tables import Table, Tables
from xtl.task import Task
from xtl.tasks import panx, xnli

SPLITS = {"train": "train", "dev": "dev"}
XNLI_TEXT = "xnli/XNLI-1.0/xnli.dev.tsv"

TASK = Task(
    name="mlm",
    family="mlm",
    about="masked language modelling on plain text, Bible verses or XNLI sentences of each language",
    languages=tuple(sorted(panx.LANGUAGES + panx.LANGUAGES_R + ("ht", "wo"))),
    splits=("train", "dev"),
    metric="loss",
    train="mlm",
    max_length=128,
    files=Files(
        task="mlm",
        folder=".",
        at=(
            At(paths=("mlm/{language}.txt",), splits=SPLITS, read=plain.read_lines),
            At(
                paths=("bible/{language}.tsv", XNLI_TEXT),
                splits=SPLITS,
                languages=xnli.LANGUAGES,
                read=plain.read_pairs,
            ),
            At(
                paths=(XNLI_TEXT, "bible/{language}.tsv"),
                splits=SPLITS,
                languages=xnli.LANGUAGES,
                inside=xnli_files.languages,
                read=plain.read_pairs,
            ),
            At(paths=("bible/{language}.tsv",), splits=SPLITS, read=plain.read_pairs),
            At(
                paths=(XNLI_TEXT,),
                splits=SPLITS,
                languages=xnli.LANGUAGES,
                inside=xnli_files.languages,
                read=plain.read_pairs,
            ),
        ),
        get="Put one text file per language, one passage per line, into mlm/LANGUAGE.txt",
    ),
    hub=Tables(
        task="mlm",
        options={"articles": 20000},
        at=(
            Table(
                name="wikimedia/wikipedia",
                config="20231101.{language}",
                splits={"train": "train[:{articles}]", "dev": "train[:{articles}]"},
                read=plain.read_articles,
            ),
        ),
    ),
    tfds=Tables(
        task="mlm",
        options={"articles": 20000},
        at=(
            Table(
                name="wikipedia/20230601.{language}",
                splits={"train": "train[:{articles}]", "dev": "train[:{articles}]"},
                read=plain.read_articles,
            ),
        ),
    ),
)
