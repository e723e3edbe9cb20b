"""Compiling one step for a slice that need not be there, and reading memory, traffic and time from the result."""

import math
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from xtl.aot import hlo
from xtl.aot.cost import Prediction, predict
from xtl.aot.steps import Step
from xtl.config import schema
from xtl.errors import XtlError
from xtl.parallel import mesh as meshes
from xtl.parallel.chips import GIB, Topology
from xtl.training import optim, state
from xtl.training.step import build_eval_step, build_train_step


class DoesNotFit(XtlError):
    """The compiler ran out of the chip's memory."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    weights: float
    moments: float  # of Adam
    batch: float
    peak: float
    hbm: float

    @property
    def temporaries(self) -> float:
        """Activations, gradients, copies in the compute dtype: the peak beyond what is kept."""
        return max(0.0, self.peak - self.weights - self.moments - self.batch)

    @property
    def share(self) -> float:
        """Of the device's memory."""
        return self.peak / self.hbm


@dataclass(frozen=True)
class Compiled:
    """One compiled step and what is known of it."""

    step: Step
    topology: Topology
    devices: int
    compile_seconds: float
    memory: Memory
    prediction: Prediction
    executable: Any
    text: str

    @property
    def examples_per_second(self) -> float:
        """On the whole mesh."""
        return self.step.examples / self.prediction.seconds

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation, predicted."""
        return self.step.model_flops / (self.prediction.seconds * self.devices * self.topology.chip.peak)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        step, memory = self.step, self.memory
        return {
            "step": step.name,
            "stages": list(step.stages),
            "topology": self.topology.name,
            "devices": self.devices,
            "rows": step.shape.rows,
            "row_length": step.shape.length,
            "compile_seconds": round(self.compile_seconds, 1),
            "memory": {**vars(memory), "temporaries": memory.temporaries, "share": memory.share},
            "examples_per_second": self.examples_per_second,
            "model_flops": step.model_flops,
            "mfu": self.mfu,
            "prediction": self.prediction.as_json(),
        }


def compile_step(step: Step, topology: Topology, mesh: Mesh, *, flags: Mapping[str, str] | None = None) -> Compiled:
    """Compile for a mesh of the topology's devices. Raises DoesNotFit, or XtlError for a flag the compiler refuses."""
    function: Any
    if step.kind == "train":
        function, arguments = build_train_step(step.config, step.task, mesh), train_arguments(step, mesh)
    else:
        function = build_eval_step(step.config, step.task, mesh)
        arguments = eval_arguments(step, mesh)
    began = time.perf_counter()
    with jax.set_mesh(mesh):
        lowered = function.lower(*arguments)
        try:
            executable = lowered.compile(compiler_options=dict(flags or {}) or None)
        except Exception as error:
            raise _explained(error, step, topology) from error
    seconds = time.perf_counter() - began
    text = executable.as_text()
    prediction = predict(hlo.parse(text), topology, devices=mesh.size)
    peak = executable.memory_analysis().peak_memory_in_bytes
    held = arguments[0]
    memory = Memory(
        weights=_local_bytes(held.params if step.kind == "train" else held),
        moments=_local_bytes(held.opt_state) if step.kind == "train" else 0.0,
        batch=_local_bytes(arguments[1]),
        peak=peak,
        hbm=topology.chip.hbm,
    )
    return Compiled(step, topology, mesh.size, seconds, memory, prediction, executable, text)


def _explained(error: Exception, step: Step, topology: Topology) -> Exception:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if "RESOURCE_EXHAUSTED" in str(error):
        used = next((line.strip() for line in lines if "Used" in line and "of" in line), lines[0])
        return DoesNotFit(f"{step.name} does not fit {topology.name}: {used} Fewer rows a chip, remat, or fsdp")
    if "No such compile option" in str(error):
        return XtlError(f"{topology.chip.name}: {lines[0]}")
    return error


def save(compiled: Compiled, path: Path) -> None:
    """The executable as a file that `load` reads on a machine of that slice with the same libraries, and beside it its
    optimized HLO as text."""
    from jax.experimental import serialize_executable

    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".hlo").write_text(compiled.text)
    path.write_bytes(pickle.dumps(serialize_executable.serialize(compiled.executable)))


def load(path: Path) -> Any:
    """The executable of `save`, ready to be called with the step's arguments. Trust the file: it is a pickle."""
    from jax.experimental import serialize_executable

    return serialize_executable.deserialize_and_load(*pickle.loads(path.read_bytes()))


# ---------------------------------------------------------------- arguments, as shapes


def train_arguments(step: Step, mesh: Mesh) -> tuple[Any, ...]:
    """(state, batch, hyper, seed) of a train step as shapes with shardings."""
    everywhere = state.everywhere(mesh)
    hyper = {
        name: jax.ShapeDtypeStruct((), jnp.float32, sharding=everywhere)
        for name in optim.hyper(schema.Train(), steps=1)
    }
    seed = jax.ShapeDtypeStruct((), jnp.uint32, sharding=everywhere)
    return state.target(step.config, (step.task,), mesh), _batch(step, mesh), hyper, seed


def eval_arguments(step: Step, mesh: Mesh) -> tuple[Any, ...]:
    """(params, batch) of an evaluation step as shapes with shardings."""
    return state.target(step.config, (step.task,), mesh).params, _batch(step, mesh)


def _batch(step: Step, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    arrays = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in step.batch().items()}
    layout = meshes.batch_shardings(arrays, mesh, accumulate=step.accumulate)
    return {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=layout[name]) for name, array in arrays.items()
    }


def _local_bytes(tree: Any) -> float:
    """Bytes on one device of shapes with shardings (tile padding left out)."""
    leaves = jax.tree.leaves(tree)
    return float(sum(leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves))


def gib(size: float) -> str:
    """Bytes as GiB with two decimals."""
    return f"{size / GIB:.2f}"
