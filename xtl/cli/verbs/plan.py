"""`xtl plan`: the graph, what is done, what is shared, what it costs. Runs nothing."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table as Grid
from rich.text import Text

from xtl.cli import main as cli
from xtl.cli.display import MARKS, purpose, tree
from xtl.cli.emit import Request
from xtl.config.resolution import resolve
from xtl.config.schema import Pipeline
from xtl.errors import Unreachable, XtlError, nearest
from xtl.logs import duration, human
from xtl.runs import cost
from xtl.runs.cost import Cost
from xtl.runs.pipeline import Graph
from xtl.runs.workdir import Workdir
from xtl.training import goodput

EMITTERS = ("slurm", "argo")


def plan(args: Any) -> int:
    """Print the plan; everything that is wrong with the config is an error here, before anything runs."""
    pipeline, unseen = _resolved(args)
    graph = Graph(pipeline)
    workdir = Workdir(args.workdir or f"runs/{graph.name}")
    if args.watch:
        from xtl.cli.watch import watch

        return 0 if set(watch(graph, workdir).values()) == {"done"} else 1
    if args.emit:
        print(_emitted(args, graph, workdir), end="")
        return 0
    measure = cost.counted(workdir.cache) if args.count else cost.estimated
    costs = {unit.name: cost.unit_cost(unit, measure) for unit in graph.units.values()}
    states = {unit.name: workdir.status(unit.fingerprint, unit.name)["state"] for unit in graph.units.values()}
    open_ = [costs[name] for name, state in states.items() if state != "done"]
    left = [one for one in open_ if one is not None]
    hours = cost.chip_hours(left, args.topology, args.mfu) if args.topology else None

    console = cli.console(args)
    console.print(_grid(graph, costs, states))
    console.print()
    lines = [*_progress(graph, workdir, states), _left(args, left, hours)]
    if len(left) < len(open_):
        lines.append(
            f"not counted: {len(open_) - len(left)} stages whose data size the catalog does not know (--count counts)"
        )
    if not args.count:
        share = f"{100 * cost.TYPICAL:.0f} %"
        lines.append(f"sizes are the catalog's, lengths {share} of max_length: --count counts the data")
    if unseen:
        lines.append(f"data not looked at ({unseen}): languages are the catalog's, and what is done is not known")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    cli.write_json(args, _record(graph, workdir, costs, states, hours=hours and hours[0], price=args.price))
    return 0


def _progress(graph: Graph, workdir: Workdir, states: Mapping[str, str]) -> list[str]:
    """How many stages there are, and how many of them are done."""
    shared = len(graph.stages) - len(graph.units)
    done = sum(state == "done" for state in states.values())
    stages = f"{len(graph.stages)} stages, {len(graph.units)} to train or evaluate"
    stages += f" ({shared} shared)" if shared else ""
    progress = f"{done} done in {workdir.path}"
    spent = goodput.over(workdir.folder(unit.fingerprint, unit.name) for unit in graph.units.values())
    if spent is not None:
        progress += f", {100 * spent['share']:.0f} % of {duration(spent['wall'])} spent in training steps that count"
    return [stages, progress]


def _left(args: Any, left: Sequence[Cost], hours: tuple[float, float] | None) -> str:
    """What the rest costs. hours: of a chip, and on all chips together."""
    totals = (sum(one.steps for one in left), sum(one.tokens for one in left), sum(one.flops for one in left))
    line = "left: {} steps, {} tokens, {}FLOP".format(*(human(total).strip() for total in totals))
    if hours is not None:
        line += f", {hours[0]:.2f} chip-hours at {100 * args.mfu:.0f} % MFU ({hours[1]:.2f} h on {args.topology})"
        line += f", {hours[0] * args.price:.2f} at {args.price:g} per chip-hour" if args.price else ""
    return line


def _emitted(args: Any, graph: Graph, workdir: Workdir) -> str:
    """The graph for Slurm or Argo."""
    if args.emit not in EMITTERS:
        raise XtlError(f"--emit={args.emit}: unknown engine.{nearest(args.emit, EMITTERS)}")
    words = ["xtl", "run", f"--config={args.config}", *(f"--{key}={text}" for key, text in args.overrides.items())]
    request = Request(
        graph,
        (*words, f"--workdir={workdir.path}"),
        str(workdir.path),
        topology=args.topology,
        image=args.image,
        queue=args.queue,
    )
    return importlib.import_module(f"xtl.cli.emit.{args.emit}").emit(request)


def _resolved(args: Any) -> tuple[Pipeline, str]:
    """(pipeline, why its data was not looked at): a plan can be made where the data's server cannot be reached."""
    config = cli.load(args)
    if not args.look:
        return resolve(config, look=False), "--nolook"
    try:
        return resolve(config), ""
    except Unreachable as error:
        return resolve(config, look=False), str(error)


def _grid(graph: Graph, costs: Mapping[str, Cost | None], states: Mapping[str, str]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in ("stage", "trains on → evaluates"):
        grid.add_column(head, no_wrap=True, overflow="ellipsis")
    for head in ("languages", "steps", "examples", "tokens", "FLOP"):
        grid.add_column(head, no_wrap=True, justify="right")
    for unit, prefix in tree(graph):
        mark, style = MARKS[states[unit.name]]
        name = Text(prefix, style="bright_black").append(f"{mark} ", style).append(unit.name, "default")
        if len(unit.names) > 1:
            name.append(f" = {', '.join(unit.names[1:])}", "bright_black")
        languages = {x for entry in unit.stage.evaluate.values() for x in entry.languages}
        one = costs[unit.name]
        numbers = [str(len(languages) or "")]
        if one is None:
            numbers += [f"{unit.stage.train.epochs:g} epochs" if unit.stage.train.epochs else "?", "?", "?", "?"]
        else:
            numbers += [f"{one.steps:,}" if one.steps else ""]
            numbers += [human(n).strip() for n in (one.examples, one.tokens, one.flops)]
        grid.add_row(name, purpose(unit), *numbers)
    return grid


def _record(
    graph: Graph,
    workdir: Workdir,
    costs: Mapping[str, Cost | None],
    states: Mapping[str, str],
    *,
    hours: float | None,
    price: float,
) -> dict[str, Any]:
    stages = []
    for entry in graph.entries():
        unit = graph.unit(entry["name"])
        one = costs[unit.name]
        folder = workdir.folder(unit.fingerprint, unit.name).name
        stages.append({**entry, "folder": folder, "state": states[unit.name], "cost": one and vars(one)})
    total = {"chip_hours": hours, "price": None if hours is None or not price else hours * price}
    return {"pipeline": graph.name, "stages": stages, "units": len(graph.units), **total}
