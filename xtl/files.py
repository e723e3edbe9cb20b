"""Small files that are either whole or absent: written aside, synced, renamed. Local paths and object stores (gs://).

A run is killed at any moment; whatever carries a final name can then be trusted. Binary arrays are Orbax's business
(xtl/training/checkpoint.py), not this module's.
"""

import json
import os
from pathlib import Path
from typing import Any

from xtl.errors import XtlError

Pathish = str | os.PathLike[str]
POINTERS = b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"


def is_remote(path: Pathish) -> bool:
    """Whether the path is in an object store (gs://...), where writes are whole by themselves but nothing appends."""
    return "://" in os.fspath(path)


def join(folder: Pathish, *parts: str) -> str:
    """The path below a folder, also below gs://bucket."""
    return os.path.join(os.fspath(folder), *parts)


def located(path: Pathish) -> Path:
    """pathlib's interface to a local path, or to one in an object store."""
    if is_remote(path):
        from etils import epath  # a tenth of a second, for which nothing local should wait

        return epath.Path(path)
    return Path(path)


def atomic_write(path: Pathish, data: str | bytes) -> None:
    """Write a whole file or nothing; makes the folder. Safe against a kill and, locally, against a power cut."""
    raw = data.encode("utf-8") if isinstance(data, str) else data
    if is_remote(path):
        located(path).write_bytes(raw)  # an object appears only when its upload is complete
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames within a local folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exists(path: Pathish) -> bool:
    """Whether there is such a file or folder."""
    return located(path).exists()


def read_text(path: Pathish) -> str:
    """The text of a file."""
    return located(path).read_text(encoding="utf-8")


def refuse_pointer(path: Pathish) -> None:
    """XtlError if the file is a Git LFS pointer, which a clone without git-lfs has in the place of a large file."""
    with open(path, "rb") as file:
        if file.read(len(POINTERS[0])).startswith(POINTERS):
            raise XtlError(
                f"{path}: is a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned, or "
                "download the file"
            )


def write_json(path: Pathish, value: Any) -> None:
    """One JSON value as a whole file, keys in the order given, so that equal values are equal bytes."""
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Pathish) -> Any:
    """The JSON value of a file; an unreadable one is an XtlError that names it."""
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise XtlError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise XtlError(f"{path}: not valid JSON ({error}); remove it and run again") from None
