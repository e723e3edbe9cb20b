"""What a resolved stage still lacks until it runs: the cache folder of its WORKDIR, its steps, a lowered rate."""

import math
from collections.abc import Mapping
from dataclasses import replace

from xtl.config.schema import Stage
from xtl.errors import XtlError


def for_run(stage: Stage, *, cache: str, rate: float = 1.0) -> Stage:
    """The stage as a WORKDIR runs it: its own cache folder unless it names one, its learning rate times `rate`."""
    data = replace(stage.data, cache=stage.data.cache or cache)
    train = replace(stage.train, learning_rate=stage.train.learning_rate * rate)
    return replace(stage, data=data, train=train)


def with_steps(stage: Stage, sizes: Mapping[str, int]) -> Stage:
    """The stage with train.steps final; `sizes` counts the training examples of each task.

    One epoch sees every example (up to sampling.cap) of the tasks without a fixed weight once; tasks with one (MLM
    mixed in) take their share on top. XtlError for a task without examples.
    """
    train = stage.train
    if train.steps or not stage.tasks:
        return stage
    for name in stage.tasks:
        if not sizes[name]:
            raise XtlError(f"stage {stage.name}: {name} has no training examples; see `xtl data --task={name}`")
    counted = [name for name, entry in stage.tasks.items() if not entry.weight] or list(stage.tasks)
    cap = train.sampling.cap
    per_epoch = sum(min(sizes[name], cap or sizes[name]) / stage.tasks[name].batch_size for name in counted)
    others = sum(entry.weight for name, entry in stage.tasks.items() if name not in counted)
    steps = max(1, math.ceil(round(train.epochs * per_epoch / (1 - others), 6)))
    return replace(stage, train=replace(train, steps=steps))


def task_weights(stage: Stage, sizes: Mapping[str, int]) -> dict[str, float]:
    """The share of the steps of each task; `sizes` counts its training examples. Shares add up to 1."""
    sampling, tasks = stage.train.sampling, stage.tasks
    fixed = {name: entry.weight for name, entry in tasks.items() if entry.weight}
    free = [name for name in tasks if name not in fixed]
    capped = {name: min(sizes[name], sampling.cap or sizes[name]) for name in free}
    power = {"uniform": 0.0, "temperature": 1 / sampling.temperature}.get(sampling.kind, 1.0)
    raw = {name: capped[name] ** power for name in free}
    rest = 1 - sum(fixed.values())
    shares = fixed | {name: rest * raw[name] / sum(raw.values()) for name in free}
    return {name: shares[name] / sum(shares.values()) for name in tasks}
