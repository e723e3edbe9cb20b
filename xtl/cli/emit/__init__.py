"""The graph for engines that own a cluster: Slurm (slurm.py) and Argo Workflows on Kubernetes (argo.py).

xtl has no scheduler of its own beyond one machine. Either engine only decides when a stage may start; every job is
plain `xtl run --stage=NAME` on every host of its slice, and skips what is done, resumes what was cut off, and locks
what it works on, as on one machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the launcher in tpu/ takes jobset.py from here, and has the standard library alone
    from xtl.runs.pipeline import Graph


@dataclass(frozen=True)
class Request:
    """What every job runs: the command line of `xtl run` without its --stage, and what the engine needs to know."""

    graph: Graph
    command: tuple[str, ...]  # xtl run --config=... --workdir=...
    workdir: str
    topology: str = ""  # v5e:4x4, 2*v5e:4x4
    image: str = ""
    queue: str = ""


@dataclass(frozen=True)
class Siblings:
    """Stages that start from the same one (parent: its name, "" for none) and may run side by side."""

    parent: str
    stages: tuple[str, ...]


def families(graph: Graph) -> list[Siblings]:
    """The units of a graph by parent, parents before children."""
    children: dict[str, list[str]] = {}
    for unit in graph.units.values():
        parent = graph.units[unit.parents[0]].name if unit.parents else ""
        children.setdefault(parent, []).append(unit.name)
    return [Siblings(parent, tuple(stages)) for parent, stages in children.items()]
