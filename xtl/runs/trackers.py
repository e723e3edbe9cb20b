"""The events of a run as TensorBoard event files and Weights & Biases runs: `xtl run --track=tensorboard,wandb`.

Both are optional; metrics.jsonl and the report need neither. Each stage is one run of the tracker, under its own name.
"""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from xtl import files
from xtl.errors import XtlError, nearest

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}  # tensorboardX writes event files without TensorFlow


class Trackers:
    """Hands the numbers of events on: `with Trackers(names, workdir, project=...) as track: track(event)`.

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

    def __call__(self, event: Event) -> None:
        """Take an event of xtl.runs.pipeline.run."""
        scalars = dict(_scalars(event))
        for name in self.modules:
            key = (name, event["stage"])
            if scalars:
                self._write(key, scalars, step=int(event.get("step", 0)))
            if event.get("kind") == "stage" and event["state"] not in ("running", "elsewhere"):
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
    kind = event.get("kind")
    if kind == "log":
        skipped = ("step", "steps", "steps_total")
        pairs = [(f"train/{key}", value) for key, value in event.items() if key not in skipped]
    elif kind == "select":
        pairs = [("dev/score", event["score"])]
    elif kind == "eval":
        pairs = [(f"{event['task']}/{event['language']}/{key}", value) for key, value in event["scores"].items()]
    else:
        pairs = []
    return [(path, float(value)) for path, value in pairs if isinstance(value, int | float)]
