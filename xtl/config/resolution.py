"""From a config as written to stages that can be trained: derived values filled in once, everything checked, locked.

Steps that follow from epochs need the tokenised data; `with_steps` fills them in when the stage runs, and its folder
keeps them.
"""

import graphlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xtl import files
from xtl.config import schema
from xtl.config.fingerprint import Fingerprint, digest, fingerprints, parent_of
from xtl.errors import XtlError, nearest
from xtl.task import Task
from xtl.tasks import catalog, get_task

XLMR_TOKENIZER = "FacebookAI/xlm-roberta-base"
SHAPE = ("vocab_size", "hidden", "layers", "heads", "mlp", "max_positions", "norm")  # what a handoff must keep
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def resolve(config: ConfigDict, *, look: bool = True) -> ConfigDict:
    """The pipeline with every stage complete and valid, locked.

    look=False asks neither the data nor the file system: languages and splits are the catalog's, revisions are empty.
    Raises XtlError, naming the stage and the key, for everything that could be known to fail.
    """
    plain = config.to_dict()
    outer = {key: value for key, value in plain.items() if key != "stages"}
    table = {key: value for key, value in schema.PIPELINE.items() if key != "stages"}
    filled = schema.check(table, outer, where="config", fill=True)
    stages: dict[str, dict[str, Any]] = {}
    for name, fields in plain["stages"].items():
        inherited = {key: _over(filled[key], fields.get(key) or {}) for key in schema.INHERITED}
        stage = schema.check(schema.STAGE, {**fields, **inherited}, where=f"stage {name}", fill=True)
        stage |= {"name": name, "seed": stage["seed"] + filled["seed"]}
        stages[name] = stage
    parents = _parents(stages, look=look)
    for name in graphlib.TopologicalSorter(parents).static_order():
        _derive(stages[name], look=look)
        _check(stages[name], where=f"stage {name}")
        for parent in parents[name]:
            _check_handoff(stages[parent], stages[name])
        _check_heads(stages[name], stages.get(next(iter(parents[name]), "")), where=f"stage {name}")
    _check_one_writer(stages, fingerprints(stages))
    return _locked({"name": filled["name"], "stages": stages})


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _over(result[key], value) if nested else value
    return result


def _locked(value: dict[str, Any]) -> ConfigDict:
    config = schema.to_config(value)
    config.lock()
    return config


# ---------------------------------------------------------------- graph


def _parents(stages: Mapping[str, Mapping[str, Any]], *, look: bool) -> dict[str, tuple[str, ...]]:
    parents: dict[str, tuple[str, ...]] = {}
    for name, stage in stages.items():
        start, where = stage["start"], f"stage {name}: start {stage['start']!r}"
        parent = parent_of(start)
        parents[name] = () if parent is None else (parent,)
        if parent is not None:
            if parent not in stages:
                raise XtlError(f"{where}: there is no such stage.{nearest(parent, stages)}")
            if not stages[parent]["tasks"]:
                raise XtlError(f"{where}: that stage only evaluates and hands no encoder on; start from its own start")
        elif start in stages:
            raise XtlError(f"{where} is a stage: write 'stage:{start}'")
        elif start != "scratch" and look and not files.exists(Path(start).expanduser()) and not HUB_ID.fullmatch(start):
            raise XtlError(f"{where} is neither 'scratch', 'stage:NAME', an existing folder, nor a hub id (owner/name)")
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        raise XtlError(f"stages start from each other in a circle: {' <- '.join(error.args[1])}") from None
    return parents


# ---------------------------------------------------------------- derived values


def _derive(stage: dict[str, Any], *, look: bool) -> None:
    """Fill in what follows from the rest of the stage, the catalog and (with look) the data."""
    where = f"stage {stage['name']}"
    _derive_data(stage["data"])
    _derive_encoder(stage["encoder"], stage["data"], where=where)
    for kind in ("tasks", "evaluate"):
        for name in stage[kind]:
            if name not in catalog():
                raise XtlError(f"{where}.{kind}: unknown task {name!r}.{nearest(name, catalog())}")
    if look:
        _check_tokenizer(stage["data"]["tokenizer"], where=f"{where}.data.tokenizer")
        _check_model(stage["start"], stage["encoder"], where=where)
    source = _Source(stage["data"], look=look)
    for name, entry in stage["tasks"].items():
        task = get_task(name)
        entry["max_length"] = entry["max_length"] or min(task.max_length, stage["encoder"]["max_positions"] - 2)
        entry["languages"] = source.languages(task, "train", entry["languages"], where=f"{where}.tasks.{name}")
    for name, entry in stage["evaluate"].items():
        task = get_task(name)
        entry["split"] = entry["split"] or ("test" if "test" in task.splits else "dev")
        entry["languages"] = source.languages(
            task, entry["split"], entry["languages"], where=f"{where}.evaluate.{name}"
        )
    train, select = stage["train"], stage["select"]
    train["row_length"] = train["row_length"] or max((e["max_length"] for e in stage["tasks"].values()), default=0)
    if train["steps"]:
        train["epochs"] = 0.0  # steps win; one of the two remains, so that equal stages look equal
    read = [("train", name, entry["languages"]) for name, entry in stage["tasks"].items()]
    read += [(entry["split"], name, entry["languages"]) for name, entry in stage["evaluate"].items()]
    if select["every"]:
        judges = select["tasks"] or [n for n in stage["tasks"] if get_task(n).family != "mlm"] or list(stage["tasks"])
        select["tasks"] = tuple(judges)
        for name in judges:
            if name not in catalog():
                raise XtlError(f"{where}.select.tasks: unknown task {name!r}.{nearest(name, catalog())}")
            at = f"{where}.select ({name})"
            select["languages"] = source.languages(get_task(name), "dev", select["languages"], where=at)
            read.append(("dev", name, select["languages"]))
    stage["data"]["revision"] = {
        f"{split}/{name}": source.revision(get_task(name), split, languages) for split, name, languages in read
    }


def _derive_data(data: dict[str, Any]) -> None:
    world = data["source"] == "world"
    data["tokenizer"] = data["tokenizer"] or ("world" if world else XLMR_TOKENIZER)
    if "{root}" in data["tokenizer"] and data["root"]:
        data["tokenizer"] = data["tokenizer"].replace("{root}", data["root"])
    if not world and data["tokenizer"] != "world":
        data["world"] = {}


def _derive_encoder(encoder: dict[str, Any], data: Mapping[str, Any], *, where: str) -> None:
    from xtl.models.encoder import SIZES, encoder_config  # imports JAX, starts no device

    if encoder["size"] not in SIZES:
        raise XtlError(f"{where}.encoder: unknown size {encoder['size']!r}.{nearest(encoder['size'], SIZES)}")
    sized = encoder_config(encoder["size"])
    if not encoder["vocab_size"] and data["tokenizer"] == "world":
        from xtl.data.tokenizer import load_tokenizer

        encoder["vocab_size"] = load_tokenizer("world", data["world"]).vocab_size
    for key, value in encoder.items():
        if not value and key in SHAPE:
            encoder[key] = getattr(sized, key)


class _Source:
    """What the data of one stage holds; without `look`, what the catalog says it should hold."""

    def __init__(self, data: Mapping[str, Any], *, look: bool):
        self.data, self.look = data, look

    def languages(self, task: Task, split: str, wanted: tuple[str, ...], *, where: str) -> tuple[str, ...]:
        """The languages to use: those wanted, or all there are; every one of them must be there."""
        if split not in task.splits:
            raise XtlError(f"{where}: {task.name} has no split {split!r}.{nearest(split, task.splits)}")
        if not self.look and self.data["source"] != "world":
            return wanted or task.languages
        from xtl.data import sources

        place = f"{self.data['source']} {self.data['root']}".rstrip()
        missing = [x for x in wanted if split not in sources.splits_present(task, x, self.data)]
        there = wanted or sources.languages(task, self.data, split=split)
        if missing or not there:
            what = f"in {', '.join(missing)} " if missing else ""
            others = [x for x in sources.languages(task, self.data) if x not in missing] if missing else []
            near = nearest(missing[0], others) if others else ""
            raise XtlError(
                f"{where}: no {split} data {what}under {place}.{near} `xtl data --task={task.name}` says more"
            )
        return tuple(there)

    def revision(self, task: Task, split: str, languages: tuple[str, ...]) -> str:
        """Digest of what will be read of one task; without looking, of how it would be read."""
        if not self.look:
            how = [(self.data.get(key) or {}).get(task.name) for key in ("options", "sources")]
            return digest(how) if any(how) else ""
        from xtl.data import sources

        return digest([sources.revision(task, self.data, language=x, split=split) for x in sorted(languages)])


# ---------------------------------------------------------------- validity


def _check(stage: Mapping[str, Any], *, where: str) -> None:
    """Everything about one stage that needs no other stage."""
    for path, allowed in schema.CHOICES.items():
        value: Any = stage
        for key in path.split("."):
            value = value[key]
        if value not in allowed:
            raise XtlError(f"{where}.{path}: {value!r} is not one of {', '.join(allowed)}.{nearest(value, allowed)}")
    _check_encoder(stage["encoder"], where=f"{where}.encoder")
    train, tasks = stage["train"], stage["tasks"]
    if not tasks and not stage["evaluate"]:
        raise XtlError(f"{where} neither trains nor evaluates: give it tasks or evaluate")
    if tasks and not train["steps"] and not train["epochs"]:
        raise XtlError(f"{where} trains on {', '.join(tasks)} but has neither train.steps nor train.epochs")
    if not tasks and (train["steps"] or train["epochs"]):
        raise XtlError(f"{where} has train.{'steps' if train['steps'] else 'epochs'} but no tasks to train on")
    if not tasks and stage["start"] == "scratch":
        raise XtlError(f"{where} evaluates an untrained encoder; set start to a stage or a model")
    for key in ("steps", "epochs", "warmup", "weight_decay", "clip_norm", "restarts"):
        if train[key] < 0:
            raise XtlError(f"{where}.train.{key} is negative: {train[key]}")
    for key in ("learning_rate", "accumulate", "slots"):
        if train[key] <= 0:
            raise XtlError(f"{where}.train.{key} must be above 0, not {train[key]}")
    most = stage["encoder"]["max_positions"] - 2
    for name, entry in tasks.items():
        at = f"{where}.tasks.{name}"
        if entry["batch_size"] < 1 or entry["batch_size"] % train["accumulate"]:
            raise XtlError(
                f"{at}.batch_size {entry['batch_size']} is not a multiple of accumulate {train['accumulate']}"
            )
        if not 8 <= entry["max_length"] <= most:
            raise XtlError(f"{at}.max_length {entry['max_length']} is outside 8..{most} (the encoder's positions)")
        if entry["max_length"] > train["row_length"]:
            raise XtlError(f"{at}.max_length {entry['max_length']} does not fit train.row_length {train['row_length']}")
        if entry["limit"] < 0 or entry["weight"] < 0:
            raise XtlError(f"{at}: limit and weight cannot be negative")
    for task, entry in stage["evaluate"].items():
        if entry["limit"] and get_task(task).family == "retrieve":
            raise XtlError(f"{where}.evaluate.{task}.limit: retrieval is scored against the whole pool; set it to 0")
    _check_shares(stage, where=where)


def _check_tokenizer(name: str, *, where: str) -> None:
    if name != "world" and not files.exists(Path(name).expanduser()) and not HUB_ID.fullmatch(name):
        raise XtlError(f"{where} {name!r} is neither an existing folder, nor a hub id (owner/name), nor 'world'")


def _check_model(start: str, encoder: Mapping[str, Any], *, where: str) -> None:
    """A Hugging Face folder must hold an encoder of the shape the config says."""
    if not files.exists(Path(start).expanduser() / "config.json"):
        return
    from xtl.models.hf.convert import read_config

    theirs = read_config(Path(start).expanduser())
    for key in SHAPE:
        if encoder[key] != getattr(theirs, key):
            raise XtlError(f"{where}: encoder.{key} is {encoder[key]}, but {getattr(theirs, key)} in {start}")


def _check_encoder(encoder: Mapping[str, Any], *, where: str) -> None:
    for key in ("vocab_size", "hidden", "layers", "heads", "mlp"):
        if encoder[key] < 1:
            raise XtlError(f"{where}.{key} must be at least 1, not {encoder[key]}")
    if encoder["hidden"] % encoder["heads"]:
        raise XtlError(f"{where}: hidden {encoder['hidden']} is not a multiple of heads {encoder['heads']}")
    for key in ("dropout", "attention_dropout"):
        if not 0 <= encoder[key] < 1:
            raise XtlError(f"{where}.{key} must be in [0, 1), not {encoder[key]}")


def _check_shares(stage: Mapping[str, Any], *, where: str) -> None:
    given = [entry["weight"] for entry in stage["tasks"].values() if entry["weight"]]
    if len(stage["tasks"]) < 2:
        return
    if stage["train"]["sampling"]["kind"] == "given" and len(given) < len(stage["tasks"]):
        raise XtlError(f"{where}: sampling kind 'given' needs a weight above 0 for every task")
    if len(given) < len(stage["tasks"]) and sum(given) >= 1:
        raise XtlError(f"{where}: the fixed weights add up to {sum(given):g} and leave nothing for the other tasks")


def heads_for(task: Task, trained: Mapping[str, Any]) -> Iterator[str]:
    """The trained tasks whose head fits a task: itself, the one it trains on, or one with the same labels."""
    for name in trained:
        other = get_task(name)
        same = other.family == task.family and other.labels == task.labels
        if name in (task.name, task.train) or (same and task.family != "mlm"):
            yield name


def _check_heads(stage: Mapping[str, Any], parent: Mapping[str, Any] | None, *, where: str) -> None:
    """Every evaluated task has a head: trained here or, where nothing is trained, in the stage it starts from."""
    if not stage["tasks"] and parent is None:
        return  # a checkpoint knows its own heads
    trained = stage["tasks"] or (parent or {})["tasks"]
    for name in stage["evaluate"]:
        task = get_task(name)
        if task.family != "retrieve" and not any(heads_for(task, trained)):
            raise XtlError(
                f"{where}: evaluating {name} needs a head trained on {task.train or name}; there is one for "
                f"{', '.join(trained)}"
            )


def _check_handoff(parent: Mapping[str, Any], stage: Mapping[str, Any]) -> None:
    for key in SHAPE:
        mine, theirs = stage["encoder"][key], parent["encoder"][key]
        if mine != theirs:
            raise XtlError(
                f"stage {stage['name']}: encoder.{key} is {mine}, but {theirs} in {parent['name']}, its start"
            )
    if stage["data"]["tokenizer"] != parent["data"]["tokenizer"]:
        raise XtlError(
            f"stage {stage['name']}: its data.tokenizer differs from that of {parent['name']}, where it starts"
        )


def _check_one_writer(stages: Mapping[str, Mapping[str, Any]], prints: Mapping[str, Fingerprint]) -> None:
    """Two stages may not fill one folder, nor one place of the results table with different numbers."""
    folders: dict[str, str] = {}
    places: dict[tuple, str] = {}
    for name, stage in stages.items():
        other = folders.setdefault(name.lower(), name)
        if other != name:
            raise XtlError(
                f"stages {other} and {name} differ only in upper and lower case; some file systems mix them up"
            )
        if stage["phase"] not in ("target", "eval"):
            continue
        for task, entry in stage["evaluate"].items():
            for language in entry["languages"]:
                place = (stage["intermediate"], task, entry["split"], language, stage["seed"])
                other = places.setdefault(place, name)
                if other != name and prints[other].full != prints[name].full:
                    raise XtlError(
                        f"stages {other} and {name} write one place of the table (intermediate {place[0]}, "
                        f"target {task}, {language}, seed {stage['seed']}): give one of them another `intermediate`"
                    )


# ---------------------------------------------------------------- steps


def task_weights(stage: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, float]:
    """The share of the steps of each task; `sizes` counts its training examples. Shares add up to 1."""
    sampling, tasks = stage["train"]["sampling"], stage["tasks"]
    fixed = {name: entry["weight"] for name, entry in tasks.items() if entry["weight"]}
    free = [name for name in tasks if name not in fixed]
    capped = {name: min(sizes[name], sampling["cap"] or sizes[name]) for name in free}
    power = {"uniform": 0.0, "temperature": 1 / sampling["temperature"]}.get(sampling["kind"], 1.0)
    raw = {name: capped[name] ** power for name in free}
    rest = 1 - sum(fixed.values())
    shares = fixed | {name: rest * raw[name] / sum(raw.values()) for name in free}
    return {name: shares[name] / sum(shares.values()) for name in tasks}


def with_steps(stage: ConfigDict, sizes: Mapping[str, int]) -> ConfigDict:
    """The stage with train.steps final. One epoch sees every example (up to sampling.cap) of the tasks without a fixed
    weight once; tasks with one (MLM mixed in) take their share on top."""
    train = stage["train"]
    if train["steps"] or not stage["tasks"]:
        return stage
    for name in stage["tasks"]:
        if not sizes[name]:
            raise XtlError(f"stage {stage['name']}: {name} has no training examples; see `xtl data --task={name}`")
    counted = [name for name in stage["tasks"] if not stage["tasks"][name]["weight"]] or list(stage["tasks"])
    cap = train["sampling"]["cap"]
    one = sum(min(sizes[name], cap or sizes[name]) / stage["tasks"][name]["batch_size"] for name in counted)
    others = sum(stage["tasks"][name]["weight"] for name in stage["tasks"] if name not in counted)
    plain = stage.to_dict()
    plain["train"]["steps"] = max(1, math.ceil(round(train["epochs"] * one / (1 - others), 6)))
    return _locked(plain)
