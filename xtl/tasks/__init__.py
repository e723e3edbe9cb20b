"""Tasks: what is trained and evaluated. `get_task("xnli")`, `catalog()`; see base.py."""

from xtl.tasks.base import catalog, family, get_task

__all__ = ["catalog", "family", "get_task"]
