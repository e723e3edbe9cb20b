"""The launcher against a gcloud that plays a cloud: it recovers, it says what it does, and it never leaves a node."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tpu import launch
from xtl.parallel.chips import SLICES

ROOT = Path(__file__).resolve().parents[2]

# What worker.sh takes for Python: enough of one to set up in no time.
PYTHON = """\
#!/bin/bash
if [[ "$1 $2" == "-m venv" ]]; then
    mkdir -p "$3/bin"
    printf '#!/bin/bash\\necho Python 3.11\\n' >"$3/bin/python"
    chmod +x "$3/bin/python"
fi
"""


class Cloud:
    """The played cloud: what it will do, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan(lives=[["ACTIVE"]])
        (folder / "state.json").write_text(json.dumps({"queue": None, "nodes": [], "life": 0, "looks": 0}))
        (folder / "calls.log").write_text("")

    def plan(self, **plan) -> None:
        (self.folder / "plan.json").write_text(json.dumps({"hosts": 2, **plan}))

    @property
    def state(self) -> dict:
        return json.loads((self.folder / "state.json").read_text())

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls.log").read_text().splitlines()

    def count(self, verb: str) -> int:
        return sum(f" {verb} " in f" {call} " for call in self.calls)

    @property
    def empty(self) -> bool:
        return self.state["queue"] is None and self.state["nodes"] == []


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    bin_folder, folder = tmp_path / "bin", tmp_path / "cloud"
    bin_folder.mkdir()
    folder.mkdir()
    executable(
        bin_folder / "gcloud", f'#!/bin/bash\nexec {sys.executable} -S {ROOT}/tests/support/fake_gcloud.py "$@"\n'
    )
    executable(bin_folder / "hostname", '#!/bin/bash\necho "$HOST"\n')
    executable(bin_folder / "python3.11", PYTHON)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    monkeypatch.setenv("CLOUD", str(folder))
    monkeypatch.chdir(tmp_path)
    return Cloud(folder)


QUICK = ["--poll=0.05", "--pause=0.02", "--grace=5"]
PLACE = ["--type=v5p-16", "--zone=z", "--project=p"]  # two hosts


def words(*command: str, flags: tuple[str, ...] = ()) -> list[str]:
    return ["babysit", "run1", *PLACE, *QUICK, *flags, "--", *command]


def script(tmp_path: Path, text: str) -> tuple[str, ...]:
    """A command for the workers; $STORE is the shared storage, $LIFE the slice's number, $WORKER the worker's."""
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    return ("bash", "-c", f"STORE={store}\n{textwrap.dedent(text)}")


def test_a_run_is_asked_for_set_up_started_on_every_worker_logged_and_deleted(cloud, tmp_path, capsys):
    cloud.plan(lives=[["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]])
    code = launch.main(
        words(*script(tmp_path, 'echo "$JAX_COORDINATOR_PORT $MODE"; touch $STORE/$WORKER'), flags=("--env=MODE=a b",))
    )
    printed = capsys.readouterr().out
    assert code == 0 and cloud.empty
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["0", "1"]
    for state in (
        "asking for 1 x v5p-16 (spot)",
        "WAITING_FOR_RESOURCES",
        "PROVISIONING",
        "ACTIVE",
        "set up 2 workers",
        "started on 2 workers",
        "2 done",
        "deleted",
    ):
        assert state in printed, state
    for worker in ("0", "1"):
        assert "8476 a b" in (tmp_path / f"logs/run1/attempt-1/run1/{worker}.log").read_text()
    assert "$ gcloud compute tpus queued-resources create run1" in (tmp_path / "logs/run1/launch.log").read_text()


def test_a_preempted_run_gets_another_slice_and_goes_on(cloud, tmp_path, capsys):
    # taken away while it runs: the first slice's job never ends by itself
    cloud.plan(lives=[["ACTIVE"] * 4 + ["SUSPENDING", "SUSPENDED"], ["WAITING_FOR_RESOURCES", "ACTIVE"]])
    code = launch.main(words(*script(tmp_path, 'echo "slice $LIFE" >>$STORE/$WORKER; [[ $LIFE == 2 ]] || sleep 60')))
    printed = capsys.readouterr().out
    assert code == 0 and cloud.empty
    assert (tmp_path / "store/0").read_text().split("\n")[:2] == ["slice 1", "slice 2"]
    assert "the slice was taken away" in printed and "done after 1 preemptions and 0 failures" in printed
    assert cloud.count("create") == 2 and cloud.count("delete") == 2


def test_a_job_that_fails_because_its_slice_goes_counts_as_a_preemption(cloud, tmp_path, capsys):
    # before start: refuse?, obtain, wait; then one look before the failure, and one after the grace
    cloud.plan(lives=[["ACTIVE"] * 2 + ["SUSPENDED"], ["ACTIVE"]])
    code = launch.main(words(*script(tmp_path, "[[ $LIFE == 2 ]]"), flags=("--max-failures=0",)))
    assert code == 0 and cloud.empty
    assert "the job ended because the slice was taken away" in capsys.readouterr().out


def test_slices_lost_during_set_up_are_asked_for_again(cloud, tmp_path, capsys):
    cloud.plan(lives=[["ACTIVE", "SUSPENDED"], ["ACTIVE"]], ssh=["silent"] * 5)
    assert launch.main(words(*script(tmp_path, "true"))) == 0 and cloud.empty
    assert "taken away during set-up" in capsys.readouterr().out


def test_a_queue_that_fails_is_deleted_and_asked_for_again(cloud, tmp_path, capsys):
    cloud.plan(lives=[["PROVISIONING", "FAILED:no capacity in zone z"], ["ACTIVE"]])
    assert launch.main(words(*script(tmp_path, "true"))) == 0 and cloud.empty
    assert "refused (1 of 5): no capacity in zone z" in capsys.readouterr().out
    assert cloud.count("create") == 2


def test_a_refused_quota_is_asked_again_and_then_granted(cloud, tmp_path, capsys):
    cloud.plan(lives=[["ACTIVE"]], create=["quota", "flaky", "ok"])
    assert launch.main(words(*script(tmp_path, "true"))) == 0 and cloud.empty
    assert "refused (1 of 5)" in capsys.readouterr().out


def test_a_quota_that_stays_refused_ends_in_one_line_that_says_where_to_ask(cloud, tmp_path, capsys):
    cloud.plan(lives=[["ACTIVE"]], create=["quota"] * 9)
    assert launch.main(words("true", flags=("--max-refusals=3",))) == 1 and cloud.empty
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "refused 3 times" in error and "Quotas" in error
    assert cloud.count("create") == 3


def test_a_request_that_can_never_work_is_not_repeated(cloud, capsys):
    cloud.plan(lives=[["ACTIVE"]], create=["denied"])
    assert launch.main(words("true")) == 1 and cloud.empty
    assert "PERMISSION_DENIED" in capsys.readouterr().err
    assert cloud.count("create") == 1


def test_a_job_that_fails_on_a_healthy_slice_is_started_again_a_bounded_number_of_times(cloud, tmp_path, capsys):
    code = launch.main(
        words(*script(tmp_path, 'echo "disk full"; echo x >>$STORE/$WORKER; exit 7'), flags=("--max-failures=1",))
    )
    printed = capsys.readouterr()
    assert code == 1 and cloud.empty
    assert (tmp_path / "store/0").read_text() == "x\nx\n"
    assert "failed:7" in printed.out and "failed 2 times on a healthy slice; see logs/run1/attempt-2" in printed.err
    assert "disk full" in (tmp_path / "logs/run1/attempt-2/run1/0.log").read_text()
    assert cloud.count("create") == 1, "a healthy slice is kept for the next attempt"


def test_one_failed_worker_ends_the_others_before_the_next_attempt(cloud, tmp_path):
    command = script(
        tmp_path,
        """
        echo x >>$STORE/$WORKER
        [[ $(wc -l <$STORE/$WORKER) == 2 ]] && exit 0
        [[ $WORKER == 0 ]] && exit 3
        trap 'echo saved >$STORE/saved; exit 0' TERM
        sleep 60 & wait
        """,
    )
    assert launch.main(words(*command)) == 0 and cloud.empty
    assert (tmp_path / "store/saved").exists()


def test_silent_workers_are_taken_for_lost(cloud, tmp_path, capsys):
    # five ssh calls set up and start; then nobody answers
    cloud.plan(lives=[["ACTIVE"], ["ACTIVE"]], ssh=["ok"] * 3 + ["silent"] * 5)
    assert launch.main(words(*script(tmp_path, "[[ $LIFE == 2 ]] || sleep 60"))) == 0 and cloud.empty
    assert "silent 5 times in a row" in capsys.readouterr().out


def test_a_node_that_outlives_its_queue_is_deleted_too(cloud, capsys):
    cloud.plan(lives=[["ACTIVE"]], orphan=True)
    assert launch.main(words("true")) == 0 and cloud.empty
    assert "run1 outlived its queue" in capsys.readouterr().out


def test_a_deletion_that_fails_is_repeated(cloud):
    cloud.plan(lives=[["ACTIVE"]], delete=["stuck", "stuck"])
    assert launch.main(words("true")) == 0 and cloud.empty


def test_what_cannot_be_deleted_is_an_error_that_gives_the_command(cloud, capsys):
    cloud.plan(lives=[["ACTIVE"]], delete=["stuck"] * 99)
    assert launch.main(words("true")) == 1
    error = capsys.readouterr().err
    assert "COULD NOT BE DELETED" in error
    assert "gcloud compute tpus queued-resources delete run1 --force --zone=z --project=p --quiet" in error


def test_keep_leaves_the_slice_and_says_what_it_costs(cloud, capsys):
    assert launch.main(words("true", flags=("--keep",))) == 0
    assert cloud.state["queue"] == "run1"
    assert "kept, and costing money until deleted: gcloud" in capsys.readouterr().out
    assert launch.main(["delete", "run1", "--zone=z", "--project=p"]) == 0 and cloud.empty


def test_several_slices_run_as_one_job(cloud, tmp_path):
    command = script(tmp_path, "touch $STORE/$HOST")
    assert launch.main(words(*command, flags=("--slices=2",))) == 0 and cloud.empty
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        f"run1-{node}-w{worker}" for node in (0, 1) for worker in (0, 1)
    ]
    assert any("--node-count=2 --node-prefix=run1" in call for call in cloud.calls)


# ---------------------------------------------------------------- interruptions


def started(tmp_path: Path, command: tuple[str, ...], until: str) -> subprocess.Popen:
    """A launcher in a process of its own, once its output holds `until`."""
    out = tmp_path / "out.txt"
    process = subprocess.Popen(
        [sys.executable, "-m", "tpu.launch", *words(*command)],
        stdout=out.open("w"),
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 120
    while until not in out.read_text():
        assert process.poll() is None and time.monotonic() < deadline, out.read_text()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_may_save_and_its_slice_is_deleted(cloud, tmp_path, number):
    command = script(
        tmp_path, "trap 'echo saved >$STORE/$WORKER; exit 0' TERM; echo step 1; while true; do sleep 0.05; done"
    )
    process = started(tmp_path, command, "2 running")
    process.send_signal(number)
    assert process.wait(120) == 130 and cloud.empty
    assert (tmp_path / "store/0").exists() and (tmp_path / "store/1").exists()
    assert "step 1" in (tmp_path / "logs/run1/interrupted/run1/0.log").read_text()


def test_an_interrupted_wait_leaves_no_queue(cloud, tmp_path):
    cloud.plan(lives=[["WAITING_FOR_RESOURCES"]])
    process = started(tmp_path, ("true",), "WAITING_FOR_RESOURCES")
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130 and cloud.empty


def test_further_interrupts_do_not_cut_off_the_deletion(cloud, tmp_path):
    cloud.plan(lives=[["WAITING_FOR_RESOURCES"]], delete_s=1)
    process = started(tmp_path, ("true",), "WAITING_FOR_RESOURCES")
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert process.wait(120) == 130 and cloud.empty
    assert "deleting run1 first" in (tmp_path / "out.txt").read_text()


def test_a_killed_launcher_is_replaced_by_another_that_takes_the_job_up(cloud, tmp_path):
    command = script(tmp_path, "echo x >>$STORE/$WORKER; while [[ ! -f $STORE/go ]]; do sleep 0.05; done")
    first = started(tmp_path, command, "2 running")
    first.kill()
    first.wait()
    second = started(tmp_path, command, "there already, ACTIVE; taking it up\n")
    while "2 running" not in (tmp_path / "out.txt").read_text():
        time.sleep(0.02)
    (tmp_path / "store/go").touch()
    assert second.wait(120) == 0 and cloud.empty
    assert (tmp_path / "store/0").read_text() == "x\n", "started once"


def test_another_job_of_the_same_name_is_left_alone(cloud, tmp_path, capsys):
    # As long as the test needs: a job that ends by itself on a slow machine would end the launcher, too.
    forever = script(tmp_path, "trap 'exit 0' TERM; while true; do sleep 0.05; done")
    process = started(tmp_path, forever, "2 running")
    assert launch.main(words("echo", "mine")) == 1
    assert "another job runs on run1/run1-w0, run1/run1-w1" in capsys.readouterr().err
    assert cloud.state["queue"] == "run1"
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130 and cloud.empty


# ---------------------------------------------------------------- single steps, dry runs, mistakes


def test_the_single_verbs_do_the_same_step_by_step(cloud, tmp_path, capsys):
    command = script(tmp_path, "echo hello; trap 'exit 0' TERM; while true; do sleep 0.05; done")
    for step in (
        ["create", "run1", *PLACE],
        ["wait", "run1", *PLACE, "--poll=0.05"],
        ["setup", "run1", *PLACE],
        ["run", "run1", *PLACE, "--", *command],
        ["status", "run1", *PLACE],
        ["logs", "run1", *PLACE],
        ["stop", "run1", *PLACE],
        ["status", "run1", *PLACE],
        ["list", "--zone=z"],
        ["delete", "run1", "--zone=z"],
        ["status", "run1", "--zone=z"],
    ):
        assert launch.main(step) == 0, step
    printed = capsys.readouterr().out
    for line in ("costs money from ACTIVE on", "run1: ACTIVE", "set up 2 workers", "2 running | hello", "job stopped"):
        assert line in printed, line
    assert printed.index("2 running") < printed.index("2 done") < printed.index("queue GONE")
    assert (tmp_path / "logs/run1/fetched/run1/0.log").read_text().endswith("hello\n") and cloud.empty


def test_a_dry_run_prints_the_exact_commands_and_runs_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    command = ["--dry-run", "--", "xtl", "run", "--config=a b"]
    assert launch.main(["babysit", "r", "--type=v6e-16", "--zone=z", "--project=p", *command]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert lines[2] == (
        "gcloud compute tpus queued-resources create r --accelerator-type=v6e-16 --runtime-version=v2-alpha-tpuv6e "
        "--node-id=r --spot --zone=z --project=p --quiet"
    )
    assert sum(" delete " in line for line in lines) == 1 and all(line.startswith("gcloud ") for line in lines)
    assert any("start" in line and "xtl run" in line and "a b" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_slices_lists_every_one(capsys):
    assert launch.main(["slices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(SLICES) and "GKE only" in lines[-1]


def test_without_gcloud_the_error_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert launch.main(["list", "--zone=z"]) == 1
    assert "install the Google Cloud CLI" in capsys.readouterr().err


def test_without_a_login_nothing_is_tried_twice(cloud, capsys):
    cloud.plan(lives=[["ACTIVE"]], login=False)
    assert launch.main(words("true")) == 1
    assert "active account" in capsys.readouterr().err and len(cloud.calls) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--type=v6e-17"], "unknown TPU slice 'v6e-17'"),
        (["--type=tpu7x-8"], "GKE only"),
        ([], "a slice type is needed"),
        (["--type=2*v6e-16", "--slices=3"], "say once how many slices"),
        (["--type=v6e-4", "--env=oops"], "write NAME=VALUE"),
        (["--type=v6e-4", "--wheel=none.whl", "--dry-run"], "no wheel at none.whl"),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line_before_anything_is_asked_for(cloud, capsys, flags, message):
    assert launch.main(["babysit", "r", *flags, "--", "true"]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert cloud.count("create") == 0


def test_an_unknown_revision_is_named(cloud, capsys):
    assert launch.main(words("true", flags=("--revision=nowhere",))) == 1 and cloud.empty
    assert "nowhere" in capsys.readouterr().err


def test_a_wheel_travels_with_lock_files_and_configs(cloud, tmp_path):
    wheel = tmp_path / "xtl-0-py3-none-any.whl"
    wheel.write_bytes(b"")
    assert (
        launch.main(words(*script(tmp_path, "cp ../*.whl requirements-tpu.lock $STORE/"), flags=(f"--wheel={wheel}",)))
        == 0
    )
    assert {path.name for path in (tmp_path / "store").iterdir()} == {wheel.name, "requirements-tpu.lock"}
