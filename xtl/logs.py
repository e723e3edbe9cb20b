"""What a run says: JSON lines for machines, numbers and durations for people."""

import json
import os
from typing import IO, Any

from xtl import files


class JsonLines:
    """metrics.jsonl: one object a line, in the order of steps, every step at most once over any number of restarts.

    `resume_after` is the step that was restored: later lines belong to steps that will be done again and are dropped,
    and so is a last line that was cut off. Object stores cannot append: there the file is rewritten by `flush`.
    """

    def __init__(self, path: files.Pathish, *, resume_after: int):
        self.path = path
        self.lines = _lines_up_to(path, resume_after) if files.exists(path) else []
        files.atomic_write(path, "".join(self.lines))
        self._file: IO[str] | None = None
        if not files.is_remote(path):
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
            self.lines = []  # only a remote file is ever rewritten

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; floats that are not finite become null."""
        line = json.dumps(_plain(record), ensure_ascii=False, allow_nan=False) + "\n"
        if self._file is None:
            self.lines.append(line)
            return
        self._file.write(line)
        self._file.flush()

    def flush(self) -> None:
        """Make everything written so far durable."""
        if self._file is None:
            files.atomic_write(self.path, "".join(self.lines))
        else:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()


def _lines_up_to(path: files.Pathish, step: int) -> list[str]:
    kept = []
    for line in files.read_text(path).splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # cut off by a kill: it is after the last save, so its step is done again
            continue
        if record.get("step", 0) <= step:
            kept.append(line + "\n")
    return kept


def read_lines(path: files.Pathish) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, also of one that is being written (an unfinished last line is left out)."""
    records = []
    for line in files.read_text(path).splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _plain(value: Any) -> Any:
    """JSON has no NaN, no infinity and no NumPy numbers."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


# ---------------------------------------------------------------- console


def human(number: float) -> str:
    """Four digits and a unit: 1234567 -> '1.235M'."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if abs(number) < 1000:
            return f"{number:5.4g}{unit}" if unit else f"{number:5.0f} "
        number /= 1000
    return f"{number:.4g}E"


def duration(seconds: float) -> str:
    """'42s', '3m07s', '2h05m'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
