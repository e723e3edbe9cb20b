"""The same run on Kubernetes or through SkyPilot: a JobSet manifest, an xpk command, a SkyPilot task.

JobSet and SkyPilot task are YAML, which needs PyYAML; everything else in tpu/ needs nothing.
"""

import shlex
from dataclasses import replace
from typing import Any

from tpu import commands
from tpu.commands import Request
from xtl.cli.emit.jobset import as_yaml
from xtl.cli.emit.jobset import jobset as jobset_manifest
from xtl.errors import XtlError
from xtl.parallel.chips import Topology

SKYPILOT_SETUP = """\
set -e
python3 -m pip install --user -q uv
python3 -m uv venv -q --seed --clear --python 3.11 .venv
.venv/bin/pip install -q --no-deps -r requirements-tpu.lock -r requirements-gcs.lock
.venv/bin/pip install -q --no-deps --no-build-isolation -e .
"""


def _slices(request: Request) -> Topology:
    if request.slice is None:
        raise XtlError("a slice type is needed: --type=v6e-16 (`python -m tpu.launch slices` lists them)")
    return replace(request.slice, slices=request.slices)


def _needed(value: str | None, flag: str, about: str) -> str:
    if not value:
        raise XtlError(f"{flag} is needed: {about}")
    return value


def jobset(
    request: Request, command: list[str], *, env: dict[str, str], image: str | None, max_restarts: int, **_: object
) -> str:
    """A JobSet for GKE, as YAML (xtl.cli.emit.jobset)."""
    slices = _slices(request)
    manifest = jobset_manifest(
        slices,
        command,
        image=_needed(image, "--image", "build and push tpu/Dockerfile"),
        metadata={"name": request.name},
        max_restarts=max_restarts,
        env=env,
        service_account=request.service_account or "",
        spot=request.capacity == "spot",
    )
    return f"""\
# {slices.slices} x {slices.accelerator_type} ({_size(slices)} of type {slices.machine})
# kubectl apply -f FILE; follow with: kubectl logs -f -l jobset.sigs.k8s.io/jobset-name={request.name}
{as_yaml(manifest)}"""


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
    """The xpk command that runs it on a GKE cluster created with `xpk cluster create`."""
    slices = _slices(request)
    words = ["xpk", "workload", "create", f"--cluster={_needed(cluster, '--cluster', 'the GKE cluster')}"]
    words += [f"--workload={request.name}", f"--tpu-type={slices.accelerator_type}", f"--num-slices={slices.slices}"]
    words += [f"--docker-image={_needed(image, '--image', 'build and push tpu/Dockerfile')}"]
    words += [f"--max-restarts={max_restarts}", "--restart-on-user-code-failure"] if max_restarts else []
    words += [f"--{key}={text}" for key, text in (("zone", request.zone), ("project", request.project)) if text]
    words += [f"--env={key}={text}" for key, text in env.items()]
    return shlex.join([*words, f"--command={shlex.join(command)}"]) + "\n"


def skypilot(request: Request, command: list[str], *, env: dict[str, str], max_restarts: int, **_: object) -> str:
    """A SkyPilot task as YAML; `sky jobs launch` brings it back after preemptions, in any zone that has the slice.

    Setup and command run on every host. SkyPilot knows single slices only.
    """
    slices = _slices(request)
    if slices.chip.runtime is None or slices.slices > 1:
        raise XtlError(
            f"{slices.slices} x {slices.accelerator_type}: SkyPilot runs single slices of TPU VMs; use jobset or xpk"
        )
    task: dict[str, Any] = {
        "name": request.name,
        "workdir": ".",
        "resources": {
            "infra": "gcp" + (f"/*/{request.zone}" if request.zone else ""),
            "accelerators": f"tpu-{slices.accelerator_type}",
            "accelerator_args": {"runtime_version": slices.chip.runtime},
            "use_spot": request.capacity == "spot",
            "job_recovery": {"strategy": "FAILOVER", "max_restarts_on_errors": max_restarts},
        },
        "envs": {**commands.WORKER_ENV, **env},
        "setup": SKYPILOT_SETUP,
        "run": f'export PATH="$PWD/.venv/bin:$PATH"\n{shlex.join(command)}\n',
    }
    return f"# sky jobs launch -n {request.name} FILE   ({_size(slices)})\n{as_yaml(task)}"


def _size(slices: Topology) -> str:
    return f"{slices.shape}: {slices.chips_per_slice} chips on {slices.hosts_per_slice} hosts"
