"""Promises: one process and several are the same program; a wait has an end and says whom it waited for."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.support import tiny
from xtl.errors import XtlError
from xtl.parallel import multihost


def test_one_process_joins_nobody_and_waits_for_nobody(monkeypatch):
    monkeypatch.delenv("XTL_COORDINATOR", raising=False)
    multihost.initialise()
    assert multihost.is_first() and not jax.distributed.is_initialized()
    multihost.barrier("alone", deadline_s=0.0)


@pytest.mark.parametrize(("processes", "process"), [("0", "0"), ("2", "2"), ("2", "-1")])
def test_an_incomplete_address_is_an_error_that_names_the_variables(processes, process, monkeypatch):
    monkeypatch.setenv("XTL_COORDINATOR", "127.0.0.1:1")
    monkeypatch.setenv("XTL_PROCESSES", processes)
    monkeypatch.setenv("XTL_PROCESS", process)
    with pytest.raises(XtlError, match="XTL_PROCESSES"):
        multihost.initialise()


def mesh_of(*owners: int, shape):
    """A mesh whose devices belong to these processes; this one is process 0."""
    devices = np.array([SimpleNamespace(process_index=owner) for owner in owners], dtype=object).reshape(shape)
    return SimpleNamespace(devices=devices, shape=dict(zip(("data", "fsdp", "tensor"), shape, strict=True)))


def test_each_process_supplies_an_equal_block_of_rows():
    assert multihost.row_slice(tiny.one_device()) == (0, 1)
    assert multihost.row_slice(mesh_of(0, 0, 1, 1, shape=(4, 1, 1))) == (0, 2)
    assert multihost.row_slice(mesh_of(1, 1, 0, 0, shape=(2, 2, 1))) == (1, 2)


def test_processes_that_differ_in_tensor_alone_supply_the_same_rows():
    assert multihost.row_slice(mesh_of(0, 1, shape=(1, 1, 2))) == (0, 1)
    assert multihost.row_slice(mesh_of(0, 1, 0, 1, shape=(2, 1, 2))) == (0, 1)


def test_rows_scattered_over_processes_are_refused():
    with pytest.raises(XtlError, match="not one equal block"):
        multihost.row_slice(mesh_of(0, 1, 0, 1, shape=(4, 1, 1)))


def test_sigterm_is_noticed_while_a_stage_trains_and_only_then():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(multihost.Preempted), multihost.preemption() as preempted:  # raised once the stage has saved
        assert not preempted(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert preempted(2)
    assert signal.getsignal(signal.SIGTERM) is before


PROGRAM = """
import json, sys, time
sys.path.insert(0, {root!r})
from xtl.parallel import multihost
multihost.initialise()
import jax, numpy as np
from tests.support import tiny
from xtl.training import state
from xtl.errors import XtlError
from xtl.parallel.mesh import make_mesh
from xtl.training.step import build_train_step, place
mesh, whole = make_mesh((4, 2, 1)), tiny.stream(tiny.MNLI)
mine = tiny.stream(tiny.MNLI, host=multihost.row_slice(mesh))
now, losses = state.init(tiny.CONFIG, (tiny.MNLI,), mesh, seed=0), []
with jax.set_mesh(mesh):
    step = build_train_step(tiny.CONFIG, tiny.MNLI, mesh)
    for i in range(3):
        assert mine[i][1]["ids_rt"].shape[0] * 2 == whole[i][1]["ids_rt"].shape[0]
        hyper = jax.device_put(tiny.hyper(), state.everywhere(mesh))
        now, metrics = step(now, place(mine[i][1], mesh), hyper, np.uint32(3))
        losses.append(float(metrics["loss"]))
multihost.barrier("trained", deadline_s=60)
late = ""
if multihost.is_first():
    try:
        multihost.barrier("nobody else comes", deadline_s=1)
    except XtlError as error:
        late = str(error)
print(json.dumps({{"losses": losses, "first": multihost.is_first(), "late": late}}))
"""


@pytest.mark.procs
def test_two_processes_see_the_losses_of_one_and_a_wait_alone_ends():
    from tests.training.test_step import losses, run

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(root=root)],
            env=os.environ
            | {
                "JAX_NUM_CPU_DEVICES": "4",
                "XTL_COORDINATOR": f"127.0.0.1:{port}",
                "XTL_PROCESSES": "2",
                "XTL_PROCESS": str(process),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], outputs[0][1][-2000:] + outputs[1][1][-2000:]
    reports = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    assert [report["first"] for report in reports] == [True, False]
    _, alone = run(tiny.stream(tiny.MNLI), steps=3)
    for report in reports:
        assert report["losses"] == pytest.approx(losses(alone), abs=1e-6)
    assert "waited 1 s at 'nobody else comes'" in reports[0]["late"]
