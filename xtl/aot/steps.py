"""The distinct steps of a config, with the shapes they would be compiled for. No data is touched.

Rows are planned as if every segment had its full length, so that rows are filled and all of a row's tokens are real:
what a config can reach, not what its data gives.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from xtl.config.schema import Stage
from xtl.data.rows import Column, RowShape
from xtl.families import family
from xtl.models import flops
from xtl.models.encoder import EncoderConfig
from xtl.task import Task, with_options
from xtl.tasks import get_task
from xtl.training import state
from xtl.training.evaluator import ACCELERATOR_TOKENS, ROW_STEP, evaluation_length


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step to compile: training or evaluation of one task, in one shape, on a mesh of `shards` row shards."""

    kind: str  # "train" or "eval"
    task: Task  # with the options of the stage
    config: EncoderConfig
    shape: RowShape
    segments: int  # real ones; the rest of the rows is padding
    length: int  # tokens of each
    accumulate: int = 1
    stages: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """Such as `train mnli 512x128`: rows of all devices x row length."""
        times = f"{self.accumulate}x" if self.accumulate > 1 else ""
        return f"{self.kind} {self.task.name} {times}{self.shape.rows}x{self.shape.length}"

    @property
    def examples(self) -> int:
        """Real examples per step, over all micro-batches."""
        return self.accumulate * self.segments // self.shape.choices

    @property
    def model_flops(self) -> float:
        """What MFU counts, for the whole step on all devices (xtl.models.flops)."""
        tokens = self.accumulate * self.segments * self.length
        count = flops.train_flops if self.kind == "train" else flops.forward_flops
        predicted = family(self.task).predicted * tokens
        return count(self.config, tokens=tokens, token_pairs=tokens * self.length, predicted=predicted)

    def with_rows(self, per_shard: int, shards: int) -> "Step":
        """The same step with so many filled rows on each shard, and so another global batch."""
        each = max(1, self.shape.length // self.length)
        rows = per_shard * shards
        shape = replace(self.shape, rows=rows, slots=each, examples=rows * each // self.shape.choices)
        return replace(self, shape=shape, segments=rows * each)

    def batch(self) -> dict[str, Column]:
        """(shape, dtype) of every batch array."""
        lead = (self.accumulate,) if self.accumulate > 1 else ()
        columns = self.shape.columns() | family(self.task).columns(self.shape)
        return {name: ((*lead, *shape), dtype) for name, (shape, dtype) in columns.items()}


def plan(stages: Mapping[str, Stage], *, shards: Mapping[str, int], platform: str = "tpu") -> list[Step]:
    """The distinct steps of resolved stages, in their order. shards: row shards of each stage's mesh."""
    distinct: dict[Step, Step] = {}
    for name, stage in stages.items():
        config = state.encoder_config(stage, platform=platform)
        for step in (*_training(stage, config, shards[name]), *_evaluation(stage, config, shards[name])):
            known = distinct.get(step, replace(step, stages=()))
            distinct[step] = replace(known, stages=(*known.stages, name))
    return list(distinct.values())


def _training(stage: Stage, config: EncoderConfig, shards: int) -> list[Step]:
    steps = []
    for name, entry in stage.tasks.items():
        task, train = with_options(get_task(name), entry.options), stage.train
        length = train.row_length if train.packing else entry.max_length
        each = max(1, min(length // entry.max_length, train.slots)) if train.packing else 1
        choices = family(task).segments
        examples = entry.batch_size // train.accumulate
        rows = shards * math.ceil(examples * choices / each / shards)
        shape = RowShape(rows=rows, length=length, slots=each, examples=examples, choices=choices)
        steps.append(
            Step(
                kind="train",
                task=task,
                config=config,
                shape=shape,
                segments=examples * choices,
                length=entry.max_length,
                accumulate=train.accumulate,
            )
        )
    return steps


def _evaluation(stage: Stage, config: EncoderConfig, shards: int) -> list[Step]:
    steps = []
    for name, entry in stage.evaluate.items():
        task = with_options(get_task(name), entry.options)
        longest = min(evaluation_length(task, stage) or task.max_length, config.max_positions - 2)
        length = math.ceil(longest / ROW_STEP) * ROW_STEP
        rows = stage.system.eval_rows or max(1, ACCELERATOR_TOKENS // length) * shards
        rows = math.ceil(rows / shards) * shards
        shape = RowShape(rows=rows, length=length, slots=1, examples=rows, choices=family(task).segments)
        steps.append(Step(kind="eval", task=task, config=config, shape=shape, segments=rows, length=longest))
    return steps
