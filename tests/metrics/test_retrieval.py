"""Bitext mining after the neighbour search, Tatoeba's gold, and mAP@20."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtl.errors import XtlError
from xtl.metrics.classification import accuracy
from xtl.metrics.retrieval import (
    above,
    best_threshold,
    mean_average_precision,
    mine_pairs,
    named_pairs,
    pair_f1,
    tatoeba_gold,
    unique_sentences,
)

# ---------------------------------------------------------------- Tatoeba


def test_tatoeba_gold_is_the_foreign_row_of_each_english_line_in_sorted_order():
    gold = tatoeba_gold(["See you.", " Are you in?\n", "Yes.", "apples"])
    assert gold == [1, 0, 2, 3]  # code point order: capitals before small letters
    assert accuracy(gold, [1, 0, 3, 3]) == 75.0


# ---------------------------------------------------------------- BUCC


def test_unique_sentences_keep_the_first_order_the_last_vector_and_no_id_for_repeats():
    unique = unique_sentences(["de-1", "de-2", "de-3", "de-4"], ["x", "y", "x", "z"])
    assert unique.rows_x.tolist() == [2, 1, 3]
    assert unique.ids == (None, "de-2", "de-4")


def test_sentences_that_differ_in_outer_space_lose_their_ids():
    unique = unique_sentences(["de-1", "de-2", "de-3"], ["x", "x ", "y"])
    assert unique.rows_x.tolist() == [0, 1, 2]
    assert unique.ids == (None, None, "de-3")


def test_margin_and_selection_of_a_hand_counted_case():
    # Two neighbours. Mean cosines: sources 0.7, 0.6; targets 0.7, 0.6 (so every margin divides by 0.6..0.7).
    forward_ids, forward = np.array([[0, 1], [0, 1]]), np.array([[0.9, 0.5], [0.5, 0.7]])
    backward_ids, backward = np.array([[0, 1], [1, 0]]), np.array([[0.9, 0.5], [0.7, 0.5]])
    pairs, scores = mine_pairs(forward_ids, forward, backward_ids, backward)
    assert pairs.tolist() == [[0, 0], [1, 1]]
    assert scores == pytest.approx([0.9 / 0.7, 0.7 / 0.6])


def test_a_sentence_is_used_once_and_the_better_pair_wins():
    # Both sources prefer target 0; source 1 has the larger margin and takes it; source 0 is left without a pair, since
    # target 1 proposes source 1 as well.
    forward_ids, forward = np.array([[0, 1], [0, 1]]), np.array([[0.8, 0.4], [0.9, 0.6]])
    backward_ids, backward = np.array([[1, 0], [1, 0]]), np.array([[0.9, 0.8], [0.6, 0.4]])
    pairs, scores = mine_pairs(forward_ids, forward, backward_ids, backward)
    # margins: (0,0) .8/((.6+.85)/2)=1.103  (1,0) .9/((.75+.85)/2)=1.125  (1,1) .6/((.75+.5)/2)=.96
    assert pairs.tolist() == [[1, 0]]
    assert scores == pytest.approx([1.125])


def test_pairs_at_or_below_zero_are_not_returned():
    # margins: (0,0) 1.0, (1,1) -0.1 / ((-0.1 + 0.5) / 2) = -0.5
    pairs, scores = mine_pairs(
        np.array([[0], [1]]), np.array([[0.9], [-0.1]]), np.array([[0], [0]]), np.array([[0.9], [0.5]])
    )
    assert pairs.tolist() == [[0, 0]] and scores == pytest.approx([1.0])


def test_vectors_that_gave_no_finite_margin_are_refused():
    with pytest.raises(XtlError, match="not finite"):
        mine_pairs(np.array([[0]]), np.array([[np.nan]]), np.array([[0]]), np.array([[0.5]]))
    with pytest.raises(XtlError, match="forward neighbours have shape"):
        mine_pairs(np.array([0]), np.array([0.5]), np.array([[0]]), np.array([[0.5]]))


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_mining_equals_a_plain_loop_over_all_vectors(sources, targets, seed):
    rng = np.random.default_rng(seed)
    x_xd, y_yd = rng.random((sources, 6)) + 0.05, rng.random((targets, 6)) + 0.05
    x_xd /= np.linalg.norm(x_xd, axis=1, keepdims=True)
    y_yd /= np.linalg.norm(y_yd, axis=1, keepdims=True)
    cosines_xy = x_xd @ y_yd.T

    def neighbours(cosines, k):
        ids = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return ids, np.take_along_axis(cosines, ids, axis=1)

    forward, backward = neighbours(cosines_xy, min(4, targets)), neighbours(cosines_xy.T, min(4, sources))
    pairs, scores = mine_pairs(*forward, *backward)

    proposals = {}
    for direction, (ids, cosines) in enumerate((forward, backward)):
        for q, (row, values) in enumerate(zip(ids, cosines, strict=True)):
            margins = {}
            for p, cosine in zip(row, values, strict=True):
                x, y = (q, p) if direction == 0 else (p, q)
                margins[int(x), int(y)] = cosine / ((forward[1][x].mean() + backward[1][y].mean()) / 2)
            best = max(margins, key=lambda pair: margins[pair])
            proposals[best] = margins[best]
    taken = {}
    for (x, y), score in sorted(proposals.items(), key=lambda item: -item[1]):
        if all(x != a and y != b for a, b in taken):
            taken[x, y] = score
    assert dict(zip(map(tuple, pairs.tolist()), scores, strict=True)) == pytest.approx(taken)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    assert (np.diff(scores) <= 1e-12).all()


def test_pairs_with_a_repeated_sentence_are_dropped_on_the_way_to_ids():
    source = unique_sentences(["de-1", "de-2", "de-3"], ["x", "y", "y"])
    target = unique_sentences(["en-1", "en-2"], ["a", "b"])
    named = named_pairs(np.array([[1, 0], [0, 1]]), np.array([1.5, 1.2]), source, target)
    assert named == {("de-1", "en-2"): 1.2}


CANDIDATES = {("a", "1"): 4.0, ("b", "2"): 3.0, ("c", "9"): 2.0, ("d", "4"): 1.0}


def test_threshold_is_half_way_between_the_best_rank_and_the_next():
    # gold a, b and an unfound one: F1 after each rank 2/4, 4/5, 4/6, 4/7
    gold = [("a", "1"), ("b", "2"), ("z", "7")]
    assert best_threshold(CANDIDATES, gold) == 2.5
    assert above(CANDIDATES, 2.5) == [("a", "1"), ("b", "2")]


def test_threshold_when_the_best_rank_is_the_last_one_is_its_own_score():
    gold = list(CANDIDATES)
    assert best_threshold(CANDIDATES, gold) == 1.0
    assert pair_f1(gold, above(CANDIDATES, 1.0))["f1"] == 100.0
    assert best_threshold({("a", "1"): 0.7}, [("a", "1")]) == 0.7


def test_threshold_is_0_when_no_candidate_is_right_or_there_is_none():
    assert best_threshold(CANDIDATES, [("q", "q")]) == 0.0
    assert best_threshold({}, [("q", "q")]) == 0.0


def test_of_equal_f1_the_earlier_rank_gives_the_threshold():
    # gold a, d (of 2): F1 after ranks 2/3, 2/4, 2/5, 4/6
    assert best_threshold(CANDIDATES, [("a", "1"), ("d", "4")]) == 3.5


@given(
    st.dictionaries(st.integers(0, 30), st.integers(1, 1000), min_size=1),
    st.sets(st.integers(0, 40), min_size=1),
)
def test_threshold_reaches_the_best_f1_of_all_thresholds_when_scores_differ(scores, gold):
    candidates = {(str(i), str(i)): s + i / 1000 for i, s in scores.items()}
    wanted = {(str(i), str(i)) for i in gold}
    f1 = pair_f1(wanted, above(candidates, best_threshold(candidates, wanted)))["f1"]
    assert f1 == pytest.approx(max(pair_f1(wanted, above(candidates, t))["f1"] for t in candidates.values()))


def test_pair_f1_of_a_hand_counted_case_counts_repeats_once():
    gold = [("de-1", "en-1"), ("de-2", "en-2"), ("de-3", "en-3")]
    predictions = [("de-1", "en-1"), ("de-1", "en-1"), ("de-2", "en-9")]
    assert pair_f1(gold, predictions) == {
        "f1": pytest.approx(40.0),
        "precision": 50.0,
        "recall": pytest.approx(100 / 3),
    }
    assert pair_f1(gold, []) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}


# ---------------------------------------------------------------- mAP@20


def test_with_one_right_candidate_map_is_the_mean_reciprocal_rank():
    gold = {"m1": ["Q1"], "m2": ["Q2"], "m3": ["Q3"]}
    rankings = {"m1": ["Q9", "Q1"], "m2": ["Q2"], "m3": [f"Q{i}" for i in range(100, 120)] + ["Q3"]}
    assert mean_average_precision(gold, rankings) == pytest.approx(100 * (1 / 2 + 1 + 0) / 3)


def test_with_several_right_candidates_the_divisor_is_their_number_up_to_20():
    # hits at ranks 1 and 3 of 3 right ones: (1/1 + 2/3) / 3
    assert mean_average_precision({"q": ["a", "b", "c"]}, {"q": ["a", "x", "b"]}) == pytest.approx(100 * (5 / 3) / 3)
    many = [str(i) for i in range(30)]
    assert mean_average_precision({"q": many}, {"q": many}) == 100.0


def test_a_candidate_listed_twice_counts_once():
    assert mean_average_precision({"q": ["a", "b"]}, {"q": ["a", "a", "a"]}) == 50.0


def test_missing_rankings_are_errors_or_score_0():
    with pytest.raises(XtlError, match="1 of 2 queries have no ranking, the first is q2"):
        mean_average_precision({"q1": ["a"], "q2": ["b"]}, {"q1": ["a"]})
    with pytest.raises(XtlError, match="unknown queries"):
        mean_average_precision({"q1": ["a"]}, {"q1": ["a"], "q3": ["a"]})
    assert mean_average_precision({"q1": ["a"], "q2": ["b"]}, {"q1": ["a"]}, strict=False) == 50.0


ranked = st.dictionaries(
    st.text(max_size=3),
    st.tuples(st.sets(st.integers(0, 25), min_size=1), st.lists(st.integers(0, 25), unique=True)),
    min_size=1,
)


@given(ranked, st.randoms(use_true_random=False))
def test_map_lies_in_range_and_a_perfect_ranking_scores_100(queries, random):
    gold = {q: [str(i) for i in right] for q, (right, _) in queries.items()}
    rankings = {q: [str(i) for i in ranking] for q, (_, ranking) in queries.items()}
    score = mean_average_precision(gold, rankings)
    assert 0 <= score <= 100 + 1e-9
    assert mean_average_precision(gold, gold) == pytest.approx(100.0)
    shuffled = dict(random.sample(list(gold.items()), len(gold)))
    assert mean_average_precision(shuffled, rankings) == pytest.approx(score)
