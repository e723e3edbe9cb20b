"""MLM family: what is masked, how often, where it is gathered, what is reported."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_tokenizer import small_tokenizer
from xtl.data.batches import EvalBatches, TrainStream, TrainTask
from xtl.data.rows import RowShape
from xtl.families.mlm import FAMILY as mlm
from xtl.families.mlm import mask, places
from xtl.task import Loaded, Task, Text

TOKENIZER = small_tokenizer()
TASK = Task(name="mlm", family="mlm", about="", languages=("en",), splits=("train",), metric="loss")
TEXTS = [Text("a", "the cat sat on a mat"), Text("b", ""), Text("c", "who " * 30), Text("d", "dog")]


def test_long_texts_go_on_in_further_segments_and_nothing_is_lost():
    encoded = mlm.encode(TASK, TEXTS, TOKENIZER, max_length=12, train=False)
    assert encoded.segment_lengths.tolist() == [8, 2, 12, 12, 12, 3]
    assert encoded.segment_columns["_example"].tolist() == [0, 1, 2, 2, 2, 3]
    assert (encoded.ids[encoded.segment_offsets[:-1]] == 0).all()
    trained = mlm.encode(TASK, TEXTS, TOKENIZER, max_length=12, train=True)
    assert trained.segment_lengths.tolist() == [8, 12, 12, 12, 3], "a text without pieces teaches nothing"
    kept = [i for i in trained.ids if i not in (0, 2)]
    assert kept == TOKENIZER.encode_ids_batch(t.text for t in TEXTS)[0].tolist()


@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_specials_are_never_chosen_and_targets_are_the_originals(size, seed):
    rng = np.random.default_rng(seed)
    ids = np.array([0, *rng.integers(3, TOKENIZER.vocab_size, size), 2], np.int32)
    before = ids.copy()
    masked, target = mask(ids, np.random.default_rng(seed), TOKENIZER)
    assert (ids == before).all(), "the cached tokens must stay as they are"
    assert (target[target >= 0] == ids[target >= 0]).all() and (masked[target < 0] == ids[target < 0]).all()
    assert not np.isin(ids[target >= 0], [0, 1, 2, 3, TOKENIZER.mask]).any()
    assert (target >= 0).sum() <= math.ceil(0.15 * size)
    again, _ = mask(ids, np.random.default_rng(seed), TOKENIZER)
    assert (again == masked).all()


def test_fifteen_percent_are_chosen_and_split_80_10_10_also_in_short_texts():
    rng = np.random.default_rng(0)
    chosen, hidden, kept, total = 0, 0, 0, 0
    for n in list(range(1, 40)) * 60:
        ids = np.array([0, *rng.integers(4, TOKENIZER.mask, n), 2], np.int32)
        masked, target = mask(ids, rng, TOKENIZER)
        at = target >= 0
        total, chosen = total + n, chosen + at.sum()
        hidden += (masked[at] == TOKENIZER.mask).sum()
        kept += (masked[at] == ids[at]).sum()
    assert abs(chosen / total - 0.15) < 0.005
    assert abs(hidden / chosen - 0.8) < 0.015
    assert abs(kept / chosen - 0.1) < 0.015  # a random piece is the old one in 1 of 100 draws


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 100))
@settings(deadline=None)
def test_chosen_pieces_always_fit_their_places(sizes, seed):
    length, rng = sum(sizes) + 2 * len(sizes), np.random.default_rng(seed)
    chosen = 0
    for n in sizes:
        ids = np.array([0, *rng.integers(4, TOKENIZER.mask, n), 2], np.int32)
        chosen += (mask(ids, rng, TOKENIZER)[1] >= 0).sum()
    assert chosen <= places(RowShape(rows=1, length=length, slots=len(sizes), examples=len(sizes)))


def stream(seed=0):
    encoded = mlm.encode(TASK, TEXTS * 5, TOKENIZER, max_length=12, train=True)
    part = TrainTask("mlm", mlm, [encoded], batch_size=10, row_length=24)
    return TrainStream([part], steps=4, seed=seed, tokenizer=TOKENIZER, slots=4)


def test_gathered_positions_point_at_what_was_masked():
    _, batch = stream()[2]
    assert "target_rt" not in batch
    weight = batch["target_weight_rm"] > 0
    ids = np.take_along_axis(batch["ids_rt"], batch["masked_rm"], axis=1)
    assert weight.any() and (batch["target_rm"][~weight] == -1).all() and (batch["target_rm"][weight] > 3).all()
    assert (np.isin(ids[weight], [0, 1, 2])).sum() == 0
    hidden = (batch["ids_rt"] == TOKENIZER.mask).sum()
    assert hidden == (ids[weight] == TOKENIZER.mask).sum() > 0


def test_masks_are_a_function_of_seed_and_step():
    assert all((stream()[2][1][k] == stream()[2][1][k]).all() for k in ("ids_rt", "target_rm"))
    assert not np.array_equal(stream()[2][1]["ids_rt"], stream(seed=1)[2][1]["ids_rt"])


def test_loss_accuracy_and_perplexity_are_per_chosen_piece():
    encoded = mlm.encode(TASK, TEXTS, TOKENIZER, max_length=12, train=False)
    batches = EvalBatches(encoded, mlm, rows=2, row_length=36, slots=4, tokenizer=TOKENIZER)
    outputs, sums = [], np.zeros(2)
    for batch in batches:
        right = np.eye(TOKENIZER.vocab_size, dtype=np.float32)[np.maximum(batch["target_rm"], 0)] * 5
        right[::2] = 0
        outputs.append({k: np.asarray(v) for k, v in mlm.outputs(TASK, right, batch).items()})
        sums += [float(x) for x in mlm.loss(right, batch)]
    predictions = mlm.decode(TASK, TEXTS, encoded, batches.gather(outputs))
    assert len(predictions) == len(TEXTS) and predictions[1] == (0, 0, 0)
    scores = mlm.score(TASK, "en", Loaded(TEXTS), predictions)
    np.testing.assert_allclose(scores["loss"], sums[0] / sums[1], rtol=1e-5)
    np.testing.assert_allclose(scores["perplexity"], np.exp(scores["loss"]), rtol=1e-6)
    assert 0 < scores["masked_accuracy"] < 100 and scores["n"] == 4
    assert mlm.score(TASK, "en", Loaded(TEXTS[1:2]), predictions[1:2]) == {"n": 0}
