"""Names of languages and their distance from English, for ordering and for the gain-by-distance plots."""

import csv
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from xtl.runs.results import SOURCE_LANGUAGE

REAL = "cosine distance from English on URIEL's syntax vectors (kNN-completed)"
WORLD = "cosine distance from English of the world's syntactic features"


@dataclass(frozen=True)
class Language:
    """One language; distance None: unknown."""

    code: str
    name: str
    distance: float | None


class Atlas:
    """The languages of a run: real ones from the studies' table, synthetic ones from the world of its config."""

    def __init__(self, data: Mapping[str, Any]):
        self.world: Any = None
        self.measure = REAL
        if data.get("source") == "world":
            from xtl.world import make_world

            self.world, self.measure = make_world(data.get("world")), WORLD

    def __getitem__(self, code: str) -> Language:
        if self.world is not None and code in self.world.table:
            from xtl import world

            return Language(code, self.world.table[code].about, world.distance(code, self.world))
        name, distance = _table().get(code, (code, None))
        return Language(code, name, distance)

    def ordered(self, codes: Iterable[str]) -> list[str]:
        """English first, then from near to far; languages of unknown distance last, by code."""

        def place(code: str) -> tuple[bool, float, str]:
            distance = self[code].distance
            far = distance if distance is not None else float("inf")
            return code != SOURCE_LANGUAGE, far, code

        return sorted(codes, key=place)


@functools.cache
def _table() -> dict[str, tuple[str, float | None]]:
    text = resources.files("xtl.studies").joinpath("languages.csv").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["lang"]: (row["name"], float(row["syn_knn_cos"]) if row["syn_knn_cos"] else None)
        for row in csv.DictReader(lines)
    }
