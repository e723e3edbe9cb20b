"""Config files and what the command line changes in them: FILE.py:key=value, and --config.a.b=value."""

import importlib.util
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from xtl.config import schema
from xtl.errors import XtlError, nearest


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
            values[key] = tuple(schema.parsed(kind, item, where=where) for item in text.split("+"))
        else:
            values[key] = schema.parsed(type(defaults[key]), text or "true", where=where)
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
        raise XtlError(f"{path}: {_line(error, path)}{type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise XtlError(f"{path}: a config file must define get_config(arg)")
    try:
        config = module.get_config(arg)
    except XtlError as error:
        raise XtlError(f"{path}: {error}") from error
    except Exception as error:
        raise XtlError(f"{path}: {_line(error, path)}{type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict) or "stages" not in config:
        raise XtlError(f"{path}: get_config must return what xtl.config.pipeline(...) returns")
    for key, value in (overrides or {}).items():
        override(config, key.removeprefix("config."), value)
    return config


def _split(spec: str) -> tuple[Path, str]:
    path, colon, arg = spec.partition(".py:")
    return (Path(f"{path}.py"), arg) if colon else (Path(spec), "")


def _line(error: BaseException, path: Path) -> str:
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
    *outer, last = path.split(".")
    section, kind, flag = config, schema.Pipeline, "config"
    for key, following in zip(outer, path.split(".")[1:], strict=True):
        kind, flag = _kind_of(key, kind, section, flag), f"{flag}.{key}"
        if not _is_section(kind):
            raise XtlError(f"--{flag} is a single value, it has no {following!r}")
        if key not in section:
            section[key] = schema.to_config({})
        section = section[key]
    if schema.is_open(kind):
        section[last] = schema.literal(value) if isinstance(value, str) else value
        return
    kind, flag = _kind_of(last, kind, section, flag), f"{flag}.{last}"
    if _is_section(kind):
        raise XtlError(
            f"--{flag} is a section; set one of its keys, such as --{flag}.{next(iter(section[last]), 'x')}="
        )
    section[last] = (schema.parsed if isinstance(value, str) else schema.typed)(kind, value, where=f"--{flag}")


def _kind_of(key: str, kind: Any, section: ConfigDict, flag: str) -> Any:
    """The annotated type of a key below a section of type `kind`."""
    if schema.is_open(kind):
        return kind
    if entry := schema.entry_type(kind):
        if key not in section:
            raise XtlError(f"--{flag} has no {key!r}.{nearest(key, section)}")
        return entry
    types = schema.types_of(kind)
    if key not in types:
        raise XtlError(f"--{flag}.{key}: unknown key {key!r}.{nearest(key, types)}")
    return types[key]


def _is_section(kind: Any) -> bool:
    return is_dataclass(kind) or schema.is_open(kind) or schema.entry_type(kind) is not None
