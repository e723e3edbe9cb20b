"""MLQA: extractive question answering in seven languages, trained on SQuAD 1.1. Question and context in one language,
as in XTREME; articles and punctuation are normalised by language."""

from xtl.data.sources.formats import squad
from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.examples import flat_span
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.task import Task

SPLITS = {"dev": "validation", "test": "test"}

TASK = Task(
    name="mlqa",
    family="span",
    about="MLQA: extractive question answering in 7 languages, trained on SQuAD 1.1",
    languages=("ar", "de", "en", "es", "hi", "vi", "zh"),
    splits=("dev", "test"),
    metric="em_f1",
    train="squad_v1",
    max_length=384,
    sizes={
        "dev": {"ar": 517, "de": 512, "en": 1148, "es": 500, "hi": 507, "vi": 511, "zh": 504},
        "test": {"ar": 5335, "de": 4517, "en": 11590, "es": 5253, "hi": 4918, "vi": 5495, "zh": 5137},
    },
    files=Files(
        task="mlqa",
        at=(At(paths=("MLQA_V1/{split}/{split}-context-{language}-question-{language}.json",), read=squad.read()),),
        get="Unpack MLQA_V1.zip of github.com/facebookresearch/MLQA into mlqa/",
    ),
    hub=Tables(
        task="mlqa",
        at=(
            Table(
                name="facebook/mlqa",
                config="mlqa.{language}.{language}",
                splits=SPLITS,
                read=by_example(flat_span),
            ),
            Table(
                name="google/xtreme",
                config="MLQA.{language}.{language}",
                splits=SPLITS,
                read=by_example(flat_span),
            ),
        ),
    ),
    tfds=Tables(task="mlqa", at=(Table(name="mlqa/{language}", splits=SPLITS, read=by_example(flat_span)),)),
    options={"normalise": "mlqa"},
    benchmarks=("xtreme", "xtreme-r"),
    licence="CC BY-SA 3.0",
)
