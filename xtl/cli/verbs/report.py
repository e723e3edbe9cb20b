"""`xtl report`: everything that follows from the finished stages, made again."""

from typing import Any

from xtl import report as pages
from xtl.cli import main as cli
from xtl.cli.tables import results_tables
from xtl.errors import XtlError
from xtl.runs import results
from xtl.runs.workdir import Workdir


def report(args: Any) -> int:
    """Rebuild results.csv and the report; 0 if no stage is missing."""
    workdir = Workdir(args.workdir)
    if not workdir.read_plan():
        raise XtlError(f"{workdir.path} holds no run (no plan.json): give the WORKDIR of `xtl run`")
    found = results.rebuild(workdir)
    path = pages.write(workdir)
    console = cli.console(args)
    for block in results_tables(results.table(found), width=console.width):
        console.print(block)
        console.print()
    for name, state in found.missing.items():
        print(f"missing  {name} ({state})")
    console.print(f"results  {workdir.path / 'results.csv'}\nreport   {path}", soft_wrap=True, highlight=False)
    cli.write_json(args, results.to_json(found))
    return 1 if found.missing else 0
