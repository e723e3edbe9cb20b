"""The distinct steps of a config, with the shapes they would be compiled for. No data is touched.

Rows are planned as if every segment had its full length, so that rows are filled and all of a row's tokens are real:
what a config can reach, not what its data gives.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xtl.data.rows import RowShape
from xtl.models import flops
from xtl.models.encoder import EncoderConfig
from xtl.task import Task
from xtl.tasks import get_task
from xtl.training import state
from xtl.training.evaluator import ACCELERATOR_TOKENS, ROW_STEP, evaluation_length

SEGMENTS = {"choice": 4, "dual": 2}  # an example; where the data decides, what is common

# Label columns of a batch, by family; what `decode` alone needs (names with "_") included, batches carry it too.
COLUMNS: dict[str, tuple[str, ...]] = {
    "pair": ("label_rs",),
    "choice": ("label_e",),
    "span": ("start_rs", "end_rs", "context_rs", "_example_rs"),
    "tag": ("tag_rt",),
    "mlm": ("_example_rs", "masked_rm", "target_rm", "target_weight_rm"),
    "retrieve": (),
    "dual": (),
}
FLOATS = ("slot_weight", "segment_weight", "weight", "target_weight")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step to compile: training or evaluation of one task, in one shape, on a mesh of `shards` row shards."""

    kind: str  # "train" or "eval"
    task: Task
    config: EncoderConfig
    shape: RowShape
    segments: int  # real ones; the rest of the rows is padding
    length: int  # tokens of each
    accumulate: int = 1
    options: tuple[tuple[str, Any], ...] = ()
    stages: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """Such as `train mnli 512x128`: rows of all devices x row length."""
        times = f"{self.accumulate}x" if self.accumulate > 1 else ""
        return f"{self.kind} {self.task.name} {times}{self.shape.rows}x{self.shape.length}"

    @property
    def examples(self) -> int:
        """Real examples a step, over all micro-batches."""
        return self.accumulate * self.segments // SEGMENTS.get(self.task.family, 1)

    @property
    def model_flops(self) -> float:
        """What MFU counts, for the whole step on all devices (xtl.models.flops)."""
        tokens = self.accumulate * self.segments * self.length
        count = flops.train_flops if self.kind == "train" else flops.forward_flops
        predicted = 0.15 * tokens if self.task.family == "mlm" else 0.0
        return count(self.config, tokens=tokens, token_pairs=tokens * self.length, predicted=predicted)

    def with_rows(self, per_shard: int, shards: int) -> "Step":
        """The same step with so many filled rows on each shard, and so another global batch."""
        each = max(1, self.shape.length // self.length)
        rows = per_shard * shards
        shape = replace(self.shape, rows=rows, slots=each, examples=rows * each // SEGMENTS.get(self.task.family, 1))
        return replace(self, shape=shape, segments=rows * each)

    def batch(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """(shape, dtype) of every batch array."""
        from xtl.families import mlm

        shape = self.shape
        sizes = {"r": shape.rows, "t": shape.length, "s": shape.slots, "e": shape.examples, "c": shape.choices}
        if self.task.family == "mlm":
            sizes["m"] = mlm.places(shape)
        names = [
            *("ids_rt", "segments_rt", "positions_rt", "slots_rs", "slot_weight_rs", "lengths_rs"),
            *("segments_ec", "segment_weight_ec", "weight_e"),
            *COLUMNS[self.task.family],
        ]
        lead = (self.accumulate,) if self.accumulate > 1 else ()
        return {
            name: ((*lead, *(sizes[dim] for dim in name.rpartition("_")[2])), _dtype(name.rpartition("_")[0]))
            for name in names
        }


def _dtype(name: str) -> str:
    return "float32" if name in FLOATS else "int32"


def plan(stages: Mapping[str, Any], *, shards: Mapping[str, int], platform: str = "tpu") -> list[Step]:
    """The distinct steps of resolved stages, in their order. shards: row shards of each stage's mesh."""
    found: dict[Step, Step] = {}
    for name, stage in stages.items():
        config = state.encoder_config(stage, platform=platform)
        for step in (*_training(stage, config, shards[name]), *_evaluation(stage, config, shards[name])):
            known = found.get(step, replace(step, stages=()))
            found[step] = replace(known, stages=(*known.stages, name))
    return list(found.values())


def _training(stage: Any, config: EncoderConfig, shards: int) -> list[Step]:
    found = []
    for name, entry in stage.tasks.items():
        task, train = get_task(name), stage.train
        length = train.row_length if train.packing else entry.max_length
        each = max(1, min(length // entry.max_length, train.slots)) if train.packing else 1
        choices = SEGMENTS.get(task.family, 1)
        examples = entry.batch_size // train.accumulate
        rows = shards * math.ceil(examples * choices / each / shards)
        shape = RowShape(rows=rows, length=length, slots=each, examples=examples, choices=choices)
        found.append(
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
    return found


def _evaluation(stage: Any, config: EncoderConfig, shards: int) -> list[Step]:
    found = []
    for name, entry in stage.evaluate.items():
        task = get_task(name)
        longest = min(evaluation_length(task, stage) or task.max_length, config.max_positions - 2)
        length = math.ceil(longest / ROW_STEP) * ROW_STEP
        rows = stage.system.eval_rows or max(1, ACCELERATOR_TOKENS // length) * shards
        rows = math.ceil(rows / shards) * shards
        shape = RowShape(rows=rows, length=length, slots=1, examples=rows, choices=SEGMENTS.get(task.family, 1))
        options = tuple(sorted((key, value) for key, value in entry.options.items()))
        found.append(
            Step(kind="eval", task=task, config=config, shape=shape, segments=rows, length=longest, options=options)
        )
    return found
