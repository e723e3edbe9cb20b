"""`xtl run`: the pipeline of a config, with a live picture, ending in the table."""

import sys
from collections.abc import Mapping
from typing import Any

from xtl.cli import main as cli
from xtl.errors import XtlError
from xtl.runs import pipeline, results
from xtl.runs.events import Event
from xtl.runs.trackers import Trackers
from xtl.runs.workdir import Workdir
from xtl.studies.record import record


def run(args: Any) -> int:
    """Run the pipeline; 0 if every wanted stage is done."""
    profile = profiled_steps(args.profile)
    config = cli.load(args)
    # After what needs neither the terminal library nor the data stack: a mistake in the command line answers at once.
    from xtl.cli.display import Display
    from xtl.config.resolution import resolve

    graph = pipeline.Graph(resolve(config))
    workdir = Workdir(args.workdir or f"runs/{graph.name}")
    wanted = graph.needed(args.stage or graph.stages)
    trackers = Trackers(args.track, workdir.path, project=graph.name)
    from xtl.parallel import multihost  # brings JAX: after everything that can be wrong without it

    multihost.initialise()
    first = multihost.is_first()
    if first:
        record(workdir, graph.name, config)
    with multihost.together():
        with Display(graph, workdir, wanted=wanted, first=first) as show, trackers as track:

            def on_event(stage: str, event: Event) -> None:
                show(stage, event)
                if first:
                    track(stage, event)

            outcome = pipeline.run(
                graph, workdir, only=args.stage, train=_trainer(profile), on_event=on_event, first=first, agree=_agree
            )
        if first:
            _conclude(args, graph, workdir, outcome)
    return 0 if outcome.complete else 1


def _trainer(profile: tuple[int, int] | None) -> pipeline.Train:
    """xtl.training.loop.train, whose errors count as a stage's failure only if all hosts have them."""
    from xtl.parallel import multihost
    from xtl.training.loop import train

    def train_together(*args: Any, **options: Any) -> Mapping[str, Any]:
        try:
            return train(*args, profile=profile, **options)
        except Exception as error:
            multihost.agree_on_failure(error)
            raise

    return train_together


def profiled_steps(text: str) -> tuple[int, int] | None:
    """(first, last) of "10:15", one step of "10", None of ""; counted from 1, both included."""
    if not text:
        return None
    first, colon, last = text.partition(":")
    try:
        steps = int(first), int(last if colon else first)
    except ValueError:
        steps = (0, 0)
    if not 1 <= steps[0] <= steps[1]:
        raise XtlError(f"--profile={text}: give the first and the last step to trace, such as 10:15")
    return steps


def _agree(choice: int) -> int:
    """The first host's choice, on every host."""
    import jax

    if jax.process_count() == 1:
        return choice
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(choice)))


def _conclude(args: Any, graph: pipeline.Graph, workdir: Workdir, outcome: pipeline.Outcome) -> None:
    from xtl.cli.tables import results_tables
    from xtl.cli.verbs.report import write_pages

    collected = results.collect(workdir, pipeline=graph.name)
    table = results.table(collected)
    page = write_pages(workdir)
    console = cli.console(args)
    if table.columns:
        console.print()
        for block in results_tables(table, width=console.width):
            console.print(block)
            console.print()
    for name, reason in outcome.failed.items():
        print(f"xtl: stage {name} failed: {reason}", file=sys.stderr)
    for name, culprit in outcome.blocked.items():
        print(f"xtl: stage {name} was not run: {culprit} failed", file=sys.stderr)
    console.print(f"results  {workdir.path / 'results.csv'}\nreport   {page}", soft_wrap=True, highlight=False)
    cli.write_json(
        args, {**results.to_json(collected), "done": outcome.done, "failed": outcome.failed, "blocked": outcome.blocked}
    )
