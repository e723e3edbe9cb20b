"""The graph for Slurm and Argo: valid for the engine, and the same results as one launch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.engines import JOBSET, NAME, WORKFLOW, Slurm, violations
from tests.support.fake_training import FakeTrain, small_graph, trained
from xtl.cli import main as cli
from xtl.cli.emit import Request, argo, families, slurm
from xtl.errors import XtlError
from xtl.runs.pipeline import run
from xtl.runs.workdir import Workdir

ROOT = Path(__file__).resolve().parents[2]
DEMO = f"--config={ROOT / 'configs' / 'demo.py'}"

XTL = """\
#!{python}
# A stub of xtl: trains one stage of the small graph in no time.
import sys
sys.path[:0] = {path!r}
from tests.support.fake_training import FakeTrain, small_graph
from xtl.runs.pipeline import run
from xtl.runs.workdir import Workdir
given = dict(word[2:].split("=", 1) for word in sys.argv[2:])
if sys.argv[1] == "run":
    assert given["config"] == "a config's $path"
    done = run(small_graph(), Workdir(given["workdir"]), train=FakeTrain(fails={fails!r}), only=[given["stage"]])
    sys.exit(0 if done.complete else 1)
"""


def request(graph, workdir, **options):
    return Request(graph, ("xtl", "run", "--config=a config's $path", f"--workdir={workdir}"), str(workdir), **options)


def submitted(tmp_path, *, fails=(), words=()):
    """What ran of the small graph, submitted to a stub of Slurm by the emitted script."""
    cluster, graph = Slurm(tmp_path / "slurm"), small_graph()
    path = [str(ROOT)]
    cluster.program("xtl", XTL.format(python=sys.executable, path=path, fails=tuple(fails)))
    script = tmp_path / "submit.sh"
    script.write_text(slurm.emit(request(graph, tmp_path / "run")))
    subprocess.run(["sh", str(script), *words], check=True, env=cluster.environment, capture_output=True)
    return cluster


def test_families_are_stages_with_one_parent_parents_first():
    sets = families(small_graph())
    assert [one.parent for one in sets] == ["", "mlm", "mnli"]
    assert sets[1].stages == ("none-xnli", "none-xquad+mlqa", "none-tatoeba", "mnli")


def test_slurm_scripts_are_shell_and_pass_options_on(tmp_path):
    cluster = submitted(tmp_path, words=["--partition=tpu", "--nodes=4"])
    jobs = cluster.jobs()
    assert len(jobs) == 4  # three arrays and the report
    assert all(job["options"]["partition"] == "tpu" and job["options"]["nodes"] == "4" for job in jobs.values())
    arrays = [job["options"].get("array") for job in jobs.values()]
    assert arrays == ["0-0", "0-3", "0-2", None]
    assert [job["options"].get("dependency") for job in jobs.values()] == [
        None,
        "afterok:100_0",
        "afterok:101_3",
        "afterany:100:101:102",
    ]
    for job in jobs.values():
        assert job["script"].startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n"], input=job["script"], text=True, check=True)


@pytest.mark.procs
def test_a_graph_run_by_slurm_gives_the_same_bytes_as_one_launch(tmp_path):
    run(small_graph(), Workdir(tmp_path / "alone"), train=FakeTrain())
    cluster = submitted(tmp_path)
    cluster.run(seed=3)
    assert len(cluster.ran) == 8 + 1 and not cluster.never
    ends = trained(tmp_path / "run")
    assert len(ends) == len(set(ends)) == 8
    assert (tmp_path / "run/results.csv").read_bytes() == (tmp_path / "alone/results.csv").read_bytes()


@pytest.mark.procs
def test_a_failed_stage_removes_only_what_starts_from_it(tmp_path):
    cluster = submitted(tmp_path, fails=("mnli", "none-xnli"))
    cluster.run(seed=1)
    assert cluster.never == ["102"]  # the array of what starts from mnli
    assert set(trained(tmp_path / "run")) == {"mlm", "none-xquad+mlqa", "none-tatoeba"}
    assert sum(status != 0 for _, _, status in cluster.ran) == 2


def emitted(graph=None, **options):
    options = {"topology": "v5e:4x4", "image": "registry/xtl:1", "queue": "tpu", **options}
    return yaml.safe_load(argo.emit(request(graph or small_graph(), "gs://bucket/run", **options)))


def test_an_argo_workflow_has_only_published_fields():
    workflow = emitted()
    assert violations(workflow, WORKFLOW) == []
    (stage,) = [t for t in workflow["spec"]["templates"] if "resource" in t]
    jobset = yaml.safe_load(stage["resource"]["manifest"])
    assert violations(jobset, JOBSET) == []
    assert violations({**jobset, "spec": {"replicas": 1}}, JOBSET)  # the check can fail
    assert stage["resource"]["successCondition"] == "status.terminalState == Completed"


def test_the_dag_is_the_graph():
    graph, workflow = small_graph(seeds=(0, 1)), emitted(small_graph(seeds=(0, 1)))
    entry = workflow["spec"]["entrypoint"]
    (dag,) = [t["dag"] for t in workflow["spec"]["templates"] if t["name"] == entry]
    assert dag["failFast"] is False
    stage_of = {task["name"]: task["arguments"]["parameters"][0]["value"] for task in dag["tasks"]}
    assert len(stage_of) == len(dag["tasks"]) == len(graph.units)
    assert all(NAME.fullmatch(name) for name in stage_of)
    for task in dag["tasks"]:
        unit = graph.unit(stage_of[task["name"]])
        parents = re.findall(r"(\S+)\.Succeeded", task.get("depends", ""))
        assert [stage_of[parent] for parent in parents] == [graph.units[p].name for p in unit.parents]


def test_a_jobset_fills_its_slice_and_runs_one_stage():
    for topology, hosts, chips in (
        ("v5e:4x4", 4, 4),
        ("v6e:2x4", 1, 8),
        ("v5p:2x2x2", 2, 4),
        ("v5e:1x1", 1, 1),
        ("2*v5e-16", 4, 4),
    ):
        jobset = argo.stage_jobset(request(small_graph(), "gs://b/r", topology=topology, image="i"), "mnli-xnli")
        ((replicas, job),) = [(one["replicas"], one["template"]["spec"]) for one in jobset["spec"]["replicatedJobs"]]
        assert replicas == (2 if "*" in topology else 1) and violations(jobset, JOBSET) == []
        (container,) = job["template"]["spec"]["containers"]
        assert (job["parallelism"], job["completions"]) == (hosts, hosts)
        assert container["resources"]["limits"] == {"google.com/tpu": chips}
        assert container["command"][:2] == ["xtl", "run"] and container["command"][-1] == "--stage=mnli-xnli"
        assert "labels" not in jobset["metadata"]
    assert emitted()["metadata"]["generateName"] == "small-"


@pytest.mark.parametrize(
    "match, options",
    [
        ("needs --topology", {"topology": ""}),
        (r"unknown chip 'v5x'.*'v5", {"topology": "v5x:4x4"}),
        ("needs --image", {"image": ""}),
    ],
)
def test_what_argo_lacks_is_asked_for(match, options):
    with pytest.raises(XtlError, match=match):
        emitted(**options)


def test_the_plan_verb_prints_either(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["plan", DEMO, "--nolook", "--workdir=/w d", "--emit=slurm", "--config.seed=3"]) == 0
    script = capsys.readouterr().out
    assert "--config.seed=3" in script and "'--workdir=/w d'" in script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert cli.main(["plan", DEMO, "--nolook", "--emit=argo", "--topology=v5e:4x4", "--image=i"]) == 0
    assert violations(yaml.safe_load(capsys.readouterr().out), WORKFLOW) == []
    assert cli.main(["plan", DEMO, "--nolook", "--emit=slurn"]) == 1
    assert "Did you mean 'slurm'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.procs
def test_real_stages_run_by_slurm_give_the_same_bytes_as_xtl_run(tmp_path):
    config = f"{DEMO}:mlm_steps=4,steps=4"
    size = ["--config.encoder.hidden=32", "--config.encoder.layers=1", "--config.encoder.mlp=64"]
    size += [f"--config.data.world.{key}={n}" for key, n in (("documents", 60), ("train", 60), ("dev", 8), ("test", 8))]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    xtl = [sys.executable, "-m", "xtl"]
    alone = [*xtl, "run", config, *size, f"--workdir={tmp_path / 'alone'}"]
    assert subprocess.run(alone, env=environment, capture_output=True).returncode == 0
    plan = [*xtl, "plan", config, *size, f"--workdir={tmp_path / 'run'}", "--emit=slurm"]
    script = tmp_path / "submit.sh"
    script.write_bytes(subprocess.run(plan, env=environment, capture_output=True, check=True).stdout)
    cluster = Slurm(tmp_path / "slurm")
    cluster.program("xtl", f'#!/bin/sh\nexport JAX_PLATFORMS=cpu PYTHONPATH={ROOT}\nexec {" ".join(xtl)} "$@"\n')
    subprocess.run(["sh", str(script)], check=True, env=cluster.environment)
    cluster.run()
    assert all(status == 0 for *_, status in cluster.ran)
    assert (tmp_path / "run/results.csv").read_bytes() == (tmp_path / "alone/results.csv").read_bytes()
