"""`xtl compile --tune`: the fastest way to run a training step that fits, found by compiling few layers.

One knob is changed at a time, in the order of SEARCH, and what is better is kept (two rounds at most). A candidate is
compiled with two and with four layers; the difference is one pair of layers, and time and memory of the whole depth
follow on a line. What cannot fit, or is already slower with two layers, is dropped before the second compile. Whatever
was compiled once is kept in the cache. The best candidate is compiled at full depth at the end; if that does not fit,
the next best is.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as Grid

from xtl import files
from xtl.aot import compile as aot
from xtl.aot import steps
from xtl.cli import main as cli
from xtl.config.fingerprint import digest
from xtl.errors import XtlError
from xtl.models.encoder import EncoderConfig
from xtl.parallel.chips import Topology
from xtl.parallel.compiler_flags import compiler_flags
from xtl.parallel.mesh import make_mesh

FEW, MORE = 2, 4  # layers of the two small compiles
FULL = 0.97  # share of HBM that a prediction may take; the compile at full depth decides
SLOWER = 1.15  # times the best time an example with few layers: not worth the second compile


@dataclass(frozen=True)
class Choice:
    """One way to run a step."""

    rows: int  # on each device
    data: int
    fsdp: int
    tensor: int
    remat: str
    scan: int
    attention: str
    flags: str  # "table" or "none"

    def overrides(self, chip: str) -> list[str]:
        """As flags of the command line; without the chip's flag table, each of its flags is left out by name."""
        left_out = compiler_flags(chip) if self.flags == "none" else {}
        system = {"remat": self.remat, "scan": self.scan, "attention": self.attention}
        mesh = {"data": self.data, "fsdp": self.fsdp, "tensor": self.tensor}
        return [
            *(f"--config.system.mesh.{name}={value}" for name, value in mesh.items()),
            *(f"--config.system.{name}={value}" for name, value in system.items()),
            *(f"--config.system.flags.{name}=" for name in left_out),
        ]


@dataclass(frozen=True)
class Trial:
    """What is predicted of a choice at full depth; no seconds: it does not fit (or was given up, see `why`)."""

    choice: Choice
    seconds: float | None
    peak: float
    mfu: float
    examples_per_second: float
    why: str = ""

    def beats(self, other: "Trial | None") -> bool:
        """More examples a second."""
        return self.seconds is not None and (
            other is None or other.seconds is None or self.examples_per_second > other.examples_per_second
        )


def search_space(config: EncoderConfig, devices: int, *, rows: int) -> dict[str, Sequence[Any]]:
    """Values of each knob, in the order they are tried; a mesh is one knob."""
    fsdp = [ways for ways in _divisors(devices) if config.hidden % ways == 0]
    meshes = [(devices // ways, ways, 1) for ways in sorted(fsdp, reverse=True)[:3]] + [(devices, 1, 1)]
    meshes += [(1, devices // 2, 2)] if devices % 2 == 0 and config.heads % 2 == 0 else []
    return {
        "mesh": list(dict.fromkeys(meshes)),
        "attention": ("fused", "xla"),
        "rows": (rows, 2 * rows, max(1, rows // 2)),
        "remat": ("none", "context", "dots", "full"),
        "scan": (0, 1, 2, 4),
        "flags": ("table", "none"),
    }


def search(
    space: Mapping[str, Sequence[Any]], evaluate: Callable[[Choice, Trial | None], Trial], *, first: Choice
) -> Iterator[Trial]:
    """Every trial made, the best so far among them; `evaluate(choice, best)` may give up on what cannot win."""
    seen = {first: evaluate(first, None)}
    best = seen[first]
    yield best
    for _ in range(2):
        before = best
        for knob, values in space.items():
            for value in values:
                choice = _changed(best.choice, knob, value)
                if choice in seen:
                    continue
                seen[choice] = trial = evaluate(choice, best)
                yield trial
                best = trial if trial.beats(best) else best
        if best is before:
            return


def _changed(choice: Choice, knob: str, value: Any) -> Choice:
    if knob == "mesh":
        return replace(choice, data=value[0], fsdp=value[1], tensor=value[2])
    return replace(choice, **{knob: value})


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


# ---------------------------------------------------------------- trials


class Tuner:
    """Evaluates choices for one step on one topology, through the cache."""

    def __init__(
        self, step: steps.Step, topology: Topology, devices: Sequence[Any], cache: Path, flags: Mapping[str, Any]
    ):
        self.step, self.topology, self.devices, self.cache, self.flags = step, topology, devices, cache, flags
        self._version = _version()

    def __call__(self, choice: Choice, best: Trial | None) -> Trial:
        hbm, depth = self.topology.chip.hbm, self.step.config.layers
        try:
            few = self.small(choice, FEW)
            if best is not None and best.seconds is not None:
                bar = self.small(best.choice, FEW)
                if few["seconds"] / few["examples"] > SLOWER * bar["seconds"] / bar["examples"]:
                    return self._given_up(choice, few["peak"], "slower with few layers")
            if few["peak"] > FULL * hbm:
                return self._given_up(choice, few["peak"], "does not fit")
            more = self.small(choice, MORE)
        except aot.DoesNotFit:
            return self._given_up(choice, math.inf, "does not fit")
        except XtlError as error:
            return self._given_up(choice, 0.0, str(error))
        grow = (depth - FEW) / (MORE - FEW)
        seconds, peak = (few[key] + grow * (more[key] - few[key]) for key in ("seconds", "peak"))
        if peak > FULL * hbm:
            return self._given_up(choice, peak, "does not fit")
        step = self.shaped(choice)
        return Trial(choice, seconds, peak, self._mfu(step, seconds), step.examples / seconds)

    def shaped(self, choice: Choice, layers: int = 0) -> steps.Step:
        """The step as a choice would run it, with so many layers (0: all)."""
        layers = layers or self.step.config.layers
        scan = math.gcd(choice.scan, layers) if choice.scan else 0
        changes: dict[str, Any] = {"remat": choice.remat, "scan": scan, "attention": choice.attention, "layers": layers}
        step = replace(self.step, config=replace(self.step.config, **changes))
        return step.with_rows(choice.rows, choice.data * choice.fsdp)

    def compile(self, choice: Choice, layers: int = 0) -> aot.Compiled:
        """The compile itself."""
        mesh = make_mesh((choice.data, choice.fsdp, choice.tensor), devices=self.devices)
        flags = compiler_flags(self.topology.chip.name, self.flags) if choice.flags == "table" else {}
        return aot.compile_step(self.shaped(choice, layers), self.topology, mesh, flags=flags)

    def small(self, choice: Choice, layers: int) -> dict[str, float]:
        """{"seconds", "peak", "examples"} of a compile with few layers, from the cache if it is there."""
        key = digest([asdict(choice), layers, self.topology.name, repr(self.step), self.flags, self._version])
        path = self.cache / f"{key[:32]}.json"
        if path.is_file():
            found = json.loads(path.read_text())
        else:
            try:
                done = self.compile(choice, layers)
                found = {"seconds": done.prediction.seconds, "peak": done.memory.peak, "examples": done.step.examples}
            except aot.DoesNotFit as error:
                found = {"error": str(error)}
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, found)
        if "error" in found:
            raise aot.DoesNotFit(found["error"])
        return found

    def _given_up(self, choice: Choice, peak: float, why: str) -> Trial:
        return Trial(choice, None, peak, 0.0, 0.0, why)

    def _mfu(self, step: steps.Step, seconds: float) -> float:
        return step.model_flops / (seconds * len(self.devices) * self.topology.chip.peak)


def _version() -> str:
    """Of the compiler and of the code that is compiled."""
    from importlib import metadata

    import xtl

    folder = Path(xtl.__file__).parent
    code = [folder / name for name in ("mesh.py", "optim.py", "step.py")]
    code += sorted((folder / "models").glob("*.py")) + sorted((folder / "aot").glob("*.py"))
    return digest([metadata.version("libtpu"), metadata.version("jax"), *(path.read_text() for path in code)])


# ---------------------------------------------------------------- report


def report(args: Any, console: Any, topology: Topology, devices: Sequence[Any], stages: Mapping[str, Any]) -> None:
    """Tunes every distinct training step of the stages; prints trials and winners, writes them as JSON."""
    shards = dict.fromkeys(stages, len(devices))
    found = []
    for step in steps.plan(stages, shards=shards):
        if step.kind != "train":
            continue
        stage = stages[step.stages[0]]
        tuner = Tuner(step, topology, devices, Path(args.cache).expanduser(), dict(stage.system.flags))
        rows = args.rows or max(1, step.shape.rows // len(devices))
        space = search_space(step.config, len(devices), rows=rows)
        first = Choice(rows, 1, len(devices), 1, "none", 0, space["attention"][0], "table")
        if (1, len(devices), 1) not in space["mesh"]:
            first = _changed(first, "mesh", space["mesh"][0])
        console.print(f"{step.name} on {topology.name}", highlight=False)
        trials = []
        for trial in search(space, tuner, first=first):
            trials.append(trial)
            console.print("  " + _line(trial), highlight=False, soft_wrap=True)
        found.append({"step": step.name, **_settle(console, tuner, trials)})
    cli.write_json(args, {"topology": topology.name, "tuned": found})


def _settle(console: Any, tuner: Tuner, trials: Sequence[Trial]) -> dict[str, Any]:
    """The best trial that fits at full depth."""
    ranked = sorted((t for t in trials if t.seconds is not None), key=lambda t: -t.examples_per_second)
    console.print(_table(ranked[:12]))
    for trial in ranked:
        try:
            done = tuner.compile(trial.choice)
        except aot.DoesNotFit as error:
            console.print(f"  {error}", highlight=False, soft_wrap=True)
            continue
        overrides = trial.choice.overrides(tuner.topology.chip.name)
        console.print(
            f"best: MFU {done.mfu:.3f}, {done.examples_per_second:,.0f} examples/s, "
            f"peak {aot.gib(done.memory.peak)} GiB, {trial.choice.rows} rows a device:\n"
            f"  {' '.join(overrides)}",
            highlight=False,
            soft_wrap=True,
        )
        return {
            "best": done.as_json(),
            "choice": asdict(trial.choice),
            "overrides": overrides,
            "trials": [asdict(t) for t in trials],
        }
    raise XtlError(f"{tuner.step.name}: nothing that was tried fits {tuner.topology.name}; take a larger slice")


def _line(trial: Trial) -> str:
    c = trial.choice
    how = (
        f"{c.rows:>4} rows  {c.data}x{c.fsdp}x{c.tensor}  {c.attention:<6} remat {c.remat:<8} scan {c.scan}  {c.flags}"
    )
    return f"{how}: {trial.why}" if trial.seconds is None else f"{how}: MFU {trial.mfu:.3f}, {aot.gib(trial.peak)} GiB"


def _table(trials: Sequence[Trial]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in ("rows", "mesh", "attention", "remat", "scan", "flags", "step ms", "examples/s", "MFU", "GiB"):
        grid.add_column(head, no_wrap=True, justify="right")
    for t in trials:
        c = t.choice
        numbers = (f"{1e3 * (t.seconds or 0):.1f}", f"{t.examples_per_second:,.0f}", f"{t.mfu:.3f}", aot.gib(t.peak))
        grid.add_row(str(c.rows), f"{c.data}x{c.fsdp}x{c.tensor}", c.attention, c.remat, str(c.scan), c.flags, *numbers)
    return grid
