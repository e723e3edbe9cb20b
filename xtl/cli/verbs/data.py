"""`xtl data`: what a source holds, whether it is sound, and a copy of it for machines without internet."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich import box
from rich.table import Table as Grid

from xtl.cli import main as cli
from xtl.config import schema
from xtl.data import sources
from xtl.data.settings import Data
from xtl.data.sources import doctor, pack
from xtl.errors import XtlError
from xtl.task import Task
from xtl.tasks import catalog, get_task

SHOWN = 12  # languages of one line


def data(args: Any) -> int:
    """Examine the tasks; 0 if there is data and none of it is bad. With --pack, copy what they read instead."""
    config = cli.load(args)
    names = [n for n in args.task.split(",") if n]
    tasks = list(catalog().values()) if names in ([], ["all"]) else [get_task(n) for n in names]
    section = schema.read(Data, config.data, where="config.data")
    if getattr(args, "pack", ""):
        return _pack(args, config, tasks, section)
    console = cli.console(args)
    with console.status("reading") as status:
        diagnosis = doctor.examine(tasks, section, progress=lambda what: status.update(f"reading {what}"))
    console.print(table(diagnosis))
    for line in findings(diagnosis):
        console.print(line, highlight=False)
    console.print(f"[bold]{'good' if diagnosis.good else 'bad'}[/bold]: {verdict(diagnosis)}", highlight=False)
    cli.write_json(args, diagnosis.to_json())
    return 0 if diagnosis.good else 1


def table(diagnosis: doctor.Diagnosis) -> Grid:
    """One line per task and split: languages, examples, rows that were dropped or repaired, languages without data."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in ("task", "split", "languages", "examples", "of", "dropped or repaired", "absent"):
        grid.add_column(head, justify="right" if head in ("examples", "of") else "left", overflow="fold")
    for (task, split), sets in _by_split(diagnosis.checked).items():
        stated = [c.expected for c in sets if c.expected is not None and not get_task(c.task).retrieval]
        dropped: dict[str, int] = {}
        for name, count in (item for c in sets for item in c.dropped.items()):
            dropped[name] = dropped.get(name, 0) + count
        grid.add_row(
            task,
            split,
            _few([c.language for c in sets]),
            f"{sum(c.examples for c in sets):,}",
            f"{sum(stated):,}" if stated else "",
            ", ".join(f"{name} {count:,}" for name, count in dropped.items()),
            _few(diagnosis.absent.get(task, {}).get(split, [])),
        )
    for task, splits in diagnosis.absent.items():
        for split, languages in splits.items():
            if (task, split) not in _by_split(diagnosis.checked):
                grid.add_row(task, split, "–", "–", "", "", _few(languages))
    return grid


def findings(diagnosis: doctor.Diagnosis) -> Iterator[str]:
    """The bad ones one by one; equal notes of several languages together."""
    for c in diagnosis.checked:
        for text in c.bad:
            yield f"[bold red]bad[/bold red]  {c.task} {c.language} {c.split}: {_plain(text)}"
    for name, files in diagnosis.incomplete.items():
        yield f"note {name}: incomplete, there is only {_plain(', '.join(files))}"
    for (task, split), sets in _by_split(diagnosis.checked).items():
        notes: dict[str, dict[str, list[str]]] = {}  # kind -> how many -> languages
        for c in sets:
            for kind, count in c.notes.items():
                notes.setdefault(kind, {}).setdefault(count, []).append(c.language)
        for kind, counts in notes.items():
            by_count = "; ".join(f"{_few(languages)} {count}" for count, languages in counts.items())
            yield f"note {task} {split}: {kind}: {by_count}"


def verdict(diagnosis: doctor.Diagnosis) -> str:
    """The last line."""
    bad = sum(bool(c.bad) for c in diagnosis.checked)
    if not diagnosis.checked:
        return "none of it is there"
    return f"{len(diagnosis.checked)} sets read, {bad} of them bad; absent: {', '.join(diagnosis.absent) or 'nothing'}"


def _by_split(checked: Iterable[doctor.Checked]) -> dict[tuple[str, str], list[doctor.Checked]]:
    grouped: dict[tuple[str, str], list[doctor.Checked]] = {}
    for c in checked:
        grouped.setdefault((c.task, c.split), []).append(c)
    return grouped


def _few(languages: list[str]) -> str:
    more = f" +{len(languages) - SHOWN}" if len(languages) > SHOWN else ""
    return " ".join(languages[:SHOWN]) + more


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


# ---------------------------------------------------------------- packing


def _pack(args: Any, config: ConfigDict, tasks: list[Task], section: Data) -> int:
    folder = Path(args.pack)
    if args.config:
        jobs = list(_of_pipeline(config))
    else:
        jobs = [(section, list(_of_tasks(tasks, section)))]
    written: list[Path] = []
    console = cli.console(args)
    for source, wanted in jobs:
        if not wanted:
            raise XtlError(f"nothing to pack: source {source.source} holds none of the tasks")
        with console.status(f"packing {len(wanted)} sets"):
            written += pack.pack(wanted, source, folder)
    console.print(f"packed   {len(written)} files or folders into {folder}; use it with --config.data.root={folder}")
    cli.write_json(args, {"folder": str(folder), "written": [str(p) for p in written]})
    return 0


def _of_tasks(tasks: list[Task], section: Data) -> Iterator[pack.DataSet]:
    for task in tasks:
        if section.source != "world" and getattr(task, section.source) is not None:
            for language in sources.every_language(task):
                for split in sources.splits_present(task, language, section):
                    yield task, language, split


def _of_pipeline(config: ConfigDict) -> Iterator[tuple[Data, list[pack.DataSet]]]:
    """(data section, sets) of every stage of a pipeline."""
    from xtl.config import resolve

    for stage in resolve(config).stages.values():
        wanted = [(get_task(t), x, "train") for t, entry in stage.tasks.items() for x in entry.languages]
        wanted += [(get_task(t), x, entry.split) for t, entry in stage.evaluate.items() for x in entry.languages]
        if stage.select.every:
            wanted += [(get_task(t), x, "dev") for t in stage.select.tasks for x in stage.select.languages]
        yield stage.data, wanted
