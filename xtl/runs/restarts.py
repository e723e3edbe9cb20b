"""Stages that collapsed (training/selection.py) are trained again at a lower learning rate, and that is on record.

folder/restarts.json lists what was given up: [{"learning_rate", "reason"}]. It is written after the traces of the
attempt are gone, so a kill in between only repeats the attempt, which ends as before.
"""

import shutil
from pathlib import Path
from typing import Any

from xtl import files
from xtl.config.schema import Stage

FACTOR = 0.5  # from one attempt to the next


def given_up(folder: files.Pathish) -> list[dict[str, Any]]:
    """The attempts that collapsed, in order."""
    path = files.join(folder, "restarts.json")
    return files.read_json(path) if files.exists(path) else []


def rate(folder: files.Pathish) -> float:
    """By what the learning rate is multiplied after what was given up."""
    return FACTOR ** len(given_up(folder))


def give_up(stage: Stage, folder: Path, reason: str) -> None:
    """Put an attempt on record and clear its traces away."""
    record = [*given_up(folder), {"learning_rate": stage.train.learning_rate, "reason": reason}]
    for name in ("checkpoints", "eval", "predictions"):
        _remove(folder / name)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    files.write_json(folder / "restarts.json", record)


def remark(record: list[dict[str, Any]]) -> str:
    """`collapsed at 1e-05, 5e-06`, for tables."""
    rates = ", ".join(f"{one['learning_rate']:g}" for one in record)
    return f"collapsed at {rates}" if record else ""


def _remove(folder: Path) -> None:
    if not folder.exists():
        return
    if hasattr(folder, "rmtree"):  # a path of an object store
        folder.rmtree()
    else:
        shutil.rmtree(folder)
