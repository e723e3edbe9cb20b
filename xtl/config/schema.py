"""Every key of a stage, its type and its default: the one table that configs are completed and checked against.

A default also states the type. A whole number is welcome where the default is a float, a list where it is a tuple.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from xtl.errors import XtlError, nearest


class Open(dict):
    """A section with any keys: options that belong to a task family or a source."""


class Each(dict):
    """A section of named entries; the table describes one entry."""


ENCODER: dict[str, Any] = {
    "size": "base",  # tiny | base | large | xl | xxl: fills in what is 0 or "" below
    "vocab_size": 0,
    "hidden": 0,
    "layers": 0,
    "heads": 0,
    "mlp": 0,
    "max_positions": 0,  # 514 in XLM-R: positions start at 2, so 512 are usable
    "norm": "",  # post | pre
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "eps": 1e-5,
    "dtype": "float32",  # of the computation; weights and reductions are float32 always
}

DATA = {
    "source": "files",  # files | hub | tfds | world
    "sources": Open(),  # of single tasks, where it is another: {"ccg": "files"}
    "root": "",  # folder of the original distribution files
    "cache": "",  # tokenised examples; "" = WORKDIR/cache
    "tokenizer": "",  # folder, hub id, or "world"; "" = XLM-R's from the hub, or the world's own; {root} = root
    "world": Open(),
    "options": Open(),  # for the readers, by task: {"udpos": {"fusion": True}}
    "revision": Open(),  # derived: digests of what is read, by split/task
}

TASK = {
    "batch_size": 32,  # examples a step, whatever the packing
    "weight": 0.0,  # fixed share of the steps in a mixture (MLM: 0.2); 0 = its part of the rest, by train.sampling
    "max_length": 0,  # pieces a segment; 0 = the task's own
    "languages": ("en",),
    "limit": 0,  # first so many examples of each language; 0 = all
    "options": Open(),
}

SAMPLING = {
    "kind": "proportional",  # tasks of a mixture: proportional | uniform | temperature | given
    "cap": 0,  # most examples a task counts for; 0 = no cap (Raffel et al. 2020 and the paper: 2**17)
    "temperature": 1.0,  # p ~ min(n, cap) ** (1 / temperature)
    "language_exponent": 1.0,  # languages of a task: p ~ n ** exponent (XLM-R: 0.3); 1 = one shuffled pool
}

TRAIN = {
    "steps": 0,  # wins over epochs; both 0 = evaluation only
    "epochs": 0.0,
    "learning_rate": 1e-5,
    "warmup": 0.1,  # share of the steps if below 1, else steps
    "decay": "linear",  # linear | cosine | constant
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "b1": 0.9,
    "b2": 0.999,
    "eps": 1e-8,
    "accumulate": 1,  # micro-batches a step
    "packing": True,
    "row_length": 0,  # tokens a row; 0 = the longest max_length of the mixture
    "slots": 64,  # most segments a row
    "restarts": 0,  # how often a stage that collapsed is trained again, each time at half the learning rate
    "keep_head": False,  # start from the parent's head where the label spaces match; default: a new head
    "sampling": SAMPLING,
}

EVALUATE = {
    "languages": (),  # () = every language of the task that the source has
    "split": "",  # "" = test if the task has it, else dev
    "limit": 0,
    "options": Open(),
}

SELECT = {
    "every": 0,  # steps between evaluations that choose the checkpoint; 0 = keep the last one
    "examples": 500,  # most dev examples per language
    "patience": 0,  # evaluations without gain until the stage stops; 0 = never
    "tasks": (),  # () = all that are trained, MLM aside; several are judged by the mean of their scores
    "languages": ("en",),  # anything else is not zero-shot
}

SYSTEM = {  # how, never what: no number may depend on it, and no fingerprint does
    "mesh": {"data": -1, "fsdp": 1, "tensor": 1},  # -1 = all remaining devices
    "attention": "auto",  # or one of xtl.models.attention.ATTENTION
    "remat": "auto",
    "scan": 1,  # layers in one step of the scan; 0 unrolls
    "log_every": 50,
    "checkpoint_every": 500,
    "keep": 1,
    "prefetch": 2,
    "eval_rows": 0,  # rows an evaluation batch; 0 = chosen from the lengths
    "compile_cache": "",
    "flags": Open(),  # of the TPU compiler, over the table in xtl/parallel/compiler_flags.py; "" leaves one out
}

STAGE: dict[str, Any] = {
    "name": "",
    "phase": "target",  # mlm | intermediate | target | eval
    "intermediate": "none",  # the condition: a row of the results table
    "seed": 0,
    "start": "scratch",  # scratch | stage:NAME | folder or hub id of a model | xtl checkpoint
    "encoder": ENCODER,
    "data": DATA,
    "tasks": Each(TASK),
    "train": TRAIN,
    "evaluate": Each(EVALUATE),
    "select": SELECT,
    "system": SYSTEM,
}

INHERITED = ("encoder", "data", "system")  # given once for a pipeline; a stage says only what differs

PIPELINE: dict[str, Any] = {
    "name": "",
    "seed": 0,  # added to the seed of every stage
    "encoder": ENCODER,
    "data": DATA,
    "system": SYSTEM,
    "study": Open(),  # the analysis of the results: its name and parameters (xtl/studies/run.py)
    "stages": Each(STAGE),
}

CHOICES = {
    "phase": ("mlm", "intermediate", "target", "eval"),
    "encoder.norm": ("post", "pre"),
    "encoder.dtype": ("float32", "bfloat16"),
    "data.source": ("files", "hub", "tfds", "world"),
    "train.decay": ("linear", "cosine", "constant"),
    "train.sampling.kind": ("proportional", "uniform", "temperature", "given"),
}


# ---------------------------------------------------------------- checking against the table


def check(table: Mapping[str, Any], given: Mapping[str, Any], *, where: str, fill: bool) -> dict[str, Any]:
    """`given` as plain dicts, every key known and every value in its type; with `fill`, defaults for what is not given.

    `where` ("stage mnli") begins every error.
    """
    if isinstance(table, Open):
        return {str(key): _plain(value) for key, value in given.items()}
    if isinstance(table, Each):
        entry = dict(table)
        return {
            str(name): check(entry, _section(value, f"{where}.{name}"), where=f"{where}.{name}", fill=fill)
            for name, value in given.items()
        }
    for key in given:
        if key not in table:
            raise XtlError(f"{where}: unknown key {key!r}.{_home(str(key)) or nearest(str(key), table)}")
    result: dict[str, Any] = {}
    for key, default in table.items():
        path = f"{where}.{key}"
        if isinstance(default, dict):
            if fill or key in given:
                result[key] = check(default, _section(given.get(key, {}), path), where=path, fill=fill)
        elif key in given:
            result[key] = typed(default, given[key], where=path)
        elif fill:
            result[key] = default
    return result


def typed(default: Any, value: Any, *, where: str) -> Any:
    """The value in the type of the default, or an error that says what is wanted."""
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(map(str, value))
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise XtlError(f"{where} must be {_KINDS[kind]}, not {value!r}")


def parsed(default: Any, text: str, *, where: str) -> Any:
    """The value of a command-line override, read in the type of the default."""
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind is tuple:
            return (
                typed((), ast.literal_eval(text), where=where)
                if text[:1] in "(["
                else tuple(filter(None, text.split(",")))
            )
        if kind is int:
            return int(text.replace("_", ""))
        return kind(text)
    except (ValueError, KeyError, SyntaxError):
        raise XtlError(f"{where} must be {_KINDS[kind]}, not {text!r}") from None


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
    tuple: "a list of names, such as ('en', 'de')",
}


def _section(value: Any, where: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping | ConfigDict):
        return value
    raise XtlError(f"{where} is a section with keys of its own, it cannot be {value!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping | ConfigDict):
        return {str(key): _plain(item) for key, item in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def to_config(value: Mapping[str, Any]) -> ConfigDict:
    """A ConfigDict that keeps the order of its keys (the order of stages, of table rows, of tasks), at every depth."""
    config = ConfigDict(sort_keys=False, convert_dict=False)
    for key, item in value.items():
        config[key] = to_config(item) if isinstance(item, Mapping | ConfigDict) else item
    return config


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, default) of every key; an entry of an Each is written as *."""
    for key, default in table.items():
        if isinstance(default, dict) and default:
            yield from leaves(default, f"{prefix}{key}.*." if isinstance(default, Each) else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", default


def _home(key: str) -> str:
    """Where a key that exists, but in another section, belongs."""
    homes = [path for path, _ in leaves(STAGE) if path.endswith(f".{key}")]
    return f" It belongs to {' or '.join(path.removesuffix(f'.{key}') for path in homes)}." if homes else ""
