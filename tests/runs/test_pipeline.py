"""The graph: what is trained, once, in which order, under kills, failures and several launches."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.support.fake_training import FakeTrain, small_config, small_graph, trained
from xtl import config, files
from xtl.config.resolution import resolve
from xtl.errors import XtlError
from xtl.runs import pipeline
from xtl.runs import workdir as workdirs
from xtl.runs.events import StateChanged
from xtl.runs.pipeline import Graph, run
from xtl.runs.workdir import Workdir

ALL = 1 + 2 * 3 + 1  # mlm, two conditions of three targets, one intermediate stage


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch):
    monkeypatch.setattr(pipeline, "POLL_SECONDS", 0.02)


def test_parents_come_before_children_and_config_order_is_kept():
    units = list(small_graph().units.values())
    seen = set()
    for unit in units:
        assert set(unit.parents) <= seen
        seen.add(unit.fingerprint)
    assert [unit.name for unit in units][:4] == ["mlm", "none-xnli", "none-xquad+mlqa", "none-tatoeba"]


def test_a_run_trains_every_stage_once_and_records_it(tmp_path):
    train, events = FakeTrain(), []
    outcome = run(small_graph(), Workdir(tmp_path), train=train, on_event=lambda *event: events.append(event))
    assert outcome.complete and len(outcome.done) == len(train.calls) == ALL
    for name, folder, _ in train.calls:
        status = files.read_json(folder / "status.json")
        assert status["state"] == "done" and status["attempt"] == 1
        assert folder.name == f"{name}-{status['fingerprint'][:8]}"
        assert files.read_json(folder / "config.json")["data"]["cache"] == str(tmp_path / "cache")
    plan = files.read_json(tmp_path / "plan.json")["stages"]
    assert {entry["state"] for entry in plan} == {"done"} and plan[0]["name"] == "mlm"
    assert (tmp_path / "results.csv").exists()
    assert [e.state for stage, e in events if stage == "mlm" and isinstance(e, StateChanged)] == ["running", "done"]


def test_a_second_run_trains_nothing(tmp_path):
    run(small_graph(), Workdir(tmp_path), train=FakeTrain())
    again = FakeTrain()
    outcome = run(small_graph(), Workdir(tmp_path), train=again)
    assert outcome.complete and again.calls == []


def test_children_get_the_folder_of_the_stage_they_start_from(tmp_path):
    train = FakeTrain()
    run(small_graph(), Workdir(tmp_path), train=train)
    folders = {name: folder for name, folder, _ in train.calls}
    parents = {name: parent for name, _, parent in train.calls}
    assert parents["mlm"] is None
    assert parents["mnli"] == folders["mlm"] and parents["mnli-xnli"] == folders["mnli"]


def test_stages_equal_up_to_fingerprint_are_one_unit(tmp_path):
    graph = small_graph(seeds=(0, 1))
    # Retrieval trains nothing, so on the shared mlm encoder every seed of it is the same.
    assert graph.unit("none-tatoeba") is graph.unit("none-tatoeba-s1")
    assert graph.unit("mnli-tatoeba") is not graph.unit("mnli-tatoeba-s1")
    assert len(graph.stages) == 1 + 2 * 7 and len(graph.units) == len(graph.stages) - 1
    train = FakeTrain()
    assert run(graph, Workdir(tmp_path), train=train).complete
    assert len(train.calls) == len(graph.units)


def test_a_second_pipeline_under_the_same_workdir_shares_what_is_equal(tmp_path):
    run(small_graph(), Workdir(tmp_path), train=FakeTrain())
    renamed = config.pipeline(
        "other",
        encoder=config.encoder("tiny"),
        stages=[
            config.stage("text", phase="mlm", tasks="mlm", train={"steps": 10}),
            config.stage("qqp", start="stage:text", tasks="qqp", train={"steps": 5}, phase="intermediate"),
        ],
    )
    train = FakeTrain()
    outcome = run(Graph(resolve(renamed, look=False)), Workdir(tmp_path), train=train)
    assert outcome.complete and [name for name, *_ in train.calls] == ["qqp"]
    assert train.calls[0][2].name.startswith("mlm-")
    pipelines = [entry["pipeline"] for entry in files.read_json(tmp_path / "plan.json")["stages"]]
    assert pipelines == ["small"] * ALL + ["other"] * 2


def test_a_failed_stage_stops_only_what_starts_from_it(tmp_path):
    train = FakeTrain(fails=("mnli",))
    outcome = run(small_graph(), Workdir(tmp_path), train=train)
    assert not outcome.complete
    assert outcome.failed == {"mnli": "ValueError: mnli was told to fail in two lines"}
    assert set(outcome.blocked) == {"mnli-xnli", "mnli-xquad+mlqa", "mnli-tatoeba"}
    assert set(outcome.blocked.values()) == {"mnli"}
    assert set(outcome.done) == {"mlm", "none-xnli", "none-xquad+mlqa", "none-tatoeba"}
    (folder,) = (tmp_path / "stages").glob("mnli-????????")
    assert files.read_json(folder / "status.json")["state"] == "failed"
    assert "told to fail" in (folder / "error.txt").read_text()


def test_a_failed_stage_is_tried_again_by_the_next_launch(tmp_path):
    run(small_graph(), Workdir(tmp_path), train=FakeTrain(fails=("mnli",)))
    train = FakeTrain()
    assert run(small_graph(), Workdir(tmp_path), train=train).complete
    assert [name for name, *_ in train.calls] == ["mnli", "mnli-xnli", "mnli-xquad+mlqa", "mnli-tatoeba"]


def test_an_interrupted_stage_is_pending_and_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(small_graph(), Workdir(tmp_path), train=FakeTrain(interrupted_at="none-xnli"))
    (folder,) = (tmp_path / "stages").glob("none-xnli-*")
    assert files.read_json(folder / "status.json")["state"] == "pending"
    assert run(small_graph(), Workdir(tmp_path), train=FakeTrain()).complete
    assert files.read_json(folder / "status.json")["attempt"] == 2


def test_missing_scores_are_not_taken_for_done(tmp_path):
    def forgetful(stage, folder, *, parent, on_event):
        FakeTrain()(stage, folder, parent=parent, on_event=on_event)
        if stage.name == "none-xnli":
            path = folder / "eval" / "xnli.json"
            report = files.read_json(path)
            del report["languages"]["sw"]
            files.write_json(path, report)

    outcome = run(small_graph(), Workdir(tmp_path), train=forgetful)
    assert "no scores for sw" in outcome.failed["none-xnli"]


def test_only_runs_a_stage_and_what_it_starts_from(tmp_path):
    train = FakeTrain()
    outcome = run(small_graph(), Workdir(tmp_path), only=["mnli-xnli"], train=train)
    assert outcome.complete and [name for name, *_ in train.calls] == ["mlm", "mnli", "mnli-xnli"]
    with pytest.raises(XtlError, match=r"no stage 'mnli-xnlo'.*Did you mean 'mnli-xnli'"):
        run(small_graph(), Workdir(tmp_path), only=["mnli-xnlo"], train=train)


def test_a_changed_stage_is_trained_anew_with_what_starts_from_it(tmp_path):
    run(small_graph(), Workdir(tmp_path), train=FakeTrain())
    changed = small_config()
    config.override(changed, "stages.mnli.train.learning_rate", "2e-5")
    train = FakeTrain()
    run(Graph(resolve(changed, look=False)), Workdir(tmp_path), train=train)
    assert [name for name, *_ in train.calls] == ["mnli", "mnli-xnli", "mnli-xquad+mlqa", "mnli-tatoeba"]


def test_a_foreign_folder_under_a_fingerprint_is_refused(tmp_path):
    graph = small_graph()
    folder = tmp_path / "stages" / f"mlm-{graph.of['mlm'][:8]}"
    files.write_json(folder / "status.json", {"state": "done", "fingerprint": "0" * 64})
    with pytest.raises(XtlError, match="belongs to another stage"):
        run(graph, Workdir(tmp_path), train=FakeTrain())


# ---------------------------------------------------------------- several launches


def launch(workdir, seconds):
    script = os.path.join(os.path.dirname(os.path.dirname(__file__)), "support", "fake_training.py")
    root = os.path.dirname(os.path.dirname(os.path.dirname(script)))
    return subprocess.Popen(
        [sys.executable, script, str(workdir), str(seconds)], env={**os.environ, "PYTHONPATH": root}
    )


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.procs
def test_three_launches_one_killed_train_nothing_twice_and_end_with_the_same_bytes(tmp_path):
    run(small_graph(), Workdir(tmp_path / "alone"), train=FakeTrain())
    shared = tmp_path / "shared"
    launches = [launch(shared, 0.25) for _ in range(3)]
    wait_until(lambda: (shared / "trained.log").exists() and len(trained(shared, "begin")) >= 3)
    launches[0].send_signal(signal.SIGKILL)
    assert launches[0].wait() == -signal.SIGKILL
    assert [one.wait() for one in launches[1:]] == [0, 0]
    ends = trained(shared)
    assert len(ends) == len(set(ends)) == ALL
    assert len(trained(shared, "begin")) <= ALL + 1  # only what the killed launch was at was begun twice
    assert (shared / "results.csv").read_bytes() == (tmp_path / "alone" / "results.csv").read_bytes()


@pytest.mark.procs
def test_a_dead_launch_loses_its_lock(tmp_path):
    graph = small_graph()
    victim = launch(tmp_path, 60)
    wait_until(lambda: (tmp_path / "trained.log").exists())
    workdir, mlm = Workdir(tmp_path), graph.unit("mlm").fingerprint
    with workdir.claim(mlm) as mine:
        assert not mine and workdir.held(mlm)
    victim.kill()
    victim.wait()
    with workdir.claim(mlm) as mine:
        assert mine
    assert workdir.status(mlm, "mlm")["state"] == "running"  # on record; the next launch takes it over
    assert run(graph, workdir, train=FakeTrain()).complete


def test_a_launch_waits_for_what_another_one_holds(tmp_path):
    graph, workdir, states = small_graph(), Workdir(tmp_path), []

    def on_event(stage, event):
        states.append(getattr(event, "state", None))
        if states[-1] == "elsewhere":
            held.__exit__(None, None, None)

    held = workdir.claim(graph.unit("mlm").fingerprint)
    assert held.__enter__()
    train = FakeTrain()
    assert run(graph, workdir, train=train, on_event=on_event).complete
    assert states[0] == "elsewhere" and train.calls[0][0] == "mlm"


def test_a_failure_in_another_launch_is_not_repeated_here(tmp_path):
    graph, workdir = small_graph(), Workdir(tmp_path)
    unit = graph.unit("mnli")

    class Elsewhere(FakeTrain):
        def __call__(self, stage, folder, **options):
            if stage.name == "none-xnli":  # meanwhile, in another launch
                failed = {
                    "state": "failed",
                    "fingerprint": unit.fingerprint,
                    "finished": time.time() + 1,
                    "error": "boom",
                }
                workdir.write_status(workdir.folder(unit.fingerprint, unit.name), failed)
            return super().__call__(stage, folder, **options)

    train = Elsewhere()
    outcome = run(graph, workdir, train=train)
    assert outcome.failed == {"mnli": "boom"} and "mnli" not in [name for name, *_ in train.calls]


def test_a_finished_stage_frees_its_train_state_and_has_its_devices_on_record(tmp_path):
    class Saving(FakeTrain):
        def __call__(self, stage, folder, **options):
            for item in ("encoder", "state"):
                (folder / "checkpoints/10" / item).mkdir(parents=True)
            result = super().__call__(stage, folder, **options)
            assert (folder / "checkpoints/10/state").exists()
            return result

    workdir = Workdir(tmp_path)
    run(small_graph(), workdir, train=Saving(fails=["mnli"]))
    kept = {path.parts[-4].rpartition("-")[0]: path.name for path in tmp_path.glob("stages/*/checkpoints/10/state")}
    assert set(kept) == {"mnli"}, "only what is not done keeps it"
    assert len(list(tmp_path.glob("stages/*/checkpoints/10/encoder"))) > 1
    unit = small_graph().unit("mlm")
    assert workdir.status(unit.fingerprint, unit.name)["devices"] == "1 x fake"


def test_every_host_does_what_the_first_one_chooses(tmp_path):
    graph, chosen = small_graph(), []
    first = FakeTrain()
    run(graph, Workdir(tmp_path), train=first, agree=lambda choice: chosen.append(choice) or choice)
    assert chosen[-1] == -1
    follower, choices = FakeTrain(), iter(chosen)
    run(graph, Workdir(tmp_path), train=follower, first=False, agree=lambda _: next(choices))
    assert [call[:2] for call in follower.calls] == [call[:2] for call in first.calls]


@pytest.mark.procs
def test_kills_at_random_moments_leave_the_bytes_of_an_undisturbed_run(tmp_path):
    run(small_graph(), Workdir(tmp_path / "alone"), train=FakeTrain())
    cut, chance, kills = tmp_path / "cut", random.Random(0), 5
    for _ in range(kills):
        begun = len(trained(cut, "begin")) if (cut / "trained.log").exists() else 0
        one = launch(cut, 0.25)
        # A stage begins under every launch, so that none is killed before it does anything, at whatever speed.
        wait_until(lambda seen=begun: (cut / "trained.log").exists() and len(trained(cut, "begin")) > seen)
        time.sleep(chance.uniform(0, 0.3))
        one.kill()
        assert one.wait() == -signal.SIGKILL
    assert run(small_graph(), Workdir(cut), train=FakeTrain()).complete
    assert len(trained(cut, "begin")) <= ALL + kills
    assert (tmp_path / "cut/results.csv").read_bytes() == (tmp_path / "alone/results.csv").read_bytes()


@pytest.mark.procs
@pytest.mark.slow
@pytest.mark.parametrize("words", [["--kills=4"], ["--launches=4", "--killed=2"]])
def test_real_stages_survive_kills_and_company(tmp_path, words):
    size = [f"--config.encoder.{key}={n}" for key, n in (("hidden", 32), ("layers", 1), ("mlp", 64))]
    size += [f"--config.data.world.{key}={n}" for key, n in (("documents", 60), ("train", 60), ("dev", 8), ("test", 8))]
    config = ["--config=configs/demo.py:mlm_steps=20,steps=10", "--config.system.checkpoint_every=5", *size]
    script = os.path.join(
        os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "scripts", "crash_test.py"
    )
    done = subprocess.run(
        [sys.executable, script, f"--workdir={tmp_path}", *words, *config], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- bookkeeping


def test_the_stage_folders_are_listed_a_fixed_number_of_times_however_many_are_done(tmp_path, monkeypatch):
    """Looking at a finished run costs what its stages cost, not their square."""
    listings = []
    by_fingerprint = workdirs._by_fingerprint
    monkeypatch.setattr(workdirs, "_by_fingerprint", lambda stages: listings.append(stages) or by_fingerprint(stages))
    counts = []
    for seeds in (1, 4):
        graph, place = small_graph(seeds=range(seeds)), tmp_path / str(seeds)
        run(graph, Workdir(place), train=FakeTrain())
        os.utime(place / "stages", (0, 1))  # long settled
        listings.clear()
        assert run(graph, Workdir(place), train=FakeTrain()).complete
        counts.append(len(listings))
    assert counts[0] == counts[1] <= 2


def test_a_folder_that_another_launch_adds_is_seen(tmp_path):
    first, second = Workdir(tmp_path), Workdir(tmp_path)
    (tmp_path / "stages" / "a-11111111").mkdir(parents=True)
    assert set(first.folders()) == {"11111111"} == set(first.folders())
    (tmp_path / "stages" / "b-22222222").mkdir()
    assert set(first.folders()) == set(second.folders()) == {"11111111", "22222222"}
