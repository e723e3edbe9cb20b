"""`xtl plan`: the graph, what is done, what is shared, what it costs. Runs nothing."""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table as Grid
from rich.text import Text

from xtl.cli import main as cli
from xtl.cli.display import MARKS, purpose, tree
from xtl.cli.emit import Request
from xtl.config import resolve, task_weights, with_steps
from xtl.config.completion import for_run
from xtl.errors import Unreachable, XtlError, nearest
from xtl.families import family
from xtl.logs import duration, human
from xtl.models import flops
from xtl.runs.pipeline import Graph, Unit
from xtl.runs.workdir import Workdir
from xtl.task import Task, with_options
from xtl.tasks import get_task
from xtl.training import goodput

EMITTERS = ("slurm", "argo")
TYPICAL = 0.5  # of max_length: the mean length assumed where nothing was counted (STUDIES: half of a row is padding)


@dataclass
class Cost:
    """What a unit of work takes; None where the size of its data is not known."""

    steps: int
    examples: float
    tokens: float
    flops: float


@dataclass(frozen=True)
class Sizes:
    """Examples of one (task, split) over its languages, and the moments of segment length per example."""

    examples: int
    tokens: float  # mean a example
    pairs: float  # mean a example of the sum of segment length^2


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
    chips, peak = _topology(args.topology) if args.topology else (0, 0.0)
    costs = {unit.name: _cost(unit, count=args.count, workdir=workdir) for unit in graph.units.values()}
    states = {unit.name: workdir.status(unit.fingerprint, unit.name)["state"] for unit in graph.units.values()}
    open_ = [costs[name] for name, state in states.items() if state != "done"]
    left = [cost for cost in open_ if cost is not None]
    total = sum(cost.flops for cost in left)
    hours = total / (peak * args.mfu) / 3600 if peak else None

    console = cli.console(args)
    console.print(_grid(graph, costs, states))
    console.print()
    shared = len(graph.stages) - len(graph.units)
    done = sum(state == "done" for state in states.values())
    lines = [
        f"{len(graph.stages)} stages, {len(graph.units)} to train or evaluate"
        + (f" ({shared} shared)" if shared else "")
    ]
    lines.append(f"{done} done in {workdir.path}")
    spent = goodput.over(workdir.folder(unit.fingerprint, unit.name) for unit in graph.units.values())
    if spent is not None:
        lines[-1] += f", {100 * spent['share']:.0f} % of {duration(spent['wall'])} spent in training steps that count"
    tokens, steps = sum(cost.tokens for cost in left), sum(cost.steps for cost in left)
    lines.append(f"left: {human(steps).strip()} steps, {human(tokens).strip()} tokens, {human(total).strip()}FLOP")
    if hours is not None:
        lines[-1] += (
            f", {hours:.2f} chip-hours at {100 * args.mfu:.0f} % MFU ({hours / chips:.2f} h on {args.topology})"
        )
        lines[-1] += f", {hours * args.price:.2f} at {args.price:g} a chip-hour" if args.price else ""
    if len(left) < len(open_):
        lines.append(
            f"not counted: {len(open_) - len(left)} stages whose data size the catalog does not know (--count counts)"
        )
    if not args.count:
        lines.append(f"sizes are the catalog's, lengths {100 * TYPICAL:.0f} % of max_length: --count counts the data")
    if unseen:
        lines.append(f"data not looked at ({unseen}): languages are the catalog's, and what is done is not known")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    cli.write_json(args, _record(graph, workdir, costs, states, hours=hours, price=args.price))
    return 0


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


def _resolved(args: Any) -> tuple[Any, str]:
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
        cost = costs[unit.name]
        numbers = [str(len(languages) or "")]
        if cost is None:
            numbers += [f"{unit.stage.train.epochs:g} epochs" if unit.stage.train.epochs else "?", "?", "?", "?"]
        else:
            numbers += [f"{cost.steps:,}" if cost.steps else ""]
            numbers += [human(n).strip() for n in (cost.examples, cost.tokens, cost.flops)]
        grid.add_row(name, purpose(unit), *numbers)
    return grid


# ---------------------------------------------------------------- cost


def _cost(unit: Unit, *, count: bool, workdir: Workdir) -> Cost | None:
    """Tokens and FLOPs of training (three forwards) and of the evaluations (one)."""
    stage, shape = unit.stage, unit.stage.encoder
    measure = _counted if count else _estimated
    cost = Cost(0, 0, 0, 0)
    if stage.tasks:
        sizes = {}
        for name, entry in stage.tasks.items():
            found = measure(get_task(name), "train", entry, stage, entry.max_length, workdir)
            if found is None and entry.weight and len(stage.tasks) > 1:
                found = _typical(get_task(name), 1, entry.max_length)  # it takes its share of the steps, however large
            if found is None:
                return _known_steps(unit, shape)
            sizes[name] = found
        counts = {name: found.examples for name, found in sizes.items()}
        cost.steps, shares = with_steps(stage, counts).train.steps, task_weights(stage, counts)
        for name, entry in stage.tasks.items():
            _add(
                cost, sizes[name], cost.steps * shares[name] * entry.batch_size, shape, train=True, task=get_task(name)
            )
    for name, evaluated in stage.evaluate.items():
        task = get_task(name)
        length = next((stage.tasks[n].max_length for n in (name, task.train) if n in stage.tasks), task.max_length)
        found = measure(task, evaluated.split, evaluated, stage, min(length, stage.encoder.max_positions - 2), workdir)
        if found is not None:
            _add(cost, found, found.examples, shape, train=False, task=task)
    return cost


def _known_steps(unit: Unit, shape: Any) -> Cost | None:
    """Where the data is of unknown size but the steps are given, training alone can be costed."""
    stage = unit.stage
    if not stage.train.steps or len(stage.tasks) > 1:
        return None
    (name, entry), *_ = stage.tasks.items()
    cost = Cost(stage.train.steps, 0, 0, 0)
    _add(
        cost,
        _typical(get_task(name), 0, entry.max_length),
        cost.steps * entry.batch_size,
        shape,
        train=True,
        task=get_task(name),
    )
    return cost


def _add(cost: Cost, sizes: Sizes, examples: float, shape: Any, *, train: bool, task: Task) -> None:
    tokens, pairs = examples * sizes.tokens, examples * sizes.pairs
    count = flops.train_flops if train else flops.forward_flops
    predicted = family(task).predicted * tokens
    cost.examples, cost.tokens = cost.examples + examples, cost.tokens + tokens
    cost.flops += count(shape, tokens=tokens, token_pairs=pairs, predicted=predicted)


def _estimated(task: Task, split: str, entry: Any, stage: Any, length: int, workdir: Workdir) -> Sizes | None:
    """From the catalog's sizes (the world: its own), lengths taken as a share of max_length."""
    if stage.data.source == "world":
        from xtl import world

        sizes: list[int | None] = [world.size(task, split, stage.data.world) for _ in entry.languages]
    else:
        known = task.sizes.get(split)
        sizes = [known.get(x) if isinstance(known, Mapping) else known for x in entry.languages]
    if any(size is None for size in sizes):
        return None
    examples = sum(min(size, entry.limit or size) for size in sizes if size is not None)
    return _typical(task, examples, length)


def _typical(task: Task, examples: int, length: int) -> Sizes:
    segments = 2 if task.retrieval else family(task).segments
    mean = TYPICAL * length
    return Sizes(examples, segments * mean, segments * mean**2)


def _counted(task: Task, split: str, entry: Any, stage: Any, length: int, workdir: Workdir) -> Sizes | None:
    """From the token cache, which this builds."""
    import numpy as np

    from xtl.data.tokenizer import load_tokenizer
    from xtl.training.evaluator import encoded_part

    data = for_run(stage, cache=str(workdir.cache)).data
    tokenizer = load_tokenizer(data.tokenizer, data.world)
    task, how = with_options(task, entry.options), {"max_length": length, "limit": entry.limit}
    parts = [
        encoded_part(task, x, split, data=data, tokenizer=tokenizer, train=split == "train", **how)
        for x in entry.languages
    ]
    examples = sum(map(len, parts))
    lengths = np.concatenate([part.segment_lengths for part in parts]).astype(float)
    return Sizes(examples, lengths.sum() / max(examples, 1), (lengths**2).sum() / max(examples, 1))


def _topology(name: str) -> tuple[int, float]:
    """(chips, bf16 FLOP/s of one) of `v5e:4x4`."""
    chip, _, shape = name.partition(":")
    if chip not in flops.PEAK_FLOPS:
        raise XtlError(f"--topology: unknown chip {chip!r}.{nearest(chip, flops.PEAK_FLOPS)}")
    sides = shape.split("x") if shape else ["1"]
    if not all(side.isdigit() for side in sides):
        raise XtlError(f"--topology={name}: write the slice as v5e:4x4 or v5p:2x2x2")
    return math.prod(map(int, sides)), flops.PEAK_FLOPS[chip] * (2 if chip == "tpu7x" else 1)


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
        cost = costs[unit.name]
        folder = workdir.folder(unit.fingerprint, unit.name).name
        stages.append({**entry, "folder": folder, "state": states[unit.name], "cost": cost and vars(cost)})
    total = {"chip_hours": hours, "price": None if hours is None or not price else hours * price}
    return {"pipeline": graph.name, "stages": stages, "units": len(graph.units), **total}
