"""`xtl tasks`: what there is to train on and to evaluate."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table as Grid

from xtl.cli import main as cli
from xtl.task import Task
from xtl.tasks import catalog, get_task


def tasks(args: Any) -> None:
    """List all tasks, or say everything about one."""
    shown = [get_task(args.task)] if args.task else list(catalog().values())
    console = cli.console(args)
    if args.task:
        for key, value in record(shown[0]).items():
            if value:
                console.print(f"[bold]{key:<12}[/bold] {_said(value)}", highlight=False)
    else:
        console.print(listing(shown))
    cli.write_json(args, [record(task) for task in shown])


def record(task: Task) -> dict[str, Any]:
    """A task as plain data."""
    return {
        "name": task.name,
        "about": task.about,
        "head": task.family,
        "metric": task.metric,
        "sources": [*(s for s in ("files", "hub", "tfds") if getattr(task, s) is not None), "world"],
        "languages": list(task.languages),
        "languages_xtreme_r": list(task.languages_r),
        "languages_translated": [*task.options.get("translated", ())],
        "splits": list(task.splits),
        "sizes": {split: dict(n) if isinstance(n, Mapping) else n for split, n in task.sizes.items()},
        "trained_on": task.train or (task.name if "train" in task.splits else ""),
        "labels": list(task.labels),
        "max_length": task.max_length,
        "benchmarks": list(task.benchmarks),
        "licence": task.licence,
    }


def listing(shown: list[Task]) -> Grid:
    """One line a task."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in ("task", "head", "metric", "languages", "train / dev / test", "trained on", "sources"):
        grid.add_column(head, no_wrap=head not in ("languages", "sources"), overflow="fold")
    for task in shown:
        facts = record(task)
        extra = f" + {len(task.languages_r)}" if task.languages_r else ""
        count = f"{len(task.languages)}{extra}" if len(task.languages) > 3 else " ".join(task.languages)
        sizes = " / ".join(_size(task, split) for split in ("train", "dev", "test"))
        trained = facts["trained_on"] if facts["trained_on"] != task.name else ""
        grid.add_row(task.name, task.family, task.metric, count, sizes, trained, " ".join(facts["sources"]))
    return grid


def _size(task: Task, split: str) -> str:
    if split not in task.splits:
        return "–"
    size = task.sizes.get(split)
    if isinstance(size, Mapping):
        return (
            f"{min(size.values()):,}..{max(size.values()):,}"
            if len(set(size.values())) > 1
            else f"{max(size.values()):,}"
        )
    return "?" if size is None else f"{size:,}"


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items())
    return str(value)
