"""Checking a predictions folder before it is submitted or scored: files, formats, label words, ids, counts, order."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xtl.benchmark.aggregate import Benchmark, get_benchmark
from xtl.benchmark.prediction_files import (
    MAX_RANKING,
    Parsed,
    Violation,
    file_name,
    file_path,
    kind_of,
    parse_labels,
    parse_predictions,
)
from xtl.errors import XtlError
from xtl.files import Pathish
from xtl.task import NLI, PANX_TAGS, UPOS, Loaded, Tagged, Text

# The words that labels may consist of, by task.
WORDS: dict[str, tuple[str, ...]] = {
    "xnli": NLI,
    "pawsx": ("0", "1"),
    "udpos": UPOS,
    "panx": PANX_TAGS,
    "xcopa": ("0", "1"),
}


@dataclass(frozen=True)
class Expected:
    """What the inputs or the labels of one task and language require of the predictions; None: unknown."""

    count: int | None = None
    lengths: tuple[int, ...] | None = None  # words of each sentence
    ids: frozenset[str] | None = None  # query ids
    pool: frozenset[str] | None = None  # ids that may stand in a pair
    rows: int | None = None  # sentences on the foreign side
    words: tuple[str, ...] = ()


def validate(
    folder: Pathish,
    *,
    benchmark: str = "xtreme",
    labels: Pathish | None = None,
    inputs: Callable[[str, str], Loaded | None] | None = None,
    tasks: Collection[str] = (),
) -> list[Violation]:
    """Everything that is wrong with a predictions folder; an empty list means it can be submitted.

    Always checked: that exactly the files of every task are there, formats, label words. With a labels folder, or with
    the inputs as a function (task, language) -> Loaded (unlabelled will do; None: unknown), also: line counts,
    sentence lengths, ids, and order as far as lengths show it. `tasks` limits the check to some tasks.
    """
    definition = get_benchmark(benchmark)
    checked = tuple(tasks) or tuple(definition.languages)
    if foreign := [task for task in checked if task not in definition.languages]:
        raise XtlError(f"task {foreign[0]} is not part of {benchmark} ({', '.join(definition.languages)})")
    if not os.path.isdir(folder):
        raise XtlError(f"{os.fspath(folder)} is not a folder")
    violations = [Violation(os.path.join(folder, name), "", text) for name, text in _foreign(folder, definition)]
    for task in checked:
        languages = definition.languages[task]
        if not os.path.isdir(os.path.join(folder, task)):
            missing = f"folder is missing ({len(languages)} languages)"
            violations.append(Violation(os.path.join(folder, task), "", missing))
            continue
        for language in languages:
            kind = kind_of(task)
            expected = _expected(task, language, kind, labels, inputs)
            violations += _check_file(file_path(folder, task, language, kind), kind, language, expected)
    return violations


def _check_file(file: str, kind: str, language: str, expected: Expected) -> list[Violation]:
    try:
        parsed = parse_predictions(file, kind)
    except XtlError as error:
        return [Violation(file, "", str(error).removeprefix(file).lstrip(": "))]
    return parsed.violations + check(parsed, kind, language, expected)


def _foreign(folder: Pathish, definition: Benchmark) -> Iterator[tuple[str, str]]:
    for name in sorted(os.listdir(folder)):
        if name not in definition.languages:
            yield name, f"is not a task of {definition.name} and would be ignored"
        elif os.path.isdir(os.path.join(folder, name)):
            files = {file_name(language, kind_of(name)) for language in definition.languages[name]}
            for file in sorted(set(os.listdir(os.path.join(folder, name))) - files):
                yield os.path.join(name, file), "is not a file of this task and would be ignored"


def _expected(
    task: str,
    language: str,
    kind: str,
    labels: Pathish | None,
    inputs: Callable[[str, str], Loaded | None] | None,
) -> Expected:
    words = WORDS.get(task, ())
    if labels is not None and os.path.exists(file := file_path(labels, task, language, kind)):
        return expected_of_labels(parse_labels(file, kind).trusted(), kind, words)
    loaded = inputs(task, language) if inputs is not None else None
    if loaded is None:
        return Expected(words=words)
    texts = [e for e in loaded.examples if isinstance(e, Text)]
    queries = [e for e in loaded.examples if not (isinstance(e, Text) and e.side == "pool")]
    return Expected(
        count=len(queries),
        lengths=tuple(len(e.words) for e in queries if isinstance(e, Tagged)),
        ids=frozenset(e.id for e in queries),
        pool=frozenset(e.id for e in loaded.examples),
        rows=sum(e.side == "pool" for e in texts),
        words=words,
    )


def expected_of_labels(content: Any, kind: str, words: tuple[str, ...] = ()) -> Expected:
    """What the content of a labels file requires of the predictions."""
    complete = kind == "rows" and sorted(content) == list(range(len(content)))  # else it is a part of the file
    return Expected(
        count=len(content) if kind != "pairs" else None,
        lengths=tuple(map(len, content)) if kind == "tags" else None,
        ids=frozenset(content) if kind in ("answers", "rankings") else None,
        rows=len(content) if complete else None,
        words=words,
    )


def check(parsed: Parsed, kind: str, language: str, expected: Expected) -> list[Violation]:
    """What is wrong with the content of one predictions file, beyond its format."""
    report = Parsed(parsed.file, None)
    if kind in ("labels", "rows", "choices", "tags") and expected.count not in (None, len(parsed.content)):
        unit = "sentences" if kind == "tags" else "lines"
        report.report("", f"{len(parsed.content)} {unit} instead of {expected.count}", fatal=True)
    _CHECKS[kind](report, parsed.content, expected, language)
    return report.violations


def _check_labels(report: Parsed, words: Sequence[str], expected: Expected, language: str) -> None:
    _check_words(report, enumerate(words, start=1), expected.words)


def _check_choices(report: Parsed, choices: Sequence[int | None], expected: Expected, language: str) -> None:
    numbered = ((number, str(label)) for number, label in enumerate(choices, start=1) if label is not None)
    _check_words(report, numbered, expected.words)


def _check_words(report: Parsed, numbered: Iterable[tuple[int, str]], words: tuple[str, ...]) -> None:
    for number, word in numbered:
        if words and word and word not in words:
            report.report(f"line {number}", f"{word!r} is not one of {' '.join(words)}")


def _check_tags(report: Parsed, sentences: Sequence[Sequence[str]], expected: Expected, language: str) -> None:
    line, lengths = 1, tuple(map(len, sentences))
    expected_lengths = expected.lengths if expected.lengths and len(expected.lengths) == len(lengths) else lengths
    shuffled = lengths != expected_lengths and sorted(lengths) == sorted(expected_lengths)
    if shuffled:
        report.report(
            "", "sentences are out of order: every expected length occurs, but not where it should", fatal=True
        )
    for number, (sentence, length) in enumerate(zip(sentences, expected_lengths, strict=True), start=1):
        _check_words(report, enumerate(sentence, start=line), expected.words)
        if len(sentence) != length and not shuffled:
            report.report(f"line {line}", f"sentence {number} has {len(sentence)} tags for {length} words", fatal=True)
        line += len(sentence) + 1


def _check_rows(report: Parsed, rows: Sequence[int | None], expected: Expected, language: str) -> None:
    for number, row in enumerate(rows, start=1):
        if expected.rows is not None and row is not None and row >= expected.rows:
            report.report(f"line {number}", f"row {row} is beyond the {expected.rows} foreign sentences")


def _check_pairs(report: Parsed, pairs: Sequence[tuple[str, str]], expected: Expected, language: str) -> None:
    for number, (source, target) in enumerate(pairs, start=1):
        if not source.startswith(f"{language}-") or not target.startswith("en-"):
            report.report(f"line {number}", f"expected {language}-... <TAB> en-..., not {source} and {target}")
        elif expected.pool is not None and not expected.pool.issuperset((source, target)):
            report.report(f"line {number}", f"{source} or {target} is no id of the corpus")


def _check_answers(report: Parsed, answers: Mapping[str, Any], expected: Expected, language: str) -> None:
    if expected.ids is None:
        return
    for key in sorted(expected.ids - set(answers)):
        report.report(f"id {key}", "has no prediction and scores 0")
    for key in answers:
        if key not in expected.ids:
            report.report(f"id {key}", "is not an id of this test set")


def _check_rankings(report: Parsed, rankings: Mapping[str, Sequence[str]], expected: Expected, language: str) -> None:
    _check_answers(report, rankings, expected, language)
    for key, candidates in rankings.items():
        if len(candidates) > MAX_RANKING:
            report.report(f"id {key}", f"{len(candidates)} candidates; only the first {MAX_RANKING} count")
        if len(set(candidates)) < len(candidates):
            report.report(f"id {key}", "lists a candidate twice")


_CHECKS: dict[str, Callable[[Parsed, Any, Expected, str], None]] = {
    "labels": _check_labels,
    "tags": _check_tags,
    "answers": _check_answers,
    "pairs": _check_pairs,
    "rows": _check_rows,
    "choices": _check_choices,
    "rankings": _check_rankings,
}
