"""XCOPA: COPA translated into eleven languages, none of them English (English is COPA, another data set).

Trained on Social IQa, then on COPA.
"""

from xtl.data.sources.formats.base import At, Files
from xtl.data.sources.formats.tables import Table, Tables, by_example
from xtl.task import Task
from xtl.tasks import copa
from xtl.tasks._tables import words

TASK = Task(
    name="xcopa",
    family="choice",
    about="XCOPA: causal commonsense in 11 languages, trained on Social IQa and COPA",
    languages=words("et ht id it qu sw ta th tr vi zh"),
    splits=("dev", "test"),
    metric="accuracy",
    train="copa",
    sizes={"dev": 100, "test": 500},
    files=Files(
        task="xcopa",
        at=(
            At(paths=("data/{language}/{split}.{language}.jsonl",), splits=copa.SPLITS, read=copa.READ),
            At(paths=("{split}.{language}.jsonl",), splits=copa.SPLITS, read=copa.READ),
            At(paths=("xtreme/{split}-{language}.jsonl",), splits=copa.SPLITS, read=copa.READ),
        ),
        get="Put data/ of github.com/cambridgeltl/xcopa into xcopa/",
    ),
    hub=Tables(
        task="xcopa",
        at=(
            Table(
                name="cambridgeltl/xcopa",
                config="{language}",
                splits={"dev": "validation", "test": "test"},
                read=by_example(copa.example),
            ),
        ),
    ),
    benchmarks=("xtreme-r",),
    licence="CC BY 4.0",
)
