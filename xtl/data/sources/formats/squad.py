"""SQuAD's nested JSON, which XQuAD, MLQA and TyDiQA-GoldP share: data > paragraphs > qas > answers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from xtl.data.sources.formats import fields
from xtl.data.sources.formats.base import Place, Read, SplitFiles, collect
from xtl.data.sources.formats.examples import offset_unit, span
from xtl.data.sources.formats.text import json_file
from xtl.errors import XtlError
from xtl.task import Loaded, Span


def questions(path: Path, *, keep: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and id, question object with its paragraph's context and, where there, the keys `keep`) in file order."""
    document = json_file(path)
    for article in _list(document, "data", str(path)):
        for paragraph in _list(article, "paragraphs", str(path)):
            for qa in _list(paragraph, "qas", str(path)):
                if not isinstance(qa, Mapping):
                    raise XtlError(f"{path}: an entry of 'qas' should be an object, it is {fields.shown(qa)}")
                where = f"{path}: id {qa.get('id', '(none)')}"
                if "context" not in paragraph:
                    raise XtlError(f"{where}: its paragraph has no context")
                yield where, {**qa, **{key: paragraph[key] for key in ("context", *keep) if key in paragraph}}


def _list(parent: Any, key: str, where: str) -> list:
    if not isinstance(parent, Mapping) or not isinstance(parent.get(key), list):
        raise XtlError(f"{where}: not SQuAD's JSON layout: no list {key!r}")
    return parent[key]


def question(row: Mapping[str, Any], place: Place, *, unit: str = "") -> Span | None:
    """A question object; only a test set may have questions without the key `answers`, whose answers are hidden."""
    id, asked = place.name(row, "id"), place.text(row, "question")
    context = place.text(row, "context", strip=False)
    if place.split == "test" and row.get("answers") is None and "is_impossible" not in row:
        return Span(id, asked, context, None)  # type: ignore[arg-type]
    answers = []
    if not row.get("is_impossible", False):
        for answer in fields.records(row, "answers", place.where):
            text, start = fields.plain(answer.get("text")), fields.plain(answer.get("answer_start"))
            if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
                raise XtlError(f"{place.where}: an answer needs a text and an integer answer_start, there is {answer}")
            answers.append((fields.whole(text, "text", place.where), start))
    return span(place, id=id, question=asked, context=context, answers=answers, unit=unit)


def _offsets(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, int]]:
    """(context, answer, offset) of the answers that have them; the others are judged where they are read."""
    for row in rows:
        answers = row.get("answers")
        for answer in answers if isinstance(answers, list) else ():
            if isinstance(answer, Mapping):
                match row.get("context"), answer.get("text"), answer.get("answer_start"):
                    case str(context), str(text), int(start) if text:
                        yield context, text, start


def read(*, only: Callable[[str, str], bool] | None = None) -> Read:
    """Reader of whole files; `only(question id, language)` picks one language out of a mixed file."""

    def read_files(files: SplitFiles) -> Loaded:
        rows = [r for path in files.paths for r in questions(path)]
        if only is not None:
            rows = [r for r in rows if only(str(r[1].get("id", "")), files.language)]
        unit, doubtful = offset_unit(_offsets(row for _, row in rows))
        loaded = collect(rows, partial(question, unit=unit), language=files.language, split=files.split)
        loaded.dropped += doubtful
        return loaded

    return read_files
