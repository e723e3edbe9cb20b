"""Validity of resolved stages: each alone, against the stage it starts from, and all of a pipeline together.

Every error names the stage and the key.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from xtl import files
from xtl.config.fingerprint import Fingerprint
from xtl.config.schema import Encoder, Stage, Train, TrainedTask
from xtl.errors import XtlError
from xtl.families import family
from xtl.families.heads import head_for, kept_head
from xtl.models.locate import is_checkpoint
from xtl.task import Task, with_options
from xtl.tasks import get_task

SHAPE = ("vocab_size", "hidden", "layers", "heads", "mlp", "max_positions", "norm")  # what a handoff must keep
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SHORTEST = 8  # pieces per segment: specials, and something to read

# ---------------------------------------------------------------- one stage


def check_stage(stage: Stage) -> None:
    """Everything about one stage that needs no other stage."""
    where = f"stage {stage.name}"
    _check_encoder(stage.encoder, where=f"{where}.encoder")
    _check_purpose(stage, where=where)
    _check_train(stage.train, where=f"{where}.train")
    for name, entry in stage.tasks.items():
        _check_task(entry, stage, where=f"{where}.tasks.{name}")
    for name, evaluated in stage.evaluate.items():
        if evaluated.limit and family(get_task(name)).whole_pool:
            raise XtlError(f"{where}.evaluate.{name}.limit: retrieval is scored against the whole pool; set it to 0")
    _check_shares(stage, where=where)


def _check_encoder(encoder: Encoder, *, where: str) -> None:
    for key in ("vocab_size", "hidden", "layers", "heads", "mlp"):
        if getattr(encoder, key) < 1:
            raise XtlError(f"{where}.{key} must be at least 1, not {getattr(encoder, key)}")
    if encoder.hidden % encoder.heads:
        raise XtlError(f"{where}: hidden {encoder.hidden} is not a multiple of heads {encoder.heads}")
    for key in ("dropout", "attention_dropout"):
        if not 0 <= getattr(encoder, key) < 1:
            raise XtlError(f"{where}.{key} must be in [0, 1), not {getattr(encoder, key)}")


def _check_purpose(stage: Stage, *, where: str) -> None:
    train = stage.train
    if not stage.tasks and not stage.evaluate:
        raise XtlError(f"{where} neither trains nor evaluates: give it tasks or evaluate")
    if stage.tasks and not train.steps and not train.epochs:
        raise XtlError(f"{where} trains on {', '.join(stage.tasks)} but has neither train.steps nor train.epochs")
    if not stage.tasks and (train.steps or train.epochs):
        raise XtlError(f"{where} has train.{'steps' if train.steps else 'epochs'} but no tasks to train on")
    if not stage.tasks and stage.start == "scratch":
        raise XtlError(f"{where} evaluates an untrained encoder; set start to a stage or a model")


def _check_train(train: Train, *, where: str) -> None:
    for key in ("steps", "epochs", "warmup", "weight_decay", "clip_norm", "restarts"):
        if getattr(train, key) < 0:
            raise XtlError(f"{where}.{key} is negative: {getattr(train, key)}")
    for key in ("learning_rate", "accumulate", "slots"):
        if getattr(train, key) <= 0:
            raise XtlError(f"{where}.{key} must be above 0, not {getattr(train, key)}")


def _check_task(entry: TrainedTask, stage: Stage, *, where: str) -> None:
    train, longest = stage.train, stage.encoder.max_positions - 2
    if entry.batch_size < 1 or entry.batch_size % train.accumulate:
        raise XtlError(f"{where}.batch_size {entry.batch_size} is not a multiple of accumulate {train.accumulate}")
    if not SHORTEST <= entry.max_length <= longest:
        raise XtlError(
            f"{where}.max_length {entry.max_length} is outside {SHORTEST}..{longest} (the encoder's positions)"
        )
    if entry.max_length > train.row_length:
        raise XtlError(f"{where}.max_length {entry.max_length} does not fit train.row_length {train.row_length}")
    if entry.limit < 0 or entry.weight < 0:
        raise XtlError(f"{where}: limit and weight cannot be negative")


def _check_shares(stage: Stage, *, where: str) -> None:
    weights = [entry.weight for entry in stage.tasks.values() if entry.weight]
    if len(stage.tasks) < 2:
        return
    if stage.train.sampling.kind == "given" and len(weights) < len(stage.tasks):
        raise XtlError(f"{where}: sampling kind 'given' needs a weight above 0 for every task")
    if len(weights) < len(stage.tasks) and sum(weights) >= 1:
        raise XtlError(f"{where}: the fixed weights add up to {sum(weights):g} and leave nothing for the other tasks")


def check_tokenizer(name: str, *, where: str) -> None:
    """A tokenizer must be a folder that exists, a hub id, or the world's."""
    if name != "world" and not files.exists(Path(name).expanduser()) and not HUB_ID.fullmatch(name):
        raise XtlError(f"{where} {name!r} is neither an existing folder, nor a hub id (owner/name), nor 'world'")


def check_model(start: str, encoder: Encoder, *, where: str) -> None:
    """A Hugging Face folder must hold an encoder of the shape the config says."""
    if is_checkpoint(start) or not files.exists(Path(start).expanduser() / "config.json"):
        return
    from xtl.models.hf.load import read_config  # imports JAX

    theirs = read_config(Path(start).expanduser())
    for key in SHAPE:
        if getattr(encoder, key) != getattr(theirs, key):
            ours = getattr(encoder, key)
            raise XtlError(f"{where}: encoder.{key} is {ours}, but {getattr(theirs, key)} in {start}")


# ---------------------------------------------------------------- a stage and the one it starts from


def check_handoff(parent: Stage, stage: Stage) -> None:
    """Encoder shape and tokenizer are the parent's."""
    for key in SHAPE:
        ours, theirs = getattr(stage.encoder, key), getattr(parent.encoder, key)
        if ours != theirs:
            raise XtlError(f"stage {stage.name}: encoder.{key} is {ours}, but {theirs} in {parent.name}, its start")
    if stage.data.tokenizer != parent.data.tokenizer:
        raise XtlError(f"stage {stage.name}: its data.tokenizer differs from that of {parent.name}, where it starts")


def check_heads(stage: Stage, parent: Stage | None) -> None:
    """Every evaluated task has one head: trained here or, where nothing is trained, in the stage it starts from; and
    every head that is kept has one to go on from."""
    if stage.tasks and parent is not None and stage.train.keep_head:
        for task in _trained(stage).values():
            try:
                kept_head(task, _trained(parent), origin=parent.name)
            except XtlError as error:
                raise XtlError(f"stage {stage.name}: {error}") from None
    trains = stage if stage.tasks else parent
    if trains is None:
        return  # a checkpoint knows its own heads
    for name in stage.evaluate:
        try:
            head_for(get_task(name), _trained(trains))
        except XtlError as error:
            raise XtlError(f"stage {stage.name}: evaluate.{name}: {error}") from None


def _trained(stage: Stage) -> dict[str, Task]:
    """The tasks that leave a head, with the options they are trained with."""
    return {name: with_options(get_task(name), entry.options) for name, entry in stage.tasks.items()}


# ---------------------------------------------------------------- all stages


def check_one_writer(stages: Mapping[str, Stage], prints: Mapping[str, Fingerprint]) -> None:
    """Two stages may not fill one folder, nor one place of the results table with different numbers."""
    folders: dict[str, str] = {}
    places: dict[tuple[str, str, str, str, int], str] = {}
    for name, stage in stages.items():
        other = folders.setdefault(name.lower(), name)
        if other != name:
            raise XtlError(
                f"stages {other} and {name} differ only in upper and lower case; some file systems mix them up"
            )
        if stage.phase not in ("target", "eval"):
            continue
        for task, entry in stage.evaluate.items():
            for language in entry.languages:
                place = (stage.intermediate, task, entry.split, language, stage.seed)
                other = places.setdefault(place, name)
                if other != name and prints[other].full != prints[name].full:
                    raise XtlError(
                        f"stages {other} and {name} write one place of the table (intermediate {place[0]}, "
                        f"target {task}, {language}, seed {stage.seed}): give one of them another `intermediate`"
                    )
