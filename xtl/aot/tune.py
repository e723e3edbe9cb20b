"""`xtl compile --tune` searches for the fastest way to run a training step that fits, by compiling few layers.

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
from importlib import metadata
from pathlib import Path
from typing import Any

import xtl
from xtl import files
from xtl.aot import compile as aot
from xtl.aot import steps
from xtl.config.fingerprint import digest
from xtl.config.schema import Stage
from xtl.errors import XtlError
from xtl.models.encoder import EncoderConfig
from xtl.parallel.chips import Topology, compiler_flags
from xtl.parallel.mesh import make_mesh

PACKAGE = Path(xtl.__file__).parent
FEW, MORE = 2, 4  # layers of the two small compiles
FULL = 0.97  # share of HBM that a prediction may take; the compile at full depth decides
SLOWER = 1.15  # times the best time per example with few layers: not worth the second compile


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
        """Whether it runs more examples per second; anything that fits beats what does not."""
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
    """Yields every trial, each choice once; `evaluate(choice, best so far)` may give up on what cannot win."""
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


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Those that fit, the fastest first."""
    return sorted((trial for trial in trials if trial.seconds is not None), key=lambda t: -t.examples_per_second)


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
        self,
        step: steps.Step,
        topology: Topology,
        devices: Sequence[Any],
        cache: Path,
        flags: Mapping[str, Any],
        *,
        rows: int = 0,
    ):
        self.step, self.topology, self.devices, self.cache, self.flags = step, topology, devices, cache, flags
        rows = rows or max(1, step.shape.rows // len(devices))
        self.space = search_space(step.config, len(devices), rows=rows)
        data, fsdp, tensor = self.space["mesh"][0]
        self.first = Choice(rows, data, fsdp, tensor, "none", 0, self.space["attention"][0], "table")
        self._version = _version()

    def trials(self) -> Iterator[Trial]:
        """Everything that the search tries, in its order."""
        return search(self.space, self, first=self.first)

    def confirm(
        self, trials: Sequence[Trial], *, refused: Callable[[aot.DoesNotFit], None]
    ) -> tuple[Trial, aot.Compiled]:
        """The best trial that fits when all layers are compiled, and that compile.

        `refused` is called with the error of each better one, which does not fit. XtlError when nothing fits.
        """
        for trial in ranked(trials):
            try:
                return trial, self.compile(trial.choice)
            except aot.DoesNotFit as error:
                refused(error)
        raise XtlError(f"{self.step.name}: nothing that was tried fits {self.topology.name}; take a larger slice")

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
            entry = json.loads(path.read_text())
        else:
            try:
                done = self.compile(choice, layers)
                entry = {"seconds": done.prediction.seconds, "peak": done.memory.peak, "examples": done.step.examples}
            except aot.DoesNotFit as error:
                entry = {"error": str(error)}
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, entry)
        if "error" in entry:
            raise aot.DoesNotFit(entry["error"])
        return entry

    def _given_up(self, choice: Choice, peak: float, why: str) -> Trial:
        return Trial(choice, None, peak, 0.0, 0.0, why)

    def _mfu(self, step: steps.Step, seconds: float) -> float:
        return step.model_flops / (seconds * len(self.devices) * self.topology.chip.peak)


# What a compiled step depends on, besides the step itself: rooms and single modules of the package.
CODE = ("aot", "families", "models", "parallel/mesh.py", "training/optim.py", "training/state.py", "training/step.py")


def code_files() -> list[Path]:
    """The files of CODE; XtlError for an entry that names none."""
    files_: list[Path] = []
    for entry in CODE:
        path = PACKAGE / entry
        part = [path] if path.is_file() else sorted(path.rglob("*.py"))
        if not part:
            raise XtlError(f"{path}: no such file, but the cache of --tune depends on it; mend CODE in {__file__}")
        files_ += part
    return files_


def _version() -> str:
    """Digest of the compiler's version and of the code that is compiled."""
    return digest([metadata.version("libtpu"), metadata.version("jax"), *(path.read_text() for path in code_files())])


def tuners(
    stages: Mapping[str, Stage], topology: Topology, devices: Sequence[Any], *, cache: Path, rows: int = 0
) -> Iterator[Tuner]:
    """A Tuner for each distinct training step of the stages. rows: on each device to begin with; 0: the config's."""
    for step in steps.plan(stages, shards=dict.fromkeys(stages, len(devices))):
        if step.kind == "train":
            flags = dict(stages[step.stages[0]].system.flags)
            yield Tuner(step, topology, devices, cache, flags, rows=rows)
