"""How far a stage has come: what the loop passes on from step to step, and what every checkpoint stores of it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xtl.training.selection import Selection

Curve = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Faults:
    """Steps that were not applied, because their loss or gradient was not finite."""

    in_row: int = 0  # up to the newest step
    in_all: int = 0


@dataclass(frozen=True)
class Progress:
    """The state of the loop beside the train state."""

    step: int = 0  # steps done: batches seen, whether or not they could be applied
    finished: bool = False  # by its last step, or because selection has lost patience
    selection: Selection | None = None  # None: the last checkpoint is handed on
    majority: float | None = None  # share of the majority label at the best evaluation; None: not looked at
    curve: Curve | None = None  # (sum of losses, steps) of each part of the stage
    faults: Faults = field(default_factory=Faults)  # steps that were not applied

    def as_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Progress":
        """The progress that a checkpoint stored."""
        selection, curve = values.get("selection"), values.get("curve")
        return cls(
            step=values["step"],
            finished=values["finished"],
            selection=Selection.from_json(selection) if selection else None,
            majority=values.get("majority"),
            curve=tuple((float(total), int(count)) for total, count in curve) if curve else None,
            faults=Faults(**values.get("faults", {})),
        )
