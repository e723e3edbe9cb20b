"""Sentence retrieval: Tatoeba's aligned files, and BUCC's two corpora with a gold list."""

from collections import Counter
from pathlib import Path

from xtl.data.formats.base import Found
from xtl.data.formats.text import lines
from xtl.errors import XtlError
from xtl.tasks.base import Loaded, Text


def read_aligned(found: Found) -> Loaded:
    """Foreign file, English file, aligned by line. Row r of the files is `xxx-r` (pool) and `eng-r` (query).

    Queries stand in the order XTREME gives them, English sentences sorted as strings, because line i of a predictions
    file answers the i-th sorted query; the pool stays in file order, because the answer is a row of that file.
    """
    foreign, english = ([line.strip() for _, line in lines(path)] for path in found.paths)
    if len(foreign) != len(english):
        raise XtlError(
            f"{found.paths[0]}: {len(foreign)} lines, but {len(english)} in {found.paths[1].name}: not aligned"
        )
    order = sorted(range(len(english)), key=lambda row: english[row])
    queries = [Text(f"eng-{row}", english[row], "query") for row in order]
    pool = [Text(f"{found.code}-{row}", text, "pool") for row, text in enumerate(foreign)]
    return Loaded(queries + pool, gold=[(f"eng-{row}", f"{found.code}-{row}") for row in order])


def read_mined(found: Found) -> Loaded:
    """Foreign corpus (the queries), English corpus (the pool), and the gold pairs where they are not held back."""
    queries = _corpus(found.paths[0], "query")
    pool = _corpus(found.paths[1], "pool")
    sides = ({t.id for t in queries}, {t.id for t in pool})
    gold = []
    for path in found.paths[2:]:
        for number, line in lines(path):
            if not line.strip():
                continue
            pair = line.split("\t")
            if len(pair) != 2:
                raise XtlError(f"{path}:{number}: {len(pair)} columns, expected two sentence ids")
            for name, known, corpus in zip(pair, sides, found.paths, strict=False):
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
