"""The chunk rule of seqeval 0.0.12 and token accuracy."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtl.errors import XtlError
from xtl.metrics.tagging import chunk_f1, chunks, tagging_scores, token_accuracy
from xtl.task import PANX_TAGS, UPOS


def sentences(tags):
    sentence = st.integers(1, 6).flatmap(
        lambda n: st.tuples(*[st.lists(st.sampled_from(tags), min_size=n, max_size=n)] * 2)
    )
    return st.lists(sentence, min_size=1, max_size=6)


def test_b_opens_a_chunk_and_i_of_the_same_type_continues_it():
    assert chunks(["B-PER", "I-PER", "O", "B-LOC", "B-LOC"]) == [("PER", 0, 1), ("LOC", 3, 3), ("LOC", 4, 4)]


def test_i_opens_a_chunk_after_o_and_after_another_type():
    assert chunks(["O", "I-PER", "I-PER", "I-LOC", "B-LOC", "I-ORG"]) == [
        ("PER", 1, 2),
        ("LOC", 3, 3),
        ("LOC", 4, 4),
        ("ORG", 5, 5),
    ]


def test_s_and_e_close_their_chunk():
    assert chunks(["S-PER", "S-PER", "B-LOC", "E-LOC", "E-LOC"]) == [
        ("PER", 0, 0),
        ("PER", 1, 1),
        ("LOC", 2, 3),
        ("LOC", 4, 4),
    ]


def test_a_run_of_one_upos_tag_is_one_chunk():
    assert chunks(["NOUN", "NOUN", "VERB", "DET", "DET", "DET", "INTJ", "INTJ"]) == [
        ("NOUN", 0, 1),
        ("VERB", 2, 2),
        ("DET", 3, 5),
        ("INTJ", 6, 7),
    ]


def test_upos_tags_that_begin_with_s_are_chunks_of_one_word():
    assert chunks(["SCONJ", "SCONJ", "SYM", "SYM"]) == [("SCONJ", 0, 0), ("SCONJ", 1, 1), ("SYM", 2, 2), ("SYM", 3, 3)]


def test_cconj_and_sconj_are_different_types_unlike_in_seqeval_1_2():
    assert chunk_f1([["CCONJ"]], [["SCONJ"]])["f1"] == 0.0


def test_chunk_f1_of_a_hand_counted_case():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    predictions = [["B-PER", "I-PER", "O", "O"], ["B-ORG", "I-ORG"]]  # 1 right of 2 predicted and 3 gold
    assert chunk_f1(gold, predictions) == {
        "f1": pytest.approx(40.0),
        "precision": pytest.approx(50.0),
        "recall": pytest.approx(100 / 3),
    }
    assert token_accuracy(gold, predictions) == pytest.approx(100 * 4 / 6)


def test_upos_f1_and_token_accuracy_differ():
    # gold runs: DET, NOUN(1-2), VERB; predicted runs: DET, NOUN, PROPN, VERB; 3 of 4 tags right, 2 chunks right
    scores = tagging_scores([["DET", "NOUN", "NOUN", "VERB"]], [["DET", "NOUN", "PROPN", "VERB"]])
    assert scores == {
        "f1": pytest.approx(100 * 4 / 7),
        "precision": 50.0,
        "recall": pytest.approx(100 * 2 / 3),
        "accuracy": 75.0,
    }


def test_a_chunk_does_not_reach_into_the_next_sentence():
    assert chunk_f1([["B-PER"], ["I-PER"]], [["B-PER"], ["I-PER"]])["f1"] == 100.0
    assert chunk_f1([["B-PER", "I-PER"]], [["B-PER", "B-PER"]])["f1"] == 0.0


def test_without_any_chunk_the_f1_is_0_and_the_accuracy_100():
    assert tagging_scores([["O", "O"]], [["O", "O"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 100.0}


@given(sentences([tag for tag in UPOS if tag[0] != "S"]))
def test_upos_chunks_are_maximal_runs(pairs):
    for tags, _ in pairs:
        start, runs = 0, []
        for tag, run in itertools.groupby(tags):
            length = len(list(run))
            runs.append((tag, start, start + length - 1))
            start += length
        assert chunks(tags) == runs


@given(sentences(PANX_TAGS))
def test_every_tag_that_is_not_o_lies_in_exactly_one_chunk_of_its_type(pairs):
    for tags, _ in pairs:
        covered = [(index, kind) for kind, first, last in chunks(tags) for index in range(first, last + 1)]
        assert covered == [(index, tag[2:]) for index, tag in enumerate(tags) if tag != "O"]


@given(sentences(UPOS), st.randoms(use_true_random=False))
def test_scores_lie_in_range_perfect_tags_score_100_and_order_of_sentences_is_free(pairs, random):
    gold, predictions = zip(*pairs, strict=True)
    assert set(tagging_scores(gold, gold).values()) == {100.0}
    scores = tagging_scores(gold, predictions)
    assert all(0 <= value <= 100 for value in scores.values())
    shuffled = random.sample(pairs, len(pairs))
    assert tagging_scores(*zip(*shuffled, strict=True)) == scores


def test_a_sentence_of_another_length_is_named_instead_of_shifting_the_rest():
    with pytest.raises(XtlError, match="sentence 2: 1 tags predicted for 2 words"):
        tagging_scores([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(XtlError, match="1 predictions for 2 sentences"):
        chunk_f1([["O"], ["O"]], [["O"]])
    with pytest.raises(XtlError, match="word 2 has an empty tag"):
        chunks(["O", ""])
