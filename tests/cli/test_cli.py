"""The front door: verbs, flags, help, one-line errors, exit status."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.fake_training import FakeTrain
from xtl.cli import main as cli
from xtl.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config_file(tmp_path):
    """A pipeline on the world, of an encoder that nobody trains: xtl.training.loop is replaced where a test runs it."""
    path = tmp_path / "exp.py"
    path.write_text(
        "from xtl import config\n"
        "def get_config(arg=''):\n"
        "    a = config.arguments(arg, steps=10)\n"
        "    def on(task): return {'tasks': {task: {}}, 'train': {'steps': a.steps}}\n"
        "    stages = [config.stage('mlm', phase='mlm', **on('mlm')), *config.grid(start='stage:mlm',\n"
        "        conditions={'none': None, 'mnli': on('mnli')},\n"
        "        targets={'xnli': {**on('mnli'), 'evaluate': {'xnli': {}}}})]\n"
        "    return config.pipeline('exp', encoder=config.encoder('tiny'), data={'source': 'world'}, stages=stages)\n"
    )
    return path


@pytest.fixture
def fake_train(monkeypatch):
    import xtl.training.loop

    train = FakeTrain()
    monkeypatch.setattr(xtl.training.loop, "train", lambda *args, **options: train(*args, **options))
    return train


def run_cli(capsys, *words):
    """(exit status, standard output, standard error) of one command."""
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_without_a_verb_the_verbs_are_listed(capsys):
    status, out, _ = run_cli(capsys)
    assert status == 0
    for verb in ("run", "plan", "eval", "report", "submit", "score", "import", "export", "tasks", "data"):
        assert f"\n  {verb:<8} " in out


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_explains_its_flags_with_an_example(capsys, verb):
    status, out, _ = run_cli(capsys, verb, "--help")
    assert status == 0 and cli.VERBS[verb].example in out
    for flag in cli.VERBS[verb].flags:
        assert f"--{flag.name}" in out and flag.about.split()[0] in out


@pytest.mark.parametrize(
    "words, match",
    [
        (["rn"], "unknown verb 'rn'. Did you mean 'run'?"),
        (["run"], "xtl run needs --config=FILE.py"),
        (["run", "--config=a.py", "--workdr=x"], "unknown flag --workdr. Did you mean --workdir?"),
        (["run", "--confg=a.py"], "unknown flag --confg. Did you mean --config?"),
        (["run", "--config"], "--config needs a value"),
        (["run", "a.py"], "unexpected 'a.py'; flags are written --name=value"),
        (["tasks", "--config=a.py"], "xtl tasks takes no --config"),
        (["plan", "--config=a.py", "--mfu=much"], "--mfu"),
        (["eval", "--task=xnli"], "xtl eval needs --checkpoint=DIR"),
    ],
)
def test_a_command_that_cannot_be_understood_is_one_line_and_status_2(capsys, words, match):
    status, out, err = run_cli(capsys, *words)
    assert status == 2 and out == "" and match in err
    assert err.count("\n") == 1 and err.startswith("xtl: ")


@pytest.mark.parametrize(
    "words, match",
    [
        (["--config=nowhere.py"], "no such config file"),
        (["--config.stages.mlm.train.stepz=3"], "unknown key 'stepz'. Did you mean 'steps'?"),
        (["--config.stages.mlm.train.steps=x"], "must be a whole number, not 'x'"),
        (["--config.encoder.size=tinyy"], "unknown size 'tinyy'. Did you mean 'tiny'?"),
        (["--config.data.source=files", "--config.data.root=/no/such/folder"], "/no/such/folder does not exist"),
        (["--config.data.world.seeed=3"], "unknown world option 'seeed'"),
        (["--config.stages.mnli.start=stage:mlmm"], "there is no such stage. Did you mean 'mlm'?"),
    ],
)
def test_a_config_that_cannot_work_is_one_line_and_status_1(capsys, config_file, words, match):
    config = [] if any(word.startswith("--config=") for word in words) else [f"--config={config_file}"]
    status, _, err = run_cli(capsys, "plan", *config, *words)
    assert status == 1 and match in err and err.count("\n") == 1


def test_a_plan_without_its_data_says_so_and_a_run_is_refused(capsys, config_file):
    words = [f"--config={config_file}", "--config.data.source=files"]
    status, out, _ = run_cli(capsys, "plan", *words)
    assert status == 0 and "data not looked at (data.root is not set" in out
    status, _, err = run_cli(capsys, "run", *words)
    assert status == 1 and "data.root is not set" in err and err.count("\n") == 1


def test_debug_adds_the_traceback(capsys):
    _, _, err = run_cli(capsys, "plan", "--config=nowhere.py", "--debug")
    assert "Traceback" in err and err.rstrip().splitlines()[-1].startswith("xtl: ")


def test_flags_follow_absl(capsys):
    words = ["--config", "a.py:x=1", "--config.a.b=1", "--config.c", "2", "--nolook", "--mfu=0.5"]
    args = cli.parse("plan", words)
    assert (args.config, args.overrides) == ("a.py:x=1", {"config.a.b": "1", "config.c": "2"})
    assert args.look is False and args.mfu == 0.5 and args.count is False
    assert cli.parse("run", ["--config=a.py", "--stage=x,y"]).stage == ("x", "y")
    assert cli.parse("run", ["--config=a.py", "--stage=x", "--stage=y"]).stage == ("x", "y")


def test_run_trains_prints_the_table_and_skips_what_is_done(capsys, tmp_path, config_file, fake_train):
    workdir = tmp_path / "w"
    words = ["run", f"--config={config_file}", f"--workdir={workdir}", f"--json={tmp_path}/r.json"]
    status, out, _ = run_cli(capsys, *words)
    assert status == 0 and len(fake_train.calls) == 4
    assert "xnli accuracy" in out and "mnli" in out and "none" in out
    assert str(workdir / "results.csv") in out and str(workdir / "report" / "index.html") in out
    assert (workdir / "report" / "report.md").exists()
    assert json.loads((tmp_path / "r.json").read_text())["failed"] == {}
    before = (workdir / "results.csv").read_bytes()
    assert run_cli(capsys, *words)[0] == 0 and len(fake_train.calls) == 4
    assert (workdir / "results.csv").read_bytes() == before


def test_run_with_a_failed_stage_says_so_and_exits_1(capsys, tmp_path, config_file, fake_train):
    fake_train.fails = ("mnli",)
    status, out, err = run_cli(capsys, "run", f"--config={config_file}", f"--workdir={tmp_path}/w")
    assert status == 1 and "none" in out
    assert "stage mnli failed: ValueError: mnli was told to fail" in err
    assert "stage mnli-xnli was not run: mnli failed" in err


def test_run_of_one_stage_runs_what_it_starts_from(capsys, tmp_path, config_file, fake_train):
    words = ["run", f"--config={config_file}", f"--workdir={tmp_path}/w"]
    assert run_cli(capsys, *words, "--stage=mnli")[0] == 0
    assert [name for name, *_ in fake_train.calls] == ["mlm", "mnli"]
    status, _, err = run_cli(capsys, *words, "--stage=mnly")
    assert status == 1 and "Did you mean 'mnli'?" in err


def test_ctrl_c_is_one_line_and_status_130(capsys, tmp_path, config_file, fake_train):
    fake_train.interrupted_at = "mnli"
    status, _, err = run_cli(capsys, "run", f"--config={config_file}", f"--workdir={tmp_path}/w")
    assert status == 130 and err.rstrip().endswith("xtl: interrupted; the same command goes on from here")


def test_preemption_is_status_143(capsys, tmp_path, config_file, monkeypatch):
    import xtl.training.loop
    from xtl.parallel.multihost import Preempted

    def told_to_stop(*args, **options):
        raise Preempted

    monkeypatch.setattr(xtl.training.loop, "train", told_to_stop)
    assert run_cli(capsys, "run", f"--config={config_file}", f"--workdir={tmp_path}/w")[0] == 143


def test_plan_shows_the_graph_and_its_cost_and_writes_nothing(capsys, tmp_path, config_file):
    status, out, _ = run_cli(
        capsys, "plan", f"--config={config_file}", f"--workdir={tmp_path}/w", "--topology=v5e:4x4", "--price=2",
        f"--json={tmp_path}/plan.json",
    )  # fmt: skip
    assert status == 0 and not (tmp_path / "w").exists()
    assert "└ ○ mnli" in out and "mnli → xnli" in out and "chip-hours" in out
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["units"] == 4 and [s["name"] for s in plan["stages"]] == ["mlm", "none-xnli", "mnli", "mnli-xnli"]
    first = plan["stages"][0]
    assert first["state"] == "pending" and first["cost"]["steps"] == 10 and first["cost"]["flops"] > 0


def test_plan_shows_what_is_done(capsys, tmp_path, config_file, fake_train):
    words = [f"--config={config_file}", f"--workdir={tmp_path}/w"]
    run_cli(capsys, "run", *words, "--stage=mlm")
    assert "✔ mlm" in run_cli(capsys, "plan", *words)[1]


@pytest.mark.parametrize(
    ("topology", "chips", "peak"),
    [
        ("v5e:4x4", 16, 197e12),
        ("2*v5e:4x4", 32, 197e12),
        ("2*v5litepod-16", 32, 197e12),
        ("tpu7x:2x2x1", 4, 2307e12),
        ("h100:8", 8, 989e12),
    ],
)
def test_plan_counts_the_chips_of_every_way_to_name_slices(capsys, tmp_path, config_file, topology, chips, peak):
    words = [f"--config={config_file}", f"--workdir={tmp_path}/w", f"--topology={topology}", "--mfu=0.0001"]
    status, out, _ = run_cli(capsys, "plan", *words, f"--json={tmp_path}/plan.json")
    plan = json.loads((tmp_path / "plan.json").read_text())
    hours = sum(stage["cost"]["flops"] for stage in plan["stages"]) / (peak * 1e-4) / 3600
    assert status == 0 and plan["chip_hours"] == pytest.approx(hours)
    assert f"{hours:.2f} chip-hours at 0 % MFU ({hours / chips:.2f} h on {topology})" in out


def test_plan_names_an_unknown_chip(capsys, config_file):
    status, _, err = run_cli(capsys, "plan", f"--config={config_file}", "--topology=v5x:4x4")
    assert status == 1 and "unknown chip 'v5x'. Did you mean 'v5" in err


def test_report_is_made_again_from_the_results(capsys, tmp_path, config_file, fake_train):
    workdir = tmp_path / "w"
    run_cli(capsys, "run", f"--config={config_file}", f"--workdir={workdir}")
    kept = (workdir / "results.csv").read_bytes()
    (workdir / "results.csv").unlink()
    status, out, _ = run_cli(capsys, "report", f"--workdir={workdir}")
    assert status == 0 and "xnli accuracy" in out and (workdir / "results.csv").read_bytes() == kept
    status, _, err = run_cli(capsys, "report", f"--workdir={tmp_path}/other")
    assert status == 1 and "holds no run" in err


def test_tasks_are_listed_with_sources_languages_and_sizes(capsys):
    status, out, err = run_cli(capsys, "tasks")
    assert status == 0, err
    assert "squad_v1" in out and "87,599 / 10,570" in out
    _, out, _ = run_cli(capsys, "tasks", "--json=-")
    listed = {task["name"]: task for task in json.loads(out)}
    assert listed["xnli"]["trained_on"] == "mnli" and len(listed["xnli"]["languages"]) == 15
    assert "files" in listed["xnli"]["sources"] and listed["mlqa"]["sizes"]["test"]["de"] == 4517
    status, _, err = run_cli(capsys, "tasks", "--task=xnlu")
    assert status == 1 and "Did you mean 'xnli'" in err


def test_a_verb_without_its_part_says_so(capsys, monkeypatch):
    verb = cli.Verb("xtl.cli.verbs.nowhere:go", "nothing", "xtl go")
    monkeypatch.setattr(cli, "VERBS", {**cli.VERBS, "go": verb})
    status, _, err = run_cli(capsys, "go")
    assert status == 1 and "not part of this version" in err


def test_help_is_fast_and_brings_no_jax():
    began = time.monotonic()
    code = (
        "import sys; from xtl.cli.main import main; main(['run', '--help']); "
        "sys.exit(len({'jax', 'rich'} & {*sys.modules}))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert finished.returncode == 0
    assert time.monotonic() - began < 5  # 0.1 s on an idle machine; the imports are the promise


def test_the_module_is_the_command():
    finished = subprocess.run(
        [sys.executable, "-m", "xtl", "rn"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert finished.returncode == 2 and finished.stderr == "xtl: unknown verb 'rn'. Did you mean 'run'?\n"
