"""XNLI's own files: all languages in one file, and XTREME's files of one language each."""

import functools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from xtl.data.sources.formats import fields
from xtl.data.sources.formats.base import MakeExample, Read, Rows, SplitFiles, by_row
from xtl.data.sources.formats.text import Row, json_object, lines, tsv
from xtl.errors import XtlError
from xtl.task import Loaded

Numbered = list[tuple[int, str]]


def languages(path: Path) -> set[str]:
    """The languages in a file."""
    return set(_by_language(path)[1])


def rows(path: Path, language: str) -> Iterator[tuple[str, Row]]:
    """(where, row) of one language of `xnli.dev.tsv` or `xnli.dev.jsonl`."""
    header, by_language = _by_language(path)
    own = by_language.get(language, [])
    if path.suffix == ".tsv":
        yield from tsv(path, numbered=[*header, *own])
    else:
        for number, line in own:
            yield f"{path}:{number}", json_object(line, f"{path}:{number}")


def _by_language(path: Path) -> tuple[Numbered, dict[str, Numbered]]:
    stat = path.stat()
    return _split(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _split(path: Path, size: int, mtime_ns: int) -> tuple[Numbered, dict[str, Numbered]]:
    """(header line, lines by language): 15 languages are read one after the other, so the file is gone through once."""
    header: Numbered = []
    by_language: dict[str, Numbered] = defaultdict(list)
    for number, line in lines(path):
        if path.suffix != ".tsv":
            if line.strip():
                by_language[fields.text(json_object(line, f"{path}:{number}"), "language", f"{path}:{number}")].append(
                    (number, line)
                )
        elif number == 1:
            header = [(number, line)]
            if not line.startswith("language\t"):
                raise XtlError(f"{path}: the first column of XNLI's file is the language, found {line[:40]!r}")
        elif line.strip():
            by_language[line.partition("\t")[0]].append((number, line))
    return header, dict(by_language)


def read(make: MakeExample) -> Read:
    """Reader of XNLI's own files."""

    def read_files(files: SplitFiles) -> Loaded:
        return by_row(lambda path: rows(path, files.code), make)(files)

    return read_files


def read_xtreme(make: MakeExample) -> Read:
    """Reader of XTREME's files: no header, csv dialect; test labels come from a list beside them, if that is there."""

    def read_files(files: SplitFiles) -> Loaded:
        path, *labels = files.paths

        def labelled(path: Path) -> Rows:
            gold = [row for _, row in tsv(labels[0])] if labels and files.split == "test" else []
            count = 0
            for where, row in tsv(path, columns=("sentence1", "sentence2", "gold_label"), quoted=True):
                if gold and count < len(gold):
                    row["gold_label"] = gold[count]["gold_label"]
                count += 1
                yield where, row
            if gold and count != len(gold):
                raise XtlError(f"{path}: {count} rows, but {len(gold)} labels in {labels[0]}")

        return by_row(labelled, make)(SplitFiles((path,), files.language, files.split, files.code))

    return read_files
