"""TPU generations and slices as the compiler and the cost model know them.

Sources: peaks, memory and bandwidths from cloud.google.com/tpu/docs and jax-ml.github.io/scaling-book (one-way
bandwidth of a link, network bandwidth of a chip); clocks are those that make peak / (operations a cycle) whole.
"""

import math
import os
import re
from dataclasses import dataclass, field
from typing import Any

from xtl.errors import XtlError, nearest
from xtl.models.flops import PEAK_FLOPS

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One JAX device of a generation: a chip, but half a chip of tpu7x."""

    name: str
    clock: float  # Hz, of the cycles the compiler counts
    hbm: float  # bytes
    hbm_bandwidth: float  # bytes/s
    link: float  # bytes/s in one direction of one inter-chip link
    network: float  # bytes/s of one device between slices
    ring: int  # an axis of the slice closes to a ring from so many chips on; below, it is a line
    options: dict[str, Any] = field(default_factory=dict)  # for get_topology_desc

    @property
    def peak(self) -> float:
        """bf16 FLOP/s."""
        return PEAK_FLOPS[self.name]


CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            name="v4",
            clock=1.05e9,
            hbm=32 * GIB,
            hbm_bandwidth=1.2e12,
            link=4.5e10,
            network=6.25e9,
            ring=4,
            options={"chip_config_name": "megacore"},
        ),
        Chip(
            name="v5e",
            clock=1.5e9,
            hbm=16 * GIB,
            hbm_bandwidth=8.1e11,
            link=4.5e10,
            network=3.125e9,
            ring=16,
        ),
        Chip(
            name="v5p",
            clock=1.75e9,
            hbm=95 * GIB,
            hbm_bandwidth=2.8e12,
            link=9e10,
            network=6.25e9,
            ring=4,
        ),
        Chip(
            name="v6e",
            clock=1.75e9,
            hbm=32 * GIB,
            hbm_bandwidth=1.6e12,
            link=9e10,
            network=6.25e9,
            ring=16,
        ),
        Chip(
            name="tpu7x",
            clock=1.9e9,
            hbm=96 * GIB,
            hbm_bandwidth=3.7e12,
            link=9e10,
            network=6.25e9,
            ring=4,
        ),
    )
}


@dataclass(frozen=True)
class Topology:
    """A slice, or several equal ones."""

    chip: Chip
    sides: tuple[int, ...]
    slices: int = 1

    @property
    def name(self) -> str:
        """As it was asked for: `v5e:4x4`, `2*v5e:4x4`."""
        name = f"{self.chip.name}:{'x'.join(map(str, self.sides))}"
        return name if self.slices == 1 else f"{self.slices}*{name}"

    @property
    def devices_per_slice(self) -> int:
        """JAX devices of one slice."""
        return math.prod(self.sides) * (2 if self.chip.name == "tpu7x" else 1)

    def bandwidth(self, group: int) -> float:
        """Bytes/s at which a device takes in what a group of devices of one slice gathers, over all links it uses.

        A group takes up whole axes, longest first, until it is complete; a ring is fed from both sides, a line from
        one.
        """
        links, covered = 0, 1
        for side in sorted(self.sides, reverse=True):
            if covered >= group or side == 1:
                break
            covered *= side
            links += 2 if side >= self.chip.ring else 1
        return max(links, 1) * self.chip.link

    def bisection(self, group: int) -> float:
        """Bytes/s in one direction between two halves of a group, cut across its longest axis."""
        sides, covered = [], 1
        for side in sorted(self.sides, reverse=True):
            if covered < group and side > 1:
                sides.append(side)
                covered *= side
        if not sides:
            return self.chip.link
        return math.prod(sides[1:]) * (2 if sides[0] >= self.chip.ring else 1) * self.chip.link


def topology(name: str) -> Topology:
    """The Topology of `v5e:4x4`, or of `2*v5e:4x4` (two slices)."""
    found = re.fullmatch(r"(?:(\d+)\*)?([a-z0-9]+):(\d+(?:x\d+)*)", name)
    if not found:
        raise XtlError(f"--topology={name}: write a slice as v5e:4x4 or v5p:2x2x2, several as 2*v5e:4x4")
    count, chip, sides = found.groups()
    if chip not in CHIPS:
        raise XtlError(f"--topology={name}: unknown chip {chip!r}.{nearest(chip, CHIPS)}")
    return Topology(CHIPS[chip], tuple(map(int, sides.split("x"))), int(count or 1))


def devices(topology: Topology) -> list[Any]:
    """The slice's devices, for a mesh to compile for; they cannot run anything.

    Works without a TPU: only the compiler (libtpu) is loaded. XtlError if it is not installed or knows no such slice.
    """
    # The compiler asks neither the cloud's metadata server nor other hosts who it is, nor does it hold the chip's lock.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    import importlib.util

    if importlib.util.find_spec("libtpu") is None:
        raise XtlError("the TPU compiler is not installed: pip install 'xtl[tpu]' (no TPU is needed)")
    from jax.experimental import topologies

    chip, sides = topology.chip, "x".join(map(str, topology.sides))
    options = dict(chip.options)
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    if math.prod(topology.sides) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        found = topologies.get_topology_desc(f"{chip.name}:{sides}", platform="tpu", **options).devices
    except Exception as error:
        raise XtlError(f"--topology={topology.name}: the compiler refuses it: {str(error).splitlines()[0]}") from error
    return list(found)
