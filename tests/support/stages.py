"""Small resolved stages on the world, for tests of the loop and of evaluation."""

from pathlib import Path
from typing import Any

from xtl import config
from xtl.config.resolution import resolve
from xtl.training.events import Event

WORLD = {"seed": 0, "train": 120, "dev": 40, "test": 40, "documents": 60, "anchor_free": 0.0}
SYSTEM = {"log_every": 1, "checkpoint_every": 3, "keep": 2}
ENCODER = {"hidden": 32, "layers": 2, "heads": 2, "mlp": 64, "vocab_size": 0}
TRAIN = {"steps": 6, "learning_rate": 3e-3}
MNLI = {"mnli": {"batch_size": 8, "max_length": 48}}


def stages(cache: Path, **fields: dict[str, Any]) -> dict[str, Any]:
    """Resolved stages by name; each given as its fields, completed by the small ones above."""
    written = []
    for name, given in fields.items():
        train = TRAIN | given.get("train", {}) if given.get("tasks") else {}
        written.append(config.stage(name, **(given | {"train": train})))
    pipeline = config.pipeline(
        "test",
        encoder=config.encoder("tiny", **ENCODER),
        data={"source": "world", "tokenizer": "world", "cache": str(cache), "world": WORLD},
        system=SYSTEM,
        stages=written,
    )
    return dict(resolve(pipeline).stages)


def stage(cache: Path, **fields: Any) -> Any:
    """One resolved stage that trains mnli from scratch, unless told otherwise."""
    return stages(cache, s={"tasks": MNLI, **fields})["s"]


class Events:
    """What a run reported; `stop` raises at the first event that fits, as a kill would end the process."""

    def __init__(self, stop: Any = None):
        self.seen: list[Event] = []
        self.stop = stop

    def __call__(self, event: Event) -> None:
        self.seen.append(event)
        if self.stop is not None and self.stop(event):
            raise Killed

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


class Killed(BaseException):
    """The process is gone."""


def after(kind: type, step: int) -> Any:
    return lambda event: isinstance(event, kind) and event.step == step
