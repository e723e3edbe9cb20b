"""The catalog: one small file per task, each ending in `TASK = Task(...)`. Adding a task is adding a file here.

>>> from xtl.tasks import get_task
>>> get_task("xnli").train
'mnli'
"""

import functools
import importlib
import pkgutil

from xtl.errors import XtlError, nearest
from xtl.task import Task

__all__ = ["catalog", "get_task"]


@functools.cache
def catalog() -> dict[str, Task]:
    """All tasks by name, in alphabetical order."""
    tasks = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg):
        if name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{name}")
        if not isinstance(getattr(module, "TASK", None), Task):
            raise XtlError(f"xtl/tasks/{name}.py must define TASK = Task(...)")
        tasks[module.TASK.name] = module.TASK
    return tasks


def get_task(name: str) -> Task:
    """The task of that name. XtlError, with the nearest name, where there is none."""
    if name not in catalog():
        raise XtlError(f"unknown task {name!r}.{nearest(name, catalog())}")
    return catalog()[name]
