"""`xtl plan --watch` sees what a run in other processes does, and touches nothing."""

import io
import json

from tests.support.fake_training import FakeTrain, small_graph
from xtl import files
from xtl.cli import watch
from xtl.cli.display import Display
from xtl.cli.watch import Watcher
from xtl.runs.pipeline import run
from xtl.runs.workdir import Workdir
from xtl.training.events import Logged


def events(watcher):
    return [(stage, getattr(event, "state", type(event).__name__)) for stage, event in watcher.poll()]


def record(step, **more):
    return json.dumps({"step": step, "loss": 1.0, "seconds_per_step": 0.5, "tokens_per_second": 10.0, **more}) + "\n"


def test_a_finished_run_is_over_at_once_and_shows_its_scores(tmp_path):
    graph, workdir = small_graph(), Workdir(tmp_path)
    run(graph, workdir, train=FakeTrain())
    before = sorted(tmp_path.rglob("*"))
    out = io.StringIO()
    states = watch.watch(graph, workdir, show=Display(graph, workdir, stream=out), sleep=lambda _: 1 / 0)
    assert set(states.values()) == {"done"} and len(states) == len(graph.units)
    assert "none-xnli" in out.getvalue() and "[8/8]" in out.getvalue()
    assert sorted(tmp_path.rglob("*")) == before


def test_progress_states_and_dev_scores_are_reported_once(tmp_path):
    graph, workdir = small_graph(), Workdir(tmp_path)
    unit = graph.unit("mlm")
    folder, watcher = workdir.folder(unit.fingerprint, unit.name), Watcher(graph, workdir)
    assert {state for _, state in events(watcher)} == {"pending"} and not watcher.over
    status = {"state": "running", "fingerprint": unit.fingerprint, "started": 1.0, "steps": 40}
    with workdir.claim(unit.fingerprint):
        workdir.write_status(folder, status)
        assert events(watcher) == [("mlm", "running"), ("mlm", "Started")]
        files.atomic_write(folder / "metrics.jsonl", record(10))
        assert events(watcher) == [("mlm", "Logged")] and events(watcher) == []
        dev = {"score": 50.0, "best": True, "scores": {"en": 60.0, "de": 40.0}}
        files.atomic_write(folder / "metrics.jsonl", record(10) + record(20, dev=dev) + '{"step": 3')
        show = Display(graph, workdir, stream=io.StringIO())
        for stage, event in watcher.poll():
            show(stage, event)
        board = show.board
        assert board.progress["mlm"].step == 20 and board.progress["mlm"].steps == 40
        assert board.progress["mlm"].score == "dev 50.0 (en 60.0 de 40.0)"
        assert board.progress["mlm"].seconds_left == 10.0
    assert events(watcher) == [("mlm", "pending")]  # on record as running, but nobody holds its lock
    workdir.write_status(folder, {**status, "state": "failed", "error": "no disk"})
    ((_, failed),) = list(watcher.poll())
    assert (failed.state, failed.reason) == ("failed", "no disk")


def test_a_stage_cut_off_and_resumed_is_read_from_where_it_is(tmp_path):
    graph, workdir = small_graph(), Workdir(tmp_path)
    unit = graph.unit("mlm")
    folder, watcher = workdir.folder(unit.fingerprint, unit.name), Watcher(graph, workdir)
    with workdir.claim(unit.fingerprint):
        workdir.write_status(folder, {"state": "running", "fingerprint": unit.fingerprint, "steps": 40})
        files.atomic_write(folder / "metrics.jsonl", record(10) + record(20))
        list(watcher.poll())
        files.atomic_write(folder / "metrics.jsonl", record(10))
        (again,) = [event for _, event in watcher.poll() if isinstance(event, Logged)]
        assert again.step == 10
