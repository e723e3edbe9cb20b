"""Promises: the same losses on every mesh; accumulation is the big batch; one compile serves every learning rate."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import tiny
from xtl.families import family
from xtl.parallel.mesh import make_mesh
from xtl.training import optim, state
from xtl.training.step import build_eval_step, build_train_step, place

MESHES = [(1, 1, 1), (8, 1, 1), (1, 8, 1), (2, 2, 2)]
QUIET = replace(tiny.CONFIG, dropout=0.0, attention_dropout=0.0)


def run(stream, *, config=tiny.CONFIG, mesh=None, steps=4, seed=3, hyper=None):
    """(state, metrics of each step) after some steps of a stream."""
    mesh = mesh or tiny.one_device()
    tasks = {task.name: tiny.get_task(task.name) for task in stream.tasks}
    whole = state.init(config, tuple(tasks.values()), tiny.one_device(), seed=0)
    whole = jax.device_put(whole, state.shardings(config, tuple(tasks.values()), mesh))
    hyper, seen = jax.device_put(hyper or tiny.hyper(), state.everywhere(mesh)), []
    for i in range(steps):
        name, batch = stream[i]
        with jax.set_mesh(mesh):
            step = build_train_step(config, tasks[name], mesh)
            stepped, metrics = step(whole.only(name), place(batch, mesh), hyper, np.uint32(seed))
        whole = whole.updated(stepped)
        seen.append({key: float(value) for key, value in metrics.items()})
    return whole, seen


def losses(seen):
    return [metrics["loss"] for metrics in seen]


def near(a, b, tolerance):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance, err_msg=jax.tree_util.keystr(path))


@pytest.mark.mesh
@pytest.mark.parametrize(("task", "meshes"), [(tiny.MNLI, MESHES[1:]), (tiny.MLM, MESHES[3:])], ids=["pair", "mlm"])
def test_losses_agree_on_every_mesh_with_dropout_on(task, meshes, capfd):
    stream = tiny.stream(task)
    reference, expected = run(stream, mesh=make_mesh(MESHES[0], devices=jax.devices()[:1]))
    for shape in meshes:
        got, seen = run(stream, mesh=make_mesh(shape))
        assert losses(seen) == pytest.approx(losses(expected), abs=1e-6), shape
        near(reference.params, got.params, 2e-5)
    assert "full rematerialization" not in capfd.readouterr().err  # the partitioner gave up on a layout


@pytest.mark.parametrize("task", [tiny.MLM, tiny.HELLASWAG, tiny.UDPOS], ids=lambda task: task.name)
def test_accumulated_micro_batches_are_the_big_batch(task):
    """Micro-batches hold different weights (masked or tagged pieces), so a mean of means would differ."""
    hyper = tiny.hyper(clip_norm=0.0, warmup=0, eps=1.0)  # with a small eps Adam blows up differences of nothings
    whole = tiny.stream(task, accumulate=1, shards=1)
    parts = tiny.stream(task, accumulate=4, shards=1)
    if task.family == "mlm":  # masks are addressed by micro-batch: mask once, then divide
        big = [whole[i][1] for i in range(3)]
        divided = [{k: np.stack(np.split(_padded(b, 4)[k], 4)) for k in b} for b in big]
        whole, parts = _Fixed(task.name, big), _Fixed(task.name, divided)
    one, seen_one = run(whole, config=QUIET, hyper=hyper, steps=3)
    four, seen_four = run(parts, config=QUIET, hyper=hyper, steps=3)
    assert losses(seen_four) == pytest.approx(losses(seen_one), abs=2e-6)
    for name in ("weight", "examples", "tokens", "grad_norm"):
        assert [m[name] for m in seen_four] == pytest.approx([m[name] for m in seen_one], rel=1e-5, abs=1e-6)
    near(one.params, four.params, 1e-6)


class _Fixed:
    """A stream of given batches."""

    def __init__(self, name, batches):
        self.tasks, self.batches = [type("Named", (), {"name": name})], batches

    def __getitem__(self, step):
        return self.tasks[0].name, self.batches[step]


def _padded(batch, multiple):
    """Rows (and, apart from them, examples) filled up with padding to a multiple."""
    fill = {"ids_rt": 1, "positions_rt": 1}
    return {
        k: np.concatenate([v, np.full((-len(v) % multiple, *v.shape[1:]), fill.get(k, 0), v.dtype)])
        for k, v in batch.items()
    }


def test_only_the_active_head_moves_in_a_mixture():
    stream = tiny.stream(tiny.MNLI, tiny.UDPOS, steps=8)
    start = state.init(tiny.CONFIG, (tiny.MNLI, tiny.UDPOS), tiny.one_device(), seed=0)
    before = jax.tree.map(np.asarray, start.params.heads)
    whole, _ = run(stream, steps=8)
    turns = [stream[i][0] for i in range(8)]
    assert set(turns) == {"mnli", "udpos"}
    counts = {name: int(moments.count) for name, moments in whole.opt_state.heads.items()}
    assert counts == {name: turns.count(name) for name in counts} and int(whole.opt_state.encoder.count) == 8
    first = next(i for i in range(8) if turns[i] != turns[0])
    after, _ = run(stream, steps=first)  # only one task has had its turn
    idle = turns[first]
    assert jax.tree.all(jax.tree.map(np.array_equal, after.params.heads[idle], before[idle]))


def test_one_compile_serves_every_learning_rate_schedule_and_seed():
    stream = tiny.stream(tiny.MNLI)
    step = build_train_step(tiny.CONFIG, tiny.MNLI, tiny.one_device())
    run(stream, steps=1)
    compiled = step._cache_size()
    results = [
        losses(run(stream, steps=3, hyper=tiny.hyper(**changes), seed=seed)[1])
        for changes, seed in (({"learning_rate": 3e-2}, 3), ({"decay": "cosine", "b2": 0.95}, 3), ({}, 4))
    ]
    assert step._cache_size() == compiled and len({tuple(r) for r in results}) == 3


def test_the_state_is_donated():
    mesh, stream = tiny.one_device(), tiny.stream(tiny.MNLI)
    whole = state.init(tiny.CONFIG, (tiny.MNLI,), mesh, seed=0)
    with jax.set_mesh(mesh):
        build_train_step(tiny.CONFIG, tiny.MNLI, mesh)(whole, place(stream[0][1], mesh), tiny.hyper(), np.uint32(0))
    assert all(x.is_deleted() for x in jax.tree.leaves(whole))


def test_metrics_count_real_tokens_and_examples_only():
    stream = tiny.stream(tiny.MNLI)
    _, (metrics, *_) = run(stream, steps=1)
    batch = stream[0][1]
    assert metrics["examples"] == metrics["weight"] == 16
    assert metrics["tokens"] == (batch["segments_rt"] > 0).sum()
    assert metrics["token_pairs"] == (batch["lengths_rs"].astype(float) ** 2).sum()
    assert metrics["learning_rate"] == 0.0  # the first step of a warm-up


def test_a_batch_of_padding_alone_moves_nothing_but_the_decay():
    _, batch = tiny.stream(tiny.MNLI)[0]
    empty = {k: np.ones_like(v) if k in ("ids_rt", "positions_rt") else np.zeros_like(v) for k, v in batch.items()}
    whole, (metrics,) = run(_Fixed("mnli", [empty]), steps=1, hyper=tiny.hyper(warmup=0, weight_decay=0.0))
    start = state.init(tiny.CONFIG, (tiny.MNLI,), tiny.one_device(), seed=0)
    assert metrics["loss"] == metrics["weight"] == metrics["grad_norm"] == 0.0
    near(start.params, whole.params, 0.0)


def test_bfloat16_computes_near_float32_and_keeps_float32_weights():
    stream = tiny.stream(tiny.MNLI)
    _, exact = run(stream, config=QUIET)
    whole, seen = run(stream, config=replace(QUIET, dtype="bfloat16"))
    assert losses(seen) == pytest.approx(losses(exact), abs=0.02) and losses(seen) != losses(exact)
    assert {x.dtype for x in jax.tree.leaves(whole.params)} == {jnp.dtype("float32")}


def test_training_lowers_the_loss():
    stream = tiny.stream(tiny.UDPOS, steps=20)
    repeated = _Fixed("udpos", [stream[0][1]] * 20)
    _, seen = run(repeated, steps=20, hyper=tiny.hyper(decay="constant"))
    assert seen[-1]["loss"] < 0.7 * seen[0]["loss"]


@pytest.mark.mesh
def test_evaluation_has_no_dropout_and_is_whole_on_every_device():
    _, batch = tiny.stream(tiny.MNLI)[0]
    logits = []
    for mesh in (tiny.one_device(), make_mesh((2, 2, 2))):
        params = state.init(tiny.CONFIG, (tiny.MNLI,), mesh, seed=0).params
        with jax.set_mesh(mesh):
            step = build_eval_step(tiny.CONFIG, tiny.MNLI, mesh)
            outputs = step(params, place(batch, mesh))
            again = step(params, place(batch, mesh))
        assert outputs["logits_rsk"].is_fully_replicated
        assert np.array_equal(outputs["logits_rsk"], again["logits_rsk"])
        logits.append(np.asarray(outputs["logits_rsk"]))
    np.testing.assert_allclose(*logits, atol=2e-6)


def test_a_head_trained_under_another_name_evaluates_a_task_with_its_labels():
    mesh, xnli = tiny.one_device(), tiny.get_task("xnli")
    params = state.init(tiny.CONFIG, (tiny.MNLI,), mesh, seed=0).params
    batch = place(tiny.stream(tiny.MNLI)[0][1], mesh)
    with jax.set_mesh(mesh):
        a = build_eval_step(tiny.CONFIG, tiny.MNLI, mesh)(params, batch)
        b = build_eval_step(tiny.CONFIG, xnli, mesh)(params, batch)
    assert np.array_equal(a["logits_rsk"], b["logits_rsk"])


def test_hyperparameters_are_scalars_and_steps_are_cached_by_what_is_compiled():
    assert all(np.ndim(value) == 0 for value in tiny.hyper().values())
    mesh = tiny.one_device()
    assert build_train_step(tiny.CONFIG, tiny.MNLI, mesh) is build_train_step(tiny.CONFIG, tiny.MNLI, tiny.one_device())
    assert build_train_step(tiny.CONFIG, tiny.MNLI, mesh) is not build_train_step(tiny.CONFIG, tiny.UDPOS, mesh)
    assert set(optim.DECAYS) == {"linear", "cosine", "constant"} and family(tiny.MNLI).loss is not None
