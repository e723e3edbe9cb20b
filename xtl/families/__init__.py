"""Task families: how examples become tokens, logits, a loss, predictions and scores. One file per family."""

import importlib
from types import ModuleType

from xtl.task import Task


def family(task: Task) -> ModuleType:
    """The module that implements the task's family (imports JAX)."""
    return importlib.import_module(f"xtl.families.{task.family}")
