"""The graph of stages: what depends on what, what is shared, what is done, what to run next.

Stages with equal fingerprints are one unit of work, also across pipelines under one WORKDIR. A failed unit stops only
what starts from it. Any number of launches may work on one WORKDIR: each unit is trained by one of them.
"""

import contextlib
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xtl import files
from xtl.config.completion import for_run
from xtl.config.fingerprint import fingerprints, parent_of
from xtl.config.schema import Pipeline, Stage, as_dict
from xtl.errors import XtlError, nearest
from xtl.runs import restarts, results
from xtl.runs.events import OnEvent, State, StateChanged, ignore
from xtl.runs.workdir import Status, Workdir, jsonable, now, provenance
from xtl.training import events

Train = Callable[..., Mapping[str, Any] | None]

POLL_SECONDS = 1.0  # between looks at stages that another launch is working on


# ---------------------------------------------------------------- graph


@dataclass(frozen=True)
class Unit:
    """Stages that are equal up to fingerprint: trained once, under the name of the first."""

    fingerprint: str
    training: str
    names: tuple[str, ...]
    stage: Stage
    parents: tuple[str, ...]  # fingerprints

    @property
    def name(self) -> str:
        return self.names[0]


class Graph:
    """A resolved pipeline as units of work, parents before children, otherwise in the order of the config."""

    def __init__(self, pipeline: Pipeline):
        self.name: str = pipeline.name
        self.stages: dict[str, Stage] = dict(pipeline.stages)
        prints = fingerprints(self.stages)
        self.of = {name: prints[name].full for name in self.stages}
        self.units: dict[str, Unit] = {}
        for name in _in_order({name: self.parents(name) for name in self.stages}):
            full, parents = prints[name].full, tuple(self.of[parent] for parent in self.parents(name))
            if full in self.units:
                same = self.units[full]
                self.units[full] = Unit(full, same.training, (*same.names, name), same.stage, same.parents)
            else:
                self.units[full] = Unit(full, prints[name].training, (name,), self.stages[name], parents)

    def parents(self, name: str) -> tuple[str, ...]:
        """Names of the stages that a stage starts from."""
        parent = parent_of(self.stages[name].start)
        return () if parent is None else (parent,)

    def unit(self, name: str) -> Unit:
        if name not in self.of:
            raise XtlError(f"there is no stage {name!r} in pipeline {self.name}.{nearest(name, self.of)}")
        return self.units[self.of[name]]

    def needed(self, names: Iterable[str]) -> list[Unit]:
        """The units of those stages and of everything they start from, in order."""
        wanted: set[str] = set()
        stack = [self.unit(name).fingerprint for name in names]
        while stack:
            fingerprint = stack.pop()
            if fingerprint not in wanted:
                wanted.add(fingerprint)
                stack.extend(self.units[fingerprint].parents)
        return [unit for fingerprint, unit in self.units.items() if fingerprint in wanted]

    def entries(self) -> list[dict[str, Any]]:
        """One plain record a stage, for plan.json."""
        return [
            {
                "name": name,
                "phase": stage.phase,
                "intermediate": stage.intermediate,
                "seed": stage.seed,
                "start": stage.start,
                "parents": list(self.parents(name)),
                "tasks": list(stage.tasks),
                "evaluate": list(stage.evaluate),
                "fingerprint": self.of[name],
                "trained_as": self.unit(name).name,
            }
            for name, stage in self.stages.items()
        ]


def _in_order(parents: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Parents first, otherwise in the order given (resolve has refused circles)."""
    seen: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name not in seen:
            seen.add(name)
            for parent in parents[name]:
                yield from visit(parent)
            yield name

    for name in parents:
        yield from visit(name)


# ---------------------------------------------------------------- running


@dataclass
class Outcome:
    """What became of the wanted stages. `failed` and `blocked` map a stage to the reason."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.failed and not self.blocked


def run(
    graph: Graph,
    workdir: Workdir,
    *,
    only: Iterable[str] = (),
    train: Train | None = None,
    on_event: OnEvent = ignore,
    first: bool = True,
    agree: Callable[[int], int] = lambda choice: choice,
) -> Outcome:
    """Bring every stage (or those in `only`, with what they start from) to "done"; skip what is, resume what was cut.

    train stands for xtl.training.loop.train. on_event takes the name of a stage and an event of xtl/runs/events.py.
    On several hosts every host calls this; the first one decides and writes, `agree` tells its choice to the others.
    """
    units = graph.needed(only or graph.stages)
    work = _Work(graph, workdir, units, on_event)
    if first:
        workdir.write_plan(graph.name, graph.entries())
        results.rebuild(workdir)
    while True:
        with work.claimed() if first else contextlib.nullcontext() as unit:
            index = agree(units.index(unit) if unit is not None else -1)
            if index < 0:
                return work.outcome
            work.attempt(units[index], train=train, writes=first)
        if first:
            workdir.write_plan(graph.name)
            results.rebuild(workdir)


class _Work:
    """What this launch knows of the units it wants done."""

    def __init__(self, graph: Graph, workdir: Workdir, units: list[Unit], on_event: OnEvent):
        self.graph, self.workdir, self.on_event = graph, workdir, on_event
        self.open = {unit.fingerprint: unit for unit in units}
        self.lost: dict[str, str] = {}  # fingerprint -> name of the failed stage behind it
        self.outcome = Outcome()
        self.started = now()

    @contextlib.contextmanager
    def claimed(self) -> Iterator[Unit | None]:
        """The next unit to work on, under its lock; waits for other launches; None when nothing is left to do."""
        while True:
            before = len(self.open)
            for unit in self.ready():
                if self.look(unit):
                    continue
                with self.workdir.claim(unit.fingerprint) as mine:
                    if mine and not self.look(unit):  # it may have ended between the look and the lock
                        yield unit
                        return
            if not self.open:
                yield None
                return
            if len(self.open) == before:
                for unit in self.ready():
                    self.announce(unit, "elsewhere")
                time.sleep(POLL_SECONDS)

    def ready(self) -> list[Unit]:
        """The units whose parents are done. Those behind a failed one are settled as blocked."""
        ready = []
        for unit in list(self.open.values()):
            culprit = next((self.lost[parent] for parent in unit.parents if parent in self.lost), None)
            if culprit is not None:
                self.settle(unit, "blocked", culprit)
            elif not any(parent in self.open for parent in unit.parents):
                ready.append(unit)
        return ready

    def settle(self, unit: Unit, state: State, reason: str = "") -> None:
        """Take a unit off the list, and with a failure everything that starts from it."""
        self.open.pop(unit.fingerprint, None)
        if state == "done":
            self.outcome.done += unit.names
        elif state == "failed":
            self.outcome.failed |= dict.fromkeys(unit.names, reason)
            self.lost[unit.fingerprint] = unit.name
        else:
            self.outcome.blocked |= dict.fromkeys(unit.names, reason)
            self.lost[unit.fingerprint] = reason
        self.announce(unit, state, reason)

    def announce(self, unit: Unit, state: State, reason: str = "") -> None:
        self.on_event(unit.name, StateChanged(state, reason))

    def look(self, unit: Unit) -> bool:
        """Whether the record settles the unit: done, or failed in another launch since this one began."""
        status = self.workdir.status(unit.fingerprint, unit.name)
        if status["state"] == "done":
            self.settle(unit, "done")
        elif status["state"] == "failed" and status.get("finished", 0) > self.started:
            self.settle(unit, "failed", status.get("error", ""))
        else:
            return False
        return True

    def attempt(self, unit: Unit, *, train: Train | None, writes: bool) -> None:
        """Train one unit and put on record how it ended. The caller holds its lock."""
        folder = self.workdir.folder(unit.fingerprint, unit.name)
        status: Status = {
            "state": "running",
            "fingerprint": unit.fingerprint,
            "training": unit.training,
            "parents": {self.graph.units[parent].name: parent for parent in unit.parents},
            "attempt": self.workdir.status(unit.fingerprint, unit.name).get("attempt", 0) + 1,
            "started": now(),
            **provenance(),
        }

        def record(**changes: Any) -> None:
            status.update(changes)
            if writes:
                self.workdir.write_status(folder, status)

        def pass_on(event: events.Event) -> None:
            if isinstance(event, events.Started):
                record(steps=event.steps, devices=event.devices)  # what the epochs came to
            self.on_event(unit.name, event)

        record()
        self.announce(unit, "running")
        try:
            result = self._trained(unit, folder, train or _trainer(), pass_on, writes=writes)
        except Exception as error:
            reason = _one_line(error)
            if writes:
                files.atomic_write(folder / "error.txt", traceback.format_exc())
            record(state="failed", finished=now(), error=reason)
            self.settle(unit, "failed", reason)
        except BaseException:  # Ctrl-C, preemption: the work so far stays, and the next launch goes on from it
            record(state="pending", finished=now())
            self.announce(unit, "pending", "stopped")
            raise
        else:
            finished = now()
            seconds = round(finished - status["started"], 3)
            record(state="done", finished=finished, seconds=seconds, result=jsonable(result))
            if writes:
                _slim(folder)
            self.settle(unit, "done")

    def _trained(
        self, unit: Unit, folder: Path, train: Train, on_event: events.OnEvent, *, writes: bool
    ) -> dict[str, Any]:
        """What training returned, after as many restarts at a lower learning rate as a collapse takes."""
        parents = [self.workdir.folder(parent, self.graph.units[parent].name) for parent in unit.parents]
        while True:
            stage = for_run(unit.stage, cache=str(self.workdir.cache), rate=restarts.rate(folder))
            if writes:
                self.workdir.write_config(folder, as_dict(stage))
            result = train(stage, folder, parent=parents[0] if parents else None, on_event=on_event)
            _verify(stage, folder)
            before = restarts.given_up(folder)
            collapsed = (result or {}).get("collapse")
            if not collapsed or len(before) >= stage.train.restarts:
                return {**(result or {}), "restarts": before} if before else dict(result or {})
            from xtl.parallel import multihost

            multihost.barrier(f"collapsed/{folder}/{len(before)}")  # every host has seen what is on record
            if writes:
                restarts.give_up(stage, folder, collapsed)
            multihost.barrier(f"restarting/{folder}/{len(before)}")
            on_event(events.Note(f"collapsed ({collapsed}): again at half the learning rate"))


def _trainer() -> Train:
    from xtl.training.loop import train

    return train


def _slim(folder: Path) -> None:
    """After "done" is on record: until then a restart goes on from the state that this removes."""
    from xtl.training import checkpoint

    checkpoint.slim(folder / "checkpoints")


def _verify(stage: Stage, folder: Path) -> None:
    """Nothing half-written is taken for done: every language of every evaluated task has its scores."""
    for task, entry in stage.evaluate.items():
        scored = files.read_json(folder / "eval" / f"{task}.json")["languages"]
        missing = [language for language in entry.languages if language not in scored]
        if missing:
            raise XtlError(f"{folder}/eval/{task}.json: no scores for {', '.join(missing)}")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, XtlError) else f"{type(error).__name__}: {text[:300]}"
