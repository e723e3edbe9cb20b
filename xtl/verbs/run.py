"""`xtl run`: the pipeline of a config, with a live picture, ending in the table."""

import sys
from typing import Any

from xtl import cli, pipeline, report, results
from xtl.config import resolve
from xtl.display import Display
from xtl.tables import results_tables
from xtl.workdir import Workdir


def run(args: Any) -> int:
    """Run the pipeline; 0 if every wanted stage is done."""
    graph = pipeline.Graph(resolve(cli.load(args)))
    workdir = Workdir(args.workdir or f"runs/{graph.name}")
    wanted = graph.needed(args.stage or graph.stages)
    from xtl import multihost  # brings JAX: after everything that can be wrong without it

    multihost.initialise()
    first = multihost.is_first()
    with Display(graph, workdir, wanted=wanted, first=first) as show:
        outcome = pipeline.run(graph, workdir, only=args.stage, on_event=show, first=first, agree=_agree)
    if first:
        _conclude(args, graph, workdir, outcome)
    return 0 if outcome.complete else 1


def _agree(choice: int) -> int:
    """The first host's choice, on every host."""
    import jax

    if jax.process_count() == 1:
        return choice
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(choice)))


def _conclude(args: Any, graph: pipeline.Graph, workdir: Workdir, outcome: pipeline.Outcome) -> None:
    found = results.collect(workdir, pipeline=graph.name)
    made = results.table(found)
    page = report.write(workdir)
    console = cli.console(args)
    if made.columns:
        console.print()
        for block in results_tables(made, width=console.width):
            console.print(block)
            console.print()
    for name, reason in outcome.failed.items():
        print(f"xtl: stage {name} failed: {reason}", file=sys.stderr)
    for name, culprit in outcome.blocked.items():
        print(f"xtl: stage {name} was not run: {culprit} failed", file=sys.stderr)
    console.print(f"results  {workdir.path / 'results.csv'}\nreport   {page}", soft_wrap=True, highlight=False)
    cli.write_json(
        args, {**results.to_json(found), "done": outcome.done, "failed": outcome.failed, "blocked": outcome.blocked}
    )
