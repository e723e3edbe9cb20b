"""Sentence retrieval: Tatoeba's aligned files, and BUCC's two corpora with a gold list."""

from collections import Counter
from pathlib import Path

from xtl.data.sources.formats import fields
from xtl.data.sources.formats.base import Place, Rows, SplitFiles
from xtl.data.sources.formats.tables import Request
from xtl.data.sources.formats.text import lines
from xtl.errors import XtlError
from xtl.task import Loaded, Text


def read_aligned(files: SplitFiles) -> Loaded:
    """Foreign file, English file, aligned by line. Row r of the files is `xxx-r` (pool) and `eng-r` (query).

    Queries stand in the order XTREME gives them, English sentences sorted as strings, because line i of a predictions
    file answers the i-th sorted query; the pool stays in file order, because the answer is a row of that file.
    """
    foreign, english = ([line.strip() for _, line in lines(path)] for path in files.paths)
    if len(foreign) != len(english):
        raise XtlError(
            f"{files.paths[0]}: {len(foreign)} lines, but {len(english)} in {files.paths[1].name}: not aligned"
        )
    return _aligned(foreign, english, files.code)


def read_aligned_rows(rows: Rows, request: Request) -> Loaded:
    """The same from a table with an aligned pair a row; its sentences may keep their line feed."""
    foreign, english, dropped = [], [], Counter[str]()
    for index, (where, row) in enumerate(rows):
        place = Place(where, index, request.language, request.split, dropped)
        foreign.append(place.text(row, "source_sentence"))
        english.append(place.text(row, "target_sentence"))
    return _aligned(foreign, english, request.code)


def _aligned(foreign: list[str], english: list[str], code: str) -> Loaded:
    order = sorted(range(len(english)), key=lambda row: english[row])
    queries = [Text(f"eng-{row}", english[row], "query") for row in order]
    pool = [Text(f"{code}-{row}", text, "pool") for row, text in enumerate(foreign)]
    return Loaded(queries + pool, gold=[(f"eng-{row}", f"{code}-{row}") for row in order])


def read_mined(files: SplitFiles) -> Loaded:
    """Foreign corpus (the queries), English corpus (the pool), and the gold pairs where they are not held back."""
    queries = _corpus(files.paths[0], "query")
    pool = _corpus(files.paths[1], "pool")
    sides = ({t.id for t in queries}, {t.id for t in pool})
    gold = []
    for path in files.paths[2:]:
        for number, line in lines(path):
            if not line.strip():
                continue
            pair = line.split("\t")
            if len(pair) != 2:
                raise XtlError(f"{path}:{number}: {len(pair)} columns, expected two sentence ids")
            for name, known, corpus in zip(pair, sides, files.paths, strict=False):
                if name not in known:
                    raise XtlError(f"{path}:{number}: id {name!r} is not in {corpus.name}")
            gold.append((pair[0], pair[1]))
    return Loaded(queries + pool, gold=gold)


def _corpus(path: Path, side: str) -> list[Text]:
    texts: list[Text] = []
    seen: Counter[str] = Counter()
    for number, line in lines(path):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        seen[name] += 1
        if not tab or seen[name] > 1:
            fault = "an id that was there before" if tab else "no tab between id and sentence"
            raise XtlError(f"{path}:{number}: {fault} ({name!r:.60})")
        texts.append(Text(name, text.strip(), side))
    return texts


def read_corpora_row(rows: Rows, request: Request) -> Loaded:
    """One row with both corpora as lists and gold as pairs of positions from 1: mteb's copy of the training part."""
    where, row = next(iter(rows), ("", {}))
    place = Place(where, 0, request.language, request.split, Counter())
    foreign, english = place.texts(row, "sentence1"), place.texts(row, "sentence2")
    names = [f"{request.language}-{i:09d}" for i in range(1, len(foreign) + 1)]
    targets = [f"en-{i:09d}" for i in range(1, len(english) + 1)]
    gold = fields.typed(row, "gold", list[tuple[int, int]], where)
    outside = next(((a, b) for a, b in gold if not (1 <= a <= len(names) and 1 <= b <= len(targets))), None)
    if outside:
        raise XtlError(f"{where}: gold pair {outside} lies outside {len(names)} x {len(targets)} sentences")
    queries = [Text(name, text, "query") for name, text in zip(names, foreign, strict=True)]
    pool = [Text(name, text, "pool") for name, text in zip(targets, english, strict=True)]
    return Loaded(queries + pool, gold=[(names[a - 1], targets[b - 1]) for a, b in gold])
