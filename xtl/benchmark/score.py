"""Scores of a predictions folder against a labels folder, as by google-research/xtreme's evaluate.py.

Faults of the files that the reference passes over in silence are errors or warnings here.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from xtl.benchmark.aggregate import MAIN_METRIC, get_benchmark, overall, task_averages
from xtl.benchmark.prediction_files import SUFFIX, file_path, kind_of, parse_labels, parse_predictions
from xtl.benchmark.validation import WORDS, check, expected_of_labels
from xtl.errors import XtlError
from xtl.files import Pathish
from xtl.metrics import qa
from xtl.metrics.classification import accuracy, accuracy_and_f1
from xtl.metrics.retrieval import mean_average_precision, pair_f1
from xtl.metrics.tagging import tagging_scores


def score_content(task: str, language: str, kind: str, gold: Any, predictions: Any) -> dict[str, float]:
    """The scores, 0..100, and `n` of one task and language from the contents of a labels and a predictions file."""
    scores: dict[str, float]
    if kind == "tags":
        scores = tagging_scores(gold, predictions)
    elif kind == "pairs":
        scores = pair_f1(gold, predictions)
    elif kind == "rankings":
        scores = {"map20": mean_average_precision(gold, predictions, strict=False)}
    elif kind == "answers":
        if task == "mlqa":
            scores = qa.mlqa(gold, predictions, language=language, strict=False)
        elif all(gold.values()):
            scores = qa.squad(gold, predictions, strict=False)
        else:
            scores = qa.squad_v2(gold, predictions)
    elif task == "qqp":  # in no benchmark; GLUE scores the F1 of duplicates
        scores = accuracy_and_f1(gold, predictions, positive="1")
    else:
        scores = {"accuracy": accuracy(gold, predictions)}
    return scores | {"n": len(gold)}


def score_folder(
    predictions: Pathish,
    labels: Pathish,
    benchmark: str | None = "xtreme",
    *,
    others: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """Scores all tasks of a benchmark ("xtreme", "xtreme-r") that have a folder in both `predictions` and `labels`.

    Returns a JSON-like dict:
      benchmark  its name
      tasks      {task: {"metric": key, "score": main score, None where languages are absent,
                  "average": {key: mean over the languages that are there},
                  "languages": {language: {key: 0..100, "n": examples}},
                  "absent": languages of the benchmark without a file in either folder}}
      groups     {group: mean of its tasks}, for groups with all tasks present
      overall    mean over all tasks of the benchmark, None if one is absent or lacks languages
      skipped    {task: why}, tasks of the benchmark that were not scored
      ignored    folders and files in `predictions` that are no task of it
      warnings   what lowers a score but does not stop the reference: unknown labels, missing or foreign ids

    benchmark=None scores every folder that both have, in the languages of the labels, and gives no overall score; for
    tasks of no benchmark `others` returns the kind of their files (see `kind_of`).
    XtlError names the file (and line) that stops the scoring: a file of a language missing in one folder, a broken
    line, other numbers of lines or sentences than the labels have, or a sentence of another length. The reference
    stops for the first and the third, counts broken lines as wrong and, with seqeval 0.0.12, shifts sentences against
    each other.
    """
    for folder in (predictions, labels):
        if not os.path.isdir(folder):
            raise XtlError(f"{os.fspath(folder)} is not a folder")
    predicted, labelled = _folders(predictions), _folders(labels)
    shared = sorted(predicted & labelled)
    definition = get_benchmark(benchmark) if benchmark else None
    tasks = list(definition.languages) if definition else shared
    skipped = {
        task: f"no folder {task} in {os.fspath(predictions if task not in predicted else labels)}"
        for task in tasks
        if task not in shared
    }
    if len(skipped) == len(tasks):
        names = ", ".join(tasks) or "any name"
        raise XtlError(f"no task to score: {os.fspath(predictions)} and {os.fspath(labels)} share no folder of {names}")
    warnings: list[str] = []
    scored: dict[str, Any] = {}
    for task in tasks:
        if task in skipped:
            continue
        kind = kind_of(task, others)
        languages = definition.languages[task] if definition else _labelled_languages(labels, task, kind)
        absent = [code for code in languages if not _anywhere(predictions, labels, task, code, kind)]
        there = [code for code in languages if code not in absent]
        if not there:
            skipped[task] = f"no file of any of its {len(languages)} languages in either folder"
            continue
        scores = {code: _score_files(predictions, labels, task, code, kind, warnings) for code in there}
        averages = task_averages(task, scores)
        metric = MAIN_METRIC.get(task) or _main_metric(averages)
        # An average over other languages than the benchmark's is not the benchmark's score.
        score = None if absent else averages[metric]
        scored[task] = {"metric": metric, "score": score, "average": averages, "languages": scores, "absent": absent}
    complete = {task: result["score"] for task, result in scored.items() if result["score"] is not None}
    groups = overall(complete, benchmark) if benchmark else {}
    return {
        "benchmark": benchmark,
        "tasks": scored,
        "overall": groups.pop("overall", None),
        "groups": groups,
        "skipped": skipped,
        "ignored": sorted(set(os.listdir(predictions)) - set(tasks)),
        "warnings": warnings,
    }


def _anywhere(predictions: Pathish, labels: Pathish, task: str, language: str, kind: str) -> bool:
    """Whether a language has a file in one of the two folders; with one alone the other is missed."""
    return any(os.path.exists(file_path(folder, task, language, kind)) for folder in (predictions, labels))


def _folders(path: Pathish) -> set[str]:
    return {name for name in os.listdir(path) if os.path.isdir(os.path.join(path, name))}


def _labelled_languages(labels: Pathish, task: str, kind: str) -> tuple[str, ...]:
    suffix = f".{SUFFIX[kind]}"
    names = sorted(os.listdir(os.path.join(labels, task)))
    codes = [n[len("test-") : -len(suffix)] for n in names if n.startswith("test-") and n.endswith(suffix)]
    if not codes:
        raise XtlError(f"{os.path.join(labels, task)} has no file test-<language>{suffix}")
    return tuple(codes)


def _main_metric(averages: Mapping[str, float]) -> str:
    return next(key for key in ("accuracy_f1", "em_f1", "map20", "f1", "accuracy") if key in averages)


def _score_files(
    predictions: Pathish, labels: Pathish, task: str, language: str, kind: str, warnings: list[str]
) -> dict[str, float]:
    gold = parse_labels(file_path(labels, task, language, kind), kind)
    predicted = parse_predictions(file_path(predictions, task, language, kind), kind)
    expected = expected_of_labels(gold.trusted(), kind, WORDS.get(task, ()))
    predicted.trusted()
    violations = check(predicted, kind, language, expected)
    for violation in violations:
        if violation.fatal:
            raise XtlError(f"{violation} ({gold.file})")
    warnings += [str(violation) for violation in violations]
    try:
        return score_content(task, language, kind, gold.content, predicted.content)
    except XtlError as error:
        raise XtlError(f"{predicted.file}: {error} ({gold.file})") from None
