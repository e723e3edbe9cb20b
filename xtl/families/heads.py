"""The rule that decides which trained head answers for a task. Pure: names, families, labels and options.

Heads are given as the tasks they were trained on, each with the options it was trained with, by the name under which
the head is stored.
"""

from collections.abc import Mapping

from xtl.errors import XtlError
from xtl.families import family
from xtl.task import Task

Heads = Mapping[str, Task]


def head_for(task: Task, heads: Heads) -> str | None:
    """The name of the head that a task is evaluated with; None for a family without a head.

    Its own head, else that of the task it trains on (xnli: mnli), else the only one of the same family and labels.
    XtlError where none fits or several do.
    """
    if not family(task).has_head:
        return None
    for name in (task.name, task.train):
        if name in heads:
            return name
    fitting = [name for name, head in heads.items() if same_labels(task, head)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise XtlError(
            f"{task.name} can be read by several heads ({', '.join(fitting)}): train on one of these alone, or on "
            f"{task.train or task.name}"
        )
    raise XtlError(
        f"no head for {task.name} among the trained ones ({', '.join(heads) or 'none'}): train it on "
        f"{task.train or task.name}, or start from a stage that was"
    )


def heads_to_start_from(tasks: Heads, heads: Heads, *, keep: bool, origin: str) -> dict[str, str]:
    """The heads that training on `tasks` goes on from, {task: name among `heads`, those of the source `origin`}.

    keep (train.keep_head): all of them; XtlError where one is missing. Otherwise only a head that was pretrained with
    the encoder (MLM), if the source has it; every other task gets a new one.
    """
    if keep:
        return {name: kept_head(task, heads, origin=origin) for name, task in tasks.items()}
    return {name: name for name, task in tasks.items() if family(task).head_of_encoder and name in heads}


def kept_head(task: Task, heads: Heads, *, origin: str) -> str:
    """The name of the head of `origin` that training on a task goes on from (train.keep_head), by `head_for`.

    XtlError if there is none, or if it was trained in another form (options.head): the same weights in other layers
    would be another model.
    """
    fitting = {name: head for name, head in heads.items() if (head.family, head.labels) == (task.family, task.labels)}
    if not fitting:
        raise XtlError(f"train.keep_head: {origin} has no head for {task.name} (it has: {', '.join(heads) or 'none'})")
    name = head_for(task, fitting)
    if name is None:
        raise XtlError(f"train.keep_head: {task.name} has no head to keep")
    form = heads[name].options.get("head")
    if form != task.options.get("head"):
        raise XtlError(
            f"train.keep_head: the head {name} of {origin} was trained with options.head={form or 'default'}: "
            f"give {task.name} the same"
        )
    return name


def same_labels(task: Task, head: Task) -> bool:
    """Whether the head of another task means the same to this one: same family, same labels in the same order."""
    return (task.family, task.labels) == (head.family, head.labels)
