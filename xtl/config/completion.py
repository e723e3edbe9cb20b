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

    One epoch is as many steps as the tasks without a fixed weight have batches, each of them counting for at most
    sampling.cap examples; tasks with one (MLM mixed in) take their share on top. With proportional sampling every
    task is then passed over `epochs` times up to the cap. XtlError for a task without examples.
    """
    train = stage.train
    if train.steps or not stage.tasks:
        return stage
    for name in stage.tasks:
        if not sizes[name]:
            raise XtlError(f"stage {stage.name}: {name} has no training examples; see `xtl data --task={name}`")
    counted = [name for name, entry in stage.tasks.items() if not entry.weight] or list(stage.tasks)
    per_epoch = sum(_batches(stage, name, sizes[name]) for name in counted)
    others = sum(entry.weight for name, entry in stage.tasks.items() if name not in counted)
    steps = max(1, math.ceil(round(train.epochs * per_epoch / (1 - others), 6)))
    return replace(stage, train=replace(train, steps=steps))


def task_weights(stage: Stage, sizes: Mapping[str, int]) -> dict[str, float]:
    """The share of the steps of each task; `sizes` counts its training examples. Shares add up to 1.

    A task with a weight has that share. The others divide the rest by sampling.kind, where "batches" is
    min(examples, cap) / batch_size, the steps of one pass:

    - proportional: p ~ batches, so that examples are drawn in proportion to min(examples, cap), as Raffel et al.
      (2020) define examples-proportional mixing, and every task sees the same number of passes. jiant draws steps by
      min(examples, cap), which is the same where all tasks have one batch size.
    - temperature: p ~ batches ** (1 / temperature): 1 is proportional, a large one nears uniform.
    - uniform: equal shares of the steps, whatever the sizes. Epochs then give the length of the stage only.
    - given: every task has a weight.
    """
    sampling, tasks = stage.train.sampling, stage.tasks
    fixed = {name: entry.weight for name, entry in tasks.items() if entry.weight}
    free = [name for name in tasks if name not in fixed]
    power = {"uniform": 0.0, "temperature": 1 / sampling.temperature}.get(sampling.kind, 1.0)
    raw = {name: _batches(stage, name, sizes[name]) ** power for name in free}
    rest = 1 - sum(fixed.values())
    shares = fixed | {name: rest * raw[name] / sum(raw.values()) for name in free}
    return {name: shares[name] / sum(shares.values()) for name in tasks}


def _batches(stage: Stage, name: str, size: int) -> float:
    """The batches of one pass over a task's examples, up to the cap."""
    return min(size, stage.train.sampling.cap or size) / stage.tasks[name].batch_size
