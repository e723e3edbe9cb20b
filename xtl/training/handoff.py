"""The one door for weights: where they come from, which heads come along, and what is known of them afterwards.

A source is a stage of ours, one of its checkpoints, an imported encoder, or a Hugging Face folder or hub id. Which
trained head answers for a task is decided by xtl/families/heads.py; everything that starts from weights asks here:
training, stages that only evaluate, `xtl eval` and `xtl export`, and the vectors of the studies.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from xtl import files
from xtl.config.schema import Encoder, types_of
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.families.heads import Heads, head_for, heads_to_start_from
from xtl.models.encoder import EncoderConfig
from xtl.models.hf.load import load_hf, read_config
from xtl.models.locate import expanded, is_checkpoint
from xtl.task import Task, with_options
from xtl.tasks import get_task
from xtl.training import checkpoint, state
from xtl.training.state import Params, State

Choose = Callable[[Heads], Iterable[str]]  # which of the heads there are to load


@dataclass(frozen=True)
class Handoff:
    """Weights as they were handed on, and where they came from."""

    params: Params
    heads: Heads  # the tasks of params.heads, each with the options it was trained with
    origin: dict[str, Any]  # for the provenance of what starts from it
    left_behind: tuple[str, ...] = ()  # heads that the source has besides
    notes: tuple[str, ...] = ()  # what somebody should know


# ---------------------------------------------------------------- looking


def encoder_section(source: files.Pathish) -> dict[str, Any]:
    """The encoder section of a config for the weights of a source. Reads no array. XtlError if nothing is there."""
    if is_checkpoint(source):
        return dict(checkpoint.describe(checkpoint.find_encoder(expanded(source)))["encoder"])
    if not files.exists(expanded(source)) and expanded(source).count("/") != 1:
        raise XtlError(f"{source}: there is no such checkpoint")
    shape = read_config(expanded(source))
    return {key: getattr(shape, key) for key in types_of(Encoder) if hasattr(shape, key)}


def stored_heads(about: Mapping[str, Any]) -> dict[str, Task]:
    """The heads that a checkpoint's description names, as tasks with the labels and options they were trained with."""
    return {
        name: dataclasses.replace(
            with_options(get_task(name), head["options"]), family=head["family"], labels=tuple(head["labels"])
        )
        for name, head in about.get("heads", {}).items()
    }


def described_heads(heads: Heads, options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """The heads as a checkpoint describes them. options: what a stage gave each task (default: the task's own)."""
    given = {name: task.options for name, task in heads.items()} if options is None else options
    return {
        name: {"family": task.family, "labels": list(task.labels), "options": dict(given[name])}
        for name, task in heads.items()
    }


# ---------------------------------------------------------------- loading


def load(
    source: files.Pathish,
    *,
    config: EncoderConfig,
    mesh: Mesh,
    choose: Choose = lambda heads: (),
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
) -> Handoff:
    """The encoder of a source and the heads that `choose` wants, laid out on the mesh.

    tokenizer: that of whoever asks; an own checkpoint that was trained with another one is an XtlError. seed draws
    what a Hugging Face model lacks. Raises XtlError for weights that are missing, damaged or of another shape.
    """
    if is_checkpoint(source):
        return _from_checkpoint(source, config, mesh, choose, tokenizer)
    return _from_hugging_face(str(source), config, mesh, choose, seed)


def _from_checkpoint(
    source: files.Pathish, config: EncoderConfig, mesh: Mesh, choose: Choose, tokenizer: Tokenizer | None
) -> Handoff:
    path = expanded(source)
    available = stored_heads(checkpoint.describe(checkpoint.find_encoder(path)))
    heads = {name: available[name] for name in choose(available)}
    target = state.target(config, tuple(heads.values()), mesh).params
    encoder, loaded, report = checkpoint.load_encoder(path, target.encoder, heads=target.heads)
    theirs = report.about.get("tokenizer")
    if tokenizer is not None and theirs is not None and theirs != tokenizer.fingerprint:
        raise XtlError(f"{report.folder} was trained with another tokenizer than data.tokenizer names")
    left = report.left_behind
    notes: tuple[str, ...] = ()
    if left:
        notes = (f"encoder of {report.folder}; heads left behind: {', '.join(left)}",)
    origin = {"parent": report.about.get("stage", ""), "weights": report.fingerprint, "kept": list(heads)}
    return Handoff(Params(encoder, loaded), heads, origin, left, notes)


def _from_hugging_face(source: str, config: EncoderConfig, mesh: Mesh, choose: Choose, seed: int) -> Handoff:
    key = jax.random.fold_in(jax.random.key(seed), 0)
    loaded = load_hf(expanded(source), config=config, mesh=mesh, key=key)
    available = {"mlm": get_task("mlm")} if loaded.lm_head is not None else {}
    heads = {name: available[name] for name in choose(available)}
    layout = jax.tree.map(lambda x: x.sharding, state.target(config, tuple(heads.values()), mesh).params)
    kept = {name: jax.device_put(loaded.lm_head, layout.heads[name]) for name in heads}
    left = tuple(name for name in available if name not in heads)
    params = Params(nnx.to_pure_dict(loaded.params), kept)
    return Handoff(params, heads, {"read": loaded.report.read, "kept": list(heads)}, left, (str(loaded.report),))


# ---------------------------------------------------------------- starting


def start(
    source: files.Pathish,
    tasks: Heads,
    *,
    config: EncoderConfig,
    mesh: Mesh,
    seed: int,
    tokenizer: Tokenizer,
    keep_heads: bool = False,
) -> tuple[State, Handoff | None]:
    """A state at step 0 for training on `tasks`: encoder from the source ("scratch": drawn), heads new or kept.

    keep_heads: every task goes on from the head of the source that fits it; an XtlError where none does. Without it
    only MLM does, where the source has its head. The notes of the handoff say which heads are whose.
    """
    heads = tuple(tasks.values())
    if source == "scratch":
        return state.init(config, heads, mesh, seed=seed), None
    wanted: dict[str, str] = {}  # our name of a head: theirs

    def choose(available: Heads) -> Iterable[str]:
        wanted.update(heads_to_start_from(tasks, available, keep=keep_heads, origin=str(source)))
        return dict.fromkeys(wanted.values())

    handoff = load(source, config=config, mesh=mesh, choose=choose, tokenizer=tokenizer, seed=seed)
    kept = {ours: handoff.params.heads[theirs] for ours, theirs in wanted.items()}
    whole = state.init(config, heads, mesh, seed=seed, encoder=handoff.params.encoder, given_heads=kept)
    return whole, dataclasses.replace(handoff, notes=(*handoff.notes, *_of_heads(tasks, wanted, source)))


def _of_heads(tasks: Heads, wanted: Mapping[str, str], source: files.Pathish) -> Iterator[str]:
    """Which tasks go on from a trained head, and which should have but could not."""
    if wanted:
        kept = (ours if ours == theirs else f"{ours} (from {theirs})" for ours, theirs in wanted.items())
        yield f"goes on from the heads of {source}: {', '.join(kept)}"
    for name, task in tasks.items():
        if family(task).head_of_encoder and name not in wanted:
            yield f"{source} has no {name} head: a new one is trained"


def answering(evaluated: Iterable[Task]) -> Choose:
    """Chooses the heads that answer for the tasks to be evaluated; XtlError where one has none."""
    tasks = list(evaluated)

    def choose(available: Heads) -> Iterable[str]:
        names = (head_for(task, available) for task in tasks)
        return dict.fromkeys(name for name in names if name is not None)

    return choose
