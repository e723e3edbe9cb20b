"""The events of a run as TensorBoard event files and Weights & Biases runs: `xtl run --track=tensorboard,wandb`.

Both are optional; metrics.jsonl and the report need neither. Each stage is one run of the tracker, under its own name.
"""

import importlib
from collections.abc import Iterable
from typing import Any

from xtl import files
from xtl.errors import XtlError, nearest
from xtl.runs.events import Event, StateChanged
from xtl.training import events

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}  # tensorboardX writes event files without TensorFlow


class Trackers:
    """Hands the numbers of events on: `with Trackers(names, workdir, project=...) as track: track(stage, event)`.

    An XtlError at once for an unknown tracker or one that is not installed, not after hours of training.
    """

    def __init__(self, names: Iterable[str], workdir: files.Pathish, *, project: str):
        self.workdir, self.project = workdir, project
        self.modules = {name: _module(name) for name in names}
        self._open: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *error: object) -> None:
        for key in list(self._open):
            self._close(key)

    def __call__(self, stage: str, event: Event) -> None:
        """Take an event of a stage."""
        scalars = dict(_scalars(event))
        for name in self.modules:
            key = (name, stage)
            if scalars:
                self._write(key, scalars, step=getattr(event, "step", 0))
            if isinstance(event, StateChanged) and event.state not in ("running", "elsewhere"):
                self._close(key)

    def _write(self, key: tuple[str, str], scalars: dict[str, float], *, step: int) -> None:
        name, stage = key
        if key not in self._open:
            if name == "tensorboard":
                folder = files.join(self.workdir, "tensorboard", stage)
                self._open[key] = self.modules[name].SummaryWriter(logdir=folder)
            else:
                settings = {"project": self.project, "name": stage, "dir": str(self.workdir), "reinit": "create_new"}
                self._open[key] = self.modules[name].init(**settings)
        if name == "wandb":
            self._open[key].log(scalars | {"step": step})
            return
        for path, value in scalars.items():
            self._open[key].add_scalar(path, value, step)

    def _close(self, key: tuple[str, str]) -> None:
        run = self._open.pop(key, None)
        if run is not None:
            run.close() if key[0] == "tensorboard" else run.finish()


def _module(name: str) -> Any:
    if name not in PACKAGES:
        raise XtlError(f"--track: unknown tracker {name!r}.{nearest(name, PACKAGES)}")
    try:
        return importlib.import_module(PACKAGES[name])
    except ImportError:
        raise XtlError(f"--track={name} needs a package: pip install {PACKAGES[name]}") from None


def _scalars(event: Event) -> Iterable[tuple[str, float]]:
    """The numbers of an event by path: `train/loss`, `dev/score`, `xnli/de/accuracy`."""
    pairs: list[tuple[str, Any]] = []
    match event:
        case events.Logged(record=record):
            pairs = [(f"train/{key}", value) for key, value in record.items() if key not in ("step", "steps")]
        case events.Judged(score=score):
            pairs = [("dev/score", score)]
        case events.Evaluated(task=task, language=language, scores=scores):
            pairs = [(f"{task}/{language}/{key}", value) for key, value in scores.items()]
    return [(path, float(value)) for path, value in pairs if isinstance(value, int | float)]
