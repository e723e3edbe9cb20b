"""Task families: how examples become tokens, logits, a loss, predictions and scores. One file per family.

Importing this package does not import JAX; asking for a family does.
"""

import functools
import importlib
from typing import TYPE_CHECKING, Any

from xtl.task import Task

if TYPE_CHECKING:
    from xtl.families.interface import Family


def family(task: Task) -> "Family[Any, Any, Any]":
    """The family of a task: the one instance of the class in its file (imports JAX)."""
    return _instance(task.family)


@functools.cache
def _instance(name: str) -> "Family[Any, Any, Any]":
    return importlib.import_module(f"xtl.families.{name}").FAMILY
