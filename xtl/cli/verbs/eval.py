"""`xtl eval`: any checkpoint on any task, in any languages."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as Grid

from xtl import config, files
from xtl.cli import main as cli
from xtl.errors import XtlError


def evaluate(args: Any) -> None:
    """Evaluate, print the scores by language; with --out, keep eval/ and predictions/."""
    resolved = config.resolve(_config(args))
    (stage,) = resolved.stages.values()
    from xtl.training.loop import train

    console = cli.console(args)
    with contextlib.ExitStack() as stack:
        out = Path(args.out) if args.out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if files.exists(out / "eval" / f"{args.task}.json"):
            raise XtlError(f"{out} holds an evaluation of {args.task} already: choose another --out")
        with console.status(f"evaluating {args.task}"):
            train(stage, out)
        report = files.read_json(out / "eval" / f"{args.task}.json")
    console.print(_scores(report))
    console.print(f"{report['task']} {report['split']}: {_summary(report)}")
    cli.write_json(args, report)


def _config(args: Any) -> Any:
    """A pipeline of one stage that only evaluates; data as where the checkpoint was trained, flags laid over it."""
    from xtl.training import handoff

    path = Path(args.checkpoint).expanduser()
    trained_by = _stage_of(path)
    entry = {"languages": args.languages, "split": args.split}
    stage = config.stage("eval", phase="eval", start=str(path), evaluate={args.task: entry})
    data = {key: value for key, value in trained_by.get("data", {}).items() if key != "revision"}
    pipeline = config.pipeline("eval", encoder=handoff.encoder_section(path), data=data, stages=[stage])
    for key, text in args.overrides.items():
        config.override(pipeline, key.removeprefix("config."), text)
    return pipeline


def _stage_of(path: Path) -> dict[str, Any]:
    """The config.json of the stage a checkpoint belongs to; {} for one that stands alone."""
    for folder in (path, *path.parents[:3]):
        if (folder / "config.json").exists() and (folder / "status.json").exists():
            return files.read_json(folder / "config.json")
    return {}


def _summary(report: dict[str, Any]) -> str:
    """The average; where labels are hidden, what was scored and what was only predicted."""
    metric = report["metric"]
    if report["average"] is not None:
        return f"{metric} {report['average']:.2f} on average"
    parts = [
        f"{metric} {scores[metric]:.2f} in {language}"
        for language, scores in report["languages"].items()
        if metric in scores
    ]
    predicted = report["predicted"]
    where = f" in {', '.join(predicted)}" if parts else ""
    return "; ".join([*parts, f"{sum(predicted.values())} predicted{where}, labels hidden, not scored"])


def _scores(report: dict[str, Any]) -> Grid:
    metrics = list(dict.fromkeys(key for scores in report["languages"].values() for key in scores if key != "n"))
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    grid.add_column("language")
    for head in ("n", *metrics):
        grid.add_column(head, justify="right")
    for language, scores in report["languages"].items():
        numbers = [f"{scores[m]:.2f}" if m in scores else "" for m in metrics]
        grid.add_row(language, str(scores.get("n", "")), *numbers)
    return grid
