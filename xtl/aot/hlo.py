"""Reading the TPU compiler's optimized HLO text: instructions, cycle estimates, loops, collectives.

The text is that of a scheduled module, so the order of the lines of a computation is the order of execution. Only what
the cost model needs is read: no operands, no layouts. Nothing here imports JAX.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xtl.errors import XtlError

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "bf16": 2, "f16": 2, "token": 0, "f8e4m3fn": 1, "f8e5m2": 1, "s4": 0.5, "u4": 0.5}

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|called_computations|branch_computations)=(?:\{([^}]*)\}|%?([\w.\-]+))")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    shape: str  # of the result, as written
    text: str  # everything after the result's shape

    @property
    def cycles(self) -> int:
        """The compiler's estimate; 0 for what carries none (copies, collectives, custom calls)."""
        match = _CYCLES.search(self.text)
        return int(match.group(1)) if match else 0

    @property
    def op_name(self) -> str:
        """The JAX operation it comes from, such as `jit(train_step)/jvp()/while/body/dot_general`."""
        match = _OP_NAME.search(self.text)
        return match.group(1) if match else ""

    @property
    def called(self) -> tuple[str, ...]:
        """Computations it calls: of a fusion, an asynchronous start, a call or a conditional (not of a loop)."""
        match = _CALLED.search(self.text)
        if not match:
            return ()
        several, one = match.groups()
        return (one,) if one else tuple(name.strip().lstrip("%") for name in several.split(","))

    def attribute(self, name: str) -> str | None:
        """The computation named by an attribute, such as body=%region_1."""
        match = re.search(rf"\b{name}=%?([\w.\-]+)", self.text)
        return match.group(1) if match else None

    @property
    def operand(self) -> str:
        """The name of the first operand."""
        match = re.match(r"[\w\-]+\(%?([\w.\-]+)", self.text)
        return match.group(1) if match else ""

    @property
    def starts(self) -> bool:
        """Whether it only begins a transfer, which ends at the `-done` that names it."""
        return self.opcode.endswith("-start") or self.opcode == "recv"

    @property
    def arrays(self) -> list[float]:
        """Bytes of the arrays in the result, in order."""
        return [array_bytes(kind, dims) for kind, dims in _ARRAY.findall(self.shape)]


def array_bytes(kind: str, dims: str) -> float:
    """Bytes of `bf16[2,3]`, padding of tiles left out."""
    width = BYTES.get(kind)
    if width is None:
        bits = re.search(r"\d+", kind)
        width = int(bits.group()) / 8 if bits else 4
    return width * math.prod(int(size) for size in dims.split(",") if size)


@dataclass(frozen=True)
class Module:
    """The computations of one executable, by name."""

    computations: Mapping[str, tuple[Instruction, ...]]
    entry: str

    def trips(self, loop: Instruction) -> int | None:
        """How often a while loop runs: what the compiler says, or the constant its condition compares with."""
        known = _TRIPS.search(loop.text)
        if known:
            return int(known.group(1))
        condition = self.computations.get(loop.attribute("condition") or "", ())
        limits = [int(n) for one in condition if (n := _constant(one)) is not None]
        return limits[0] if len(limits) == 1 else None

    def inside(self, instruction: Instruction) -> Iterator[Instruction]:
        """All instructions of the computations it calls, theirs included."""
        for name in instruction.called:
            for one in self.computations.get(name, ()):
                yield one
                yield from self.inside(one)


def _constant(one: Instruction) -> str | None:
    if one.opcode != "constant" or not one.shape.startswith(("s32[]", "u32[]", "s64[]")):
        return None
    match = re.match(r"constant\((\d+)\)", one.text)
    return match.group(1) if match else None


def parse(text: str) -> Module:
    """The module of `compiled.as_text()`; XtlError if it is no HLO text."""
    computations: dict[str, tuple[Instruction, ...]] = {}
    lines: list[Instruction] = []
    entry = name = ""
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            name, lines = head.group(2), []
            entry = name if head.group(1) else entry
        elif line.startswith("}"):
            computations[name] = tuple(lines)
        elif name and (match := _LINE.match(line)):
            shape, opcode, rest = _split(match.group(2))
            lines.append(Instruction(match.group(1), opcode, shape, rest))
    if entry not in computations:
        raise XtlError("this is no optimized HLO text: it has no ENTRY computation")
    return Module(computations, entry)


def _split(text: str) -> tuple[str, str, str]:
    """(shape, opcode, `opcode(...)...`) of the right side of an instruction."""
    depth = 0
    for at, letter in enumerate(text):  # the shape ends at the first blank outside brackets
        depth += (letter in "([{") - (letter in ")]}")
        if letter == " " and depth == 0:
            rest = text[at + 1 :]
            opcode = rest.partition("(")[0]
            return text[:at], opcode, rest
    return text, "", ""


# ---------------------------------------------------------------- kernels


@dataclass(frozen=True)
class KernelCost:
    """What a Pallas kernel declares to take."""

    flops: float
    bytes: float


def kernel_cost(one: Instruction) -> KernelCost | None:
    """The declared cost of a Pallas call; None for everything else, 0 where the kernel declares nothing."""
    if one.opcode != "custom-call" or 'custom_call_target="tpu_custom_call"' not in one.text:
        return None
    match = re.search(r'"cost_estimate":\{"flops":"(\d+)","transcendentals":"\d+","bytes_accessed":"(\d+)"', one.text)
    return KernelCost(float(match.group(1)), float(match.group(2))) if match else KernelCost(0.0, 0.0)


# ---------------------------------------------------------------- collectives


@dataclass(frozen=True)
class Collective:
    """One collective operation as one device sees it.

    size: bytes of the whole array that is gathered, reduced, scattered or exchanged. group: devices that take part.
    chain: what its start, its steps and its end have in common.
    """

    kind: str
    size: float
    group: int
    crosses: bool  # between slices
    chain: str
    op_name: str


def collectives(module: Module, instruction: Instruction, *, devices: int, per_slice: int) -> list[Collective]:
    """The collectives an instruction is, holds (a fusion) or starts; [] for everything else."""
    parts = []
    for one in (instruction, *module.inside(instruction)):
        if one.opcode == "recv" and (between := _between_slices(one, devices // per_slice)):
            parts.append(between)
        kind = one.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        sizes = [size for size in one.arrays if size > 8]  # the rest are semaphores and flags
        if one.opcode in ("all-gather-start",):
            sizes = sizes[len(sizes) // 2 :]
        elif one.opcode == "collective-permute-start":
            sizes = sizes[:1]
        size, group = sum(sizes), _groups(one.text, devices)
        if kind == "reduce-scatter":
            size *= len(group)
        elif kind == "all-reduce" and any("reduce-scatter" in name for name in (instruction.name, *instruction.called)):
            kind = "reduce-scatter"  # the compiler writes it as an all-reduce of which each device keeps its part
        channel = re.search(r"channel_id=(\d+)", one.text)
        chain = channel.group(1) if channel else one.name
        crosses = len({device // per_slice for device in group}) > 1
        parts.append(Collective(kind, size, len(group), crosses, chain, one.op_name))
    return list({one.chain: one for one in parts}.values())  # the last of each chain


def _between_slices(one: Instruction, slices: int) -> Collective | None:
    """What the compiler hands to the hosts, to do over their network: a send, and right after it this recv."""
    kind = re.search(r'_xla_megascale_transfer_type="(\w+)"', one.text)
    chain = re.search(r'_xla_host_transfer_rendezvous="([^"]+)"', one.text)
    if not kind or not chain:
        return None
    name = kind.group(1).lower().replace("_", "-")
    return Collective(name, next(iter(one.arrays), 0.0), slices, True, chain.group(1), one.op_name)


def _groups(text: str, devices: int) -> tuple[int, ...]:
    """The first group of devices: of replica_groups or source_target_pairs in any of their notations."""
    pairs = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", text)
    if pairs:
        targets = {int(a): int(b) for a, b in re.findall(r"(\d+),(\d+)", pairs.group(1))}
        ring, at = [], next(iter(targets), 0)
        while at in targets and at not in ring:
            ring.append(at)
            at = targets[at]
        return tuple(ring) or (0, 1)
    explicit = re.search(r"replica_groups=\{\{([\d,]*)\}", text)
    if explicit:
        return tuple(int(device) for device in explicit.group(1).split(","))
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if iota:
        shape = [int(n) for n in iota.group(3).split(",")]
        order = [int(n) for n in iota.group(4).split(",")] if iota.group(4) else range(len(shape))
        return _first(shape, list(order), int(iota.group(2)))
    named = re.search(r"replica_groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}", text)
    if named:
        axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named.group(1))}
        chosen = re.findall(r"'([^']+)'", named.group(3))
        names = list(axes)
        order = [names.index(n) for n in names if n not in chosen] + [names.index(n) for n in chosen]
        return _first(list(axes.values()), order, math.prod(axes[n] for n in chosen))
    return tuple(range(devices))


def _first(shape: list[int], order: list[int], count: int) -> tuple[int, ...]:
    """The first `count` device numbers of iota(shape), transposed by `order` and flattened."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    numbers = [0]
    for axis in order:
        numbers = [number + step * strides[axis] for number in numbers for step in range(shape[axis])]
    return tuple(numbers[:count])
