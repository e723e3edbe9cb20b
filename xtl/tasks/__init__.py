"""Tasks: what is trained and evaluated. `get_task("xnli")`, `catalog()`; see base.py."""

import xtl.tasks.catalog  # noqa: F401  (first, or loading it later would put the package in the place of the function)
from xtl.tasks.base import catalog, family, get_task

__all__ = ["catalog", "family", "get_task"]
