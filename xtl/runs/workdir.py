"""WORKDIR on disk: where a stage lives, what state it is in, who works on it. Scripts outside rely on the layout.

A state is believed only from a whole status.json (written aside, synced, renamed), and "done" is written last. A stage
is worked on under a file lock that the operating system takes back when its holder dies, however it dies.
"""

import contextlib
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xtl import __version__, files
from xtl.errors import XtlError
from xtl.runs import restarts

TICK_NS = 2_000_000_000  # coarser than the clock of any file system in use
SHORT = 8  # hex digits of a fingerprint in a folder name

Status = dict[str, Any]


class Workdir:
    """One WORKDIR, local or in an object store; several launches may share it."""

    def __init__(self, path: files.Pathish):
        self.path: Path = files.located(path).expanduser()
        self._listed: tuple[int, dict[str, Path]] = (0, {})  # time of the last change that was seen, what was there

    @property
    def cache(self) -> Path:
        """Where tokenised data is kept unless the config says; it is memory-mapped, so never in an object store."""
        if not files.is_remote(self.path):
            return self.path / "cache"
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "xtl" / "data"

    def folders(self) -> dict[str, Path]:
        """The stage folders by the short fingerprint in their names; listed again only when one has come or gone."""
        stages = self.path / "stages"
        if files.is_remote(self.path):
            return _by_fingerprint(stages) if stages.exists() else {}
        try:
            changed = stages.stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        if changed != self._listed[0]:
            # A second change within one tick of the file system's clock would go unseen: a young listing is not kept.
            settled = time.time_ns() - changed > TICK_NS
            self._listed = (changed if settled else 0, _by_fingerprint(stages))
        return self._listed[1]

    def folder(self, fingerprint: str, name: str, *, known: Mapping[str, Path] | None = None) -> Path:
        """The folder that holds this fingerprint, under whatever name, or the one to create; `known` = folders()."""
        short = fingerprint[:SHORT]
        folders = self.folders() if known is None else known
        return folders.get(short) or self.path / "stages" / f"{name}-{short}"

    def status(self, fingerprint: str, name: str, *, known: Mapping[str, Path] | None = None) -> Status:
        """What is on record about a stage; {"state": "pending"} where nothing is."""
        path = self.folder(fingerprint, name, known=known) / "status.json"
        if not path.exists():
            return {"state": "pending"}
        status = files.read_json(path)
        if status.get("fingerprint") != fingerprint:
            raise XtlError(f"{path} belongs to another stage ({status.get('fingerprint')}); remove that folder")
        return status

    def write_config(self, folder: Path, stage: Mapping[str, Any]) -> None:
        files.write_json(folder / "config.json", stage)

    def write_status(self, folder: Path, status: Status) -> None:
        files.write_json(folder / "status.json", status)

    # ------------------------------------------------------------ locks

    @contextlib.contextmanager
    def claim(self, what: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold the lock named `what`, if it can be had (or once it can be had); says whether it is held."""
        from filelock import FileLock, Timeout

        lock = FileLock(self._lock_file(what), timeout=-1 if wait else 0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def held(self, what: str) -> bool:
        """Whether some launch holds that lock now."""
        if not self._lock_file(what).exists():
            return False
        with self.claim(what) as mine:
            return not mine

    def _lock_file(self, what: str) -> Path:
        if files.is_remote(self.path):  # object stores have no locks: launches on one machine see each other, no more
            key = hashlib.sha256(str(self.path).encode()).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"xtl-locks-{key}"
        else:
            folder = self.path / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{what[:16]}.lock"

    # ------------------------------------------------------------ plan.json

    def read_plan(self) -> list[dict[str, Any]]:
        """The stages of every pipeline that was launched here, with their present states."""
        path = self.path / "plan.json"
        if not path.exists():
            return []
        entries = files.read_json(path)["stages"]
        return self._with_states(entries)

    def _with_states(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        known = self.folders()
        stages = []
        for entry in entries:
            status = self.status(entry["fingerprint"], entry["name"], known=known)
            folder = self.folder(entry["fingerprint"], entry["name"], known=known).name
            remark = remarked(status)
            stages.append(
                {**entry, "folder": folder, "state": status["state"]} | ({"remark": remark} if remark else {})
            )
        return stages

    def write_plan(self, pipeline: str, entries: list[dict[str, Any]] | None = None) -> None:
        """Put a pipeline's stages in the place of what it had before, or only bring the states up to date."""
        with self.claim("plan", wait=True):
            known = self.read_plan()
            if entries is not None:
                others = [entry for entry in known if entry["pipeline"] != pipeline]
                known = others + self._with_states([{"pipeline": pipeline, **entry} for entry in entries])
            files.write_json(self.path / "plan.json", {"stages": known})


def _by_fingerprint(stages: Path) -> dict[str, Path]:
    return {folder.name.rpartition("-")[2]: folder for folder in sorted(stages.iterdir(), key=lambda path: path.name)}


def remarked(status: Status) -> str:
    """What a reader of the results must know of a finished stage: that it collapsed, and was trained again."""
    result = status.get("result") or {}
    again = restarts.remark(result.get("restarts") or [])
    still = f"looks collapsed: {result['collapse']}" if result.get("collapse") else "trained again" if again else ""
    return "; ".join(filter(None, [again, still]))


def provenance() -> dict[str, Any]:
    """Who runs this, and with what: enough to find the code again."""
    return {
        "xtl": __version__,
        "revision": _revision(),
        "python": platform.python_version(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "host": platform.node(),
        "pid": os.getpid(),
    }


def _revision() -> str:
    """Git revision of the code, without calling git; "" for an installed package."""
    git = Path(__file__).resolve().parents[2] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (git / ref).exists():
            return (git / ref).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), "")
    except OSError:
        return ""


def now() -> float:
    """Seconds since 1970, to the millisecond, as stored in status.json."""
    return round(time.time(), 3)


def jsonable(value: Any) -> Any:
    """What of a result can stand in JSON; the rest as text."""
    return json.loads(json.dumps(value, default=str))
