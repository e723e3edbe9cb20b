"""Rows and batches: nothing lost, nothing twice, same examples whatever the packing, resumable by number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtl.data.batches import EvalBatches, TrainStream, TrainTask
from xtl.data.order import Order, exponent_weights, task_of_step
from xtl.data.rows import Encoded, pack, ranges, row_counts
from xtl.errors import XtlError
from xtl.families.interface import Family

FAMILY = Family()  # it does nothing to segments and batches


def make(lengths, per_example=None, offset=0):
    """Segments whose tokens name them: segment i holds the id 10 + offset + i."""
    segments = [[10 + offset + i] * n for i, n in enumerate(lengths)]
    label = list(range(len(segments)))
    return Encoded.from_segments(segments, per_example=per_example, segment_columns={"label": label})


def stream(parts, *, batch_size=4, steps=10, **options):
    task = TrainTask("toy", FAMILY, parts, batch_size=batch_size, row_length=16)
    return TrainStream([task], **{"steps": steps, "seed": 3, "tokenizer": None, **options})


def real_segments(batch):
    """(first id, length, label) of every segment in a batch, sorted."""
    rows, slots = np.nonzero(batch["slot_weight_rs"])
    return sorted(
        (int(batch["ids_rt"][r, batch["slots_rs"][r, s]]), int(batch["lengths_rs"][r, s]), int(batch["label_rs"][r, s]))
        for r, s in zip(rows, slots, strict=True)
    )


def test_ranges_are_indices_one_after_the_other():
    assert ranges(np.array([5, 0, 9]), np.array([2, 3, 0])).tolist() == [5, 6, 0, 1, 2]
    assert ranges(np.array([], int), np.array([], int)).tolist() == []


@given(st.lists(st.integers(1, 16), max_size=60), st.integers(1, 6))
@settings(deadline=None)
def test_packing_places_every_segment_once_and_overfills_no_row(lengths, slots):
    row_of = pack(lengths, capacity=16, slots=slots)
    assert len(row_of) == len(lengths)
    for r in set(row_of.tolist()):
        mine = np.flatnonzero(row_of == r)
        assert sum(lengths[i] for i in mine) <= 16 and len(mine) <= slots


@given(st.lists(st.integers(1, 16), max_size=60), st.integers(1, 6))
@settings(deadline=None)
def test_packing_takes_the_longest_first_and_puts_each_into_the_first_row_with_room(lengths, slots):
    row_of, rows = pack(lengths, capacity=16, slots=slots).tolist(), []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fits = [r for r, row in enumerate(rows) if sum(row) + lengths[i] <= 16 and len(row) < slots]
        assert row_of[i] == (fits[0] if fits else len(rows))
        if not fits:
            rows.append([])
        rows[row_of[i]].append(lengths[i])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.integers(1, 4), st.sampled_from([1, 4, 8]))
@settings(deadline=None)
def test_row_counts_are_few_multiples_that_cover_every_batch(needed, shapes, multiple):
    chosen = row_counts(needed, multiple=multiple, shapes=shapes)
    assert len(chosen) <= shapes and all(c % multiple == 0 for c in chosen) and max(needed) <= chosen[-1]


def test_row_counts_waste_as_little_as_an_exhaustive_search():
    needed = [3, 3, 3, 4, 9, 9, 10, 20]
    cost = lambda shapes: sum(min(s for s in shapes if s >= n) for n in needed)
    best = min(cost((a, b, 20)) for a in range(1, 21) for b in range(1, 21))
    assert cost(row_counts(needed, multiple=1, shapes=3)) == best


def test_a_segment_longer_than_a_row_is_refused_with_its_length():
    with pytest.raises(XtlError, match="17 tokens does not fit a row of 16"):
        pack([17], capacity=16, slots=4)


def test_packed_and_unpacked_steps_hold_the_same_examples():
    parts = [make(np.random.default_rng(0).integers(2, 9, 50))]
    packed, loose = stream(parts, packed=True), stream(parts, packed=False)
    for step in range(10):
        assert real_segments(packed[step][1]) == real_segments(loose[step][1])
        assert len(real_segments(packed[step][1])) == 4
    assert max(s.rows for s in packed.shapes[0]) < 4


def test_every_example_comes_once_an_epoch_across_batch_borders():
    data = stream([make([3] * 10), make([3] * 5, offset=100)], batch_size=4, steps=15)
    seen = [ids for step in range(15) for ids, _, _ in real_segments(data[step][1])]
    everything = [10 + i for i in range(10)] + [110 + i for i in range(5)]
    assert sorted(seen) == sorted(everything * 4)  # 60 draws = 4 epochs of 15


def test_accumulated_micro_batches_hold_the_same_examples_as_the_whole_batch():
    parts = [make(np.random.default_rng(1).integers(2, 15, 50))]
    whole, split = stream(parts)[3][1], stream(parts, accumulate=2)[3][1]
    assert split["ids_rt"].shape[0] == 2
    micro = [real_segments({k: v[a] for k, v in split.items()}) for a in range(2)]
    assert sorted(micro[0] + micro[1]) == real_segments(whole)


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_together_hold_exactly_the_global_batch(hosts):
    parts = [make(np.random.default_rng(2).integers(2, 15, 50))]
    whole = stream(parts, shards=4)
    shares = [stream(parts, shards=4, host=(h, hosts)) for h in range(hosts)]
    for step in (0, 7):
        for key, value in whole[step][1].items():
            if key.rsplit("_", 1)[1].startswith("r"):
                assert np.array_equal(np.concatenate([s[step][1][key] for s in shares]), value), key
            else:
                assert all(np.array_equal(s[step][1][key], value) for s in shares), key


def test_positions_restart_at_two_and_slots_point_at_first_tokens():
    _, batch = stream([make([5, 5, 5, 9, 2])])[0]
    for r, s in zip(*np.nonzero(batch["slot_weight_rs"]), strict=True):
        start, n = batch["slots_rs"][r, s], batch["lengths_rs"][r, s]
        assert batch["positions_rt"][r, start : start + n].tolist() == list(range(2, 2 + n))
        assert set(batch["segments_rt"][r, start : start + n].tolist()) == {s + 1}
    assert (batch["ids_rt"][batch["segments_rt"] == 0] == 1).all()


def test_choice_examples_point_at_all_their_segments():
    data = stream([make([4] * 12, per_example=[3] * 4)], batch_size=2, steps=4)
    _, batch = data[0]
    assert batch["segments_ec"].shape == (2, 3)
    slots = batch["slot_weight_rs"].shape[1]
    for e in range(2):
        labels = [batch["label_rs"][f // slots, f % slots] for f in batch["segments_ec"][e]]
        assert labels == list(range(labels[0], labels[0] + 3)) and labels[0] % 3 == 0


@given(st.lists(st.integers(1, 16), min_size=1, max_size=50), st.booleans())
@settings(deadline=None, max_examples=50)
def test_evaluation_returns_every_output_in_example_order(lengths, packed):
    encoded = make(lengths)
    batches = EvalBatches(encoded, FAMILY, rows=4, row_length=16, slots=3, packed=packed)
    outputs = [{"first_rs": np.take_along_axis(b["ids_rt"], b["slots_rs"], 1), "ids_rt": b["ids_rt"]} for b in batches]
    got = batches.gather(outputs)
    assert np.array_equal(got["ids_t"], encoded.ids)
    assert np.array_equal(got["first_s"], encoded.ids[encoded.segment_offsets[:-1]])


def test_evaluation_keeps_the_choices_of_an_example_in_one_batch():
    encoded = make([7] * 30, per_example=[3] * 10)
    batches = EvalBatches(encoded, FAMILY, rows=4, row_length=16, slots=2, choices=3)
    assert sum(int(b["weight_e"].sum()) for b in batches) == 10
    assert all(b["segment_weight_ec"].sum() == 3 * b["weight_e"].sum() for b in batches)


def test_language_sampling_follows_the_exponent():
    sizes = [100_000, 1_000]
    weights = exponent_weights(sizes, 0.3)
    part, index = Order(sizes, seed=1, weights=weights)(0, 40_000)
    assert abs((part == 1).mean() - weights[1]) < 0.01 and (index[part == 1] < 1_000).all()


def test_order_from_any_point_equals_the_order_from_the_start():
    order = Order([7, 4], seed=9)
    part, index = order(0, 60)
    later = order(23, 37)
    assert np.array_equal(later[0], part[23:]) and np.array_equal(later[1], index[23:])


def test_each_step_trains_one_task_drawn_by_weight():
    drawn = task_of_step([3.0, 1.0], steps=20_000, seed=0)
    assert abs((drawn == 0).mean() - 0.75) < 0.02
    assert np.array_equal(drawn[:50], task_of_step([3.0, 1.0], steps=50, seed=0))
