"""Writing a predictions folder from examples and predictions, and checking one before it leaves the house."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtl.benchmark.aggregate import Benchmark, get_benchmark
from xtl.benchmark.prediction_files import (
    Parsed,
    Violation,
    file_name,
    file_path,
    format_json,
    format_lines,
    format_tags,
    kind_of,
    parse_labels,
    parse_predictions,
)
from xtl.errors import XtlError
from xtl.files import Pathish, atomic_write
from xtl.metrics.retrieval import tatoeba_gold
from xtl.task import NLI, PANX_TAGS, UPOS, Example, Loaded, Span, Tagged, Task, Text

MAX_RANKING = 20  # Mewsli-X and LAReQA are scored over the first 20 candidates

# The words evaluate.py's labels are made of.
WORDS: dict[str, tuple[str, ...]] = {
    "xnli": NLI,
    "pawsx": ("0", "1"),
    "udpos": UPOS,
    "panx": PANX_TAGS,
    "xcopa": ("0", "1"),
}


# ---------------------------------------------------------------- writing


def write_predictions(
    folder: Pathish, task: Task, language: str, examples: Sequence[Example], predictions: Any, *, kind: str = ""
) -> str:
    """Writes FOLDER/<task>/test-<language>.<suffix> (formats: prediction_files.py) and returns its path.

    Predictions come one per example, in order: a label word or index (pair), an index (choice), a text (span), tag
    words or indices, one a word (tag). Retrieval: per query the row or id of its nearest pool sentence (Tatoeba, in
    the order of the query examples; the file wants them in sorted order of the query texts), the accepted
    (xx-id, en-id) pairs (BUCC), per query its ranked candidate ids, or these by query id (Mewsli-X, LAReQA).
    kind: of the file, for a task that no benchmark has. XtlError if predictions and examples do not fit together.
    """
    kind = kind or kind_of(task.name)
    path = file_path(folder, task.name, language, kind)
    atomic_write(path, _FORMATTERS[kind](task, f"{task.name} {language}", examples, predictions))
    return path


def _in_step(where: str, examples: Sequence[Any], predictions: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(predictions) != len(examples):
        raise XtlError(f"{where}: {len(predictions)} predictions for {len(examples)} examples")
    return list(zip(examples, predictions, strict=True))


def _side(examples: Sequence[Any], side: str) -> list[Any]:
    return [e for e in examples if isinstance(e, Text) and e.side == side]


def _format_labels(task: Task, where: str, examples: Sequence[Any], predictions: Any) -> str:
    return format_lines([_word(task, label, f"{where}: {e.id}") for e, label in _in_step(where, examples, predictions)])


def _format_tagged(task: Task, where: str, examples: Sequence[Any], predictions: Any) -> str:
    sentences = []
    for e, tags in _in_step(where, examples, predictions):
        if len(tags) != len(e.words):
            raise XtlError(f"{where}: {e.id}: {len(tags)} tags for {len(e.words)} words")
        sentences.append([_word(task, tag, f"{where}: {e.id}") for tag in tags])
    return format_tags(sentences)


def _format_answers(task: Task, where: str, examples: Sequence[Any], predictions: Any) -> str:
    return format_json(_by_id(where, {e.id: text for e, text in _in_step(where, examples, predictions)}, examples))


def _format_choices(task: Task, where: str, examples: Sequence[Any], predictions: Any) -> str:
    lines = []
    for e, label in _in_step(where, examples, predictions):
        if not 0 <= label < len(e.choices):
            raise XtlError(f"{where}: {e.id}: there is no choice {label} among {len(e.choices)}")
        lines.append(format_json({"id": e.id, "label": int(label)}).rstrip("\n"))
    return format_lines(lines)


def _format_rankings(task: Task, where: str, examples: Sequence[Any], predictions: Any) -> str:
    queries = _side(examples, "query")
    if not isinstance(predictions, Mapping):
        predictions = {e.id: ranking for e, ranking in _in_step(where, queries, predictions)}
    return format_json(_by_id(where, {q: list(ids)[:MAX_RANKING] for q, ids in predictions.items()}, queries))


def _format_rows(task: Task, where: str, examples: Sequence[Any], predictions: Any) -> str:
    queries, pool = _side(examples, "query"), _side(examples, "pool")
    row_of = {e.id: row for row, e in enumerate(pool)}
    rows = []
    for e, found in _in_step(where, queries, predictions):
        row = row_of.get(found, -1) if isinstance(found, str) else int(found)
        if not 0 <= row < len(pool):
            raise XtlError(f"{where}: {e.id}: {found!r} is no row or id of the {len(pool)} pool sentences")
        rows.append(row)
    return format_lines([str(rows[query]) for query in tatoeba_gold([e.text for e in queries])])


def _format_pairs(task: Task, where: str, examples: Sequence[Any], predictions: Any) -> str:
    known = {e.id for e in examples}
    for ids in predictions:
        if len(ids) != 2 or not known.issuperset(ids):
            raise XtlError(f"{where}: {tuple(ids)!r} is not a pair of sentence ids of this corpus")
    return format_lines(["\t".join(ids) for ids in predictions])


_FORMATTERS: dict[str, Callable[[Task, str, Sequence[Any], Any], str]] = {
    "labels": _format_labels,
    "tags": _format_tagged,
    "answers": _format_answers,
    "choices": _format_choices,
    "rankings": _format_rankings,
    "rows": _format_rows,
    "pairs": _format_pairs,
}


def _word(task: Task, label: Any, where: str) -> str:
    if isinstance(label, str):
        task.label_id(label, where)
        return label
    if not 0 <= label < len(task.labels):
        raise XtlError(f"{where}: {label} is no index of the {len(task.labels)} labels of task {task.name}")
    return task.labels[label]


def _by_id(where: str, values: dict[str, Any], examples: Sequence[Example]) -> dict[str, Any]:
    ids = Counter(e.id for e in examples)
    if repeated := [key for key, times in ids.items() if times > 1]:
        raise XtlError(f"{where}: id {repeated[0]} occurs {ids[repeated[0]]} times; a JSON file can hold it only once")
    if foreign := [key for key in values if key not in ids]:
        raise XtlError(f"{where}: prediction for unknown id {foreign[0]}")
    return values


def write_labels(folder: Pathish, task: Task, language: str, loaded: Loaded) -> str:
    """Writes the gold of labelled examples as FOLDER/<task>/test-<language>.<suffix> and returns its path.

    XTREME strips the labels from the test sets it prepares; those of public sources make a labels folder for
    `score.score_folder`. XtlError for an example without label.
    """
    kind, where, examples = kind_of(task.name), f"{task.name} {language}", loaded.examples
    if kind in ("pairs", "rankings"):
        labelled: Sequence[Any] = ()
        gold: Any = loaded.gold
        hidden = "the corpus" if not gold else ""
    else:
        right = dict(loaded.gold)
        labelled = _side(examples, "query") if kind == "rows" else examples
        gold = [right.get(e.id) if isinstance(e, Text) else _label(e) for e in labelled]
        hidden = labelled[gold.index(None)].id if None in gold else ""
    if hidden:
        raise XtlError(f"{where}: {hidden} has no label; a hidden test set cannot make a labels folder")

    if kind == "answers":
        text = format_json({"data": [{"paragraphs": [_squad_paragraph(e) for e in labelled]}]})
    elif kind == "rankings":
        candidates: dict[str, list[str]] = {}
        for query, candidate in gold:
            candidates.setdefault(query, []).append(candidate)
        text = format_json(candidates)
    else:
        text = _FORMATTERS[kind](task, where, examples, gold)
    path = file_path(folder, task.name, language, kind)
    atomic_write(path, text)
    return path


def _label(example: Any) -> Any:
    """None if it is hidden."""
    if isinstance(example, Tagged):
        return example.tags
    return example.answers if isinstance(example, Span) else example.label


def _squad_paragraph(example: Span) -> dict[str, Any]:
    answers = [{"text": text, "answer_start": start} for text, start in example.answers]
    question = {"id": example.id, "question": example.question, "answers": answers}
    return {"context": example.context, "qas": [question]}


def assemble(sources: Mapping[str, Pathish], out: Pathish, *, benchmark: str = "xtreme") -> list[str]:
    """Copies the files of a benchmark's tasks from the predictions folders of several stages into the new folder `out`.

    `sources` names for each task the predictions folder that holds it. Returns the paths written. XtlError for a task
    foreign to the benchmark, an absent file, or an `out` that has content.
    """
    languages = get_benchmark(benchmark).languages
    if os.path.isdir(out) and os.listdir(out):
        raise XtlError(f"{os.fspath(out)} is not empty; name a new folder, so that no old prediction stays in it")
    copies = []
    for task, folder in sources.items():
        if task not in languages:
            raise XtlError(f"task {task} is not part of {benchmark} ({', '.join(languages)})")
        kind = kind_of(task)
        copies += [(file_path(folder, task, code, kind), file_path(out, task, code, kind)) for code in languages[task]]
    if absent := [source for source, _ in copies if not os.path.exists(source)]:
        raise XtlError(
            f"{absent[0]} is missing ({len(absent)} of {len(copies)} files are); evaluate all languages first"
        )
    for source, target in copies:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return [target for _, target in copies]


# ---------------------------------------------------------------- validation


@dataclass(frozen=True)
class Expected:
    """What the inputs or the labels of one task and language demand of the predictions; None: unknown."""

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

    Checked without any reference: that every file of every task is there and no other, formats, label words. Against
    a labels folder, or the inputs as a function (task, language) -> Loaded (unlabelled will do; None: unknown), also:
    line counts, sentence lengths, ids, order as far as lengths show it. `tasks` limits the check to some tasks.
    """
    definition = get_benchmark(benchmark)
    wanted = tuple(tasks) or tuple(definition.languages)
    if foreign := [task for task in wanted if task not in definition.languages]:
        raise XtlError(f"task {foreign[0]} is not part of {benchmark} ({', '.join(definition.languages)})")
    if not os.path.isdir(folder):
        raise XtlError(f"{os.fspath(folder)} is not a folder")
    violations = [Violation(os.path.join(folder, name), "", what) for name, what in _strangers(folder, definition)]
    for task in wanted:
        kind = kind_of(task)
        if not os.path.isdir(os.path.join(folder, task)):
            languages = len(definition.languages[task])
            violations.append(Violation(os.path.join(folder, task), "", f"folder is missing ({languages} languages)"))
            continue
        for language in definition.languages[task]:
            file = file_path(folder, task, language, kind)
            expected = _expected(task, language, kind, labels, inputs)
            try:
                parsed = parse_predictions(file, kind)
            except XtlError as error:
                violations.append(Violation(file, "", str(error).removeprefix(file).lstrip(": ")))
                continue
            violations += parsed.violations
            violations += check(parsed, kind, language, expected)
    return violations


def _strangers(folder: Pathish, definition: Benchmark) -> Iterator[tuple[str, str]]:
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
    """What the content of a labels file demands."""
    whole = kind == "rows" and sorted(content) == list(range(len(content)))  # else it is a part of the real file
    return Expected(
        count=len(content) if kind != "pairs" else None,
        lengths=tuple(map(len, content)) if kind == "tags" else None,
        ids=frozenset(content) if kind in ("answers", "rankings") else None,
        rows=len(content) if whole else None,
        words=words,
    )


def check(parsed: Parsed, kind: str, language: str, expected: Expected) -> list[Violation]:
    """What is wrong with one parsed predictions file beyond its format."""
    found = Parsed(parsed.file, None)
    if kind in ("labels", "rows", "choices", "tags"):
        unit = "sentences" if kind == "tags" else "lines"
        if expected.count is not None and len(parsed.content) != expected.count:
            found.report("", f"{len(parsed.content)} {unit} instead of {expected.count}", fatal=True)
    if kind == "labels":
        _check_words(found, enumerate(parsed.content, start=1), expected.words)
    elif kind == "tags":
        _check_sentences(found, parsed.content, expected)
    elif kind == "choices":
        numbered = ((n, str(label)) for n, label in enumerate(parsed.content, start=1) if label is not None)
        _check_words(found, numbered, expected.words)
    elif kind == "rows":
        for number, row in enumerate(parsed.content, start=1):
            if expected.rows is not None and row is not None and row >= expected.rows:
                found.report(f"line {number}", f"row {row} is beyond the {expected.rows} foreign sentences")
    elif kind == "pairs":
        for number, (source, target) in enumerate(parsed.content, start=1):
            if not source.startswith(f"{language}-") or not target.startswith("en-"):
                found.report(f"line {number}", f"expected {language}-... <TAB> en-..., found {source} and {target}")
            elif expected.pool is not None and not expected.pool.issuperset((source, target)):
                found.report(f"line {number}", f"{source} or {target} is no id of the corpus")
    else:
        _check_ids(found, parsed.content, expected)
        for key, value in parsed.content.items():
            if kind == "rankings" and len(value) > MAX_RANKING:
                found.report(f"id {key}", f"{len(value)} candidates; only the first {MAX_RANKING} count")
            if kind == "rankings" and len(set(value)) < len(value):
                found.report(f"id {key}", "lists a candidate twice")
    return found.violations


def _check_words(found: Parsed, numbered: Iterable[tuple[int, str]], words: tuple[str, ...]) -> None:
    for number, word in numbered:
        if words and word and word not in words:
            found.report(f"line {number}", f"{word!r} is not one of {' '.join(words)}")


def _check_sentences(found: Parsed, sentences: Sequence[Sequence[str]], expected: Expected) -> None:
    line, lengths = 1, tuple(map(len, sentences))
    expected_lengths = expected.lengths if expected.lengths and len(expected.lengths) == len(lengths) else lengths
    shuffled = lengths != expected_lengths and sorted(lengths) == sorted(expected_lengths)
    if shuffled:
        found.report(
            "", "sentences are out of order: every expected length occurs, but not where it should", fatal=True
        )
    for number, (sentence, length) in enumerate(zip(sentences, expected_lengths, strict=True), start=1):
        _check_words(found, enumerate(sentence, start=line), expected.words)
        if len(sentence) != length and not shuffled:
            found.report(f"line {line}", f"sentence {number} has {len(sentence)} tags for {length} words", fatal=True)
        line += len(sentence) + 1


def _check_ids(found: Parsed, content: Mapping[str, Any], expected: Expected) -> None:
    if expected.ids is None:
        return
    for key in sorted(expected.ids - set(content)):
        found.report(f"id {key}", "has no prediction and scores 0")
    for key in content:
        if key not in expected.ids:
            found.report(f"id {key}", "is not an id of this test set")
