"""The same run on Kubernetes or through SkyPilot: a JobSet manifest, an xpk command, a SkyPilot task."""

import json
import shlex

from tpu.commands import Request
from tpu.slices import Slice
from xtl.errors import XtlError


def _slice(request: Request) -> Slice:
    if request.slice is None:
        raise XtlError("a slice type is needed: --type=v6e-16 (`python -m tpu.launch slices` lists them)")
    return request.slice


def _needed(value: str | None, flag: str, about: str) -> str:
    if not value:
        raise XtlError(f"{flag} is needed: {about}")
    return value


def _quoted(words: str) -> str:
    return json.dumps(words)  # a JSON string is a YAML string


def jobset(
    request: Request, command: list[str], *, env: dict[str, str], image: str | None, max_restarts: int, **_: object
) -> str:
    """A JobSet for GKE: one job a slice, one pod a host, started again as a whole when a pod is lost.

    GKE fills in what JAX needs to find the other hosts and slices (TPU_WORKER_*, MEGASCALE_*). Needs JobSet in the
    cluster and a node pool of the slice's machine type.
    """
    tpu = _slice(request)
    image = _needed(image, "--image", "build and push tpu/Dockerfile")
    spot = '\n                cloud.google.com/gke-spot: "true"' if request.capacity == "spot" else ""
    account = f"\n              serviceAccountName: {request.service_account}" if request.service_account else ""
    pairs = "".join(f"\n                    - {{name: {key}, value: {_quoted(text)}}}" for key, text in env.items())
    pairs = f"\n                  env:{pairs}" if pairs else ""
    words = "".join(f"\n                    - {_quoted(word)}" for word in command)
    return f"""\
# {request.slices} x {tpu.type} ({tpu.topology}: {tpu.chips} chips on {tpu.hosts} hosts of type {tpu.machine})
# kubectl apply -f FILE; follow with: kubectl logs -f -l jobset.sigs.k8s.io/jobset-name={request.name}
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {request.name}
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: {max_restarts}
  replicatedJobs:
    - name: slice
      replicas: {request.slices}
      template:
        spec:
          completionMode: Indexed
          parallelism: {tpu.hosts}
          completions: {tpu.hosts}
          backoffLimit: 0  # the JobSet starts all hosts again, never one alone
          template:
            spec:
              restartPolicy: Never
              hostNetwork: true
              dnsPolicy: ClusterFirstWithHostNet
              terminationGracePeriodSeconds: 120  # for the checkpoint that SIGTERM asks for{account}
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: {tpu.generation.gke_accelerator}
                cloud.google.com/gke-tpu-topology: {tpu.topology}{spot}
              containers:
                - name: xtl
                  image: {image}
                  securityContext: {{privileged: true}}
                  ports:
                    - containerPort: 8471
                    - containerPort: 8080
                    - containerPort: 8476{pairs}
                  command:{words}
                  resources:
                    requests: {{google.com/tpu: {tpu.host_chips}}}
                    limits: {{google.com/tpu: {tpu.host_chips}}}
"""


def xpk(
    request: Request,
    command: list[str],
    *,
    env: dict[str, str],
    image: str | None,
    cluster: str | None,
    max_restarts: int,
    **_: object,
) -> str:
    """The xpk command that runs it on a GKE cluster made with `xpk cluster create`."""
    tpu = _slice(request)
    words = ["xpk", "workload", "create", f"--cluster={_needed(cluster, '--cluster', 'the GKE cluster')}"]
    words += [f"--workload={request.name}", f"--tpu-type={tpu.type}", f"--num-slices={request.slices}"]
    words += [f"--docker-image={_needed(image, '--image', 'build and push tpu/Dockerfile')}"]
    words += [f"--max-restarts={max_restarts}", "--restart-on-user-code-failure"] if max_restarts else []
    words += [f"--{key}={text}" for key, text in (("zone", request.zone), ("project", request.project)) if text]
    words += [f"--env={key}={text}" for key, text in env.items()]
    return shlex.join([*words, f"--command={shlex.join(command)}"]) + "\n"


def skypilot(request: Request, command: list[str], *, env: dict[str, str], max_restarts: int, **_: object) -> str:
    """A SkyPilot task; `sky jobs launch` brings it back after preemptions, in any zone that has the slice.

    Setup and command run on every host. SkyPilot knows single slices only.
    """
    tpu = _slice(request)
    if tpu.generation.runtime is None or request.slices > 1:
        raise XtlError(f"{request.slices} x {tpu.type}: SkyPilot runs single slices of TPU VMs; use jobset or xpk")
    place = "infra: gcp" + (f"/*/{request.zone}" if request.zone else "")
    pairs = "".join(f"\n  {key}: {_quoted(text)}" for key, text in {"JAX_COORDINATOR_PORT": "8476", **env}.items())
    return f"""\
# sky jobs launch -n {request.name} FILE   ({tpu.topology}: {tpu.chips} chips on {tpu.hosts} hosts)
name: {request.name}
workdir: .
resources:
  {place}
  accelerators: tpu-{tpu.type}
  accelerator_args:
    runtime_version: {tpu.generation.runtime}
  use_spot: {str(request.capacity == "spot").lower()}
  job_recovery:
    strategy: FAILOVER
    max_restarts_on_errors: {max_restarts}
envs:{pairs}
setup: |
  set -e
  python3 -m pip install --user -q uv
  python3 -m uv venv -q --seed --clear --python 3.11 .venv
  .venv/bin/pip install -q --no-deps -r requirements-tpu.lock -r requirements-gcs.lock
  .venv/bin/pip install -q --no-deps --no-build-isolation -e .
run: |
  export PATH="$PWD/.venv/bin:$PATH"
  {shlex.join(command)}
"""
