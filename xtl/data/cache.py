"""Tokenised once: the examples of one (task, language, split) as flat arrays in a folder, read as memory maps.

An entry is named by its fingerprint: tokenizer, content of the source, options of the task, and the code that reads
and encodes this task. Whatever carries a final name is whole: it is built aside under a lock, synced, renamed. What was
damaged afterwards, or comes from elsewhere, is noticed by its manifest and built again.
"""

import ast
import functools
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout

from xtl import files
from xtl.data import sources
from xtl.data.rows import Encoded
from xtl.data.settings import Data
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.task import Task

CHUNK = 16384  # examples encoded at a time: bounds memory, and is the grain of the progress report
MANIFEST = "entry.json"
OFFSETS = ("segment_offsets", "example_offsets")
LEVELS = ("token", "segment", "example")

PACKAGE = Path(__file__).parents[1]
CATALOG = "xtl.tasks"  # <task>.py in it says how the task is read
# What turns examples into tokens, besides the family.
ENCODING = ("xtl.families.interface", "xtl.data.rows", "xtl.data.sequences", "xtl.data.tokenizer")
READERS = ("xtl.tasks.", "xtl.data.sources.formats.")  # code below these decides what is read

Progress = Callable[[int, int], None]
log = logging.getLogger("xtl.data")


class Encode(Protocol):
    """`encode` of a task family (xtl.families.interface.Family)."""

    __module__: str  # the family's file

    def __call__(
        self, task: Task, examples: Sequence[Any], tokenizer: Tokenizer, *, max_length: int, train: bool
    ) -> Encoded:
        """Tokens and label columns of some examples."""


def encoded(
    task: Task,
    language: str,
    split: str,
    *,
    encode: Encode,
    data: Data,
    tokenizer: Tokenizer,
    max_length: int,
    train: bool,
    examples: Callable[[], Sequence[Any]] | None = None,
    progress: Progress | None = None,
    wait_s: float = 3600,
) -> Encoded:
    """The encoded examples, from the cache under `data.cache`, built on first use; arrays are read-only maps.

    Args:
      encode: of the task's family.
      examples: called for the examples when an entry must be built (default: they are loaded).
      progress: called with (examples done, examples in all) while an entry is built.
      wait_s: how long to wait for another process that is building the same entry.

    Raises XtlError for data that cannot be read or encoded, or when the wait is over. With an empty `data.cache`
    nothing is stored.
    """

    def chunks() -> Iterator[tuple[Encoded, int, int]]:
        whole = sources.load(task, language, split, data).examples if examples is None else examples()
        for start in range(0, len(whole), CHUNK):
            chunk = list(whole[start : start + CHUNK])
            part = encode(task, chunk, tokenizer, max_length=max_length, train=train)
            yield _renumbered(part, start), start + len(chunk), len(whole)

    folder = data.cache
    if not folder:
        return _joined(chunks(), progress)
    if files.is_remote(folder):
        raise XtlError(f"data.cache {folder} is remote: the cache is memory-mapped, give a local or mounted folder")
    made_of = {
        "task": task.name,
        "language": language,
        "split": split,
        "tokenizer": tokenizer.fingerprint,
        "revision": sources.revision(task, data, language=language, split=split),
        "encoding": {"max_length": max_length, "train": train, "options": dict(task.options)},
        "labels": task.labels,
        "code": code_version(task.name, encode.__module__),
    }
    text = json.dumps(made_of, sort_keys=True, default=_listed)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    entry = Path(folder).expanduser() / f"{task.name}-{language}-{split}-{fingerprint[:16]}"
    return _open_or_build(entry, fingerprint, made_of, chunks, progress, wait_s)


def _renumbered(part: Encoded, start: int) -> Encoded:
    """The chunk with its column `_example` (which of the examples encoded a segment belongs to) counted from all."""
    if "_example" not in part.segment_columns:
        return part
    column = part.segment_columns["_example"]
    return replace(part, segment_columns={**part.segment_columns, "_example": column + column.dtype.type(start)})


def _listed(value: Any) -> Any:
    """Tuples, sets and ConfigDicts for JSON, the same in every process."""
    if hasattr(value, "items"):
        return dict(value.items())
    return sorted(value) if isinstance(value, set | frozenset) else list(value)


# ---------------------------------------------------------------- code


@functools.cache
def code_version(task: str, family: str, package: Path = PACKAGE) -> str:
    """Digest of the code that turns a task's files into tokens: see `code_files`. Once per process and task."""
    digest = hashlib.sha256()
    for path in code_files(task, family, package):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def code_files(task: str, family: str, package: Path = PACKAGE) -> list[Path]:
    """The task's catalog file with all that it imports of the catalog and of the readers, directly or not; the family's
    file, and what every family encodes with. So adding or editing another task leaves this one as it is.

    family: the name of its module. package: the folder of xtl. A task from outside the catalog has no catalog file.
    """
    files: dict[str, Path] = {}
    waiting = [f"{CATALOG}.{task}"]
    while waiting:
        module = waiting.pop()
        path = _file_of(module, package)
        if path is not None and module not in files:
            files[module] = path
            waiting += [name for name in _imports(path) if name.startswith(READERS)]
    files |= {module: path for module in (family, *ENCODING) if (path := _file_of(module, package)) is not None}
    return sorted(files.values())


def _file_of(module: str, package: Path) -> Path | None:
    """The file of a module of xtl; None where there is none (a package, or a name that is no module)."""
    path = package.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return path if module.startswith("xtl.") and path.is_file() else None


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports; `from a import b` gives a and a.b, as b may be a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# ---------------------------------------------------------------- opening


def _open_or_build(
    entry: Path,
    fingerprint: str,
    made_of: Mapping[str, Any],
    chunks: Callable[[], Iterator[tuple[Encoded, int, int]]],
    progress: Progress | None,
    wait_s: float,
) -> Encoded:
    if not fault(entry, fingerprint):
        return _open(entry)
    entry.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(entry.with_name(f".{entry.name}.lock"), timeout=wait_s)
    try:
        with lock:
            reason = fault(entry, fingerprint)  # asked again: another process may have built it meanwhile
            if reason:
                if entry.exists():
                    log.warning("cache entry %s is unusable (%s): building it again", entry, reason)
                _build(entry, fingerprint, made_of, chunks(), progress)
    except Timeout:
        raise XtlError(
            f"waited {wait_s:.0f} s for another process to build {entry}; if none is alive, remove {lock.lock_file}"
        ) from None
    return _open(entry)


def fault(entry: Path, fingerprint: str) -> str:
    """What is wrong with an entry; empty if it is whole and is what its name says."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        if manifest["fingerprint"] != fingerprint:
            return "made of something else"
        for name, stated in manifest["files"].items():
            path = entry / name
            if path.stat().st_size != stated["bytes"]:
                return f"{name} has {path.stat().st_size} bytes, not {stated['bytes']}"
            if _checksum(path) != stated["crc32"]:
                return f"the checksum of {name} differs"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _checksum(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _open(entry: Path) -> Encoded:
    arrays = {
        path.stem: np.load(path, mmap_mode="r").view(np.ndarray)
        for path in (entry / name for name in json.loads((entry / MANIFEST).read_text(encoding="utf-8"))["files"])
    }
    columns = {
        level: {name.split(".", 1)[1]: a for name, a in arrays.items() if name.startswith(f"{level}.")}
        for level in LEVELS
    }
    return Encoded(
        arrays["ids"],
        arrays["segment_offsets"],
        arrays["example_offsets"],
        columns["token"],
        columns["segment"],
        columns["example"],
    )


# ---------------------------------------------------------------- building


def _build(
    entry: Path,
    fingerprint: str,
    made_of: Mapping[str, Any],
    chunks: Iterator[tuple[Encoded, int, int]],
    progress: Progress | None,
) -> None:
    for left_over in entry.parent.glob(f".{entry.name}.*.tmp"):  # of killed processes: the lock is ours
        shutil.rmtree(left_over, ignore_errors=True)
    aside = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
    aside.mkdir()
    try:
        written = _write_arrays(aside, chunks, progress)
        stated = {p.name: {"bytes": p.stat().st_size, "crc32": _checksum(p)} for p in written}
        manifest = {"fingerprint": fingerprint, "made_of": made_of, "files": stated}
        files.atomic_write(aside / MANIFEST, json.dumps(manifest, indent=2, default=_listed, sort_keys=True))
        if entry.exists():
            worn = entry.with_name(f".{entry.name}.{os.getpid()}.old.tmp")
            os.replace(entry, worn)  # those who have it mapped keep their pages
            shutil.rmtree(worn, ignore_errors=True)
        os.replace(aside, entry)
        files.sync_folder(entry.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_arrays(folder: Path, chunks: Iterator[tuple[Encoded, int, int]], progress: Progress | None) -> list[Path]:
    growing: dict[str, _Growing] = {}
    try:
        for part, done, total in chunks:
            flat = _arrays(part)
            if not growing:
                growing = {name: _Growing(folder / f"{name}.npy", values.dtype) for name, values in flat.items()}
            if growing.keys() != flat.keys():
                raise XtlError(f"columns differ within one task: {sorted(growing)} and {sorted(flat)}")
            for name, values in flat.items():
                growing[name].append(values, is_offsets=name in OFFSETS)
            if progress is not None:
                progress(done, total)
        return [array.finish() for array in growing.values()]
    finally:
        for array in growing.values():
            array.file.close()


def _arrays(part: Encoded) -> dict[str, np.ndarray]:
    arrays = {"ids": part.ids, "segment_offsets": part.segment_offsets, "example_offsets": part.example_offsets}
    for level, columns in zip(LEVELS, (part.token_columns, part.segment_columns, part.example_columns), strict=True):
        arrays |= {f"{level}.{name}": np.asarray(values) for name, values in columns.items()}
    return arrays


class _Growing:
    """A one-dimensional .npy file that is appended to; its header is written again at the end, with the length."""

    def __init__(self, path: Path, dtype: np.dtype):
        self.path, self.dtype, self.length, self.last = path, dtype, 0, 0
        self.file = open(path, "wb")  # noqa: SIM115 (closed by the caller)
        self._header()
        self.start = self.file.tell()

    def _header(self) -> None:
        # NumPy pads headers so that a length of any number of digits fits in place
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, values: np.ndarray, *, is_offsets: bool) -> None:
        """Add values; offsets continue where the last chunk ended, and only the first chunk brings the leading 0."""
        if values.dtype != self.dtype:
            raise XtlError(f"column {self.path.stem} is {self.dtype} in one chunk and {values.dtype} in another")
        if is_offsets:
            values = (values if self.length == 0 else values[1:]) + self.last
            self.last = int(values[-1]) if len(values) else self.last
        self.file.write(np.ascontiguousarray(values).data)
        self.length += len(values)

    def finish(self) -> Path:
        self.file.seek(0)
        self._header()
        assert self.file.tell() == self.start, "a .npy header changed its size"
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.path


def _joined(chunks: Iterator[tuple[Encoded, int, int]], progress: Progress | None) -> Encoded:
    """All chunks in memory."""
    parts = []
    for part, done, total in chunks:
        parts.append(part)
        if progress is not None:
            progress(done, total)

    def columns(level: str) -> dict[str, np.ndarray]:
        each = [getattr(p, f"{level}_columns") for p in parts]
        return {name: np.concatenate([c[name] for c in each]) for name in each[0]}

    def offsets(level: str) -> np.ndarray:
        lengths = [np.diff(getattr(p, f"{level}_offsets")) for p in parts]
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths), dtype=np.int64)])

    return Encoded(
        np.concatenate([p.ids for p in parts]),
        offsets("segment"),
        offsets("example"),
        columns("token"),
        columns("segment"),
        columns("example"),
    )
