"""Names of languages and their distance from English: languages.csv for real ones, the world for synthetic ones."""

import csv
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtl import world
from xtl.runs.results import SOURCE_LANGUAGE

TABLE = Path(__file__).with_name("languages.csv")  # its columns are described in its first lines
REAL = "cosine distance from English on URIEL's syntax vectors (kNN-completed)"
WORLD = "cosine distance from English of the world's syntactic features"


@dataclass(frozen=True)
class Language:
    """One language; distance None: unknown."""

    code: str
    name: str
    distance: float | None


class Atlas:
    """The languages of a run: of languages.csv, and the synthetic ones of the world in its config."""

    def __init__(self, data: Mapping[str, Any]):
        """data: the `data` section of a stage's config."""
        self.world = world.make_world(data.get("world")) if data.get("source") == "world" else None
        self.measure = REAL if self.world is None else WORLD

    def __getitem__(self, code: str) -> Language:
        if self.world is not None and code in self.world.table:
            return Language(code, self.world.table[code].about, world.distance(code, self.world))
        name, distance = _real().get(code, (code, None))
        return Language(code, name, distance)

    def ordered(self, codes: Iterable[str]) -> list[str]:
        """English first, then from near to far; languages of unknown distance last, by code."""

        def place(code: str) -> tuple[bool, float, str]:
            distance = self[code].distance
            return code != SOURCE_LANGUAGE, distance if distance is not None else float("inf"), code

        return sorted(codes, key=place)


@functools.cache
def _real() -> dict[str, tuple[str, float | None]]:
    lines = (line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {
        row["lang"]: (row["name"], float(row["syn_knn_cos"]) if row["syn_knn_cos"] else None)
        for row in csv.DictReader(lines)
    }
