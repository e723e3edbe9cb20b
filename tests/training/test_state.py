"""Promises: one tree for init, step and restore; every part is drawn by its own address; moments lie like weights."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.support import tiny
from xtl.models.encoder import Encoder
from xtl.parallel.mesh import make_mesh
from xtl.tasks import get_task
from xtl.training import state

HEADS = (tiny.MNLI, tiny.UDPOS)


def flat(tree):
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_what_init_makes_has_the_shapes_and_shardings_of_the_target():
    mesh = tiny.one_device()
    drawn, target = flat(state.init(tiny.CONFIG, HEADS, mesh, seed=0)), flat(state.target(tiny.CONFIG, HEADS, mesh))
    assert drawn.keys() == target.keys()
    for name, array in drawn.items():
        assert (array.shape, array.dtype, array.sharding) == (
            target[name].shape,
            target[name].dtype,
            target[name].sharding,
        ), name


@pytest.mark.mesh
@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_moments_are_sharded_like_their_parameters_and_weights_are_split(shape):
    whole = state.init(tiny.CONFIG, HEADS, make_mesh(shape), seed=0)
    params = flat(whole.params)
    for part in ("mu", "nu"):
        of = flat(
            jax.tree.map(lambda m, part=part: getattr(m, part), whole.opt_state, is_leaf=lambda m: hasattr(m, "mu"))
        )
        assert of.keys() == params.keys()
        for name in params:
            assert of[name].sharding == params[name].sharding, name
    kernel = params["encoder/layers/mlp/wi/kernel"]
    assert kernel.addressable_shards[0].data.size * shape[1] * shape[2] == kernel.size
    table = params["encoder/embed/token"]
    assert table.addressable_shards[0].data.size * shape[1] * shape[2] == table.size


@pytest.mark.mesh
def test_the_same_seed_draws_the_same_numbers_on_every_mesh_and_another_seed_others():
    one = flat(state.init(tiny.CONFIG, HEADS, tiny.one_device(), seed=7).params)
    eight = flat(state.init(tiny.CONFIG, HEADS, make_mesh((2, 2, 2)), seed=7).params)
    other = flat(state.init(tiny.CONFIG, HEADS, tiny.one_device(), seed=8).params)
    for name in one:
        np.testing.assert_allclose(one[name], eight[name], rtol=1e-6, atol=1e-9, err_msg=name)
        if name.endswith("kernel"):
            assert not np.array_equal(one[name], other[name]), name


def test_a_head_does_not_depend_on_the_other_heads():
    mesh = tiny.one_device()
    alone = state.init(tiny.CONFIG, (tiny.UDPOS,), mesh, seed=7).params
    both = state.init(tiny.CONFIG, HEADS, mesh, seed=7).params
    assert jax.tree.all(jax.tree.map(np.array_equal, alone.heads["udpos"], both.heads["udpos"]))
    assert jax.tree.all(jax.tree.map(np.array_equal, alone.encoder, both.encoder))


def test_given_parts_are_taken_over_and_the_others_drawn():
    mesh = tiny.one_device()
    theirs = state.init(tiny.CONFIG, (tiny.MNLI,), mesh, seed=1).params
    mine = state.init(
        tiny.CONFIG, HEADS, mesh, seed=2, encoder=theirs.encoder, given_heads={"mnli": theirs.heads["mnli"]}
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, mine.params.encoder, theirs.encoder))
    assert jax.tree.all(jax.tree.map(np.array_equal, mine.params.heads["mnli"], theirs.heads["mnli"]))
    drawn = state.init(tiny.CONFIG, HEADS, mesh, seed=2).params.heads["udpos"]
    assert jax.tree.all(jax.tree.map(np.array_equal, mine.params.heads["udpos"], drawn))
    assert int(mine.step) == 0 and all(not np.any(x) for x in jax.tree.leaves(mine.opt_state))


def test_a_task_without_a_head_has_none_in_the_state():
    assert state.shapes(tiny.CONFIG, (get_task("tatoeba"),)).params.heads == {}


def test_one_head_at_a_time_goes_through_a_step_and_comes_back():
    whole = state.init(tiny.CONFIG, HEADS, tiny.one_device(), seed=0)
    seen = whole.only("udpos")
    assert list(seen.params.heads) == list(seen.opt_state.heads) == ["udpos"]
    stepped = jax.tree.map(lambda x: x + 1, seen)
    back = whole.updated(stepped)
    assert jax.tree.structure(back) == jax.tree.structure(whole)
    assert back.params.heads["mnli"] is whole.params.heads["mnli"]
    assert back.params.heads["udpos"] is stepped.params.heads["udpos"] and int(back.step) == 1


def test_the_state_is_plain_dicts_that_the_module_takes_back():
    params = state.init(tiny.CONFIG, (), tiny.one_device(), seed=0).params.encoder
    with nnx.use_eager_sharding(False):
        module = nnx.merge(state.encoder_graph(tiny.CONFIG), params)
    assert isinstance(module, Encoder) and type(params) is dict
    total = sum(x.size for x in jax.tree.leaves(params))
    assert state.count_parameters(state.Params(params, {})) == {"encoder": total}
