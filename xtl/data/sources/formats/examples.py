"""Examples from rows: the functions shared by tasks and by sources, since original files, hub and TFDS often agree in
their columns and differ only in how labels are spelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xtl.data.sources.formats.base import MakeExample, Place
from xtl.errors import XtlError
from xtl.task import Choice, Pair, Span, Tagged


@dataclass(frozen=True)
class Labels:
    """How a source spells the labels of a task.

    words: the task's labels in the task's order. spelled: the source's spelling -> ours. order: the words behind
    integer labels, in the source's order (hub and TFDS count entailment, neutral, contradiction).
    dropped: values of rows without a gold label, never used. hidden: values that stand for a label kept secret.
    """

    task: str
    words: tuple[str, ...]
    spelled: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    dropped: tuple[Any, ...] = ()
    hidden: tuple[Any, ...] = ("", -1, None)

    def index(self, value: Any, where: str) -> int:
        """Position of a label among the task's labels."""
        word = _plain(value)
        if self.order and isinstance(word, int) and 0 <= word < len(self.order):
            word = self.order[word]
        word = self.spelled.get(str(word), str(word))
        try:
            return self.words.index(word)
        except ValueError:
            known = ", ".join(self.words[:20]) + (", ..." if len(self.words) > 20 else "")
            raise XtlError(f"{where}: label {word!r} is unknown to task {self.task} (known: {known})") from None


def _plain(value: Any) -> Any:
    """Bytes and NumPy scalars as Python values."""
    if isinstance(value, bytes):
        return value.decode("utf-8").strip()
    if isinstance(value, str):
        return value.strip()
    return value.item() if hasattr(value, "item") else value


def pair(labels: Labels, a: str, b: str, *, label: str = "label", id: str = "") -> MakeExample:
    """Sentence pairs from the columns `a`, `b`, `label`; without an id column the row number is the id."""

    def make(row: Mapping[str, Any], place: Place) -> Pair | None:
        value = _plain(row.get(label))
        if value in labels.dropped:
            place.dropped["no gold label"] += 1
            return None
        if value in labels.hidden:
            if place.split != "test":
                place.dropped["no label"] += 1
                return None
            index = None
        else:
            index = labels.index(value, place.where)
        name = str(_plain(row.get(id, ""))) if id else ""
        return Pair(name or str(place.index), place.text(row, a), place.text(row, b), index)

    return make


def choice_label(
    value: Any, place: Place, *, names: Sequence[str], spelled: Mapping[str, str] | None = None
) -> int | None:
    """Index of the right choice among `names`; None where a test set hides it. `spelled`: other spellings of names."""
    value = _plain(value)
    value = (spelled or {}).get(str(value), value)
    if value in ("", -1, None):
        if place.split != "test":
            raise XtlError(f"{place.where}: no label in split {place.split!r}")
        return None
    if str(value) not in names:
        raise XtlError(f"{place.where}: label {value!r} is not one of {', '.join(names)}")
    return names.index(str(value))


def tagged(labels: Labels, words: str, tags: str) -> MakeExample:
    """Sentences from a list column of words and one of tags (integers in the source's order, or words)."""

    def make(row: Mapping[str, Any], place: Place) -> Tagged:
        tokens = tuple(str(_plain(w)) for w in place.get(row, words))
        values = place.get(row, tags)
        if len(values) != len(tokens):
            raise XtlError(f"{place.where}: {len(tokens)} words but {len(values)} tags")
        return Tagged(str(place.index), tokens, tuple(labels.index(v, place.where) for v in values))

    return make


# ---------------------------------------------------------------- spans


def span(place: Place, *, id: str, question: str, context: str, answers: Sequence[tuple[str, int]]) -> Span | None:
    """A question with its answers checked against the context.

    A wrong offset is repaired by the nearest occurrence of the text and counted (some copies strip contexts). A text
    that does not occur cannot be trained on, so a training row is dropped; in other splits predictions are still
    compared with it, so it is kept with offset -1. Blank texts mean that the answers are hidden (XTREME's copies of
    evaluation files): answers is then None.
    """
    if answers and all(not text for text, _ in answers):
        return Span(id, question, context, None)  # type: ignore[arg-type]
    checked = []
    for text, start in answers:
        if context[start : start + len(text)] != text or start < 0:
            start = _nearest_occurrence(context, text, start)
            place.dropped["answer offset repaired" if start >= 0 else "answer not in the context"] += 1
            if start < 0 and place.split == "train":
                continue
        checked.append((text, start))
    if answers and not checked:
        return None
    return Span(id, question, context, tuple(checked))


def _nearest_occurrence(context: str, text: str, start: int) -> int:
    """Offset of the occurrence of `text` that is nearest to `start`; -1 if there is none."""
    if not text:
        return -1
    before = context.rfind(text, 0, max(start, 0) + len(text))
    after = context.find(text, max(start, 0))
    near = [x for x in (before, after) if x >= 0]
    return min(near, key=lambda x: abs(x - start)) if near else -1


def flat_span(row: Mapping[str, Any], place: Place) -> Span | None:
    """One question per row, answers as {text: [...], answer_start: [...]}: SQuAD's form on the hub and in TFDS."""
    answers = place.get(row, "answers")
    texts = [t.decode("utf-8") if isinstance(t, bytes) else str(t) for t in place.get(answers, "text")]
    starts = [int(s) for s in place.get(answers, "answer_start")]
    if len(texts) != len(starts):
        raise XtlError(f"{place.where}: {len(texts)} answers but {len(starts)} offsets")
    context = place.get(row, "context")
    return span(
        place,
        id=place.text(row, "id"),
        question=place.text(row, "question"),
        context=context.decode("utf-8") if isinstance(context, bytes) else context,
        answers=list(zip(texts, starts, strict=True)),
    )


def choices(prompt: str, options: Sequence[str], label: int | None, id: str) -> Choice:
    return Choice(id, prompt.strip(), tuple(o.strip() for o in options), label)
