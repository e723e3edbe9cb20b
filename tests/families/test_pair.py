"""Pair and choice families: templates, truncation one piece at a time, masked choices, labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.small_tokenizer import small_tokenizer
from xtl.data.batches import EvalBatches
from xtl.data.sequences import interleaved, pairs, singles, truncated_lengths
from xtl.errors import XtlError
from xtl.families.choice import FAMILY as choice
from xtl.families.interface import NEVER
from xtl.families.pair import FAMILY as pair
from xtl.task import Choice, Loaded, Pair, Task

TOKENIZER = small_tokenizer()


def task(family, **fields):
    return Task(
        **{"name": "toy", "about": "", "languages": (), "splits": (), "metric": "accuracy", **fields}, family=family
    )


NLI = task("pair", labels=("no", "yes", "maybe"))
COPA = task("choice")


def flat(*texts):
    offsets = np.cumsum([0, *map(len, texts)])
    return np.array([t for text in texts for t in text], np.int32), offsets.astype(np.int64)


def segments(encoded):
    return [encoded.ids[encoded.tokens(s)].tolist() for s in range(encoded.segments)]


# ---------------------------------------------------------------- sequences


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 50))
def test_truncation_is_one_piece_at_a_time_from_the_longer(a, b, budget):
    x, y = a, b
    while x + y > budget:
        x, y = (x - 1, y) if x >= y else (x, y - 1)
    assert [int(v) for v in truncated_lengths(np.array(a), np.array(b), budget)] == [x, y]


def test_pairs_have_two_separators_and_are_cut_at_the_end_or_the_front():
    a, b = flat([11, 12, 13, 14, 15], [11], []), flat([21, 22, 23], [21, 22, 23, 24, 25, 26], [21])
    assert segments(pairs(a, b, max_length=20))[0] == [0, 11, 12, 13, 14, 15, 2, 2, 21, 22, 23, 2]
    assert segments(pairs(a, b, max_length=9)) == [
        [0, 11, 12, 2, 2, 21, 22, 23, 2],
        [0, 11, 2, 2, 21, 22, 23, 24, 2],
        [0, 2, 2, 21, 2],
    ]
    assert segments(pairs(a, b, max_length=9, front=True))[:2] == [
        [0, 14, 15, 2, 2, 21, 22, 23, 2],
        [0, 11, 2, 2, 23, 24, 25, 26, 2],
    ]
    single = np.array([True, False, True])
    assert segments(pairs(a, b, max_length=6, single=single)) == [[0, 11, 12, 13, 14, 2], [0, 11, 2, 2, 21, 2], [0, 2]]


def test_singles_are_cut_at_their_end_each_at_its_own_length():
    texts = flat([11, 12, 13], [], [21, 22, 23])
    assert segments(singles(texts, max_length=4)) == [[0, 11, 12, 2], [0, 2], [0, 21, 22, 2]]
    assert segments(singles(texts, max_length=np.array([3, 9, 9]))) == [[0, 11, 2], [0, 2], [0, 21, 22, 23, 2]]


def test_interleaved_examples_hold_one_segment_of_each():
    both = interleaved(singles(flat([11], [12, 13]), max_length=9), singles(flat([21, 22], []), max_length=9))
    assert segments(both) == [[0, 11, 2], [0, 21, 22, 2], [0, 12, 13, 2], [0, 2]]
    assert both.example_offsets.tolist() == [0, 2, 4]


# ---------------------------------------------------------------- pair


def test_pair_texts_become_one_segment_with_its_label():
    examples = [Pair("1", "the cat", "sat", 1), Pair("2", "dog", None, None)]
    encoded = pair.encode(NLI, examples, TOKENIZER, max_length=16, train=False)
    assert TOKENIZER.pieces(encoded.ids[encoded.tokens(0)]) == ["<s>", "▁the", "▁cat", "</s>", "</s>", "▁sat", "</s>"]
    assert TOKENIZER.pieces(encoded.ids[encoded.tokens(1)]) == ["<s>", "▁dog", "</s>"]
    assert encoded.segment_columns["label"].tolist() == [1, -1]
    with pytest.raises(XtlError, match="training example 2 has no label"):
        pair.encode(NLI, examples, TOKENIZER, max_length=16, train=True)


def test_pair_loss_skips_empty_slots_and_hidden_labels():
    examples = [Pair("1", "cat", "sat", 1), Pair("2", "dog", None, None)]
    (batch,) = EvalBatches(
        pair.encode(NLI, examples, TOKENIZER, max_length=16, train=False), pair, rows=1, row_length=32, slots=4
    )
    logits = np.zeros((1, 4, 3), np.float32)
    loss, weight = pair.loss(logits, batch)
    assert weight == 1
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)


def test_pair_predictions_are_label_words_and_scores_leave_out_hidden_labels():
    examples = [Pair("1", "a", None, 1), Pair("2", "b", None, None), Pair("3", "c", None, 0)]
    predictions = pair.decode(NLI, examples, None, {"logits_sk": np.array([[0, 2, 1], [3, 2, 1], [0, 0, 5]])})
    assert predictions == ["yes", "no", "maybe"]
    assert pair.score(NLI, "en", Loaded(examples), predictions) == {"accuracy": 50, "n": 2}
    assert pair.score(NLI, "en", Loaded(examples[1:2]), predictions[1:2]) == {"n": 0}
    qqp = task("pair", labels=("0", "1"), metric="accuracy_f1")
    scores = pair.score(qqp, "en", Loaded([Pair("1", "a", "b", 1), Pair("2", "a", "b", 1)]), ["1", "0"])
    assert scores["accuracy"] == 50 and round(scores["f1"], 2) == 66.67 and scores["n"] == 2


# ---------------------------------------------------------------- choice

STORY = Choice("1", "the cat sat on", ("a mat", "a dog", "the river"), 2)


def test_every_choice_is_a_segment_with_the_prompt_cut_at_its_front():
    encoded = choice.encode(COPA, [STORY], TOKENIZER, max_length=8, train=True)
    assert [TOKENIZER.pieces(ids) for ids in segments(encoded)] == [
        ["<s>", "▁sat", "▁on", "</s>", "</s>", f"▁{a}", f"▁{b}", "</s>"]
        for a, b in (choice.split() for choice in STORY.choices)
    ]
    assert encoded.example_offsets.tolist() == [0, 3] and encoded.example_columns["label"].tolist() == [2]


def test_choices_an_example_lacks_are_never_chosen_and_cost_nothing():
    two = Choice("2", "who", ("cat", "dog"), 0)
    encoded = choice.encode(COPA, [STORY, two], TOKENIZER, max_length=16, train=True)
    (batch,) = EvalBatches(encoded, choice, rows=2, row_length=32, slots=4, choices=3)
    logits = np.where(batch["segment_weight_ec"] > 0, 0.0, NEVER).astype(np.float32)
    loss, weight = choice.loss(logits, batch)
    assert weight == 2
    np.testing.assert_allclose(loss, np.log(3) + np.log(2), rtol=1e-6)
    assert choice.decode(COPA, [STORY, two], encoded, {"logits_ec": logits[:2]}) == [0, 0]


def test_choice_scores_leave_out_hidden_labels_and_bad_labels_are_errors():
    hidden = Choice("2", "who", ("cat", "dog"), None)
    assert choice.score(COPA, "en", Loaded([STORY, hidden]), [2, 0]) == {"accuracy": 100, "n": 1}
    assert choice.score(COPA, "en", Loaded([hidden]), [0]) == {"n": 0}
    with pytest.raises(XtlError, match="example 3 has 2 choices and label 2"):
        choice.encode(COPA, [Choice("3", "who", ("cat", "dog"), 2)], TOKENIZER, max_length=8, train=True)
    with pytest.raises(XtlError, match="training example 2 has no label"):
        choice.encode(COPA, [hidden], TOKENIZER, max_length=8, train=True)
