"""Goodput: which share of the wall time since a stage was first started went into training steps that count.

goodput.json in the run folder goes on over restarts. It is brought up to date whenever work becomes durable (a
checkpoint, a finished evaluation); whatever came after that is done again by the next start, so the time from there to
the next start is lost: steps to be repeated, and waiting for somebody to start the run again.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from xtl import files

KINDS = ("starting", "training", "compiling", "evaluating", "saving", "lost")
FILE = "goodput.json"
KEPT = 3  # marks kept: a checkpoint that turns out damaged sends a run back by one

Seconds = dict[str, float]


class Goodput:
    """The clock of one start of a stage. Time belongs to one kind at a time; `with clock("saving"):` lends it out.

    folder: the run folder; None keeps no file (every host but the first). time: a clock of seconds since 1970.
    """

    def __init__(self, folder: files.Pathish | None, *, time: Callable[[], float] = time.time):
        self._path = None if folder is None else files.join(folder, FILE)
        self._time = time
        self._outside: Callable[[float], None] = lambda seconds: None
        self.began = self._since = time()
        self._kind, self.starts, self.first = "starting", 1, self.began
        self.seconds: Seconds = dict.fromkeys(KINDS, 0.0)
        self._marks: list[dict[str, Any]] = []

    def resume(self, step: int, *, outside: Callable[[float], None] = lambda seconds: None) -> None:
        """Go on from the newest mark at or before the step that was restored (0: nothing was).

        outside: takes the seconds that are lent out during training, so that its rates leave them out.
        """
        self._outside = outside
        if self._path is None or not files.exists(self._path):
            return
        known = files.read_json(self._path)
        self.starts, self.first = known["starts"] + 1, known["first"]
        self._marks = [mark for mark in known["marks"] if mark["step"] <= step]
        for kind in KINDS:
            self.seconds[kind] += self._marks[-1]["seconds"].get(kind, 0.0) if self._marks else 0.0
        self.seconds["lost"] += max(0.0, self.began - (self._marks[-1]["time"] if self._marks else self.first))

    @contextlib.contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        """Time inside is of this kind."""
        before, began = self._kind, self._turn(kind)
        try:
            yield
        finally:
            ended = self._turn(before)
            if before == "training" != kind:
                self._outside(ended - began)

    def _turn(self, kind: str) -> float:
        """From now on, time is of this kind; says when that is."""
        now = self._time()
        self.seconds[self._kind] += now - self._since
        self._kind, self._since = kind, now
        return now

    def mark(self, step: int) -> None:
        """What was done up to here is durable: write the file."""
        self._turn(self._kind)
        self._marks = [m for m in self._marks if m["step"] < step][1 - KEPT :]
        rounded = {kind: round(seconds, 3) for kind, seconds in self.seconds.items()}
        self._marks.append({"step": step, "time": round(self._since, 3), "seconds": rounded})
        if self._path is not None:
            files.write_json(self._path, {**self.summary(), "first": round(self.first, 3), "marks": self._marks})

    def summary(self) -> dict[str, Any]:
        """{"share": training / all, "starts", "wall": seconds in all, "seconds": by kind}, up to the last mark."""
        wall = sum(self.seconds.values())
        return {
            "share": round(self.seconds["training"] / wall, 4) if wall > 0 else 0.0,
            "starts": self.starts,
            "wall": round(wall, 3),
            "seconds": {kind: round(seconds, 3) for kind, seconds in self.seconds.items()},
        }


def over(folders: Iterable[files.Pathish]) -> dict[str, Any] | None:
    """The summaries of several stages as one: of all their wall time, the share that counted; None if none has one."""
    known = [files.read_json(path) for folder in folders if files.exists(path := files.join(folder, FILE))]
    seconds = {kind: sum(one["seconds"].get(kind, 0.0) for one in known) for kind in KINDS}
    wall = sum(seconds.values())
    if not wall:
        return None
    return {
        "share": round(seconds["training"] / wall, 4),
        "starts": sum(one["starts"] for one in known),
        "wall": round(wall, 3),
        "seconds": {kind: round(total, 3) for kind, total in seconds.items()},
    }
