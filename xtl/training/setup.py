"""From a resolved stage to what its loop works with: mesh, encoder, tokenizer, batches, compiled steps."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from xtl import __version__, files
from xtl.config.completion import task_weights, with_steps
from xtl.config.schema import Stage, as_dict
from xtl.data import order
from xtl.data.batches import TrainStream, TrainTask
from xtl.data.rows import Encoded
from xtl.data.tokenizer import Tokenizer, load_tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.models.encoder import EncoderConfig
from xtl.parallel import multihost
from xtl.parallel.chips import chip_of, compiler_flags
from xtl.parallel.mesh import make_mesh
from xtl.task import Task, with_options
from xtl.tasks import get_task
from xtl.training import state
from xtl.training.evaluator import Evaluator, encoded_part
from xtl.training.events import Note, OnEvent, Started, ignore
from xtl.training.handoff import described_heads
from xtl.training.state import State
from xtl.training.step import build_train_step

SECOND_SHAPE = 2000  # steps from which a second compile for smaller batches pays


@dataclass(frozen=True)
class Run:
    """One stage on this machine: what training, judging and evaluating it have in common."""

    stage: Stage
    folder: files.Pathish
    source: files.Pathish  # where its weights come from: the parent's folder, or what stage.start names
    mesh: Mesh
    config: EncoderConfig
    tokenizer: Tokenizer
    evaluator: Evaluator
    on_event: OnEvent

    def note(self, text: str) -> None:
        """Report something unusual."""
        self.on_event(Note(text))


def prepare(
    stage: Stage,
    folder: files.Pathish,
    *,
    parent: files.Pathish | None = None,
    mesh: Mesh | None = None,
    on_event: OnEvent = ignore,
) -> Run:
    """The stage on this machine. XtlError for a tokenizer that the encoder's vocabulary cannot hold."""
    if stage.system.compile_cache:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(stage.system.compile_cache))
    config, tokenizer = state.encoder_config(stage), load_tokenizer(stage.data.tokenizer, stage.data.world)
    if tokenizer.vocab_size > config.vocab_size:
        raise XtlError(f"stage {stage.name}: {tokenizer.vocab_size} pieces do not fit vocab_size={config.vocab_size}")
    mesh = make_mesh(vars(stage.system.mesh)) if mesh is None else mesh
    return Run(
        stage=stage,
        folder=folder if files.is_remote(folder) else Path(folder),
        source=stage.start if parent is None else parent,
        mesh=mesh,
        config=config,
        tokenizer=tokenizer,
        evaluator=Evaluator(
            config,
            mesh,
            tokenizer,
            stage.data,
            head_options={name: dict(entry.options) for name, entry in stage.tasks.items()},
            eval_rows=stage.system.eval_rows,
            ahead=stage.system.prefetch,
        ),
        on_event=on_event,
    )


# ---------------------------------------------------------------- what is trained on


@dataclass(frozen=True)
class Material:
    """The tasks of a training stage, their batches, and the compiled step of each."""

    tasks: Mapping[str, Task]
    stream: TrainStream
    steps: Mapping[str, Callable[..., tuple[State, dict[str, jax.Array]]]]  # by task

    @property
    def heads(self) -> tuple[Task, ...]:
        """The tasks whose heads the state holds."""
        return tuple(self.tasks.values())


def gather(run: Run) -> tuple[Run, Material]:
    """Tokenise (or open the cache), count, plan batches; the run's stage then has its final number of steps."""
    tasks = {name: with_options(get_task(name), entry.options) for name, entry in run.stage.tasks.items()}
    parts = {name: training_parts(task, run) for name, task in tasks.items()}
    stage = with_steps(run.stage, {name: sum(map(len, parts[name])) for name in tasks})
    run = replace(run, stage=stage)
    kind = chip_of(run.mesh.devices.flat[0].device_kind)
    flags = tuple(sorted(compiler_flags(kind, stage.system.flags).items()))
    steps = {name: build_train_step(run.config, task, run.mesh, flags) for name, task in tasks.items()}
    return run, Material(tasks, build_stream(run, tasks, parts), steps)


def training_parts(task: Task, run: Run) -> list[Encoded]:
    """The encoded training examples of a task, one part per language."""
    entry = run.stage.tasks[task.name]
    encode = functools.partial(
        encoded_part,
        data=run.stage.data,
        tokenizer=run.tokenizer,
        max_length=entry.max_length,
        limit=entry.limit,
        train=True,
    )
    return [encode(task, language, "train") for language in entry.languages]


def build_stream(run: Run, tasks: Mapping[str, Task], parts: Mapping[str, list[Encoded]]) -> TrainStream:
    """The batches of the stage by step, as this host sees them."""
    train = run.stage.train
    sizes = {name: [len(part) for part in parts[name]] for name in tasks}
    shares = task_weights(run.stage, {name: sum(sizes[name]) for name in tasks})
    exponent = train.sampling.language_exponent
    mixture = [
        TrainTask(
            name=name,
            family=family(task),
            parts=parts[name],
            batch_size=run.stage.tasks[name].batch_size,
            row_length=train.row_length if train.packing else run.stage.tasks[name].max_length,
            weight=shares[name],
            language_weights=order.exponent_weights(sizes[name], exponent).tolist() if exponent != 1 else None,
        )
        for name, task in tasks.items()
    ]
    return TrainStream(
        mixture,
        steps=train.steps,
        seed=run.stage.seed,
        tokenizer=run.tokenizer,
        packed=train.packing,
        slots=train.slots,
        accumulate=train.accumulate,
        shards=run.mesh.shape["data"] * run.mesh.shape["fsdp"],
        shapes=1 if train.steps < SECOND_SHAPE else 2,
        host=multihost.row_slice(run.mesh),
    )


# ---------------------------------------------------------------- descriptions


def description(run: Run, tasks: Mapping[str, Task], origin: Mapping[str, Any]) -> dict[str, Any]:
    """What every checkpoint of the stage says of itself, beside its progress."""
    return {
        "stage": run.stage.name,
        "encoder": as_dict(run.stage.encoder),
        "heads": described_heads(tasks, {name: entry.options for name, entry in run.stage.tasks.items()}),
        "tokenizer": run.tokenizer.fingerprint,
        "origin": dict(origin),
        "xtl": __version__,
        "jax": jax.__version__,
    }


def started(run: Run, whole: State, stream: TrainStream, *, step: int, resumed: bool) -> Started:
    """Devices, sizes and batches of a stage that begins, or goes on after `step` steps."""
    mesh = run.mesh
    return Started(
        step=step,
        steps=run.stage.train.steps,
        resumed=resumed,
        devices=f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        mesh=dict(mesh.shape),
        hosts=jax.process_count(),
        parameters=state.count_parameters(whole.params),
        state_bytes_per_device=sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(whole)),
        batches={
            task.name: tuple(
                f"{shape.rows} rows x {shape.length} tokens x {shape.slots} slots, {shape.examples} examples"
                for shape in shapes
            )
            for task, shapes in zip(stream.tasks, stream.shapes, strict=True)
        },
    )
