"""The encoder: parameter tree, segments, dropout, execution knobs."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from xtl.errors import XtlError
from xtl.models import attention, encoder, layers
from xtl.models.encoder import SIZES, Encoder, EncoderConfig, encoder_config

SMALL = EncoderConfig(vocab_size=103, hidden=32, layers=4, heads=4, mlp=64, max_positions=40)
PRE = dataclasses.replace(SMALL, norm="pre")

TREE = """
attention/key/bias       4x32         layers,heads
attention/key/kernel     4x32x32      layers,embed,heads
attention/out/bias       4x32         layers,-
attention/out/kernel     4x32x32      layers,heads,embed
attention/query/bias     4x32         layers,heads
attention/query/kernel   4x32x32      layers,embed,heads
attention/value/bias     4x32         layers,heads
attention/value/kernel   4x32x32      layers,embed,heads
attention_norm/bias      4x32         layers,-
attention_norm/scale     4x32         layers,-
mlp/wi/bias              4x64         layers,mlp
mlp/wi/kernel            4x32x64      layers,embed,mlp
mlp/wo/bias              4x32         layers,-
mlp/wo/kernel            4x64x32      layers,mlp,embed
mlp_norm/bias            4x32         layers,-
mlp_norm/scale           4x32         layers,-
"""
EMBED = """
embed/position           40x32        -,-
embed/token              103x32       vocab,embed
embed/token_type         32           -
"""
POOLER = """
pooler/bias              32           -
pooler/kernel            32x32        embed,-
"""
GOLDEN = {
    "post": "\nembed/norm/bias 32 -\nembed/norm/scale 32 -" + EMBED + TREE.replace("\n", "\nlayers/") + POOLER,
    "pre": EMBED + TREE.replace("\n", "\nlayers/") + "\nnorm/bias 32 -\nnorm/scale 32 -" + POOLER,
}


def shapes(config):
    return jax.eval_shape(lambda: nnx.state(Encoder(config, rngs=nnx.Rngs(params=0)), nnx.Param))


@functools.cache
def params(config):
    shaped = dataclasses.replace(config, scan=1, remat="none", dtype="float32", attention="xla")
    return jax.jit(lambda: nnx.state(Encoder(shaped, rngs=nnx.Rngs(params=0)), nnx.Param))()


def graph(config):
    return nnx.split(nnx.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(params=0))), nnx.Param)[0]


@functools.partial(jax.jit, static_argnames=("config", "method", "upto"))
def apply(config, weights, *batch, method="__call__", **options):
    return getattr(nnx.merge(graph(config), weights), method)(*batch, **options)


def row(*lengths, width, seed=0, ids=None):
    """One row that packs segments of these lengths: ids, segments, positions, each [1, width]."""
    rng = np.random.default_rng(seed)
    pad = width - sum(lengths)
    ids = np.concatenate([rng.integers(3, 103, sum(lengths)) if ids is None else ids, np.ones(pad, int)])
    segments = np.concatenate([np.full(n, s) for s, n in enumerate(lengths, 1)] + [np.zeros(pad, int)])
    positions = np.concatenate([np.arange(2, 2 + n) for n in lengths] + [np.ones(pad, int)])
    return tuple(x[None].astype(np.int32) for x in (ids, segments, positions))


def loss_and_gradients(config, weights, batch, key=None):
    def loss(weights):
        hidden_rtd = apply(config, weights, *batch, key)
        kept = jnp.where((batch[1] > 0)[..., None], hidden_rtd.astype(jnp.float32), 0.0)
        return jnp.sum(jnp.square(kept) * jnp.linspace(0.0, 1.0, config.hidden)) / 100

    return jax.jit(jax.value_and_grad(loss))(weights)


def largest_difference(a, b):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.max(jnp.abs(x - y))), a, b)))


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_parameter_tree_is_the_golden_one(norm):
    lines = []
    leaves = jax.tree_util.tree_leaves_with_path(
        shapes(dataclasses.replace(SMALL, norm=norm)), is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )
    for path, weight in leaves:
        value, axes = weight.get_value(), weight.get_metadata("axes")
        assert value.dtype == jnp.float32 and value.ndim == len(axes)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        lines.append(f"{name} {'x'.join(map(str, value.shape))} {','.join(axis or '-' for axis in axes)}")
    golden = [" ".join(line.split()) for line in GOLDEN[norm].splitlines() if len(line.split()) == 3]
    assert sorted(lines) == sorted(golden)


@pytest.mark.parametrize(
    ("size", "millions"), [("base", 278), ("large", 560), ("xl", 3480), ("xxl", 10700)]
)  # as published, MLM head left out
def test_published_sizes_have_the_published_number_of_parameters(size, millions):
    count = sum(weight.size for weight in jax.tree.leaves(shapes(SIZES[size])))
    assert abs(count / 1e6 - millions) / millions < 0.01


def test_initial_weights_have_deviation_002_and_differ_between_layers():
    kernels = params(SMALL)["layers"]["mlp"]["wi"]["kernel"].get_value()
    assert abs(float(kernels.std()) - 0.02) < 1e-3
    assert all(float(jnp.abs(a - b).max()) > 0.01 for a, b in itertools.combinations(kernels, 2))


# ---------------------------------------------------------------- segments


@pytest.mark.parametrize("config", [SMALL, PRE], ids=["post", "pre"])
def test_packed_segments_equal_segments_in_rows_of_their_own(config):
    packed = row(10, 9, 5, width=30)
    hidden_td = apply(config, params(config), *packed)[0]
    at = 0
    for length in (10, 9, 5):
        alone = apply(config, params(config), *row(length, width=16, ids=packed[0][0, at : at + length]))[0]
        np.testing.assert_allclose(alone[:length], hidden_td[at : at + length], atol=2e-6)
        at += length


def test_padding_changes_nothing_and_is_finite():
    ids, segments, positions = row(7, width=12)
    other = ids.copy()
    other[0, 7:] = 50
    hidden, changed = (apply(SMALL, params(SMALL), x, segments, positions) for x in (ids, other))
    np.testing.assert_array_equal(hidden[0, :7], changed[0, :7])
    empty = np.zeros_like(segments)
    for batch in ((ids, segments, positions), (ids, empty, positions)):
        loss, gradients = loss_and_gradients(SMALL, params(SMALL), batch, jax.random.key(0))
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((loss, gradients)))


def test_ids_and_positions_outside_the_tables_are_not_taken_for_others():
    ids, segments, positions = row(7, width=8)
    for batch in ((ids + 103, segments, positions), (ids, segments, positions + 40)):
        assert bool(jnp.isnan(apply(SMALL, params(SMALL), *batch)).any())


@pytest.mark.parametrize("config", [SMALL, PRE], ids=["post", "pre"])
def test_pooled_layers_equal_pooling_every_layer_by_hand(config):
    batch, slots_rs = row(10, 9, width=24), jnp.array([[0, 10, 0]])
    pooled = apply(config, params(config), *batch, slots_rs, method="all_layers")
    assert pooled.mean_lrsd.shape == (5, 1, 3, 32)
    for layer in range(config.layers + 1):
        hidden_td = apply(config, params(config), *batch, upto=layer)[0]
        np.testing.assert_allclose(pooled.cls_lrsd[layer, 0, 1], hidden_td[10], atol=1e-6)
        np.testing.assert_allclose(pooled.mean_lrsd[layer, 0, 0], hidden_td[:10].mean(0), atol=1e-6)
        np.testing.assert_allclose(pooled.mean_lrsd[layer, 0, 1], hidden_td[10:19].mean(0), atol=1e-6)
    assert not pooled.mean_lrsd[:, :, 2].any()


def test_pooled_layers_keep_no_hidden_states():
    batch, slots_rs = row(10, 9, width=24), jnp.array([[0, 10]])
    jaxpr = jax.make_jaxpr(lambda: apply.__wrapped__(SMALL, params(SMALL), *batch, slots_rs, method="all_layers"))()
    (scan,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    assert all(out.aval.shape[:3] != (4, 1, 24) for out in scan.outvars)


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(XtlError, match=r"layer 5 .* layers 0 \(embedding\) to 4"):
        apply(SMALL, params(SMALL), *row(4, width=8), upto=5)


# ---------------------------------------------------------------- dropout


def test_without_key_there_is_no_dropout_and_with_a_key_it_is_addressed_by_the_key():
    batch, key = row(10, 9, width=24), jax.random.key(3)
    plain, first, again, other = (apply(SMALL, params(SMALL), *batch, k) for k in (None, key, key, jax.random.key(4)))
    np.testing.assert_array_equal(first, again)
    assert largest_difference(first, plain) > 0.1 and largest_difference(first, other) > 0.1
    none = dataclasses.replace(SMALL, dropout=0.0, attention_dropout=0.0)
    np.testing.assert_array_equal(apply(none, params(SMALL), *batch, key), plain)


@pytest.mark.parametrize(
    ("norm", "sites"),
    [
        ("post", [(0.2, "embedding"), (0.3, "probabilities"), (0.2, "attention"), (0.2, "mlp")]),
        ("pre", [(0.2, "embedding"), (0.3, "probabilities"), (0.2, "attention"), (0.0, "mlp")]),
    ],
)
def test_dropout_acts_where_transformers_has_it(norm, sites, monkeypatch):
    config = dataclasses.replace(SMALL, norm=norm, dropout=0.2, attention_dropout=0.3)
    calls = []

    def record(x, rate, key):
        calls.append((rate, x.shape))
        return x

    monkeypatch.setattr(encoder, "dropout", record)
    monkeypatch.setattr(attention, "dropout", record)
    jax.eval_shape(lambda: apply.__wrapped__(config, params(config), *row(8, width=8), jax.random.key(0)))
    square = {"probabilities": (1, 4, 8, 8)}
    assert calls == [(rate, square.get(site, (1, 8, 32))) for rate, site in sites]


def test_every_layer_and_site_has_a_mask_of_its_own(monkeypatch):
    keys = []
    monkeypatch.setattr(encoder, "dropout", lambda x, rate, key: (keys.append(key), x)[1])
    monkeypatch.setattr(attention, "dropout", lambda x, rate, key: (keys.append(key), x)[1])
    unrolled = dataclasses.replace(SMALL, scan=0)
    apply.__wrapped__(unrolled, params(SMALL), *row(8, width=8), jax.random.key(0))
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == len(keys) == 1 + 3 * 4


def test_dropout_keeps_the_mean_and_the_rate():
    x = jnp.ones((64, 4, 32, 32))
    y = layers.dropout(x, 0.1, jax.random.key(0))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.9)}
    assert abs(float((y == 0).mean()) - 0.1) < 4 * (0.09 / x.size) ** 0.5


def test_dropout_bits_are_uniform_and_independent_along_every_axis():
    bits = np.asarray(layers.dropout_bits(jax.random.key(7), (64, 8, 64, 64))) / 2**32 - 0.5
    bound = 5 / bits.size**0.5
    assert abs(bits.mean()) < bound and abs((bits**2).mean() - 1 / 12) < bound
    for axis in range(4):  # products of independent values have deviation 1/12
        for shift in (1, 2, 5):
            assert abs((bits * np.roll(bits, shift, axis)).mean()) < bound / 12
    for other in (8, 9, 1007):
        more = np.asarray(layers.dropout_bits(jax.random.key(other), bits.shape)) / 2**32 - 0.5
        assert abs((bits * more).mean()) < bound / 12
    counts = np.histogram(bits, 256)[0]
    assert abs(((counts - bits.size / 256) ** 2 / (bits.size / 256)).sum() - 255) < 5 * (2 * 255) ** 0.5


def test_dropout_mask_of_a_row_does_not_depend_on_the_other_rows():
    key, x = jax.random.key(0), jnp.ones((6, 5, 7))
    np.testing.assert_array_equal(layers.dropout(x, 0.5, key)[:2], layers.dropout(x[:2], 0.5, key))


# ---------------------------------------------------------------- execution knobs change no numbers


@pytest.mark.parametrize(
    "knobs",
    [
        {"scan": 0},
        {"remat": "full"},
        {"scan": 0, "remat": "dots"},
        {"scan": 2, "remat": "qkv+context+attention+mlp+output"},
    ],
    ids=str,
)
def test_scan_unrolled_and_recomputed_layers_give_the_same_gradients(knobs):
    batch = row(10, 9, width=24)
    loss, gradients = scanned_gradients()
    other = loss_and_gradients(dataclasses.replace(SMALL, **knobs), params(SMALL), batch, jax.random.key(1))
    assert abs(float(other[0] - loss)) <= 1e-6 * abs(float(loss))
    assert largest_difference(other[1], gradients) <= 2e-6


@functools.cache
def scanned_gradients():
    return loss_and_gradients(SMALL, params(SMALL), row(10, 9, width=24), jax.random.key(1))


def test_bfloat16_computes_close_to_float32_with_float32_weights_and_gradients():
    half, batch = dataclasses.replace(SMALL, dtype="bfloat16"), row(10, 9, width=24)
    hidden, exact = (apply(c, params(SMALL), *batch) for c in (half, SMALL))
    assert hidden.dtype == jnp.bfloat16 and largest_difference(hidden.astype(jnp.float32)[:, :19], exact[:, :19]) < 0.1
    _, gradients = loss_and_gradients(half, params(SMALL), batch)
    _, expected = loss_and_gradients(SMALL, params(SMALL), batch)
    for got, right in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        assert got.dtype == jnp.float32
        assert float(jnp.linalg.norm(got - right)) <= 0.05 * float(jnp.linalg.norm(right)) + 1e-4


def test_splash_attention_agrees_with_plain_attention():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, 128, 2, 64)), jnp.float32) for _ in range(3))
    segments_rt = jnp.asarray(np.repeat([[1, 2, 3, 0], [1, 1, 1, 1]], 32, axis=1), jnp.int32)
    plain = attention.ATTENTION["xla"](q, k, v, segments_rt)
    splash = attention.ATTENTION["splash"](q, k, v, segments_rt, interpret=True)
    np.testing.assert_allclose(splash, plain, atol=2e-5)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "splsh"}, "attention 'splsh' is unknown. Did you mean 'splash'"),
        ({"remat": "context+qvk"}, "'qvk' is unknown. Did you mean 'qkv'"),
        ({"dtype": "float16"}, "neither 'float32' nor 'bfloat16'"),
        ({"norm": "rms"}, "neither 'post' nor 'pre'"),
        ({"heads": 5}, "hidden=128 is not a multiple of heads=5"),
        ({"scan": 2}, "scan=2 does not divide layers=3"),
        ({"layer": 2}, "no field 'layer'. Did you mean 'layers'"),
    ],
)
def test_wrong_settings_are_named_with_the_mend(changes, message):
    with pytest.raises(XtlError, match=message.replace("(", r"\(")):
        encoder_config("tiny", **changes)


def test_an_unknown_size_is_named_with_the_nearest():
    with pytest.raises(XtlError, match=r"unknown encoder size 'lrage'\. Did you mean 'large'"):
        encoder_config("lrage")


def test_attention_without_dropout_refuses_dropout():
    config = dataclasses.replace(SMALL, attention="splash")
    with pytest.raises(XtlError, match="attention 'splash' has no dropout"):
        apply(config, params(SMALL), *row(8, width=128), jax.random.key(0))
