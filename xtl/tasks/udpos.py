"""Universal Dependencies part-of-speech tagging with 17 tags; all treebanks of a language, trained on English.

XTREME's own training and development files go first, being complete by construction; its test files have no tags, so
the treebanks go first there. The option `fusion` False gives syntactic words, which is what hub and TFDS copies hold;
it needs the treebanks.
"""

from xtl.data.sources.formats import columns, conllu
from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.examples import Labels, tagged
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.task import UPOS, Task
from xtl.tasks._tables import counts, table, words

LABELS = Labels("udpos", UPOS, order=UPOS)
LANGUAGES = words("af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh")
DEV = counts(
    "af=194 ar=909 bg=1115 de=19233 el=2559 en=3974 es=3054 et=3125 eu=1798 fa=599 fi=3239 fr=5979 he=484 hi=1659 "
    "hu=441 id=559 it=2278 ja=511 ko=3016 mr=46 nl=1394 pt=1770 ru=9960 ta=80 te=131 tr=988 ur=552 vi=800 zh=3038"
)
TEST = counts(
    "af=425 ar=1680 bg=1116 de=22458 el=2809 en=5440 es=3147 et=3760 eu=1799 fa=600 fi=4422 fr=9465 he=491 hi=2684 "
    "hu=449 id=1557 it=3518 ja=2372 kk=1047 ko=4276 mr=47 nl=1471 pt=2681 ru=11336 ta=120 te=146 th=1000 tl=55 "
    "tr=4785 ur=535 vi=800 yo=100 zh=5528"
)

NAMES = table(
    "af=Afrikaans ar=Arabic bg=Bulgarian de=German el=Greek en=English es=Spanish et=Estonian eu=Basque fa=Persian "
    "fi=Finnish fr=French he=Hebrew hi=Hindi hu=Hungarian id=Indonesian it=Italian ja=Japanese kk=Kazakh ko=Korean "
    "mr=Marathi nl=Dutch pt=Portuguese ru=Russian ta=Tamil te=Telugu th=Thai tl=Tagalog tr=Turkish ur=Urdu "
    "vi=Vietnamese yo=Yoruba zh=Chinese"
)
PLAIN = {"fusion": False}
THEIRS = {"train": "train", "dev": "validation", "test": "test"}
ROWS = by_example(tagged(LABELS, "tokens", "pos_tags"))
TREEBANKS = At(paths=("**/{language}_*-ud-{split}.conllu",), read=conllu.read(LABELS))
XTREME = At(paths=("xtreme/{split}-{language}.tsv",), read=columns.read(LABELS))

TASK = Task(
    name="udpos",
    family="tag",
    about="Universal Dependencies POS tags in 33 languages, trained on English",
    languages=LANGUAGES,
    languages_r=("lt", "pl", "uk", "wo", "ro"),
    splits=("train", "dev", "test"),
    metric="f1",
    labels=UPOS,
    train="udpos",
    sizes={"train": {"en": 21253}, "dev": DEV, "test": TEST},
    files=Files(
        task="udpos",
        options={"fusion": True},
        at=(
            At(paths=XTREME.paths, read=XTREME.read, splits={"train": "train", "dev": "dev"}, when={"fusion": True}),
            TREEBANKS,
            At(paths=XTREME.paths, read=XTREME.read, splits={"test": "test"}, when={"fusion": True}),
        ),
        get="Unpack ud-treebanks-v2.5.tgz into udpos/ (XTREME-R: v2.7, and not both under one root)",
    ),
    hub=Tables(
        task="udpos",
        options={"fusion": True},
        note="their words are syntactic words, not those XTREME scores; data.options.udpos.fusion=False takes them",
        at=(
            Table(name="google/xtreme", config="udpos.{code}", codes=NAMES, splits=THEIRS, when=PLAIN, read=ROWS),
            Table(
                name="google/xtreme",
                config="udpos.Afrikans",  # the spelling of the data card
                languages=("af",),
                splits=THEIRS,
                when=PLAIN,
                read=ROWS,
            ),
        ),
    ),
    tfds=Tables(
        task="udpos",
        options={"fusion": True},
        note="their words are syntactic words, not those XTREME scores; data.options.udpos.fusion=False takes them",
        at=(
            Table(
                name="xtreme_pos/xtreme_pos_{language}",
                languages=LANGUAGES,
                splits={"train": "train", "dev": "dev", "test": "test"},
                when=PLAIN,
                read=by_example(tagged(LABELS, "tokens", "upos")),
            ),
        ),
    ),
    benchmarks=("xtreme", "xtreme-r"),
    licence="by treebank, mostly CC BY-SA 4.0 or CC BY-NC-SA",
)
