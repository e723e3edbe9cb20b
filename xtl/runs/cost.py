"""What a stage costs in examples, tokens and FLOPs, and what a graph costs in chip-hours; nothing is run.

Training is three forwards, evaluation one (xtl.models.flops). Sizes of data are the catalog's, the world's, or counted
from the token cache.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xtl import world
from xtl.config.completion import for_run, task_weights, with_steps
from xtl.config.schema import EvaluatedTask, Stage, TrainedTask
from xtl.data import sources
from xtl.families import family
from xtl.models import flops
from xtl.parallel.chips import accelerators
from xtl.runs.pipeline import Unit
from xtl.task import Task, with_options
from xtl.tasks import get_task

TYPICAL = 0.5  # of max_length: the mean length assumed where nothing was counted; about half of a padded row is padding


@dataclass
class Cost:
    """What a unit of work takes."""

    steps: int
    examples: float
    tokens: float
    flops: float


@dataclass(frozen=True)
class Sizes:
    """Examples of one (task, split) over its languages, and moments of the lengths of their segments."""

    examples: int
    tokens: float  # mean per example
    pairs: float  # mean per example of the sum of segment length^2


@dataclass(frozen=True, kw_only=True)
class Use:
    """Data that a stage trains on or evaluates."""

    task: Task
    split: str
    entry: TrainedTask | EvaluatedTask
    stage: Stage
    max_length: int


Measure = Callable[[Use], Sizes | None]  # None where the size of the data is not known


def unit_cost(unit: Unit, measure: Measure) -> Cost | None:
    """What a unit takes in training and in its evaluations; None where the size of its training data is not known."""
    stage = unit.stage
    cost = Cost(0, 0, 0, 0)
    if stage.tasks:
        sizes = _training_sizes(stage, measure)
        if sizes is None:
            return _of_given_steps(stage)
        counts = {name: size.examples for name, size in sizes.items()}
        cost.steps, shares = with_steps(stage, counts).train.steps, task_weights(stage, counts)
        for name, entry in stage.tasks.items():
            _add(cost, sizes[name], cost.steps * shares[name] * entry.batch_size, stage, get_task(name), train=True)
    for name, evaluated in stage.evaluate.items():
        _add_evaluation(cost, stage, name, evaluated, measure)
    if stage.tasks and stage.select.every:
        judged = EvaluatedTask(languages=stage.select.languages, split="dev", limit=stage.select.examples)
        for name in stage.select.tasks:  # as often as without early stopping
            _add_evaluation(cost, stage, name, judged, measure, times=cost.steps // stage.select.every)
    return cost


def _add_evaluation(
    cost: Cost, stage: Stage, name: str, entry: EvaluatedTask, measure: Measure, *, times: int = 1
) -> None:
    """Evaluating a task so many times; a pool common to its languages is encoded once each time."""
    task = get_task(name)
    length = next((stage.tasks[n].max_length for n in (name, task.train) if n in stage.tasks), task.max_length)
    length = min(length, stage.encoder.max_positions - 2)
    size = measure(Use(task=task, split=entry.split, entry=entry, stage=stage, max_length=length))
    if size is not None:
        _add(cost, size, times * size.examples, stage, task, train=False)


def _training_sizes(stage: Stage, measure: Measure) -> dict[str, Sizes] | None:
    sizes = {}
    for name, entry in stage.tasks.items():
        task = get_task(name)
        size = measure(Use(task=task, split="train", entry=entry, stage=stage, max_length=entry.max_length))
        if size is None and entry.weight and len(stage.tasks) > 1:
            size = typical(task, 1, entry.max_length)  # it takes its share of the steps, however large
        if size is None:
            return None
        sizes[name] = size
    return sizes


def _of_given_steps(stage: Stage) -> Cost | None:
    """Where the data is of unknown size but the steps are given, training alone can be costed."""
    if not stage.train.steps or len(stage.tasks) > 1:
        return None
    ((name, entry),) = stage.tasks.items()
    task, cost = get_task(name), Cost(stage.train.steps, 0, 0, 0)
    _add(cost, typical(task, 0, entry.max_length), cost.steps * entry.batch_size, stage, task, train=True)
    return cost


def _add(cost: Cost, sizes: Sizes, examples: float, stage: Stage, task: Task, *, train: bool) -> None:
    tokens, pairs = examples * sizes.tokens, examples * sizes.pairs
    count = flops.train_flops if train else flops.forward_flops
    predicted = family(task).predicted * tokens
    cost.examples, cost.tokens = cost.examples + examples, cost.tokens + tokens
    cost.flops += count(stage.encoder, tokens=tokens, token_pairs=pairs, predicted=predicted)


# ---------------------------------------------------------------- sizes of data


def typical(task: Task, examples: int, max_length: int) -> Sizes:
    """So many examples of the assumed length."""
    return _of_segments(examples, 2 if task.retrieval else family(task).segments, max_length)


def _of_segments(examples: int, segments: int, max_length: int) -> Sizes:
    mean = TYPICAL * max_length
    return Sizes(examples, segments * mean, segments * mean**2)


def estimated(use: Use) -> Sizes | None:
    """From the catalog's sizes (the world: its own), lengths taken as a share of max_length."""
    task, split, languages = use.task, use.split, use.entry.languages
    sizes: list[int | None]
    if use.stage.data.source == "world":
        sizes = [world.size(task, split, use.stage.data.world) for _ in languages]
    else:
        known = task.sizes.get(split)
        sizes = [known.get(language) if isinstance(known, Mapping) else known for language in languages]
    if any(size is None for size in sizes):
        return None
    examples = sum(min(size, use.entry.limit or size) for size in sizes if size is not None)
    if use.stage.data.source != "world" and split in task.pool:  # queries and texts, each a segment
        return _of_segments(examples + sum(task.pool[split].values()), 1, use.max_length)
    return typical(task, examples, use.max_length)


def counted(cache: Path) -> Measure:
    """A Measure from the token cache, which it builds: in the folder that the stage names, else in `cache`."""

    def measure(use: Use) -> Sizes:
        import numpy as np

        from xtl.data.tokenizer import load_tokenizer
        from xtl.training.evaluator import encoded_part  # with JAX

        data = for_run(use.stage, cache=str(cache)).data
        tokenizer = load_tokenizer(data.tokenizer, data.world)
        task = with_options(use.task, use.entry.options)
        parts = [
            encoded_part(
                task,
                language,
                use.split,
                data=data,
                tokenizer=tokenizer,
                max_length=use.max_length,
                limit=use.entry.limit,
                train=use.split == "train",
            )
            for language in dict.fromkeys((*use.entry.languages, *sources.pool_parts(task, use.split, data)))
        ]
        examples = sum(map(len, parts))
        lengths = np.concatenate([part.segment_lengths for part in parts]).astype(float)
        return Sizes(examples, lengths.sum() / max(examples, 1), (lengths**2).sum() / max(examples, 1))

    return measure


# ---------------------------------------------------------------- hours


def chip_hours(costs: Iterable[Cost], topology: str, mfu: float) -> tuple[float, float]:
    """(chip-hours, hours on all its chips) of `v5e:4x4`, `2*v5e-16`, `h100:8`, ... at a model FLOPs utilisation."""
    chips, peak = accelerators(topology)
    hours = sum(cost.flops for cost in costs) / (peak * mfu) / 3600
    return hours, hours / chips
