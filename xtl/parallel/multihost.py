"""Several hosts as one program: joining, waiting with deadlines, leaving together when preempted.

A host on its own goes through the same functions, which then wait for nobody.

Nothing here touches a device; `initialise` must come before the first JAX computation. docs/multihost.md says how
hosts are started and what happens when one dies.
"""

import atexit
import contextlib
import os
import platform
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax

from xtl.errors import XtlError
from xtl.parallel import watchdog

JOIN_SECONDS = 300.0  # until all processes have come
SILENCE_SECONDS = 100.0  # until one that gives no sign of life counts as gone
BARRIER_SECONDS = 600.0  # for ordinary waits; restores at scale take longer and say so
LAST_SECONDS = 3600  # for host 0 to finish tables and report while the others wait to leave

_watchdog: watchdog.Watchdog | None = None


class Preempted(SystemExit):
    """SIGTERM asked the process to stop: the stage's state is saved, and the same command goes on from there."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)  # the exit status of a process that SIGTERM ended


class Alone(SystemExit):
    """What failed here did not fail on the other hosts: the stage has no result, and this host must leave them."""

    def __init__(self, reason: str) -> None:
        super().__init__(watchdog.EXIT_FAILED)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


# ---------------------------------------------------------------- joining, leaving


def initialise(
    *,
    coordinator: str = "",
    processes: int = 0,
    process: int = -1,
    join_s: float | None = None,
    silence_s: float | None = None,
) -> None:
    """Join the other processes of this run, if there are any, and watch over them from then on.

    Without arguments: XTL_COORDINATOR (host:port), XTL_PROCESSES and XTL_PROCESS from the environment, else what JAX
    detects (Cloud TPU, Slurm, GKE); a machine on its own joins nobody. `join_s` (XTL_JOIN_SECONDS) bounds the wait for
    the others, `silence_s` (XTL_SILENCE_SECONDS) the time until a dead one is noticed; the process then ends with a
    line that names it.
    """
    if jax.distributed.is_initialized():
        return
    coordinator = coordinator or os.environ.get("XTL_COORDINATOR", "")
    bounds = {
        "join_s": _seconds("XTL_JOIN_SECONDS", join_s, JOIN_SECONDS),
        "silence_s": _seconds("XTL_SILENCE_SECONDS", silence_s, SILENCE_SECONDS),
    }
    if coordinator:
        processes = processes or int(os.environ.get("XTL_PROCESSES", "0"))
        process = process if process >= 0 else int(os.environ.get("XTL_PROCESS", "-1"))
        if processes < 1 or not 0 <= process < processes:
            raise XtlError(
                f"coordinator {coordinator}: needs XTL_PROCESSES (got {processes}) and XTL_PROCESS (got {process}) "
                "with 0 <= process < processes"
            )
        _join(**bounds, coordinator_address=coordinator, num_processes=processes, process_id=process)
    elif _on_cluster():
        _join(**bounds)


def _seconds(variable: str, given: float | None, default: float) -> float:
    text = os.environ.get(variable, "")
    try:
        seconds = given if given is not None else float(text or default)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise XtlError(f"{variable}={text}: give a number of seconds")
    return seconds


def _join(*, join_s: float, silence_s: float, **address: Any) -> None:
    global _watchdog
    me = f"host {address['process_id']} of {address['num_processes']}" if address else "this host"
    at = f" at {address['coordinator_address']}" if address else ""
    hint = "are all of them started, and is the coordinator's port open? JAX_COORDINATOR_PORT chooses another"
    # JAX would end the process, too, but with a stack trace for a message: its own deadlines come after ours.
    impatient = threading.Timer(
        join_s, watchdog._end_process, [f"{me} waited {join_s:.0f} s for the other hosts{at} ({hint})"]
    )
    impatient.daemon = True
    impatient.start()
    try:
        jax.distributed.initialize(
            **address,
            initialization_timeout=int(join_s) + 60,
            heartbeat_timeout_seconds=int(silence_s) + 60,
            shutdown_timeout_seconds=LAST_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise XtlError(f"could not join the other hosts: {str(error).splitlines()[0]} ({hint})") from error
    finally:
        impatient.cancel()
    from jax._src import distributed  # the only way to the coordinator's store

    joined: Any = distributed.global_state
    if joined.num_processes > 1:
        _watchdog = watchdog.Watchdog(
            joined.client,
            process=joined.process_id,
            processes=joined.num_processes,
            name=f"{platform.node()}, pid {os.getpid()}",
            deadline_s=silence_s,
        ).start()
        atexit.register(_watchdog.stop)  # before JAX's own farewell, which is registered earlier


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Around everything that the hosts do together: one that ends by an error takes the others along, with its reason.

    Not so when all leave by agreement (Preempted).
    """
    try:
        yield
    except Preempted:
        raise
    except BaseException as error:
        if _watchdog is not None:
            _watchdog.give_up(" ".join(str(error).split()) or type(error).__name__)
        raise


_failures = 0  # counted alike on every host


def agree_on_failure(error: Exception) -> None:
    """Return if every host has failed at this point, so that all can go on to something else; else raise Alone.

    An error on one host alone (a lost connection, a full disk) leaves the others in the middle of a computation.
    """
    global _failures
    if jax.process_count() == 1:
        return
    _failures += 1
    wait = 2.0 * (_watchdog.deadline_s if _watchdog is not None else SILENCE_SECONDS)
    try:
        barrier(f"failed/{_failures}", deadline_s=wait)
    except XtlError:
        text = " ".join(str(error).split())[:500]
        raise Alone(f"{text if isinstance(error, XtlError) else f'{type(error).__name__}: {text}'}") from error


def _on_cluster() -> bool:
    """Whether JAX would find other hosts by itself; asks the same detectors as jax.distributed.initialize."""
    from jax._src.clusters import ClusterEnv

    return any(env.is_env_present() for env in ClusterEnv._cluster_types if not env.opt_in_only_method)


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def barrier(name: str, *, deadline_s: float = BARRIER_SECONDS) -> None:
    """Wait until every process has come to the barrier of that name; an XtlError after the deadline says who has not.

    Every name may be used once per run: put the step or the stage into it.
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
    """Whether the run should save and leave; asked once per step, and answered alike on every host."""

    def __init__(self) -> None:
        self._sigterm = threading.Event()

    def __call__(self, step: int) -> bool:
        if jax.process_count() == 1:
            return self._sigterm.is_set()
        from jax.experimental import multihost_utils  # JAX listens for SIGTERM itself once it has joined others

        return multihost_utils.reached_preemption_sync_point(step)


@contextlib.contextmanager
def preemption() -> Iterator[Preemption]:
    """Listen for SIGTERM while a stage trains; the previous handler comes back afterwards."""
    preempted = Preemption()
    listens = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, lambda *_: preempted._sigterm.set()) if listens else None
    try:
        yield preempted
    finally:
        if listens:
            signal.signal(signal.SIGTERM, previous if previous is not None else signal.SIG_DFL)
    if listens and preempted._sigterm.is_set():  # after the last step: all is saved, the next launch evaluates
        raise Preempted
