"""Argo Workflows: a DAG whose tasks create JobSets on TPU node pools of GKE, queued by Kueue.

    xtl plan --config=FILE.py --workdir=gs://bucket/run --emit=argo --topology=v5e:4x4 --image=IMAGE --queue=tpu \\
        | kubectl create -f -

One JobSet per stage (jobset.py). `failFast: false` lets independent stages go on after a failure. A JobSet
starts all its pods again when one is lost, and the stage goes on from its last checkpoint. Fields are those of
argoproj.io/v1alpha1 (Workflow), of JobSet (status.terminalState since 0.6) and of Kueue's label.
Needs Argo with a service account that may create and watch JobSets, the JobSet controller, and Kueue where --queue is
given (it admits a JobSet when its TPUs are free).
"""

import re
from typing import Any

from xtl.cli.emit import Request
from xtl.cli.emit.jobset import as_yaml, jobset
from xtl.errors import XtlError
from xtl.parallel.chips import topology


def emit(request: Request) -> str:
    """The Workflow as YAML."""
    return as_yaml(workflow(request))


def workflow(request: Request) -> dict[str, Any]:
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
    stage = {
        "name": "stage",
        "inputs": {"parameters": [{"name": "stage"}]},
        "resource": {
            "action": "create",
            "setOwnerReference": True,
            "successCondition": "status.terminalState == Completed",
            "failureCondition": "status.terminalState == Failed",
            "manifest": as_yaml(stage_jobset(request, "{{inputs.parameters.stage}}")),
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


def stage_jobset(request: Request, stage: str) -> dict[str, Any]:
    """The JobSet of one stage as plain data; `stage` may be a placeholder."""
    if not request.topology:
        raise XtlError("--emit=argo needs --topology=SLICE, such as v5e:4x4: the slice of every stage")
    slices = topology(request.topology)
    if not request.image:
        raise XtlError("--emit=argo needs --image=IMAGE, the container image with xtl (tpu/Dockerfile builds one)")
    labels = {"labels": {"kueue.x-k8s.io/queue-name": request.queue}} if request.queue else {}
    metadata = {"generateName": f"{dns_label(request.graph.name)}-", **labels}
    return jobset(slices, [*request.command, f"--stage={stage}"], image=request.image, metadata=metadata)


def task_name(index: int, stage: str) -> str:
    """A name of a DAG task: letters, digits and dashes only, so numbered to stay unique."""
    return f"s{index}-{dns_label(stage)}"


def dns_label(name: str) -> str:
    """Lower-case letters, digits and single dashes, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or "x"


def _place(request: Request, fingerprint: str) -> tuple[int, str]:
    index = list(request.graph.units).index(fingerprint)
    return index, request.graph.units[fingerprint].name
