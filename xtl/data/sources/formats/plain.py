"""Bare text for masked language modelling: plain text files, and the texts of other tasks' files."""

import hashlib
import mmap
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from xtl.data.sources.formats import fields, xnli
from xtl.data.sources.formats.base import Place, Rows, SplitFiles
from xtl.data.sources.formats.tables import Request
from xtl.data.sources.formats.text import lines
from xtl.errors import XtlError
from xtl.files import refuse_pointer
from xtl.task import Loaded, Text

HELD_OUT = 50  # one text in so many is development text
SHORT = 20  # characters: headings and list marks are below it


def held_out(key: str) -> bool:
    """Whether the text of that name is development text.

    Names are verses in Bible files and row numbers in aligned files, so that what is held out in one language is not
    in training in another.
    """
    return zlib.crc32(key.encode()) % HELD_OUT == 0


def read_pairs(files: SplitFiles) -> Loaded:
    """Texts of small files (Bible, XNLI): every distinct text once; "dev" is one in 50 of them."""
    dropped: Counter = Counter()
    examples = []
    seen = set()
    for path in files.paths:
        for key, text in _named_texts(path, files.code):
            if not text:
                dropped["blank line"] += 1
            elif text in seen:  # asked before the split, so that no text is both trained on and held out
                dropped["repeated text"] += 1
            else:
                seen.add(text)
                if held_out(key) == (files.split == "dev"):
                    examples.append(Text(f"{path.stem}:{key}", text))
    return Loaded(examples, dropped=dropped)


def _named_texts(path: Path, language: str) -> Iterator[tuple[str, str]]:
    """(key, text). A tsv with a `language` column is XNLI's; any other is `key TAB text`, the Bible files' form."""
    if next(lines(path), (1, ""))[1].startswith("language\t"):
        for number, (where, row) in enumerate(xnli.rows(path, language)):
            yield f"{number}a", fields.text(row, "sentence1", where)
            yield f"{number}b", fields.text(row, "sentence2", where)
        return
    for number, line in lines(path):
        key, tab, text = line.partition("\t")
        if not tab:
            raise XtlError(f"{path}:{number}: expected `key TAB text`")
        yield key, text.strip()


def read_articles(rows: Rows, request: Request) -> Loaded:
    """Paragraphs of Wikipedia articles; one article in 50 is held out, whole."""
    dropped: Counter = Counter()
    examples, seen = [], set()
    for index, (where, row) in enumerate(rows):
        place = Place(where, index, request.language, request.split, dropped)
        for number, paragraph in enumerate(place.text(row, "text").split("\n")):
            text = paragraph.strip()
            if len(text) < SHORT:
                dropped["paragraph shorter than a sentence"] += bool(text)
            elif text in seen:
                dropped["repeated text"] += 1
            else:
                seen.add(text)
                if held_out(str(index)) == (request.split == "dev"):
                    examples.append(Text(f"{index}-{number}", text))
    return Loaded(examples, dropped=dropped)


# ---------------------------------------------------------------- large files


class LazyTexts(Sequence[Text]):
    """Lines of a file, read when asked for: 16 bytes a line in memory, however long the text."""

    def __init__(self, path: Path, starts: np.ndarray, numbers: np.ndarray):
        self.path, self.starts, self.numbers = path, starts, numbers
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Text: ...
    @overload
    def __getitem__(self, index: slice) -> list[Text]: ...
    def __getitem__(self, index: int | slice) -> Text | list[Text]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, number = int(self.starts[index]), int(self.numbers[index])
        end = self._map.find(b"\n", start)
        raw = self._map[start : len(self._map) if end < 0 else end]
        try:
            return Text(str(number), raw.decode("utf-8-sig" if start == 0 else "utf-8").strip())
        except UnicodeDecodeError as error:
            raise XtlError(f"{self.path}:{number}: not UTF-8 ({error.reason} at byte {error.start})") from None


def read_lines(files: SplitFiles) -> Loaded:
    """Lines of one plain text file, which may be far larger than memory; repeats dropped, one line in 50 held out."""
    (path,) = files.paths
    refuse_pointer(path)
    starts, digests = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    with open(path, "rb") as file:
        at = 0
        while block := file.readlines(1 << 24):
            lengths = np.fromiter(map(len, block), np.int64, count=len(block))
            starts.append(at + np.cumsum(lengths) - lengths)
            digests.append(np.fromiter(map(_digest, block), np.uint64, count=len(block)))
            at += int(lengths.sum())
    start, digest = np.concatenate(starts), np.concatenate(digests)
    blank = digest == 0
    first = np.zeros(len(digest), bool)
    first[np.unique(digest, return_index=True)[1]] = True
    used = first & ~blank
    number = np.arange(1, len(digest) + 1)
    dev = np.fromiter((held_out(str(n)) for n in number), bool, count=len(number))
    keep = used & (dev == (files.split == "dev"))
    dropped = Counter({"blank line": int(blank.sum()), "repeated text": int((~first & ~blank).sum())})
    return Loaded(LazyTexts(path, start[keep], number[keep]) if keep.any() else [], dropped=+dropped)


def _digest(line: bytes) -> int:
    """64 bits of a line's text; 0 for a blank one."""
    text = line.strip()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") | 1 if text else 0
