"""Index -> batch. `stream[step]` is a pure function of (config, seed, step), on any number of hosts.

Training: a step holds exactly `batch_size` examples; only how they share rows is planned. Evaluation: examples in
their own order, rows filled as they come, the last batch padded with weight 0, outputs put back in example order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from xtl.data import order
from xtl.data.rows import Batch, Encoded, RowShape, Segment, assemble, offsets_of, place, ranges, row_counts
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError


class Hooks(Protocol):
    """What a task family does on the way from examples to a batch (xtl.families.interface.Family)."""

    def augment(self, segments: list[Segment], address: Sequence[int], tokenizer: Tokenizer | None) -> list[Segment]:
        """The segments of one example at one visit."""

    def finish(self, batch: Batch, shape: RowShape) -> Batch:
        """A batch as the device gets it."""


@dataclass(frozen=True)
class TrainTask:
    """One task of the mixture: its encoded parts (one per language) and how a step takes from them."""

    name: str
    family: Hooks
    parts: Sequence[Encoded]
    batch_size: int
    row_length: int
    weight: float = 1.0
    language_weights: Sequence[float] | None = None


class TrainStream:
    """The batches of a training stage, by step.

    All steps are planned at the start: XLA compiles one program per batch shape, so the few row counts that suit the
    whole stage must be known before its first step. Planning needs the lengths of the segments only and keeps nothing
    but those counts; what a step holds is worked out again when it is asked for, so `stream[step]` needs no memory of
    other steps, and resuming at a step is indexing with it.

    shards: devices that share the rows; row counts are its multiples. shapes: most row counts compiled per task.
    accumulate: micro-batches per step, stacked on a leading axis; each holds batch_size / accumulate examples.
    """

    def __init__(
        self,
        tasks: Sequence[TrainTask],
        *,
        steps: int,
        seed: int,
        tokenizer: Tokenizer,
        packed: bool = True,
        slots: int = 64,
        accumulate: int = 1,
        shards: int = 1,
        shapes: int = 2,
        host: tuple[int, int] = (0, 1),
    ):
        for task in tasks:
            if not sum(len(p) for p in task.parts):
                raise XtlError(f"task {task.name} has no training examples: check its data root, languages and limit")
            if task.batch_size % accumulate:
                raise XtlError(f"task {task.name}: batch_size {task.batch_size} is not a multiple of {accumulate}")
        self.tasks, self.steps, self.seed, self.tokenizer = tasks, steps, seed, tokenizer
        self.packed, self.accumulate, self.host = packed, accumulate, host
        self._orders = [
            order.Order([len(p) for p in t.parts], seed=int(order.mix(seed, i)), weights=t.language_weights)
            for i, t in enumerate(tasks)
        ]
        self._lengths = [_SegmentLengths(t.parts) for t in tasks]
        self._task = order.task_of_step([t.weight for t in tasks], steps=steps, seed=seed)
        self._turn = np.zeros(steps, np.int64)  # how many earlier steps went to the same task
        for i in range(len(tasks)):
            mine = self._task == i
            self._turn[mine] = np.arange(mine.sum())
        self.shapes = [self._plan(i, slots=slots, shards=shards, shapes=shapes) for i in range(len(tasks))]

    def __len__(self) -> int:
        return self.steps

    def task_name(self, step: int) -> str:
        return self.tasks[self._task[step]].name

    def examples(self, step: int) -> tuple[str, list[tuple[int, int]]]:
        """(task name, (part, index into it) of every example) of one step."""
        i = int(self._task[step])
        parts = [self._examples(i, self._turn[step], a) for a in range(self.accumulate)]
        return self.tasks[i].name, [example for part in parts for example in part]

    def __getitem__(self, step: int) -> tuple[str, Batch]:
        """(task name, batch) of one step."""
        i = int(self._task[step])
        task = self.tasks[i]
        micro = [self._examples(i, self._turn[step], a) for a in range(self.accumulate)]
        placed = [self._place(i, m) for m in micro]
        rows = max(int(p.max()) + 1 for p in placed)
        shape = next(s for s in self.shapes[i] if s.rows >= rows)
        batches = [self._assemble(task, shape, step, m, p) for m, p in zip(micro, placed, strict=True)]
        if self.accumulate == 1:
            return task.name, batches[0]
        return task.name, {k: np.stack([b[k] for b in batches]) for k in batches[0]}

    def _examples(self, i: int, turn: int, a: int) -> list[tuple[int, int]]:
        size = self.tasks[i].batch_size // self.accumulate
        part, index = self._orders[i](int(turn) * self.tasks[i].batch_size + a * size, size)
        return list(zip(part.tolist(), index.tolist(), strict=True))

    def _place(self, i: int, examples: Sequence[tuple[int, int]]) -> np.ndarray:
        return place(
            self._lengths[i](examples), packed=self.packed, capacity=self.tasks[i].row_length, slots=self._slots
        )

    def _plan(self, i: int, *, slots: int, shards: int, shapes: int) -> tuple[RowShape, ...]:
        task, self._slots = self.tasks[i], slots if self.packed else 1
        needed, most = [], 1
        for turn in range(int((self._task == i).sum())):
            rows = 0
            for a in range(self.accumulate):
                row_of = self._place(i, self._examples(i, turn, a))
                counts = np.bincount(row_of)
                rows, most = max(rows, len(counts)), max(most, int(counts.max()))
            needed.append(rows)
        if not needed:
            return ()
        choices = max(int(np.diff(p.example_offsets).max(initial=1)) for p in task.parts)
        size = task.batch_size // self.accumulate
        return tuple(
            RowShape(rows=r, length=task.row_length, slots=most, examples=size, choices=choices)
            for r in row_counts(needed, multiple=shards, shapes=shapes)
        )

    def _assemble(
        self, task: TrainTask, shape: RowShape, step: int, examples: Sequence[tuple[int, int]], row_of: np.ndarray
    ) -> Batch:
        taken, columns = [], _ExampleColumns()
        for k, (part, index) in enumerate(examples):
            encoded, address = task.parts[part], (self.seed, step, k, part, index)
            taken.append(task.family.augment(segments_of(encoded, index), address, self.tokenizer))
            columns.add(encoded, index)
        return task.family.finish(assemble(taken, columns.values, row_of, shape, host=self.host), shape)


class _SegmentLengths:
    """The segment lengths of all parts of a task, for planning: looked up for a whole batch at once."""

    def __init__(self, parts: Sequence[Encoded]):
        self.lengths = np.concatenate([part.segment_lengths for part in parts])
        self.parts = offsets_of([len(part) for part in parts])
        self.offsets = offsets_of(np.concatenate([np.diff(part.example_offsets) for part in parts]))

    def __call__(self, examples: Sequence[tuple[int, int]]) -> np.ndarray:
        """Lengths of the segments of some examples (part, index), one after the other."""
        part, index = np.asarray(examples, np.int64).reshape(-1, 2).T
        at = self.parts[part] + index
        return self.lengths[ranges(self.offsets[at], self.offsets[at + 1] - self.offsets[at])]


class EvalBatches:
    """The evaluation batches of one language; all of one shape, so every language shares one compile."""

    def __init__(
        self,
        encoded: Encoded,
        family: Hooks,
        *,
        rows: int,
        row_length: int,
        slots: int,
        choices: int = 1,
        tokenizer: Tokenizer | None = None,
        seed: int = 0,
        packed: bool = True,
        host: tuple[int, int] = (0, 1),
    ):
        self.encoded, self.family, self.tokenizer, self.seed, self.host = encoded, family, tokenizer, seed, host
        slots = slots if packed else 1
        self.shape = RowShape(rows=rows, length=row_length, slots=slots, examples=rows * slots, choices=choices)
        self._batches = list(self._fill())

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))

    def _fill(self) -> Iterator[tuple[list[int], np.ndarray]]:
        """First fit in example order; a batch ends when the next example fits no row."""
        shape, lengths = self.shape, self.encoded.segment_lengths
        room, free = [shape.length] * shape.rows, [shape.slots] * shape.rows
        examples: list[int] = []
        rows: list[int] = []
        for e in range(len(self.encoded)):
            for attempt in ("this batch", "the next batch"):
                room_e, free_e, rows_e = room.copy(), free.copy(), []
                for segment in range(int(self.encoded.example_offsets[e]), int(self.encoded.example_offsets[e + 1])):
                    n = int(lengths[segment])
                    r = next((r for r in range(shape.rows) if room_e[r] >= n and free_e[r]), None)
                    if r is None:
                        break
                    room_e[r] -= n
                    free_e[r] -= 1
                    rows_e.append(r)
                else:
                    break
                if attempt == "the next batch":
                    raise XtlError(f"example {e} does not fit a batch of {shape.rows} rows of {shape.length} tokens")
                yield examples, np.asarray(rows, np.int32)
                examples, rows = [], []
                room, free = [shape.length] * shape.rows, [shape.slots] * shape.rows
            room, free = room_e, free_e
            examples.append(e)
            rows.extend(rows_e)
        if examples:
            yield examples, np.asarray(rows, np.int32)

    def __getitem__(self, i: int) -> Batch:
        examples, row_of = self._batches[i]
        taken, columns = [], _ExampleColumns()
        for e in examples:
            taken.append(self.family.augment(segments_of(self.encoded, e), (self.seed, 0, e), self.tokenizer))
            columns.add(self.encoded, e)
        return self.family.finish(assemble(taken, columns.values, row_of, self.shape, host=self.host), self.shape)

    def gather(self, outputs: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Outputs of all batches, in the order of `encoded`. Keys name dims: `x_rs..` comes back as `x_s..`
        [segments, ...], `x_rt` as `x_t` [tokens, ...], `x_e..` as it is [examples, ...]."""
        result: dict[str, list[np.ndarray]] = {}
        for (examples, row_of), batch_outputs in zip(self._batches, outputs, strict=True):
            rows, slots, starts, lengths = self._where(examples, row_of)
            for key, values in batch_outputs.items():
                name, dims = key.rsplit("_", 1)
                if dims.startswith("rs"):
                    result.setdefault(f"{name}_{dims[1:]}", []).append(values[rows, slots])
                elif dims.startswith("rt"):
                    pieces = [values[r, s : s + n] for r, s, n in zip(rows, starts, lengths, strict=True)]
                    result.setdefault(f"{name}_{dims[1:]}", []).append(np.concatenate(pieces))
                elif dims.startswith("e"):
                    result.setdefault(key, []).append(values[: len(examples)])
                else:
                    raise XtlError(f"evaluation output {key!r}: its dims must start with rs, rt or e")
        return {key: np.concatenate(values) for key, values in result.items()}

    def _where(
        self, examples: Sequence[int], row_of: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(row, slot, first token, length) of every segment of a batch."""
        offsets = self.encoded.example_offsets
        segments = np.concatenate([np.arange(offsets[e], offsets[e + 1]) for e in examples])
        lengths = self.encoded.segment_lengths[segments]
        used_t, used_s = np.zeros(self.shape.rows, np.int64), np.zeros(self.shape.rows, np.int64)
        slots, starts = np.empty(len(segments), np.int64), np.empty(len(segments), np.int64)
        for k, r in enumerate(row_of):
            slots[k], starts[k] = used_s[r], used_t[r]
            used_s[r] += 1
            used_t[r] += lengths[k]
        return row_of, slots, starts, lengths


# ---------------------------------------------------------------- shared


def segments_of(encoded: Encoded, index: int) -> list[Segment]:
    """The segments of one example, with their label columns. Columns named `_...` are for decoding and stay here."""
    result = []
    token_columns = {k: v for k, v in encoded.token_columns.items() if k[0] != "_"}
    segment_columns = {k: v for k, v in encoded.segment_columns.items() if k[0] != "_"}
    for s in range(int(encoded.example_offsets[index]), int(encoded.example_offsets[index + 1])):
        tokens = encoded.tokens(s)
        result.append(
            Segment(
                ids=encoded.ids[tokens],
                token_columns={k: v[tokens] for k, v in token_columns.items()},
                segment_columns={k: int(v[s]) for k, v in segment_columns.items()},
            )
        )
    return result


@dataclass
class _ExampleColumns:
    values: dict[str, list[int]] = field(default_factory=dict)

    def add(self, encoded: Encoded, index: int) -> None:
        for name, column in encoded.example_columns.items():
            if name[0] == "_":
                continue
            self.values.setdefault(name, []).append(int(column[index]))
