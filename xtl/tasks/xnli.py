"""XNLI: MultiNLI's question in 15 languages, translated by people. Trained on MNLI."""

from collections.abc import Mapping
from typing import Any

from xtl.data.sources.formats import xnli
from xtl.data.sources.formats.base import At, Files, Place
from xtl.data.sources.formats.examples import Labels, pair
from xtl.data.sources.formats.tables import ENTAILMENT_FIRST, Request, Table, Tables, by_example
from xtl.errors import XtlError
from xtl.task import NLI, Pair, Task
from xtl.tasks._tables import words

LABELS = Labels("xnli", NLI, spelled={"contradictory": "contradiction"}, order=ENTAILMENT_FIRST, dropped=("-",))
LANGUAGES = words("ar bg de el en es fr hi ru sw th tr ur vi zh")
ROW = pair(LABELS, "sentence1", "sentence2", label="gold_label")
HUB_ROW = pair(LABELS, "premise", "hypothesis")
SPLITS = {"dev": "validation", "test": "test"}


def of_language(row: Mapping[str, Any], request: Request) -> bool:
    return bool(row.get("language") == request.language)


def nested(row: Mapping[str, Any], place: Place) -> Pair | None:
    """TFDS has all languages in one row: premise {language: text}, hypothesis {language: [...], translation: [...]}."""
    hypothesis = place.record(row, "hypothesis")
    languages = place.texts(hypothesis, "language")
    translations = place.texts(hypothesis, "translation", count=len(languages))
    if place.language not in languages:
        raise XtlError(f"{place.where}: no hypothesis in {place.language!r} (found: {', '.join(languages)})")
    flat = {
        "premise": place.text(place.record(row, "premise"), place.language),
        "hypothesis": translations[languages.index(place.language)],
        "label": place.label(row, "label"),
    }
    return HUB_ROW(flat, place)  # type: ignore[return-value]


TASK = Task(
    name="xnli",
    family="pair",
    about="XNLI: natural language inference in 15 languages, trained on MNLI",
    languages=LANGUAGES,
    splits=("dev", "test"),
    metric="accuracy",
    labels=NLI,
    train="mnli",
    sizes={"dev": 2490, "test": 5010},
    files=Files(
        task="xnli",
        at=(
            At(
                paths=("XNLI-1.0/xnli.{split}.tsv",),
                inside=xnli.languages,
                read=xnli.read(ROW),
            ),
            At(
                paths=("XNLI-1.0/xnli.{split}.jsonl",),
                inside=xnli.languages,
                read=xnli.read(ROW),
            ),
            At(
                paths=("xtreme/{split}-{language}.tsv",),
                optional=("xtreme/test-labels.tsv",),
                read=xnli.read_xtreme(ROW),
            ),
        ),
        get="Unpack XNLI-1.0.zip into xnli/",
    ),
    hub=Tables(
        task="xnli",
        at=(
            Table(name="facebook/xnli", config="{language}", splits=SPLITS, read=by_example(HUB_ROW)),
            Table(name="google/xtreme", config="XNLI", splits=SPLITS, read=by_example(ROW, only=of_language)),
        ),
    ),
    tfds=Tables(task="xnli", at=(Table(name="xnli", splits=SPLITS, read=by_example(nested)),)),
    benchmarks=("xtreme", "xtreme-r"),
    licence="CC BY-NC 4.0",
)
