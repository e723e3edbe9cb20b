"""Stages and pipelines as configs: checked for keys and types when they are written, completed by `resolve`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from xtl.config import schema
from xtl.errors import XtlError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+@=-]*")  # dots would be taken apart by --config.stages.NAME.key=value


def encoder(size: str = "base", **changes: Any) -> ConfigDict:
    """An encoder section by size name (tiny, base, large, xl, xxl), with single fields changed."""
    return schema.to_config(schema.filled(schema.Encoder, {"size": size, **changes}, where="encoder"))


def stage(name: str, **fields: Any) -> ConfigDict:
    """One stage. `fields` are keys of schema.Stage; encoder, data and system hold what differs from the pipeline's.

    A string in `tasks` or `evaluate` may stand for an entry with defaults: tasks="mnli", evaluate=("xquad", "mlqa").
    """
    if not NAME.fullmatch(name):
        raise XtlError(f"stage name {name!r}: use letters, digits and _ + @ = - (no dots, no slashes)")
    for key in ("tasks", "evaluate"):
        if isinstance(fields.get(key), str):
            fields[key] = {fields[key]: {}}
        elif isinstance(fields.get(key), list | tuple):
            fields[key] = {entry: {} for entry in fields[key]}
    given = schema.checked(schema.Stage, {"name": name, **fields}, where=f"stage {name}")
    complete = schema.filled(schema.Stage, given, where=f"stage {name}")
    own = {key: given.get(key, {}) for key in schema.INHERITED}
    return schema.to_config(complete | own)


def pipeline(
    name: str,
    *,
    stages: Iterable[ConfigDict],
    encoder: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    system: Mapping[str, Any] | None = None,
    study: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> ConfigDict:
    """A pipeline of stages; encoder, data and system are what every stage inherits, seed is added to every stage's.

    study: {"name": one of xtl.studies.record.NAMES, ...its parameters}: the analysis of the results.
    """
    if not NAME.fullmatch(name):
        raise XtlError(f"pipeline name {name!r}: use letters, digits and _ + @ = - (no dots, no slashes)")
    named: dict[str, ConfigDict] = {}
    for one in stages:
        if one.name in named:
            raise XtlError(f"two stages are named {one.name!r}; every stage needs a name of its own")
        named[one.name] = one
    if not named:
        raise XtlError(f"pipeline {name} has no stages")
    sections = {
        "encoder": schema.filled(schema.Encoder, encoder or {}, where="encoder"),
        "data": schema.filled(schema.Data, data or {}, where="data"),
        "system": schema.filled(schema.System, system or {}, where="system"),
        "study": schema.plain(study or {}),
    }
    return schema.to_config({"name": name, "seed": seed, **sections, "stages": named})


def bare() -> ConfigDict:
    """A config without stages: where data is and what runs it, for what works on a single task or checkpoint."""
    return schema.to_config(schema.filled(schema.Pipeline, {"name": "bare"}, where="config"))
