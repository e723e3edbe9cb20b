"""Meshes, the logical-axis table, and that numbers do not depend on the mesh. Eight simulated CPU devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from xtl.errors import XtlError
from xtl.models.encoder import Encoder, EncoderConfig
from xtl.models.layers import Dense, take_slots
from xtl.parallel import mesh as xtl_mesh

pytestmark = pytest.mark.mesh

CONFIG = EncoderConfig(vocab_size=103, hidden=32, layers=2, heads=4, mlp=64, max_positions=40)
MESHES = {"1x1x1": (1, 1, 1), "8x1x1": (8, 1, 1), "1x8x1": (1, 8, 1), "2x2x2": (2, 2, 2), "1x2x4": (1, 2, 4)}


class Classifier(nnx.Module):
    """The encoder with the smallest of heads."""

    def __init__(self, config, rngs):
        self.encoder = Encoder(config, rngs=rngs)
        self.head = Dense(config.hidden, 3, ("embed", None), dtype=config.dtype, rngs=rngs)

    def __call__(self, batch, key):
        hidden_rtd = self.encoder(batch["ids_rt"], batch["segments_rt"], batch["positions_rt"], key)
        return self.head(self.encoder.pool(take_slots(hidden_rtd, batch["slots_rs"])))


def build():
    return Classifier(CONFIG, nnx.Rngs(params=0))


def init():
    params = nnx.state(build(), nnx.Param)
    return {"step": jnp.zeros((), jnp.int32), "params": params, "opt_state": optax.adamw(1e-3).init(params)}


def mesh_of(name):
    shape = MESHES[name]
    return xtl_mesh.make_mesh(shape, devices=jax.devices()[: int(np.prod(shape))])


def batch():
    rng = np.random.default_rng(0)
    lengths = np.array([9, 7])
    tile = lambda row: np.tile(np.asarray(row, np.int32), (8, 1))
    return {
        "ids_rt": rng.integers(3, 103, (8, 20)).astype(np.int32),
        "segments_rt": tile(np.repeat([1, 2, 0], [*lengths, 4])),
        "positions_rt": tile([*range(2, 11), *range(2, 9), 1, 1, 1, 1]),
        "slots_rs": tile([0, 9]),
        "label_rs": rng.integers(0, 3, (8, 2)).astype(np.int32),
    }


def loss_and_gradients(mesh):
    """Loss, logits and gradients with dropout, everything laid out by the table."""
    graph, _ = nnx.split(nnx.eval_shape(build), nnx.Param)

    def loss(params, batch):
        logits = nnx.merge(graph, params)(batch, jax.random.key(5))
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label_rs"])
        return each.mean(), logits

    with jax.set_mesh(mesh):
        layout = xtl_mesh.shardings(jax.eval_shape(init)["params"], mesh)
        params = jax.jit(lambda: init()["params"], out_shardings=layout)()
        arrays = jax.device_put(batch(), xtl_mesh.batch_shardings(batch(), mesh))
        (value, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, arrays)
    return jax.tree.map(np.asarray, (value, logits, gradients))


# ---------------------------------------------------------------- equality


@pytest.fixture(scope="module")
def on_one_device():
    return loss_and_gradients(mesh_of("1x1x1"))


@pytest.mark.parametrize("name", list(MESHES)[1:])
def test_loss_logits_and_gradients_are_the_same_on_every_mesh(name, on_one_device, capfd):
    capfd.readouterr()
    on_mesh = loss_and_gradients(mesh_of(name))
    assert "Involuntary full rematerialization" not in "".join(capfd.readouterr())
    assert abs(on_mesh[0] - on_one_device[0]) <= 1e-6
    for got, expected in zip(jax.tree.leaves(on_mesh), jax.tree.leaves(on_one_device), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_without_a_mesh_numbers_are_those_of_one_device(on_one_device):
    logits = jax.jit(lambda arrays: build()(arrays, jax.random.key(5)))(batch())
    np.testing.assert_allclose(logits, on_one_device[1], atol=1e-6)


# ---------------------------------------------------------------- layout

GOLDEN = """
encoder/embed/norm/bias                     -
encoder/embed/norm/scale                    -
encoder/embed/position                      -,-
encoder/embed/token                         -,fsdp
encoder/embed/token_type                    -
encoder/layers/attention/key/bias           -,tensor
encoder/layers/attention/key/kernel         -,fsdp,tensor
encoder/layers/attention/out/bias           -,-
encoder/layers/attention/out/kernel         -,tensor,fsdp
encoder/layers/attention/query/bias         -,tensor
encoder/layers/attention/query/kernel       -,fsdp,tensor
encoder/layers/attention/value/bias         -,tensor
encoder/layers/attention/value/kernel       -,fsdp,tensor
encoder/layers/attention_norm/bias          -,-
encoder/layers/attention_norm/scale         -,-
encoder/layers/mlp/wi/bias                  -,tensor
encoder/layers/mlp/wi/kernel                -,fsdp,tensor
encoder/layers/mlp/wo/bias                  -,-
encoder/layers/mlp/wo/kernel                -,tensor,fsdp
encoder/layers/mlp_norm/bias                -,-
encoder/layers/mlp_norm/scale               -,-
encoder/pooler/bias                         -
encoder/pooler/kernel                       fsdp,-
head/bias                                   -
head/kernel                                 fsdp,-
"""  # 103 word pieces are not divisible by 2, so the table is not split over tensor


def test_layout_on_2x2x2_is_the_golden_one():
    layout = xtl_mesh.shardings(jax.eval_shape(init)["params"], mesh_of("2x2x2"))
    layout_lines = [
        f"{jax.tree_util.keystr(path[:-1], simple=True, separator='/')} {','.join(part or '-' for part in leaf.spec)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(layout)
    ]
    assert sorted(layout_lines) == sorted(" ".join(line.split()) for line in GOLDEN.strip().splitlines())


def test_moments_are_laid_out_like_their_parameters_and_counts_are_everywhere():
    mesh = mesh_of("2x2x2")
    with jax.set_mesh(mesh):
        layout = xtl_mesh.shardings(jax.eval_shape(init), mesh)
        state = jax.jit(init, out_shardings=layout)()
    params, adam = jax.tree.leaves(state["params"]), state["opt_state"][0]
    for moments in (adam.mu, adam.nu):
        for moment, weight in zip(jax.tree.leaves(moments), params, strict=True):
            assert moment.sharding == weight.sharding
    assert adam.count.sharding.is_fully_replicated and state["step"].sharding.is_fully_replicated
    table = state["params"]["encoder"]["embed"]["token"].get_value()
    assert table.addressable_shards[0].data.shape == (103, 16)


def test_the_token_table_is_split_over_tensor_when_it_divides():
    mesh = mesh_of("2x2x2")
    assert xtl_mesh.spec(("vocab", "embed"), (250880, 2560), mesh) == P("tensor", "fsdp")
    assert xtl_mesh.spec(("vocab", "embed"), (250001, 768), mesh) == P(None, "fsdp")


def test_batches_are_split_by_rows_and_replicated_by_examples():
    mesh = mesh_of("2x2x2")
    shape = lambda *dims: jax.ShapeDtypeStruct(dims, jnp.int32)
    arrays = {"ids_rt": shape(8, 16), "slots_rs": shape(8, 4), "weight_e": shape(5), "segments_ec": shape(5, 2)}
    rows, everywhere = NamedSharding(mesh, P(("data", "fsdp"))), NamedSharding(mesh, P(None))
    expected = {"ids_rt": rows, "slots_rs": rows, "weight_e": everywhere, "segments_ec": everywhere}
    assert xtl_mesh.batch_shardings(arrays, mesh) == expected
    lead = {name: shape(3, *array.shape) for name, array in arrays.items()}
    accumulated = xtl_mesh.batch_shardings(lead, mesh, accumulate=3)
    assert accumulated["ids_rt"].spec == P(None, ("data", "fsdp")) and accumulated["weight_e"].is_fully_replicated


# ---------------------------------------------------------------- making meshes


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((-1, 1, 1), (8, 1, 1)),
        ((2, -1, 2), (2, 2, 2)),
        ({}, (8, 1, 1)),
        ({"fsdp": 4}, (2, 4, 1)),
        ({"data": 1, "fsdp": -1}, (1, 8, 1)),
        ({"tensor": 2, "fsdp": -1}, (1, 4, 2)),
    ],
)
def test_minus_one_is_the_rest_of_the_devices(shape, sizes):
    mesh = xtl_mesh.make_mesh(shape)
    assert tuple(mesh.shape.values()) == sizes and mesh.axis_names == xtl_mesh.AXES


class FakeChip:
    """A device of one of several TPU slices."""

    platform, device_kind, process_index = "fake", "fake", 0

    def __init__(self, number):
        self.id, self.slice_index = number, number // 4

    def __repr__(self):
        return f"chip {self.id} of slice {self.slice_index}"


def test_only_the_data_axis_crosses_slices():
    chips = [FakeChip(number) for number in range(8)]
    grid = xtl_mesh.make_mesh({"fsdp": 2}, devices=chips).devices
    assert grid.shape == (4, 2, 1)
    assert [[chip.slice_index for chip in row] for row in grid[:, :, 0]] == [[0, 0], [0, 0], [1, 1], [1, 1]]
    with pytest.raises(XtlError, match="data=1 must be a multiple of the 2 slices"):
        xtl_mesh.make_mesh((1, 8, 1), devices=chips)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 1, 1), "mesh 3x1x1 .* does not make up 8 devices"),
        ((-1, 3, 1), "does not make up 8 devices"),
        ((-1, -1, 1), "at most one of them -1"),
        ((8, 0, 1), "positive numbers"),
        ({"fdsp": 2}, "unknown axis 'fdsp'. Did you mean 'fsdp'"),
    ],
)
def test_impossible_meshes_are_refused(shape, message):
    with pytest.raises(XtlError, match=message):
        xtl_mesh.make_mesh(shape)


def test_what_cannot_be_split_is_named():
    mesh = mesh_of("1x8x1")
    with pytest.raises(XtlError, match=r"encoder/wi: embed=12 cannot be split 8 ways over fsdp"):
        xtl_mesh.spec(("embed", "mlp"), (12, 16), mesh, what="encoder/wi")
    with pytest.raises(XtlError, match=r"batch array 'ids_rt': rows=6 cannot be split 8 ways"):
        xtl_mesh.batch_shardings({"ids_rt": np.zeros((6, 2))}, mesh)
    with pytest.raises(XtlError, match=r"unknown logical axis 'haeds'\. Did you mean 'heads'"):
        xtl_mesh.spec(("haeds",), (8,), mesh)
    with pytest.raises(XtlError, match=r"batch array 'labels'.* must end in its dims"):
        xtl_mesh.batch_shardings({"labels": np.zeros(8)}, mesh)
    with pytest.raises(XtlError, match="no logical axes"):
        xtl_mesh.shardings({"w": nnx.Param(jnp.zeros(3))}, mesh)


def test_constrain_does_nothing_outside_a_mesh_or_on_one_device():
    x = jnp.zeros((3, 4))
    assert xtl_mesh.constrain(x, "rows") is x
    with jax.set_mesh(mesh_of("1x1x1")):
        assert xtl_mesh.constrain(x, "rows") is x


def test_per_device_functions_see_their_own_block():
    mesh, x = mesh_of("2x2x2"), jnp.arange(32.0).reshape(8, 4)
    seen = []

    def double(block):
        seen.append(block.shape)
        return 2 * block

    with jax.set_mesh(mesh):
        split = xtl_mesh.per_device(double, axes=[("rows", "heads")], out_axes=("rows", "heads"))
        np.testing.assert_array_equal(jax.jit(split)(x), 2 * x)
    assert set(seen) == {(2, 2)}
    assert xtl_mesh.per_device(double, axes=[("rows",)], out_axes=("rows",)) is double
