"""A JobSet on GKE: one job per slice, one pod per host, all of them started again when one is lost.

GKE fills in what JAX needs to find the other hosts and slices (TPU_WORKER_*, MEGASCALE_*). Needs the JobSet controller
in the cluster and a node pool of the slice's machine type. Fields are those of jobset.x-k8s.io/v1alpha2; the pod is as
in cloud.google.com/kubernetes-engine/docs/how-to/tpus. Used by `xtl plan --emit=argo` and by the launcher in tpu/, and
like that on the standard library alone, except for `as_yaml`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xtl.errors import XtlError
from xtl.parallel.chips import Topology

MAX_RESTARTS = 50  # of one JobSet: spot nodes come and go
GRACE_SECONDS = 120  # for the checkpoint that SIGTERM asks for
PORTS = (8471, 8080, 8476)  # of the TPU runtime, of traffic between slices, and of JAX's coordinator


def jobset(
    topology: Topology,
    command: Sequence[str],
    *,
    image: str,
    metadata: Mapping[str, Any],
    max_restarts: int = MAX_RESTARTS,
    env: Mapping[str, str] | None = None,
    service_account: str = "",
    spot: bool = False,
) -> dict[str, Any]:
    """The JobSet as plain data. metadata: its name or generateName, and labels."""
    selector = {
        "cloud.google.com/gke-tpu-accelerator": topology.chip.gke_accelerator,
        "cloud.google.com/gke-tpu-topology": topology.shape,
    }
    if spot:
        selector["cloud.google.com/gke-spot"] = "true"
    chips = {"google.com/tpu": topology.chips_per_host}
    container = {
        "name": "xtl",
        "image": image,
        "securityContext": {"privileged": True},
        "ports": [{"containerPort": port} for port in PORTS],
        **({"env": [{"name": name, "value": value} for name, value in env.items()]} if env else {}),
        "command": list(command),
        "resources": {"requests": chips, "limits": chips},
    }
    pod = {
        "restartPolicy": "Never",
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        **({"serviceAccountName": service_account} if service_account else {}),
        "nodeSelector": selector,
        "containers": [container],
    }
    job = {
        "completionMode": "Indexed",
        "parallelism": topology.hosts_per_slice,
        "completions": topology.hosts_per_slice,
        "backoffLimit": 0,  # the JobSet starts all hosts again, never one alone
        "template": {"spec": pod},
    }
    one_pool_per_slice = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {**metadata, "annotations": one_pool_per_slice},
        "spec": {
            "failurePolicy": {"maxRestarts": max_restarts},
            "replicatedJobs": [{"name": "slice", "replicas": topology.slices, "template": {"spec": job}}],
        },
    }


def as_yaml(value: Mapping[str, Any]) -> str:
    """A manifest as YAML, keys in the order given, texts of several lines as blocks."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise XtlError("a manifest needs PyYAML: pip install PyYAML, or use the Python of xtl's .venv") from None

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True  # equal parts are written out, not referred to

    def text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, width=1000)
