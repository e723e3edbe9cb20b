"""`xtl compile`: every distinct step of a config, compiled for a TPU slice that need not be there."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid

from xtl.aot import compile as aot
from xtl.aot import cost, steps, tune
from xtl.cli import main as cli
from xtl.config.resolution import resolve
from xtl.config.schema import Stage
from xtl.errors import XtlError
from xtl.parallel.chips import Topology, compiler_flags, topology
from xtl.parallel.mesh import make_mesh


def compile_(args: Any) -> None:
    """Compile, print what was learnt, write it as JSON."""
    slices = topology(args.topology)
    resolved = resolve(cli.load(args), look=False)
    stages = {name: stage for name, stage in resolved.stages.items() if not args.stage or name in args.stage}
    if missing := [name for name in args.stage if name not in resolved.stages]:
        raise XtlError(f"--stage: the config has no stage {missing[0]!r}")
    devices, console = aot.devices(slices), cli.console(args)
    if args.tune:
        report = [
            _tuned(tuner, console)
            for tuner in tune.tuners(stages, slices, devices, cache=Path(args.cache).expanduser(), rows=args.rows)
        ]
        cli.write_json(args, {"topology": slices.name, "tuned": report})
        return
    results = _compiled(args, stages, slices, devices, console)
    console.print()
    console.print(summary(results))
    for line in cost.LIMITS:
        console.print(line, style="bright_black", highlight=False, soft_wrap=True)
    cli.write_json(args, {"topology": slices.name, "steps": [one.as_json() for one in results]})


def _compiled(
    args: Any, stages: Mapping[str, Stage], slices: Topology, devices: Sequence[Any], console: Console
) -> list[aot.Compiled]:
    """Every distinct step of the stages, each printed as soon as it is compiled."""
    meshes = {name: make_mesh(vars(stage.system.mesh), devices=devices) for name, stage in stages.items()}
    shards = {name: mesh.shape["data"] * mesh.shape["fsdp"] for name, mesh in meshes.items()}
    planned = [step for step in steps.plan(stages, shards=shards) if step.kind in (args.steps or (step.kind,))]
    if args.rows:
        planned = [step.with_rows(args.rows, shards[step.stages[0]]) for step in planned]
    console.print(f"{slices.name}: {len(devices)} devices, {len(planned)} distinct steps", highlight=False)
    results = []
    for step in planned:
        stage = step.stages[0]
        flags = compiler_flags(slices.chip.name, stages[stage].system.flags)
        results.append(aot.compile_step(step, slices, meshes[stage], flags=flags))
        console.print(describe(results[-1], meshes[stage].shape), highlight=False, soft_wrap=True)
    return results


def describe(compiled: aot.Compiled, mesh: Mapping[str, int]) -> str:
    """One step in detail: memory by kind, time by operation, collectives by kind, operation and network."""
    step, memory, time, gib = compiled.step, compiled.memory, compiled.prediction, aot.gib
    shape = "x".join(str(size) for size in mesh.values())
    ms = lambda seconds: f"{1e3 * seconds:.2f} ms"
    lines = [
        f"\n{step.name}  (mesh {shape}, {step.shape.rows // (mesh['data'] * mesh['fsdp'])} rows per device; "
        f"{', '.join(step.stages)})",
        f"  memory   weights {gib(memory.weights)}, moments {gib(memory.moments)}, batch {gib(memory.batch)}, "
        f"temporaries {gib(memory.temporaries)}: peak {gib(memory.peak)} of {gib(memory.hbm)} GiB "
        f"({100 * memory.share:.0f} %)",
        f"  time     {ms(time.seconds)} = compiler cycles {ms(time.compute)} + kernels {ms(time.kernels)} (roofline) "
        f"+ exposed collectives {ms(time.exposed)};  compiled in {compiled.compile_seconds:.0f} s",
    ]
    if time.unknown_loops:
        lines.append(f"  caution  {time.unknown_loops} loops of unknown length are counted once: the time is too short")
    ranked = sorted(time.by_operation.items(), key=lambda item: -item[1])
    lines += [f"    {100 * seconds / time.seconds:5.1f} %  {ms(seconds):>10}  {name}" for name, seconds in ranked[:10]]
    for row in sorted(time.traffic.values(), key=lambda row: -row.size)[:8]:
        lines.append(
            f"    {row.kind:<18} {row.network}  {row.count:4} x  {row.size / 2**20:9.1f} MiB  {ms(row.seconds):>10}, "
            f"{ms(row.exposed)} exposed  {row.op_name}"
        )
    return "\n".join(lines)


def summary(results: Sequence[aot.Compiled]) -> Grid:
    """One line per step."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    grid.add_column("step", no_wrap=True)
    for head in ("peak GiB", "of HBM", "step ms", "exposed ms", "examples/s", "MFU", "compiled in"):
        grid.add_column(head, no_wrap=True, justify="right")
    for one in results:
        seconds = one.prediction.seconds
        grid.add_row(
            one.step.name,
            f"{one.memory.peak / 2**30:.2f}",
            f"{100 * one.memory.share:.0f} %",
            f"{1e3 * seconds:.1f}",
            f"{1e3 * one.prediction.exposed:.1f}",
            f"{one.examples_per_second:,.0f}",
            f"{one.mfu:.3f}",
            f"{one.compile_seconds:.0f} s",
        )
    return grid


# ---------------------------------------------------------------- --tune


def _tuned(tuner: tune.Tuner, console: Console) -> dict[str, Any]:
    """Search for one step and print trials, ranking and winner; returns them as plain values."""
    console.print(f"{tuner.step.name} on {tuner.topology.name}", highlight=False)
    trials = []
    for trial in tuner.trials():
        trials.append(trial)
        console.print("  " + _line(trial), highlight=False, soft_wrap=True)
    console.print(_ranking(tune.ranked(trials)[:12]))
    best, compiled = tuner.confirm(
        trials, refused=lambda error: console.print(f"  {error}", highlight=False, soft_wrap=True)
    )
    overrides = best.choice.overrides(tuner.topology.chip.name)
    console.print(
        f"best: MFU {compiled.mfu:.3f}, {compiled.examples_per_second:,.0f} examples/s, "
        f"peak {aot.gib(compiled.memory.peak)} GiB, {best.choice.rows} rows per device:\n"
        f"  {' '.join(overrides)}",
        highlight=False,
        soft_wrap=True,
    )
    return {
        "step": tuner.step.name,
        "best": compiled.as_json(),
        "choice": asdict(best.choice),
        "overrides": overrides,
        "trials": [asdict(trial) for trial in trials],
    }


def _line(trial: tune.Trial) -> str:
    c = trial.choice
    how = (
        f"{c.rows:>4} rows  {c.data}x{c.fsdp}x{c.tensor}  {c.attention:<6} remat {c.remat:<8} scan {c.scan}  {c.flags}"
    )
    return f"{how}: {trial.why}" if trial.seconds is None else f"{how}: MFU {trial.mfu:.3f}, {aot.gib(trial.peak)} GiB"


def _ranking(trials: Sequence[tune.Trial]) -> Grid:
    """One line per trial."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in ("rows", "mesh", "attention", "remat", "scan", "flags", "step ms", "examples/s", "MFU", "GiB"):
        grid.add_column(head, no_wrap=True, justify="right")
    for t in trials:
        c = t.choice
        numbers = (f"{1e3 * (t.seconds or 0):.1f}", f"{t.examples_per_second:,.0f}", f"{t.mfu:.3f}", aot.gib(t.peak))
        grid.add_row(str(c.rows), f"{c.data}x{c.fsdp}x{c.tensor}", c.attention, c.remat, str(c.scan), c.flags, *numbers)
    return grid
