"""Accuracy and F1, against hand-counted cases and scikit-learn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from xtl.errors import XtlError
from xtl.metrics.classification import accuracy, accuracy_and_f1, binary_f1

aligned_labels = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1)


def test_accuracy_is_the_share_of_equal_labels_in_percent():
    assert accuracy(["entailment", "neutral", "neutral"], ["entailment", "neutral", "contradiction"]) == pytest.approx(
        200 / 3
    )


def test_binary_f1_of_a_hand_counted_case():
    # 2 right positives, 1 false alarm, 1 miss: precision 2/3, recall 2/3
    assert binary_f1([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]) == pytest.approx(200 / 3)
    assert binary_f1([0, 0], [0, 0]) == 0.0


def test_the_selection_number_of_qqp_is_the_mean_of_accuracy_and_f1():
    scores = accuracy_and_f1(["1", "1", "0", "0"], ["1", "0", "0", "0"], positive="1")
    assert scores == {"accuracy": 75.0, "f1": pytest.approx(200 / 3), "accuracy_f1": pytest.approx((75 + 200 / 3) / 2)}


@given(aligned_labels)
def test_accuracy_and_f1_equal_scikit_learn(pairs):
    gold, predictions = zip(*pairs, strict=True)
    assert accuracy(gold, predictions) == pytest.approx(100 * accuracy_score(gold, predictions))
    assert binary_f1(gold, predictions) == pytest.approx(100 * f1_score(gold, predictions, zero_division=0))


@given(aligned_labels, st.randoms(use_true_random=False))
def test_accuracy_and_f1_do_not_depend_on_the_order_of_examples(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    assert accuracy_and_f1(*zip(*pairs, strict=True)) == accuracy_and_f1(*zip(*shuffled, strict=True))


def test_lists_of_different_length_and_empty_ones_are_refused():
    with pytest.raises(XtlError, match="2 predictions for 3 examples"):
        accuracy([1, 0, 1], [1, 0])
    with pytest.raises(XtlError, match="nothing to score"):
        accuracy([], [])


def test_words_are_not_compared_with_indices():
    with pytest.raises(XtlError, match="different kinds"):
        accuracy(["1", "0"], [1, 0])
