"""Writing a predictions folder: from examples and predictions, or from the folders of several stages."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xtl.benchmark.aggregate import get_benchmark
from xtl.benchmark.prediction_files import (
    MAX_RANKING,
    file_path,
    format_json,
    format_lines,
    format_tags,
    kind_of,
)
from xtl.errors import XtlError
from xtl.files import Pathish, atomic_write
from xtl.metrics.retrieval import tatoeba_gold
from xtl.task import Example, Task, Text


def write_predictions(
    folder: Pathish, task: Task, language: str, examples: Sequence[Example], predictions: Any, *, kind: str = ""
) -> str:
    """Writes FOLDER/<task>/test-<language>.<suffix> (formats: prediction_files.py) and returns its path.

    Predictions come one per example, in order: a label word or index (pair), an index (choice), a text (span), tag
    words or indices, one per word (tag). Retrieval: the row or id of the nearest pool sentence of each query, in the
    order of the query examples (Tatoeba; its file has them in sorted order of the query texts); the accepted
    (xx-id, en-id) pairs (BUCC); the ranked candidate ids of each query, in order or by query id (Mewsli-X, LAReQA).
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
    for e, predicted in _in_step(where, queries, predictions):
        row = row_of.get(predicted, -1) if isinstance(predicted, str) else int(predicted)
        if not 0 <= row < len(pool):
            raise XtlError(f"{where}: {e.id}: {predicted!r} is no row or id of the {len(pool)} pool sentences")
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
