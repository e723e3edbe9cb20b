"""Where examples come from: one door to the four sources `files`, `hub`, `tfds` and `world`.

`data` is the data section of a stage (xtl/data/settings.py): one source, `sources` for single tasks that come from
elsewhere, and `options` by task, which go to the readers (udpos.fusion, mnli.domain).
"""

import functools
import hashlib
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from xtl.data.languages import suggestion
from xtl.data.settings import Data
from xtl.data.sources.formats.base import Files, Join, SplitFiles
from xtl.data.sources.formats.examples import answered
from xtl.errors import Unreachable, XtlError, nearest
from xtl.task import Loaded, Task

SOURCES = ("files", "hub", "tfds", "world")


def load(task: Task, language: str, split: str, data: Data) -> Loaded:
    """Examples of one language and split.

    Raises XtlError if the task has no such language or split, the source does not hold it, or what it holds is damaged.
    """
    source = _source(task, data)
    if split not in task.splits:
        raise XtlError(f"task {task.name} has no split {split!r}.{nearest(split, task.splits)}")
    known = every_language(task)
    if source != "world" and language not in known:
        raise XtlError(f"task {task.name} has no language {language!r}.{suggestion(language, known)}")
    if source == "world":
        return _world().load(task, language, split, data.world)
    if source == "files":
        loaded = _files(task)(_root(data), language, split, _options(task, data))
    else:
        loaded = _remote(source).load(task, language, split, options=_options(task, data), root=_copies(data))
    answerable = task.family == "span" and not task.options.get("unanswerable")
    return answered(loaded, task.name, split) if answerable else loaded


def every_language(task: Task) -> tuple[str, ...]:
    """The task's languages, those XTREME-R adds, those with machine-translated training data, and parts of its pool."""
    parts = (part for pool in task.pool.values() for part in pool)
    return tuple(dict.fromkeys((*task.languages, *task.languages_r, *task.options.get("translated", ()), *parts)))


def pool_parts(task: Task, split: str, data: Data) -> tuple[str, ...]:
    """The parts (see `load`: they stand for a language) that hold the pool common to all languages; () where every set
    has its own pool, as all have in the world."""
    if _source(task, data) == "world":
        return ()
    return tuple(part for part in task.pool.get(split, ()) if split in splits_present(task, part, data))


def languages(task: Task, data: Data, *, split: str | None = None) -> tuple[str, ...]:
    """The task's languages that the source holds (in `split`, or in any), in the task's order."""
    source = _source(task, data)
    if source == "world":
        return tuple(_world().languages(task, data.world))
    declared = (*task.languages, *task.languages_r)
    present = {language: splits_present(task, language, data) for language in declared}
    return tuple(x for x, splits in present.items() if splits and (split is None or split in splits))


def splits_present(task: Task, language: str, data: Data) -> tuple[str, ...]:
    """The splits of a language that the source holds, in the order train, dev, test. Reads no examples."""
    source = _source(task, data)
    if source == "world":
        return task.splits if language in _world().languages(task, data.world) else ()
    if source == "files":
        files, root, options = _files(task), _root(data), _options(task, data)
        return tuple(s for s in task.splits if files.find(root, language, s, options) is not None)
    return _remote(source).splits(task, language, options=_options(task, data))


def find_files(task: Task, language: str, split: str, data: Data) -> SplitFiles | None:
    """The files that loading from source `files` would read; None if they are not there."""
    return _files(task).find(_root(data), language, split, _options(task, data))


def incomplete(task: Task, language: str, split: str, data: Data) -> list[str]:
    """Files on disk that belong to a split which lacks others, so that it cannot be loaded."""
    files = task.files if data.source == "files" else None
    if not isinstance(files, Files):
        return []
    return [str(p) for p in files.incomplete(_root(data), language, split, _options(task, data))]


def revision(task: Task, data: Data, *, language: str | None = None, split: str | None = None) -> str:
    """Digest of the content that loading would read: of everything of the task, or of one language and split.

    Equal content gives equal revisions wherever it lies; it goes into fingerprints.
    """
    source = _source(task, data)
    digest = hashlib.sha256(json.dumps([source, task.name, _options(task, data)], default=str).encode())
    if source == "world":
        digest.update(json.dumps(data.world, sort_keys=True, default=str).encode())
        digest.update(_source_digest("xtl.world").encode())
    else:
        for x in every_language(task) if language is None else (language,):
            for s in splits_present(task, x, data) if split is None else (split,):
                digest.update(f"{x} {s} {_content(task, source, x, s, data)}\n".encode())
    return digest.hexdigest()


def _content(task: Task, source: str, language: str, split: str, data: Data) -> str:
    """What identifies the content of one language and split; "" where there is nothing."""
    if source != "files":
        options = _options(task, data)
        return _remote(source).revision(task, language, split, options=options, root=_copies(data))
    files = find_files(task, language, split, data)
    return " ".join(_file_digest(path) for path in files.paths) if files else ""


# ---------------------------------------------------------------- the sources


def _source(task: Task, data: Data) -> str:
    source = data.sources.get(task.name) or data.source
    if source not in SOURCES:
        raise XtlError(f"data.source {source!r} is unknown.{nearest(source, SOURCES)}")
    if source != "world" and getattr(task, source) is None:
        others = [s for s in SOURCES if s == "world" or getattr(task, s) is not None]
        raise XtlError(f"task {task.name} cannot be loaded from source {source!r}; it can from: {', '.join(others)}")
    return source


def _files(task: Task) -> Files | Join:
    assert isinstance(task.files, Files | Join)
    return task.files


def _root(data: Data) -> Path:
    root = data.root
    if not root:
        raise Unreachable("data.root is not set: give the folder with the distribution files, --config.data.root=DIR")
    if not Path(root).expanduser().is_dir():
        raise XtlError(f"data root {root} does not exist: set data.root to the folder with the distribution files")
    return Path(root).expanduser()


def _copies(data: Data) -> str:
    """The folder of local copies; hub and tfds work without one."""
    return data.root


def _options(task: Task, data: Data) -> dict[str, Any]:
    return dict(data.options.get(task.name) or {})


def _world() -> Any:
    return importlib.import_module("xtl.world")


def _remote(source: str) -> Any:
    return importlib.import_module(f"xtl.data.sources.{source}")


# ---------------------------------------------------------------- digests


def _file_digest(path: Path) -> str:
    stat = path.stat()
    return _digest_of(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _digest_of(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file; once per process for each (path, size, time)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _source_digest(package: str) -> str:
    """Digest of a package's own source code."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise XtlError(f"the package {package} is not installed")
    origin = Path(spec.origin)
    digest = hashlib.sha256()
    for path in sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
