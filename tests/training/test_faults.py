"""Promises: a step whose loss is not finite changes nothing, is counted, kept, reported, and ends no run by itself."""

import jax
import numpy as np
import pytest

from tests.support.stages import Events, Killed, after, stage
from xtl import files, logs
from xtl.data.batches import TrainStream
from xtl.errors import XtlError
from xtl.parallel.mesh import make_mesh
from xtl.training import checkpoint
from xtl.training.events import Note, Saved
from xtl.training.loop import train as train_stage

TASKS = {
    "mnli": {"mnli": {"batch_size": 8, "max_length": 48}},
    "mlm": {"mlm": {"batch_size": 8, "max_length": 48, "languages": ("en",)}},
    "squad_v1": {"squad_v1": {"batch_size": 8, "max_length": 96}},
    "udpos": {"udpos": {"batch_size": 8, "max_length": 48}},
    "hellaswag": {"hellaswag": {"batch_size": 8, "max_length": 48}},
    "lareqa": {"lareqa": {"batch_size": 8, "max_length": 48}},
}
ONE = ((1, 1, 1), 1)
EIGHT = ((2, 2, 2), 8)


def train(one, folder, *, shape=ONE, **options):
    sides, count = shape
    return train_stage(one, folder, mesh=make_mesh(sides, devices=jax.devices()[:count]), **options)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def poisoned(monkeypatch):
    """Makes the batches of some steps (from 1) look up a piece that no vocabulary has: the encoder gives NaN."""
    steps: set[int] = set()
    original = TrainStream.__getitem__

    def batch_of(self, step):
        name, batch = original(self, step)
        if step + 1 in steps:
            batch = {**batch, "ids_rt": np.full_like(batch["ids_rt"], 10**6)}
        return name, batch

    monkeypatch.setattr(TrainStream, "__getitem__", batch_of)
    return steps


def digests(folder, step):
    return checkpoint.describe(folder / "checkpoints" / str(step))["digests"]


@pytest.mark.mesh
@pytest.mark.parametrize(("name", "shape"), [*((name, ONE) for name in TASKS), ("mnli", EIGHT)])
def test_a_step_that_is_not_finite_is_as_if_it_had_not_been(cache, tmp_path, poisoned, name, shape):
    """Poisoned from the third step on, a stage is after six steps what it was after two."""
    one = stage(cache, tasks=TASKS[name], system={"checkpoint_every": 2, "bad_steps": 9})
    poisoned.update(range(3, 7))
    events = Events()
    train(one, tmp_path, shape=shape, on_event=events)
    assert digests(tmp_path, 6)["state"] == digests(tmp_path, 4)["state"]
    about = checkpoint.describe(tmp_path / "checkpoints" / "6")["progress"]
    assert about["faults"] == {"in_row": 4, "in_all": 4} and about["step"] == 6
    notes = [event.text for event in events.of(Note)]
    assert sum("not applied" in text for text in notes) == 4
    kept = files.read_json(tmp_path / "bad_steps" / "3.json")
    assert len(kept["examples"]) == 8 and kept["task"] == name and kept["examples"][0].startswith("en/")
    assert (np.load(tmp_path / "bad_steps" / "3.npz")["ids_rt"] == 10**6).all()


@pytest.mark.parametrize("bad", [3, 6])
def test_a_kill_after_a_bad_step_ends_with_the_same_bits(cache, tmp_path, poisoned, bad):
    one = stage(cache, system={"checkpoint_every": 1})
    poisoned.add(bad)
    train(one, tmp_path / "whole")
    for step in (bad - 1, bad):
        with pytest.raises(Killed):
            train(one, tmp_path / f"cut{step}", on_event=Events(after(Saved, step)))
        train(one, tmp_path / f"cut{step}")
        assert digests(tmp_path / f"cut{step}", 6) == digests(tmp_path / "whole", 6)
    records = logs.read_lines(tmp_path / "whole" / "metrics.jsonl")
    assert all(np.isfinite(record["loss"]) for record in records) and sum(record["steps"] for record in records) == 5


def test_three_in_a_row_end_the_stage_and_more_patience_takes_it_on(cache, tmp_path, poisoned):
    one = stage(cache, system={"checkpoint_every": 1})
    poisoned.update((2, 3, 4))
    with pytest.raises(XtlError, match=r"3 in a row and 3 in all.*bad_steps/4.json.*system.bad_steps"):
        train(one, tmp_path)
    patient = stage(cache, system={"checkpoint_every": 1, "bad_steps": 4})
    assert train(patient, tmp_path)["steps"] == 6


def test_bad_steps_apart_from_each_other_are_counted_in_all(cache, tmp_path, poisoned):
    one = stage(cache, system={"checkpoint_every": 1, "bad_steps_in_all": 2})
    poisoned.update((2, 4))
    with pytest.raises(XtlError, match="1 in a row and 2 in all"):
        train(one, tmp_path)
