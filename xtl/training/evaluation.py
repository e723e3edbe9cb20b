"""What a stage is judged by: development evaluations that choose a checkpoint, and the evaluations it ends with.

Also the stages that only evaluate what they start from.
"""

from typing import Any

from xtl.errors import XtlError
from xtl.families import family
from xtl.task import Task
from xtl.tasks import get_task
from xtl.training import handoff, state
from xtl.training.evaluator import Evaluation, evaluate_stage, evaluation_length
from xtl.training.events import Done, Judged, Started
from xtl.training.selection import majority_share
from xtl.training.setup import Run
from xtl.training.state import Params


def judge(run: Run, params: Params, *, step: int) -> tuple[Judged, float | None]:
    """The bounded development sample that selection goes by, and the share of the majority label among predictions.

    Several tasks are judged by the mean of their scores, as jiant does; `scores` are then by task, else by language.
    The share is that of the task that least looks collapsed; None when no task predicts a few labels.
    """
    results = [_judged(run, params, get_task(name)) for name in run.stage.select.tasks]
    for result in results:
        if result.average is None:
            raise XtlError(f"select.tasks {result.task.name}: dev of {result.unlabelled[0]} has no labels")
    averages = {result.task.name: result.average or 0.0 for result in results}
    by_language = {language: values[results[0].task.metric] for language, values in results[0].scores.items()}
    judged = Judged(
        step=step,
        score=sum(averages.values()) / len(averages),
        scores=by_language if len(results) == 1 else averages,
    )
    labels = [result.predictions.values() for result in results if family(result.task).few_labels]
    return judged, min((majority_share([p for each in lists for p in each]) for lists in labels), default=None)


def _judged(run: Run, params: Params, task: Task) -> Evaluation:
    select, length = run.stage.select, evaluation_length(task, run.stage)
    return run.evaluator(params, task, select.languages, "dev", max_length=length, limit=select.examples, hold=True)


def evaluate_finished(run: Run, params: Params) -> dict[str, float | None]:
    """The evaluations that the stage asks for, with the parameters it hands on; the averages by task."""
    return evaluate_stage(run.evaluator, params, run.stage, run.folder, on_event=run.on_event)


def evaluate_only(run: Run) -> dict[str, Any]:
    """A stage without training: the encoder and heads of its source, evaluated as they are."""
    evaluated = [get_task(name) for name in run.stage.evaluate]
    weights = handoff.load(
        run.source,
        config=run.config,
        mesh=run.mesh,
        choose=handoff.answering(evaluated),
        tokenizer=run.tokenizer,
        seed=run.stage.seed,
    )
    for note in weights.notes:
        run.note(note)
    parameters = state.count_parameters(weights.params)
    run.on_event(Started(step=0, steps=0, parameters=parameters))
    run.evaluator.head_options = {name: task.options for name, task in weights.heads.items()}
    averages = evaluate_finished(run, weights.params)
    result = {"steps": 0, "origin": weights.origin, "parameters": parameters, "evaluations": averages}
    run.on_event(Done(result))
    return result
