"""What a stage holds open while it trains, closed in order: checkpoints, signals, log lines, meter, clock, trace."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

import jax
import numpy as np

from xtl import files, logs
from xtl.data.prefetch import prefetched
from xtl.errors import XtlError
from xtl.families import family
from xtl.parallel import multihost
from xtl.tasks import get_task
from xtl.training import checkpoint, faults, handoff, setup, state
from xtl.training.checkpoint import Checkpoints
from xtl.training.evaluation import judge
from xtl.training.events import Logged, Saved
from xtl.training.goodput import Goodput
from xtl.training.meter import Meter
from xtl.training.profiling import StepProfile
from xtl.training.progress import Progress
from xtl.training.selection import Selection, interval
from xtl.training.setup import Material, Run
from xtl.training.state import Params, State

Batch = Mapping[str, np.ndarray]


class Session:
    """The open ends of one training stage. Use as a context manager; leaving it waits for the last save."""

    def __init__(self, run: Run, material: Material, clock: Goodput, *, profile: tuple[int, int] | None = None):
        self.run, self.material, self.clock = run, material, clock
        self.checkpoints = Checkpoints(files.join(run.folder, "checkpoints"), keep=run.stage.system.keep, note=run.note)
        self.trace = StepProfile(profile, files.join(run.folder, "profile"), note=run.note)
        self._closing = contextlib.ExitStack()
        self._compiled: set[tuple[str, tuple[int, ...]]] = set()

    def __enter__(self) -> "Session":
        self._closing.enter_context(self.checkpoints)
        self.asked_to_leave = self._closing.enter_context(multihost.preemption())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._closing.__exit__(kind, error, trace)

    # ------------------------------------------------------------ resume, or start

    def resume(self) -> tuple[State, Progress]:
        """The state to go on from, by one priority: own checkpoint, what the stage starts from, scratch."""
        run, material = self.run, self.material
        restored = self.checkpoints.restore(state.target(run.config, material.heads, run.mesh))
        if restored is not None:
            whole, self.about = restored
            progress = Progress.from_json(self.about["progress"])
        else:
            whole, self.about = self._start()
            select = run.stage.select
            metric = get_task(select.tasks[0]).metric if select.every else ""
            progress = Progress(selection=Selection(metric, select.patience) if select.every else None)
        self.lines = (
            logs.JsonLines(files.join(run.folder, "metrics.jsonl"), resume_after=progress.step)
            if multihost.is_first()
            else None
        )
        run.on_event(setup.started(run, whole, material.stream, step=progress.step, resumed=restored is not None))
        self.meter = Meter(
            run.config,
            predicted=frozenset(name for name, task in material.tasks.items() if family(task).predicted),
            devices=run.mesh.size,
            device_kind=run.mesh.devices.flat[0].device_kind,
            steps=run.stage.train.steps,
            curve=progress.curve,
            faults=progress.faults,
        )
        self.clock.resume(progress.step, outside=self.meter.outside)
        return whole, progress

    def _start(self) -> tuple[State, dict[str, Any]]:
        run, material = self.run, self.material
        whole, source = handoff.start(
            run.source,
            material.tasks,
            config=run.config,
            mesh=run.mesh,
            seed=run.stage.seed,
            tokenizer=run.tokenizer,
            keep_heads=run.stage.train.keep_head,
        )
        for note in source.notes if source else ():
            run.note(note)
        origin = {"start": run.stage.start, **(source.origin if source else {})}
        return whole, setup.description(run, material.tasks, origin)

    # ------------------------------------------------------------ a step

    @contextlib.contextmanager
    def batches(self, progress: Progress) -> Iterator[Iterator[tuple[str, Batch]]]:
        """(task, batch) of every step that is left, assembled ahead by threads that end with the context."""
        stop = progress.step if progress.finished else self.run.stage.train.steps
        ahead = self.run.stage.system.prefetch
        stream = prefetched(self.material.stream, start=progress.step, stop=stop, ahead=ahead)
        with contextlib.closing(stream), self.trace, self.clock("training"):
            yield stream

    @contextlib.contextmanager
    def step(self, number: int, task: str, batch: Batch) -> Iterator[None]:
        """Around the dispatch of step `number` (from 1): compiling is timed apart, nothing is sent implicitly."""
        self.trace.before(number, wait=lambda: self.read(all_steps=True))
        shape = (task, batch["ids_rt"].shape)
        kind = "training" if shape in self._compiled else "compiling"
        self._compiled.add(shape)
        with (
            self.clock(kind),
            self.trace.step(number),
            jax.set_mesh(self.run.mesh),
            jax.transfer_guard("disallow"),  # `place` alone sends anything
        ):
            yield

    def measure(self, step: int, task: str, metrics: Mapping[str, jax.Array]) -> None:
        """Take the metrics of a step that was just dispatched; read those of the one before; log when it is time."""
        self.meter.add(step, task, metrics)
        self.read()
        if (step - 1) % self.run.stage.system.log_every == 0:
            self.log()

    def read(self, *, all_steps: bool = False) -> None:
        """Read the metrics of the steps that are done; report those that were not applied, and stop after too many."""
        for fault in self.meter.read(all_steps=all_steps):
            kept = faults.keep(self.run, self.material, fault)
            system, counts = self.run.stage.system, fault.faults
            what = f"step {fault.step} ({fault.task}): loss {fault.loss}, gradient norm {fault.grad_norm}"
            if counts.in_row >= system.bad_steps or counts.in_all >= system.bad_steps_in_all:
                raise XtlError(
                    f"{what}, number {counts.in_row} in a row and {counts.in_all} in all: lower train.learning_rate, "
                    f"lengthen train.warmup, or look at the batch in {kept}; with a larger system.bad_steps the stage "
                    "goes on from its last checkpoint"
                )
            self.run.note(f"{what}: not applied; its batch is in {kept}")

    def log(self, **more: Any) -> None:
        """Close the meter's open record and write it, if any step was read since the last one."""
        record = self.meter.record()
        if record is None:
            return
        record |= more
        if self.lines is not None:
            self.lines.write(record)
        self.run.on_event(Logged(record["step"], self.run.stage.train.steps, record))

    # ------------------------------------------------------------ evaluate and select, save

    def judged(self, params: Params, progress: Progress) -> tuple[Progress, bool]:
        """The progress after a development evaluation, where one is due, and whether it was the best so far."""
        steps, selection = self.run.stage.train.steps, progress.selection
        if selection is None:
            return progress, False
        if progress.step % interval(self.run.stage.select.every, steps) and progress.step != steps:
            return progress, False
        with self.clock("evaluating"):
            judged, majority = judge(self.run, params, step=progress.step)
        selection, best = selection.seen(progress.step, judged.score)
        judged = replace(judged, best=best)
        self.read(all_steps=True)
        self.log(dev={"score": judged.score, "scores": dict(judged.scores), "best": best})
        self.run.on_event(judged)
        return replace(progress, selection=selection, majority=majority if best else progress.majority), best

    def save(self, whole: State, progress: Progress, *, handoff: bool) -> Progress:
        """Begin a checkpoint. Returns the progress that it holds."""
        self.read(all_steps=True)
        self.log()
        progress = replace(progress, curve=self.meter.curve_so_far(), faults=self.meter.faults)
        with self.clock("saving"):
            if self.lines is not None:
                self.lines.flush()
            about = {**self.about, "progress": progress.as_json()}
            self.checkpoints.save(progress.step, whole, about, handoff=handoff)
        self.clock.mark(progress.step)
        self.run.on_event(Saved(progress.step))
        return progress

    def leave(self) -> None:
        """End the program, as it was asked to, once the save under way is whole."""
        self.checkpoints.wait()
        raise multihost.Preempted

    # ------------------------------------------------------------ hand on

    def hand_on(self, params: Params, progress: Progress) -> tuple[Params, int]:
        """The parameters that the stage hands on (the best, or the last), and the step that they are of."""
        if self.lines is not None:
            self.lines.close()
        with self.clock("saving"):
            self.checkpoints.wait()
        chosen = self.checkpoints.handoff_step
        if chosen is None:
            raise XtlError(
                f"{self.run.folder}/checkpoints: no encoder to hand on; remove the folder to train the stage again"
            )
        if chosen != progress.step:  # an earlier checkpoint was the best
            target = state.target(self.run.config, self.material.heads, self.run.mesh).params
            best = self.checkpoints.path(chosen)
            encoder, heads, _ = checkpoint.load_encoder(best, target.encoder, heads=target.heads)
            params = Params(encoder, heads)
        return params, chosen
