"""`xtl submit` and `xtl score`: the benchmark's predictions folder, written, validated, scored."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as Grid

from xtl import files
from xtl.benchmark.aggregate import get_benchmark
from xtl.benchmark.score import score_folder
from xtl.benchmark.submission import assemble
from xtl.benchmark.validation import validate
from xtl.cli import main as cli
from xtl.errors import XtlError, nearest
from xtl.runs.results import BASELINE
from xtl.runs.workdir import Workdir
from xtl.task import Loaded
from xtl.tasks import catalog, get_task

SHOWN = 20  # violations printed; all of them are in --json


def submit(args: Any) -> int:
    """Write the folder from the finished stages of a run; 0 if it is complete and valid."""
    workdir = Workdir(args.workdir)
    chosen = _chosen(workdir.read_plan(), args.intermediate, seed=args.seed, benchmark=args.benchmark)
    stages = {task: workdir.path / "stages" / entry["folder"] for task, entry in chosen.items()}
    written = assemble(
        {task: folder / "predictions" for task, folder in stages.items()}, args.out, benchmark=args.benchmark
    )
    sections = {task: files.read_json(folder / "config.json")["data"] for task, folder in stages.items()}
    violations = validate(
        args.out, benchmark=args.benchmark, labels=args.labels or None, inputs=lambda t, x: _input(t, x, sections)
    )
    console = cli.console(args)
    for task, entry in chosen.items():
        console.print(f"{task:<10} from {entry['name']}", highlight=False)
    for violation in violations[:SHOWN]:
        console.print(str(violation), highlight=False, markup=False, soft_wrap=True)
    if len(violations) > SHOWN:
        console.print(f"... and {len(violations) - SHOWN} more")
    verdict = f"{len(violations)} violations" if violations else "valid and complete"
    console.print(f"{len(written)} files in {args.out}: {verdict}", highlight=False)
    record = {"files": [str(path) for path in written], "violations": [str(violation) for violation in violations]}
    cli.write_json(args, {**record, "stages": {task: entry["name"] for task, entry in chosen.items()}})
    return 1 if violations else 0


def _chosen(plan: Iterable[Mapping[str, Any]], intermediate: str, *, seed: int, benchmark: str) -> dict[str, Any]:
    """The finished stage whose predictions stand for each task of the benchmark."""
    pairs = [part.partition(":") for part in intermediate.split(",")]
    rows = {task: row for task, colon, row in pairs if colon}
    rest = next((name for name, colon, _ in pairs if not colon), BASELINE)
    chosen: dict[str, Any] = {}
    entries = [entry for entry in plan if entry["phase"] in ("target", "eval")]
    known = {entry["intermediate"] for entry in entries}
    for row in {*rows.values(), rest}:
        if row not in known:
            raise XtlError(f"--intermediate: the run has no row {row!r}.{nearest(row, known)}")
    for task in get_benchmark(benchmark).languages:
        row = rows.get(task, rest)
        fitting = [e for e in entries if task in e["evaluate"] and (e["intermediate"], e["seed"]) == (row, seed)]
        for entry in fitting:
            if entry["state"] != "done":
                raise XtlError(f"{task}: stage {entry['name']} is {entry['state']}; finish the run first")
            chosen[task] = entry
    if not chosen:
        raise XtlError(f"no stage of the run evaluates a task of {benchmark} with intermediate {rest!r}, seed {seed}")
    return chosen


def _input(task: str, language: str, sections: Mapping[str, Any]) -> Loaded | None:
    from xtl.data import sources

    try:
        return sources.load(get_task(task), language, "test", sections[task])
    except XtlError:  # the data is gone: checks that need no inputs are still made
        return None


def _file_kind(task: str) -> str:
    """The kind of a predictions file that no benchmark knows: what the task's family writes."""
    from xtl.families import family  # asking for one imports JAX

    return family(catalog()[task]).file_kind(catalog()[task]) if task in catalog() else ""


def score(args: Any) -> int:
    """Score the tasks that both folders hold; 0 if nothing that was predicted went without a score."""
    for flag in ("predictions", "labels"):
        if not Path(getattr(args, flag)).is_dir():
            raise XtlError(f"--{flag}={getattr(args, flag)}: there is no such folder")
    result = score_folder(args.predictions, args.labels, args.benchmark, others=_file_kind)
    console = cli.console(args)
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in ("task", "metric", "score", "languages", "all metrics"):
        grid.add_column(head, justify="right" if head in ("score", "languages") else "left")
    for task, scored in result["tasks"].items():
        others = ", ".join(f"{name} {value:.2f}" for name, value in scored["average"].items() if name != "n")
        score = "" if scored["score"] is None else f"{scored['score']:.2f}"
        grid.add_row(task, scored["metric"], score, str(len(scored["languages"])), others)
    console.print(grid)
    for group, value in {**result["groups"], "overall": result["overall"]}.items():
        if value is not None:
            console.print(f"{group:<20} {value:.2f}", highlight=False)
    for task, scored in result["tasks"].items():
        if scored["absent"]:
            absent = " ".join(scored["absent"])
            console.print(f"no score of {task}: absent are {absent}", highlight=False, soft_wrap=True)
    for task, why in result["skipped"].items():
        console.print(f"not scored: {task} ({why})", highlight=False, soft_wrap=True)
    for warning in result["warnings"]:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    cli.write_json(args, result)
    return 1 if any((Path(args.predictions) / task).is_dir() for task in result["skipped"]) else 0
