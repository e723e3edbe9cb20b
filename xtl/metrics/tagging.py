"""Chunk F1 by the rule of seqeval 0.0.12, and token accuracy, for PAN-X, UDPOS and CCG.

XTREME scores UDPOS with the same chunk F1 as PAN-X although its tags carry no B-/I- prefix, so the number is the F1
over maximal runs of one tag, not the accuracy that the XTREME paper names (confirmed in google-research/xtreme#56).
The value depends on the version of seqeval. The one that reproduces the benchmark's own test value (70.2175 on its
mock data) is 0.0.12, where the type of a prefixless tag is the whole tag; 1.2.2 drops the first letter, which merges
CCONJ with SCONJ, and gives 70.398. Token accuracy stands beside the F1 for readers who expect it.
"""

from collections.abc import Iterator, Sequence

from xtl.errors import XtlError
from xtl.metrics.classification import require_aligned

Tags = Sequence[str]
Chunk = tuple[str, int, int]  # type, first word, last word


def chunks(tags: Tags) -> list[Chunk]:
    """Chunks of one sentence.

    The first letter of a tag is its position mark and what follows the last hyphen its type. B and S open a chunk; I
    and E open one after O or a closed chunk; a new type always opens one (so I-PER after I-LOC is a chunk of its own:
    lenient). S and E close their chunk, whence SCONJ and SYM are chunks of one word each. O is no chunk.
    """
    return list(_chunks(tags))


def _chunks(tags: Tags) -> Iterator[Chunk]:
    before, before_type, start = "O", "", 0
    for index, tag in enumerate([*tags, "O"]):
        if not tag:
            raise XtlError(f"word {index + 1} has an empty tag")
        mark, kind = tag[0], tag.rsplit("-", 1)[-1]
        other_type = kind != before_type
        if before in "ES" or (before in "BI" and mark in "BSO") or (before not in "O." and other_type):
            yield before_type, start, index - 1
        if mark in "BS" or (mark in "EI" and before in "ESO") or (mark not in "O." and other_type):
            start = index
        before, before_type = mark, kind


def chunk_f1(gold: Sequence[Tags], predictions: Sequence[Tags]) -> dict[str, float]:
    """Micro `f1`, `precision` and `recall` over the chunks of all sentences, each 0..100.

    A hit needs the same type, first and last word. All three are 0 where their denominator is, so a corpus without
    any chunk scores 0 even if every tag is right.
    """
    _require_sentences(gold, predictions)
    hits = predicted = expected = 0
    for gold_tags, predicted_tags in zip(gold, predictions, strict=True):
        gold_chunks, predicted_chunks = set(_chunks(gold_tags)), set(_chunks(predicted_tags))
        hits += len(gold_chunks & predicted_chunks)
        predicted += len(predicted_chunks)
        expected += len(gold_chunks)
    precision = hits / predicted if predicted else 0.0
    recall = hits / expected if expected else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"f1": 100.0 * f1, "precision": 100.0 * precision, "recall": 100.0 * recall}


def token_accuracy(gold: Sequence[Tags], predictions: Sequence[Tags]) -> float:
    """Share of words with the right tag, 0..100."""
    _require_sentences(gold, predictions)
    pairs = zip(gold, predictions, strict=True)
    right = sum(g == p for sentence, predicted in pairs for g, p in zip(sentence, predicted, strict=True))
    words = sum(map(len, gold))
    if not words:
        raise XtlError("nothing to score: all sentences are empty")
    return 100.0 * right / words


def tagging_scores(gold: Sequence[Tags], predictions: Sequence[Tags]) -> dict[str, float]:
    """`f1`, `precision`, `recall` of chunks and the token `accuracy`, each 0..100."""
    return chunk_f1(gold, predictions) | {"accuracy": token_accuracy(gold, predictions)}


def _require_sentences(gold: Sequence[Tags], predictions: Sequence[Tags]) -> None:
    require_aligned(gold, predictions, "sentences")
    for number, (gold_tags, predicted_tags) in enumerate(zip(gold, predictions, strict=True), start=1):
        # seqeval 0.0.12 would go on with all later sentences shifted against each other.
        if len(gold_tags) != len(predicted_tags):
            raise XtlError(f"sentence {number}: {len(predicted_tags)} tags predicted for {len(gold_tags)} words")
