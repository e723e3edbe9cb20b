"""Collapsed stages are trained again at a lower learning rate, once for each attempt allowed, whatever is killed."""

import io

import numpy as np
import pytest
from rich.console import Console

from tests.support.fake_training import FakeTrain, small_graph
from tests.support.stages import Events, Killed, after, stage
from xtl import files
from xtl.cli.tables import results_tables
from xtl.runs import pipeline, restarts, results
from xtl.runs.pipeline import run
from xtl.runs.workdir import Workdir
from xtl.training import meter
from xtl.training.events import Saved
from xtl.training.loop import train as train_stage


class Collapsing(FakeTrain):
    """The mlm stage collapses above a learning rate."""

    def __init__(self, *, above, killed_at=None):
        super().__init__()
        self.above, self.killed_at, self.rates = above, killed_at, []

    def __call__(self, stage, folder, **options):
        result = super().__call__(stage, folder, **options)
        if stage.name != "mlm":
            return result
        self.rates.append(stage.train.learning_rate)
        for name in ("checkpoints/5/x", "metrics.jsonl"):
            files.atomic_write(folder / name, "")
        if len(self.rates) == self.killed_at:
            raise KeyboardInterrupt
        return {**result, "collapse": "one label" if self.rates[-1] > self.above else ""}


def graph(restarts):
    return small_graph(learning_rate=8e-5, restarts=restarts)


def test_a_collapsed_stage_is_trained_again_at_half_the_rate(tmp_path):
    train = Collapsing(above=3e-5)
    assert run(graph(3), Workdir(tmp_path), train=train).complete
    assert train.rates == [8e-5, 4e-5, 2e-5]
    (folder,) = (tmp_path / "stages").glob("mlm-*")
    status = files.read_json(folder / "status.json")
    assert [one["learning_rate"] for one in status["result"]["restarts"]] == [8e-5, 4e-5]
    assert status["result"]["collapse"] == "" and status["attempt"] == 1
    assert files.read_json(folder / "config.json")["train"]["learning_rate"] == 2e-5


def test_it_is_visible_in_plan_results_and_table(tmp_path):
    run(graph(1), Workdir(tmp_path), train=Collapsing(above=5e-5))
    collected = results.collect(Workdir(tmp_path))
    assert collected.remarks == {"mlm": "collapsed at 8e-05; trained again"}
    console = Console(width=100, record=True, file=io.StringIO())
    for block in results_tables(results.table(collected), width=100):
        console.print(block)
    assert "mlm: collapsed at 8e-05" in console.export_text()
    assert results.to_json(collected)["remarks"]


def test_the_last_attempt_counts_and_is_marked(tmp_path):
    for allowed, rates in ((0, [8e-5]), (1, [8e-5, 4e-5])):
        train, folder = Collapsing(above=0), tmp_path / str(allowed)
        assert run(graph(allowed), Workdir(folder), train=train).complete
        assert train.rates == rates
        assert "looks collapsed: one label" in results.collect(Workdir(folder)).remarks["mlm"]


def test_a_kill_during_a_restart_repeats_only_the_attempt(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(graph(3), Workdir(tmp_path), train=Collapsing(above=3e-5, killed_at=2))
    train = Collapsing(above=3e-5)
    assert run(graph(3), Workdir(tmp_path), train=train).complete
    assert train.rates == [4e-5, 2e-5]


def test_giving_up_clears_the_traces_first(tmp_path, monkeypatch):
    resolved = graph(1).unit("mlm").stage
    for name in ("checkpoints/5/x", "eval/mlm.json", "metrics.jsonl"):
        files.atomic_write(tmp_path / name, "")

    def cut(path, value):
        raise Killed

    monkeypatch.setattr(files, "write_json", cut)
    with pytest.raises(Killed):
        restarts.give_up(resolved, tmp_path, "flat")
    assert restarts.given_up(tmp_path) == [] and not (tmp_path / "checkpoints").exists()


# ---------------------------------------------------------------- for real


def test_a_real_collapse_is_seen_restarted_and_survives_a_kill(tmp_path):
    """A rate near 0 predicts one label for ever: nothing learnt looks like a collapse, which is all this needs."""
    select = {"every": 3, "examples": 8, "tasks": ("mnli",)}
    fields = {"steps": 6, "learning_rate": 1e-30, "restarts": 1}
    resolved = stage(
        tmp_path / "cache", train=fields, select=select, evaluate={"xnli": {"languages": ("en",), "limit": 8}}
    )

    class One:
        """The graph of one stage."""

        def __init__(self):
            self.units = {}

    def attempt(folder, events):
        unit = pipeline.Unit("f" * 64, "t", ("s",), resolved, ())
        work = pipeline._Work(One(), Workdir(folder), [unit], lambda stage, event: events(event))
        work.attempt(unit, train=train_stage, writes=True)
        return files.read_json(folder / "stages/s-ffffffff/status.json")["result"]

    events = Events()
    whole = attempt(tmp_path / "whole", events)
    assert [one["learning_rate"] for one in whole["restarts"]] == [1e-30]
    assert "one and the same label" in whole["collapse"]
    with pytest.raises(Killed):
        attempt(tmp_path / "cut", Events(lambda event: after(Saved, 6)(event)))
    again = attempt(tmp_path / "cut", Events())
    assert again["restarts"] == whole["restarts"] and again["evaluations"] == whole["evaluations"]


def test_the_curve_does_not_depend_on_where_a_stage_was_cut():
    def fed(steps, curve=None):
        m = meter.Meter(None, predicted=frozenset(), devices=1, device_kind="cpu", steps=40, curve=curve)
        for step in steps:
            values = {"loss": np.float32(1 / step), "grad_norm": 1.0, "learning_rate": 0.1, "weight": 1.0}
            m.add(step, "mnli", values | {"examples": 8, "tokens": 100, "token_pairs": 1e3})
        m.read(all_steps=True)
        return m

    whole, first = fed(range(1, 41)), fed(range(1, 14))
    assert fed(range(14, 41), first.curve).losses() == whole.losses()
    assert len(whole.losses()) == meter.PARTS and len(first.losses()) == 7
