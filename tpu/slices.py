"""The TPU slices that can be asked for: accelerator type, topology, chips, hosts, memory, peak and runtime image.

A slice is named as in the Cloud TPU API (`v6e-16`, `v5litepod-16`, also `v5e-16`) or by its topology, as in
`xtl compile` (`v6e:4x4`). Facts: cloud.google.com/tpu/docs, the pages of each generation.
"""

import math
from dataclasses import dataclass

from xtl.errors import XtlError, nearest
from xtl.models.flops import PEAK_FLOPS


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What is common to the slices of one TPU generation."""

    name: str
    prefix: str  # of the accelerator type
    cores_per_chip: int  # by which the number in the accelerator type exceeds the chips
    devices_per_chip: int  # JAX devices
    hbm_gib: int  # per chip
    host_chips: int  # the most chips that one host holds; larger slices have 4 a host
    runtime: str | None  # TPU VM image; None: on GKE only
    gke_accelerator: str
    machine: str  # GKE machine type, with the chips of a host to fill in
    topologies: tuple[str, ...]

    @property
    def peak_tflops(self) -> float:
        """bf16 TFLOP/s of one chip."""
        return PEAK_FLOPS[self.name] * self.devices_per_chip / 1e12


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
    *("8x8x8", "8x8x12", "8x8x16", "8x16x16", "16x16x16"),
)

GENERATIONS = {
    generation.name: generation
    for generation in (
        Generation(
            name="v4",
            prefix="v4",
            cores_per_chip=2,
            devices_per_chip=1,
            hbm_gib=32,
            host_chips=4,
            runtime="tpu-ubuntu2204-base",
            gke_accelerator="tpu-v4-podslice",
            machine="ct4p-hightpu-{}t",
            topologies=_CUBES[:-1],
        ),
        Generation(
            name="v5e",
            prefix="v5litepod",
            cores_per_chip=1,
            devices_per_chip=1,
            hbm_gib=16,
            host_chips=8,
            runtime="v2-alpha-tpuv5-lite",
            gke_accelerator="tpu-v5-lite-podslice",
            machine="ct5lp-hightpu-{}t",
            topologies=_FLAT,
        ),
        Generation(
            name="v5p",
            prefix="v5p",
            cores_per_chip=2,
            devices_per_chip=1,
            hbm_gib=95,
            host_chips=4,
            runtime="v2-alpha-tpuv5",
            gke_accelerator="tpu-v5p-slice",
            machine="ct5p-hightpu-{}t",
            topologies=_CUBES,
        ),
        Generation(
            name="v6e",
            prefix="v6e",
            cores_per_chip=1,
            devices_per_chip=1,
            hbm_gib=32,
            host_chips=8,
            runtime="v2-alpha-tpuv6e",
            gke_accelerator="tpu-v6e-slice",
            machine="ct6e-standard-{}t",
            topologies=_FLAT,
        ),
        Generation(
            name="tpu7x",
            prefix="tpu7x",
            cores_per_chip=2,
            devices_per_chip=2,
            hbm_gib=192,
            host_chips=4,
            runtime=None,
            gke_accelerator="tpu7x",
            machine="tpu7x-standard-{}t",
            topologies=("1x1x1", *_CUBES),
        ),
    )
}


@dataclass(frozen=True)
class Slice:
    """One slice: a generation and a topology."""

    generation: Generation
    topology: str

    @property
    def chips(self) -> int:
        return math.prod(int(side) for side in self.topology.split("x"))

    @property
    def hosts(self) -> int:
        """VMs (workers) of the slice."""
        return 1 if self.chips <= self.generation.host_chips else self.chips // 4

    @property
    def host_chips(self) -> int:
        """Chips of each VM."""
        return self.chips // self.hosts

    @property
    def type(self) -> str:
        """The accelerator type of the Cloud TPU API."""
        return f"{self.generation.prefix}-{self.chips * self.generation.cores_per_chip}"

    @property
    def machine(self) -> str:
        """The GKE machine type of its hosts."""
        return self.generation.machine.format(self.host_chips)


SLICES = tuple(Slice(generation, topology) for generation in GENERATIONS.values() for topology in generation.topologies)


def find(name: str) -> Slice:
    """The slice of that name: `v6e-16`, `v5e-16`, `v5litepod-16`, `v6e:4x4`; an error names the nearest."""
    names: dict[str, Slice] = {}
    for item in SLICES:
        count = item.type.rpartition("-")[2]
        names[f"{item.generation.name}-{count}"] = item
        names[f"{item.generation.name}:{item.topology}"] = item
        names[item.type] = item
    if name not in names:
        kin = [known for known in names if known.startswith(name.replace(":", "-").split("-")[0])]
        raise XtlError(f"unknown TPU slice {name!r}.{nearest(name, kin or GENERATIONS)}")
    return names[name]


def table() -> str:
    """The slice table as text, one line a slice."""
    head = "type            topology  chips  hosts  HBM GiB  peak TFLOP/s  runtime version"
    lines = [
        f"{item.type:<14}  {item.topology:<8}  {item.chips:5}  {item.hosts:5}  "
        f"{item.chips * item.generation.hbm_gib:7}  {item.chips * item.generation.peak_tflops:12,.0f}  "
        f"{item.generation.runtime or 'GKE only'}"
        for item in SLICES
    ]
    return "\n".join([head, *lines])
