"""`xtl plan --watch`: the live picture of a run that goes on in other processes, read from its WORKDIR.

Nothing is told to the run and nothing is asked of it: states come from status.json and the locks, progress from
metrics.jsonl. Attach and leave at any time, from any machine that sees the folder.
"""

import time
from collections.abc import Callable, Iterator

from xtl import files, logs
from xtl.cli.display import Display
from xtl.runs.pipeline import Event, Graph, Unit
from xtl.runs.workdir import Workdir

EVERY_SECONDS = 2.0
ENDED = ("done", "failed")


class Watcher:
    """Turns what changes under a WORKDIR into the events that the run itself reports."""

    def __init__(self, graph: Graph, workdir: Workdir):
        self.graph, self.workdir = graph, workdir
        self.states: dict[str, str] = {}
        self.read: dict[str, int] = {}  # records of metrics.jsonl that were told

    def poll(self) -> Iterator[Event]:
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
                yield {"kind": "stage", "stage": unit.name, "state": state, "reason": reason}
            self.states[unit.name] = state

    def _progress(self, unit: Unit, steps: int, *, fresh: bool) -> Iterator[Event]:
        if fresh:
            yield {"kind": "stage", "stage": unit.name, "state": "running"}
            yield {"kind": "start", "stage": unit.name, "step": 0, "steps_total": steps or unit.stage.train.steps}
            self.read[unit.name] = 0
        path = files.join(self.workdir.folder(unit.fingerprint, unit.name), "metrics.jsonl")
        if not files.exists(path):
            return
        records = logs.read_lines(path)
        told = self.read[unit.name] if self.read[unit.name] <= len(records) else 0  # shorter: it was resumed
        self.read[unit.name] = len(records)
        for record in records[told:]:
            if "dev" in record:
                yield {"kind": "select", "stage": unit.name, "step": record["step"], **record["dev"]}
        if records[told:]:
            yield {"kind": "log", "stage": unit.name, "steps_total": steps or unit.stage.train.steps, **records[-1]}

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
            for event in watcher.poll():
                display(event)
            if watcher.over:
                return watcher.states
            sleep(EVERY_SECONDS)
