"""One stage: set up, resume, loop, hand the encoder on, evaluate. The only training loop there is.

    train(stage, folder, parent=folder_of_the_stage_it_starts_from)

`stage` is one resolved stage (xtl.config.resolution). Everything it does is in `folder` and can be cut off at any
moment: calling again with the same arguments goes on from the last checkpoint and ends with the same bits.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from xtl import __version__, files, logs
from xtl.config import schema
from xtl.config.completion import task_weights, with_steps
from xtl.config.schema import Stage
from xtl.data import order
from xtl.data.batches import TrainStream, TrainTask
from xtl.data.prefetch import prefetched
from xtl.data.tokenizer import Tokenizer, load_tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.families.heads import same_labels
from xtl.models.encoder import EncoderConfig
from xtl.parallel import multihost
from xtl.parallel.chips import chip_of, compiler_flags
from xtl.parallel.mesh import make_mesh
from xtl.task import Task, with_options
from xtl.tasks import get_task
from xtl.training import checkpoint, optim, state
from xtl.training.checkpoint import Checkpoints
from xtl.training.evaluator import (
    Evaluated,
    encoded_part,
    evaluate,
    evaluate_stage,
    evaluation_length,
)
from xtl.training.goodput import Goodput
from xtl.training.meter import Meter
from xtl.training.profiling import StepProfile
from xtl.training.selection import Selection, collapse, majority_share
from xtl.training.step import build_train_step, place

Tree = Any
OnEvent = Callable[[dict[str, Any]], None]

SECOND_SHAPE = 2000  # steps from which a second compile for smaller batches pays
LABELLED = ("pair", "choice", "tag")  # families whose predictions are a few labels: they can collapse onto one


def train(
    stage: Stage,
    folder: files.Pathish,
    *,
    parent: files.Pathish | None = None,
    mesh: Mesh | None = None,
    profile: tuple[int, int] | None = None,
    on_event: OnEvent = lambda event: None,
) -> dict[str, Any]:
    """Train, hand on and evaluate one stage; returns what became of it (for status.json).

    parent: the folder of the stage that `stage.start` names. mesh: default is stage.system.mesh over all devices.
    profile: the first and the last step to trace for xprof, into folder/profile.
    on_event receives {"kind": "start" | "log" | "eval" | "save" | "note" | "done", ...} on every host.
    Raises XtlError for what cannot work, multihost.Preempted after a SIGTERM (the state is saved).
    """
    # ---------------------------------------------------------------- set up: config, data, steps
    folder = Path(folder) if not files.is_remote(folder) else folder
    if stage.system.compile_cache:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(stage.system.compile_cache))
    clock = Goodput(folder if multihost.is_first() else None)
    mesh = make_mesh(vars(stage.system.mesh)) if mesh is None else mesh
    config, tokenizer = state.encoder_config(stage), load_tokenizer(stage.data.tokenizer, stage.data.world)
    if tokenizer.vocab_size > config.vocab_size:
        raise XtlError(f"stage {stage.name}: {tokenizer.vocab_size} pieces do not fit vocab_size={config.vocab_size}")
    run = _Run(stage, folder, parent, mesh, config, tokenizer, on_event)
    if not stage.tasks:
        return _evaluate_only(run)
    tasks = {name: with_options(get_task(name), entry.options) for name, entry in stage.tasks.items()}
    heads = tuple(tasks.values())
    parts = {name: _training_parts(task, run) for name, task in tasks.items()}
    stage = run.stage = with_steps(stage, {name: sum(map(len, parts[name])) for name in tasks})
    steps = stage.train.steps
    stream = _stream(run, tasks, parts)
    kind = chip_of(mesh.devices.flat[0].device_kind)
    flags = tuple(sorted(compiler_flags(kind, stage.system.flags).items()))
    step_of = {name: build_train_step(config, task, mesh, flags) for name, task in tasks.items()}
    hyper, seed = jax.device_put((optim.hyper(stage.train), np.uint32(stage.seed)), state.everywhere(mesh))
    select = stage.select if stage.select.every else None
    keep = stage.system.keep
    trace = StepProfile(profile, files.join(folder, "profile"), note=run.note)

    with (
        Checkpoints(files.join(folder, "checkpoints"), keep=keep, note=run.note) as checkpoints,
        multihost.preemption() as told_to_leave,
    ):
        # ------------------------------------------------------------ resume, or start
        # One priority: own checkpoint, parent stage, pretrained weights, scratch.
        found = checkpoints.restore(state.target(config, heads, mesh))
        if found is not None:
            whole, about = found
            done, finished = about["progress"]["step"], about["progress"]["finished"]
            selection, majority = about["progress"]["selection"], about["progress"]["majority"]
            selection = selection and Selection.from_json(selection)
        else:
            whole, origin = _start(run, heads)
            about = _about(run, tasks, origin)
            done, finished, majority = 0, False, None
            selection = select and Selection(get_task(select.tasks[0]).metric, select.patience)
        lines = logs.JsonLines(files.join(folder, "metrics.jsonl"), resume_after=done) if multihost.is_first() else None
        on_event(_start_event(run, whole, stream, done=done, steps=steps, resumed=found is not None))

        meter = Meter(
            config,
            predicted=frozenset(name for name, task in tasks.items() if task.family == "mlm"),
            devices=mesh.size,
            device_kind=mesh.devices.flat[0].device_kind,
            steps=steps,
            curve=about["progress"].get("curve") if found is not None else None,
        )
        clock.resume(done, outside=meter.outside)

        def log(**more: Any) -> None:
            record = meter.record()
            if record is not None:
                record |= more
                if lines is not None:
                    lines.write(record)
                on_event({"kind": "log", "steps_total": steps, **record})

        # ------------------------------------------------------------ loop
        # Order of a step: fetch, step, log (the step before), evaluate and select, save, leave. The device is waited
        # for only where it must be: at an evaluation and at a save.
        compiled: set[tuple] = set()
        batches = prefetched(stream, start=done, stop=done if finished else steps, ahead=stage.system.prefetch)
        with contextlib.closing(batches), trace, clock("training"):
            for task, batch in batches:
                trace.before(done + 1, wait=lambda: meter.read(all_steps=True))
                known = (task, batch["ids_rt"].shape) in compiled
                compiled.add((task, batch["ids_rt"].shape))
                with (
                    clock("training" if known else "compiling"),
                    trace.step(done + 1),
                    jax.set_mesh(mesh),
                    jax.transfer_guard("disallow"),  # `place` alone sends anything
                ):
                    stepped, metrics = step_of[task](state.with_head(whole, task), place(batch, mesh), hyper, seed)
                whole, done = state.merged(whole, stepped), done + 1

                meter.add(done, task, metrics)
                meter.read()
                if (done - 1) % stage.system.log_every == 0:
                    log()

                improved = False
                if select and (done % select.every == 0 or done == steps):
                    with clock("evaluating"):
                        dev, share = _judge(run, whole["params"])
                    selection, improved = selection.seen(done, dev["score"])
                    majority = share if improved else majority
                    dev["best"] = improved
                    meter.read(all_steps=True)
                    log(dev=dev)
                    on_event({"kind": "select", "step": done, **dev})

                finished = done == steps or bool(selection and selection.exhausted)
                leave = told_to_leave(done)
                if improved or finished or leave or done % stage.system.checkpoint_every == 0:
                    meter.read(all_steps=True)  # nothing is saved after a loss that is not finite
                    log()
                    about["progress"] = {
                        "step": done,
                        "finished": finished,
                        "selection": selection and selection.as_json(),
                        "majority": majority,
                        "curve": [list(part) for part in meter.curve],  # saved in the background
                    }
                    with clock("saving"):
                        if lines is not None:
                            lines.flush()
                        checkpoints.save(done, whole, about, handoff=improved or (finished and not selection))
                    clock.mark(done)
                    on_event({"kind": "save", "step": done})
                if leave:
                    checkpoints.wait()
                    raise multihost.Preempted
                if finished:
                    break

        # ------------------------------------------------------------ hand on
        if lines is not None:
            lines.close()
        with clock("saving"):
            checkpoints.wait()
        chosen = checkpoints.handoff_step
        if chosen is None:
            raise XtlError(f"{folder}/checkpoints: no encoder to hand on; remove the folder to train the stage again")
        params, whole, stepped = whole["params"], None, None  # the optimizer's memory is free for evaluation
        if chosen != done:  # an earlier checkpoint was the best
            target = state.target(config, heads, mesh)["params"]
            best = checkpoints.path(chosen)
            encoder, trained, _ = checkpoint.load_encoder(best, target["encoder"], heads=target["heads"])
            params = {"encoder": encoder, "heads": trained}

    # ---------------------------------------------------------------- evaluate
    with clock("evaluating"):
        options = {name: dict(entry.options) for name, entry in stage.tasks.items()}
        averages = _evaluate(run, params, head_options=options)
    clock.mark(done)
    records = logs.read_lines(files.join(folder, "metrics.jsonl"))
    # A loss that starts low has no need to fall: a kept head, or MLM going on.
    losses = [] if stage.train.keep_head or "mlm" in stage.tasks else meter.losses()
    result = {
        "steps": done,
        "handoff": f"checkpoints/{chosen}",
        "parameters": state.count_parameters(params),
        "examples": sum(record["examples"] for record in records),
        "tokens": sum(record["tokens"] for record in records),
        "training_seconds": sum(record["seconds"] for record in records),
        "selection": selection and selection.as_json(),
        "collapse": collapse(losses, majority=majority),
        "goodput": clock.summary(),
        "evaluations": averages,
    }
    on_event({"kind": "done", **result})
    return result


# ---------------------------------------------------------------- what a stage is made of


@dataclasses.dataclass
class _Run:
    """What the parts of `train` share."""

    stage: Stage
    folder: files.Pathish
    parent: files.Pathish | None
    mesh: Mesh
    config: EncoderConfig
    tokenizer: Tokenizer
    on_event: OnEvent

    def note(self, text: str) -> None:
        self.on_event({"kind": "note", "text": text})


def _training_parts(task: Task, run: _Run) -> list[Any]:
    """The encoded training examples of a task, one part a language."""
    entry = run.stage.tasks[task.name]
    return [
        encoded_part(
            task,
            language,
            "train",
            data=run.stage.data,
            tokenizer=run.tokenizer,
            max_length=entry.max_length,
            limit=entry.limit,
            options=entry.options,
            train=True,
        )
        for language in entry.languages
    ]


def _stream(run: _Run, tasks: Mapping[str, Task], parts: Mapping[str, list[Any]]) -> TrainStream:
    settings = run.stage.train
    sizes = {name: [len(part) for part in parts[name]] for name in tasks}
    shares = task_weights(run.stage, {name: sum(sizes[name]) for name in tasks})
    exponent = settings.sampling.language_exponent
    mixture = [
        TrainTask(
            name=name,
            family=family(task),
            parts=parts[name],
            batch_size=run.stage.tasks[name].batch_size,
            row_length=settings.row_length if settings.packing else run.stage.tasks[name].max_length,
            weight=shares[name],
            language_weights=order.exponent_weights(sizes[name], exponent).tolist() if exponent != 1 else None,
        )
        for name, task in tasks.items()
    ]
    return TrainStream(
        mixture,
        steps=settings.steps,
        seed=run.stage.seed,
        tokenizer=run.tokenizer,
        packed=settings.packing,
        slots=settings.slots,
        accumulate=settings.accumulate,
        shards=run.mesh.shape["data"] * run.mesh.shape["fsdp"],
        shapes=1 if settings.steps < SECOND_SHAPE else 2,
        host=multihost.row_slice(run.mesh),
    )


def _judge(run: _Run, params: Tree) -> tuple[dict[str, Any], float | None]:
    """The bounded development sample that selection goes by: ({"score", "scores"}, share of the majority label).

    Several tasks are judged by the mean of their scores, as jiant does; `scores` are then by task, else by language.
    The share is that of the task that least looks collapsed; None when no task predicts a few labels.
    """
    judged = [_judged(run, params, get_task(name)) for name in run.stage.select.tasks]
    for one in judged:
        if one.average is None:
            raise XtlError(f"select.tasks {one.task.name}: dev of {one.unlabelled[0]} has no labels")
    averages = {one.task.name: one.average or 0.0 for one in judged}
    by_language = {language: values[judged[0].task.metric] for language, values in judged[0].scores.items()}
    dev = {
        "score": sum(averages.values()) / len(averages),
        "scores": by_language if len(judged) == 1 else averages,
    }
    labelled = [one.predictions.values() for one in judged if one.task.family in LABELLED]
    return dev, min((majority_share([p for each in given for p in each]) for given in labelled), default=None)


def _judged(run: _Run, params: Tree, task: Task) -> Evaluated:
    select, stage = run.stage.select, run.stage
    return evaluate(
        params,
        config=run.config,
        task=task,
        languages=select.languages,
        split="dev",
        data=stage.data,
        tokenizer=run.tokenizer,
        mesh=run.mesh,
        max_length=evaluation_length(task, stage),
        limit=select.examples,
        head_options={name: dict(entry.options) for name, entry in stage.tasks.items()},
        eval_rows=stage.system.eval_rows,
        ahead=stage.system.prefetch,
    )


def _evaluate(run: _Run, params: Tree, *, head_options: Mapping[str, Any]) -> dict[str, float | None]:
    """The stage's evaluations; the averages by task."""
    return evaluate_stage(
        params,
        run.stage,
        run.folder,
        mesh=run.mesh,
        tokenizer=run.tokenizer,
        head_options=head_options,
        on_event=run.on_event,
    )


# ---------------------------------------------------------------- where weights come from


def _start(run: _Run, heads: tuple[Task, ...]) -> tuple[Tree, dict[str, Any]]:
    """(state at step 0, provenance) by `stage.start`; heads are new unless train.keep_head."""
    stage, keep = run.stage, run.stage.train.keep_head
    if stage.start == "scratch":
        return state.init(run.config, heads, run.mesh, seed=stage.seed), {"start": "scratch"}
    path = run.parent if run.parent is not None else os.path.expanduser(stage.start)
    target = state.target(run.config, heads, run.mesh)["params"]
    if _is_ours(path):
        about = checkpoint.describe(checkpoint.find_encoder(path))
        wanted = {task.name: _kept_head(task, about, path) for task in heads} if keep else {}
        given = {theirs: target["heads"][ours] for ours, theirs in wanted.items()}
        encoder, loaded, origin = _load(run, path, target["encoder"], given)
        kept = {ours: loaded[theirs] for ours, theirs in wanted.items()}
    else:
        encoder, kept, origin = _load_hugging_face(run, str(path), heads, target)
    whole = state.init(run.config, heads, run.mesh, seed=stage.seed, encoder=encoder, given_heads=kept)
    return whole, {"start": stage.start, **origin}


def _is_ours(path: files.Pathish) -> bool:
    """Whether a path holds xtl checkpoints, rather than naming a Hugging Face model."""
    return any(files.exists(files.join(path, name)) for name in ("checkpoints", "encoder", "_METADATA"))


def _load(
    run: _Run, path: files.Pathish, encoder: Tree, heads: Mapping[str, Tree]
) -> tuple[Tree, dict[str, Tree], dict[str, Any]]:
    """(encoder, heads, provenance) of a handoff; its tokenizer must be ours."""
    params, loaded, report = checkpoint.load_encoder(path, encoder, heads=heads)
    theirs = report.about.get("tokenizer")
    if theirs is not None and theirs != run.tokenizer.fingerprint:
        ours = run.stage.data.tokenizer
        raise XtlError(f"stage {run.stage.name}: {report.folder} was trained with another tokenizer than {ours}")
    if report.left_behind:
        run.note(f"encoder of {report.folder}; heads left behind: {', '.join(report.left_behind)}")
    return params, loaded, {"parent": report.about.get("stage", ""), "weights": report.fingerprint, "kept": list(heads)}


def _kept_head(task: Task, about: Mapping[str, Any], path: files.Pathish) -> str:
    """Which of a handoff's heads a task goes on from: its own, or the only one with the same family and labels."""
    theirs = about["heads"]
    fitting = [n for n, head in theirs.items() if (head["family"], tuple(head["labels"])) == (task.family, task.labels)]
    if task.name not in fitting and len(fitting) != 1:
        raise XtlError(f"train.keep_head: {path} has no head for {task.name} (it has: {', '.join(theirs) or 'none'})")
    name = task.name if task.name in fitting else fitting[0]
    kind = with_options(get_task(name), theirs[name]["options"]).options.get("head")
    if kind != task.options.get("head"):  # the same weights in other layers would be another model
        raise XtlError(
            f"train.keep_head: the head {name} of {path} was trained with options.head={kind or 'default'}: "
            f"give {task.name} the same"
        )
    return name


def _load_hugging_face(
    run: _Run, source: str, heads: tuple[Task, ...], target: Tree
) -> tuple[Tree, dict[str, Tree], dict[str, Any]]:
    from xtl.models.hf import convert

    key = jax.random.fold_in(jax.random.key(run.stage.seed), 0)
    loaded = convert.load_hf(source, config=run.config, mesh=run.mesh, key=key)
    run.note(str(loaded.report))
    kept = {}
    if run.stage.train.keep_head:
        if loaded.lm_head is None or any(task.family != "mlm" for task in heads):
            raise XtlError(f"train.keep_head: {source} has {'only an MLM head' if loaded.lm_head else 'no head'}")
        layout = jax.tree.map(lambda x: x.sharding, target["heads"])
        kept = {task.name: jax.device_put(loaded.lm_head, layout[task.name]) for task in heads}
    return nnx.to_pure_dict(loaded.params), kept, {"read": loaded.report.read}


def _about(run: _Run, tasks: Mapping[str, Task], origin: Mapping[str, Any]) -> dict[str, Any]:
    """What every checkpoint of the stage says of itself."""
    return {
        "stage": run.stage.name,
        "encoder": schema.as_dict(run.stage.encoder),
        "heads": {
            name: {"family": task.family, "labels": list(task.labels), "options": dict(run.stage.tasks[name].options)}
            for name, task in tasks.items()
        },
        "tokenizer": run.tokenizer.fingerprint,
        "origin": dict(origin),
        "xtl": __version__,
        "jax": jax.__version__,
    }


# ---------------------------------------------------------------- stages that only evaluate


def _evaluate_only(run: _Run) -> dict[str, Any]:
    """The encoder (and heads, where its tasks have some) of `start`, evaluated as it is."""
    stage, path = run.stage, run.parent if run.parent is not None else os.path.expanduser(run.stage.start)
    evaluated = [get_task(name) for name in stage.evaluate]
    head_options: dict[str, Any] = {}
    if _is_ours(path):
        about = checkpoint.describe(checkpoint.find_encoder(path))
        head_options = {name: head["options"] for name, head in about.get("heads", {}).items()}
        theirs = [with_options(get_task(name), options) for name, options in head_options.items()]
        needed = tuple(
            task
            for task in theirs
            if any(task.name in (one.name, one.train) or same_labels(task, one) for one in evaluated)
        )
        target = state.target(run.config, needed, run.mesh)["params"]
        encoder, heads, origin = _load(run, path, target["encoder"], target["heads"])
    else:
        target = state.target(run.config, (), run.mesh)["params"]
        encoder, heads, origin = _load_hugging_face(run, str(path), (), target)
    params = {"encoder": encoder, "heads": heads}
    run.on_event({"kind": "start", "steps_total": 0, "step": 0, "parameters": state.count_parameters(params)})
    averages = _evaluate(run, params, head_options=head_options)
    result = {"steps": 0, "origin": origin, "parameters": state.count_parameters(params), "evaluations": averages}
    run.on_event({"kind": "done", **result})
    return result


def _start_event(
    run: _Run, whole: Tree, stream: TrainStream, *, done: int, steps: int, resumed: bool
) -> dict[str, Any]:
    """The screen that answers most questions before they are asked."""
    first = jax.tree.leaves(run.mesh.devices.tolist())[0]
    per_device = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(whole))
    return {
        "kind": "start",
        "step": done,
        "steps_total": steps,
        "resumed": resumed,
        "devices": f"{run.mesh.size} x {first.device_kind}",
        "mesh": dict(run.mesh.shape),
        "hosts": jax.process_count(),
        "parameters": state.count_parameters(whole["params"]),
        "state_bytes_per_device": per_device,
        "batches": {
            task.name: [
                f"{shape.rows} rows x {shape.length} tokens x {shape.slots} slots, {shape.examples} examples"
                for shape in shapes
            ]
            for task, shapes in zip(stream.tasks, stream.shapes, strict=True)
        },
    }
