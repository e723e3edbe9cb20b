"""The world: a seeded generator of small synthetic languages, so that all three phases run offline in minutes.

Ten languages, and more if asked for, speak of one simulated reality. English has real words and a regularised grammar;
the others differ from it in word order, affixation and script by known amounts, and share a known part of its lexicon.
Every task has a counterpart made of the same propositions, so that all dev and test sets are exactly parallel, and no
split of any task (nor the MLM text) shares a (verb, subject, object) with another split.

    >>> from xtl import world
    >>> from xtl.task import get_task
    >>> world.load(get_task("xnli"), "qna", "test", {"seed": 0}).examples[0]

Everything is a pure function of (options, task, language, split); `xtl.world.options.World` lists the options.

A shared word ("anchor") gives retrieval and tagging something for nothing. So half of every dev and test set is drawn
without any; `anchor_free` says which examples these are, `own_words` does the same word by word, and `anchor_baseline`
is what matching shared pieces alone would score.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from xtl.errors import XtlError, nearest
from xtl.task import Example, Loaded, Pair, Tagged, Task, Text
from xtl.world import text
from xtl.world.grammar import CCG, anchor_ids, grammar, lexicons
from xtl.world.language import LANGUAGES, SOURCE, Language
from xtl.world.language import distance as _distance
from xtl.world.meaning import CONCEPTS, Clause
from xtl.world.options import SPLITS, World, make_world
from xtl.world.tasks import KINDS, Draw, concepts_in, kind_of
from xtl.world.tokenizer import tokenizer

__all__ = [
    "LANGUAGES", "Language", "World", "anchor_baseline", "anchor_free", "anchors", "distance", "labels", "languages",
    "load", "make_world", "own_words", "size", "tokenizer",
]  # fmt: skip

Options = Mapping[str, Any] | World | None
TO_ENGLISH = ("parallel", "mining")  # kinds that pair a language with English, and so do not exist in English


def languages(task: Task | None = None, options: Options = None) -> tuple[str, ...]:
    """Codes of the languages that a task (None: any) has in the world; English first, where it has English."""
    codes = tuple(make_world(options).table)
    return tuple(c for c in codes if c != SOURCE) if task is not None and kind_of(task) in TO_ENGLISH else codes


def labels(task: Task) -> tuple[str, ...]:
    """The label words of a task: its own, or the world's where it has none (supertags)."""
    return task.labels or (CCG if kind_of(task) == "supertags" else ())


def size(task: Task, split: str, options: Options = None) -> int:
    """How many examples a task has in one language and split (training text: in a language of full data share)."""
    world = make_world(options)
    return world.documents if kind_of(task) == "text" and split == "train" else world.size(task.name, split)


def load(task: Task, language: str, split: str, options: Options = None) -> Loaded:
    """Examples of one task, language and split; all splits are labelled, ids are the same in all languages.

    Raises XtlError for an unknown language, split or option, or a task without a counterpart.
    """
    world, kind = make_world(options), kind_of(task)
    world.language(language)
    if split not in SPLITS:
        raise XtlError(f"the world has no split {split!r}.{nearest(split, SPLITS)}")
    if language not in languages(task, world):
        raise XtlError(f"{task.name} pairs a language with English and does not exist in {language!r} itself")
    if kind == "text":
        count = size(task, split, world)
        count = round(count * world.language(language).data_share) if split == "train" else count
        return Loaded(text.documents(world, language, split, count))
    if kind in text.RETRIEVAL:
        loaded = text.RETRIEVAL[kind](world, task, language, split, _sentences(world, task.name, split))
        if kind not in TO_ENGLISH:
            return loaded
        return replace(loaded, anchor_free=_unshared(world, task.name, language, split, loaded.examples))
    # Translated training data is the translation of that of the task it trains on, as for XNLI.
    name = task.train or task.name if split == "train" else task.name
    g, say = grammar(world, language), KINDS[kind].say
    items = _items(world, kind, name, split)
    return Loaded([say(g, task, f"{name}-{split}-{i:05d}", item) for i, item in enumerate(items)])


@lru_cache(maxsize=64)
def _items(world: World, kind: str, name: str, split: str) -> tuple[Any, ...]:
    """What the examples mean, in the order of their ids."""
    count, rng = world.size(name, split), world.rng("items", kind, name, split)
    free = round(count * world.anchor_free) if split != "train" else 0
    items: list[Any] = []
    for n, unshared in ((count - free, False), (free, True)):
        if n:
            allowed = _own_everywhere(world) if unshared else None
            draw = Draw(world, rng, n, SPLITS.index(split), world.special.get(name, 0.0), allowed)
            items += KINDS[kind].draw(draw)
    return tuple(items[i] for i in rng.permutation(count))


@lru_cache(maxsize=64)
def _sentences(world: World, name: str, split: str) -> tuple[Clause, ...]:
    return text.distinct(world, name, split, lambda: _own_everywhere(world))


# ---------------------------------------------------------------- shared words


@lru_cache(maxsize=8)
def _own_everywhere(world: World) -> frozenset[int]:
    """Concepts that no language spells as English does."""
    own = frozenset(range(len(CONCEPTS))) - anchor_ids(world, SOURCE)
    left = Counter((c.kind, c.type) for c in CONCEPTS if c.id in own and not c.special)
    replaced = {(c.kind, c.type) for c in CONCEPTS if c.kind in ("noun", "verb", "given", "place_name", "org_name")}
    if min(left[sort] for sort in replaced) < 2:  # items contrast a word with another of its sort
        raise XtlError("world: too few words are left unshared; lower anchor_share, or set anchor_free to 0")
    return own


def anchors(language: str, options: Options = None) -> frozenset[str]:
    """The words (stems) that a language shares with English; for English, those that any language shares."""
    world = make_world(options)
    forms = lexicons(world)[world.language(language).code].concepts
    return frozenset(forms[i] for i in anchor_ids(world, language))


def distance(language: str, options: Options = None) -> float:
    """Syntactic distance from English: cosine distance of the feature vectors, 0 to 1."""
    world = make_world(options)
    return _distance(world.language(language), world.language(SOURCE))


def anchor_free(task: Task, language: str, split: str, options: Options = None) -> frozenset[str]:
    """Ids of the examples (retrieval: of either side) that hold no content word shared with English."""
    world, kind = make_world(options), kind_of(task)
    shared = anchor_ids(world, language)
    if kind == "text" or kind in ("answers", "entities"):
        words = tuple(anchors(language, world))
        return frozenset(e.id for e in load(task, language, split, world).examples if not _starts(_text(e), words))
    if kind in text.RETRIEVAL:
        return _unshared(world, task.name, language, split, load(task, language, split, world).examples)
    name = task.train or task.name if split == "train" else task.name
    items = _items(world, kind, name, split)
    return frozenset(f"{name}-{split}-{i:05d}" for i, item in enumerate(items) if not concepts_in(item) & shared)


def _unshared(world: World, name: str, language: str, split: str, examples: Sequence[Example]) -> frozenset[str]:
    """Ids of the texts of a retrieval task whose sentence has no content word shared with English."""
    shared = anchor_ids(world, language)
    free = {i for i, c in enumerate(_sentences(world, name, split)) if not concepts_in(c) & shared}
    return frozenset(e.id for e in examples if int(e.id.split("-")[1]) in free)


def _texts(loaded: Loaded) -> list[Text]:
    return [e for e in loaded.examples if isinstance(e, Text)]


def _text(example: Example) -> str:
    """All text of an example of retrieval or MLM."""
    assert isinstance(example, Text | Pair)
    return example.text if isinstance(example, Text) else f"{example.a} {example.b}"


def _starts(sentence: str, words: tuple[str, ...]) -> bool:
    """Whether any word of the sentence begins with one of `words`: their affixes follow."""
    return any(w.startswith(words) for w in sentence.split()) if words else False


def own_words(task: Task, language: str, split: str, options: Options = None) -> dict[str, tuple[bool, ...]]:
    """For tagging: which words of each example are content words not shared with English."""
    world = make_world(options)
    lexicon, shared = lexicons(world)[language], anchor_ids(world, language)
    stems = tuple(f for i, f in enumerate(lexicon.concepts) if i not in shared)
    own = {}
    for e in load(task, language, split, world).examples:
        assert isinstance(e, Tagged)
        own[e.id] = tuple(w.startswith(stems) for w in e.words)
    return own


def anchor_baseline(task: Task, language: str, split: str, options: Options = None, *, free: bool = False) -> float:
    """Accuracy (%) of retrieval by shared pieces alone: cosine of piece counts, no training; ties count in part.

    free: only over queries without shared words, where it is chance.
    """
    world = make_world(options)
    loaded = load(task, language, split, world)
    if not loaded.gold:
        raise XtlError(f"{task.name} is no retrieval task: it has no anchor baseline")
    sides = {s: [e for e in _texts(loaded) if e.side == s] for s in ("query", "pool")}
    encode = tokenizer(world)
    counts = {}
    for side, examples in sides.items():
        matrix = np.zeros((len(examples), encode.get_vocab_size()), np.float32)
        for i, e in enumerate(encode.encode_batch([e.text for e in examples], add_special_tokens=False)):
            np.add.at(matrix[i], e.ids, 1)
        counts[side] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    similarity = counts["query"] @ counts["pool"].T  # [queries, pool]
    at = {side: {e.id: i for i, e in enumerate(examples)} for side, examples in sides.items()}
    kept = anchor_free(task, language, split, world) if free else None
    hits = []
    best = similarity >= similarity.max(1, keepdims=True) - 1e-6
    for query, answer in loaded.gold:
        if kept is None or query in kept:
            row = best[at["query"][query]]
            hits.append(row[at["pool"][answer]] / row.sum())
    return 100 * float(np.mean(hits)) if hits else float("nan")
