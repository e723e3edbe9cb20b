"""Attention of tokens to the tokens of their own segment, in several implementations under one name each.

Letters: R rows, T row length (query), S row length (key), H heads, K head size.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xtl.errors import XtlError, nearest
from xtl.models.layers import dropout
from xtl.parallel import mesh


def attend(
    q_rthk: jax.Array,
    k_rthk: jax.Array,
    v_rthk: jax.Array,
    segments_rt: jax.Array,
    *,
    name: str,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Context [R, T, H, K]: softmax(q k / sqrt(K)) v over the tokens of the query's segment.

    Padding (segment 0) attends to padding, so that no row of the softmax is empty. With a key, dropout of probability
    `rate` acts on the attention probabilities. `name` is one of ATTENTION. Raises XtlError for an unknown name, and
    when dropout is asked of an implementation that has none.
    """
    check(name)
    scale = 1.0 / math.sqrt(q_rthk.shape[-1])
    q_rthk = (q_rthk.astype(jnp.float32) * scale).astype(q_rthk.dtype)
    if name in ("xla", "fused"):
        return ATTENTION[name](q_rthk, k_rthk, v_rthk, segments_rt, rate, key)
    if key is not None and rate:
        raise XtlError(f"attention {name!r} has no dropout: set encoder.attention_dropout=0 or system.attention=xla")
    return ATTENTION[name](q_rthk, k_rthk, v_rthk, segments_rt)


def check(name: str) -> None:
    """Raises XtlError unless `name` is a known implementation."""
    if name not in ATTENTION:
        raise XtlError(f"attention {name!r} is unknown.{nearest(name, ATTENTION)}")


def _same(segments_rt: jax.Array) -> jax.Array:
    return segments_rt[:, None, :, None] == segments_rt[:, None, None, :]


def _xla(
    q_rthk: jax.Array,
    k_rthk: jax.Array,
    v_rthk: jax.Array,
    segments_rt: jax.Array,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Plain matrix products; the compiler fuses mask, softmax and dropout."""
    scores_rhts = jnp.einsum("rthk,rshk->rhts", q_rthk, k_rthk, preferred_element_type=jnp.float32)
    probs_rhts = jax.nn.softmax(jnp.where(_same(segments_rt), scores_rhts, -1e30), axis=-1)
    return jnp.einsum("rhts,rshk->rthk", dropout(probs_rhts.astype(v_rthk.dtype), rate, key), v_rthk)


def _cudnn(q_rthk: jax.Array, k_rthk: jax.Array, v_rthk: jax.Array, segments_rt: jax.Array) -> jax.Array:
    """cuDNN's fused attention (Hopper and later, bfloat16); JAX itself says so when it does not fit."""
    mask = _same(segments_rt)
    return jax.nn.dot_product_attention(q_rthk, k_rthk, v_rthk, mask=mask, scale=1.0, implementation="cudnn")


def _splash(
    q_rthk: jax.Array, k_rthk: jax.Array, v_rthk: jax.Array, segments_rt: jax.Array, *, interpret: bool = False
) -> jax.Array:
    """JAX's blockwise kernel for TPU: no [T, T] array in memory. T must be a multiple of 128."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    length = q_rthk.shape[1]
    if length % 128:
        raise XtlError(f"attention 'splash' needs a row length that is a multiple of 128, not {length}")

    def local(q_rthk: jax.Array, k_rthk: jax.Array, v_rthk: jax.Array, segments_rt: jax.Array) -> jax.Array:
        block = min(length, 512)
        mask = splash.MultiHeadMask([splash.FullMask((length, length))] * q_rthk.shape[2])
        sizes = splash.BlockSizes(
            block_q=block, block_kv=block, block_kv_compute=block, block_q_dkv=block, block_kv_dkv=block,
            block_kv_dkv_compute=block, block_q_dq=block, block_kv_dq=block,
        )  # fmt: skip
        kernel = splash.make_splash_mha_single_device(mask, block_sizes=sizes, interpret=interpret)

        def row(q_thk: jax.Array, k_thk: jax.Array, v_thk: jax.Array, segments_t: jax.Array) -> jax.Array:
            q_htk, k_htk, v_htk = (x.swapaxes(0, 1) for x in (q_thk, k_thk, v_thk))
            return kernel(q_htk, k_htk, v_htk, segment_ids=splash.SegmentIds(segments_t, segments_t)).swapaxes(0, 1)

        return jax.vmap(row)(q_rthk, k_rthk, v_rthk, segments_rt)

    by_head = ("rows", None, "heads", None)
    split = mesh.per_device(local, axes=(by_head, by_head, by_head, ("rows", None)), out_axes=by_head)
    return split(q_rthk, k_rthk, v_rthk, segments_rt)


def _fused(
    q_rthk: jax.Array, k_rthk: jax.Array, v_rthk: jax.Array, segments_rt: jax.Array, rate: float, key: jax.Array | None
) -> jax.Array:
    """Our own kernel for TPU, with dropout."""
    from xtl.models.fused import fused  # brings Pallas, which takes a while to import

    return fused(q_rthk, k_rthk, v_rthk, segments_rt, rate=rate, key=key)


ATTENTION: dict[str, Callable[..., jax.Array]] = {"xla": _xla, "cudnn": _cudnn, "splash": _splash, "fused": _fused}
