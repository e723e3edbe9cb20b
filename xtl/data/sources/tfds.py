"""Source `tfds`: data sets prepared by TensorFlow Datasets, read as random-access sources without TensorFlow.

`data.root` is TFDS's data folder (default: TFDS_DATA_DIR, else ~/tensorflow_datasets). A data set must be there in the
array_record format; where its builder runs without TensorFlow it is prepared on first use.
"""

import functools
import os
import queue
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xtl.data.sources.formats.base import Rows
from xtl.data.sources.formats.tables import JoinedTables, Request, Table, Tables, load_first
from xtl.errors import Absent, Unreachable, XtlError
from xtl.files import refuse_pointer
from xtl.network import first_line
from xtl.task import Loaded, Task

FORMAT = "array_record"
BATCH = 1000  # rows read at a time
REACH_S = 10.0  # in which one of the hosts that a data set is downloaded from must be reached
ATTEMPTS = 3  # to reach a host, a second apart: names and connections fail now and then


def load(task: Task, language: str, split: str, *, options: Mapping[str, Any], root: str = "") -> Loaded:
    """Examples of one language and split; XtlError names the data set and how to prepare it."""
    chosen = {table.name for table in _chosen(task, language, split, options, root)}
    return load_first(_spec(task), language, split, options, functools.partial(_fetch, chosen=chosen, root=root))


def _chosen(task: Task, language: str, split: str, options: Mapping[str, Any], root: str) -> Iterator[Table]:
    """Of each part of the task: the first table that is prepared, else the first, which may be prepared on the way."""
    spec = _spec(task)
    for part in spec.chosen(options).values() if isinstance(spec, JoinedTables) else (spec,):
        tables = [table for table, _ in part.candidates(language, split, options if part is spec else None)]
        yield next((t for t in tables if all(prepared(n, data_folder(root)) for n in t.name.split("+"))), tables[0])


def splits(task: Task, language: str, *, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The splits declared for a language; touches no file."""
    spec = _spec(task)
    return tuple(s for s in task.splits if spec.has(language, s, options))


def revision(task: Task, language: str, split: str, *, options: Mapping[str, Any], root: str = "") -> str:
    """Version and checksum of the prepared data sets that would be read."""
    marks = []
    for table in _chosen(task, language, split, options, root):
        for name in table.name.split("+"):
            where = prepared(name, data_folder(root))
            marks.append(f"{name} {where.name} {_info(where)}" if where else f"{name} not prepared")
    return " ".join(marks)


def _spec(task: Task) -> Tables | JoinedTables:
    assert isinstance(task.tfds, Tables | JoinedTables)
    return task.tfds


def data_folder(root: str) -> Path:
    return Path(root or os.environ.get("TFDS_DATA_DIR", "") or "~/tensorflow_datasets").expanduser()


def prepared(name: str, folder: Path) -> Path | None:
    """The newest prepared version of `builder/config` under a data folder."""
    versions = [p.parent for p in (folder / name).glob("*/dataset_info.json")]
    return max(versions, key=lambda p: [int(x) if x.isdigit() else 0 for x in p.name.split(".")], default=None)


def _info(folder: Path) -> str:
    import hashlib

    return hashlib.sha256((folder / "dataset_info.json").read_bytes()).hexdigest()[:16]


def _fetch(table: Table, request: Request, *, chosen: Collection[str], root: str) -> tuple[Rows, str] | None:
    """Rows of the data sets joined by + in the table's name; Absent if one is not prepared and cannot be here."""
    if table.name not in chosen:
        return None
    their_split = table.splits[request.split]
    places = {
        name: prepared(name, data_folder(root)) or _prepare(name, data_folder(root)) for name in table.name.split("+")
    }

    def chained() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for name, where in places.items():
            yield from rows(name, their_split, where)

    return chained(), f"tfds: {table.name} {their_split}"


def rows(name: str, split: str, where: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, row) of one split of a prepared set; integers of a class column become the names the set gives them."""
    import tensorflow_datasets as tfds

    for path in filter(Path.is_file, where.iterdir()):
        refuse_pointer(path)
    builder = tfds.builder_from_directory(where)
    plain, _, limit = split.removesuffix("]").partition("[:")
    if plain not in builder.info.splits:
        raise XtlError(f"tfds: {name} in {where} has no split {split!r}; it has: {', '.join(builder.info.splits)}")
    if limit and int(limit) >= builder.info.splits[plain].num_examples:
        split = plain
    try:
        source = builder.as_data_source(split=split)
    except (NotImplementedError, ValueError) as error:
        raise XtlError(
            f"tfds: {where} is not in the format {FORMAT} ({str(error).splitlines()[0]}); run `tfds convert_format "
            f"--dataset_dir={where} --out_file_format={FORMAT}` or prepare it again"
        ) from None
    names = {column: n for column, feature in builder.info.features.items() if (n := _names(feature))}
    for start in range(0, len(source), BATCH):
        numbers = range(start, min(start + BATCH, len(source)))
        try:
            batch = source.__getitems__(list(numbers))
        except Exception as error:
            raise XtlError(
                f"tfds: {where} split {split}, in rows {start} to {numbers[-1]}: unreadable "
                f"({type(error).__name__}: {error})"
            ) from None
        for number, row in zip(numbers, map(dict, batch), strict=True):
            for column, classes in names.items():
                row[column] = _spelled(row[column], classes)
            yield f"tfds {name} {split} row {number}", row


def _names(feature: Any) -> list[str] | None:
    inner = getattr(feature, "feature", feature)
    return getattr(inner, "names", None)


def _spelled(value: Any, names: list[str]) -> Any:
    if getattr(value, "ndim", 0) or isinstance(value, list | tuple):
        return [_spelled(v, names) for v in value]
    return names[int(value)] if 0 <= int(value) < len(names) else int(value)


def _prepare(name: str, folder: Path) -> Path:
    """Download and convert, where the builder runs without TensorFlow."""
    import tensorflow_datasets as tfds

    how = f"`tfds build {name} --file_format={FORMAT} --data_dir={folder}` on a machine with TensorFlow"
    try:
        builder = tfds.builder(name, data_dir=folder, file_format=FORMAT)
        # TFDS retries for minutes to reach a host, so that is tried first and quickly. It is skipped where something
        # has been downloaded before, as that may be all that is needed.
        if not any((folder / "downloads" / builder.name).rglob("*.INFO")):
            _reach(tuple({urlsplit(x).netloc: x for x in builder.url_infos or () if x.startswith("http")}.values()))
        builder.download_and_prepare()
    except Exception as error:
        raise Absent(
            f"tfds: {name} is not prepared under {folder} and cannot be here ({first_line(error)}); run {how}"
        ) from None
    written = prepared(name, folder)
    if written is None:
        raise Absent(f"tfds: {name} was prepared, but not under {folder}; run {how}")
    return written


def _reach(addresses: tuple[str, ...]) -> None:
    """Raises Unreachable if there are addresses and none of their hosts can be connected to."""
    if fault := _fault(addresses):
        raise Unreachable(fault)


@functools.cache
def _fault(addresses: tuple[str, ...]) -> str:
    """Why no host of the addresses can be reached, "" if one can; tried once per process, all at the same time.

    Any answer counts, also an error or a late one: TFDS decides what to do with it.
    """
    import requests
    import tenacity

    answers: queue.Queue[str] = queue.Queue()

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(requests.ConnectionError),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_fixed(1),
        reraise=True,
    )
    def connect(address: str) -> None:
        # The request that TFDS makes, so proxies and certificates are the same.
        requests.get(address, stream=True, timeout=REACH_S / 2).close()

    def ask(address: str) -> None:
        try:
            connect(address)
        except requests.ConnectionError as error:
            answers.put(first_line(error))
        except requests.RequestException:  # an answer, of whatever kind
            answers.put("")
        else:
            answers.put("")

    for address in addresses:
        # Looking up a name has no time limit of its own; in a daemon thread it delays neither this nor the exit.
        threading.Thread(target=ask, args=(address,), daemon=True).start()
    end, fault = time.monotonic() + REACH_S, ""
    for _ in addresses:
        try:
            fault = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            hosts = ", ".join(urlsplit(x).netloc for x in addresses)
            return f"no connection to {hosts} in {REACH_S:g} s"
        if not fault:
            return ""
    return fault
