"""The small blocks that the encoder and every head consist of.

Weights are float32 `nnx.Param`s that carry the names of their logical axes (`axes`); `xtl/parallel/mesh.py` turns
names into mesh axes. Matrix products run in the compute dtype, sums and normalisation in float32.
Letters: R rows, T row length, S slots, D hidden, H heads, K head size, F mlp, L layers, V vocabulary.
"""

import functools
import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from xtl.parallel import mesh

Axes = tuple[str | None, ...]
M = TypeVar("M", bound=nnx.Module)

dense_init = jax.nn.initializers.normal(0.02)  # BERT's and XLM-R's initializer_range
zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones


def param(rngs: nnx.Rngs, init: Callable, shape: tuple[int, ...], axes: Axes) -> nnx.Param:
    """A float32 weight with one logical axis name (or None: replicated) a dimension."""
    if len(shape) != len(axes):
        raise ValueError(f"shape {shape} and axes {axes} differ in length")
    return nnx.Param(init(rngs.params(), shape, jnp.float32), axes=axes)


def stack(build: Callable[[nnx.Rngs], M], count: int, rngs: nnx.Rngs) -> M:
    """`count` modules of one kind as one module whose weights have a leading "layers" axis, for lax.scan."""

    def leading(weight: nnx.Param) -> nnx.Param:
        return nnx.Param(weight[...], axes=("layers", *weight.get_metadata("axes")))

    def build_one(key: jax.Array) -> M:
        return jax.tree.map(leading, build(nnx.Rngs(params=key)), is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))

    return jax.vmap(build_one)(jax.random.split(rngs.params(), count))


class Dense(nnx.Module):
    """y = x W + b over the last dimension of x; the first is rows. `axes` names the dimensions of W."""

    def __init__(self, inputs: int, outputs: int, axes: tuple[str | None, str | None], *, dtype: str, rngs: nnx.Rngs):
        self.axes, self.dtype = axes, dtype
        self.kernel = param(rngs, dense_init, (inputs, outputs), axes)
        # A bias is small: splitting its hidden dimension over fsdp would only add collectives.
        self.bias = param(rngs, zeros, (outputs,), (None if axes[1] == "embed" else axes[1],))

    def product(self, x: jax.Array) -> jax.Array:
        """x W in the compute dtype, without the bias."""
        return mesh.product(x.astype(self.dtype), self.kernel[...].astype(self.dtype), self.axes)

    def add_bias(self, product: jax.Array) -> jax.Array:
        """product + b in float32, so that the gradient of b is a float32 sum over all tokens."""
        return product.astype(jnp.float32) + self.bias[...]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.add_bias(self.product(x)).astype(self.dtype)


class LayerNorm(nnx.Module):
    """Normalisation over the last dimension, computed in float32, returned in the compute dtype."""

    def __init__(self, size: int, *, eps: float, dtype: str, rngs: nnx.Rngs):
        self.eps, self.dtype = eps, dtype
        self.scale = param(rngs, ones, (size,), (None,))
        self.bias = param(rngs, zeros, (size,), (None,))

    def __call__(self, x: jax.Array) -> jax.Array:
        return _normalised(x, self.scale[...], self.bias[...], self.eps, self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalised(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: str) -> jax.Array:
    """Written so that x is read once for its statistics and its gradient's two sums do not wait for each other: then
    the compiler takes them along with the matrix product that x or its gradient comes from (10 % of a TPU step)."""
    return _normalised_forward(x, scale, bias, eps, dtype)[0]


def _normalised_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: str
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    x32 = x.astype(jnp.float32)
    mean = jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x32), axis=-1, keepdims=True) - jnp.square(mean)
    inverse = lax.rsqrt(jnp.maximum(variance, 0.0) + eps)
    y = (x32 - mean) * inverse * scale + bias
    return y.astype(dtype), (x, mean, inverse, scale)


def _normalised_backward(
    eps: float, dtype: str, kept: tuple[jax.Array, ...], grad: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, inverse, scale = kept
    grad, unit = grad.astype(jnp.float32), (x.astype(jnp.float32) - mean) * inverse
    lead, scaled = tuple(range(x.ndim - 1)), grad * scale
    along = jnp.mean(scaled * unit, axis=-1, keepdims=True)
    dx = inverse * (scaled - jnp.mean(scaled, axis=-1, keepdims=True) - unit * along)
    return dx.astype(x.dtype), jnp.sum(grad * unit, axis=lead), jnp.sum(grad, axis=lead)


_normalised.defvjp(_normalised_forward, _normalised_backward)


# ---------------------------------------------------------------- dropout


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout: zero with probability `rate`, else scaled by 1 / (1 - rate). No key: x unchanged.

    The mask is a function of (key, element index) alone: the same on every mesh and on a resumed run, and recomputed
    in the backward pass rather than stored.
    """
    if key is None or rate == 0.0:
        return x
    keep = keep_below(rate, dropout_bits(key, x.shape))
    return jnp.where(keep, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def keep_below(rate: float, bits: jax.Array) -> jax.Array:
    """Which elements dropout keeps, from their uint32 bits."""
    return bits < jnp.uint32(round((1.0 - rate) * 2**32))


def dropout_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """uint32 bits, one per element, hashed from the key and the element's index along each dimension.

    Threefry costs some hundred integer operations per element, which took 17 % of a TPU step and ten times this on a
    CPU; dropout needs no cryptographic strength. The hardware generators are no way out: their bits depend on how the
    array is sharded. The indices of all leading dimensions are hashed fully (they make few values); the last, cheaply.
    """
    *lead, size, last = (1, *shape) if len(shape) == 1 else shape
    second = jax.random.key_data(key).ravel()[1]
    return last_bits(lead_bits(key, tuple(lead))[..., None, None], second, (*lead, size, last)).reshape(shape)


def lead_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The hash of all indices but the last two."""
    seed, second = jax.random.key_data(key).ravel()[:2]
    for dim in range(len(shape)):
        seed = _mix(seed + _index(shape, dim) * jnp.uint32(0x9E3779B9) + second)
    return jnp.broadcast_to(seed, shape)


def last_bits(seed: jax.Array, second: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The hash of the last two indices on that of the others. Plain integer arithmetic: kernels use it as well."""
    row = (*shape[:-1], 1)
    seed = _mix(seed + _index(row, len(shape) - 2) * jnp.uint32(0x9E3779B9) + second)
    bits = seed ^ _index(shape, len(shape) - 1) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ bits >> 15) * jnp.uint32(0x846CA68B)
    return bits ^ bits >> 16


def _index(shape: tuple[int, ...], dim: int) -> jax.Array:
    """The index along one dimension, broadcast along the others."""
    return lax.broadcasted_iota(jnp.uint32, shape, dim)


def _mix(x: jax.Array) -> jax.Array:
    """A full-avalanche 32-bit hash (constants: C. Wellons, "lowbias32")."""
    x = (x ^ x >> 16) * jnp.uint32(0x7FEB352D)
    x = (x ^ x >> 15) * jnp.uint32(0x846CA68B)
    return x ^ x >> 16


# ---------------------------------------------------------------- segments


def take_slots(x_rtd: jax.Array, slots_rs: jax.Array) -> jax.Array:
    """[R, S, D]: the vector at each slot position of each row, e.g. the `<s>` of every segment."""
    return jnp.take_along_axis(x_rtd, slots_rs[:, :, None], axis=1)


def mean_segments(x_rtd: jax.Array, segments_rt: jax.Array, slots: int) -> jax.Array:
    """[R, S, D] float32: the mean over all tokens of each segment, `<s>` and `</s>` included; 0 for empty slots."""
    member_rst = (segments_rt[:, None, :] == jnp.arange(1, slots + 1)[None, :, None]).astype(jnp.float32)
    total_rsd = jnp.einsum("rst,rtd->rsd", member_rst, x_rtd.astype(jnp.float32), precision=lax.Precision.HIGHEST)
    return total_rsd / jnp.maximum(member_rst.sum(axis=-1, keepdims=True), 1.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gelu(x: jax.Array, dtype: str) -> jax.Array:
    """x Phi(x) with the exact normal distribution function, as XLM-R (not the tanh approximation), from float32.

    The slope is kept for the backward pass in place of x: it costs one exponential more here and saves the whole
    function there, where a v6e spends longer on it than on the matrix product it is part of.
    """
    return _gelu_forward(x, dtype)[0]


def _gelu_forward(x: jax.Array, dtype: str) -> tuple[jax.Array, jax.Array]:
    below = 0.5 * (1.0 + lax.erf(x * math.sqrt(0.5)))  # Phi(x)
    slope = below + x * jnp.exp(-0.5 * jnp.square(x)) * (1.0 / math.sqrt(2.0 * math.pi))
    return (x * below).astype(dtype), slope.astype(dtype)


def _gelu_backward(dtype: str, slope: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    return (grad.astype(jnp.float32) * slope.astype(jnp.float32),)


gelu.defvjp(_gelu_forward, _gelu_backward)
