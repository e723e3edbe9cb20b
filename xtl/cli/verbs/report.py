"""`xtl report`: rebuilds everything that follows from the finished stages."""

from pathlib import Path
from typing import Any

from xtl.cli import main as cli
from xtl.cli.tables import results_tables
from xtl.errors import XtlError
from xtl.runs import results
from xtl.runs.workdir import Workdir
from xtl.studies.record import recorded


def report(args: Any) -> int:
    """Rebuild results.csv and the report; 0 if no stage is missing."""
    workdir = Workdir(args.workdir)
    if not workdir.read_plan():
        raise XtlError(f"{workdir.path} holds no run (no plan.json): give the WORKDIR of `xtl run`")
    rebuilt = results.rebuild(workdir)
    path = write_pages(workdir)
    console = cli.console(args)
    for block in results_tables(results.table(rebuilt), width=console.width):
        console.print(block)
        console.print()
    for name, state in rebuilt.missing.items():
        print(f"missing  {name} ({state})")
    console.print(f"results  {workdir.path / 'results.csv'}\nreport   {path}", soft_wrap=True, highlight=False)
    cli.write_json(args, results.to_json(rebuilt))
    return 1 if rebuilt.missing else 0


def write_pages(workdir: Workdir) -> Path:
    """Write the page of the run and those of its studies; returns the path of the former."""
    from xtl import report  # here, as a mistake in the command line must not wait for it

    studies = []
    if recorded(workdir):
        from xtl.studies import pages  # imports JAX, pandas, statsmodels: only if there is a study

        studies = pages.write(workdir)
    return report.write(workdir, studies=studies)
