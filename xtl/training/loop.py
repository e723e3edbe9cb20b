"""One stage: set up, resume, loop, hand the encoder on, evaluate. The only training loop there is.

    train(stage, folder, parent=folder_of_the_stage_it_starts_from)

`stage` is one resolved stage (xtl/config/schema.py). Everything it does is in `folder` and can be cut off at any
moment: calling again with the same arguments goes on from the last checkpoint and ends with the same bits.
"""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from xtl import files, logs
from xtl.config.schema import Stage
from xtl.parallel import multihost
from xtl.training import optim, state
from xtl.training.evaluation import evaluate_finished, evaluate_only
from xtl.training.events import Done, OnEvent, ignore
from xtl.training.goodput import Goodput
from xtl.training.progress import Progress
from xtl.training.selection import collapse
from xtl.training.session import Session
from xtl.training.setup import Run, gather, prepare
from xtl.training.step import place


def train(
    stage: Stage,
    folder: files.Pathish,
    *,
    parent: files.Pathish | None = None,
    mesh: Mesh | None = None,
    profile: tuple[int, int] | None = None,
    on_event: OnEvent = ignore,
) -> dict[str, Any]:
    """Train, hand on and evaluate one stage; returns what became of it (for status.json).

    parent: the folder of the stage that `stage.start` names. mesh: default is stage.system.mesh over all devices.
    profile: the first and the last step to trace for xprof, into folder/profile. on_event: takes the events of
    xtl/training/events.py, on every host. Raises XtlError for what cannot work, multihost.Preempted after a SIGTERM
    (the state is saved).
    """
    clock = Goodput(folder if multihost.is_first() else None)
    run = prepare(stage, folder, parent=parent, mesh=mesh, on_event=on_event)
    if not stage.tasks:
        return evaluate_only(run)
    run, material = gather(run)
    steps, every = run.stage.train.steps, run.stage.system.checkpoint_every
    hyper, seed = jax.device_put((optim.hyper(run.stage.train), np.uint32(run.stage.seed)), state.everywhere(run.mesh))

    with Session(run, material, clock, profile=profile) as session:
        whole, progress = session.resume()

        # Order of a step: fetch, step, log (the step before), evaluate and select, save, leave. The device is waited
        # for only where it must be: at an evaluation and at a save.
        with session.batches(progress) as batches:
            for task, batch in batches:
                with session.step(progress.step + 1, task, batch):
                    stepped, metrics = material.steps[task](whole.only(task), place(batch, run.mesh), hyper, seed)
                whole, progress = whole.updated(stepped), replace(progress, step=progress.step + 1)
                session.measure(progress.step, task, metrics)

                progress, improved = session.judged(whole.params, progress)
                selection = progress.selection
                exhausted = selection is not None and selection.exhausted
                progress = replace(progress, finished=progress.step == steps or exhausted)

                leave = session.asked_to_leave(progress.step)
                if improved or progress.finished or leave or progress.step % every == 0:
                    # The best checkpoint is handed on or, where nothing is selected, the last.
                    last = progress.finished and selection is None
                    progress = session.save(whole, progress, handoff=improved or last)
                if leave:
                    session.leave()
                if progress.finished:
                    break

        params, chosen = session.hand_on(whole.params, progress)
        whole = stepped = None  # type: ignore[assignment]  # the optimizer's memory is free for evaluation

    with clock("evaluating"):
        averages = evaluate_finished(run, params)
    clock.mark(progress.step)
    result = {
        "steps": progress.step,
        "handoff": f"checkpoints/{chosen}",
        "parameters": state.count_parameters(params),
        **_totals(run),
        "selection": progress.selection and progress.selection.as_json(),
        "collapse": _collapse(run, progress, session.meter.losses()),
        "goodput": clock.summary(),
        "evaluations": averages,
    }
    on_event(Done(result))
    return result


def _totals(run: Run) -> dict[str, float]:
    """Examples, tokens and seconds of training, over all starts of the stage."""
    records = logs.read_lines(files.join(run.folder, "metrics.jsonl"))
    totals = {"examples": "examples", "tokens": "tokens", "training_seconds": "seconds"}
    return {name: sum(record[key] for record in records) for name, key in totals.items()}


def _collapse(run: Run, progress: Progress, losses: list[float]) -> str:
    """Why the stage looks collapsed; "" if it does not."""
    # A loss that starts low has no need to fall: a kept head, or MLM going on.
    may_start_low = run.stage.train.keep_head or "mlm" in run.stage.tasks
    return collapse([] if may_start_low else losses, majority=progress.majority)
