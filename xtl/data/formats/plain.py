"""Bare text for masked language modelling: plain text files, and the texts of other tasks' files."""

import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from xtl.data.formats.base import Found
from xtl.data.formats.text import lines, tsv
from xtl.errors import XtlError
from xtl.tasks.base import Loaded, Text

HELD_OUT = 50  # one text in so many is development text


def read(found: Found) -> Loaded:
    """Texts of one language; "dev" is one in 50 of them, chosen by the key that names a text.

    Keys are verse names in Bible files, so that no verse is in training in one language and held out in another.
    """
    dropped: Counter = Counter()
    examples = []
    seen = set()
    for path in found.paths:
        for key, text in _texts(path, found.code):
            if not text:
                dropped["blank line"] += 1
                continue
            if text in seen:  # asked first, so that no text is both trained on and held out
                dropped["repeated text"] += 1
                continue
            seen.add(text)
            held_out = zlib.crc32(key.encode()) % HELD_OUT == 0
            if held_out != (found.split == "dev"):
                continue
            examples.append(Text(f"{path.stem}:{key}", text))
    return Loaded(examples, dropped=dropped)


def _texts(path: Path, language: str) -> Iterator[tuple[str, str]]:
    """(key, text). A tsv with a `language` column is XNLI's; any other is `key TAB text`, the Bible files' form."""
    if path.suffix != ".tsv":
        for number, line in lines(path):
            yield str(number), line.strip()
        return
    if next(lines(path), (1, ""))[1].startswith("language\t"):
        of_language = 0
        for _, row in tsv(path):
            if row["language"] == language:
                of_language += 1
                yield f"{of_language}a", row["sentence1"].strip()
                yield f"{of_language}b", row["sentence2"].strip()
        return
    for number, line in lines(path):
        key, tab, text = line.partition("\t")
        if not tab:
            raise XtlError(f"{path}:{number}: expected `key TAB text`")
        yield key, text.strip()
