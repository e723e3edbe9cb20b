"""Argo Workflows: a DAG whose tasks create JobSets on TPU node pools of GKE, queued by Kueue.

    xtl plan --config=FILE.py --workdir=gs://bucket/run --emit=argo --topology=v5e:4x4 --image=IMAGE --queue=tpu \\
        | kubectl create -f -

One JobSet a stage: one job, one pod a host. `failFast: false` lets independent stages go on after a failure. A JobSet
starts all its pods again when one is lost, and the stage goes on from its last checkpoint. Fields are those of
argoproj.io/v1alpha1 (Workflow), jobset.x-k8s.io/v1alpha2 (JobSet; status.terminalState since 0.6) and of Kueue's label.
Needs Argo with a service account that may create and watch JobSets, the JobSet controller, and Kueue where --queue is
given (it admits a JobSet when its TPUs are free).
"""

import math
import re

from xtl.cli.emit import Request
from xtl.errors import XtlError, nearest

MAX_RESTARTS = 50  # of one JobSet: spot nodes come and go
PORTS = (8471, 8476)  # of the TPU runtime, and of JAX's coordinator

# generation: (node label, chips of the largest single host); cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
ACCELERATORS = {
    "v4": ("tpu-v4-podslice", 4),
    "v5e": ("tpu-v5-lite-podslice", 8),
    "v5p": ("tpu-v5p-slice", 4),
    "v6e": ("tpu-v6e-slice", 8),
    "tpu7x": ("tpu7x", 4),
}


def emit(request: Request) -> str:
    """The Workflow as YAML."""
    import yaml

    return yaml.safe_dump(workflow(request), sort_keys=False, width=120)


def workflow(request: Request) -> dict:
    """The Workflow as plain data."""
    graph = request.graph
    label = dns_label(graph.name)
    tasks = []
    for i, unit in enumerate(graph.units.values()):
        task = {
            "name": task_name(i, unit.name),
            "template": "stage",
            "arguments": {"parameters": [{"name": "stage", "value": unit.name}]},
        }
        if unit.parents:
            task["depends"] = " && ".join(f"{task_name(*_place(request, parent))}.Succeeded" for parent in unit.parents)
        tasks.append(task)
    import yaml

    stage = {
        "name": "stage",
        "inputs": {"parameters": [{"name": "stage"}]},
        "resource": {
            "action": "create",
            "setOwnerReference": True,
            "successCondition": "status.terminalState == Completed",
            "failureCondition": "status.terminalState == Failed",
            "manifest": yaml.safe_dump(jobset(request, "{{inputs.parameters.stage}}"), sort_keys=False, width=1000),
        },
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"{label}-"},
        "spec": {
            "entrypoint": "graph",
            "templates": [{"name": "graph", "dag": {"failFast": False, "tasks": tasks}}, stage],
        },
    }


def jobset(request: Request, stage: str) -> dict:
    """The JobSet of one stage as plain data; `stage` may be a placeholder."""
    accelerator, topology, hosts, chips = _slice(request.topology)
    if not request.image:
        raise XtlError("--emit=argo needs --image=IMAGE, the container image with xtl (tpu/Dockerfile builds one)")
    labels = {"labels": {"kueue.x-k8s.io/queue-name": request.queue}} if request.queue else {}
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": accelerator,
            "cloud.google.com/gke-tpu-topology": topology,
        },
        "containers": [
            {
                "name": "xtl",
                "image": request.image,
                "command": [*request.command, f"--stage={stage}"],
                "ports": [{"containerPort": port} for port in PORTS],
                "resources": {"requests": {"google.com/tpu": chips}, "limits": {"google.com/tpu": chips}},
            }
        ],
    }
    job = {
        "completionMode": "Indexed",
        "parallelism": hosts,
        "completions": hosts,
        "backoffLimit": 0,
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "generateName": f"{dns_label(request.graph.name)}-",
            **labels,
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {"maxRestarts": MAX_RESTARTS},
            "replicatedJobs": [{"name": "slice", "replicas": 1, "template": {"spec": job}}],
        },
    }


def task_name(index: int, stage: str) -> str:
    """A name of a DAG task: letters, digits and dashes only, so numbered to stay unique."""
    return f"s{index}-{dns_label(stage)}"


def dns_label(name: str) -> str:
    """Lower-case letters, digits and single dashes, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or "x"


def _place(request: Request, fingerprint: str) -> tuple[int, str]:
    index = list(request.graph.units).index(fingerprint)
    return index, request.graph.units[fingerprint].name


def _slice(topology: str) -> tuple[str, str, int, int]:
    """(accelerator label, topology label, hosts, chips a host) of `v5e:4x4`."""
    generation, _, sides = topology.partition(":")
    if not sides or not all(side.isdigit() for side in sides.split("x")):
        raise XtlError("--emit=argo needs --topology=CHIP:AxB, such as v5e:4x4: the slice of every stage")
    if generation not in ACCELERATORS:
        raise XtlError(f"--topology: unknown chip {generation!r}.{nearest(generation, ACCELERATORS)}")
    label, most = ACCELERATORS[generation]
    chips = math.prod(map(int, sides.split("x")))
    hosts = 1 if chips <= most else chips // 4
    return label, sides, hosts, chips // hosts
