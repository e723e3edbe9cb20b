"""Rows: several examples packed into one sequence, distinguished by segment ids.

Letters: R rows, T row length, S slots per row, E examples per batch, C segments per example. A *segment* is one token
sequence `<s> ... </s>`; an *example* is what counts towards `batch_size`: one segment, or C of them (multiple choice).
One example per row is only the special case `packed=False`.

Packing never changes which examples a step holds, so packed and unpacked training see the same gradients. Published
basis: Krell et al. 2021 (arXiv 2107.02027); exactness needs restarted positions and attention within segments only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xtl.errors import XtlError

PAD_ID = 1
FIRST_POSITION = 2  # XLM-R counts positions from pad id + 1
FILL = -1  # label columns where nothing is to be predicted

Batch = dict[str, np.ndarray]
Column = tuple[tuple[int, ...], str]  # shape and dtype of one array of a batch

# What every batch carries, by name_dims: the content of empty places, and the dtype.
COMMON: dict[str, tuple[float, str]] = {
    "ids_rt": (PAD_ID, "int32"),
    "segments_rt": (0, "int32"),
    "positions_rt": (PAD_ID, "int32"),
    "slots_rs": (0, "int32"),
    "slot_weight_rs": (0, "float32"),
    "lengths_rs": (0, "int32"),
    "segments_ec": (0, "int32"),
    "segment_weight_ec": (0, "float32"),
    "weight_e": (0, "float32"),
}


@dataclass(frozen=True)
class Encoded:
    """Tokenised examples as flat arrays, so that example i costs two look-ups and no parsing.

    ids: int32 [tokens]. segment_offsets: int64 [segments + 1] into ids. example_offsets: int64 [examples + 1] into
    segments. Columns are integers: token_columns [tokens], segment_columns [segments], example_columns [examples].
    """

    ids: np.ndarray
    segment_offsets: np.ndarray
    example_offsets: np.ndarray
    token_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    segment_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    example_columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for level, columns, length in (
            ("token", self.token_columns, len(self.ids)),
            ("segment", self.segment_columns, self.segments),
            ("example", self.example_columns, len(self)),
        ):
            for name, values in columns.items():
                if len(values) != length:
                    raise XtlError(f"{level} column {name!r} has {len(values)} values for {length} {level}s")

    def __len__(self) -> int:
        return len(self.example_offsets) - 1

    @property
    def segments(self) -> int:
        return len(self.segment_offsets) - 1

    @property
    def segment_lengths(self) -> np.ndarray:
        return np.diff(self.segment_offsets)

    def tokens(self, segment: int) -> slice:
        return slice(int(self.segment_offsets[segment]), int(self.segment_offsets[segment + 1]))

    @classmethod
    def from_segments(
        cls,
        segments: Sequence[Sequence[int]],
        *,
        per_example: Sequence[int] | None = None,
        token_columns: Mapping[str, Sequence[Sequence[int]]] | None = None,
        segment_columns: Mapping[str, Sequence[int]] | None = None,
        example_columns: Mapping[str, Sequence[int]] | None = None,
    ) -> "Encoded":
        """From one list of token ids per segment; `per_example` counts the segments of each example (default 1)."""
        offsets = offsets_of([len(s) for s in segments])
        return cls(
            ids=_flat(segments),
            segment_offsets=offsets,
            example_offsets=offsets_of(per_example if per_example is not None else [1] * len(segments)),
            token_columns={k: _flat(v) for k, v in (token_columns or {}).items()},
            segment_columns={k: np.asarray(v, np.int32) for k, v in (segment_columns or {}).items()},
            example_columns={k: np.asarray(v, np.int32) for k, v in (example_columns or {}).items()},
        )


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Indices start..start+length of every range, one after the other: int64 [sum of lengths]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def offsets_of(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where each of so many runs begins, and where the last one ends: int64 [counts + 1]."""
    return np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))]).astype(np.int64)


def _flat(lists: Sequence[Sequence[int]]) -> np.ndarray:
    return np.concatenate([np.asarray(x, np.int32) for x in lists]) if len(lists) else np.zeros(0, np.int32)


# ---------------------------------------------------------------- planning


@dataclass(frozen=True)
class RowShape:
    """The static shape of a batch: everything XLA needs to know to compile a step once."""

    rows: int
    length: int
    slots: int
    examples: int
    choices: int = 1

    def sizes(self, name: str) -> tuple[int, ...]:
        """The shape of an array of a batch, by the letters at the end of its name: `ids_rt` is [rows, length]."""
        letters = {"r": self.rows, "t": self.length, "s": self.slots, "e": self.examples, "c": self.choices}
        return tuple(letters[letter] for letter in name.rpartition("_")[2])

    def columns(self) -> dict[str, Column]:
        """(shape, dtype) of the arrays that every batch of this shape carries."""
        return {name: (self.sizes(name), dtype) for name, (_, dtype) in COMMON.items()}


def pack(lengths: Sequence[int] | np.ndarray, *, capacity: int, slots: int) -> np.ndarray:
    """First-fit decreasing: the row of each segment, int32 [segments]; at most `slots` segments per row."""
    lengths = np.asarray(lengths)
    row_of = np.empty(len(lengths), np.int32)
    room: list[int] = []
    free: list[int] = []
    r, last = 0, -1
    for i in np.argsort(-lengths, kind="stable").tolist():
        n = int(lengths[i])
        if n > capacity:
            raise XtlError(f"a segment of {n} tokens does not fit a row of {capacity}: raise train.row_length")
        if n != last:  # rows only fill up: one that had no place for n has none for the next of the same length
            r, last = 0, n
        while r < len(room) and (room[r] < n or not free[r]):
            r += 1
        if r == len(room):
            room.append(capacity)
            free.append(slots)
        room[r] -= n
        free[r] -= 1
        row_of[i] = r
    return row_of


def place(lengths: Sequence[int] | np.ndarray, *, packed: bool, capacity: int, slots: int) -> np.ndarray:
    """The row of each segment of one batch: packed, or one segment per row in the order given."""
    if packed:
        return pack(lengths, capacity=capacity, slots=slots)
    if len(lengths) and max(lengths) > capacity:
        raise XtlError(f"a segment of {max(lengths)} tokens does not fit a row of {capacity}: raise train.row_length")
    return np.arange(len(lengths), dtype=np.int32)


def row_counts(needed: Sequence[int], *, multiple: int, shapes: int) -> tuple[int, ...]:
    """At most `shapes` row counts, multiples of `multiple`, that waste the fewest rows over all batches.

    Every distinct count costs one compile; every row above what a batch needs is computed for nothing. A batch runs in
    the smallest count that holds it, so the choice is a partition of the sorted needs into at most `shapes` runs, each
    as expensive as its largest member: solved exactly, by dynamic programming over the distinct needs (few, because
    they are multiples).
    """
    rounded = -(-np.asarray(needed, np.int64) // multiple) * multiple
    values, counts = np.unique(rounded, return_counts=True)
    n = len(values)
    total = np.concatenate([[0], np.cumsum(counts)])
    # best[k][j]: fewest rows when the j smallest values are covered by k shapes, the largest of them values[j - 1]
    best = np.full((shapes + 1, n + 1), np.inf)
    best[0, 0] = 0
    came = np.zeros((shapes + 1, n + 1), int)
    for k in range(1, shapes + 1):
        for j in range(1, n + 1):
            cost = best[k - 1, :j] + values[j - 1] * (total[j] - total[:j])
            came[k, j] = int(np.argmin(cost))
            best[k, j] = cost[came[k, j]]
    k, j, chosen = int(np.argmin(best[:, n])), n, []
    while j:
        chosen.append(int(values[j - 1]))
        k, j = k - 1, came[k, j]
    return tuple(sorted(chosen))


# ---------------------------------------------------------------- assembling


@dataclass(frozen=True)
class Segment:
    """One segment on its way into a row: its tokens and its label columns."""

    ids: np.ndarray
    token_columns: Mapping[str, np.ndarray]
    segment_columns: Mapping[str, int]


def assemble(
    examples: Sequence[Sequence[Segment]],
    example_columns: Mapping[str, Sequence[int]],
    row_of: np.ndarray,
    shape: RowShape,
    *,
    host: tuple[int, int] = (0, 1),
) -> Batch:
    """Rows from examples. `row_of` gives the row of each segment, counted over the examples in order.

    `host` = (index, count) leaves out all rows but that host's equal share of them; indices stay global.
    Returns ids_rt, segments_rt, positions_rt, slots_rs, slot_weight_rs, lengths_rs, segments_ec, segment_weight_ec,
    weight_e, and every label column with the dims its level gives it: _rt (token), _rs (segment), _e (example).
    """
    R, S = shape.rows // host[1], shape.slots
    first, mine = host[0] * R, replace(shape, rows=R)
    batch: Batch = {name: np.full(mine.sizes(name), empty, dtype) for name, (empty, dtype) in COMMON.items()}
    for segment in examples[0] if len(examples) else ():  # a host without segments still needs every column
        labels = [f"{name}_rt" for name in segment.token_columns] + [f"{name}_rs" for name in segment.segment_columns]
        batch.update({name: np.full(mine.sizes(name), FILL, np.int32) for name in labels})
    used_t, used_s = np.zeros(shape.rows, np.int64), np.zeros(shape.rows, np.int64)
    flat = 0
    for e, segments in enumerate(examples):
        batch["weight_e"][e] = 1
        for c, segment in enumerate(segments):
            r = int(row_of[flat])
            flat += 1
            n, start, s = len(segment.ids), int(used_t[r]), int(used_s[r])
            stop = start + n
            used_t[r], used_s[r] = stop, s + 1
            batch["segments_ec"][e, c] = r * S + s
            batch["segment_weight_ec"][e, c] = 1
            r -= first
            if not 0 <= r < R:
                continue
            batch["ids_rt"][r, start:stop] = segment.ids
            batch["segments_rt"][r, start:stop] = s + 1
            batch["positions_rt"][r, start:stop] = np.arange(FIRST_POSITION, FIRST_POSITION + n)
            batch["slots_rs"][r, s] = start
            batch["slot_weight_rs"][r, s] = 1
            batch["lengths_rs"][r, s] = n
            for name, values in segment.token_columns.items():
                batch[f"{name}_rt"][r, start:stop] = values
            for name, value in segment.segment_columns.items():
                batch[f"{name}_rs"][r, s] = value
    for name, given in example_columns.items():
        column = np.full(shape.examples, FILL, np.int32)
        column[: len(given)] = given
        batch[f"{name}_e"] = column
    return batch
