"""Trackers: every number of a run under its own path, and a missing package is said before anything runs."""

import sys
from types import SimpleNamespace

import pytest

from xtl.errors import XtlError
from xtl.runs.events import StateChanged
from xtl.runs.trackers import Trackers
from xtl.training import events

RECORD = {"step": 5, "loss": 1.5, "task": "mnli", "mfu": None}
EVENTS = (
    StateChanged("running"),
    events.Logged(5, 10, RECORD),
    events.Judged(step=5, score=70.0, best=True),
    events.Evaluated("xnli", "test", "de", {"accuracy": 60.0, "n": 10}),
    StateChanged("done"),
)
NUMBERS = {("train/loss", 1.5, 5), ("dev/score", 70.0, 5), ("xnli/de/accuracy", 60.0, 0), ("xnli/de/n", 10.0, 0)}


class Written:
    """Stands for a writer of either package."""

    def __init__(self, **settings):
        self.settings, self.numbers, self.closed = settings, set(), False

    def add_scalar(self, path, value, step):
        self.numbers.add((path, value, step))

    def log(self, values):
        self.numbers |= {(path, value, values["step"]) for path, value in values.items() if path != "step"}

    def close(self):
        self.closed = True

    finish = close


@pytest.mark.parametrize(
    ("name", "module", "maker"), [("tensorboard", "tensorboardX", "SummaryWriter"), ("wandb",) * 2 + ("init",)]
)
def test_every_number_is_handed_on_and_the_stage_is_closed(monkeypatch, tmp_path, name, module, maker):
    trackers = []
    make = lambda **settings: trackers.append(Written(**settings)) or trackers[-1]
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{maker: make}))
    with Trackers([name], tmp_path, project="demo") as track:
        for event in EVENTS:
            track("a", event)
        (one,) = trackers
        assert one.closed and one.numbers == NUMBERS and "a" in str(one.settings)
        track("b", EVENTS[1])
    assert len(trackers) == 2 and trackers[1].closed


def test_an_unknown_or_missing_tracker_is_an_error_at_once(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(XtlError, match="pip install wandb"):
        Trackers(["wandb"], tmp_path, project="demo")
    with pytest.raises(XtlError, match="unknown tracker 'tensorbord'"):
        Trackers(["tensorbord"], tmp_path, project="demo")
