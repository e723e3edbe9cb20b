"""Span family: answers survive windows and packing in any script; decoding is the rule of the reference."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_tokenizer import small_tokenizer
from xtl.data.batches import EvalBatches
from xtl.errors import XtlError
from xtl.families.span import FAMILY as span
from xtl.families.span import Answer, _windows, summary
from xtl.task import Loaded, Span, Task

TOKENIZER = small_tokenizer()
TASK = Task(
    name="toy", family="span", about="", languages=("en",), splits=("test",), metric="f1", options={"stride": 16}
)
V2 = Task(
    name="v2", family="span", about="", languages=("en",), splits=("test",), metric="f1", options={"unanswerable": True}
)
LENGTH = 64
SCRIPTS = "👍🏽 👩\u200d👩 e\u0301te\u0301 שלום ابتسم हिन्दी 你好世界 東京 ＡＢ"
WORDS = ["the", "cat", "paris", "1923,", "(x)", *SCRIPTS.split(" ")]


@functools.partial(jax.jit, static_argnames="slots")
def device_outputs(logits, batch, slots):
    return span.outputs(TASK, logits, batch)


def evaluate(task, examples, logits_of, encoded=None):
    """Predictions by the whole path: encode, pack, device outputs of the given logits, back in order, decode."""
    encoded = encoded or span.encode(task, examples, TOKENIZER, max_length=LENGTH, train=False)
    batches = EvalBatches(encoded, span, rows=4, row_length=2 * LENGTH, slots=8)
    outputs = [jax.device_get(device_outputs(logits_of(batch), batch, slots=8)) for batch in batches]
    return span.decode(task, examples, encoded, batches.gather(outputs))


def perfect(batch):
    """Logits that are 9 at the labels of the windows that hold the answer, and 3 at `<s>` of the others."""
    logits = np.zeros((*batch["ids_rt"].shape, 2), np.float32)
    rows, slots = np.nonzero(batch["slot_weight_rs"])
    for side, name in enumerate(("start", "end")):
        at = batch[f"{name}_rs"][rows, slots]
        logits[rows, batch["slots_rs"][rows, slots] + np.maximum(at, 0), side] = np.where(at > 0, 9, 3)
    return logits


def spaced(words):
    """The words with single spaces, and the offset of each."""
    offsets = np.cumsum([0, *(len(w) + 1 for w in words)])
    return " ".join(words), offsets[:-1].tolist()


@st.composite
def questions(draw):
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=80))
    first = draw(st.integers(0, len(words) - 1))
    last = min(first + draw(st.integers(0, 1)), len(words) - 1)
    context, offsets = spaced(words)
    answer = context[offsets[first] : offsets[last] + len(words[last])]
    return Span("q", draw(st.sampled_from(["who", "where is the cat", "你好"])), context, ((answer, offsets[first]),))


@given(st.lists(questions(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_answers_survive_windows_packing_and_decoding(examples):
    predictions = evaluate(TASK, examples, perfect)
    assert [p.text for p in predictions] == [x.answers[0][0] for x in examples]


@pytest.mark.parametrize("first", [0, 39, 40, 41, 55, 56, 57, 110, 119])
def test_answers_at_the_edges_of_windows_are_found(first):
    context, offsets = spaced(["cat", "dog", "mat"] * 40)
    answer = Span("q", "who", context, ((context[offsets[first] : offsets[first] + 3], offsets[first]),))
    encoded = span.encode(TASK, [answer], TOKENIZER, max_length=LENGTH, train=False)
    assert encoded.segments > 3
    assert evaluate(TASK, [answer], perfect)[0].text == answer.answers[0][0]


def test_windows_overlap_end_at_the_end_and_repeat_the_question():
    context, _ = spaced(["cat"] * 100)
    x = Span("q", "who " * 100, context, (("cat", 0),))
    encoded = span.encode(TASK, [x], TOKENIZER, max_length=128, train=True)
    lengths = encoded.segment_lengths.tolist()
    room = 128 - 64 - 4  # the question is cut to 64 pieces
    assert lengths == [128, 128, 128, 100 - 48 + 68]
    assert _windows(100, room, 16) == [(0, 60), (16, 76), (32, 92), (48, 100)]
    assert _windows(room, room, 16) == [(0, room)] and _windows(0, room, 16) == [(0, 0)]
    assert _windows(9, 4, 100) == [(0, 4), (4, 8), (8, 9)], "a stride beyond the window loses nothing"
    assert (encoded.segment_columns["context"] == 67).all()


def test_training_points_at_the_first_token_where_the_window_lacks_the_answer():
    context, offsets = spaced(["cat"] * 60)
    whole = Span("a", "who", context, (("cat cat", offsets[58]),))
    none = Span("b", "who", "the cat", ())
    hidden = Span("c", "who", "the cat", None)
    absent = Span("d", "who", "the cat", (("dog", -1),))
    encoded = span.encode(TASK, [whole, none, hidden, absent], TOKENIZER, max_length=LENGTH, train=True)
    start, end = (encoded.segment_columns[name].tolist() for name in ("start", "end"))
    assert start == [0, 4 + 58 - 16, 0, -1, -1] and end == [0, 4 + 59 - 16, 0, -1, -1]
    assert not encoded.token_columns, "training batches carry no decoding columns"
    counted = summary(encoded)
    assert counted["questions"] == 4 and counted["windows"] == 5
    assert counted["questions_without_answer"] == 1 and counted["questions_answer_unknown"] == 2


def test_loss_is_the_mean_of_both_cross_entropies_within_the_segment():
    rng = np.random.default_rng(0)
    examples = [Span(str(i), "who", "the cat sat on a mat", (("cat sat", 4),)) for i in range(3)]
    encoded = span.encode(TASK, examples, TOKENIZER, max_length=LENGTH, train=True)
    (batch,) = EvalBatches(encoded, span, rows=1, row_length=LENGTH, slots=4)
    logits = rng.normal(size=(1, LENGTH, 2)).astype(np.float32)
    loss, weight = span.loss(logits, batch)
    expected = 0.0
    for s in range(3):
        begin, n = batch["slots_rs"][0, s], batch["lengths_rs"][0, s]
        for side, name in enumerate(("start", "end")):
            own = logits[0, begin : begin + n, side].astype(np.float64)
            expected += (np.log(np.exp(own).sum()) - own[batch[f"{name}_rs"][0, s]]) / 2
    assert weight == 3
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def slow_decode(x, encoded, windows, logits_of_window):
    """The reference's rule written out: (score, text) of the best candidate over all windows."""
    best = (-np.inf, "empty")
    of_piece = {}
    for w in windows:
        ids = encoded.tokens(w)
        context = int(encoded.segment_columns["context"][w])
        n = ids.stop - ids.start
        for t in range(context, n - 1):
            chars = w * 16 + t - context  # windows of one question stride by 16 pieces
            score = min(t - context, n - 2 - t) + 0.01 * (n - 1 - context)
            if chars not in of_piece or score > of_piece[chars][0]:
                of_piece[chars] = (score, w)
    for w in windows:
        ids = encoded.tokens(w)
        context, n = int(encoded.segment_columns["context"][w]), ids.stop - ids.start
        starts, ends = (np.argsort(-logits_of_window[w][context : n - 1, side], kind="stable")[:20] for side in (0, 1))
        for i in starts + context:
            for j in ends + context:
                if i <= j < i + 30 and of_piece[w * 16 + i - context][1] == w:
                    score = float(logits_of_window[w][i, 0]) + float(logits_of_window[w][j, 1])
                    if score > best[0]:
                        chars = encoded.token_columns["_start"][ids][i], encoded.token_columns["_end"][ids][j]
                        best = (score, x.context[chars[0] : chars[1]])
    return best


@pytest.mark.parametrize("seed", range(6))
def test_decoding_agrees_with_the_rule_written_out(seed):
    rng = np.random.default_rng(seed)
    context, _ = spaced(list(rng.choice(WORDS, 70)))
    x = Span("q", "who", context, (("x", 0),))
    encoded = span.encode(TASK, [x], TOKENIZER, max_length=LENGTH, train=False)
    of_window = [rng.normal(size=(n, 2)).astype(np.float32) for n in encoded.segment_lengths]

    def logits(batch):
        result = rng.normal(size=(*batch["ids_rt"].shape, 2)).astype(np.float32) + 50  # elsewhere: must not matter
        placed = {}
        for r, s in np.argwhere(batch["slot_weight_rs"]):
            placed[int(batch["order_rs"][r, s])] = (r, batch["slots_rs"][r, s])
        for w, (r, begin) in placed.items():
            result[r, begin : begin + len(of_window[w])] = of_window[w]
        return result

    numbered = {**encoded.segment_columns, "order": np.arange(encoded.segments, dtype=np.int32)}
    encoded = type(encoded)(
        encoded.ids, encoded.segment_offsets, encoded.example_offsets, encoded.token_columns, numbered
    )
    (answer,) = evaluate(TASK, [x], logits, encoded)
    score, text = slow_decode(x, encoded, range(encoded.segments), of_window)
    assert answer.text == answer.best == text
    null = min(float(of_window[w][0].sum()) for w in range(encoded.segments))
    np.testing.assert_allclose(answer.null, null - score, rtol=1e-5)


def test_unanswerable_questions_are_left_empty_beyond_the_threshold():
    examples = [Span("a", "who", "the cat", ()), Span("b", "who", "the cat", (("cat", 4),))]
    predictions = evaluate(V2, examples, perfect)
    assert [p.text for p in predictions] == ["", "cat"]
    assert predictions[0].best and predictions[0].null > 0 > predictions[1].null
    scores = span.score(V2, "en", Loaded(examples), predictions)
    assert scores["f1"] == scores["em"] == scores["best_f1"] == 100 and scores["n"] == 2
    assert span.file_content(predictions, scores) == ["", "cat"]


def test_a_context_without_pieces_is_answered_as_the_reference_does():
    examples = [Span("a", "who", " ", (("x", 0),)), Span("b", "who", "the cat", (("cat", 4),))]
    assert [p.text for p in evaluate(TASK, examples, perfect)] == ["empty", "cat"]


def test_scores_leave_out_hidden_answers_and_follow_the_script_of_the_task():
    examples = [Span("q", "?", "der Hund", (("Hund", 4),)), Span("q", "?", "x", None)]
    predictions = [Answer("der Hund", "der Hund", 0.0), Answer("x", "x", 0.0)]
    mlqa = Task(name="m", family="span", about="", languages=(), splits=(), metric="f1", options={"normalise": "mlqa"})
    assert span.score(TASK, "de", Loaded(examples), predictions)["em"] == 0
    assert span.score(mlqa, "de", Loaded(examples), predictions) == {"em": 100, "f1": 100, "em_f1": 100, "n": 1}
    assert span.score(TASK, "de", Loaded(examples[1:]), predictions[1:]) == {"n": 0}


def test_a_question_that_fills_the_row_is_an_error():
    with pytest.raises(XtlError, match="leaves no room"):
        span.encode(TASK, [Span("q", "who " * 60, "cat", ())], TOKENIZER, max_length=40, train=True)
