"""Attention within segments as one TPU kernel, with dropout: no [T, T] array ever leaves the chip's vector memory.

A row is short (512 tokens at most), so one step of the kernel holds whole rows of a few heads: plain softmax, nothing
blockwise, and the backward pass recomputes the probabilities instead of reading them. The dropout mask is that of
`xtl.models.layers.dropout`, bit for bit, so this kernel and plain attention train alike, on any mesh.

Letters: R rows, T row length (query), S row length (key), H heads, K head size, G heads in one step, W = G K lanes.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from xtl.errors import XtlError
from xtl.models.layers import keep_below, last_bits, lead_bits
from xtl.parallel import mesh

LANES = 128
NEVER = -1e30
Ref = Any  # a block in vector memory, or scalars


def fused(
    q_rthk: jax.Array,
    k_rthk: jax.Array,
    v_rthk: jax.Array,
    segments_rt: jax.Array,
    *,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Context [R, T, H, K] of queries that are scaled already.

    T must be a multiple of 16, and the heads of a device must fill whole 128-lane registers, else XtlError.
    """
    rows, length, heads, _ = q_rthk.shape
    if length % 16:
        raise XtlError(f"attention 'fused' needs a row length that is a multiple of 16, not {length}")
    if key is None or rate == 0.0:
        rate, seeds_rh, second = 0.0, jnp.zeros((rows, heads), jnp.uint32), jnp.zeros((1,), jnp.uint32)
    else:
        seeds_rh, second = lead_bits(key, (rows, heads)), jax.random.key_data(key).ravel()[1:2]

    def local(*arrays: jax.Array) -> jax.Array:
        *qkv, segments_rt, seeds_rh, second = arrays
        shape = qkv[0].shape
        if shape[2] * shape[3] % math.lcm(shape[3], LANES):
            raise XtlError(
                f"attention 'fused': {shape[2]} heads of {shape[3]} a device do not fill registers of {LANES}"
            )
        flat = (x.reshape(*shape[:2], -1) for x in qkv)
        run = _attention(shape[3], rate)
        return run(*flat, segments_rt, seeds_rh, second).reshape(shape)

    by_head = ("rows", None, "heads", None)
    axes = (by_head, by_head, by_head, ("rows", None), ("rows", "heads"), (None,))
    return mesh.per_device(local, axes=axes, out_axes=by_head)(q_rthk, k_rthk, v_rthk, segments_rt, seeds_rh, second)


@functools.cache
def _attention(head_size: int, rate: float) -> Callable[..., jax.Array]:
    """attention(q_rtd, k_rtd, v_rtd, segments_rt, seeds_rh, second) -> context_rtd, differentiable in q, k, v."""
    call = functools.partial(_call, head_size=head_size, rate=rate)

    @jax.custom_vjp
    def attention(*arrays: jax.Array) -> jax.Array:
        *qkv_rtd, segments_rt, seeds_rh, second = arrays
        return call(_forward, qkv_rtd, segments_rt, seeds_rh, second, products=2)[0]

    def forward(*arrays: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        return attention(*arrays), arrays

    def backward(arrays: tuple[jax.Array, ...], grad_rtd: jax.Array) -> tuple[jax.Array | None, ...]:
        *qkv, segments_rt, seeds_rh, second = arrays
        return *call(_backward, (*qkv, grad_rtd), segments_rt, seeds_rh, second, products=5), None, None, None

    attention.defvjp(forward, backward)
    return attention


def _call(
    kernel: Callable[..., None],
    arrays_rtd: Sequence[jax.Array],
    segments_rt: jax.Array,
    seeds_rh: jax.Array,
    second: jax.Array,
    *,
    products: int,
    head_size: int,
    rate: float,
) -> Any:
    rows, length, hidden = arrays_rtd[0].shape
    width = math.lcm(head_size, LANES)
    group = width // head_size
    count = 1 if kernel is _forward else 3
    dtype = arrays_rtd[0].dtype
    lanes = pl.BlockSpec((1, length, width), lambda r, g: (r, 0, g))
    scalars = pl.BlockSpec(memory_space=pltpu.SMEM)
    pairs = rows * length**2
    cost = pl.CostEstimate(
        flops=2 * products * pairs * hidden,
        transcendentals=pairs * hidden // head_size,
        bytes_accessed=(len(arrays_rtd) + count) * arrays_rtd[0].size * dtype.itemsize + 4 * rows * length,
    )
    run = functools.partial(
        pl.pallas_call,
        functools.partial(kernel, group=group, head_size=head_size, rate=rate),
        grid=(rows, hidden // width),
        in_specs=[scalars, scalars, pl.BlockSpec((1, 1, length), lambda r, g: (r, 0, 0)), *[lanes] * len(arrays_rtd)],
        out_specs=[lanes] * count,
        out_shape=[jax.ShapeDtypeStruct(arrays_rtd[0].shape, dtype)] * count,
        scratch_shapes=[pltpu.VMEM((length, length), jnp.float32)],
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=32 * 2**20 if group > 2 else None),
        cost_estimate=cost,
        name="attention" if kernel is _forward else "attention_gradient",
    )
    arguments = (seeds_rh, second, segments_rt[:, None, :], *arrays_rtd)
    return lax.platform_dependent(*arguments, cpu=run(interpret=True), default=run())


# ---------------------------------------------------------------- kernels


def _forward(
    seeds: Ref,
    second: Ref,
    segments: Ref,
    q_ref: Ref,
    k_ref: Ref,
    v_ref: Ref,
    out_ref: Ref,
    bias_ref: Ref,
    *,
    group: int,
    head_size: int,
    rate: float,
) -> None:
    _same_segment(segments, bias_ref)
    parts = []
    for head in range(group):
        q_tk, k_sk, v_sk = (_head(ref, head, head_size) for ref in (q_ref, k_ref, v_ref))
        probs_ts, keep_ts = _probabilities(q_tk, k_sk, bias_ref, seeds, second, head, group, rate)
        parts.append(_dot(_dropped(probs_ts.astype(v_sk.dtype), keep_ts, rate), v_sk, 1, 0))
    out_ref[0] = jnp.concatenate(parts, axis=1).astype(out_ref.dtype)


def _backward(
    seeds: Ref,
    second: Ref,
    segments: Ref,
    q_ref: Ref,
    k_ref: Ref,
    v_ref: Ref,
    grad_ref: Ref,
    *rest: Ref,
    group: int,
    head_size: int,
    rate: float,
) -> None:
    *out_refs, bias_ref = rest
    _same_segment(segments, bias_ref)
    parts = []
    for head in range(group):
        q_tk, k_sk, v_sk, grad_tk = (_head(ref, head, head_size) for ref in (q_ref, k_ref, v_ref, grad_ref))
        probs_ts, keep_ts = _probabilities(q_tk, k_sk, bias_ref, seeds, second, head, group, rate)
        dv_sk = _dot(_dropped(probs_ts.astype(v_sk.dtype), keep_ts, rate), grad_tk, 0, 0)
        dprobs_ts = _dropped(_dot(grad_tk, v_sk, 1, 1), keep_ts, rate)
        dscores_ts = probs_ts * (dprobs_ts - jnp.sum(dprobs_ts * probs_ts, axis=1, keepdims=True))
        dscores_ts = dscores_ts.astype(q_tk.dtype)
        parts.append((_dot(dscores_ts, k_sk, 1, 0), _dot(dscores_ts, q_tk, 0, 0), dv_sk))
    for ref, columns in zip(out_refs, zip(*parts, strict=True), strict=True):
        ref[0] = jnp.concatenate(columns, axis=1).astype(ref.dtype)


def _same_segment(segments: Ref, bias_ref: Ref) -> None:
    """0 where query and key are of one segment, else -1e30; computed once per row."""

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        key_ts = jnp.broadcast_to(segments[0], bias_ref.shape)
        bias_ref[...] = jnp.where(key_ts == key_ts.T, 0.0, NEVER)


def _probabilities(
    q_tk: jax.Array, k_sk: jax.Array, bias_ref: Ref, seeds: Ref, second: Ref, head: int, group: int, rate: float
) -> tuple[jax.Array, jax.Array | None]:
    """(softmax before dropout, float32; what dropout keeps, or None)."""
    scores_ts = _dot(q_tk, k_sk, 1, 1) + bias_ref[...]
    exp_ts = jnp.exp(scores_ts - jnp.max(scores_ts, axis=1, keepdims=True))
    probs_ts = exp_ts / jnp.sum(exp_ts, axis=1, keepdims=True)
    if not rate:
        return probs_ts, None
    seed = seeds[pl.program_id(0), pl.program_id(1) * group + head]
    return probs_ts, keep_below(rate, last_bits(seed, second[0], scores_ts.shape))


def _head(ref: Ref, head: int, head_size: int) -> jax.Array:
    return ref[0, :, head * head_size : (head + 1) * head_size]


def _dropped(x: jax.Array, keep: jax.Array | None, rate: float) -> jax.Array:
    return x if keep is None else jnp.where(keep, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def _dot(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
    """Product over one axis of each, summed in float32."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dims = (((a_axis,), (b_axis,)), ((), ()))
    return lax.dot_general(a, b.astype(a.dtype), dims, precision=precision, preferred_element_type=jnp.float32)
