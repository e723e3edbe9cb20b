"""Dual-encoder retrieval: LAReQA's sentences in paragraphs, Mewsli-X's mentions and entities.

Training examples are `Pair`s (query, right candidate) without a label; evaluation sets are `Text`s on two sides with
gold pairs. A candidate of two parts (a sentence and its paragraph) has a tab between them.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    return f"{_one_line(context[slice(*part)])}\t{_one_line(context)}"


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


def read_xquad_r(files: SplitFiles) -> Loaded:
    """Questions of one language, all sentences of its paragraphs, and which sentence answers which question."""
    (path,) = files.paths
    dropped: Counter = Counter()
    queries: list[Text] = []
    pool: dict[str, Text] = {}
    gold = []
    paragraphs: dict[str, int] = {}
    for where, row in questions(path, keep=("sentence_breaks",)):
        if "sentence_breaks" not in row:
            raise XtlError(f"{where}: its paragraph has no sentence_breaks: this is XQuAD, LAReQA needs xquad-r/")
        breaks = [(int(a), int(b)) for a, b in row["sentence_breaks"]]
        paragraph = paragraphs.setdefault(row["context"], len(paragraphs))
        names = [f"{files.language}:{paragraph}-{i}" for i in range(len(breaks))]
        for name, part in zip(names, breaks, strict=True):
            pool.setdefault(name, Text(name, candidate(row["context"], part), "pool"))
        sentence = _sentence_of(breaks, row)
        if sentence is None:
            dropped["answer in no sentence"] += 1
            continue
        queries.append(Text(f"{files.language}:{row['id']}", row["question"].strip(), "query"))
        gold.append((queries[-1].id, names[sentence]))
    return Loaded([*queries, *pool.values()] if queries else [], gold=gold, dropped=dropped)


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


def read_mentions(files: SplitFiles) -> Loaded:
    """Mentions in news of one language (queries), all entities (pool), and which mention means which entity."""
    mentions, entities = files.paths
    pool = [Text(str(row["entity_id"]), entity_text(row), "pool") for _, row in json_lines(entities)]
    known = {entity.id for entity in pool}
    queries, gold = [], []
    for where, context, mention in _mentions(mentions):
        if context["language"] != files.language:
            continue
        entity = str(mention["entity_id"])
        if entity not in known:
            raise XtlError(f"{where}: entity {entity!r} is not in {entities.name}")
        queries.append(Text(str(mention["example_id"]), mention_text(context, mention, where), "query"))
        gold.append((queries[-1].id, entity))
    return Loaded([*queries, *pool] if queries else [], gold=gold)


def _mentions(path: Path) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """(where, context, mention); a record holds one mention or the list of those that share a context."""
    for where, row in json_lines(path):
        for mention in row["mentions"] if "mentions" in row else [row["mention"]]:
            yield where, row["context"], mention


def mention_languages(path: Path) -> set[str]:
    return {str(context["language"]) for _, context, _ in _mentions(path)}
