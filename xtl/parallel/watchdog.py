"""Nobody waits for the dead: a thread on every host that ends the process when another one is gone or has given up.

A host that waits in a collective for one that is not coming waits for ever, and does not know for whom. So every host
puts a sign of life into the store of the coordinator (host 0); host 0 notices which one has fallen silent; a host that
gives up leaves its reason there. All others then end, with one line that names that host, and the launcher may start
the same command again. (When host 0 itself dies the store is gone with it; JAX then ends the others at once, with its
own message about the leader.)
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

EXIT_FAILED = 1
ALIVE, ENDED = "xtl/alive", "xtl/ended"
FINISHED = "finished"  # the last sign of life of a host that has nothing more to do


class Store(Protocol):
    """The part of JAX's distributed client that is used here."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...
    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...


def _end_process(line: str) -> None:
    """Not by an exception: the main thread is stuck in a call that no exception reaches."""
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    print(f"{show_cursor}xtl: {line}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)


class Watchdog:
    """Watches for this process, number `process` of `processes`, until `stop`.

    deadline_s: silence after which a host counts as gone. grace_s: what a process has to end by itself once a host has
    given up. end: called with the line to say; must not return in a real run.
    """

    def __init__(
        self,
        store: Store,
        *,
        process: int,
        processes: int,
        name: str,
        deadline_s: float,
        grace_s: float = 10.0,
        end: Callable[[str], Any] = _end_process,
    ):
        self.store, self.process, self.processes, self.name = store, process, processes, name
        self.deadline_s, self.grace_s, self._end = deadline_s, min(grace_s, deadline_s), end
        self.beat_s = min(5.0, deadline_s / 5)
        self._beats = 0
        self._seen: dict[int, tuple[str, float]] = {}  # the last sign of life of each host, and when it was new
        self._stop = threading.Event()
        self._gave_up = ""  # why
        self._thread = threading.Thread(target=self._run, name="xtl-watchdog", daemon=True)

    def start(self) -> "Watchdog":
        self._thread.start()
        return self

    def stop(self) -> None:
        """The run is over here; a process that gave up stays watched, as it may be stuck on its way out."""
        if self._gave_up or not self._thread.is_alive():
            return
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(Exception):
            self._say_alive(FINISHED)

    def give_up(self, reason: str) -> None:
        """Tell the other hosts that this one ends, and why. The process is gone within the grace and a little."""
        if self._gave_up:
            return
        self._gave_up = reason or "no reason given"
        with contextlib.suppress(Exception):
            self._leave_word(self.process, f"{self._title(self.process, self.name)}: {reason}")
        self._stop.set()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._stop.wait(self.beat_s):
            try:
                word = self.look()
            except Exception:  # the coordinator cannot be reached: JAX notices that, too, and ends the process
                continue
            if word is not None:
                # Host 0 goes last: without its store the others would not read why.
                time.sleep(self.grace_s + (2 * self.beat_s if self.process == 0 else 0))
                self._end(word)
                return
        if self._gave_up:
            time.sleep(self.grace_s + (2 * self.beat_s if self.process == 0 else 0))
            self._end(f"{self._title(self.process, self.name)} leaves without the others: {self._gave_up}")

    def look(self) -> str | None:
        """Give a sign of life and look at the others'; the line to end with, if one of them is gone."""
        self._beats += 1
        self._say_alive(f"{self._beats}")
        if self.process == 0:
            self._look_for_silence()
        words = dict(self.store.key_value_dir_get(ENDED))
        return f"{words[min(words)]}; leaving (the same command goes on from the last checkpoint)" if words else None

    def _say_alive(self, sign: str) -> None:
        self.store.key_value_set(f"{ALIVE}/{self.process}", f"{sign} {self.name}", allow_overwrite=True)

    def _look_for_silence(self) -> None:
        now, signs = time.monotonic(), {_number(key): value for key, value in self.store.key_value_dir_get(ALIVE)}
        for process in range(self.processes):
            sign = signs.get(process, "")
            last, since = self._seen.get(process, (None, now))
            if sign != last:
                self._seen[process] = sign, now
            elif now - since > self.deadline_s and not sign.startswith(FINISHED):
                name = sign.partition(" ")[2]
                self._leave_word(process, f"{self._title(process, name)} has been silent for {now - since:.0f} s")
                return

    def _leave_word(self, process: int, text: str) -> None:
        self.store.key_value_set(f"{ENDED}/{process}", text, allow_overwrite=True)

    def _title(self, process: int, name: str) -> str:
        return f"host {process} of {self.processes}" + (f" ({name})" if name else "")


def _number(key: str) -> int:
    return int(key.rpartition("/")[2])
