"""Attention within segments as one TPU kernel, with dropout: no [T, T] array ever leaves the chip's vector memory.

A row is short (512 tokens at most), so one step of the kernel holds whole rows of a few heads: plain softmax, nothing
blockwise, and the backward pass recomputes the probabilities instead of reading them. The dropout mask is that of
`xtl.models.layers.dropout`, bit for bit, so this kernel and plain attention train alike, on any mesh.

Letters: R rows, T row length (query), S row length (key), H heads, K head size, G heads in one step, W = G K lanes.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from xtl import mesh
from xtl.errors import XtlError
from xtl.models.layers import keep_below, last_bits, lead_bits

LANES = 128
NEVER = -1e30


def fused(q_rthk, k_rthk, v_rthk, segments_rt, *, rate: float = 0.0, key=None):
    """Context [R, T, H, K] of queries that are scaled already.

    T must be a multiple of 16, and the heads of a device must fill whole 128-lane registers, else XtlError.
    """
    rows, length, heads, _ = q_rthk.shape
    if length % 16:
        raise XtlError(f"attention 'fused' needs a row length that is a multiple of 16, not {length}")
    rate = 0.0 if key is None else rate
    seeds_rh = lead_bits(key, (rows, heads)) if rate else jnp.zeros((rows, heads), jnp.uint32)
    second = jax.random.key_data(key).ravel()[1:2] if rate else jnp.zeros((1,), jnp.uint32)

    def local(q_rthk, k_rthk, v_rthk, segments_rt, seeds_rh, second):
        shape = q_rthk.shape
        if shape[2] * shape[3] % math.lcm(shape[3], LANES):
            raise XtlError(
                f"attention 'fused': {shape[2]} heads of {shape[3]} a device do not fill registers of {LANES}"
            )
        flat = (x.reshape(*shape[:2], -1) for x in (q_rthk, k_rthk, v_rthk))
        run = _attention(shape[3], rate)
        return run(*flat, segments_rt, seeds_rh, second).reshape(shape)

    by_head = ("rows", None, "heads", None)
    axes = (by_head, by_head, by_head, ("rows", None), ("rows", "heads"), (None,))
    return mesh.per_device(local, axes=axes, out_axes=by_head)(q_rthk, k_rthk, v_rthk, segments_rt, seeds_rh, second)


@functools.cache
def _attention(head_size: int, rate: float):
    """attention(q_rtd, k_rtd, v_rtd, segments_rt, seeds_rh, second) -> context_rtd, differentiable in q, k, v."""
    call = functools.partial(_call, head_size=head_size, rate=rate)

    @jax.custom_vjp
    def attention(q_rtd, k_rtd, v_rtd, segments_rt, seeds_rh, second):
        return call(_forward, (q_rtd, k_rtd, v_rtd), segments_rt, seeds_rh, second, products=2)[0]

    def forward(*args):
        return attention(*args), args

    def backward(args, grad_rtd):
        *qkv, segments_rt, seeds_rh, second = args
        return *call(_backward, (*qkv, grad_rtd), segments_rt, seeds_rh, second, products=5), None, None, None

    attention.defvjp(forward, backward)
    return attention


def _call(kernel, arrays_rtd, segments_rt, seeds_rh, second, *, products: int, head_size: int, rate: float):
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


def _forward(seeds, second, segments, q_ref, k_ref, v_ref, out_ref, bias_ref, *, group, head_size, rate):
    _same_segment(segments, bias_ref)
    parts = []
    for head in range(group):
        q_tk, k_sk, v_sk = (_head(ref, head, head_size) for ref in (q_ref, k_ref, v_ref))
        probs_ts, keep_ts = _probabilities(q_tk, k_sk, bias_ref, seeds, second, head, group, rate)
        parts.append(_dot(_dropped(probs_ts.astype(v_sk.dtype), keep_ts, rate), v_sk, 1, 0))
    out_ref[0] = jnp.concatenate(parts, axis=1).astype(out_ref.dtype)


def _backward(seeds, second, segments, q_ref, k_ref, v_ref, grad_ref, *rest, group, head_size, rate):
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


def _same_segment(segments, bias_ref):
    """0 where query and key are of one segment, else -1e30; once a row."""

    @pl.when(pl.program_id(1) == 0)
    def _():
        key_ts = jnp.broadcast_to(segments[0], bias_ref.shape)
        bias_ref[...] = jnp.where(key_ts == key_ts.T, 0.0, NEVER)


def _probabilities(q_tk, k_sk, bias_ref, seeds, second, head, group, rate):
    """(softmax before dropout, float32; what dropout keeps, or None)."""
    scores_ts = _dot(q_tk, k_sk, 1, 1) + bias_ref[...]
    exp_ts = jnp.exp(scores_ts - jnp.max(scores_ts, axis=1, keepdims=True))
    probs_ts = exp_ts / jnp.sum(exp_ts, axis=1, keepdims=True)
    if not rate:
        return probs_ts, None
    seed = seeds[pl.program_id(0), pl.program_id(1) * group + head]
    return probs_ts, keep_below(rate, last_bits(seed, second[0], scores_ts.shape))


def _head(ref, head: int, head_size: int):
    return ref[0, :, head * head_size : (head + 1) * head_size]


def _dropped(x, keep, rate: float):
    return x if keep is None else jnp.where(keep, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def _dot(a, b, a_axis: int, b_axis: int):
    """Product over one axis of each, summed in float32."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dims = (((a_axis,), (b_axis,)), ((), ()))
    return lax.dot_general(a, b.astype(a.dtype), dims, precision=precision, preferred_element_type=jnp.float32)
