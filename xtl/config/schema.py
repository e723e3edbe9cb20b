"""Every key of a stage, its type and its default: the schema that configs are completed and checked against.

Configs are ml_collections ConfigDicts while they are written and overridden; `resolve` turns each stage into a `Stage`.
A whole number is welcome where a float is wanted, a list where a tuple is.
"""

import ast
import functools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from ml_collections import ConfigDict

from xtl.data.settings import Data
from xtl.errors import XtlError, nearest

T = TypeVar("T")

# ---------------------------------------------------------------- the schema


@dataclass(frozen=True)
class Encoder:
    """The shape of the encoder and its dropout; `size` fills in what is 0 or "" below it."""

    size: str = "base"  # tiny | base | large | xl | xxl
    vocab_size: int = 0
    hidden: int = 0
    layers: int = 0
    heads: int = 0
    mlp: int = 0
    max_positions: int = 0  # 514 in XLM-R: positions start at 2, so 512 are usable
    norm: Literal["", "post", "pre"] = ""
    dropout: float = 0.1
    attention_dropout: float = 0.1
    eps: float = 1e-5
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; weights and reductions are float32 always


@dataclass(frozen=True)
class TrainedTask:
    """One task of a stage's training mixture."""

    batch_size: int = 32  # examples per step, whatever the packing
    weight: float = 0.0  # fixed share of the steps in a mixture (MLM: 0.2); 0 = its part of the rest, by train.sampling
    max_length: int = 0  # pieces per segment; 0 = the task's own
    languages: tuple[str, ...] = ("en",)
    limit: int = 0  # first so many examples of each language; 0 = all
    options: Mapping[str, Any] = field(default_factory=dict)  # for the task's family


@dataclass(frozen=True)
class Sampling:
    """How a mixture draws the task and the language of each step."""

    kind: Literal["proportional", "uniform", "temperature", "given"] = "proportional"
    cap: int = 0  # most examples that a task counts for; 0 = no cap (Raffel et al. 2020 and Phang et al. 2020: 2**17)
    temperature: float = 1.0  # p ~ batches ** (1 / temperature), where batches = min(n, cap) / batch_size
    language_exponent: float = 1.0  # languages of a task: p ~ n ** exponent (XLM-R: 0.3); 1 = one shuffled pool


@dataclass(frozen=True)
class Train:
    """Length, optimizer and packing of training."""

    steps: int = 0  # wins over epochs; both 0 = evaluation only
    epochs: float = 0.0
    learning_rate: float = 1e-5
    warmup: float = 0.1  # share of the steps if below 1, else steps
    decay: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    accumulate: int = 1  # micro-batches per step
    packing: bool = True
    row_length: int = 0  # tokens per row; 0 = the longest max_length of the mixture
    slots: int = 64  # most segments per row
    restarts: int = 0  # how often a stage that collapsed is trained again, each time at half the learning rate
    keep_head: bool = False  # go on from the heads of the start; default: new heads, MLM's aside if the start has one
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class EvaluatedTask:
    """One task that a stage is evaluated on."""

    languages: tuple[str, ...] = ()  # () = every language of the task that the source has
    split: str = ""  # "" = test if the task has it, else dev
    limit: int = 0  # first so many examples of each language; 0 = all
    options: Mapping[str, Any] = field(default_factory=dict)  # for the task's family


@dataclass(frozen=True)
class Select:
    """Which checkpoint is handed on: the last one, or the best by development score."""

    every: int = (
        0  # steps between evaluations that choose the checkpoint, at most a quarter of a shorter stage; 0 = last
    )
    examples: int = 500  # most dev examples per language
    patience: int = 0  # evaluations without gain until the stage stops; 0 = never
    tasks: tuple[str, ...] = ()  # () = all that are trained, MLM aside; several are judged by the mean of their scores
    languages: tuple[str, ...] = ("en",)  # anything else is not zero-shot


@dataclass(frozen=True)
class MeshShape:
    """Devices along each mesh axis."""

    data: int = -1  # -1 = all remaining devices
    fsdp: int = 1
    tensor: int = 1


@dataclass(frozen=True)
class System:
    """How a stage is run. No number of a result depends on this section, and no fingerprint covers it."""

    mesh: MeshShape = field(default_factory=MeshShape)
    attention: str = "auto"  # or one of xtl.models.attention.ATTENTION
    remat: str = "auto"  # or one of xtl.models.encoder.REMAT
    scan: int = 1  # layers in one step of the scan; 0 unrolls
    log_every: int = 50  # steps
    checkpoint_every: int = 500  # steps
    keep: int = 1  # newest checkpoints that stay
    bad_steps: int = 3  # in a row whose loss is not finite (they are not applied), until the stage stops
    bad_steps_in_all: int = 20  # the same, over the whole stage
    prefetch: int = 2  # batches
    eval_rows: int = 0  # rows per evaluation batch; 0 = chosen from the lengths
    compile_cache: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)  # of the TPU compiler, over xtl.parallel's; "" drops one


@dataclass(frozen=True)
class Stage:
    """One training or evaluation: a start encoder, a mixture of tasks, hyper-parameters, a seed."""

    name: str = ""
    phase: Literal["mlm", "intermediate", "target", "eval"] = "target"
    intermediate: str = "none"  # the condition: a row of the results table
    seed: int = 0
    start: str = "scratch"  # scratch | stage:NAME | folder or hub id of a model | xtl checkpoint
    encoder: Encoder = field(default_factory=Encoder)
    data: Data = field(default_factory=Data)
    tasks: Mapping[str, TrainedTask] = field(default_factory=dict)
    train: Train = field(default_factory=Train)
    evaluate: Mapping[str, EvaluatedTask] = field(default_factory=dict)
    select: Select = field(default_factory=Select)
    system: System = field(default_factory=System)


INHERITED = ("encoder", "data", "system")  # given once for a pipeline; a stage says only what differs


@dataclass(frozen=True)
class Pipeline:
    """Stages, what they have in common, and the study of their results."""

    name: str = ""
    seed: int = 0  # added to the seed of every stage
    encoder: Encoder = field(default_factory=Encoder)
    data: Data = field(default_factory=Data)
    system: System = field(default_factory=System)
    study: Mapping[str, Any] = field(default_factory=dict)  # name and parameters of the analysis (xtl/studies/run.py)
    stages: Mapping[str, Stage] = field(default_factory=dict)


# ---------------------------------------------------------------- what an annotation says


@functools.cache
def types_of(section: type) -> dict[str, Any]:
    """The annotated type of every key of a section."""
    return get_type_hints(section)


def is_open(kind: Any) -> bool:
    """Whether a key holds a section with any keys: options that belong to a task family or a source."""
    return get_origin(kind) is Mapping and get_args(kind)[1] is Any


def entry_type(kind: Any) -> type | None:
    """The section of each entry, for a key that holds named entries; else None."""
    if get_origin(kind) is Mapping and is_dataclass(get_args(kind)[1]):
        return get_args(kind)[1]
    return None


# ---------------------------------------------------------------- reading


def checked(section: type, given: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """What is given of a section as plain dicts: every key known, every value in its type.

    `where` ("stage mnli") begins every error.
    """
    types = types_of(section)
    for key in given:
        if key not in types:
            raise XtlError(f"{where}: unknown key {key!r}.{_home(str(key)) or nearest(str(key), types)}")
    return {key: _checked(kind, given[key], f"{where}.{key}") for key, kind in types.items() if key in given}


def _checked(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return checked(kind, _section(value, where), where=where)  # type: ignore[arg-type]
    if entry := entry_type(kind):
        return {
            str(name): checked(entry, _section(fields_, f"{where}.{name}"), where=f"{where}.{name}")
            for name, fields_ in _section(value, where).items()
        }
    return plain(_section(value, where)) if is_open(kind) else typed(kind, value, where=where)


def read(section: type[T], given: Mapping[str, Any], *, where: str) -> T:
    """A section from what is given of it, defaults for the rest. XtlError for an unknown key or a wrong type."""
    return msgspec.convert(checked(section, given, where=where), section)


def filled(section: type, given: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """A section as plain dicts, defaults included."""
    return as_dict(read(section, given, where=where))


def as_dict(section: Any) -> dict[str, Any]:
    """A section (a Stage, say) as plain dicts, in the order of the schema; what config.json holds."""
    return asdict(section)


def typed(kind: Any, value: Any, *, where: str) -> Any:
    """The value in its annotated type, or an error that says what is wanted."""
    try:
        return msgspec.convert(plain(value), kind)
    except msgspec.ValidationError:
        raise XtlError(f"{where}{_wanted(kind, value)}") from None


def parsed(kind: Any, text: str, *, where: str) -> Any:
    """The value of a command-line override, read in the annotated type of its key."""
    value: Any = text
    if get_origin(kind) is tuple:
        value = literal(text) if text[:1] in "([" else tuple(filter(None, text.split(",")))
    elif kind is int:
        value = text.replace("_", "")
    elif kind is bool:
        value = text.lower()
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        raise XtlError(f"{where}{_wanted(kind, text)}") from None


def literal(text: str) -> Any:
    """A value without a known type: a Python literal where the text is one, else the text."""
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        return text


_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple[str, ...]: "a list of names, such as ('en', 'de')",
}


def _wanted(kind: Any, value: Any) -> str:
    if get_origin(kind) is Literal and isinstance(value, str):
        choices = [choice for choice in get_args(kind) if choice]
        return f": {value!r} is not one of {', '.join(choices)}.{nearest(value, choices)}"
    return f" must be {_KINDS.get(kind, 'text')}, not {value!r}"


def _section(value: Any, where: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping | ConfigDict):
        return value
    raise XtlError(f"{where} is a section with keys of its own, it cannot be {value!r}")


def plain(value: Any) -> Any:
    """Mappings and ConfigDicts as dicts, sequences as tuples, NumPy scalars as Python's, at every depth."""
    if isinstance(value, Mapping | ConfigDict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value.item() if hasattr(value, "item") else value


def to_config(value: Mapping[str, Any]) -> ConfigDict:
    """A ConfigDict that keeps the order of its keys (the order of stages, of table rows, of tasks), at every depth."""
    config = ConfigDict(sort_keys=False, convert_dict=False)
    for key, item in value.items():
        config[key] = to_config(item) if isinstance(item, Mapping | ConfigDict) else item
    return config


# ---------------------------------------------------------------- the keys as a list


def leaves(section: type = Stage, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, default) of every key; an entry of a section of named entries is written as *."""
    default = section()
    for key, kind in types_of(section).items():
        if is_dataclass(kind):
            yield from leaves(kind, f"{prefix}{key}.")  # type: ignore[arg-type]
        elif entry := entry_type(kind):
            yield from leaves(entry, f"{prefix}{key}.*.")
        else:
            yield f"{prefix}{key}", getattr(default, key)


def _home(key: str) -> str:
    """Where a key that exists, but in another section, belongs."""
    homes = [path for path, _ in leaves() if path.endswith(f".{key}")]
    return f" It belongs to {' or '.join(path.removesuffix(f'.{key}') for path in homes)}." if homes else ""
