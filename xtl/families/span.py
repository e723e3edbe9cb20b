"""Family `span`: the answer is a stretch of the context. SQuAD v1.1 and v2.0, XQuAD, MLQA, TyDiQA-GoldP.

A long context becomes several windows `<s> question </s></s> window </s>`; each window is an example of its own for
batches, as in jiant and XTREME. A window without the whole answer, and an unanswerable question, point at `<s>`.
Answer text is cut out of the original context by the character offsets of the pieces, so it is exact in any script
(re-joining pieces or white-space words is not).

Sources: jiant squad_style/{core,utils}.py for windows and decoding; the 20 x 20 candidates are taken among context
pieces, where jiant first takes 20 among all pieces of the window and then drops those outside the context.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data.rows import Encoded
from xtl.data.tokenizer import BOS, EOS, Tokenizer
from xtl.errors import XtlError
from xtl.families.interface import NEVER, Batch, Family, Outputs, Pool, Scores, weighted
from xtl.metrics import qa
from xtl.models.encoder import EncoderConfig
from xtl.models.layers import Dense
from xtl.task import Loaded, Span, Task

QUESTION_LENGTH = 64  # most pieces of a question
STRIDE = 128  # pieces from one window to the next
BEST = 20  # starts and ends per window that are combined
ANSWER_LENGTH = 30  # most pieces of an answer
NO_CANDIDATE = "empty"  # what the reference answers when no window offers a candidate
DECODED = 4096  # segments whose 20 x 20 candidates are in memory at a time


@dataclass(frozen=True, slots=True)
class Answer:
    """text: the answer, "" for none. best: the best non-empty answer. null: how much better "none" scored than `best`
    (start + end logits)."""

    text: str
    best: str
    null: float


class Head(nnx.Module):
    """Start and end logits of every token: [R, T, 2], float32."""

    def __init__(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs):
        self.out = Dense(config.hidden, 2, ("embed", None), dtype=config.dtype, rngs=rngs)

    def __call__(
        self,
        hidden_rtd: jax.Array,
        batch: Batch,
        embedding: jax.Array | None = None,
        key: jax.Array | None = None,
        *,
        pool: Pool | None = None,
    ) -> jax.Array:
        return self.out.add_bias(self.out.product(hidden_rtd))


class SpanFamily(Family[Span, jax.Array, Answer]):
    """Logits [R, T, 2] of start and end, one answer per question. Options: question_length, stride, answer_length,
    unanswerable, null_threshold, normalise."""

    label_columns = ("start_rs", "end_rs", "context_rs")
    counterpart = "ForQuestionAnswering"

    def encode(
        self, task: Task, examples: Sequence[Span], tokenizer: Tokenizer, *, max_length: int, train: bool
    ) -> Encoded:
        """One segment (and one `Encoded` example) per window, in order. Options: question_length, stride.

        Segment columns: `start`, `end`: position of the first answer in the segment, 0 (`<s>`) where this window lacks
        it, -1 where the answer is not known; `context`: position of the first context piece; `_example`: index into
        `examples`. Token columns, for decoding only, absent in training: `_start`, `_end`: character offsets in the
        context, -1 outside it; `_start` is also -1 where another window shows the piece with more context.
        """
        question_length, stride = _number(task, "question_length", QUESTION_LENGTH), _number(task, "stride", STRIDE)
        question_ids, question_offsets = tokenizer.encode_ids_batch(x.question for x in examples)
        contexts = tokenizer.encode_batch([x.context for x in examples])
        ids: list[Any] = []
        segment: dict[str, list[int]] = {"start": [], "end": [], "context": [], "_example": []}
        token: dict[str, list[Any]] = {} if train else {"_start": [], "_end": []}
        outside = np.full(question_length + 3, -1, np.int32)
        for index, (x, (context, chars)) in enumerate(zip(examples, contexts, strict=True)):
            question = question_ids[question_offsets[index] : question_offsets[index + 1]][:question_length]
            first = len(question) + 3  # position of the first context piece
            room = max_length - first - 1
            if room < 1:
                raise XtlError(
                    f"{task.name}: max_length {max_length} leaves no room for context after {len(question)} pieces"
                )
            windows = _windows(len(context), room, stride)
            answer = _answer_pieces(x, chars)
            owner = _owner(windows, len(context))
            head = np.concatenate([[BOS], question, [EOS, EOS]]).astype(np.int32)
            for w, (begin, stop) in enumerate(windows):
                ids.append(np.concatenate([head, context[begin:stop], [EOS]]).astype(np.int32))
                whole = answer is not None and begin <= answer[0] and answer[1] < stop
                for name, piece in zip(("start", "end"), answer or (-1, -1), strict=True):
                    segment[name].append(first + piece - begin if whole else 0 if answer else -1)
                segment["context"].append(first)
                segment["_example"].append(index)
                if token:
                    own = np.where(owner[begin:stop] == w, chars[begin:stop, 0], -1)
                    token["_start"].append(np.concatenate([outside[:first], own, outside[:1]]))
                    token["_end"].append(np.concatenate([outside[:first], chars[begin:stop, 1], outside[:1]]))
        return Encoded.from_segments(ids, token_columns=token, segment_columns=segment)

    def head(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        return Head(config, task, rngs=rngs)

    def loss(self, logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Mean of start and end cross-entropy over the tokens of the segment: (sum, number of windows)."""
        slots_rs, starts_rs, ends_rs = batch["slots_rs"], batch["start_rs"], batch["end_rs"]
        member_rst = batch["segments_rt"][:, None, :] == jnp.arange(1, slots_rs.shape[1] + 1)[None, :, None]
        total_rs = jnp.zeros(slots_rs.shape, jnp.float32)
        for side, target_rs in enumerate((starts_rs, ends_rs)):
            logits_rt = logits[..., side].astype(jnp.float32)
            norm_rs = jax.nn.logsumexp(jnp.where(member_rst, logits_rt[:, None, :], NEVER), axis=-1)
            total_rs += norm_rs - jnp.take_along_axis(logits_rt, slots_rs + jnp.maximum(target_rs, 0), axis=1)
        return weighted(total_rs / 2, batch["slot_weight_rs"] * (starts_rs >= 0))

    def outputs(self, task: Task, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """The best starts and ends of each segment among its context pieces, and the null score (start + end at `<s>`).

        start_rsk, end_rsk: positions in the segment, best first; start_logit_rsk, end_logit_rsk: -1e30 beyond the
        context.
        """
        slots_rs, length = batch["slots_rs"], logits.shape[1]
        position_rst = jnp.arange(length)[None, None, :] - slots_rs[..., None]
        context_rst = (position_rst >= batch["context_rs"][..., None]) & (
            position_rst < batch["lengths_rs"][..., None] - 1
        )
        result = {"null_rs": jnp.take_along_axis(logits.sum(-1), slots_rs, axis=1)}
        for side, name in enumerate(("start", "end")):
            masked_rst = jnp.where(context_rst, logits[:, None, :, side], NEVER)
            result[f"{name}_logit_rsk"], at_rsk = jax.lax.top_k(masked_rst, min(BEST, length))
            result[f"{name}_rsk"] = at_rsk - slots_rs[..., None]
        return result

    def decode(self, task: Task, examples: Sequence[Span], encoded: Encoded, outputs: Outputs) -> list[Answer]:
        """The best span of each question over its windows.

        Candidates: end not before start, at most `answer_length` pieces, both in the context, and the start in the
        window that shows it with most context. With the option `unanswerable` (SQuAD v2.0) the answer is "" where
        null - best score is above `null_threshold` (0), null being the smallest over the windows. A question without
        any candidate (an empty context) is answered "empty", as in the reference.
        """
        unanswerable, threshold = bool(task.options.get("unanswerable")), _null_threshold(task)
        answer_length = _number(task, "answer_length", ANSWER_LENGTH)
        source = encoded.segment_columns["_example"]
        score_s, start_s, end_s = _best_spans(encoded, outputs, answer_length)
        answers = []
        bounds = np.searchsorted(source, np.arange(len(examples) + 1))
        for index, x in enumerate(examples):
            mine = slice(bounds[index], bounds[index + 1])
            best = bounds[index] + int(score_s[mine].argmax())
            answered = score_s[best] > NEVER / 2
            text = x.context[start_s[best] : end_s[best]] if answered else NO_CANDIDATE
            null = float(outputs["null_s"][mine].min()) - (float(score_s[best]) if answered else 0.0)
            answers.append(Answer("" if unanswerable and null > threshold else text, text, null))
        return answers

    def score(
        self, task: Task, language: str, loaded: Loaded, predictions: Sequence[Answer], carried: Scores | None = None
    ) -> dict[str, float]:
        """`em`, `f1`, `em_f1` (their mean) and `n`, by the script of the task: SQuAD v1.1; MLQA (option
        normalise="mlqa", which needs the language); SQuAD v2.0 (option unanswerable), with the best of the threshold
        search besides.

        Questions with hidden answers are left out; without any known one the result is {"n": 0}.
        """
        answers = [known_answers(x) if isinstance(x, Span) else None for x in loaded.examples]
        # Named by number, because ids may repeat (TyDiQA's training files).
        known = {str(i): (a, p) for i, (a, p) in enumerate(zip(answers, predictions, strict=True)) if a is not None}
        if not known:
            return {"n": 0}
        gold_texts = {name: [text for text, _ in given] for name, (given, _) in known.items()}
        texts = {name: p.text for name, (_, p) in known.items()}
        if task.options.get("unanswerable"):
            best = {name: p.best for name, (_, p) in known.items()}
            null = {name: p.null for name, (_, p) in known.items()}
            scores = qa.squad_v2(gold_texts, best, null_scores=null, threshold=_null_threshold(task))
        elif task.options.get("normalise") == "mlqa":
            scores = qa.mlqa(gold_texts, texts, language=language)
        else:
            scores = qa.squad(gold_texts, texts)
        return {**scores, "n": len(known)}

    def file_kind(self, task: Task) -> str:
        return "answers"

    def file_content(self, predictions: Sequence[Answer], scores: Scores) -> list[str]:
        """Answer texts."""
        return [p.text for p in predictions]


def _number(task: Task, option: str, default: int) -> int:
    return int(task.options.get(option, default))


def _null_threshold(task: Task) -> float:
    return float(task.options.get("null_threshold", 0.0))


# ---------------------------------------------------------------- windows


def _windows(pieces: int, room: int, stride: int) -> list[tuple[int, int]]:
    """[begin, stop) of each window; the last one reaches the end of the context."""
    stride = min(stride, room)  # a stride beyond the room would skip pieces
    begins = range(0, max(pieces - room, 0) + stride, stride)
    return [(begin, min(begin + room, pieces)) for begin in begins]


def _owner(windows: Sequence[tuple[int, int]], pieces: int) -> np.ndarray:
    """For each context piece the window in which it has most context; of equals the first.

    Overlapping windows show a piece several times, and an answer may start at only one of them. The rule is that of
    BERT's SQuAD script (`_check_is_max_context`): the smaller of the context left and right of the piece decides, and
    0.01 x the length of the window breaks ties in favour of the longer one.
    """
    at = np.arange(pieces)
    scores = np.stack(
        [
            np.where((begin <= at) & (at < stop), np.minimum(at - begin, stop - 1 - at) + 0.01 * (stop - begin), -1.0)
            for begin, stop in windows
        ]
    )
    return scores.argmax(axis=0)


def _answer_pieces(x: Span, chars: np.ndarray) -> tuple[int, int] | None:
    """(first, last) context piece of the first answer; (-1, -1) if unanswerable; None if unknown or without a piece."""
    answers = known_answers(x)
    if answers is None:
        return None
    if not answers:
        return -1, -1
    text, start = answers[0]
    inside = np.flatnonzero((chars[:, 1] > start) & (chars[:, 0] < start + len(text)))
    if start < 0 or not len(inside):
        return None
    return int(inside[0]), int(inside[-1])


def known_answers(x: Span) -> tuple[tuple[str, int], ...] | None:
    """The answers, () if there are none to the question; None where a test set hides them."""
    return x.answers


def summary(encoded: Encoded) -> Counter:
    """What became of the questions: windows, questions, windows that point at `<s>`, questions without a known answer
    in any window (left out of the loss), and questions whose answer no window holds whole."""
    start, source = encoded.segment_columns["start"], encoded.segment_columns["_example"]
    questions = int(source.max()) + 1 if len(source) else 0
    best = np.full(questions, -1)
    np.maximum.at(best, source, start)
    return Counter(
        questions=questions,
        windows=len(start),
        windows_without_answer=int((start == 0).sum()),
        questions_without_answer=int((best == 0).sum()),
        questions_answer_unknown=int((best < 0).sum()),
    )


# ---------------------------------------------------------------- decoding


def _best_spans(encoded: Encoded, outputs: Outputs, answer_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each segment: score, first and last+1 character of its best admissible span; score -1e30 if there is none."""
    parts = [
        _best_spans_of(encoded, outputs, slice(begin, begin + DECODED), answer_length)
        for begin in range(0, encoded.segments, DECODED)
    ]
    score_s, start_s, end_s = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return score_s, start_s, end_s


def _best_spans_of(
    encoded: Encoded, outputs: Outputs, part: slice, answer_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    outputs = {key: values[part] for key, values in outputs.items()}
    start_sk, end_sk = outputs["start_sk"].astype(np.int64), outputs["end_sk"].astype(np.int64)
    begin_s, last_s = encoded.segment_offsets[:-1][part, None], encoded.segment_offsets[1:][part, None] - 1
    # Positions beyond the context have the logit NEVER; clipping only keeps the look-ups inside the arrays.
    char_start_sk = encoded.token_columns["_start"][np.clip(begin_s + start_sk, begin_s, last_s)]
    char_end_sk = encoded.token_columns["_end"][np.clip(begin_s + end_sk, begin_s, last_s)]
    start_score_sk = np.where(char_start_sk >= 0, outputs["start_logit_sk"], NEVER).astype(np.float64)
    pieces_skk = end_sk[:, None, :] - start_sk[:, :, None] + 1
    score_skk = start_score_sk[:, :, None] + outputs["end_logit_sk"][:, None, :].astype(np.float64)
    score_skk = np.where((pieces_skk >= 1) & (pieces_skk <= answer_length) & (score_skk > NEVER / 2), score_skk, NEVER)
    flat_s = score_skk.reshape(len(score_skk), -1).argmax(axis=1)
    rows, (i, j) = np.arange(len(flat_s)), np.divmod(flat_s, score_skk.shape[2])
    return score_skk[rows, i, j], char_start_sk[rows, i], char_end_sk[rows, j]


FAMILY = SpanFamily()
