"""What a run reports: the events of its stages' training, and every change of a stage's state."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from xtl.training import events

State = Literal["pending", "running", "elsewhere", "done", "failed", "blocked"]


@dataclass(frozen=True)
class StateChanged:
    """A stage is in another state now. reason: why it failed, or the stage that blocks it."""

    state: State
    reason: str = ""


Event = events.Event | StateChanged
OnEvent = Callable[[str, Event], None]  # (name of the stage, what happened)


def ignore(stage: str, event: Event) -> None:
    """Takes every event and does nothing."""
