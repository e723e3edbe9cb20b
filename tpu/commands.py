"""The gcloud command lines of the launcher: plain functions from a request to a list of words."""

from dataclasses import dataclass, field
from pathlib import Path

from xtl.errors import XtlError
from xtl.parallel.chips import Topology

CAPACITY = ("spot", "reserved", "on-demand")

# JAX's default coordinator port, 8482, is missing from the firewall rule that Google Cloud makes for a slice; 8476 is
# in it (jax-ml/jax#35905).
WORKER_ENV = {"JAX_COORDINATOR_PORT": "8476"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A queued resource: how many slices of which kind, where, and on what terms.

    Zone and project may be left out: gcloud then takes those of its own configuration.
    """

    name: str
    slice: Topology | None = None  # one of them; needed to create, not to look after what exists
    slices: int = 1
    zone: str | None = None
    project: str | None = None
    capacity: str = "spot"
    runtime: str | None = None
    network: str | None = None
    subnetwork: str | None = None
    service_account: str | None = None
    internal_ips: bool = False
    valid_until: str | None = None  # how long the queue may wait, as gcloud writes durations: 6h
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> list[str]:
        """The TPU VMs' names, one per slice."""
        return [self.name] if self.slices == 1 else [f"{self.name}-{index}" for index in range(self.slices)]

    @property
    def workers(self) -> int:
        """Hosts of all nodes together; where the slice is not known, at least one of each."""
        return self.slices * (self.slice.hosts_per_slice if self.slice else 1)


def _where(request: Request) -> list[str]:
    zone = [f"--zone={request.zone}"] if request.zone else []
    return zone + ([f"--project={request.project}"] if request.project else [])


def _tpus(request: Request, *words: str) -> list[str]:
    return ["gcloud", "compute", "tpus", *words, *_where(request), "--quiet"]


def create(request: Request) -> list[str]:
    """Ask for the slices; returns at once, the queue goes on waiting."""
    if request.slice is None:
        raise XtlError("a slice type is needed to create: --type=v6e-16 (`python -m tpu.launch slices` lists them)")
    runtime = request.runtime or request.slice.chip.runtime
    if runtime is None:
        raise XtlError(
            f"{request.slice.accelerator_type}: {request.slice.chip.name} is rented through GKE only; "
            "use `python -m tpu.launch jobset`"
        )
    flags = [f"--accelerator-type={request.slice.accelerator_type}", f"--runtime-version={runtime}"]
    if request.slices == 1:
        flags += [f"--node-id={request.name}"]
    else:
        flags += [f"--node-count={request.slices}", f"--node-prefix={request.name}"]
    flags += {"spot": ["--spot"], "reserved": ["--reserved"], "on-demand": []}[request.capacity]
    if request.valid_until:
        flags += [f"--valid-until-duration={request.valid_until}"]
    if request.network:
        flags += [f"--network={request.network}"]
    if request.subnetwork:
        flags += [f"--subnetwork={request.subnetwork}"]
    if request.service_account:
        flags += [f"--service-account={request.service_account}"]
    if request.internal_ips:
        flags += ["--internal-ips"]
    if request.labels:
        flags += ["--labels=" + ",".join(f"{key}={value}" for key, value in sorted(request.labels.items()))]
    return _tpus(request, "queued-resources", "create", request.name, *flags)


def describe(request: Request) -> list[str]:
    """The queued resource as JSON; `state.state` is where it stands."""
    return _tpus(request, "queued-resources", "describe", request.name, "--format=json")


def delete(request: Request) -> list[str]:
    """Delete the queued resource and, with --force, the TPU VMs that it created."""
    return _tpus(request, "queued-resources", "delete", request.name, "--force")


def list_queues(request: Request) -> list[str]:
    """All queued resources of the zone."""
    return _tpus(request, "queued-resources", "list")


def list_nodes(request: Request, *, names_only: bool = False) -> list[str]:
    """All TPU VMs of the zone."""
    return _tpus(request, "tpu-vm", "list", *(["--format=value(name)"] if names_only else []))


def delete_node(request: Request, node: str) -> list[str]:
    """Delete one TPU VM that outlived its queued resource."""
    return _tpus(request, "tpu-vm", "delete", node)


def ssh(request: Request, node: str, command: str, *, worker: str = "all", output: Path | None = None) -> list[str]:
    """Run a shell command on the workers of a node; `output` is a folder for one log file per worker.

    Host keys are not compared: a node that is created again has the old name and a new key.
    """
    flags = [f"--worker={worker}", f"--command={command}", "--strict-host-key-checking=no"]
    return _tpus(request, "tpu-vm", "ssh", node, *flags, *([f"--output-directory={output}"] if output else []))


def scp(request: Request, node: str, files: list[Path], folder: str) -> list[str]:
    """Copy files into a folder (relative to the home) of every worker of a node."""
    flags = ["--worker=all", "--strict-host-key-checking=no"]
    return _tpus(request, "tpu-vm", "scp", *map(str, files), f"{node}:{folder}/", *flags)
