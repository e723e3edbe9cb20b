"""Configs: made by short Python programs, completed and checked against xtl/config/schema.py.

    from xtl import config

    config.pipeline("squad", encoder=config.encoder("base"), stages=[
        config.stage("squad_v1", start="FacebookAI/xlm-roberta-base", intermediate="squad_v1",
                     **config.recipe("squad_v1", source="paper")),
        config.stage("squad_v1-xnli", start="stage:squad_v1", intermediate="squad_v1", **config.recipe("xnli")),
    ])

A file in configs/ wraps such lines in `get_config(arg)`; the command line and `load_config` read that file. What a
config leaves open (languages, lengths, digests of the data) `resolve` fills in, once.
"""

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from xtl.config import schema
from xtl.config.recipes import recipe
from xtl.errors import XtlError, nearest

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+@=-]*")  # dots would be taken apart by --config.stages.NAME.key=value

# ---------------------------------------------------------------- building


def encoder(size: str = "base", **changes: Any) -> ConfigDict:
    """An encoder section by size name (tiny, base, large, xl, xxl), with single fields changed."""
    return schema.to_config(schema.check(schema.ENCODER, {"size": size, **changes}, where="encoder", fill=True))


def stage(name: str, **fields: Any) -> ConfigDict:
    """One stage. `fields` are keys of schema.STAGE; encoder, data and system hold what differs from the pipeline's.

    A string in `tasks` or `evaluate` may stand for an entry with defaults: tasks="mnli", evaluate=("xquad", "mlqa").
    """
    if not NAME.fullmatch(name):
        raise XtlError(f"stage name {name!r}: use letters, digits and _ + @ = - (no dots, no slashes)")
    where = f"stage {name}"
    for key in ("tasks", "evaluate"):
        if isinstance(fields.get(key), str):
            fields[key] = {fields[key]: {}}
        elif isinstance(fields.get(key), list | tuple):
            fields[key] = {entry: {} for entry in fields[key]}
    own = {key: fields[key] for key in fields if key in schema.INHERITED}
    rest = {key: value for key, value in {"name": name, **fields}.items() if key not in own}
    table = {key: value for key, value in schema.STAGE.items() if key not in schema.INHERITED}
    if unknown := [key for key in rest if key not in table]:
        schema.check(schema.STAGE, {unknown[0]: None}, where=where, fill=False)
    filled = schema.check(table, rest, where=where, fill=True)
    filled |= {
        key: schema.check(schema.STAGE[key], own.get(key, {}), where=f"{where}.{key}", fill=False)
        for key in schema.INHERITED
    }
    return schema.to_config({key: filled[key] for key in schema.STAGE})


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

    study: {"name": one of xtl.studies.run.STUDIES, ...its parameters}: what is made of the results.
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
    shared = {"encoder": encoder or {}, "data": data or {}, "system": system or {}, "study": study or {}}
    filled = {key: schema.check(schema.PIPELINE[key], value, where=key, fill=True) for key, value in shared.items()}
    return schema.to_config({"name": name, "seed": seed, **filled, "stages": named})


def bare() -> ConfigDict:
    """A config without stages: where data is and what runs it, for what works on a single task or checkpoint."""
    return schema.to_config(schema.check(schema.PIPELINE, {"name": "bare"}, where="config", fill=True))


# ---------------------------------------------------------------- grids


def targets(
    tasks: Iterable[str] | Mapping[str, Any], *, source: str = "jiant", **changes: Any
) -> dict[str, dict[str, Any]]:
    """Target stages by name, from published recipes; targets that train alike share one (xquad and mlqa).

    tasks: names, or evaluation entries by name: {"xnli": {}, "mlqa": {"split": "dev"}}. `changes` are stage fields laid
    over every target that trains: targets(["xnli", "mlqa"], train={"epochs": 1.0}).
    """
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        fields = recipe(task, source=source)
        if fields.get("tasks"):
            fields = merged(fields, changes)
        if isinstance(tasks, Mapping):
            fields["evaluate"] = {task: tasks[task]}
        alike = next((n for n, f in found.items() if f.get("tasks") and _training(f) == _training(fields)), None)
        if alike is None:
            found[task] = fields
        else:
            both = found.pop(alike)
            found[f"{alike}+{task}"] = {**both, "evaluate": {**both["evaluate"], **fields["evaluate"]}}
    return found


def grid(
    *,
    start: str,
    conditions: Mapping[str, Mapping[str, Any] | None],
    targets: Mapping[str, Mapping[str, Any]],
    seeds: Iterable[int] = (0,),
    rates: Sequence[float] = (),
    prefix: str = "",
    **changes: Any,
) -> Iterator[ConfigDict]:
    """Stages of {conditions} x {targets} x {seeds}: each condition trained once a seed, each target started from it.

    start: where conditions start ("stage:mlm", a model folder, a hub id). conditions: the rows of the table; None is
    the baseline without intermediate training. targets: columns, see `targets`; one without tasks is only evaluated.
    rates: learning rates that every target is trained at, each a row of its own, CONDITION@RATE, from one and the same
    intermediate stage (to sweep those of intermediate stages, give `conditions` through `swept`).
    prefix tells several grids of one pipeline apart ("large-"); changes are laid over every stage.
    A target's "first" holds the fields of a stage that is trained before it (xcopa: Social IQa, then COPA).
    Names: CONDITION and CONDITION-TARGET, with -sSEED for every seed but 0, so that adding seeds renames nothing.
    """
    for seed in seeds:
        tail = f"-s{seed}" if seed else ""
        for condition, fields in conditions.items():
            label, origin = prefix + condition, start
            common = {"intermediate": label, "seed": seed}
            if fields is not None:
                yield stage(
                    label + tail, **merged({**common, "phase": "intermediate", "start": start}, fields, changes)
                )
                origin = f"stage:{label}{tail}"
            for target, own in targets.items():
                base = {**common, "start": origin}
                for rate in rates if own.get("tasks") else ():
                    row = f"{label}@{short(rate)}"
                    at_rate = {**base, "intermediate": row}
                    yield from _target(f"{row}-{target}", tail, at_rate, merged(own, _at(rate)), changes)
                if not rates or not own.get("tasks"):
                    yield from _target(f"{label}-{target}", tail, base, own, changes)


def _target(
    name: str, tail: str, common: Mapping[str, Any], own: Mapping[str, Any], changes: Mapping[str, Any]
) -> Iterator[ConfigDict]:
    base = {**common, "phase": "target" if own.get("tasks") else "eval"}
    if "first" in own:
        yield stage(f"{name}-first{tail}", **merged({**base, "phase": "intermediate"}, own["first"], changes))
        base["start"] = f"stage:{name}-first{tail}"
    yield stage(name + tail, **merged(base, {key: value for key, value in own.items() if key != "first"}, changes))


def swept(conditions: Mapping[str, Mapping[str, Any] | None], rates: Iterable[float]) -> dict[str, Any]:
    """Conditions at several learning rates, CONDITION@RATE; the baseline, which trains nothing, stays one."""
    found: dict[str, Any] = {}
    for name, fields in conditions.items():
        if fields is None:
            found[name] = None
        else:
            found |= {f"{name}@{short(rate)}": merged(fields, _at(rate)) for rate in rates}
    return found


def short(rate: float) -> str:
    """A learning rate as part of a name, which has no dots: 1e-5, 15e-6."""
    digits, _, power = f"{rate:e}".partition("e")
    whole = digits.rstrip("0").rstrip(".")
    decimals = len(whole.partition(".")[2])
    return f"{whole.replace('.', '')}e{int(power) - decimals}"


def _at(rate: float) -> dict[str, Any]:
    return {"train": {"learning_rate": rate}}


def merged(*sections: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over each other, later ones winning; the inputs stay as they are."""
    result: dict[str, Any] = {}
    for section in sections:
        for key, value in section.items():
            nested = isinstance(value, Mapping | ConfigDict)
            result[key] = merged(result.get(key) or {}, value) if nested else value
    return result


def _training(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != "evaluate"}


# ---------------------------------------------------------------- files, arguments, overrides


def arguments(arg: str | None, **defaults: Any) -> SimpleNamespace:
    """The part of FILE.py:key=value,key=value after the colon, read in the types of the defaults.

    Values of a tuple are separated by "+" (seeds=0+1+2). Returns an object with the keys as attributes.
    """
    values = dict(defaults)
    for part in filter(None, (arg or "").split(",")):
        key, equals, text = part.partition("=")
        if key not in defaults:
            raise XtlError(f"unknown config argument {key!r}.{nearest(key, defaults)}")
        if not equals and not isinstance(defaults[key], bool):
            raise XtlError(f"config argument {key!r} needs a value: {key}={defaults[key]}")
        where = f"config argument {key}"
        if isinstance(defaults[key], tuple):
            kind = type(defaults[key][0]) if defaults[key] else str
            values[key] = tuple(schema.parsed(kind(), item, where=where) for item in text.split("+"))
        else:
            values[key] = schema.parsed(defaults[key], text or "true", where=where)
    return SimpleNamespace(**values)


def load_config(spec: str | Path, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The config of "FILE.py" or "FILE.py:key=value,...", with overrides {"config.a.b": value} laid over it.

    Override values are Python values, or text as on the command line. Unknown keys and wrong types are XtlErrors.
    """
    path, arg = _split(str(spec))
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path("configs")
        raise XtlError(f"{path}: no such config file.{nearest(path.name, (p.name for p in folder.glob('*.py')))}")
    module_spec = importlib.util.spec_from_file_location("xtl_config", path)
    if module_spec is None or module_spec.loader is None:
        raise XtlError(f"{path}: a config file must end in .py")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except XtlError:
        raise
    except Exception as error:
        raise XtlError(f"{path}: {_where(error, path)}{type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise XtlError(f"{path}: a config file must define get_config(arg)")
    try:
        config = module.get_config(arg)
    except XtlError as error:
        raise XtlError(f"{path}: {error}") from error
    except Exception as error:
        raise XtlError(f"{path}: {_where(error, path)}{type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict) or "stages" not in config:
        raise XtlError(f"{path}: get_config must return what xtl.config.pipeline(...) returns")
    for key, value in (overrides or {}).items():
        override(config, key.removeprefix("config."), value)
    return config


def _split(spec: str) -> tuple[Path, str]:
    path, colon, arg = spec.partition(".py:")
    return (Path(f"{path}.py"), arg) if colon else (Path(spec), "")


def _where(error: BaseException, path: Path) -> str:
    """`line 12: ` of the config file, where the error passed through it."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    trace, line = error.__traceback__, 0
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""


def override(config: ConfigDict, path: str, value: Any) -> None:
    """Set one key of a pipeline config by its dotted path; text is read in the key's type."""
    table: Any = schema.PIPELINE
    section, done, keys = config, "config", path.split(".")
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(table, schema.Open):
            inner: Any = table
        elif isinstance(table, schema.Each):
            if key not in section:
                raise XtlError(f"--{done} has no {key!r}.{nearest(key, section)}")
            inner = dict(table)
        elif key not in table:
            raise XtlError(f"--{done}.{key}: unknown key {key!r}.{nearest(key, table)}")
        else:
            inner = table[key]
        done = f"{done}.{key}"
        if not last:
            if not isinstance(inner, dict):
                raise XtlError(f"--{done} is a single value, it has no {keys[depth + 1]!r}")
            if key not in section:
                section[key] = schema.to_config({})
            section, table = section[key], inner
        elif isinstance(table, schema.Open):
            section[key] = schema.literal(value) if isinstance(value, str) else value
        elif isinstance(inner, dict):
            raise XtlError(
                f"--{done} is a section; set one of its keys, such as --{done}.{next(iter(section[key]), 'x')}="
            )
        else:
            read = schema.parsed if isinstance(value, str) else schema.typed
            section[key] = read(inner, value, where=f"--{done}")
