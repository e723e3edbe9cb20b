"""One word a line with its tag after a tab, a blank line between sentences: PAN-X's archives and XTREME's own files."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from xtl.data.formats.base import Found, Read
from xtl.data.formats.examples import Labels
from xtl.data.formats.text import lines
from xtl.errors import XtlError
from xtl.tasks.base import Loaded, Tagged

Word = tuple[str, str | None, str]  # word, tag (None where hidden), where


def sentences(path: Path, *, prefixed: bool = False) -> Iterator[list[Word]]:
    """Sentences of one file.

    prefixed: words are written `lang:word`; the prefix ends at the first colon, since words hold colons too. What stays
    of a word may be empty or odd white space; it is kept, because predictions are compared line by line.
    """
    sentence: list[Word] = []
    for number, line in lines(path):
        where = f"{path}:{number}"
        if not line.strip():
            if sentence:
                yield sentence
            sentence = []
            continue
        cells = line.split("\t")
        if len(cells) > 2:
            raise XtlError(f"{where}: {len(cells)} columns, expected a word and a tag")
        word, tag = cells[0], cells[1].strip() if len(cells) == 2 else None
        if prefixed:
            prefix, colon, word = word.partition(":")
            if not colon:
                raise XtlError(f"{where}: expected lang:word, found {prefix!r}")
        sentence.append((word.strip(), tag, where))
    if sentence:
        yield sentence


def read(labels: Labels, *, prefixed: bool = False) -> Read:
    """Reader of word-and-tag files. Only a test file may come without tags, and then without any."""

    def read_found(found: Found) -> Loaded:
        dropped: Counter = Counter()
        examples: list[Tagged] = []
        for path in found.paths:
            for sentence in sentences(path, prefixed=prefixed):
                words = tuple(w for w, _, _ in sentence)
                tags = [t for _, t, _ in sentence]
                if found.split == "test" and all(t is None for t in tags):
                    ids = None
                else:
                    ids = tuple(_tag(labels, tag, where) for _, tag, where in sentence)
                examples.append(Tagged(str(len(examples)), words, ids))
        return Loaded(examples, dropped=dropped)

    return read_found


def _tag(labels: Labels, tag: str | None, where: str) -> int:
    if tag is None:
        raise XtlError(f"{where}: a word without a tag")
    return labels.index(tag, where)
