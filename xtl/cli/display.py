"""The live picture of a run: the graph with the state of every stage, progress, loss, speed, time left, scores.

`Board` keeps what is known and is fed with events; `picture` draws it (a pure function of board, size and time); on a
terminal `Display` redraws it in place, elsewhere it prints one line an event. Only the first process shows anything.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table as Grid
from rich.text import Text

from xtl import files
from xtl.logs import duration, human
from xtl.runs.events import Event, StateChanged
from xtl.runs.pipeline import Graph, Unit
from xtl.runs.workdir import Workdir
from xtl.training import events

MARKS = {  # state -> (mark, style)
    "waiting": ("○", "bright_black"),
    "pending": ("○", "bright_black"),
    "running": ("●", "cyan"),
    "elsewhere": ("◐", "yellow"),
    "done": ("✔", "green"),
    "failed": ("✘", "bold red"),
    "blocked": ("⊘", "red"),
}


@dataclass
class Progress:
    """What is known of one unit of work."""

    state: str = "waiting"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    seconds: float | None = None  # it took, once done
    started: float | None = None
    note: str = ""  # what it is doing beside training, or why it failed
    score: str = ""


@dataclass
class Board:
    """The state of every unit of a graph, kept up to date by events."""

    graph: Graph
    workdir: Workdir
    wanted: set[str]  # names of the units this launch is to finish
    clock: Callable[[], float] = time.time
    progress: dict[str, Progress] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self.clock()
        for unit in self.graph.units.values():
            self.progress[unit.name] = Progress(steps=unit.stage.train.steps)

    def unit(self, name: str) -> Unit:
        return self.graph.unit(name)

    def take(self, stage: str, event: Event) -> None:
        """Learn from one event of a stage."""
        one = self.progress[stage]
        match event:
            case StateChanged(state=state, reason=reason):
                one.state, one.note = state, reason
                if state == "running":
                    one.started, one.note = self.clock(), "starting"
                elif state == "done":
                    self._finished(one, self.unit(stage))
            case events.Started(step=step, steps=steps, devices=devices):
                one.step, one.steps, one.note = step, steps, f"{devices}, compiling".lstrip(", ")
            case events.Logged(step=step, steps=steps, record=record):
                one.step, one.steps, one.note = step, steps, ""
                one.loss = record.get("loss", one.loss)
                one.tokens_per_second = record.get("tokens_per_second", one.tokens_per_second)
                if record.get("seconds_per_step"):
                    one.seconds_left = (steps - step) * record["seconds_per_step"]
            case events.Judged(step=step, score=score, scores=scores):
                one.step, one.score = step, f"dev {score:.1f}"
                if len(scores) > 1:
                    one.score += f" ({' '.join(f'{x} {each:.1f}' for x, each in scores.items())})"
            case events.Evaluated(task=task, language=language):
                one.note = f"evaluated {task} {language}"
            case events.Saved(step=step):
                one.step = step
            case events.Note(text=text):
                one.note = text.splitlines()[0]

    def _finished(self, one: Progress, unit: Unit) -> None:
        """Time and scores of a finished unit, from its folder: it may have been done long ago, or by another launch."""
        status = self.workdir.status(unit.fingerprint, unit.name)
        one.seconds, one.note = status.get("seconds"), ""
        one.step = one.steps = (status.get("result") or {}).get("steps", one.steps)
        one.score = " ".join(self.scores(unit))

    def scores(self, unit: Unit) -> Iterator[str]:
        """`xnli 71.3/54.2`: English and the average of the other languages, for every evaluated task."""
        folder = self.workdir.folder(unit.fingerprint, unit.name) / "eval"
        for task in unit.stage.evaluate:
            if files.exists(folder / f"{task}.json"):
                yield f"{task} {english_and_others(files.read_json(folder / f'{task}.json'))}"

    def counts(self) -> dict[str, int]:
        """Units of this launch by state."""
        counts: dict[str, int] = {}
        for name in self.wanted:
            state = self.progress[name].state
            counts[state] = counts.get(state, 0) + 1
        return counts

    def seconds_left(self) -> float | None:
        """Until the last target: what runs at its own speed, what waits as long as its likes took (or, while there are
        none, as all that is done); None if nothing is done yet."""
        took: dict[str, list[float]] = {}
        for unit in self.graph.units.values():
            one = self.progress[unit.name]
            if one.seconds is not None:
                for key in _likes(unit):
                    took.setdefault(key, []).append(one.seconds)
        total = 0.0
        for name in self.wanted:
            one = self.progress[name]
            if one.state in ("done", "failed", "blocked"):
                continue
            if one.state == "running" and one.seconds_left is not None:
                total += one.seconds_left
                continue
            alike = next((took[key] for key in _likes(self.unit(name)) if key in took), None)
            alike = alike or [one.seconds for one in self.progress.values() if one.seconds is not None]
            if not alike:
                return None
            spent = self.clock() - one.started if one.started and one.state == "running" else 0.0
            total += max(0.0, sum(alike) / len(alike) - spent)
        return total


def _likes(unit: Unit) -> tuple[str, str]:
    """Stages that take about as long: the same work, else the same phase."""
    stage = unit.stage
    return f"{sorted(stage.tasks)} {sorted(stage.evaluate)}", stage.phase


def english_and_others(report: Mapping[str, Any]) -> str:
    """`71.3/54.2` from an eval/*.json: the main metric in English / averaged over the other languages."""
    metric = report["metric"]
    scores = {x: s[metric] for x, s in report["languages"].items() if metric in s}
    others = [value for language, value in scores.items() if language != "en"]
    parts = [scores["en"]] if "en" in scores else []
    parts += [sum(others) / len(others)] if others else []
    return "/".join(f"{part:.1f}" for part in parts)


# ---------------------------------------------------------------- drawing


def picture(board: Board, *, width: int, height: int) -> RenderableType:
    """The whole picture: a headline and the graph as a tree, folded where it would not fit the height."""
    lines, right = list(tree(board.graph)), WIDE if width >= 100 else NARROW
    longest = max(len(prefix) + len(unit.name) + 6 for unit, prefix in lines)
    name = min(longest, 40 if width >= 100 else 26)
    middle = max(8, min(width - name - sum(right.values()) - len(right) - 2, 56))
    grid = Grid(box=None, padding=(0, 1, 0, 0), collapse_padding=True, pad_edge=False, header_style="bright_black")
    grid.add_column("stage", width=name, no_wrap=True, overflow="ellipsis")
    grid.add_column("", width=middle, no_wrap=True, overflow="ellipsis")
    for head, size in right.items():
        grid.add_column(head, width=size, no_wrap=True, justify="right", overflow="crop")
    for cells in _fold(lines, board, room=max(4, height - 5), middle=middle):
        grid.add_row(*cells)
    return Group(_headline(board), Text(), grid)


WIDE = {"step": 13, "loss": 6, "tokens/s": 8, "time": 10}  # columns of numbers and their widths
NARROW = {"step": 9, "loss": 5, "tok/s": 5, "time": 10}


def _headline(board: Board) -> Text:
    counts, left = board.counts(), board.seconds_left()
    parts = [f"{counts.get('done', 0)} of {len(board.wanted)} stages done"]
    parts += [f"{counts[state]} {state}" for state in ("running", "elsewhere", "failed", "blocked") if state in counts]
    parts.append(f"{duration(board.clock() - board.began)} so far")
    if left:
        parts.append(f"about {duration(left)} left")
    line = Text(board.graph.name, style="bold", no_wrap=True, overflow="ellipsis")
    return line.append(f"  {' · '.join(parts)}", "not bold").append(
        f"  in {board.workdir.path}", "not bold bright_black"
    )


def tree(graph: Graph) -> Iterator[tuple[Unit, str]]:
    """(unit, the lines of the tree before it), depth first; a unit stands below the one it starts from."""
    units = graph.units
    children: dict[str, list[Unit]] = {"": []}
    for unit in units.values():
        children.setdefault(unit.parents[0] if unit.parents else "", []).append(unit)

    def walk(parent: str, prefix: str) -> Iterator[tuple[Unit, str]]:
        mine = children.get(parent, [])
        for i, unit in enumerate(mine):
            last = i == len(mine) - 1
            yield unit, prefix + ("" if not parent else "└ " if last else "├ ")
            yield from walk(unit.fingerprint, prefix + ("" if not parent else "  " if last else "│ "))

    yield from walk("", "")


def _fold(lines: list[tuple[Unit, str]], board: Board, *, room: int, middle: int) -> Iterator[list[RenderableType]]:
    """The lines that fit: what runs or failed and what is around it first; the rest is counted in one line a gap."""
    keep = set(range(len(lines)))
    if len(lines) > room:
        busy = [i for i, (unit, _) in enumerate(lines) if board.progress[unit.name].state in ("running", "failed")]
        near = sorted(keep, key=lambda i: (min((abs(i - j) for j in busy), default=i), i))
        keep = set(near[: max(3, room - 2 * max(1, len(busy)))])
    hidden: list[Unit] = []
    for i, (unit, prefix) in enumerate(lines):
        if i in keep:
            if hidden:
                yield _gap(hidden, board)
                hidden = []
            yield _row(unit, prefix, board, middle)
        else:
            hidden.append(unit)
    if hidden:
        yield _gap(hidden, board)


def _gap(hidden: list[Unit], board: Board) -> list[RenderableType]:
    states: dict[str, int] = {}
    for unit in hidden:
        state = board.progress[unit.name].state
        states[state] = states.get(state, 0) + 1
    return [Text(f"⋮ {', '.join(f'{n} {state}' for state, n in states.items())}", style="bright_black")]


_SPINNER = Spinner("dots", style="cyan")


def _row(unit: Unit, prefix: str, board: Board, middle_width: int) -> list[RenderableType]:
    one = board.progress[unit.name]
    mark, style = MARKS[one.state]
    if one.state == "running":
        frame = _SPINNER.render(time.time())
        mark = frame.plain if isinstance(frame, Text) else mark
    faint = "bright_black" if one.state in ("waiting", "pending") or unit.name not in board.wanted else ""
    name = Text(prefix, style="bright_black").append(f"{mark} ", style).append(unit.name, faint or "default")
    if len(unit.names) > 1:
        name.append(f" ×{len(unit.names)}", "bright_black")
    steps = str(one.steps or "")
    if one.state == "running":
        middle: RenderableType = Text(one.note, style="cyan")
        if one.steps and not one.note:
            bar = max(6, middle_width - len(one.score) - 1 if one.score else middle_width)
            middle = Grid.grid(padding=(0, 1, 0, 0))
            middle.add_row(
                ProgressBar(one.steps, one.step, bar, complete_style="cyan", finished_style="cyan"), one.score
            )
        steps = f"{one.step}/{one.steps}" if one.steps else ""
        clock = f"{duration(one.seconds_left)} left" if one.seconds_left is not None and not one.note else ""
        if not clock and one.started:
            clock = duration(board.clock() - one.started)
    elif one.state in ("failed", "blocked"):
        middle = Text(one.note if one.state == "failed" else f"needs {one.note}", style=style)
        clock = ""
    elif one.state == "elsewhere":
        middle, clock = Text("in another launch", style=style), ""
    else:
        middle = Text(one.score if one.state == "done" else purpose(unit), style=faint or "default")
        clock = duration(one.seconds) if one.seconds is not None else ""
    speed = (
        human(float(f"{one.tokens_per_second:.3g}")).strip() if one.tokens_per_second and one.state == "running" else ""
    )
    loss = f"{one.loss:.3f}" if one.loss is not None else ""
    return [name, middle, *(Text(cell, style=faint) for cell in (steps, loss, speed, clock))]


def purpose(unit: Unit) -> str:
    """What a stage is for: `mnli → xnli`."""
    stage = unit.stage
    trained, evaluated = "+".join(stage.tasks), ", ".join(stage.evaluate)
    return " → ".join(filter(None, [trained, evaluated if evaluated != trained else ""]))


# ---------------------------------------------------------------- showing


class Display:
    """Shows a run while it lasts: `with Display(graph, workdir) as show: run(..., on_event=show)`."""

    def __init__(
        self,
        graph: Graph,
        workdir: Workdir,
        *,
        wanted: list[Unit] | None = None,
        stream: TextIO | None = None,
        first: bool = True,
    ):
        names = {unit.name for unit in (graph.units.values() if wanted is None else wanted)}
        self.board = Board(graph, workdir, names)
        self.console = Console(file=stream or sys.stderr, quiet=not first)
        self.live = self.console.is_terminal and first
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> "Display":
        if self.live:
            self._live = Live(get_renderable=self._draw, console=self.console, refresh_per_second=5)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, stage: str, event: Event) -> None:
        """Take an event of a stage."""
        with self._lock:
            self.board.take(stage, event)
            if not self.live:
                for line in plain(stage, event, self.board):
                    self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        with self._lock:
            return picture(self.board, width=self.console.width, height=self.console.height)


def plain(stage: str, event: Event, board: Board) -> Iterator[str]:
    """The lines that an event is worth where nothing can be redrawn; `board` has taken it already."""
    head = f"{time.strftime('%H:%M:%S', time.localtime(board.clock()))}  {stage:<{_name_width(board)}}"
    for line in _lines(stage, event, board):
        yield f"{head}  {line}".rstrip()


def _lines(stage: str, event: Event, board: Board) -> Iterator[str]:
    one = board.progress[stage]
    match event:
        case StateChanged(state=state) if state != "elsewhere":
            yield _state_line(state, one, board, board.unit(stage))
        case events.Started(devices=devices) if devices:
            yield ", ".join(filter(None, _start_parts(event)))
            for task, shapes in event.batches.items():
                yield f"{task}: {' or '.join(shapes)}"
        case events.Logged(record=record):
            yield "  ".join(_log_parts(record, one))
        case events.Judged(best=best):
            yield f"step {one.step}/{one.steps}  {one.score}{' (best so far)' if best else ''}"
        case events.Note(text=text):
            yield from text.splitlines()


def _state_line(state: str, one: Progress, board: Board, unit: Unit) -> str:
    detail = {
        "running": purpose(unit),
        "done": " ".join(filter(None, [one.score, duration(one.seconds) if one.seconds is not None else ""])),
        "failed": one.note,
        "blocked": f"needs {one.note}",
    }.get(state, one.note)
    tail = f"  [{board.counts().get('done', 0)}/{len(board.wanted)}]" if state == "done" else ""
    return f"{state:<8}  {detail}".rstrip() + tail


def _start_parts(event: events.Started) -> Iterator[str]:
    yield f"{event.steps} steps"
    yield f"resumed at step {event.step}" if event.resumed else ""
    yield event.devices
    yield f"mesh {'x'.join(map(str, event.mesh.values()))}" if event.mesh else ""


def _log_parts(record: Mapping[str, Any], one: Progress) -> Iterator[str]:
    yield f"step {one.step:>{len(str(one.steps))}}/{one.steps}"
    yield f"loss {record['loss']:.4f}"
    if record.get("learning_rate") is not None:
        yield f"lr {record['learning_rate']:.2e}"
    if record.get("tokens_per_second"):
        yield f"{human(record['tokens_per_second']).strip()} tok/s"
    if record.get("mfu") is not None:
        yield f"MFU {100 * record['mfu']:.1f}%"
    if one.seconds_left is not None:
        yield f"left {duration(one.seconds_left)}"


def _name_width(board: Board) -> int:
    return min(32, max(len(name) for name in board.progress))
