"""BUCC 2018: mine translation pairs out of two corpora. No training data; the gold of "dev" sets the threshold.

Queries are the foreign sentences, the pool the English ones. XTREME calls the distribution's sample set dev and its
training set test, and removes the gold of test.
"""

from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.retrieval import read_corpora_row, read_mined
from xtl.data.sources.formats.tables import Table, Tables
from xtl.task import Task
from xtl.tasks._tables import counts

SPLITS = {"dev": "sample", "test": "training"}


def layout(folder: str, splits: dict[str, str]) -> At:
    name = f"{folder}/{{language}}-en.{{split}}"
    return At(paths=(f"{name}.{{language}}", f"{name}.en"), optional=(f"{name}.gold",), splits=splits, read=read_mined)


TASK = Task(
    name="bucc2018",
    family="retrieve",
    about="BUCC 2018: mining of translation pairs with English in 4 languages, no training",
    languages=("de", "fr", "ru", "zh"),
    splits=("dev", "test"),
    metric="f1",
    max_length=512,
    retrieval=True,
    sizes={"dev": counts("de=1038 fr=929 ru=2374 zh=257"), "test": counts("de=9580 fr=9086 ru=14435 zh=1899")},
    files=Files(
        task="bucc2018",
        at=(
            layout("{language}-en", SPLITS),
            layout("xtreme", {"dev": "dev", "test": "test"}),
        ),
        get="Unpack bucc2018-LANGUAGE-en.{sample,training}-gold.tar.bz2 of comparable.limsi.fr/bucc2018 into bucc2018/",
    ),
    hub=Tables(
        task="bucc2018",
        note="google/xtreme and TFDS hold the gold pairs without the other sentences, mteb/BUCC only the test part",
        at=(
            Table(
                name="mteb/BUCC",
                config="{language}-en",
                splits={"test": "test"},
                read=read_corpora_row,
            ),
        ),
    ),
    options={"mining": True},
    benchmarks=("xtreme",),
    licence="for research",
)
