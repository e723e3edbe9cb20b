"""Promises: what is loaded is what was saved, on any mesh; torn, damaged and foreign checkpoints are never taken."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from xtl.errors import XtlError
from xtl.parallel.mesh import make_mesh
from xtl.training import checkpoint, optim
from xtl.training.checkpoint import Checkpoints
from xtl.training.state import Params, State


def state_at(step: int, mesh=None, *, heads=("mnli",)):
    """A small state whose numbers depend on the step."""
    mesh = mesh or make_mesh((1, 1, 1), devices=jax.devices()[:1])
    rng = np.random.default_rng(step)
    split, whole = NamedSharding(mesh, PartitionSpec("fsdp")), NamedSharding(mesh, PartitionSpec())
    params = {
        "encoder": {"layers": {"kernel": jax.device_put(rng.normal(size=(8, 64)).astype(np.float32), split)}},
        "heads": {name: {"bias": jax.device_put(rng.normal(size=3).astype(np.float32), whole)} for name in heads},
    }
    count = jax.device_put(jnp.int32(step), whole)
    moments = {
        "encoder": optim.like(params["encoder"], count=count),
        "heads": {name: optim.like(head, count=count) for name, head in params["heads"].items()},
    }
    return State(count, Params(**params), Params(**moments))


def target_of(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def same(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b))


def saved(folder, *steps, keep=5, handoff=()):
    notes: list[str] = []
    with Checkpoints(folder, keep=keep, note=notes.append) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_at(step), {"progress": {"step": step}}, handoff=step in handoff)
    return notes


def restored(folder, **options):
    notes: list[str] = []
    with Checkpoints(folder, keep=5, note=notes.append) as checkpoints:
        return checkpoints.restore(target_of(state_at(0, **options))), notes


def largest_file(folder: Path) -> Path:
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def flip_a_bit(file: Path, at: float = 0.5) -> None:
    raw = bytearray(file.read_bytes())
    raw[int(len(raw) * at)] ^= 4
    file.write_bytes(raw)


def test_what_is_loaded_is_what_was_saved_with_its_description(tmp_path):
    saved(tmp_path, 3, 6)
    (state, about), notes = restored(tmp_path)
    assert same(state, state_at(6)) and about["progress"] == {"step": 6} and not notes


def test_an_empty_folder_restores_nothing(tmp_path):
    assert restored(tmp_path / "new")[0] is None


@pytest.mark.mesh
def test_a_checkpoint_restores_onto_another_mesh_with_that_mesh_s_shardings(tmp_path):
    saved(tmp_path, 3)
    mesh = make_mesh((2, 4, 1))
    (state, _), _ = restored(tmp_path, mesh=mesh)
    assert same(state, state_at(3))
    kernel = state.opt_state.encoder.mu["layers"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec("fsdp") and kernel.sharding.mesh == mesh


def test_only_the_newest_stay_and_the_newest_handoff(tmp_path):
    saved(tmp_path, 1, 2, 3, 4, 5, keep=2, handoff=(1, 2))
    assert sorted(os.listdir(tmp_path)) == ["2", "4", "5"]
    with Checkpoints(tmp_path, keep=2) as checkpoints:  # known again after a restart
        assert checkpoints.steps == [2, 4, 5] and checkpoints.handoff_step == 2
        checkpoints.save(6, state_at(6), {}, handoff=True)
    assert sorted(os.listdir(tmp_path)) == ["5", "6"]


def test_saving_a_step_again_is_no_error_and_can_add_the_handoff(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, state_at(4), {})
        checkpoints.save(4, state_at(4), {})
        checkpoints.save(4, state_at(4), {}, handoff=True)
    assert checkpoint.find_encoder(tmp_path) == str(tmp_path / "4")


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_is_found_and_the_checkpoint_before_is_taken(tmp_path, at):
    saved(tmp_path, 3, 6)
    flip_a_bit(largest_file(tmp_path / "6" / "state"), at)
    (state, _), notes = restored(tmp_path)
    assert same(state, state_at(3))
    assert "6" in notes[0] and "damaged" in notes[0]
    assert sorted(os.listdir(tmp_path)) == ["3", "6.damaged"]


def test_a_flipped_bit_in_the_description_is_found(tmp_path):
    saved(tmp_path, 3, 6)
    file = tmp_path / "6" / "_CHECKPOINT_METADATA"
    file.write_text(file.read_text().replace('"progress": {"step": 6}', '"progress": {"step": 7}'))
    (_, about), notes = restored(tmp_path)
    assert about["progress"] == {"step": 3} and "checksum" in notes[0]


def test_a_truncated_file_is_found(tmp_path):
    saved(tmp_path, 3, 6)
    file = largest_file(tmp_path / "6" / "state")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert same(restored(tmp_path)[0][0], state_at(3))


def test_when_all_are_damaged_nothing_starts_over_silently(tmp_path):
    saved(tmp_path, 3)
    flip_a_bit(largest_file(tmp_path / "3" / "state"))
    with pytest.raises(XtlError, match=r"every checkpoint .* damaged"):
        restored(tmp_path)


def test_a_half_written_step_is_not_taken(tmp_path):
    saved(tmp_path, 3)
    shutil.copytree(tmp_path / "3", tmp_path / "6")  # as after a copy that was cut off
    shutil.rmtree(tmp_path / "6" / "state" / "d")
    (tmp_path / "6" / "_CHECKPOINT_METADATA").unlink()
    (state, _), notes = restored(tmp_path)
    assert same(state, state_at(3)) and len(notes) == 1


@pytest.mark.procs
def test_a_kill_in_the_middle_of_a_save_leaves_the_step_before(tmp_path):
    program = """
import os, signal, sys, threading, time
sys.path.insert(0, os.path.dirname({tests!r}))
from tests.training.test_checkpoint import Checkpoints, state_at
import numpy as np, jax, pathlib
def die():  # as soon as anything of step 6 is on disk
    while not [p for p in pathlib.Path({folder!r}).glob("6*/**/*") if p.is_file()]:
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)
with Checkpoints({folder!r}, keep=5) as checkpoints:
    checkpoints.save(3, state_at(3), {{}})
    checkpoints.wait()
    big = state_at(6)
    big.params.encoder["layers"]["kernel"] = jax.numpy.asarray(np.random.default_rng(0).normal(size=(2048, 4096)))
    threading.Thread(target=die, daemon=True).start()
    checkpoints.save(6, big, {{}})
"""
    source = program.format(tests=os.path.dirname(os.path.dirname(__file__)), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr.decode()[-2000:]
    assert any(name.startswith("6") for name in os.listdir(tmp_path))
    (state, _), notes = restored(tmp_path)
    assert same(state, state_at(3)) and not notes
    assert os.listdir(tmp_path) == ["3"]  # the remains are cleared away


def test_a_checkpoint_of_another_model_is_an_error_that_names_the_difference(tmp_path):
    saved(tmp_path, 3)
    with pytest.raises(XtlError, match=r"another model: missing .*heads/xnli.*; extra .*heads/mnli"):
        restored(tmp_path, heads=("xnli",))
    target = target_of(state_at(0))
    kernel = target.params.encoder["layers"]["kernel"]
    wider = jax.ShapeDtypeStruct((8, 65), jnp.float32, sharding=kernel.sharding)
    target.params.encoder["layers"]["kernel"] = wider
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(XtlError, match=r"shape \(8, 64\), not \(8, 65\)"):
        checkpoints.restore(target)
    assert os.listdir(tmp_path) == ["3"]  # a foreign checkpoint is not a damaged one


def test_a_failed_save_surfaces_at_the_next_call(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_at(1), {})
        monkeypatch.setattr(checkpoints._pending, "result", lambda: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(XtlError, match="disk full"):
            checkpoints.save(2, state_at(2), {})


# ---------------------------------------------------------------- handoff


def test_the_encoder_of_a_stage_is_loaded_without_its_optimizer_state(tmp_path):
    saved(tmp_path / "checkpoints", 3, handoff=(3,))
    shutil.rmtree(tmp_path / "checkpoints" / "3" / "state")  # never read
    target = target_of(state_at(0)).params.encoder
    for path in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints/3", tmp_path / "checkpoints/3/encoder"):
        encoder, heads, report = checkpoint.load_encoder(path, target)
        assert same(encoder, state_at(3).params.encoder) and heads == {}
        assert report.left_behind == ("mnli",) and report.about["progress"] == {"step": 3}


def test_a_slimmed_stage_hands_on_the_same_encoder_and_keeps_nothing_else(tmp_path):
    saved(tmp_path / "checkpoints", 3, 6, 9, handoff=(6,))
    parts = state_at(6).params
    before = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    for _ in range(2):  # and again, as after a kill
        checkpoint.slim(tmp_path / "checkpoints")
        encoder, heads, report = checkpoint.load_encoder(
            tmp_path, target_of(parts.encoder), heads=target_of(parts.heads)
        )
        assert same(encoder, parts.encoder) and same(heads, parts.heads) and report.folder.endswith("/6")
    assert sorted(path.name for path in (tmp_path / "checkpoints/6").iterdir() if path.is_dir()) == ["encoder", "heads"]
    assert not any((tmp_path / f"checkpoints/{step}").exists() for step in (3, 9))
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < before / 2


def test_nothing_is_slimmed_before_there_is_a_handoff(tmp_path):
    saved(tmp_path, 3, 6)
    checkpoint.slim(tmp_path)
    assert restored(tmp_path)[0][1]["progress"] == {"step": 6}


def test_heads_come_along_when_they_are_wanted(tmp_path):
    state = state_at(3, heads=("mnli", "squad_v1"))
    folder = checkpoint.save_encoder(tmp_path / "made", state.params, {"made": "by hand"})
    params = target_of(state).params
    encoder, heads, report = checkpoint.load_encoder(
        folder, params.encoder, heads={"squad_v1": params.heads["squad_v1"]}
    )
    assert same(encoder, state.params.encoder)
    assert list(heads) == ["squad_v1"] and same(heads["squad_v1"], state.params.heads["squad_v1"])
    assert report.left_behind == ("mnli",)
    with pytest.raises(XtlError, match=r"no head 'xnli' \(it has: mnli, squad_v1\)"):
        checkpoint.load_encoder(folder, params.encoder, heads={"xnli": params.heads["mnli"]})
    with pytest.raises(XtlError, match="exists already"):
        checkpoint.save_encoder(folder, state.params, {})


def test_a_handoff_of_another_encoder_lists_both_directions(tmp_path):
    folder = checkpoint.save_encoder(tmp_path / "made", state_at(3).params, {})
    target = {"layers": {"scale": target_of(state_at(0)).params.encoder["layers"]["kernel"]}}
    with pytest.raises(XtlError, match="missing layers/scale; extra layers/kernel"):
        checkpoint.load_encoder(folder, target)


def test_a_damaged_handoff_is_refused(tmp_path):
    folder = Path(checkpoint.save_encoder(tmp_path / "made", state_at(3).params, {}))
    flip_a_bit(largest_file(folder / "encoder"))
    with pytest.raises(XtlError, match="damaged"):
        checkpoint.load_encoder(folder, target_of(state_at(0)).params.encoder)


def test_a_folder_without_an_encoder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(XtlError, match="nowhere: no such checkpoint"):
        checkpoint.find_encoder(tmp_path / "nowhere")
    saved(tmp_path / "checkpoints", 3)
    with pytest.raises(XtlError, match="no encoder to hand on"):
        checkpoint.find_encoder(tmp_path)


@pytest.mark.mesh
def test_digests_are_the_same_on_every_mesh_and_see_every_bit(tmp_path):
    one = checkpoint.digests(state_at(3).params)
    assert one == checkpoint.digests(state_at(3, make_mesh((2, 4, 1))).params)
    words = np.zeros((3, 5), np.float32)
    seen = {checkpoint.digests({"x": jnp.asarray(words)})["x"]}
    for i in range(15):
        for bit in (0, 13, 31):
            changed = words.copy()
            changed.view(np.uint32).flat[i] ^= np.uint32(1) << np.uint32(bit)
            seen.add(checkpoint.digests({"x": jnp.asarray(changed)})["x"])
    assert len(seen) == 1 + 15 * 3


def test_the_description_is_plain_json(tmp_path):
    folder = checkpoint.save_encoder(tmp_path / "made", state_at(3).params, {"encoder": {"hidden": 64}})
    about = json.loads((Path(folder) / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
    assert about["encoder"] == {"hidden": 64} and set(about["digests"]) == {"encoder", "heads"}
