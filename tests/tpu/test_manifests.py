"""Manifests for GKE and SkyPilot are valid, whole, and ask for what the slice table says."""

import shlex
import sys

import pytest
import yaml

from tests.support.engines import JOBSET, violations
from tpu import launch

COMMAND = ["xtl", "run", "--config=configs/x.py:seed=1", '--config.note=a "b" $c']


def written(capsys, *words: str) -> str:
    assert launch.main([*words, "--", *COMMAND]) == 0
    return capsys.readouterr().out


def test_a_jobset_starts_one_pod_a_host_on_every_slice(capsys):
    flags = ("--type=v6e-16", "--slices=2", "--image=registry/xtl:1", "--env=A=1: yes", "--service-account=writer")
    job = yaml.safe_load(written(capsys, "jobset", "phang", *flags))
    assert violations(job, JOBSET) == []
    assert job["kind"] == "JobSet" and job["metadata"]["name"] == "phang"
    assert job["spec"]["failurePolicy"]["maxRestarts"] == 50
    (replicated,) = job["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 2
    spec = replicated["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (4, 4, 0)
    pod = spec["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
    }
    assert pod["serviceAccountName"] == "writer"
    (container,) = pod["containers"]
    assert container["command"] == COMMAND and container["env"] == [{"name": "A", "value": "1: yes"}]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}


def test_a_jobset_of_reserved_capacity_does_not_ask_for_spot_nodes(capsys):
    job = yaml.safe_load(written(capsys, "jobset", "p", "--type=tpu7x-8", "--image=i", "--capacity=reserved"))
    pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu7x",
        "cloud.google.com/gke-tpu-topology": "2x2x1",
    }


def test_the_xpk_command_carries_the_whole_command(capsys):
    words = shlex.split(written(capsys, "xpk", "phang", "--type=v5e-16", "--image=i", "--cluster=c", "--zone=z"))
    assert words[:3] == ["xpk", "workload", "create"]
    assert {"--cluster=c", "--workload=phang", "--tpu-type=v5litepod-16", "--num-slices=1", "--zone=z"} <= set(words)
    assert shlex.split(words[-1].removeprefix("--command=")) == COMMAND


def test_a_skypilot_task_is_a_spot_job_that_recovers(capsys):
    task = yaml.safe_load(written(capsys, "skypilot", "phang", "--type=v6e:4x4", "--env=A=b"))
    assert task["resources"]["accelerators"] == "tpu-v6e-16" and task["resources"]["use_spot"] is True
    assert task["resources"]["accelerator_args"] == {"runtime_version": "v2-alpha-tpuv6e"}
    assert task["envs"] == {"JAX_COORDINATOR_PORT": "8476", "A": "b"}
    assert shlex.split(task["run"].splitlines()[-1]) == COMMAND


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["jobset", "p", "--type=v6e-4"], "--image is needed"),
        (["xpk", "p", "--type=v6e-4", "--image=i"], "--cluster is needed"),
        (["jobset", "p", "--image=i"], "a slice type is needed"),
        (["skypilot", "p", "--type=v6e-16", "--slices=2"], "single slices"),
        (["jobset", "p", "--type=2*v6e-16", "--slices=2", "--image=i"], "say once how many slices"),
    ],
)
def test_what_is_missing_is_named(capsys, words, message):
    assert launch.main([*words, "--", "xtl"]) == 1
    assert message in capsys.readouterr().err


def test_several_slices_may_be_named_by_their_type_too(capsys):
    flags = ("--image=i", "--capacity=reserved")
    one_way = written(capsys, "jobset", "p", "--type=v5e:4x4", "--slices=2", *flags)
    assert written(capsys, "jobset", "p", "--type=2*v5e-16", *flags) == one_way


def test_without_pyyaml_the_error_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert launch.main(["jobset", "p", "--type=v6e-4", "--image=i", "--", "xtl"]) == 1
    error = capsys.readouterr().err
    assert "pip install PyYAML" in error and error.count("\n") == 1
