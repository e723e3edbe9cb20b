"""Pieces of texts -> segments: `<s> A </s>` and `<s> A </s></s> B </s>`, truncated, for many examples at once.

Texts come as (flat ids, offsets) from `Tokenizer.encode_ids_batch`; nothing here loops over examples.
"""

import numpy as np

from xtl.data.rows import Encoded, offsets_of, ranges
from xtl.data.tokenizer import BOS, EOS

Flat = tuple[np.ndarray, np.ndarray]  # ids int32 [pieces], offsets int64 [texts + 1]


def truncated_lengths(a: np.ndarray, b: np.ndarray, budget: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of A and B after taking one piece at a time from the longer (A on a tie) until A + B <= budget.

    Closed form of that loop: the shorter part keeps all it has up to half of the budget, the longer gets the rest.
    """
    short_a = np.minimum(a, np.maximum(budget // 2, budget - b))
    short_b = np.minimum(b, budget - short_a)
    fits = a + b <= budget
    return np.where(fits, a, short_a), np.where(fits, b, short_b)


def singles(texts: Flat, *, max_length: int | np.ndarray) -> Encoded:
    """`<s> A </s>`, A cut at its end: one segment and one example per text. `max_length` may differ by text."""
    ids, offsets = texts
    kept = np.minimum(np.diff(offsets), max_length - 2)
    segment_offsets = offsets_of(kept + 2)
    flat = np.full(segment_offsets[-1], EOS, np.int32)
    flat[segment_offsets[:-1]] = BOS
    flat[ranges(segment_offsets[:-1] + 1, kept)] = ids[ranges(offsets[:-1], kept)]
    return Encoded(flat, segment_offsets, np.arange(len(kept) + 1, dtype=np.int64))


def pairs(
    a: Flat, b: Flat, *, max_length: int | np.ndarray, front: bool = False, single: np.ndarray | None = None
) -> Encoded:
    """`<s> A </s></s> B </s>`; where `single` is true `<s> A </s>` alone. Truncation takes from the longer part.

    front: cut parts at their front (multiple choice: the end of the prompt is what the choice continues) instead of
    their end. One segment and one example per pair.
    """
    (ids_a, offsets_a), (ids_b, offsets_b) = a, b
    have_a, have_b = np.diff(offsets_a), np.diff(offsets_b)
    alone = np.zeros(len(have_a), bool) if single is None else single
    keep_a, keep_b = truncated_lengths(have_a, have_b, max_length - 4)
    keep_a = np.where(alone, np.minimum(have_a, max_length - 2), keep_a)
    keep_b = np.where(alone, 0, keep_b)
    segment_offsets = offsets_of(keep_a + keep_b + np.where(alone, 2, 4))
    flat = np.full(segment_offsets[-1], EOS, np.int32)
    starts = segment_offsets[:-1]
    flat[starts] = BOS
    from_a, from_b = offsets_a[:-1], offsets_b[:-1]
    if front:
        from_a, from_b = from_a + have_a - keep_a, from_b + have_b - keep_b
    flat[ranges(starts + 1, keep_a)] = ids_a[ranges(from_a, keep_a)]
    flat[ranges(starts + keep_a + 3, keep_b)] = ids_b[ranges(from_b, keep_b)]
    return Encoded(flat, segment_offsets, np.arange(len(keep_a) + 1, dtype=np.int64))


def interleaved(first: Encoded, second: Encoded) -> Encoded:
    """Examples of two segments each: example i holds segment i of `first` and segment i of `second`."""
    n = first.segments
    lengths = np.stack([first.segment_lengths, second.segment_lengths], axis=1).reshape(-1)
    offsets = offsets_of(lengths)
    flat = np.empty(offsets[-1], np.int32)
    for side, part in enumerate((first, second)):
        flat[ranges(offsets[side:-1:2], part.segment_lengths)] = part.ids
    return Encoded(flat, offsets, 2 * np.arange(n + 1, dtype=np.int64))
