"""Everything a pipeline reads, gathered in one folder for machines without internet."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xtl.data import sources, tokenizer
from xtl.data.settings import Data
from xtl.data.sources import hub, tfds
from xtl.data.sources.formats.tables import JoinedTables, Tables
from xtl.errors import XtlError
from xtl.task import Task

DataSet = tuple[Task, str, str]  # task, language, split


def pack(data_sets: Iterable[DataSet], data: Data, folder: Path) -> list[Path]:
    """Copy what loading these data sets would read; the folder then serves as data.root (and data.tokenizer) elsewhere.

    files: the original files under their names; hub: saved copies of the splits; tfds: the prepared data sets; the
    tokenizer's file goes to FOLDER/tokenizer. What is there already is kept. Returns the paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for task, language, split in data_sets:
        if data.source == "files":
            written += _pack_files(task, language, split, data, folder)
        elif data.source in ("hub", "tfds"):
            spec = getattr(task, data.source)
            if spec is None:
                raise XtlError(f"task {task.name} cannot be loaded from source {data.source!r}")
            written += _pack_tables(spec, language, split, data, folder, task)
    written += _pack_tokenizer(data.tokenizer, folder)
    return written


def _copy(source: Path, target: Path) -> list[Path]:
    """Copy a file or folder, aside first, unless it is there."""
    if target.exists():
        return []
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.tmp")
    if source.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(source, aside)
    else:
        shutil.copyfile(source, aside)
    aside.rename(target)
    return [target]


def _pack_files(task: Task, language: str, split: str, data: Data, folder: Path) -> list[Path]:
    root = Path(data.root).expanduser()
    files = sources.find_files(task, language, split, data)
    if files is None:
        sources.load(task, language, split, data)  # raises an error that names what is missing and where to get it
        return []
    return [copy for path in files.paths for copy in _copy(path, folder / path.relative_to(root))]


def _pack_tables(
    spec: Tables | JoinedTables, language: str, split: str, data: Data, folder: Path, task: Task
) -> list[Path]:
    options = data.options.get(task.name) or {}
    if isinstance(spec, JoinedTables):
        parts = spec.chosen(options).items()
        return [p for n, t in parts for p in _pack_one(t, language, split, data, folder, options.get(n))]
    return _pack_one(spec, language, split, data, folder, options)


def _pack_one(
    spec: Tables, language: str, split: str, data: Data, folder: Path, options: Mapping[str, Any] | None
) -> list[Path]:
    root = data.root
    for table, _ in spec.candidates(language, split, options):
        if data.source == "tfds":
            names = table.name.split("+")
            folders = {name: tfds.prepared(name, tfds.data_folder(root)) for name in names}
            if missing := [name for name, where in folders.items() if where is None]:
                raise XtlError(
                    f"tfds: {', '.join(missing)} not prepared under {tfds.data_folder(root)}; load it once first"
                )
            return [p for n, w in folders.items() if w is not None for p in _copy(w, folder / n / w.name)]
        target = hub.copy_folder(table, split, folder)
        if target.exists():
            return []
        saved = hub.saved_copy(table, split, root)
        if saved is not None:
            return _copy(saved, target)
        dataset = hub.download(table.name, table.config, table.splits[split], revision=table.revision)
        if dataset is not None:
            aside = target.with_name(f".{target.name}.tmp")
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_to_disk(str(aside))
            aside.rename(target)
            return [target]
    raise XtlError(f"task {spec.task}: no data set found for {language!r}, {split!r}")


def _pack_tokenizer(name: str, folder: Path) -> list[Path]:
    """The tokenizer's file, from a folder or from the hub."""
    if name in ("", "world"):
        return []
    file = tokenizer._find(name)
    return _copy(file, folder / "tokenizer" / file.name)
