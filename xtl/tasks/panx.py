"""PAN-X (WikiAnn with the balanced splits of Rahimi et al. 2019): named entities in 40 languages, trained on English.

XTREME's own training and development files go first where both forms are there; its test files have no tags, so the
archives' files go first for the test split. An archive of a language may stay packed.
"""

from xtl.data.sources.formats import columns
from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.examples import Labels, tagged
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.task import PANX_TAGS, Task
from xtl.tasks._tables import words

HUB_ORDER = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
LABELS = Labels("panx", PANX_TAGS, order=HUB_ORDER)
LANGUAGES = words(
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
)
LANGUAGES_R = ("qu", "pl", "uk", "az", "lt", "pa", "gu", "ro")
SMALL = dict.fromkeys(words("af bn hi kk ml mr ms sw ta te tl ur az"), 1000)
TINY = dict.fromkeys(words("jv my yo qu pa gu"), 100)
SIZES = dict.fromkeys(LANGUAGES + LANGUAGES_R, 10000) | SMALL | TINY

LABELLED = {"train": "train", "dev": "dev"}
THEIRS = {"train": "train", "dev": "validation", "test": "test"}
ROWS = by_example(tagged(LABELS, "tokens", "ner_tags"))
UNPACKED = columns.read(LABELS, prefixed=True)
PACKED = columns.read(LABELS, prefixed=True, member="{split}")

TASK = Task(
    name="panx",
    family="tag",
    about="PAN-X: named entities of Wikipedia in 40 languages, trained on English",
    languages=LANGUAGES,
    languages_r=LANGUAGES_R,
    splits=("train", "dev", "test"),
    metric="f1",
    labels=PANX_TAGS,
    train="panx",
    sizes={"train": {"en": 20000}, "dev": SIZES, "test": SIZES},
    files=Files(
        task="panx",
        at=(
            At(paths=("xtreme/{split}-{language}.tsv",), splits=LABELLED, read=columns.read(LABELS)),
            At(paths=("panx_dataset/{language}/{split}",), read=UNPACKED),
            At(paths=("panx_dataset/{language}-{split}",), read=UNPACKED),
            At(paths=("panx_dataset/{language}.tar.gz",), read=PACKED),
            At(paths=("{language}.tar.gz",), read=PACKED),
            At(paths=("xtreme/{split}-{language}.tsv",), read=columns.read(LABELS)),
        ),
        get="Unpack panx_dataset.tar into panx/; the LANGUAGE.tar.gz in panx/panx_dataset/ may stay packed",
    ),
    hub=Tables(
        task="panx",
        at=(
            Table(name="unimelb-nlp/wikiann", config="{language}", splits=THEIRS, read=ROWS),
            Table(name="google/xtreme", config="PAN-X.{language}", splits=THEIRS, languages=LANGUAGES, read=ROWS),
        ),
    ),
    tfds=Tables(
        task="panx",
        at=(
            Table(
                name="wikiann/{language}",
                splits=THEIRS,
                read=by_example(tagged(LABELS, "tokens", "tags")),
            ),
        ),
    ),
    benchmarks=("xtreme", "xtreme-r"),
    licence="text CC BY-SA (Wikipedia); annotations without a stated licence",
)
