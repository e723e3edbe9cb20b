"""What a stage reports while it runs: typed events, taken by the display, by trackers and by tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Started:
    """The stage is set up: the screen that answers most questions before they are asked."""

    step: int  # steps done before this start
    steps: int  # of the whole stage; 0: it only evaluates
    resumed: bool = False
    devices: str = ""  # "8 x TPU v5 lite"
    mesh: Mapping[str, int] = field(default_factory=dict)
    hosts: int = 1
    parameters: Mapping[str, int] = field(default_factory=dict)  # by part
    state_bytes_per_device: int = 0
    batches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # task -> the shapes of its batches


@dataclass(frozen=True)
class Logged:
    """A record of metrics.jsonl (training/meter.py names its keys)."""

    step: int
    steps: int
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """A development evaluation that selection goes by. scores: by language or, with several tasks, by task."""

    step: int
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    best: bool = False


@dataclass(frozen=True)
class Evaluated:
    """One task in one language is scored. scores: {metric: 0..100, "n": count}."""

    task: str
    split: str
    language: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on its way to disk; what trained it is in it."""

    step: int


@dataclass(frozen=True)
class Note:
    """Something unusual, in words."""

    text: str


@dataclass(frozen=True)
class Done:
    """The stage is finished; `result` goes into status.json."""

    result: Mapping[str, Any]


Event = Started | Logged | Judged | Evaluated | Saved | Note | Done
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Takes every event and does nothing."""
