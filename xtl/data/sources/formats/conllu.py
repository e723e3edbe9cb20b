"""Universal Dependencies: CoNLL-U treebanks to words and universal POS tags, in XTREME's form or the plain one.

XTREME scores words as written, so a multiword token ("im" = "in" + "dem") is one word with the tag of its head part;
the plain form has the syntactic words instead. The two differ in length in de, el, es, he, mr, tr and others.
Rules restated from XTREME's conversion scripts.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from xtl.data.sources.formats.base import Read, SplitFiles
from xtl.data.sources.formats.examples import Labels
from xtl.data.sources.formats.text import lines
from xtl.errors import XtlError
from xtl.task import Loaded, Tagged

TAGS_BY_PRECEDENCE = {
    "": "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT",
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}
WITHHELD = "_"  # the form of words left out for copyright


@dataclass
class Sentence:
    """Syntactic words 1..n with tags and heads (0 = root), and multiword tokens as (first, last, surface form)."""

    where: str
    forms: list[str]
    tags: list[str]
    heads: list[int]
    fused: list[tuple[int, int, str]]


def sentences(path: Path) -> Iterator[Sentence]:
    """Sentences of one treebank file; comments and empty nodes are passed over."""
    sentence = None
    for number, line in lines(path):
        where = f"{path}:{number}"
        if not line.strip():
            if sentence:
                yield sentence
            sentence = None
            continue
        if line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 10:
            raise XtlError(f"{where}: {len(cells)} columns, expected the 10 of CoNLL-U")
        sentence = sentence or Sentence(where, [], [], [], [])
        try:
            _add(sentence, cells)
        except ValueError:
            raise XtlError(f"{where}: id {cells[0]!r} or head {cells[6]!r} is out of order or not a number") from None
    if sentence:
        yield sentence


def _add(sentence: Sentence, cells: list[str]) -> None:
    name, form, tag, head = cells[0], cells[1], cells[3], cells[6]
    if "." in name:  # an empty node: only in the enhanced graph
        return
    if "-" in name:
        first, last = map(int, name.split("-"))
        if first != len(sentence.forms) + 1 or last < first:
            raise ValueError(name)
        sentence.fused.append((first, last, form))
        return
    if int(name) != len(sentence.forms) + 1:
        raise ValueError(name)
    sentence.forms.append(form)
    sentence.tags.append(tag)
    sentence.heads.append(int(head) if head != "_" else 0)
    if sentence.heads[-1] < 0:
        raise ValueError(head)


def depth(heads: Sequence[int], word: int) -> int:
    """Number of words above a word (1-based) on its way to the root; a cycle is left where it closes."""
    seen: set[int] = set()
    while word and word not in seen:
        seen.add(word)
        word = heads[word - 1] if word <= len(heads) else 0
    return len(seen)


def head_part(sentence: Sentence, first: int, last: int, language: str) -> int:
    """The part of a multiword token whose tag it takes: nearest the root; a tie by precedence, then the first."""
    depths = {word: depth(sentence.heads, word) for word in range(first, last + 1)}
    nearest_root = [word for word in depths if depths[word] == min(depths.values())]
    order = TAGS_BY_PRECEDENCE.get(language, TAGS_BY_PRECEDENCE[""]).split()
    rank = {tag: i for i, tag in enumerate(order)}
    return min(nearest_root, key=lambda word: rank.get(sentence.tags[word - 1], len(rank)))


def fuse(sentence: Sentence, language: str) -> tuple[list[str], list[str]]:
    """Words as written and their tags, cleaned as XTREME does (no zero-width non-joiners, no spaces inside words)."""
    forms, tags = [], []
    starts = {first: (last, form) for first, last, form in sentence.fused}
    word = 1
    while word <= len(sentence.forms):
        if word in starts:
            last, form = starts[word]
            if last > len(sentence.forms):
                raise XtlError(f"{sentence.where}: multiword token {word}-{last} ends after the sentence")
            tag = sentence.tags[head_part(sentence, word, last, language) - 1]
        else:
            last, form, tag = word, sentence.forms[word - 1], sentence.tags[word - 1]
        forms.append(form)
        tags.append(tag)
        word = last + 1
    return [clean(f) for f in forms], tags


def clean(form: str) -> str:
    form = form.strip()
    return form.replace("\u200c", "").replace(" ", "") or form


def withheld(forms: Sequence[str]) -> bool:
    """XTREME's rule: words are missing and at most one is left."""
    missing = sum(f == WITHHELD for f in forms)
    return missing > 0 and missing >= len(forms) - 1


RELEASE = re.compile(r"\d+\.\d+")  # in the name of a folder: ud-treebanks-v2.5


def refuse_two_releases(paths: Sequence[Path]) -> None:
    """XtlError if treebanks of two releases lie side by side.

    Sentences move between splits and treebanks from one release to the next, so together they are neither's test set,
    and training data would be in it.
    """
    folders = {release for path in paths if (release := _release_folder(path)) is not None}
    for folder in sorted(folders):
        like = RELEASE.sub("*", folder.name)
        folders |= {f for f in folder.parent.iterdir() if RELEASE.sub("*", f.name) == like and f.is_dir()}
    with_treebanks = sorted(f for f in folders if next(f.rglob("*.conllu"), None) is not None)
    if len(with_treebanks) > 1:
        _refuse(with_treebanks)
    file_of: dict[str, Path] = {}
    for path in paths:
        if (other := file_of.setdefault(path.name, path)) != path:
            _refuse([other, path])


def _release_folder(path: Path) -> Path | None:
    """The folder of the release that a treebank file belongs to, where a folder names one."""
    return next((f for f in path.parents if RELEASE.search(f.name) and f.name.lower().startswith("ud")), None)


def _refuse(places: Sequence[Path]) -> NoReturn:
    raise XtlError(
        f"two releases of Universal Dependencies in one folder: {' and '.join(map(str, places))}; keep one, and give "
        "the other a data root of its own"
    )


def read(labels: Labels) -> Read:
    """Reader of all treebanks of a language, joined in file-name order; option `fusion` False keeps syntactic words."""

    def read_files(files: SplitFiles) -> Loaded:
        refuse_two_releases(files.paths)
        dropped: Counter = Counter()
        examples: list[Tagged] = []
        for path in files.paths:
            for sentence in sentences(path):
                if files.options["fusion"]:
                    forms, tags = fuse(sentence, files.language)
                else:
                    forms, tags = [f.strip() for f in sentence.forms], sentence.tags
                if withheld(forms):
                    dropped["words withheld by the treebank"] += 1
                    continue
                ids = tuple(labels.index(tag, sentence.where) for tag in tags)
                examples.append(Tagged(str(len(examples)), tuple(forms), ids))
        return Loaded(examples, dropped=dropped)

    return read_files
