"""Predicted step time from optimized HLO: the compiler's cycles, kernels by roofline, collectives by bandwidth.

The module is replayed in the order of its schedule. Time passes by `estimated_cycles` / clock; loops run as often as
they say. A collective takes bytes / bandwidth on its network (one at a time on each), from its start to its end; what
of it is not over when its end is reached is exposed and adds to the step. Pallas kernels carry no estimate: they take
max(FLOPs / peak, bytes / HBM bandwidth) of what they declare, which is the least they can take, and are shown apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xtl.aot.hlo import Collective, Instruction, Module, collectives, kernel_cost
from xtl.parallel.chips import Topology

LIMITS = (
    "predicted, not measured: compiler cycle estimates / clock + kernels at their roofline + exposed collectives",
    "left out: latency of collectives, copies between HBM and VMEM that do not hide, host and input, stragglers",
)


@dataclass
class Traffic:
    """All collectives of one kind, network and operation."""

    kind: str
    network: str  # "ICI" within a slice, "DCN" between slices
    op_name: str
    count: int = 0
    size: float = 0.0  # bytes of the arrays, all together
    seconds: float = 0.0
    exposed: float = 0.0


@dataclass
class Prediction:
    """Where the time of one step goes, in seconds on one device."""

    compute: float = 0.0
    kernels: float = 0.0
    exposed: float = 0.0
    by_operation: dict[str, float] = field(default_factory=dict)
    traffic: dict[tuple, Traffic] = field(default_factory=dict)
    unknown_loops: int = 0  # loops whose trip count could not be read; they count once

    @property
    def seconds(self) -> float:
        """The step."""
        return self.compute + self.kernels + self.exposed

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = sorted(self.traffic.values(), key=lambda row: -row.size)
        return {
            "seconds": self.seconds,
            "compute_seconds": self.compute,
            "kernel_seconds": self.kernels,
            "exposed_seconds": self.exposed,
            "unknown_loops": self.unknown_loops,
            "collectives": [vars(row) for row in rows],
            "operations": dict(sorted(self.by_operation.items(), key=lambda item: -item[1])),
        }


def predict(module: Module, topology: Topology, *, devices: int) -> Prediction:
    """Replays the module on one device of the topology; see the top of this file for the model."""
    replay = _Replay(module, topology, devices)
    replay.run(module.entry, times=1)
    return replay.result


def transfer_seconds(one: Collective, topology: Topology) -> float:
    """How long a collective keeps its network busy; every device moves the same amount."""
    n = one.group
    if one.kind == "all-to-all" and not one.crosses:  # half of the group sends half of what it holds to the other half
        return n * one.size / 4 / topology.bisection(n)
    share = {"all-reduce": 2 * (n - 1) / n, "collective-permute": 1.0}
    moved = one.size * share.get(one.kind, (n - 1) / n)
    if one.crosses:
        return moved / topology.chip.network
    return moved / (topology.chip.link if one.kind == "collective-permute" else topology.bandwidth(n))


class _Replay:
    def __init__(self, module: Module, topology: Topology, devices: int):
        self.module, self.topology, self.devices = module, topology, devices
        self.result = Prediction()
        self._of_instruction: dict[int, list[Collective]] = {}  # by identity: parsed once, asked for often

    def run(self, name: str, *, times: int) -> float:
        """Seconds of one pass through a computation, whose parts are added to the result `times`, once per pass.

        Two clocks run: `now` is that of the compute units, `free[network]` says when a network has done all that it was
        given. A collective occupies its network from its start; the compute units wait for it only where the schedule
        ends it (`-done`, or the last fusion that carries a part of it), and that wait is what is exposed.
        """
        lines = self.module.computations[name]
        ends = _last_mentions(lines, self._collectives)
        now, free = 0.0, {"ICI": 0.0, "DCN": 0.0}
        pending: dict[str, tuple[float, Traffic]] = {}  # collectives under way: when each is over, and its row
        for at, one in enumerate(lines):
            for collective in self._collectives(one):
                key = _key(one, collective)
                if key in pending or one.opcode.endswith("-done"):
                    continue  # a later part of one that is under way
                network = "DCN" if collective.crosses else "ICI"
                seconds = transfer_seconds(collective, self.topology)
                free[network] = max(now, free[network]) + seconds  # after those that wait for the same network
                row = self._row(collective, network)
                row.count, row.size = row.count + times, row.size + times * collective.size
                row.seconds += times * seconds
                pending[key] = (free[network], row)
            now += self._compute(one, times)
            for key in [key for key in pending if ends.get(key, at) <= at]:
                over, row = pending.pop(key)
                if over > now:
                    row.exposed += times * (over - now)
                    self.result.exposed += times * (over - now)
                    now = over
        return now

    def _compute(self, one: Instruction, times: int) -> float:
        if one.opcode == "while":
            trips = self.module.trips(one)
            self.result.unknown_loops += trips is None
            return (trips or 1) * self.run(one.attribute("body") or "", times=times * (trips or 1))
        if one.opcode in ("call", "conditional"):
            return max((self.run(name, times=times) for name in one.called), default=0.0)
        kernel = kernel_cost(one)
        if kernel is not None:
            chip = self.topology.chip
            seconds = max(kernel.flops / chip.peak, kernel.bytes / chip.hbm_bandwidth)
            self.result.kernels += times * seconds
            label = "kernel: " + one.op_name.split("/")[-2] if "/" in one.op_name else "kernel"
        else:
            seconds = one.cycles / self.topology.chip.clock
            self.result.compute += times * seconds
            label = operation(one, self.module)
        if seconds:
            self.result.by_operation[label] = self.result.by_operation.get(label, 0.0) + times * seconds
        return seconds

    def _collectives(self, one: Instruction) -> list[Collective]:
        if id(one) not in self._of_instruction:
            per_slice = self.topology.devices_per_slice
            self._of_instruction[id(one)] = collectives(self.module, one, devices=self.devices, per_slice=per_slice)
        return self._of_instruction[id(one)]

    def _row(self, one: Collective, network: str) -> Traffic:
        label = _origin(one.op_name)
        return self.result.traffic.setdefault((one.kind, network, label), Traffic(one.kind, network, label))


def _key(one: Instruction, collective: Collective) -> str:
    """The name of one flight of a collective, the same from its start to its end."""
    return one.name if one.starts else collective.chain


def _last_mentions(
    lines: Sequence[Instruction], collectives_of: Callable[[Instruction], list[Collective]]
) -> Mapping[str, int]:
    """The index of the line where each flight ends: its `-done`, or the last fusion that carries a part of it."""
    ends: dict[str, int] = {}
    for at, one in enumerate(lines):
        if one.opcode.endswith("-done"):
            ends[one.operand] = at
        for collective in collectives_of(one):
            ends.setdefault(_key(one, collective), at) if one.starts else ends.update({collective.chain: at})
    return ends


# ---------------------------------------------------------------- labels


def operation(one: Instruction, module: Module) -> str:
    """A coarse name of what an instruction does: the rows of the time table."""
    name = one.op_name
    direction = "backward" if "transpose(" in name else "forward"
    if "rematted_computation" in name:
        direction = "recomputed"
    if not any(marker in name for marker in ("jvp(", "transpose(", "rematted")):
        return "optimizer" if name and "eval_step" not in name else "layout changes and other"
    product = one.opcode == "convolution" or any(inner.opcode == "convolution" for inner in module.inside(one))
    if product:
        kind = "attention products" if "->" in name else "matrix products"
    elif "scatter" in name or "gather" in name:
        kind = "embedding"
    elif "reduce" in name:
        kind = "norm and bias sums"
    else:
        kind = "elementwise"
    return f"{kind}, {direction}"


def _origin(op_name: str) -> str:
    """The JAX operation a collective comes from, without the path of transformations."""
    direction = "backward " if "transpose(" in op_name else ""
    return direction + (op_name.rpartition("/")[2] or "-")
