"""Our attention kernel (interpreted here, compiled on a TPU) against plain attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xtl.errors import XtlError
from xtl.models import attention
from xtl.parallel import mesh as meshes


def inputs(heads=4, head_size=64, rows=2, length=48):
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=(rows, length, heads, head_size)), jnp.float32) for _ in range(4)]
    segments_rt = jnp.asarray([[1] * 20 + [2] * 25 + [0] * 3] * rows, jnp.int32)
    return arrays, segments_rt


def value_and_gradients(name, arrays, segments_rt, rate):
    *qkv, weight = arrays
    key = jax.random.key(3) if rate else None

    def total(*qkv):
        return jnp.sum(attention.attend(*qkv, segments_rt, name=name, rate=rate, key=key) * weight)

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(*qkv)


@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize(("heads", "head_size"), [(4, 64), (8, 32), (1, 128), (8, 80)])
def test_the_kernel_equals_plain_attention_with_its_gradients_and_its_dropout(heads, head_size, rate):
    arrays, segments_rt = inputs(heads, head_size)
    ours, plain = (value_and_gradients(name, arrays, segments_rt, rate) for name in ("fused", "xla"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.mesh
@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 4, 2)])
def test_the_kernel_gives_the_same_on_every_mesh(shape):
    arrays, segments_rt = inputs(rows=8)
    one = value_and_gradients("fused", arrays, segments_rt, 0.1)
    with jax.set_mesh(meshes.make_mesh(shape)):
        many = value_and_gradients("fused", arrays, segments_rt, 0.1)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_what_the_kernel_cannot_do_it_says():
    arrays, segments_rt = inputs(heads=3)
    with pytest.raises(XtlError, match="3 heads of 64 a device"):
        value_and_gradients("fused", arrays, segments_rt, 0.0)
    arrays, segments_rt = inputs(length=48)
    with pytest.raises(XtlError, match="multiple of 16, not 40"):
        value_and_gradients("fused", [x[:, :40] for x in arrays], segments_rt[:, :40], 0.0)
