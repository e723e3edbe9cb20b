"""XQuAD: 240 paragraphs of SQuAD 1.1's development set, translated by people into ten languages (and Romanian)."""

from xtl.data.sources.formats import squad
from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.examples import flat_span
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.task import Task

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
THEIRS = {"test": "validation"}

TASK = Task(
    name="xquad",
    family="span",
    about="XQuAD: 1,190 SQuAD questions in 11 languages, trained on SQuAD 1.1",
    languages=LANGUAGES,
    languages_r=("ro",),
    splits=("test",),
    metric="em_f1",
    train="squad_v1",
    max_length=384,
    sizes={"test": 1190},
    files=Files(
        task="xquad",
        at=(At(paths=("xquad.{language}.json",), read=squad.read()),),
        get="Put xquad.LANGUAGE.json of github.com/google-deepmind/xquad into xquad/",
    ),
    hub=Tables(
        task="xquad",
        at=(
            Table(name="google/xquad", config="xquad.{language}", splits=THEIRS, read=by_example(flat_span)),
            Table(
                name="google/xtreme",
                config="XQuAD.{language}",
                splits=THEIRS,
                languages=LANGUAGES,
                read=by_example(flat_span),
            ),
        ),
    ),
    tfds=Tables(
        task="xquad",
        at=(
            Table(
                name="xquad/{language}",
                splits={"test": "test"},
                languages=LANGUAGES,
                read=by_example(flat_span),
            ),
        ),
    ),
    benchmarks=("xtreme", "xtreme-r"),
    licence="CC BY-SA 4.0",
)
