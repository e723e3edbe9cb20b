"""Tag family: every word of every sentence gets its tag, however long the sentence and however odd the word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_tokenizer import small_tokenizer
from xtl.data.batches import EvalBatches
from xtl.errors import XtlError
from xtl.families.tag import FAMILY as tag
from xtl.task import Loaded, Tagged, Task

TOKENIZER = small_tokenizer()
TASK = Task(
    name="toy", family="tag", about="", languages=("en",), splits=("test",), metric="f1", labels=("X", "Y", "Z")
)
LENGTH = 12  # room for ten pieces
WORDS = [
    "cat",
    "the",
    "sitting",
    "xyz",
    " ",
    "👍🏽",
    "e\u0301",
    "שלום",
    "你好世界",
    "東京大学",
    "a" * 9,
    "a" * 10,
    "a" * 40,
]


def evaluate(examples, logits_of, max_length=LENGTH):
    encoded = tag.encode(TASK, examples, TOKENIZER, max_length=max_length, train=False)
    batches = EvalBatches(encoded, tag, rows=3, row_length=2 * LENGTH, slots=4)
    outputs = [{k: np.asarray(v) for k, v in tag.outputs(TASK, logits_of(b), b).items()} for b in batches]
    return tag.decode(TASK, examples, encoded, batches.gather(outputs))


def perfect(batch):
    logits = np.zeros((*batch["ids_rt"].shape, 3), np.float32)
    rows, at = np.nonzero(batch["tag_rt"] >= 0)
    logits[rows, at, batch["tag_rt"][rows, at]] = 1
    return logits


sentences = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 2)), max_size=30).map(
    lambda pairs: Tagged("s", tuple(w for w, _ in pairs), tuple(t for _, t in pairs))
)


@given(st.lists(sentences, min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_no_word_is_lost_by_splitting_packing_and_joining(examples):
    predictions = evaluate(examples, perfect)
    assert predictions == [tuple(TASK.labels[t] for t in x.tags) for x in examples]


@given(st.lists(sentences, min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_segments_fit_rows_hold_whole_words_and_are_as_few_as_can_be(examples):
    encoded = tag.encode(TASK, examples, TOKENIZER, max_length=LENGTH, train=True)
    assert encoded.segment_lengths.max() <= LENGTH
    pieces = iter(TOKENIZER.encode_batch([w for x in examples for w in x.words]))
    expected, sources = [], []
    for i, x in enumerate(examples):
        row = []
        for _ in x.words:
            ids = next(pieces)[0].tolist()
            ids = ids if 0 < len(ids) <= LENGTH - 2 else [3]
            if len(row) + len(ids) > LENGTH - 2:
                expected.append(row)
                row = []
            row = row + ids
        expected.append(row)
        sources += [i] * (len(expected) - len(sources))
    assert encoded.segment_columns["_example"].tolist() == sources
    assert [encoded.ids[encoded.tokens(s)].tolist() for s in range(encoded.segments)] == [[0, *r, 2] for r in expected]


def test_labels_stand_on_first_pieces_only():
    x = Tagged("s", ("cat", "xyz", " "), (0, 1, 2))
    encoded = tag.encode(TASK, [x], TOKENIZER, max_length=LENGTH, train=False)
    assert TOKENIZER.pieces(encoded.ids) == ["<s>", "▁cat", "▁", "x", "y", "z", "<unk>", "</s>"]
    assert encoded.token_columns["tag"].tolist() == [-1, 0, 1, -1, -1, -1, 2, -1]
    assert encoded.token_columns["_first"].tolist() == [0, 1, 1, 0, 0, 0, 1, 0]


def test_loss_counts_tagged_words():
    examples = [Tagged("s", ("cat", "xyz"), (0, 1)), Tagged("t", ("the",), None)]
    encoded = tag.encode(TASK, examples, TOKENIZER, max_length=LENGTH, train=False)
    (batch,) = EvalBatches(encoded, tag, rows=1, row_length=LENGTH * 2, slots=4)
    loss, weight = tag.loss(np.zeros((1, LENGTH * 2, 3), np.float32), batch)
    assert weight == 2
    np.testing.assert_allclose(loss, 2 * np.log(3), rtol=1e-6)


def test_hidden_tags_are_predicted_and_left_out_of_scores():
    examples = [Tagged("s", ("cat", "xyz"), (0, 0)), Tagged("t", ("the",), None)]
    predictions = evaluate(examples, lambda b: np.zeros((*b["ids_rt"].shape, 3), np.float32))
    assert predictions == [("X", "X"), ("X",)]
    assert tag.score(TASK, "en", Loaded(examples), predictions)["f1"] == 100
    assert tag.score(TASK, "en", Loaded(examples), predictions)["n"] == 1
    assert tag.score(TASK, "en", Loaded(examples[1:]), predictions[1:]) == {"n": 0}


def test_training_sentences_need_as_many_tags_as_words():
    with pytest.raises(XtlError, match="sentence s has no tags"):
        tag.encode(TASK, [Tagged("s", ("cat",), None)], TOKENIZER, max_length=LENGTH, train=True)
    with pytest.raises(XtlError, match="sentence s has 2 tags for 1 words"):
        tag.encode(TASK, [Tagged("s", ("cat",), (0, 1))], TOKENIZER, max_length=LENGTH, train=True)
