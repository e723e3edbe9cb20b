"""Dual-encoder retrieval: LAReQA's sentences in paragraphs, Mewsli-X's mentions and entities.

Training examples are `Pair`s (query, right candidate) without a label; evaluation sets are `Text`s on two sides with
gold pairs. LAReQA's candidates are a sentence with its paragraph behind it, without a space between, as XTREME-R has
them.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtl.data.sources.formats import fields
from xtl.data.sources.formats.base import Place, SplitFiles, collect
from xtl.data.sources.formats.squad import questions
from xtl.data.sources.formats.text import json_lines
from xtl.errors import XtlError
from xtl.task import Loaded, Pair, Text

Break = tuple[int, int]  # characters [start, end) of a sentence

# ---------------------------------------------------------------- LAReQA

SENTENCE_END = re.compile(r"""[.!?]+["'”’)\]]*\s+(?=["'“‘(\[]?[A-Z0-9])""")
NO_END = re.compile(r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|No|Inc|Ltd|Co|Gen|Col|Lt|Prof|Rev|e\.g|i\.e|c|ca)\.\s+$")


def sentence_breaks(text: str) -> list[Break]:
    """English sentences by punctuation, since SQuAD comes without breaks; close to XTREME-R's splitter, not equal."""
    ends = (match.end() for match in SENTENCE_END.finditer(text))
    starts = [0, *(end for end in ends if not NO_END.search(text[max(0, end - 12) : end]))]
    return [(a, b) for a, b in zip(starts, [*starts[1:], len(text)], strict=True) if text[a:b].strip()]


def candidate(context: str, part: Break) -> str:
    """A sentence and its paragraph as one text, as in google-research/xtreme, third_party/evaluate_retrieval.py."""
    return (context[slice(*part)] + context).replace("\n", "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sentence_of(breaks: Sequence[Break], row: Mapping[str, Any], where: str) -> int | None:
    """The sentence in which the first answer starts; None if it lies in none."""
    answers = fields.records(row, "answers", where)
    start = fields.typed(answers[0], "answer_start", int, where) if answers else -1
    return next((i for i, (a, b) in enumerate(breaks) if a <= start < b), None)


def read_squad(files: SplitFiles) -> Loaded:
    """Training pairs from SQuAD: the question, and the sentence its answer starts in with the paragraph."""

    def make(row: Mapping[str, Any], place: Place) -> Pair | None:
        context = place.text(row, "context", strip=False)
        breaks = sentence_breaks(context)
        sentence = _sentence_of(breaks, row, place.where)
        if sentence is None:
            place.dropped["answer in no sentence"] += 1
            return None
        return Pair(place.name(row, "id"), place.text(row, "question"), candidate(context, breaks[sentence]), None)

    rows = (r for path in files.paths for r in questions(path))
    return collect(rows, make, language=files.language, split=files.split)


@dataclass(frozen=True)
class _Question:
    """One question of a file of xquad-r, the sentences of its paragraph, and which of them answer it."""

    id: str
    text: str
    context: str
    breaks: tuple[Break, ...]
    names: tuple[str, ...]  # ids of the sentences
    right: tuple[str, ...]


def read_xquad_r(files: SplitFiles) -> Loaded:
    """Questions and sentences of one language, and which sentences answer which question in all languages.

    files.paths: the language's own file, then those of all languages. Equal question ids are one question; a sentence
    that occurs twice in a paragraph is right twice. Paragraphs whose questions are all dropped have no candidates.
    """
    own, *every = files.paths
    dropped: Counter = Counter()
    questions_here = list(_xquad_r(own, dropped))
    right: dict[str, list[str]] = {}
    for path in every:
        for question in questions_here if path == own else _xquad_r(path, Counter()):
            right.setdefault(question.id, []).extend(question.right)
    queries, gold, pool = [], [], {}
    for question in questions_here:
        queries.append(Text(f"{own.stem}:{question.id}", question.text, "query"))
        gold += [(queries[-1].id, name) for name in right[question.id]]
        for name, part in zip(question.names, question.breaks, strict=True):
            pool[name] = Text(name, candidate(question.context, part), "pool")
    return Loaded([*queries, *pool.values()], gold=gold, dropped=dropped)


def _xquad_r(path: Path, dropped: Counter) -> Iterator[_Question]:
    paragraph, before = -1, None
    for where, row in questions(path, keep=("sentence_breaks",)):
        if "sentence_breaks" not in row:
            raise XtlError(f"{where}: its paragraph has no sentence_breaks: this is XQuAD, LAReQA needs xquad-r/")
        if row["sentence_breaks"] is not before:  # counted: two paragraphs may have one text
            paragraph, before = paragraph + 1, row["sentence_breaks"]
        context = fields.text(row, "context", where, strip=False)
        breaks = tuple(fields.typed(row, "sentence_breaks", list[tuple[int, int]], where))
        sentence = _sentence_of(breaks, row, where)
        if sentence is None:
            dropped["answer in no sentence"] += 1
            continue
        names = tuple(f"{path.stem}:{paragraph}-{i}" for i in range(len(breaks)))
        answer = context[slice(*breaks[sentence])]
        right = tuple(name for name, part in zip(names, breaks, strict=True) if context[slice(*part)] == answer)
        question = fields.text(row, "question", where)
        yield _Question(fields.name(row, "id", where), question, context, breaks, names, right)


# ---------------------------------------------------------------- Mewsli-X

OTHER_BRACES = re.compile(r"\{(.*?)\}")


def mention_text(context: Mapping[str, Any], mention: Mapping[str, Any], where: str) -> str:
    """The surface, a colon, and the sentence around it with the mention between spaced braces."""
    text, span = fields.text(context, "text", where, strip=False), fields.record(mention, "mention_span", where)
    (start, end), surface = _extent(span, where), fields.text(span, "text", where, strip=False)
    if text[start:end] != surface:
        raise XtlError(f"{where}: mention {surface!r} is not at {start}:{end} of its context (text not restored?)")
    sentences = [_extent(s, where) for s in fields.records(context, "sentence_spans", where)]
    inside = [(first, last) for first, last in sentences if first <= start and end <= last]
    if not inside:
        raise XtlError(f"{where}: mention {surface!r} lies in no one sentence")
    left, right = text[inside[0][0] : start], text[end : inside[0][1]]
    left, right = (OTHER_BRACES.sub(r"(\1)", side) for side in (left, right))
    return _one_line(f"{surface}: {left} {{ {surface} }} {right}")


def _extent(span: Mapping[str, Any], where: str) -> Break:
    return fields.typed(span, "start", int, where), fields.typed(span, "end", int, where)


def entity_text(entity: Mapping[str, Any], where: str) -> str:
    """The sentences of an entity's description."""
    description = fields.text(entity, "description", where, strip=False)
    spans = fields.records(entity, "sentence_spans", where)
    return _one_line(" ".join(description[slice(*_extent(span, where))] for span in spans))


def read_mention_pairs(files: SplitFiles) -> Loaded:
    """Training pairs: a mention in a Wikipedia page, and the description of its entity."""

    def make(row: Mapping[str, Any], place: Place) -> Pair:
        nested = place.record(row, "contextual_mention")
        context, mention = place.record(nested, "context"), place.record(nested, "mention")
        a, b = mention_text(context, mention, place.where), entity_text(place.record(row, "entity"), place.where)
        return Pair(place.name(mention, "example_id"), a, b, None)

    rows = (r for path in files.paths for r in json_lines(path))
    return collect(rows, make, language=files.language, split=files.split)


def read_entities(files: SplitFiles) -> Loaded:
    """The descriptions of all entities: the pool for the mentions of every language."""
    (path,) = files.paths
    return Loaded(
        [Text(fields.name(row, "entity_id", where), entity_text(row, where), "pool") for where, row in json_lines(path)]
    )


def read_mentions(files: SplitFiles) -> Loaded:
    """Mentions in news of one language (queries), and which mention means which entity."""
    mentions, entities = files.paths
    stat = entities.stat()
    known = _entity_ids(entities, stat.st_size, stat.st_mtime_ns)
    queries, gold = [], []
    for where, context, mention in _mentions(mentions):
        if fields.text(context, "language", where) != files.language:
            continue
        entity = fields.name(mention, "entity_id", where)
        if entity not in known:
            raise XtlError(f"{where}: entity {entity!r} is not in {entities.name}")
        queries.append(Text(fields.name(mention, "example_id", where), mention_text(context, mention, where), "query"))
        gold.append((queries[-1].id, entity))
    return Loaded(queries, gold=gold)


@functools.lru_cache(maxsize=1)
def _entity_ids(path: Path, size: int, mtime_ns: int) -> frozenset[str]:
    """Read once for the mentions of eleven languages."""
    return frozenset(fields.name(row, "entity_id", where) for where, row in json_lines(path))


def _mentions(path: Path) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """(where, context, mention); a record holds one mention or the list of those that share a context."""
    for where, row in json_lines(path):
        context, several = fields.record(row, "context", where), "mentions" in row
        for mention in fields.records(row, "mentions", where) if several else [fields.record(row, "mention", where)]:
            yield where, context, mention


def mention_languages(path: Path) -> set[str]:
    return {fields.text(context, "language", where) for where, context, _ in _mentions(path)}
