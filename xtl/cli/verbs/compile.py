"""`xtl compile`: every distinct step of a config, compiled for a TPU slice that need not be there."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as Grid

from xtl.cli import main as cli
from xtl.config import resolve
from xtl.errors import XtlError


def compile_(args: Any) -> None:
    """Compile, print what was learnt, write it as JSON, save the executables."""
    from xtl.aot import compile as aot
    from xtl.aot import cost, steps
    from xtl.parallel import chips
    from xtl.parallel.compiler_flags import compiler_flags
    from xtl.parallel.mesh import make_mesh

    topology = chips.topology(args.topology)
    resolved = resolve(cli.load(args), look=False)
    stages = {name: stage for name, stage in resolved.stages.items() if not args.stage or name in args.stage}
    if missing := [name for name in args.stage if name not in resolved.stages]:
        raise XtlError(f"--stage: the config has no stage {missing[0]!r}")
    devices = chips.devices(topology)
    meshes = {name: make_mesh(vars(stage.system.mesh), devices=devices) for name, stage in stages.items()}
    shards = {name: mesh.shape["data"] * mesh.shape["fsdp"] for name, mesh in meshes.items()}
    console = cli.console(args)
    if args.tune:
        from xtl.aot import tune

        return tune.report(args, console, topology, devices, stages)
    planned = [step for step in steps.plan(stages, shards=shards) if step.kind in (args.steps or (step.kind,))]
    if args.rows:
        planned = [step.with_rows(args.rows, shards[step.stages[0]]) for step in planned]
    console.print(f"{topology.name}: {len(devices)} devices, {len(planned)} distinct steps", highlight=False)
    results = []
    for step in planned:
        stage = step.stages[0]
        flags = compiler_flags(topology.chip.name, stages[stage].system.flags)
        compiled = aot.compile_step(step, topology, meshes[stage], flags=flags)
        results.append(compiled)
        console.print(describe(compiled, meshes[stage].shape), highlight=False, soft_wrap=True)
        if args.save:
            path = Path(args.save) / (re.sub(r"[^\w.-]+", "_", f"{topology.name} {step.name}") + ".xla")
            aot.save(compiled, path)
            console.print(f"  saved {path}", highlight=False, soft_wrap=True)
    console.print()
    console.print(summary(results))
    for line in cost.LIMITS:
        console.print(line, style="bright_black", highlight=False, soft_wrap=True)
    cli.write_json(args, {"topology": topology.name, "steps": [one.as_json() for one in results]})


def describe(compiled: Any, mesh: Mapping[str, int]) -> str:
    """One step in detail: memory by kind, time by operation, collectives by kind, operation and network."""
    from xtl.aot.compile import gib

    step, memory, seen = compiled.step, compiled.memory, compiled.prediction
    shape = "x".join(str(size) for size in mesh.values())
    ms = lambda seconds: f"{1e3 * seconds:.2f} ms"
    lines = [
        f"\n{step.name}  (mesh {shape}, {step.shape.rows // (mesh['data'] * mesh['fsdp'])} rows a device; "
        f"{', '.join(step.stages)})",
        f"  memory   weights {gib(memory.weights)}, moments {gib(memory.moments)}, batch {gib(memory.batch)}, "
        f"temporaries {gib(memory.temporaries)}: peak {gib(memory.peak)} of {gib(memory.hbm)} GiB "
        f"({100 * memory.share:.0f} %)",
        f"  time     {ms(seen.seconds)} = compiler cycles {ms(seen.compute)} + kernels {ms(seen.kernels)} (roofline) "
        f"+ exposed collectives {ms(seen.exposed)};  compiled in {compiled.compile_seconds:.0f} s",
    ]
    if seen.unknown_loops:
        lines.append(f"  caution  {seen.unknown_loops} loops of unknown length are counted once: the time is too short")
    ranked = sorted(seen.by_operation.items(), key=lambda item: -item[1])
    lines += [f"    {100 * seconds / seen.seconds:5.1f} %  {ms(seconds):>10}  {name}" for name, seconds in ranked[:10]]
    for row in sorted(seen.traffic.values(), key=lambda row: -row.size)[:8]:
        lines.append(
            f"    {row.kind:<18} {row.network}  {row.count:4} x  {row.size / 2**20:9.1f} MiB  {ms(row.seconds):>10}, "
            f"{ms(row.exposed)} exposed  {row.op_name}"
        )
    return "\n".join(lines)


def summary(results: Any) -> Grid:
    """One line a step."""
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
