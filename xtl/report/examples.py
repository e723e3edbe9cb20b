"""Stored predictions against the gold, example by example, for paired tests over examples.

Every metric of the tables is a ratio of two sums over examples (accuracy: hits over examples; F1: twice the hits over
predicted plus gold items), so an example is two numbers, and the score of any resample of examples is exact.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xtl.benchmark.prediction_files import file_path, kind_of, parse_predictions
from xtl.data import sources
from xtl.errors import XtlError
from xtl.families import family
from xtl.metrics import qa
from xtl.metrics.retrieval import mean_average_precision, tatoeba_gold
from xtl.metrics.tagging import chunks
from xtl.runs.read import Stage
from xtl.task import Choice, Loaded, Task, Text
from xtl.tasks import get_task

CLOSE = 0.01  # points by which a recomputed score may differ from the recorded one

Gold = tuple[Task, str, Loaded]  # task, language, examples


def load_gold(stage: Stage, target: str, language: str) -> Gold:
    """The test examples that the stage was evaluated on; XtlError if their source is not available."""
    entry, task = stage.config["evaluate"][target], get_task(target)
    if entry["split"] != "test":
        raise XtlError(f"{target}: predictions are stored for test sets only, this is {entry['split']}")
    loaded = sources.load(task, language, entry["split"], stage.settings.data)
    if entry["limit"]:
        loaded = Loaded(loaded.examples[: entry["limit"]], loaded.gold)
    return task, language, loaded


def ratios(stage: Stage, gold: Gold, *, metric: str) -> np.ndarray:
    """float64 [N, 2]: what each example adds to the numerator and the denominator; the score is 100 x sum / sum.

    XtlError if predictions are missing, or do not give the recorded score: then they belong to other data.
    """
    task, language, loaded = gold
    recorded = stage.evaluations[task.name]["languages"][language].get(metric)
    if recorded is None:
        raise XtlError(f"{task.name} {language}: the test data has no labels")
    kind = kind_of(task.name, lambda _: family(task).file_kind(task))  # JAX only for tasks of no benchmark
    predicted = parse_predictions(file_path(f"{stage.folder}/predictions", task.name, language, kind), kind).trusted()
    pairs = np.array(_KINDS[kind](task, language, loaded, predicted, metric), float).reshape(-1, 2)
    score = 100 * pairs[:, 0].sum() / max(pairs[:, 1].sum(), 1e-12)
    if abs(score - recorded) > CLOSE:
        raise XtlError(
            f"{stage.name} {task.name} {language}: predictions score {score:.2f}, on record is {recorded:.2f}"
        )
    return pairs


Pairs = list[tuple[float, float]]  # (numerator, denominator) of each example


def _words(task: Task, language: str, loaded: Loaded, predicted: Sequence[Any], metric: str) -> Pairs:
    examples: Any = loaded.examples
    right = [x.label if isinstance(x, Choice) else task.labels[x.label] for x in examples]
    return [(float(a == b), 1.0) for a, b in zip(right, predicted, strict=True)]


def _tags(task: Task, language: str, loaded: Loaded, predicted: Sequence[Any], metric: str) -> Pairs:
    pairs: Pairs = []
    examples: Any = loaded.examples
    for example, tags in zip(examples, predicted, strict=True):
        gold = [task.labels[i] for i in example.tags]
        if metric == "accuracy":
            pairs.append((float(sum(a == b for a, b in zip(gold, tags, strict=True))), float(len(gold))))
        else:
            predicted_chunks, gold_chunks = set(chunks(tags)), set(chunks(gold))
            hits = len(predicted_chunks & gold_chunks)
            pairs.append((2.0 * hits, float(len(predicted_chunks) + len(gold_chunks))))
    return pairs


def _answers(task: Task, language: str, loaded: Loaded, predicted: Any, metric: str) -> Pairs:
    pairs: Pairs = []
    examples: Any = loaded.examples
    answerable = all(x.answers for x in examples)
    for x in examples:
        gold, answer = {x.id: tuple(text for text, _ in x.answers)}, {x.id: predicted.get(x.id, "")}
        if task.name == "mlqa":
            scores = qa.mlqa(gold, answer, language=language)
        else:
            scores = (qa.squad if answerable else qa.squad_v2)(gold, answer)
        pairs.append((scores[metric] / 100, 1.0))
    return pairs


def _rows(task: Task, language: str, loaded: Loaded, predicted: Sequence[Any], metric: str) -> Pairs:
    queries = [x for x in loaded.examples if isinstance(x, Text) and x.side == "query"]
    pool = {x.id: i for i, x in enumerate(x for x in loaded.examples if isinstance(x, Text) and x.side == "pool")}
    right, order = dict(loaded.gold), tatoeba_gold([x.text for x in queries])
    return [(float(pool[right[queries[q].id]] == row), 1.0) for q, row in zip(order, predicted, strict=True)]


def _pairs(task: Task, language: str, loaded: Loaded, predicted: Sequence[Any], metric: str) -> Pairs:
    gold, accepted = {tuple(pair) for pair in loaded.gold}, {tuple(pair) for pair in predicted}
    sums = {source: [0.0, 0.0] for source, _ in sorted(gold | accepted)}  # source sentences are what is resampled
    for pairs in (gold, accepted):
        for source, _ in pairs:
            sums[source][1] += 1
    for source, _ in gold & accepted:
        sums[source][0] += 2
    return [(numerator, denominator) for numerator, denominator in sums.values()]


def _rankings(task: Task, language: str, loaded: Loaded, predicted: Any, metric: str) -> Pairs:
    right: dict[str, list[str]] = {}
    for query, candidate in loaded.gold:
        right.setdefault(query, []).append(candidate)
    return [(mean_average_precision({q: ids}, predicted, strict=False) / 100, 1.0) for q, ids in right.items()]


_KINDS = {
    "labels": _words,
    "choices": _words,
    "tags": _tags,
    "answers": _answers,
    "rows": _rows,
    "pairs": _pairs,
    "rankings": _rankings,
}
