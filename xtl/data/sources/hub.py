"""Source `hub`: Hugging Face datasets. Parquet repositories only, never a loading script; HF_ENDPOINT is respected.

With `data.root` set, a copy saved there by `datasets.save_to_disk` as ROOT/hub/OWNER--NAME/CONFIG/SPLIT goes first, so
that machines without internet read what `xtl data --pack` gathered.
"""

import contextlib
import fnmatch
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtl.data.sources.formats.base import Rows
from xtl.data.sources.formats.tables import JoinedTables, Request, Table, Tables, load_first
from xtl.errors import Absent, Unreachable, XtlError
from xtl.files import atomic_write, refuse_pointer
from xtl.network import Offline, first_line, patiently
from xtl.task import Loaded, Task

CONVERTED = "refs/convert/parquet"  # where the hub keeps its own parquet copy of a repository that has only a script
BATCH = 1000  # rows converted to Python at a time
LISTING = ".xtl-files.json"  # beside a cached commit's files: the names of all
PART = re.compile(r"(\w+)(?:\[:(\d+)\])?")  # `train`, `train[:100]`


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
        for table, request in part.candidates(language, split, options if part is spec else None):
            saved = saved_copy(table, request.split, root)
            if saved is not None:
                marks.append(f"{table.name} {_state(saved)}")
                break
            try:
                located = locate(table.name, table.config, table.revision or "main")
            except Absent:
                continue
            if located is not None:
                marks.append(f"{table.name}@{located.sha}")
                break
    return " ".join(marks)


def _spec(task: Task) -> Tables | JoinedTables:
    assert isinstance(task.hub, Tables | JoinedTables)
    return task.hub


# ---------------------------------------------------------------- rows


def _fetch(table: Table, request: Request, *, root: str) -> tuple[Rows, str] | None:
    """(rows, where), or None if the repository or its config does not exist."""
    their_split = table.splits[request.split]
    saved = saved_copy(table, request.split, root)
    if saved is not None:
        from datasets import load_from_disk

        for path in filter(Path.is_file, saved.iterdir()):
            refuse_pointer(path)
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


# ---------------------------------------------------------------- repositories


@dataclass(frozen=True)
class Located:
    """A config of a repository at a commit: the parquet files of each split, or None where `datasets` must decide."""

    repo: str
    config: str
    sha: str
    files: Mapping[str, Sequence[str]] | None
    features: Any = None  # as the card states them

    def __str__(self) -> str:
        return f"{self.repo} {self.config}".strip()


def download(repo: str, config: str, split: str, *, revision: str = "") -> Any | None:
    """A split (also `a+b`, `a[:10]`) as a `datasets.Dataset`, at most all of it; None if there is no such config.

    Only the files of these splits are fetched, into the hub's own cache, which offline mode reads.
    """
    located = locate(repo, config, revision or "main")
    if located is None:
        return None
    return _by_datasets(located, split) if located.files is None else _tables(located, located.files, split)


@functools.lru_cache(maxsize=1000)
def locate(repo: str, config: str, revision: str) -> Located | None:
    """Where a config is; None if the repository lacks it. Raises Absent if there is no such repository.

    The card says which files a config has. A repository with only a script is read from the hub's own conversion to
    parquet.
    """
    sha, listed = repository(repo, revision)
    if f"{repo.rpartition('/')[2]}.py" in listed:
        return _converted(repo, config)
    configs, features = _card(repo, sha, listed)
    if not configs:
        return Located(repo, config, sha, None)
    chosen = config or configs.get_default_config_name() or next(iter(configs))
    if chosen not in configs:
        return None
    return Located(repo, config, sha, _matching(configs[chosen], listed), features.get(chosen))


def _converted(repo: str, config: str) -> Located:
    try:
        sha, listed = repository(repo, CONVERTED)
    except Absent:
        raise Absent(f"{repo}: only a loading script, and no parquet conversion of it ({CONVERTED})") from None
    files: dict[str, list[str]] = {}
    for path in listed:
        folder, *inner = path.split("/")
        if folder == (config or "default") and len(inner) == 2 and path.endswith(".parquet"):
            files.setdefault(inner[0], []).append(path)
    return Located(repo, config, sha, files)


def _card(repo: str, sha: str, listed: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Configs of the card and the features it states for each; {} unless it names the files, and these are parquet."""
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    if "README.md" not in listed:
        return {}, {}
    data = DatasetCard.load(fetch(repo, "README.md", sha)).data
    configs = MetadataConfigs.from_dataset_card_data(data)
    named = [path for entry in configs.values() for paths in _matching(entry, listed).values() for path in paths]
    if not named or not all(path.endswith(".parquet") for path in named):
        return {}, {}
    return configs, {name: info.features for name, info in DatasetInfosDict.from_dataset_card_data(data).items()}


def _matching(entry: Mapping[str, Any], listed: Sequence[str]) -> dict[str, list[str]]:
    """Split -> files of one config of a card."""
    from datasets.data_files import sanitize_patterns

    patterns = sanitize_patterns(entry["data_files"]) if "data_files" in entry else {}
    matched = {str(s): [f for f in listed if any(fnmatch.fnmatchcase(f, p) for p in ps)] for s, ps in patterns.items()}
    return {split: paths for split, paths in matched.items() if paths}


def _tables(located: Located, files: Mapping[str, Sequence[str]], split: str) -> Any:
    from datasets import load_dataset

    parts = [PART.fullmatch(part) for part in split.split("+")]
    rows_of = {part[1]: int(part[2]) if part[2] else None for part in parts if part is not None}
    assert all(parts) and (len(parts) == 1 or not any(rows_of.values())), split
    for name in rows_of:
        if name not in files:
            raise XtlError(f"{located}: no split {name!r}; it has: {', '.join(files) or 'none'}")
        shards = re.search(r"-of-(\d+)\.parquet$", files[name][0])
        if shards and int(shards[1]) != len(files[name]):
            raise XtlError(f"{located}: only {len(files[name])} of {int(shards[1])} files of split {name!r} are there")
    try:
        local = {name: _fetched(located, files[name], rows) for name, rows in rows_of.items()}
    except Absent as error:  # the table is there: no other may stand in for it
        raise (Unreachable if isinstance(error, Offline) else XtlError)(str(error)) from None
    try:
        table = load_dataset("parquet", data_files=local, split="+".join(rows_of), features=located.features)
    except Exception as error:
        raise XtlError(f"{located}: {', '.join(files[next(iter(rows_of))])}: {_cause(error)}") from None
    rows = next(iter(rows_of.values()))
    return table if rows is None else table.select(range(min(rows, len(table))))


def _fetched(located: Located, paths: Sequence[str], rows: int | None) -> list[str]:
    """The files on disk, as many as hold the first `rows` rows: Wikipedia is large, and little of it is used."""
    import pyarrow.parquet

    local: list[str] = []
    for path in paths:
        local.append(str(fetch(located.repo, path, located.sha)))
        if rows is not None:
            rows -= pyarrow.parquet.read_metadata(local[-1]).num_rows
            if rows <= 0:
                break
    return local


def _by_datasets(located: Located, split: str) -> Any | None:
    from datasets import load_dataset

    try:
        table = patiently(
            lambda: load_dataset(located.repo, located.config or None, split=split, revision=located.sha),
            what=str(located),
        )
    except ValueError as error:
        if "BuilderConfig" in str(error):
            return None
        raise XtlError(f"{located}: {first_line(error)}") from None
    except (FileNotFoundError, RuntimeError) as error:
        raise XtlError(f"{located}: {first_line(error)}") from None
    if not all(located.sha in file["filename"] for file in table.cache_files):  # after an error it takes what it has
        raise XtlError(
            f"{located}: the hub cannot be read, and the local cache holds another commit than {located.sha}"
        )
    return table


@functools.lru_cache(maxsize=1000)
def repository(repo: str, revision: str) -> tuple[str, tuple[str, ...]]:
    """(commit, files) of a branch, from the hub, or offline from the local cache. Raises Absent if there is none."""
    from huggingface_hub import HfApi, constants

    if not constants.HF_HUB_OFFLINE:
        info = patiently(lambda: HfApi().dataset_info(repo, revision=revision, timeout=30), what=repo)
        listed = tuple(sorted(file.rfilename for file in info.siblings or ()))
        _remember(repo, revision, str(info.sha), listed)
        return str(info.sha), listed
    folder = _cache_folder(repo)
    ref = folder / "refs" / revision
    if not ref.is_file():
        raise Offline(f"{repo}: offline mode is enabled (HF_HUB_OFFLINE), and the local cache does not hold it")
    sha = ref.read_text().strip()
    snapshot = folder / "snapshots" / sha
    if (snapshot / LISTING).is_file():
        return sha, tuple(json.loads((snapshot / LISTING).read_text()))
    return sha, tuple(sorted(str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if p.is_file()))


def _remember(repo: str, revision: str, sha: str, listed: Sequence[str]) -> None:
    """For offline mode: the commit of the branch, and all its files, so that none is taken for absent there."""
    folder = _cache_folder(repo)
    with contextlib.suppress(PermissionError):  # a shared cache may be closed to writing
        atomic_write(folder / "snapshots" / sha / LISTING, json.dumps(listed))
        atomic_write(folder / "refs" / revision, sha)


def _cache_folder(repo: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="dataset")


def fetch(repo: str, file: str, revision: str, *, kind: str = "dataset") -> Path:
    """One file of a repository in the local cache, downloaded if need be, its content checked against its address."""
    from huggingface_hub import hf_hub_download

    def whole() -> Path:
        path = Path(hf_hub_download(repo, file, revision=revision, repo_type=kind))
        blob, stat = path.resolve(), path.stat()  # large files are kept under their SHA-256
        if re.fullmatch(r"[0-9a-f]{64}", blob.name) and _sha256(blob, stat.st_size, stat.st_mtime_ns) != blob.name:
            blob.unlink()
            path.unlink(missing_ok=True)  # the link to it
            raise OSError(f"Consistency check failed: the content of {file} has another checksum than the hub states")
        return path

    return patiently(whole, what=f"{repo} {file}")


@functools.lru_cache(maxsize=1000)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- errors and revisions


def _cause(error: BaseException) -> str:
    """What went wrong first is the innermost cause; `datasets` wraps it."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {(str(cause) or '?').strip().splitlines()[0]}"


def _state(folder: Path) -> str:
    """The fingerprint `datasets` wrote beside a saved copy."""
    state = folder / "state.json"
    return (
        str(json.loads(state.read_text()).get("_fingerprint", "")) if state.is_file() else str(os.path.getmtime(folder))
    )
