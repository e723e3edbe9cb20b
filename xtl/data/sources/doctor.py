"""The data doctor: does a source hold what the tasks expect?

A *bad* finding makes numbers wrong or impossible (a label order that known pairs contradict, answers that are not where
they should be, a file that cannot be read). A *note* is worth knowing (part of the data, duplicates, hidden labels).
Absent data are listed, not judged.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from xtl.data import sources
from xtl.data.settings import Data
from xtl.errors import Unreachable, XtlError
from xtl.task import Choice, Example, Loaded, Pair, Span, Tagged, Task, Text

ENOUGH = 20  # known pairs below which a majority says nothing
REPAIRED = 0.5  # share of answers with repaired offsets from which a set counts as broken
OVERLAP = 0.05  # share of an evaluation set that may stand in the training set, as in some public sets


@dataclass
class Checked:
    """The findings of one (task, language, split)."""

    task: str
    language: str
    split: str
    examples: int = 0
    expected: int | None = None  # by the manifest; None where it states nothing
    labels: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)  # kind -> how many
    files: list[str] = field(default_factory=list)


@dataclass
class Diagnosis:
    """All findings of some tasks; `good` decides the exit status."""

    checked: list[Checked]
    absent: dict[str, dict[str, list[str]]]  # task -> split -> languages without data
    incomplete: dict[str, list[str]] = field(default_factory=dict)  # "task language split" -> files without the others

    @property
    def good(self) -> bool:
        return bool(self.checked) and not any(c.bad for c in self.checked)

    def to_json(self) -> dict[str, Any]:
        return {
            "good": self.good,
            "checked": [asdict(c) for c in self.checked],
            "absent": self.absent,
            "incomplete": self.incomplete,
        }


def examine(tasks: Sequence[Task], data: Data, *, progress: Callable[[str], None] | None = None) -> Diagnosis:
    """Read and check every language and split of the tasks that the source holds.

    progress: called with "TASK SPLIT" before each split is read. Raises XtlError only if the source as a whole cannot
    be used (no data root); what is wrong with single files becomes a finding.
    """
    checked: list[Checked] = []
    absent: dict[str, dict[str, list[str]]] = {}
    incomplete: dict[str, list[str]] = {}
    for task in tasks:
        if data.source == "world":  # languages and sizes are its own, not those of the published set
            task = replace(task, languages=sources.languages(task, data), sizes={})
        elif getattr(task, data.source) is None:
            absent[task.name] = {split: list(task.languages) for split in task.splits}
            continue
        done, missing = _examine_task(task, data, progress)
        checked += done
        if missing:
            absent[task.name] = missing
        for split, language in ((s, x) for s, languages in missing.items() for x in languages):
            if present := sources.incomplete(task, language, split, data):
                incomplete[f"{task.name} {language} {split}"] = present
    return Diagnosis(checked, absent, incomplete)


def _examine_task(
    task: Task, data: Data, progress: Callable[[str], None] | None
) -> tuple[list[Checked], dict[str, list[str]]]:
    checked: list[Checked] = []
    missing: dict[str, list[str]] = {}
    trained: dict[str, set[str]] = {}  # training inputs by language
    for split in task.splits:
        present = _present(task, data, split, checked)
        expected = task.sizes.get(split)
        due = expected if isinstance(expected, Mapping) else task.languages
        if absent := [x for x in task.languages if x in due and x not in present]:
            missing[split] = absent
        if present and progress is not None:
            progress(f"{task.name} {split}")
        english: dict[str, int] = {}  # id -> label, for languages that translate one set
        for language in sorted(present, key=lambda x: x != "en"):
            result = Checked(task.name, language, split)
            checked.append(result)
            try:
                loaded = sources.load(task, language, split, data)
            except XtlError as error:
                result.bad.append(str(error))
                continue
            except Exception as error:  # one set that a reader cannot cope with must not hide what the others hold
                result.bad.append(f"cannot be read: {type(error).__name__}: {error}")
                continue
            _check_set(task, loaded, result)
            if language == "en":
                english = {e.id: e.label for e in loaded.examples if isinstance(e, Pair) and e.label is not None}
            elif english:
                _check_against_english(loaded.examples, english, result)
            if split == "train":
                trained[language] = {_input(e) for e in loaded.examples}
            elif not task.retrieval:
                _check_overlap(loaded.examples, trained.get(language, set()), result)
    return checked, missing


def _present(task: Task, data: Data, split: str, checked: list[Checked]) -> tuple[str, ...]:
    """The languages whose files are there, those of translated training data among them.

    One whose file must be looked into and cannot is a finding.
    """
    present = []
    declared = (*task.languages, *task.languages_r)  # translations elsewhere would have to be downloaded
    for language in dict.fromkeys(sources.every_language(task) if data.source == "files" else declared):
        try:
            if split in sources.splits_present(task, language, data):
                present.append(language)
        except Unreachable:
            raise
        except XtlError as error:
            if not any(str(error) in c.bad for c in checked):  # a file of all languages is named once
                checked.append(Checked(task.name, language, split, bad=[str(error)]))
    return tuple(present)


# ---------------------------------------------------------------- one set


def _check_set(task: Task, loaded: Loaded, result: Checked) -> None:
    examples = loaded.examples
    result.examples, result.files = len(examples), list(loaded.files)
    result.dropped = dict(loaded.dropped)
    _check_count(task, result)
    _check_labels(task, examples, result)
    _check_label_order(task, examples, result)
    _check_answers(examples, result)
    _check_repeats(examples, result)
    if task.retrieval and "train" not in task.splits:  # where it is trained, its examples are pairs
        _check_retrieval(examples, loaded.gold, result)
    blank = sum(not _input(e).strip() for e in examples)
    if blank:
        result.notes["examples without text"] = str(blank)


def _check_count(task: Task, result: Checked) -> None:
    expected = task.sizes.get(result.split)
    if isinstance(expected, Mapping):
        expected = expected.get(result.language)
    result.expected = expected
    count = result.examples
    if expected is None or task.retrieval:
        return
    if count != expected:
        kind = "a part of the data" if count < expected else "more than the manifest has: another version"
        result.notes[kind] = f"{count:,} of {expected:,}"


def _check_answers(examples: Sequence[Example], result: Checked) -> None:
    spans = [e for e in examples if isinstance(e, Span)]
    answers = sum(len(e.answers or ()) for e in spans)
    repaired = result.dropped.get("answer offset repaired", 0)
    unplaced = result.dropped.get("answer not in the context", 0)
    if repaired + unplaced:
        share = (repaired + unplaced) / max(answers, 1)
        if share > REPAIRED or unplaced > answers / 20:
            result.bad.append(f"{repaired} of {answers} answer offsets wrong, {unplaced} answers not in their context")
        else:
            result.notes["answer offsets repaired, answers not in the context"] = (
                f"{repaired}, {unplaced} ({share:.1%})"
            )
    hidden = sum(e.answers is None for e in spans)
    if hidden:
        result.notes["answers hidden: can be predicted, not scored"] = f"{hidden} of {len(spans)}"


def _check_repeats(examples: Sequence[Example], result: Checked) -> None:
    seen: dict[str, set[Any]] = defaultdict(set)
    repeats = 0
    for example in examples:
        if isinstance(example, Text):
            continue  # corpora repeat themselves; readers of MLM text have dropped repeats
        key = _input(example)
        repeats += key in seen
        seen[key].add(_answer(example))
    torn = sum(len(answers) > 1 for answers in seen.values())
    if repeats:
        result.notes["repeated inputs"] = f"{repeats} ({torn} with different answers)" if torn else str(repeats)


def _check_retrieval(examples: Sequence[Example], gold: Sequence[tuple[str, str]], result: Checked) -> None:
    sides = Counter(e.side for e in examples if isinstance(e, Text))
    result.labels = {"queries": sides["query"], "pool": sides["pool"], "gold": len(gold)}
    if not gold:
        result.notes["no gold pairs: can be predicted, not scored"] = "0"
    mined = result.task == "bucc2018"
    if mined and len(gold) >= min(sides["query"], sides["pool"]):
        result.bad.append("gold pairs only, without the other sentences: there is nothing to mine")
    elif result.expected is not None and gold and len(gold) != result.expected:
        result.notes["gold pairs"] = f"{len(gold):,}, {result.expected:,} in the manifest"


def _check_overlap(examples: Sequence[Example], trained: set[str], result: Checked) -> None:
    shared = sum(_input(e) in trained for e in examples)
    if shared:
        share = shared / len(examples)
        if share > OVERLAP and not isinstance(examples[0], Tagged):  # short sentences recur in every treebank
            result.bad.append(f"{shared} of {len(examples)} examples ({share:.1%}) are in the training set, too")
        else:
            result.notes["in the training set, too"] = f"{shared} ({share:.1%})"


def _input(example: Example) -> str:
    """The input of a model."""
    match example:
        case Pair():
            return f"{example.a}\t{example.b}"
        case Choice():
            return "\t".join((example.prompt, *example.choices))
        case Span():
            return f"{example.question}\t{example.context}"
        case Tagged():
            return " ".join(example.words)
        case Text():
            return example.text


def _answer(example: Example) -> Any:
    """What a model should predict."""
    match example:
        case Pair() | Choice():
            return example.label
        case Span():
            return example.answers
        case Tagged():
            return example.tags
        case _:
            return None


# ---------------------------------------------------------------- labels


def _check_labels(task: Task, examples: Sequence[Example], result: Checked) -> None:
    """How often each label occurs, how many are hidden, and whether all are the same."""
    counts: Counter[str] = Counter()
    hidden = 0
    for example in examples:
        labels = _labels(example)
        if labels is None:
            hidden += 1
        else:
            counts.update(_word(task, label) for label in labels)
    if hidden and not task.retrieval:
        result.notes["labels hidden: can be predicted, not scored"] = f"{hidden} of {len(examples)}"
    result.labels = dict(counts.most_common(20))
    if sum(counts.values()) >= 10 * ENOUGH and len(counts) == 1:
        result.bad.append(f"every example has the label {next(iter(counts))!r}")


def _labels(example: Example) -> Sequence[int] | None:
    """The labels of an example: none for other answers than labels, None where they are hidden."""
    match example:
        case Pair() | Choice():
            return None if example.label is None else (example.label,)
        case Tagged():
            return example.tags
        case _:
            return ()


def _check_label_order(task: Task, examples: Sequence[Example], result: Checked) -> None:
    """Whether items whose label is known have it by majority; with labels in a wrong order they do not."""
    votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for example in examples:
        for kind, right, label in _known(task, example, result.language):
            votes[kind, right][_word(task, label)] += 1
    for (kind, right), labels in votes.items():
        most, count = labels.most_common(1)[0]
        if labels.total() >= ENOUGH and most != right:
            result.bad.append(
                f"label order looks wrong: {kind} should mostly be {right!r}, but {count} of {labels.total()} "
                f"are {most!r}"
            )


def _word(task: Task, label: int) -> str:
    return task.labels[label] if label < len(task.labels) else str(label)


NEGATION = re.compile(r"\b(?:not|no|never|nobody|nothing|none)\b|n't\b", re.IGNORECASE)
PUNCTUATION = frozenset(".,!?;:。、،؟।")


def _known(task: Task, example: Example, language: str) -> Iterator[tuple[str, str, int]]:
    """(kind of item, its right label, the label in the data) where the right label is known without a model."""
    if isinstance(example, Pair) and example.label is not None and example.b is not None:
        kind = None
        if task.labels[:1] == ("contradiction",):
            kind = _known_inference(task, example.a, example.b, language)
        elif task.labels == ("0", "1"):
            kind = _known_paraphrase(task, example.a, example.b)
        if kind is not None:
            yield *kind, example.label
    elif isinstance(example, Tagged) and example.tags is not None:
        if "PUNCT" in task.labels:
            yield from _known_parts_of_speech(example.words, example.tags, language)
        elif "B-PER" in task.labels:
            yield from _inside_entities(task, example)


def _known_inference(task: Task, a: str, b: str, language: str) -> tuple[str, str] | None:
    if _plain(a) == _plain(b):
        return "pairs of equal sentences", "entailment"
    adversarial = "anli" in task.name  # written against this rule
    if language == "en" and not adversarial and NEGATION.search(b) and not NEGATION.search(a):
        return "English pairs with a negation in the second part only", "contradiction"
    return None


def _known_paraphrase(task: Task, a: str, b: str) -> tuple[str, str] | None:
    a, b = _plain(a), _plain(b)
    if a == b:
        return "pairs of equal sentences", "1"
    if task.name == "qqp" and not set(a.split()) & set(b.split()):
        return "pairs without a common word", "0"
    return None


def _known_parts_of_speech(words: Sequence[str], tags: Sequence[int], language: str) -> Iterator[tuple[str, str, int]]:
    for word, tag in zip(words, tags, strict=True):
        if word in PUNCTUATION:
            yield "punctuation marks", "PUNCT", tag
        elif language == "en" and word in ("the", "The"):
            yield "the word 'the'", "DET", tag


def _inside_entities(task: Task, example: Tagged) -> Iterator[tuple[str, str, int]]:
    """A tag I-X follows B-X or I-X: with a wrong order of tags it mostly does not."""
    tags = [_word(task, t) for t in example.tags or ()]
    for before, tag in itertools.pairwise(tags):
        if before.startswith("B-") and tag.startswith("I-"):
            kind = before.removeprefix("B-")
            yield f"tags inside an entity that began with {before}", f"I-{kind}", task.labels.index(tag)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _check_against_english(examples: Sequence[Example], english: Mapping[str, int], result: Checked) -> None:
    """Translations of one set keep the labels, but for a few (PAWS-X differs in 32 of 2,000)."""
    pairs = [
        (english[e.id], e.label) for e in examples if isinstance(e, Pair) and e.label is not None and e.id in english
    ]
    other = sum(a != b for a, b in pairs)
    if len(pairs) >= ENOUGH and other > 0.1 * len(pairs):
        result.bad.append(f"{other} of {len(pairs)} labels differ from those of the same ids in English")
    elif other:
        result.notes["labels unlike those of the same ids in English"] = f"{other} of {len(pairs)}"
