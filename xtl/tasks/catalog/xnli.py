"""XNLI: MultiNLI's question in 15 languages, translated by people. Trained on MNLI."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xtl.data.formats.base import At, Files, Found, Place, Read, Rows, by_row
from xtl.data.formats.examples import Labels, pair
from xtl.data.formats.tables import ENTAILMENT_FIRST, Table, Tables, Wanted, by_example
from xtl.data.formats.text import json_lines, lines, tsv
from xtl.errors import XtlError
from xtl.tasks.base import NLI, Loaded, Pair, Task
from xtl.tasks.catalog._tables import words

LABELS = Labels("xnli", NLI, spelled={"contradictory": "contradiction"}, order=ENTAILMENT_FIRST, dropped=("-",))
LANGUAGES = words("ar bg de el en es fr hi ru sw th tr ur vi zh")
ROW = pair(LABELS, "sentence1", "sentence2", label="gold_label")
HUB_ROW = pair(LABELS, "premise", "hypothesis")
SPLITS = {"dev": "validation", "test": "test"}


def languages_of_tsv(path: Path) -> set[str]:
    return {line.partition("\t")[0] for number, line in lines(path) if number > 1}


def languages_of_json(path: Path) -> set[str]:
    return {str(row.get("language")) for _, row in json_lines(path)}


def read_all_languages(rows: Callable[[Path], Rows]) -> Read:
    """XNLI's own files hold every language; the language is a column."""

    def read(found: Found) -> Loaded:
        def mine(path: Path) -> Rows:
            return (r for r in rows(path) if r[1].get("language") == found.code)

        return by_row(mine, ROW)(found)

    return read


def read_xtreme(found: Found) -> Loaded:
    """XTREME's file of one language: no header, csv dialect; test labels from a list beside it, if that is present."""
    path, *labels = found.paths

    def rows(path: Path) -> Rows:
        gold = [row for _, row in tsv(labels[0])] if labels and found.split == "test" else []
        count = 0
        for where, row in tsv(path, columns=("sentence1", "sentence2", "gold_label"), quoted=True):
            if gold and count < len(gold):
                row["gold_label"] = gold[count]["gold_label"]
            count += 1
            yield where, row
        if gold and count != len(gold):
            raise XtlError(f"{path}: {count} rows, but {len(gold)} labels in {labels[0]}")

    return by_row(rows, ROW)(Found((path,), found.language, found.split, found.code))


def of_language(row: Mapping[str, Any], wanted: Wanted) -> bool:
    return bool(row.get("language") == wanted.language)


def nested(row: Mapping[str, Any], place: Place) -> Pair | None:
    """TFDS has all languages in one row: premise {language: text}, hypothesis {language: [...], translation: [...]}."""
    hypothesis = place.get(row, "hypothesis")
    languages = place.texts(hypothesis, "language")
    if place.language not in languages:
        raise XtlError(f"{place.where}: no hypothesis in {place.language!r} (found: {', '.join(languages)})")
    flat = {
        "premise": place.text(place.get(row, "premise"), place.language),
        "hypothesis": place.texts(hypothesis, "translation")[languages.index(place.language)],
        "label": row.get("label"),
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
                inside=languages_of_tsv,
                read=read_all_languages(tsv),
            ),
            At(
                paths=("XNLI-1.0/xnli.{split}.jsonl",),
                inside=languages_of_json,
                read=read_all_languages(json_lines),
            ),
            At(
                paths=("xtreme/{split}-{language}.tsv",),
                optional=("xtreme/test-labels.tsv",),
                read=read_xtreme,
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
