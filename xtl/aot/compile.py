"""Compiling one step for a slice that need not be there, and reading memory, traffic and time from the result."""

import importlib.util
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
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


def devices(topology: Topology) -> list[Any]:
    """The devices of the slices, for a mesh to compile for; they cannot run anything.

    Works without a TPU: only the compiler (libtpu) is loaded. XtlError if it is not installed or knows no such slice.
    """
    # The compiler asks neither the cloud's metadata server nor other hosts who it is, nor does it hold the chip's lock.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    if importlib.util.find_spec("libtpu") is None:
        raise XtlError("the TPU compiler is not installed: pip install 'xtl[tpu]' (no TPU is needed)")
    options: dict[str, Any] = dict(topology.chip.topology_options)
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    if topology.chips_per_slice == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    name = f"{topology.chip.name}:{topology.shape}"
    try:
        return list(topologies.get_topology_desc(name, platform="tpu", **options).devices)
    except Exception as error:
        raise XtlError(f"--topology={topology.name}: the compiler refuses it: {str(error).splitlines()[0]}") from error


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
    prediction = predict(hlo.parse(executable.as_text()), topology, devices=mesh.size)
    peak = executable.memory_analysis().peak_memory_in_bytes
    held = arguments[0]
    memory = Memory(
        weights=_local_bytes(held.params if step.kind == "train" else held),
        moments=_local_bytes(held.opt_state) if step.kind == "train" else 0.0,
        batch=_local_bytes(arguments[1]),
        peak=peak,
        hbm=topology.chip.hbm,
    )
    return Compiled(step, topology, mesh.size, seconds, memory, prediction)


def _explained(error: Exception, step: Step, topology: Topology) -> Exception:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if "RESOURCE_EXHAUSTED" in str(error):
        used = next((line.strip() for line in lines if "Used" in line and "of" in line), lines[0])
        return DoesNotFit(f"{step.name} does not fit {topology.name}: {used} Fewer rows per chip, remat, or fsdp")
    if "No such compile option" in str(error):
        return XtlError(f"{topology.chip.name}: {lines[0]}")
    return error


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
