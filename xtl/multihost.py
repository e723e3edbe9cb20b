"""Several hosts as one program: joining, waiting with deadlines, leaving together when preempted. One host is a case.

Nothing here touches a device; `initialise` must come before the first JAX computation.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax

from xtl.errors import XtlError

BARRIER_SECONDS = 600.0  # for ordinary waits; restores at scale take longer and say so


class Preempted(SystemExit):
    """The process was told to stop (SIGTERM): the stage's state is saved, and the same command goes on from there."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)  # the exit status of a process that SIGTERM ended


def initialise(
    *, coordinator: str = "", processes: int = 0, process: int = -1, timeout_s: float = 300, heartbeat_s: float = 100
) -> None:
    """Join the other processes of this run, if there are any.

    Without arguments: XTL_COORDINATOR (host:port), XTL_PROCESSES and XTL_PROCESS from the environment, else what JAX
    detects (Cloud TPU, Slurm, GKE); a machine on its own joins nobody. `timeout_s` bounds the wait for the others,
    `heartbeat_s` the time until a dead one is noticed.
    """
    if jax.distributed.is_initialized():
        return
    coordinator = coordinator or os.environ.get("XTL_COORDINATOR", "")
    bounds = {"initialization_timeout": int(timeout_s), "heartbeat_timeout_seconds": int(heartbeat_s)}
    if coordinator:
        processes = processes or int(os.environ.get("XTL_PROCESSES", "0"))
        process = process if process >= 0 else int(os.environ.get("XTL_PROCESS", "-1"))
        if processes < 1 or not 0 <= process < processes:
            raise XtlError(
                f"coordinator {coordinator}: needs XTL_PROCESSES (got {processes}) and XTL_PROCESS (got {process}) "
                "with 0 <= process < processes"
            )
        _join(coordinator_address=coordinator, num_processes=processes, process_id=process, **bounds)
    elif _on_cluster():
        _join(**bounds)


def _join(**options: Any) -> None:
    try:
        jax.distributed.initialize(**options)
    except (RuntimeError, ValueError) as error:
        raise XtlError(
            f"could not join the other hosts: {str(error).splitlines()[0]} (are all of them started, and is the "
            "coordinator's port open? JAX_COORDINATOR_PORT chooses another)"
        ) from error


def _on_cluster() -> bool:
    """Whether JAX would find other hosts by itself; asks the same detectors as jax.distributed.initialize."""
    from jax._src.clusters import ClusterEnv

    return any(env.is_env_present() for env in ClusterEnv._cluster_types if not env.opt_in_only_method)


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def barrier(name: str, *, deadline_s: float = BARRIER_SECONDS) -> None:
    """Wait until every process has come to the barrier of that name; an XtlError after the deadline says who has not.

    Every name may be used once a run: put the step or the stage into it.
    """
    if jax.process_count() == 1:
        return
    from jax._src import distributed  # sync_global_devices has no deadline

    try:
        client: Any = distributed.global_state.client
        client.wait_at_barrier(f"xtl/{name}", timeout_in_ms=int(deadline_s * 1000))
    except Exception as error:
        raise XtlError(f"host {jax.process_index()} waited {deadline_s:.0f} s at {name!r}: {error}") from error


def row_slice(mesh: jax.sharding.Mesh) -> tuple[int, int]:
    """(index, count): which equal share of a batch's rows this process must supply.

    Rows are split over the mesh axes data and fsdp; processes that differ only along `tensor` supply the same rows.
    """
    groups = mesh.devices.reshape(mesh.shape["data"] * mesh.shape["fsdp"], -1)
    mine = sorted({r for r, row in enumerate(groups) for device in row if device.process_index == jax.process_index()})
    count, rest = divmod(len(groups), len(mine))
    index = mine[0] // len(mine)
    if rest or mine != list(range(index * len(mine), (index + 1) * len(mine))):
        raise XtlError(
            f"mesh {dict(mesh.shape)}: the rows of host {jax.process_index()} are not one equal block; "
            "let the tensor axis divide the devices of a host, or be a multiple of them"
        )
    return index, count


# ---------------------------------------------------------------- preemption


class Preemption:
    """Whether the run should save and leave; asked once a step, and answered alike on every host."""

    def __init__(self) -> None:
        self._told = threading.Event()

    def __call__(self, step: int) -> bool:
        if jax.process_count() == 1:
            return self._told.is_set()
        from jax.experimental import multihost_utils  # JAX listens for SIGTERM itself once it has joined others

        return multihost_utils.reached_preemption_sync_point(step)


@contextlib.contextmanager
def preemption() -> Iterator[Preemption]:
    """Listen for SIGTERM while a stage trains; the previous handler comes back afterwards."""
    told = Preemption()
    listens = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, lambda *_: told._told.set()) if listens else None
    try:
        yield told
    finally:
        if listens:
            signal.signal(signal.SIGTERM, previous if previous is not None else signal.SIG_DFL)
