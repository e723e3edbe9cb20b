"""Source `hub`: Hugging Face datasets. Parquet repositories only, never a loading script; HF_ENDPOINT is respected.

With `data.root` set, a copy saved there by `datasets.save_to_disk` as ROOT/hub/OWNER--NAME/CONFIG/SPLIT goes first, so
that machines without internet read what `xtl data --pack` gathered.
"""

import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from xtl.data.formats.base import Rows
from xtl.data.formats.tables import JoinedTables, Table, Tables, Wanted, load_first
from xtl.errors import XtlError
from xtl.tasks.base import Loaded, Task

CONVERTED = "refs/convert/parquet"  # where the hub keeps its own parquet copy of a repository that has only a script
BATCH = 1000  # rows converted to Python at a time
ATTEMPTS = 5  # for what may pass: dropped connections, 429, 5xx, cut-off downloads
WAIT_S = 2.0  # before the second attempt; doubles with each further one

T = TypeVar("T")


def load(task: Task, language: str, split: str, *, options: Mapping[str, Any], root: str = "") -> Loaded:
    """Examples of one language and split; XtlError names the repository and what went wrong."""
    return load_first(_spec(task), language, split, options, functools.partial(_fetch, root=root))


def splits(task: Task, language: str, *, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The splits declared for a language; asks no server."""
    spec = _spec(task)
    return tuple(s for s in task.splits if spec.has(language, s, options))


def revision(task: Task, language: str, split: str, *, options: Mapping[str, Any], root: str = "") -> str:
    """What identifies the content: the commit of each repository that may be read, or its saved copy's fingerprint."""
    spec = _spec(task)
    parts = spec.chosen(options).values() if isinstance(spec, JoinedTables) else (spec,)
    marks = []
    for part in parts:
        for table, wanted in part.candidates(language, split, options if part is spec else None):
            saved = saved_copy(table, wanted.split, root)
            if saved is not None:
                marks.append(f"{table.name} {_state(saved)}")
                break
            found = commit(table.name, table.revision or "main")
            if found:
                marks.append(f"{table.name}@{found}")
                break
    return " ".join(marks)


def _spec(task: Task) -> Tables | JoinedTables:
    assert isinstance(task.hub, Tables | JoinedTables)
    return task.hub


# ---------------------------------------------------------------- rows


def _fetch(table: Table, wanted: Wanted, *, root: str) -> tuple[Rows, str] | None:
    """(rows, where), or None if the repository or its config does not exist."""
    their_split = table.splits[wanted.split]
    saved = saved_copy(table, wanted.split, root)
    if saved is not None:
        from datasets import load_from_disk

        return rows(load_from_disk(str(saved)), str(saved)), str(saved)
    dataset = download(table.name, table.config, their_split, revision=table.revision)
    where = " ".join(x for x in (table.name, table.config, their_split) if x)
    return None if dataset is None else (rows(dataset, where), f"hub: {where}")


def saved_copy(table: Table, split: str, root: str) -> Path | None:
    """The folder of a saved copy of one split under the data root, if there is one."""
    folder = copy_folder(table, split, Path(root).expanduser()) if root else None
    return folder if folder is not None and (folder / "dataset_info.json").is_file() else None


def copy_folder(table: Table, split: str, root: Path) -> Path:
    """Where the saved copy of one split belongs."""
    plain_split = table.splits[split].replace("[", "-").replace("]", "").replace(":", "")
    return root / "hub" / table.name.replace("/", "--") / (table.config or "default") / plain_split


def rows(dataset: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, row); integers of a class column become the names that the data set itself gives them."""
    named = {name: names for name, feature in dataset.features.items() if (names := _names(feature))}
    number = 0
    for batch in dataset.iter(batch_size=BATCH):
        columns = list(batch)
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            for column, names in named.items():
                row[column] = _spelled(row[column], names)
            yield f"{where} row {number}", row
            number += 1


def _names(feature: Any) -> list[str] | None:
    """Names of a class column, also of a list of classes."""
    inner = getattr(feature, "feature", feature)
    return getattr(inner, "names", None)


def _spelled(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_spelled(v, names) for v in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


# ---------------------------------------------------------------- the network


def download(repo: str, config: str, split: str, *, revision: str = "") -> Any | None:
    """A split as a `datasets.Dataset`; None if there is no such config. A repository with only a script is read from
    the hub's own conversion to parquet (trap 15.2)."""
    from datasets import load_dataset

    def whole(revision: str, **files: Any) -> Any:
        return load_dataset(repo, config or None if not files else None, split=split, revision=revision, **files)

    try:
        return patiently(lambda: whole(revision or "main"), what=f"{repo} {config}".strip())
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
    except ValueError as error:
        if "BuilderConfig" in str(error):
            return None
        raise XtlError(f"{repo} {config}: {_first_line(error)}") from None
    parts = {name: f"{config or 'default'}/{name}/*.parquet" for name in _plain_splits(split)}
    try:
        return patiently(lambda: whole(CONVERTED, data_files=parts), what=f"{repo} at {CONVERTED}")
    except (ValueError, FileNotFoundError) as error:
        raise XtlError(
            f"{repo}: only a loading script, and no parquet conversion of it: {_first_line(error)}"
        ) from None


def _plain_splits(split: str) -> list[str]:
    """`train_r1+train_r2` and `train[:10]` without what is not a name."""
    return [part.partition("[")[0] for part in split.split("+")]


@functools.lru_cache(maxsize=1000)
def commit(repo: str, revision: str) -> str:
    """The commit a repository is at, from the hub, or offline from the local cache; "" if neither knows it."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    if not constants.HF_HUB_OFFLINE:
        info = patiently(lambda: HfApi().dataset_info(repo, revision=revision, timeout=30), what=repo)
        return str(info.sha)
    known = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="dataset") / "refs" / revision
    return known.read_text().strip() if known.is_file() else ""


def patiently(action: Callable[[], T], *, what: str) -> T:
    """The result of a network action, tried again where that can help; otherwise an XtlError of one line.

    Tried again: dropped connections and time-outs, 429 (after the time the server asks for), 5xx, and downloads that
    ended early or do not match their checksum. Not tried again: 401, 403, 404, and offline mode.
    """
    import datasets.exceptions as ds
    from huggingface_hub import errors as hf

    for attempt in range(1, ATTEMPTS + 1):
        wait = WAIT_S * 2 ** (attempt - 1)
        try:
            return action()
        except (ds.DatasetNotFoundError, hf.RepositoryNotFoundError, hf.RevisionNotFoundError) as error:
            raise XtlError(f"{what}: not on the hub, or not open to you ({_first_line(error)})") from None
        except Exception as error:
            cause = _network_cause(error)
            if cause is None:
                raise
            status = getattr(getattr(cause, "response", None), "status_code", None)
            final = _is_offline(cause) or (status is not None and status < 500 and status != 429)
            if final or attempt == ATTEMPTS:
                tries = "" if final else f" ({attempt} attempts)"
                raise XtlError(f"{what}: the hub cannot be read{tries}: {_first_line(cause)}") from None
            wait = max(wait, _asked_to_wait(cause))
        time.sleep(min(wait, 120.0))
    raise AssertionError


def _network_cause(error: BaseException) -> BaseException | None:
    """Of the error and its causes: offline mode, else the first that is about the network; None if none is."""
    import httpx2 as httpx
    from huggingface_hub import errors as hf

    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    kinds = (httpx.HTTPError, hf.HfHubHTTPError, ConnectionError, TimeoutError)
    offline = [e for e in chain if _is_offline(e)]
    network = [e for e in chain if isinstance(e, kinds) or "Consistency check failed" in str(e)]
    return next(iter(offline + network), None)


def _is_offline(error: BaseException) -> bool:
    """Two libraries have a class of this name, and `datasets` hands on only the name."""
    return "OfflineModeIsEnabled" in (type(error).__name__, *re.findall(r"\w+", str(error)))


def _asked_to_wait(error: BaseException) -> float:
    """Seconds of a Retry-After header; 0 without one."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return float(headers.get("Retry-After", 0))
    except ValueError:
        return 0.0


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _state(folder: Path) -> str:
    """The fingerprint `datasets` wrote beside a saved copy."""
    import json

    state = folder / "state.json"
    return (
        str(json.loads(state.read_text()).get("_fingerprint", "")) if state.is_file() else str(os.path.getmtime(folder))
    )
