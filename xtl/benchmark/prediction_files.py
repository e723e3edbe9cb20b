"""The files of a predictions folder and of a labels folder: their names, formats, reading and writing.

    FOLDER/<task>/test-<language>.<suffix>

    kind      suffix  content                                                       tasks
    labels    tsv     one label word per line                                       xnli pawsx, other pair tasks
    tags      tsv     one tag per line, a blank line between sentences                udpos panx ccg
    answers   json    {question id: answer}; as labels the SQuAD layout             xquad mlqa tydiqa squad_v1 squad_v2
    pairs     tsv     xx-id <TAB> en-id, order free                                 bucc2018
    rows      tsv     0-based foreign row of each English line in sorted order      tatoeba
    choices   jsonl   {"label": index} per line, other keys are ignored               xcopa, other choice tasks
    rankings  json    {query id: [candidate ids, best first]}; as labels the right  mewslix lareqa

This is what google-research/xtreme's evaluate.py reads; `choices` for other tasks than xcopa, and lareqa, are ours.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xtl.errors import XtlError
from xtl.files import Pathish, join, read_text

MAX_RANKING = 20  # Mewsli-X and LAReQA are scored over the first 20 candidates

SUFFIX = {
    "labels": "tsv",
    "tags": "tsv",
    "answers": "json",
    "pairs": "tsv",
    "rows": "tsv",
    "choices": "jsonl",
    "rankings": "json",
}

_BENCHMARK_KINDS = {
    "xnli": "labels",
    "pawsx": "labels",
    "udpos": "tags",
    "panx": "tags",
    "xquad": "answers",
    "mlqa": "answers",
    "tydiqa": "answers",
    "bucc2018": "pairs",
    "tatoeba": "rows",
    "xcopa": "choices",
    "mewslix": "rankings",
    "lareqa": "rankings",
}


def kind_of(task: str, others: Callable[[str], str] | None = None) -> str:
    """The file kind of a task by name. others: returns that of a task that no benchmark has ("": it has none).

    XtlError for a task whose predictions have no form as a file.
    """
    kind = _BENCHMARK_KINDS.get(task) or (others(task) if others else "")
    if not kind:
        raise XtlError(f"task {task} (of no benchmark) has no form as a predictions file")
    return kind


def file_name(language: str, kind: str) -> str:
    """`test-<language>.<suffix>`"""
    return f"test-{language}.{SUFFIX[kind]}"


def file_path(folder: Pathish, task: str, language: str, kind: str) -> str:
    """`FOLDER/<task>/test-<language>.<suffix>`"""
    return join(folder, task, file_name(language, kind))


# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class Violation:
    """One fault of one file: `where` is "line 3", "id 56be4db0" or "" (the whole file)."""

    file: str
    where: str
    fault: str
    fatal: bool = False  # no score can be computed; otherwise the score is low

    def __str__(self) -> str:
        return f"{self.file}: {self.where + ': ' if self.where else ''}{self.fault}"


@dataclass
class Parsed:
    """The content of one file, and its violations of the format."""

    file: str
    content: Any
    violations: list[Violation] = field(default_factory=list)

    def report(self, where: str, fault: str, *, fatal: bool = False) -> None:
        self.violations.append(Violation(self.file, where, fault, fatal))

    def trusted(self) -> Any:
        """The content, or an XtlError with the first violation."""
        if self.violations:
            more = f" (and {len(self.violations) - 1} more like it)" if len(self.violations) > 1 else ""
            raise XtlError(f"{self.violations[0]}{more}")
        return self.content


def parse_predictions(file: str, kind: str) -> Parsed:
    """One predictions file; broken lines are reported and stand as None or are left out. XtlError if it is absent.

    Content by kind: labels list of words; tags list of sentences; answers {id: text}; pairs list of (xx-id, en-id);
    rows list of numbers; choices list of numbers; rankings {id: [candidate ids]}.
    """
    return _READERS[kind](file)


def parse_labels(file: str, kind: str) -> Parsed:
    """One labels file, as `parse_predictions`; answers become {id: (answer texts)}."""
    return _read_squad(file) if kind == "answers" else _READERS[kind](file)


def _text(parsed: Parsed) -> str:
    try:
        text = read_text(parsed.file)
    except FileNotFoundError:
        raise XtlError(f"{parsed.file} is missing") from None
    except UnicodeDecodeError as error:
        raise XtlError(f"{parsed.file}: not UTF-8 (byte {error.start})") from None
    if text.startswith("\ufeff"):
        parsed.report("line 1", "starts with a byte order mark; write plain UTF-8")
        text = text[1:]
    return text


def _lines(parsed: Parsed) -> list[str]:
    # Only line feeds and carriage returns end a line: a word may hold other separators (U+2028, U+0085).
    return [line.strip() for line in io.StringIO(_text(parsed), newline=None)]


def _read_words(file: str) -> Parsed:
    parsed = Parsed(file, [])
    parsed.content = _lines(parsed)
    for number, line in enumerate(parsed.content, start=1):
        if not line:
            parsed.report(f"line {number}", "is blank")
        elif "\t" in line:
            parsed.report(f"line {number}", "has several columns; one label per line")
    return parsed


def _read_tags(file: str) -> Parsed:
    """As the reference: every blank line ends a sentence, so two in a row make an empty one."""
    parsed = Parsed(file, [])
    sentence: list[str] = []
    for number, line in enumerate(_lines(parsed), start=1):
        if line:
            sentence.append(line)
            if "\t" in line:
                parsed.report(f"line {number}", "has several columns; one tag per line, without the word")
            continue
        if not sentence:
            parsed.report(f"line {number}", "is a blank line without a sentence before it")
        parsed.content.append(sentence)
        sentence = []
    if sentence:
        parsed.content.append(sentence)
    return parsed


def _read_rows(file: str) -> Parsed:
    parsed = Parsed(file, [])
    for number, line in enumerate(_lines(parsed), start=1):
        if not (line.isascii() and line.isdigit()):
            parsed.report(f"line {number}", f"{line!r} is not a row number")
        parsed.content.append(int(line) if line.isascii() and line.isdigit() else None)
    return parsed


def _read_pairs(file: str) -> Parsed:
    parsed = Parsed(file, [])
    for number, line in enumerate(_lines(parsed), start=1):
        ids = line.split("\t")
        if len(ids) == 2 and all(ids):
            parsed.content.append((ids[0], ids[1]))
        else:
            parsed.report(f"line {number}", f"{line!r} is not xx-id <TAB> en-id")
    return parsed


def _read_choices(file: str) -> Parsed:
    parsed = Parsed(file, [])
    for number, line in enumerate(_lines(parsed), start=1):
        try:
            label = json.loads(line)["label"]
        except (ValueError, KeyError, TypeError):
            label = None
        if type(label) is not int:
            parsed.report(f"line {number}", f'{line[:60]!r} is not an object with a whole number "label"')
            label = None
        parsed.content.append(label)
    return parsed


def _json(parsed: Parsed) -> Any:
    def unique_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in items:
            if key in values:
                parsed.report(f"id {key}", "occurs twice")
            values[key] = value
        return values

    try:
        return json.loads(_text(parsed), object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise XtlError(f"{parsed.file}: line {error.lineno}: not valid JSON ({error.msg})") from None


def _read_json_object(file: str, fits: Callable[[Any], bool], form: str) -> Parsed:
    parsed = Parsed(file, {})
    values = _json(parsed)
    if not isinstance(values, dict):
        raise XtlError(f"{file}: expected one JSON object, {form} by id")
    for key, value in values.items():
        if fits(value):
            parsed.content[key] = value
        else:
            parsed.report(f"id {key}", f"{json.dumps(value)[:60]} is not {form}")
    return parsed


def _read_answers(file: str) -> Parsed:
    return _read_json_object(file, lambda value: isinstance(value, str), "a text")


def _read_rankings(file: str) -> Parsed:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(candidate, str) for candidate in value)

    return _read_json_object(file, fits, "a list of ids")


def _read_squad(file: str) -> Parsed:
    parsed = Parsed(file, {})
    content = _json(parsed)
    try:
        articles = content["data"] if isinstance(content, dict) else content
        questions = [qa for article in articles for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
        for qa in questions:
            if qa["id"] in parsed.content:
                parsed.report(f"id {qa['id']}", "occurs twice")
            parsed.content[qa["id"]] = tuple(answer["text"] for answer in qa["answers"])
    except (KeyError, TypeError) as error:
        raise XtlError(f"{file}: not in the SQuAD layout (data, paragraphs, qas, id, answers, text): {error}") from None
    return parsed


_READERS: dict[str, Callable[[str], Parsed]] = {
    "labels": _read_words,
    "tags": _read_tags,
    "answers": _read_answers,
    "pairs": _read_pairs,
    "rows": _read_rows,
    "choices": _read_choices,
    "rankings": _read_rankings,
}


# ---------------------------------------------------------------- writing


def format_lines(lines: Sequence[str]) -> str:
    """The lines, each ended by a line feed."""
    return "".join(f"{line}\n" for line in lines)


def format_tags(sentences: Sequence[Sequence[str]]) -> str:
    """One tag per line, a blank line after every sentence."""
    return "".join("".join(f"{tag}\n" for tag in sentence) + "\n" for sentence in sentences)


def format_json(value: Any) -> str:
    """One JSON value on one line, Unicode as it is."""
    return json.dumps(value, ensure_ascii=False) + "\n"
