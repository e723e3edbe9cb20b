"""What a stage is known by: a digest of everything that can change its numbers, and of nothing else.

Covered: the start, the encoder's mathematics, the content of the data, tasks, training (epochs or steps as they are
written), selection, evaluation, the seed. Not covered: names, paths, the machine, the mesh, logging. Equal stages are
trained once and shared by every pipeline under one WORKDIR.
"""

import graphlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtl.config.schema import Stage, as_dict
from xtl.errors import XtlError

NUMERICS = 2  # raised when the code gives other numbers for the same config: then nothing done before counts as done

SAMPLED = 64 * 2**20  # model files above this size are digested by 64 evenly spaced pieces of 1 MiB


@dataclass(frozen=True)
class Fingerprint:
    """sha256 of what decides a stage's weights (`training`; children build on it), and of all its numbers (`full`)."""

    training: str
    full: str


def parent_of(start: str) -> str | None:
    """The stage that `start` names, if it names one."""
    return start.removeprefix("stage:") if start.startswith("stage:") else None


def fingerprints(stages: Mapping[str, Stage]) -> dict[str, Fingerprint]:
    """The fingerprint of every resolved stage, by name."""
    parents = {name: tuple(filter(None, [parent_of(stage.start)])) for name, stage in stages.items()}
    prints: dict[str, Fingerprint] = {}
    for name in graphlib.TopologicalSorter(parents).static_order():
        prints[name] = _fingerprint(stages[name], prints)
    return prints


def _fingerprint(stage: Stage, known: Mapping[str, Fingerprint]) -> Fingerprint:
    section, revision = as_dict(stage), stage.data.revision
    parent = parent_of(stage.start)
    origin = known[parent].training if parent else _start_digest(stage.start)
    common = {
        "numerics": NUMERICS,
        "start": origin,
        "encoder": {key: value for key, value in section["encoder"].items() if key != "size"},
        "source": stage.data.source,
        "tokenizer": _tokenizer_digest(stage.data.tokenizer),
        "world": stage.data.world,
    }
    training = origin
    if stage.tasks:
        select = section["select"] if stage.select.every else {}
        seen = [f"train/{name}" for name in stage.tasks] + [f"dev/{name}" for name in select.get("tasks", ())]
        training = digest(
            {
                **common,
                "seed": stage.seed,
                "tasks": list(section["tasks"].items()),  # their order decides which one a step draws
                "train": section["train"],
                "select": select,
                "revision": {key: revision[key] for key in seen},
            }
        )
    evaluated = {
        name: {**entry, "languages": sorted(entry["languages"])} for name, entry in section["evaluate"].items()
    }
    full = digest(
        {
            **common,
            "training": training,
            "evaluate": evaluated,
            "revision": {name: revision[f"{entry['split']}/{name}"] for name, entry in evaluated.items()},
        }
    )
    return Fingerprint(training, full)


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON. XtlError for a value that JSON has no form for."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_refused)
    return hashlib.sha256(text.encode()).hexdigest()


def _refused(value: Any) -> Any:
    raise XtlError(f"a config value of type {type(value).__name__} cannot be stored: {value!r}")


def _start_digest(start: str) -> str:
    path = Path(start).expanduser()
    if start == "scratch" or not path.is_dir():
        return start
    return _folder_digest(path)


def _tokenizer_digest(name: str) -> str:
    path = Path(name).expanduser()
    for file in [path] if path.is_file() else [path / n for n in ("sentencepiece.bpe.model", "tokenizer.json")]:
        if file.is_file():
            return hashlib.sha256(file.read_bytes()).hexdigest()
    return name


def _folder_digest(folder: Path) -> str:
    """Digest of a model folder by content, wherever it lies; large files by evenly spaced samples."""
    content = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        size = file.stat().st_size
        content.update(f"{file.relative_to(folder).as_posix()}:{size};".encode())
        with open(file, "rb") as handle:
            if size <= SAMPLED:
                content.update(handle.read())
                continue
            for k in range(64):
                handle.seek((size - 2**20) * k // 63)
                content.update(handle.read(2**20))
    return content.hexdigest()
