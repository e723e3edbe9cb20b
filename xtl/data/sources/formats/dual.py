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


def _sentence_of(breaks: Sequence[Break], row: Mapping[str, Any]) -> int | None:
    """The sentence in which the first answer starts; None if it lies in none."""
    start = row["answers"][0]["answer_start"] if row.get("answers") else -1
    return next((i for i, (a, b) in enumerate(breaks) if a <= start < b), None)


def read_squad(files: SplitFiles) -> Loaded:
    """Training pairs from SQuAD: the question, and the sentence its answer starts in with the paragraph."""

    def make(row: Mapping[str, Any], place: Place) -> Pair | None:
        context, breaks = row["context"], sentence_breaks(row["context"])
        sentence = _sentence_of(breaks, row)
        if sentence is None:
            place.dropped["answer in no sentence"] += 1
            return None
        return Pair(str(place.get(row, "id")), place.text(row, "question"), candidate(context, breaks[sentence]), None)

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
        context, breaks = row["context"], tuple((int(a), int(b)) for a, b in row["sentence_breaks"])
        sentence = _sentence_of(breaks, row)
        if sentence is None:
            dropped["answer in no sentence"] += 1
            continue
        names = tuple(f"{path.stem}:{paragraph}-{i}" for i in range(len(breaks)))
        answer = context[slice(*breaks[sentence])]
        right = tuple(name for name, part in zip(names, breaks, strict=True) if context[slice(*part)] == answer)
        yield _Question(str(row["id"]), row["question"].strip(), context, breaks, names, right)


# ---------------------------------------------------------------- Mewsli-X

OTHER_BRACES = re.compile(r"\{(.*?)\}")


def mention_text(context: Mapping[str, Any], mention: Mapping[str, Any], where: str) -> str:
    """The surface, a colon, and the sentence around it with the mention between spaced braces."""
    text, span = context["text"], mention["mention_span"]
    start, end = int(span["start"]), int(span["end"])
    if text[start:end] != span["text"]:
        raise XtlError(f"{where}: mention {span['text']!r} is not at {start}:{end} of its context (text not restored?)")
    inside = [s for s in context["sentence_spans"] if s["start"] <= start and end <= s["end"]]
    if not inside:
        raise XtlError(f"{where}: mention {span['text']!r} lies in no one sentence")
    left, right = text[inside[0]["start"] : start], text[end : inside[0]["end"]]
    left, right = (OTHER_BRACES.sub(r"(\1)", side) for side in (left, right))
    return _one_line(f"{span['text']}: {left} {{ {span['text']} }} {right}")


def entity_text(entity: Mapping[str, Any]) -> str:
    """The sentences of an entity's description."""
    return _one_line(" ".join(entity["description"][s["start"] : s["end"]] for s in entity["sentence_spans"]))


def read_mention_pairs(files: SplitFiles) -> Loaded:
    """Training pairs: a mention in a Wikipedia page, and the description of its entity."""

    def make(row: Mapping[str, Any], place: Place) -> Pair:
        nested = place.get(row, "contextual_mention")
        context, mention = place.get(nested, "context"), place.get(nested, "mention")
        a = mention_text(context, mention, place.where)
        return Pair(str(mention["example_id"]), a, entity_text(place.get(row, "entity")), None)

    rows = (r for path in files.paths for r in json_lines(path))
    return collect(rows, make, language=files.language, split=files.split)


def read_entities(files: SplitFiles) -> Loaded:
    """The descriptions of all entities: the pool for the mentions of every language."""
    (path,) = files.paths
    return Loaded([Text(str(row["entity_id"]), entity_text(row), "pool") for _, row in json_lines(path)])


def read_mentions(files: SplitFiles) -> Loaded:
    """Mentions in news of one language (queries), and which mention means which entity."""
    mentions, entities = files.paths
    stat = entities.stat()
    known = _entity_ids(entities, stat.st_size, stat.st_mtime_ns)
    queries, gold = [], []
    for where, context, mention in _mentions(mentions):
        if context["language"] != files.language:
            continue
        entity = str(mention["entity_id"])
        if entity not in known:
            raise XtlError(f"{where}: entity {entity!r} is not in {entities.name}")
        queries.append(Text(str(mention["example_id"]), mention_text(context, mention, where), "query"))
        gold.append((queries[-1].id, entity))
    return Loaded(queries, gold=gold)


@functools.lru_cache(maxsize=1)
def _entity_ids(path: Path, size: int, mtime_ns: int) -> frozenset[str]:
    """Read once for the mentions of eleven languages."""
    return frozenset(str(row["entity_id"]) for _, row in json_lines(path))


def _mentions(path: Path) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """(where, context, mention); a record holds one mention or the list of those that share a context."""
    for where, row in json_lines(path):
        for mention in row["mentions"] if "mentions" in row else [row["mention"]]:
            yield where, row["context"], mention


def mention_languages(path: Path) -> set[str]:
    return {str(context["language"]) for _, context, _ in _mentions(path)}
