"""Examples from rows: the functions shared by tasks and by sources, since original files, hub and TFDS often agree in
their columns and differ only in how labels are spelled."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from xtl.data.sources.formats import fields
from xtl.data.sources.formats.base import MakeExample, Place
from xtl.errors import XtlError
from xtl.task import Choice, Loaded, Pair, Span, Tagged


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
        word: Any = fields.label({"label": value}, "label", where)
        if self.order and isinstance(word, int) and 0 <= word < len(self.order):
            word = self.order[word]
        word = self.spelled.get(str(word), str(word))
        try:
            return self.words.index(word)
        except ValueError:
            known = ", ".join(self.words[:20]) + (", ..." if len(self.words) > 20 else "")
            raise XtlError(f"{where}: label {word!r} is unknown to task {self.task} (known: {known})") from None


def pair(labels: Labels, a: str, b: str, *, label: str = "label", id: str = "") -> MakeExample:
    """Sentence pairs from the columns `a`, `b`, `label`; without an id column the row number is the id."""

    def make(row: Mapping[str, Any], place: Place) -> Pair | None:
        value = place.label(row, label, (*labels.words, *labels.spelled))
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
        name = place.name(row, id) if id and id in row else ""
        return Pair(name or str(place.index), place.text(row, a), place.text(row, b), index)

    return make


def choice_label(
    row: Mapping[str, Any], key: str, place: Place, *, names: Sequence[str], spelled: Mapping[str, str] | None = None
) -> int | None:
    """Index of the right choice among `names`; None where a test set hides it. `spelled`: other spellings of names."""
    value = place.label(row, key)
    value = (spelled or {}).get(str(value), value)
    if value in ("", -1, None):
        if place.split != "test":
            raise XtlError(f"{place.where}: no label in split {place.split!r}")
        return None
    if str(value) not in names:
        raise XtlError(f"{place.where}: label {value!r} is not one of {', '.join(names)}")
    return names.index(str(value))


def tagged(labels: Labels, words: str, tags: str) -> MakeExample:
    """Sentences from a list column of words and one of tags (integers in the source's order, or words).

    Tags are hidden in a test set that has no column of tags, or where all are -1.
    """

    def make(row: Mapping[str, Any], place: Place) -> Tagged:
        tokens = tuple(place.texts(row, words))
        if place.split == "test" and tags not in row:
            return Tagged(str(place.index), tokens, None)
        values = fields.typed(row, tags, list[str | int], place.where)
        if len(values) != len(tokens):
            raise XtlError(f"{place.where}: {len(tokens)} words but {len(values)} tags")
        if place.split == "test" and values and all(v in (-1, "-1") for v in values):
            return Tagged(str(place.index), tokens, None)
        return Tagged(str(place.index), tokens, tuple(labels.index(v, place.where) for v in values))

    return make


# ---------------------------------------------------------------- spans


def span(
    place: Place, *, id: str, question: str, context: str, answers: Sequence[tuple[str, int]], unit: str = ""
) -> Span | None:
    """A question with its answers checked against the context.

    A wrong offset is repaired and counted: it is read as one of UTF-16 units (labelling tools in JavaScript) or of
    bytes, else moved to the nearest occurrence of the text (some copies strip contexts). A text that does not occur
    cannot be trained on, so a training row is dropped; in other splits predictions are still compared with it, so it is
    kept with offset -1. Blank texts mean that the answers are hidden (XTREME's copies of evaluation files): answers is
    then None; a blank text among others is left out and counted. unit: what the offsets of the whole set count
    (`offset_unit`), "" for characters.
    """
    if answers and not any(text.strip() for text, _ in answers):
        return Span(id, question, context, None)  # type: ignore[arg-type]
    checked = []
    for text, given in answers:
        if not text.strip():
            place.dropped["blank answer among others"] += 1
            continue
        start, repair = _placed(context, text, given, unit)
        if repair:
            place.dropped[repair] += 1
        if start < 0 and place.split == "train":
            continue
        checked.append((text, start))
    if answers and not checked:
        return None
    return Span(id, question, context, tuple(checked))


def answered(loaded: Loaded, task: str, split: str) -> Loaded:
    """The set of a task that has an answer to every question.

    Translated sets have questions whose answer got lost. In training such a question would teach that there is no
    answer: it is dropped and counted. An evaluation set must have the benchmark's questions: XtlError that names the
    first, unless no question of a test set has an answer, which is how some hide them.
    """
    without = [x for x in loaded.examples if isinstance(x, Span) and x.answers == ()]
    if not without:
        return loaded
    if split == "train":
        kept = [x for x in loaded.examples if not (isinstance(x, Span) and x.answers == ())]
        dropped = loaded.dropped + Counter({"question without an answer": len(without)})
        if not kept:
            raise XtlError(f"task {task}: none of the {len(without)} questions in {_read(loaded)} has an answer")
        return replace(loaded, examples=kept, dropped=dropped)
    if split == "test" and len(without) == len(loaded.examples):
        return replace(loaded, examples=[replace(x, answers=None) for x in without])  # type: ignore[arg-type]
    raise XtlError(
        f"{_read(loaded)}: id {without[0].id}: no answer ({len(without)} of {len(loaded.examples)} questions have "
        f"none); every question of {task} has one: give it its answer, or take it out"
    )


def _read(loaded: Loaded) -> str:
    return ", ".join(loaded.files[:3])


def offset_unit(answers: Iterable[tuple[str, str, int]]) -> tuple[str, Counter[str]]:
    """What the offsets of (context, text, offset) count by majority: "" for characters, or a key of READINGS.

    A single offset can fit by chance, where the answer occurs more than once; a whole file does not. Where as many fit
    one way as the other they are taken for characters, and counted, since nothing in the file decides.
    """
    fits: Counter[str] = Counter()
    as_characters: Counter[str] = Counter()  # among the answers that the other reading places elsewhere
    for context, text, start in answers:
        for unit, reading in () if context.isascii() else READINGS.items():
            at = reading(context, start)
            if at != start:
                fits[unit] += at >= 0 and context.startswith(text, at)
                as_characters[unit] += start >= 0 and context.startswith(text, start)
    unit = max(READINGS, key=lambda u: fits[u] - as_characters[u])
    doubtful = {f"answer offset fits characters and {u} alike": n for u, n in fits.items() if n == as_characters[u] > 0}
    return unit if fits[unit] > as_characters[unit] else "", Counter(doubtful)


def _placed(context: str, text: str, start: int, unit: str) -> tuple[int, str]:
    """(character offset of the text, what had to be done about the one given; "" for nothing)."""
    order = [unit, *(u for u in ("", *READINGS) if u != unit)]
    for name in order:
        at = READINGS[name](context, start) if name else start
        if at >= 0 and context.startswith(text, at):
            return at, f"answer offset counted in {name}" if name and at != start else ""
    start = _nearest_occurrence(context, text, start)
    return start, "answer offset repaired" if start >= 0 else "answer not in the context"


def _from_utf16(context: str, offset: int) -> int:
    """The character at an offset in UTF-16 units; -1 for an offset outside the text or inside a character."""
    if max(context, default="") <= "\uffff":  # every character is one unit
        return offset
    if offset < 0:
        return -1
    units = context.encode("utf-16-le")[: 2 * offset]
    return _length(units, "utf-16-le") if len(units) == 2 * offset else -1


def _from_bytes(context: str, offset: int) -> int:
    """The character at an offset in bytes of UTF-8; -1 for an offset outside the text or inside a character."""
    if context.isascii():
        return offset
    if offset < 0:
        return -1
    units = context.encode("utf-8")[:offset]
    return _length(units, "utf-8") if len(units) == offset else -1


def _length(units: bytes, encoding: str) -> int:
    try:
        return len(units.decode(encoding))
    except UnicodeDecodeError:
        return -1


READINGS = {"UTF-16 units": _from_utf16, "bytes": _from_bytes}


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
    id, question = place.name(row, "id"), place.text(row, "question")
    context = place.text(row, "context", strip=False)
    if place.split == "test" and row.get("answers") is None:
        return Span(id, question, context, None)  # type: ignore[arg-type]
    answers = place.record(row, "answers")
    texts, starts = place.texts(answers, "text", strip=False), place.integers(answers, "answer_start")
    if len(texts) != len(starts):
        raise XtlError(f"{place.where}: {len(texts)} answers but {len(starts)} offsets")
    return span(place, id=id, question=question, context=context, answers=list(zip(texts, starts, strict=True)))


def choices(prompt: str, options: Sequence[str], label: int | None, id: str) -> Choice:
    return Choice(id, prompt.strip(), tuple(o.strip() for o in options), label)
