"""Promises: every second since the first start is of one kind; what a restart throws away is counted as lost."""

import json

import pytest

from tests.support.stages import Events, Killed, after, stage
from tests.training.test_train import train
from xtl.training.events import Note, Saved
from xtl.training.goodput import Goodput, over


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


def kept(folder):
    return json.loads((folder / "goodput.json").read_text())


def test_seconds_go_to_what_was_done_and_rates_of_training_leave_the_rest_out(tmp_path):
    time, outside = Clock(), []
    clock = Goodput(tmp_path, time=time)
    time.passes(5)
    clock.resume(0, outside=outside.append)
    with clock("training"):
        with clock("compiling"):
            time.passes(7)
        with clock("training"):
            time.passes(20)
        with clock("saving"):
            time.passes(1)
        clock.mark(10)
        time.passes(2)
    with clock("evaluating"):
        time.passes(15)
    clock.mark(10)
    assert outside == [7, 1]
    seconds = {"starting": 5, "training": 22, "compiling": 7, "evaluating": 15, "saving": 1, "lost": 0}
    assert clock.summary() == {"share": 0.44, "starts": 1, "wall": 50, "seconds": seconds}
    assert {key: kept(tmp_path)[key] for key in clock.summary()} == clock.summary()


@pytest.mark.parametrize(("restored", "training", "lost"), [(20, 20, 30), (10, 10, 40), (0, 0, 50)])
def test_what_came_after_the_restored_checkpoint_is_lost(tmp_path, restored, training, lost):
    time = Clock()
    first = Goodput(tmp_path, time=time)
    first.resume(0)
    with first("training"):
        for step in (10, 20):
            time.passes(10)
            first.mark(step)
        time.passes(5)  # these steps are done again
    time.passes(25)  # nobody starts it again
    again = Goodput(tmp_path, time=time)
    again.resume(restored)
    with again("training"):
        time.passes(50)
        again.mark(30)
    summary = again.summary()
    assert summary["starts"] == 2 and summary["wall"] == 100
    assert summary["seconds"]["training"] == training + 50 and summary["seconds"]["lost"] == lost


def test_several_stages_have_one_goodput(tmp_path):
    time = Clock()
    for name, training in (("a", 30), ("b", 60)):
        clock = Goodput(tmp_path / name, time=time)
        time.passes(5)
        with clock("training"):
            time.passes(training)
        clock.mark(1)
    summary = over([tmp_path / name for name in "abc"])
    assert summary["wall"] == 100 and summary["share"] == 0.9 and summary["starts"] == 2
    assert over([tmp_path]) is None


def test_hosts_but_the_first_write_nothing(tmp_path):
    clock = Goodput(None)
    clock.resume(0)
    clock.mark(1)
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_its_goodput_over_restarts_and_traces_the_steps_asked_for(tmp_path):
    one = stage(tmp_path / "cache", evaluate={"xnli": {"languages": ("en",), "limit": 20}})
    folder = tmp_path / "s"
    with pytest.raises(Killed):
        train(one, folder, on_event=Events(after(Saved, 3)))
    events = Events()
    result = train(one, folder, profile=(5, 6), on_event=events)
    record = kept(folder)
    assert record["starts"] == 2 and result["goodput"]["share"] == record["share"]
    assert all(record["seconds"][kind] > 0 for kind in ("starting", "training", "compiling", "evaluating", "saving"))
    assert sum(record["seconds"].values()) == pytest.approx(record["marks"][-1]["time"] - record["first"], abs=0.01)
    assert list(folder.glob("profile/plugins/profile/*/*.xplane.pb"))
    assert "trace of steps 5 to 6" in events.of(Note)[0].text
