"""Family `tag`: one tag for every word. UD part of speech, PAN-X entities, CCG supertags.

The label of a word sits on its first piece; other pieces and specials have none. A word without pieces, or with more
than a row holds, becomes `<unk>`. A sentence longer than a row is split between words into several segments, joined
again when decoding: no word is ever lost.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data.rows import Encoded, offsets_of, ranges
from xtl.data.tokenizer import BOS, EOS, UNK, Tokenizer
from xtl.errors import XtlError
from xtl.families.interface import Batch, Family, Outputs, Pool, Scores, cross_entropy, weighted
from xtl.metrics.tagging import tagging_scores
from xtl.models.encoder import EncoderConfig
from xtl.models.layers import Dense, dropout
from xtl.task import Loaded, Tagged, Task


class Head(nnx.Module):
    """Dropout, linear h -> tags on every token: logits [R, T, tags], float32."""

    def __init__(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs):
        self.rate = config.dropout
        self.out = Dense(config.hidden, len(task.labels), ("embed", None), dtype=config.dtype, rngs=rngs)

    def __call__(
        self,
        hidden_rtd: jax.Array,
        batch: Batch,
        embedding: jax.Array | None = None,
        key: jax.Array | None = None,
        *,
        pool: Pool | None = None,
    ) -> jax.Array:
        return self.out.add_bias(self.out.product(dropout(hidden_rtd, self.rate, key)))


class TagFamily(Family[Tagged, jax.Array, Sequence[str]]):
    """Logits [R, T, tags], one tag word for every word of every sentence."""

    label_columns = ("tag_rt",)
    few_labels = True
    counterpart = "ForTokenClassification"

    def encode(
        self, task: Task, examples: Sequence[Tagged], tokenizer: Tokenizer, *, max_length: int, train: bool
    ) -> Encoded:
        """`<s> words </s>`: one segment (and one `Encoded` example) per part of a sentence, in order.

        Token columns: `tag` on first pieces, -1 elsewhere and where tags are hidden; `_first` (for decoding only,
        absent in training) 1 on first pieces, else 0. Segment column `_example`: index into `examples`. XtlError for a
        training sentence without tags.
        """
        words_e = np.array([len(x.words) for x in examples], np.int64)
        tags = np.full(words_e.sum(), -1, np.int32)
        stop = 0
        for x in examples:
            start, stop = stop, stop + len(x.words)
            if x.tags is not None:
                if len(x.tags) != len(x.words):
                    raise XtlError(f"{task.name}: sentence {x.id} has {len(x.tags)} tags for {len(x.words)} words")
                tags[start:stop] = x.tags
            elif train:
                raise XtlError(f"{task.name}: training sentence {x.id} has no tags")
        room = max_length - 2
        ids, first_w, pieces_w = _words(tokenizer, examples, room)
        begin_s, source_s = _segment_starts(words_e, pieces_w, room)
        end_s = np.append(begin_s[1:], len(pieces_w))

        before = offsets_of(pieces_w)  # pieces before each word
        length_s = before[end_s] - before[begin_s]
        offsets = offsets_of(length_s + 2)
        flat = np.full(offsets[-1], EOS, np.int32)
        flat[offsets[:-1]] = BOS
        segment_w = np.repeat(np.arange(len(begin_s)), end_s - begin_s)
        at_w = before[:-1] + 1 + 2 * segment_w  # each segment before this one added two specials
        flat[ranges(at_w, pieces_w)] = ids[ranges(first_w, pieces_w)]
        columns = {"tag": np.full(len(flat), -1, np.int32)}
        columns["tag"][at_w] = tags
        if not train:
            columns["_first"] = np.zeros(len(flat), np.int8)
            columns["_first"][at_w] = 1
        return Encoded(
            flat,
            offsets,
            np.arange(len(offsets), dtype=np.int64),
            token_columns=columns,
            segment_columns={"_example": source_s},
        )

    def head(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        if not task.labels:
            raise XtlError(f"task {task.name} of family tag must list its labels")
        return Head(config, task, rngs=rngs)

    def loss(self, logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Softmax cross-entropy on first pieces: (sum, number of tagged words)."""
        tags_rt = batch["tag_rt"]
        return weighted(cross_entropy(logits, tags_rt), (tags_rt >= 0).astype(jnp.float32))

    def outputs(self, task: Task, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """tag_rt: the best tag; finite_rt: whether the logits that it was chosen from are finite."""
        return {
            "tag_rt": jnp.argmax(logits, axis=-1).astype(jnp.int32),
            "finite_rt": jnp.isfinite(logits).all(axis=-1),
        }

    def decode(
        self, task: Task, examples: Sequence[Tagged], encoded: Encoded, outputs: Outputs
    ) -> list[tuple[str, ...]]:
        """One tag word for every word of every sentence."""
        tags = outputs["tag_t"][encoded.token_columns["_first"] == 1].tolist()
        words = sum(len(x.words) for x in examples)
        if len(tags) != words:
            raise XtlError(f"{task.name}: {len(tags)} tags for {words} words: the encoding belongs to other examples")
        predictions, stop = [], 0
        for x in examples:
            start, stop = stop, stop + len(x.words)
            predictions.append(tuple(task.labels[t] for t in tags[start:stop]))
        return predictions

    def score(
        self,
        task: Task,
        language: str,
        loaded: Loaded,
        predictions: Sequence[Sequence[str]],
        carried: Scores | None = None,
    ) -> dict[str, float]:
        """Chunk `f1`, `precision`, `recall` by seqeval 0.0.12's rule, token `accuracy`, and `n` sentences.

        Sentences with hidden tags are left out; without any tagged one the result is {"n": 0}.
        """
        tags = [x.tags if isinstance(x, Tagged) else None for x in loaded.examples]
        known = [(a, b) for a, b in zip(tags, predictions, strict=True) if a is not None]
        if not known:
            return {"n": 0}
        right = [[task.labels[t] for t in gold] for gold, _ in known]
        return {**tagging_scores(right, [p for _, p in known]), "n": len(known)}

    def file_kind(self, task: Task) -> str:
        return "tags"


def _words(tokenizer: Tokenizer, examples: Sequence[Tagged], room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids, start of each word in ids, pieces of each word); unusable words point at one <unk> at the end."""
    ids, offsets = tokenizer.encode_ids_batch(w for x in examples for w in x.words)
    first, pieces = offsets[:-1], np.diff(offsets)
    unusable = (pieces == 0) | (pieces > room)
    return np.append(ids, np.int32(UNK)), np.where(unusable, len(ids), first), np.where(unusable, 1, pieces)


def _segment_starts(words_e: np.ndarray, pieces_w: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """(first word, sentence) of every segment: one begins with every sentence, and where a word would not fit any more.

    A sentence without words still gets a segment, so that every sentence is there.
    """
    ends = np.cumsum(words_e)
    before = offsets_of(pieces_w)
    starts: list[int] = []
    sources: list[int] = []
    for sentence, (begin, end) in enumerate(zip((ends - words_e).tolist(), ends.tolist(), strict=True)):
        starts.append(begin)
        while before[end] - before[starts[-1]] > room:
            starts.append(int(np.searchsorted(before, before[starts[-1]] + room, side="right")) - 1)
        sources += [sentence] * (len(starts) - len(sources))
    return np.array(starts, np.int64), np.array(sources, np.int32)


FAMILY = TagFamily()
