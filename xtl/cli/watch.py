"""`xtl plan --watch`: the live picture of a run that goes on in other processes, read from its WORKDIR.

The run is neither written to nor asked: states come from status.json and the locks, progress from
metrics.jsonl. Attach and leave at any time, from any machine that sees the folder.
"""

import time
from collections.abc import Callable, Iterator

from xtl import files, logs
from xtl.cli.display import Display
from xtl.runs.events import Event, StateChanged
from xtl.runs.pipeline import Graph, Unit
from xtl.runs.workdir import Workdir
from xtl.training import events

EVERY_SECONDS = 2.0
ENDED = ("done", "failed")


class Watcher:
    """Turns what changes under a WORKDIR into the events that the run itself reports."""

    def __init__(self, graph: Graph, workdir: Workdir):
        self.graph, self.workdir = graph, workdir
        self.states: dict[str, str] = {}
        self.read: dict[str, int] = {}  # records of metrics.jsonl that were reported

    def poll(self) -> Iterator[tuple[str, Event]]:
        """The events since the last call."""
        known = self.workdir.folders()
        for unit in self.graph.units.values():
            if self.states.get(unit.name) == "done":
                continue
            status = self.workdir.status(unit.fingerprint, unit.name, known=known)
            state = status["state"]
            if state == "running" and not self.workdir.held(unit.fingerprint):
                state = "pending"  # its launch is dead; the next one goes on from its last checkpoint
            if state == "running":
                yield from self._progress(unit, status.get("steps", 0), fresh=self.states.get(unit.name) != state)
            elif state != self.states.get(unit.name):
                reason = status.get("error", "") or ("stopped" if status.get("started") and state == "pending" else "")
                yield unit.name, StateChanged(state, reason)
            self.states[unit.name] = state

    def _progress(self, unit: Unit, steps: int, *, fresh: bool) -> Iterator[tuple[str, Event]]:
        steps = steps or unit.stage.train.steps
        if fresh:
            yield unit.name, StateChanged("running")
            yield unit.name, events.Started(step=0, steps=steps)
            self.read[unit.name] = 0
        path = files.join(self.workdir.folder(unit.fingerprint, unit.name), "metrics.jsonl")
        if not files.exists(path):
            return
        records = logs.read_lines(path)
        known = self.read[unit.name] if self.read[unit.name] <= len(records) else 0  # shorter: it was resumed
        self.read[unit.name] = len(records)
        for record in records[known:]:
            if "dev" in record:
                yield unit.name, events.Judged(step=record["step"], **record["dev"])
        if records[known:]:
            yield unit.name, events.Logged(records[-1]["step"], steps, records[-1])

    @property
    def over(self) -> bool:
        """Whether nothing will change any more, unless something is launched again."""
        return not any(state == "running" for state in self.states.values()) and all(
            state in ENDED for state in self.states.values()
        )


def watch(
    graph: Graph, workdir: Workdir, *, show: Display | None = None, sleep: Callable[[float], None] = time.sleep
) -> dict[str, str]:
    """Show the run until every stage is done or has failed; returns the state of each unit by name."""
    watcher = Watcher(graph, workdir)
    with show or Display(graph, workdir) as display:
        while True:
            for stage, event in watcher.poll():
                display(stage, event)
            if watcher.over:
                return watcher.states
            sleep(EVERY_SECONDS)
