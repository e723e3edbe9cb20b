"""Running commands: for real, with a time limit and a log, or only printing them."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xtl.errors import XtlError


@dataclass(frozen=True)
class Result:
    """What a command returned."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def reason(self) -> str:
        """The lines that say why it failed, as one."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        first = next((index for index, line in enumerate(lines) if "ERROR" in line), len(lines) - 1)
        return " ".join(lines[first : first + 3])[:400] if lines else f"exit status {self.code}"


class Shell:
    """Runs commands one at a time and keeps a log of them and of all messages; with `dry` it only prints them."""

    def __init__(self, *, dry: bool = False, log: Path | None = None) -> None:
        self.dry, self.log = dry, log
        self.interrupts = Interrupts()
        if log and not dry:
            log.parent.mkdir(parents=True, exist_ok=True)

    def say(self, text: str) -> None:
        """One line to the person at the terminal, and into the log."""
        line = f"# {text}" if self.dry else f"{time.strftime('%H:%M:%S')} {text}"
        print(line, flush=True)
        self.note(line)

    def run(self, command: list[str], *, timeout_s: float = 600, rehearsed: str = "") -> Result:
        """Run a command to its end; `rehearsed` is what a dry run takes for its output.

        The command gets a process group of its own, so that Ctrl-C reaches this program alone and a deletion under way
        is not cut off with it.
        """
        if self.dry:
            print(shlex.join(command), flush=True)
            return Result(0, rehearsed)
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError:
            raise XtlError(
                f"{command[0]} is not on the PATH; install the Google Cloud CLI and run `gcloud init`"
            ) from None
        try:
            out, err = process.communicate(timeout=timeout_s)
            result = Result(process.returncode, out, err)
        except subprocess.TimeoutExpired:
            _kill(process)
            result = Result(124, "", f"ERROR: no answer within {timeout_s:.0f} s")
        except BaseException:
            _kill(process)
            raise
        self.note(f"$ {shlex.join(command)}\n  -> {result.code} in {time.monotonic() - started:.1f} s")
        if result.code:
            self.note(f"  {result.reason}")
        return result

    def sleep(self, seconds: float) -> None:
        """Wait, except in a dry run."""
        if not self.dry:
            time.sleep(seconds)

    def note(self, text: str) -> None:
        """Into the log alone."""
        if self.log and not self.dry:
            with self.log.open("a") as file:
                file.write(text + "\n")


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


class Stopped(BaseException):
    """The person, or the system, wants to stop. A BaseException, so that no retry takes it for a failure."""


class Interrupts:
    """SIGINT (Ctrl-C), SIGTERM and SIGHUP (a closed terminal) as an orderly way out.

    The first signal raises Stopped, once; what comes after it is answered with a line and no exception, so that
    cleaning up cannot be cut off. Inside `hold` the first signal waits for the end of the block.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._stopped = False
        self._reasons: list[str] = []
        self._waiting = ""

    def __enter__(self) -> "Interrupts":
        self._previous = {number: signal.signal(number, self._handle) for number in self.NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        if not self._stopped and not self._reasons:
            self._stopped = True
            raise Stopped(name)
        self._waiting = self._waiting or name
        print(self._reasons[-1] if self._reasons else "stopping already", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def hold(self, reason: str, *, last: bool = False) -> Iterator[None]:
        """Finish the block whatever signals come; each is answered with `reason`.

        A signal that came meanwhile raises Stopped afterwards, unless the block is the `last` thing to be done.
        """
        self._stopped = self._stopped or last
        self._reasons.append(reason)
        try:
            yield
        finally:
            self._reasons.pop()
        if self._waiting and not self._stopped and not self._reasons:
            self._stopped = True
            raise Stopped(self._waiting)
