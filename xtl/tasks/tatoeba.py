"""Tatoeba: find the translation of an English sentence among up to 1,000 foreign ones. No training data."""

from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.retrieval import read_aligned, read_aligned_rows
from xtl.data.sources.formats.tables import Table, Tables
from xtl.task import Task
from xtl.tasks._tables import counts, table

CODES = table(
    "af=afr ar=ara bg=bul bn=ben de=deu el=ell es=spa et=est eu=eus fa=pes fi=fin fr=fra he=heb hi=hin hu=hun id=ind "
    "it=ita ja=jpn jv=jav ka=kat kk=kaz ko=kor ml=mal mr=mar nl=nld pt=por ru=rus sw=swh ta=tam te=tel th=tha tl=tgl "
    "tr=tur ur=urd vi=vie zh=cmn"
)
CODES_R = table("az=aze lt=lit pl=pol uk=ukr ro=ron")
FEWER = counts("jv=205 te=234 ta=307 sw=390 th=548 kk=575 ml=687 ka=746")

TASK = Task(
    name="tatoeba",
    family="retrieve",
    about="Tatoeba: nearest-neighbour search for translations, English to 36 languages, no training",
    languages=tuple(CODES),
    languages_r=tuple(CODES_R),
    splits=("test",),
    metric="accuracy",
    max_length=512,
    retrieval=True,
    sizes={"test": dict.fromkeys(CODES | CODES_R, 1000) | FEWER},
    files=Files(
        task="tatoeba",
        at=(
            At(
                paths=("v1/tatoeba.{code}-eng.{code}", "v1/tatoeba.{code}-eng.eng"),
                codes=CODES | CODES_R,
                read=read_aligned,
            ),
        ),
        get="Put data/tatoeba/v1 of github.com/facebookresearch/LASER into tatoeba/",
    ),
    hub=Tables(
        task="tatoeba",
        at=(
            Table(
                name="google/xtreme",
                config="tatoeba.{code}",
                splits={"test": "validation"},
                codes=CODES,
                read=read_aligned_rows,
            ),
        ),
    ),
    tfds=Tables(
        task="tatoeba",
        at=(
            Table(
                name="tatoeba/tatoeba_{language}",
                splits={"test": "train"},
                languages=tuple(CODES),
                read=read_aligned_rows,
            ),
        ),
    ),
    benchmarks=("xtreme", "xtreme-r"),
    licence="CC BY 2.0 FR",
)
