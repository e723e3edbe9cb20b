"""The one table of accelerators, and the one parser of their names.

Sources: cloud.google.com/tpu/docs (peaks, memory, bandwidths, hosts, runtime images), jax-ml.github.io/scaling-book
(one-way bandwidth of a link, network bandwidth of a chip), cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
(labels and machines of GKE), NVIDIA's data sheets (peaks without sparsity). Clocks are those that make
peak / (operations per cycle) whole. Standard library only: the launcher in tpu/ runs on any Python.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from xtl.errors import XtlError, nearest
from xtl.parallel.compiler_flags import COMMON, V4, Flag

GIB = 2**30
CHIPS_PER_HOST = 4  # of a slice of several hosts; a slice of one host may have more (`Tpu.largest_host`)


@dataclass(frozen=True, kw_only=True)
class Tpu:
    """A TPU generation. `peak`, `hbm` and bandwidths are per JAX device: a chip, but half a chip of tpu7x."""

    name: str
    prefix: str  # of accelerator types: v5litepod-16
    device_kinds: tuple[str, ...]  # pieces of jax.Device.device_kind, in lower case
    cores_per_chip: int  # the number in an accelerator type counts cores
    devices_per_chip: int = 1
    peak: float  # bf16 FLOP/s, dense
    clock: float  # Hz, of the cycles the compiler counts
    hbm: float  # bytes
    hbm_bandwidth: float  # bytes/s
    link: float  # bytes/s in one direction of one inter-chip link
    network: float  # bytes/s between slices
    ring: int  # an axis of a slice closes to a ring from so many chips on; below, it is a line
    largest_host: int  # chips of the largest slice that is one host
    runtime: str | None  # TPU VM image; None: rented through GKE only
    gke_accelerator: str  # node label
    machine: str  # GKE machine type, with the chips of a host to fill in
    shapes: tuple[str, ...]  # the slices that can be rented
    topology_options: Mapping[str, str] = field(default_factory=dict)  # for jax's get_topology_desc
    flags: Mapping[str, Flag] = field(default_factory=lambda: COMMON)  # of the compiler

    @property
    def chip_peak(self) -> float:
        """bf16 FLOP/s of one chip."""
        return self.peak * self.devices_per_chip

    @property
    def chip_hbm(self) -> float:
        """Bytes of one chip."""
        return self.hbm * self.devices_per_chip


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, which is one JAX device; its name is a piece of jax.Device.device_kind."""

    name: str
    peak: float  # bf16 FLOP/s, dense

    @property
    def device_kinds(self) -> tuple[str, ...]:
        """Pieces of jax.Device.device_kind, in lower case."""
        return (self.name,)


_SQUARES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
    *("8x8x8", "8x8x12", "8x8x16", "8x16x16", "16x16x16"),
)

_TPUS = (
    Tpu(
        name="v4",
        prefix="v4",
        device_kinds=("v4",),
        cores_per_chip=2,
        peak=275e12,
        clock=1.05e9,
        hbm=32 * GIB,
        hbm_bandwidth=1.2e12,
        link=4.5e10,
        network=6.25e9,
        ring=4,
        largest_host=4,
        runtime="tpu-ubuntu2204-base",
        gke_accelerator="tpu-v4-podslice",
        machine="ct4p-hightpu-{}t",
        shapes=_CUBES[:-1],
        topology_options={"chip_config_name": "megacore"},
        flags=V4,
    ),
    Tpu(
        name="v5e",
        prefix="v5litepod",
        device_kinds=("v5 lite", "v5litepod", "v5e"),
        cores_per_chip=1,
        peak=197e12,
        clock=1.5e9,
        hbm=16 * GIB,
        hbm_bandwidth=8.1e11,
        link=4.5e10,
        network=3.125e9,
        ring=16,
        largest_host=8,
        runtime="v2-alpha-tpuv5-lite",
        gke_accelerator="tpu-v5-lite-podslice",
        machine="ct5lp-hightpu-{}t",
        shapes=_SQUARES,
    ),
    Tpu(
        name="v5p",
        prefix="v5p",
        device_kinds=("v5p", "tpu v5"),  # after v5e, whose kind "TPU v5 lite" holds "tpu v5", too
        cores_per_chip=2,
        peak=459e12,
        clock=1.75e9,
        hbm=95 * GIB,
        hbm_bandwidth=2.8e12,
        link=9e10,
        network=6.25e9,
        ring=4,
        largest_host=4,
        runtime="v2-alpha-tpuv5",
        gke_accelerator="tpu-v5p-slice",
        machine="ct5p-hightpu-{}t",
        shapes=_CUBES,
    ),
    Tpu(
        name="v6e",
        prefix="v6e",
        device_kinds=("v6 lite", "v6e"),
        cores_per_chip=1,
        peak=918e12,
        clock=1.75e9,
        hbm=32 * GIB,
        hbm_bandwidth=1.6e12,
        link=9e10,
        network=6.25e9,
        ring=16,
        largest_host=8,
        runtime="v2-alpha-tpuv6e",
        gke_accelerator="tpu-v6e-slice",
        machine="ct6e-standard-{}t",
        shapes=_SQUARES,
    ),
    Tpu(
        name="tpu7x",
        prefix="tpu7x",
        device_kinds=("tpu7x",),
        cores_per_chip=2,
        devices_per_chip=2,
        peak=2307e12 / 2,
        clock=1.9e9,
        hbm=96 * GIB,
        hbm_bandwidth=3.7e12,
        link=9e10,
        network=6.25e9,
        ring=4,
        largest_host=4,
        runtime=None,
        gke_accelerator="tpu7x",
        machine="tpu7x-standard-{}t",
        shapes=("1x1x1", *_CUBES),
    ),
)
TPUS = {tpu.name: tpu for tpu in _TPUS}
GPUS = {name: Gpu(name=name, peak=peak) for name, peak in {"a100": 312e12, "h100": 989e12, "h200": 989e12}.items()}
CHIPS: dict[str, Tpu | Gpu] = {**TPUS, **GPUS}


# ---------------------------------------------------------------- devices, as JAX names them


def chip_of(device_kind: str) -> str | None:
    """'TPU v5 lite' -> 'v5e'; None for a chip (or CPU) that is not in the table."""
    kind = device_kind.lower()
    return next((name for name, chip in CHIPS.items() if any(piece in kind for piece in chip.device_kinds)), None)


def peak_flops(device_kind: str) -> float | None:
    """bf16 FLOP/s of one device of that kind; None where no MFU can be stated."""
    name = chip_of(device_kind)
    return None if name is None else CHIPS[name].peak


def compiler_flags(chip: str | None, changes: Mapping[str, object] | None = None) -> dict[str, str]:
    """The compiler's flags for a chip (none for GPUs, CPUs and unknown chips), with a config's changes over them.

    A change to "" leaves a flag out.
    """
    flags = {name: flag.value for name, flag in TPUS[chip].flags.items()} if chip in TPUS else {}
    for name, value in (changes or {}).items():
        flags[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return {name: value for name, value in flags.items() if value}


# ---------------------------------------------------------------- slices


@dataclass(frozen=True)
class Topology:
    """One TPU slice, or several equal ones that are joined by the network of the data centre."""

    chip: Tpu
    sides: tuple[int, ...]
    slices: int = 1

    @property
    def shape(self) -> str:
        """Of one slice, as Google Cloud writes it: `4x4`."""
        return "x".join(map(str, self.sides))

    @property
    def name(self) -> str:
        """Such as `v5e:4x4`, `2*v5e:4x4`."""
        name = f"{self.chip.name}:{self.shape}"
        return name if self.slices == 1 else f"{self.slices}*{name}"

    @property
    def accelerator_type(self) -> str:
        """The name of one slice in the Cloud TPU API: `v5litepod-16`."""
        return f"{self.chip.prefix}-{self.chips_per_slice * self.chip.cores_per_chip}"

    @property
    def chips_per_slice(self) -> int:
        return math.prod(self.sides)

    @property
    def chips(self) -> int:
        """Of all slices together."""
        return self.slices * self.chips_per_slice

    @property
    def devices_per_slice(self) -> int:
        """JAX devices."""
        return self.chips_per_slice * self.chip.devices_per_chip

    @property
    def hosts_per_slice(self) -> int:
        """VMs, which Google Cloud calls workers."""
        return 1 if self.chips_per_slice <= self.chip.largest_host else self.chips_per_slice // CHIPS_PER_HOST

    @property
    def chips_per_host(self) -> int:
        return self.chips_per_slice // self.hosts_per_slice

    @property
    def machine(self) -> str:
        """The GKE machine type of its hosts."""
        return self.chip.machine.format(self.chips_per_host)

    def bandwidth(self, group: int) -> float:
        """Bytes/s at which a device takes in what a group of devices of one slice gathers, over all links it uses.

        A group takes up whole axes, longest first, until it is complete; a ring is fed from both sides, a line from
        one.
        """
        links = sum(2 if side >= self.chip.ring else 1 for side in self._axes(group))
        return max(links, 1) * self.chip.link

    def bisection(self, group: int) -> float:
        """Bytes/s in one direction between two halves of a group, cut across its longest axis."""
        axes = self._axes(group)
        if not axes:
            return self.chip.link
        return math.prod(axes[1:]) * (2 if axes[0] >= self.chip.ring else 1) * self.chip.link

    def _axes(self, group: int) -> list[int]:
        """The lengths of the axes that a group of devices takes up, longest first."""
        axes, covered = [], 1
        for side in sorted(self.sides, reverse=True):
            if covered >= group or side == 1:
                break
            axes.append(side)
            covered *= side
        return axes


def _sides(shape: str) -> tuple[int, ...]:
    return tuple(map(int, shape.split("x")))


SLICES = tuple(Topology(tpu, _sides(shape)) for tpu in _TPUS for shape in tpu.shapes)  # all that can be rented
_CHIPS = {name: tpu for tpu in _TPUS for name in (tpu.name, tpu.prefix)}
_NAME = re.compile(r"(?:([1-9]\d*)\*)?([a-z0-9]+)(?::([1-9]\d*(?:x[1-9]\d*)*)|-(\d+))")


def topology(text: str, *, flag: str = "--topology") -> Topology:
    """The Topology of a slice's name: `v5e:4x4`, `v5e-16`, `v5litepod-16`; of several slices: `2*v5e:4x4`.

    A shape need not be one that can be rented. `flag` is where the name came from, for the error message.
    """
    match = _NAME.fullmatch(text)
    if not match:
        raise XtlError(f"{flag}={text}: write a slice as v5e:4x4 or v5e-16, several as 2*v5e:4x4")
    count, name, shape, cores = match.groups()
    chip = _CHIPS.get(name)
    if chip is None:
        raise XtlError(f"{flag}={text}: unknown chip {name!r}.{nearest(name, TPUS)}")
    if cores:
        types = {one.accelerator_type: one.shape for one in SLICES}
        shape = types.get(f"{chip.prefix}-{cores}")
        if shape is None:
            raise _unknown(f"{name}-{cores}", chip, flag)
    return Topology(chip, _sides(shape), int(count or 1))


def rented(text: str, *, flag: str = "--type") -> Topology:
    """As `topology`, but only slices that can be rented."""
    slices = topology(text, flag=flag)
    if slices.shape not in slices.chip.shapes:
        raise _unknown(f"{slices.chip.name}:{slices.shape}", slices.chip, flag)
    return slices


def _unknown(name: str, chip: Tpu, flag: str) -> XtlError:
    of_chip = [one for one in SLICES if one.chip is chip]
    types = [one.accelerator_type for one in of_chip]
    names = {*types, *(kind.replace(chip.prefix, chip.name) for kind in types), *(one.name for one in of_chip)}
    return XtlError(f"{flag}: unknown TPU slice {name!r}.{nearest(name, names)}")


def accelerators(text: str) -> tuple[int, float]:
    """(chips, bf16 FLOP/s of one chip) of a topology, of GPUs such as `h100:8`, or of one chip: `v5e`."""
    name, _, count = text.partition(":")
    if name in GPUS and re.fullmatch(r"(\d+(x\d+)*)?", count):
        return math.prod(_sides(count or "1")), GPUS[name].peak
    if text in TPUS:
        return 1, TPUS[text].chip_peak
    slices = topology(text)
    return slices.chips, slices.chip.chip_peak
