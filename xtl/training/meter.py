"""What the loop measures: losses and counts read from the device one step late, rates over the seconds of training.

Reading late means the device never waits for the host. Steps whose loss is not finite count for nothing but themselves.
"""

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from xtl.models import flops
from xtl.parallel.chips import peak_flops
from xtl.training.progress import Curve, Faults

Record = dict[str, Any]

PARTS = 20  # of a stage, for the curve


@dataclass(frozen=True)
class Fault:
    """A step that was not applied. faults: how many there were up to and with it."""

    step: int
    task: str
    loss: float
    grad_norm: float
    faults: Faults


class Meter:
    """Collects steps into records of metrics.jsonl. Call `add` after each step, `read` for all but the newest.

    model: sizes for FLOPs. predicted: names of the tasks whose weight counts positions that go through the MLM head.
    steps: of the whole stage. curve: the one that was reached when the stage was cut off; unlike the records, it does
    not depend on how often anything is logged.
    """

    def __init__(
        self,
        model: flops.Sizes,
        *,
        predicted: frozenset[str],
        devices: int,
        device_kind: str,
        steps: int = 1,
        curve: Curve | None = None,
        faults: Faults | None = None,
    ):
        self.model, self.predicted, self.devices, self.steps = model, predicted, devices, steps
        self.curve = [list(part) for part in curve or PARTS * [[0.0, 0]]]  # (sum of losses, steps) of each part
        self.faults = faults or Faults()
        self.peak = peak_flops(device_kind)
        self._pending: list[tuple[int, str, Mapping[str, jax.Array]]] = []
        self._open()

    def _open(self) -> None:
        """Begin the next record."""
        self._since, self._skipped = time.perf_counter(), 0.0
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._losses: dict[str, list[float]] = {}
        self._last: Record = {}

    def add(self, step: int, task: str, metrics: Mapping[str, jax.Array]) -> None:
        """The metrics of a step that has just been dispatched."""
        self._pending.append((step, task, metrics))

    def read(self, *, all_steps: bool = False) -> list[Fault]:
        """Fetch the metrics of the steps before the newest one (or of all, which waits for the device).

        Returns those steps that were not applied, because their loss or gradient was not finite.
        """
        faults = []
        keep = 0 if all_steps else 1
        while len(self._pending) > keep:
            step, task, metrics = self._pending.pop(0)
            values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
            if not math.isfinite(values["loss"]) or not math.isfinite(values["grad_norm"]):
                self.faults = Faults(self.faults.in_row + 1, self.faults.in_all + 1)
                faults.append(Fault(step, task, values["loss"], values["grad_norm"], self.faults))
                continue
            self.faults = Faults(0, self.faults.in_all)
            for name in ("examples", "tokens", "token_pairs"):
                self._sums[name] += values[name]
            self._sums["predicted"] += values["weight"] if task in self.predicted else 0.0
            self._losses.setdefault(task, []).append(values["loss"])
            part = self.curve[min((step - 1) * PARTS // self.steps, PARTS - 1)]
            part[0], part[1] = part[0] + values["loss"], part[1] + 1
            self._last = {"step": step, "learning_rate": values["learning_rate"], "grad_norm": values["grad_norm"]}
        return faults

    def curve_so_far(self) -> Curve:
        """(sum of losses, steps) of each part of the stage, for a checkpoint."""
        return tuple((total, int(count)) for total, count in self.curve)

    def losses(self) -> list[float]:
        """The mean loss of each part of the stage that has begun, in order."""
        return [total / count for total, count in self.curve if count]

    def outside(self, seconds: float) -> None:
        """Seconds of the open record that were not training."""
        self._skipped += seconds

    def record(self) -> Record | None:
        """Close the open record: means and sums since the last one; None if no step was read since."""
        if not self._last:
            return None
        now = time.perf_counter()
        seconds = max(now - self._since - self._skipped, 1e-9)
        losses = [loss for task in self._losses.values() for loss in task]
        count = self._sums
        spent = flops.train_flops(
            self.model, tokens=count["tokens"], token_pairs=count["token_pairs"], predicted=count["predicted"]
        )
        record: Record = {
            "step": self._last["step"],
            "task": "+".join(self._losses),
            "loss": sum(losses) / len(losses),
            "learning_rate": self._last["learning_rate"],
            "grad_norm": self._last["grad_norm"],
            "steps": len(losses),
            "examples": int(count["examples"]),
            "tokens": int(count["tokens"]),
            "seconds": seconds,
            "seconds_per_step": seconds / len(losses),
            "tokens_per_second": count["tokens"] / seconds,
            "examples_per_second": count["examples"] / seconds,
            "mfu": flops.mfu(spent, seconds=seconds, devices=self.devices, peak=self.peak),
        }
        if len(self._losses) > 1:
            record["losses"] = {task: sum(seen) / len(seen) for task, seen in self._losses.items()}
        self._open()
        return record
