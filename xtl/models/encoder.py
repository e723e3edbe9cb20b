"""XLM-R without heads: the encoder that is handed from phase to phase.

Letters: R rows, T row length, S slots (segments per row), D hidden, H heads, K head size, F mlp, L layers,
V vocabulary, P positions. Shapes stand in names: x_rtd is [R, T, D].
Sources: Conneau et al. 2020 (base, large; post-norm, as BERT), Goyal et al. 2021 (XL, XXL; pre-norm); where dropout
and LayerNorm act follows transformers' XLMRobertaModel and XLMRobertaXLModel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from xtl.errors import XtlError, nearest
from xtl.models import attention
from xtl.models.layers import Dense, LayerNorm, dense_init, dropout, gelu, mean_segments, param, stack, take_slots
from xtl.parallel.mesh import constrain

# ---------------------------------------------------------------- config


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shapes of one encoder, and (below the line) how to run it, which does not change the mathematics."""

    vocab_size: int = 250002
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    max_positions: int = 514  # two of them never used: positions start at pad_id + 1 = 2
    norm: str = "post"  # "post" (base, large) or "pre" (XL, XXL)
    dropout: float = 0.1
    attention_dropout: float = 0.1
    eps: float = 1e-5
    pad_id: int = 1
    # ----------------------------
    dtype: str = "float32"  # of activations and matrix products: "float32" or "bfloat16"; weights are always float32
    attention: str = "xla"  # one of xtl.models.attention.ATTENTION
    remat: str = "none"  # "none", "full", "dots", or what to keep, e.g. "context" or "qkv+context+mlp" (SAVED)
    scan: int = 1  # layers in one step of lax.scan; 0: no scan, all layers unrolled

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise XtlError(f"encoder: hidden={self.hidden} is not a multiple of heads={self.heads}")
        if self.norm not in ("post", "pre"):
            raise XtlError(f"encoder: norm {self.norm!r} is neither 'post' nor 'pre'")
        if self.dtype not in ("float32", "bfloat16"):
            raise XtlError(f"encoder: dtype {self.dtype!r} is neither 'float32' nor 'bfloat16'")
        if self.scan < 0 or (self.scan and self.layers % self.scan):
            raise XtlError(f"encoder: scan={self.scan} does not divide layers={self.layers} (0 unrolls them all)")
        attention.check(self.attention)
        remat_policy(self.remat)

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads


# ---------------------------------------------------------------- rematerialisation

# Names that intermediate results carry, in the order of a layer. "context" is attention's output before its
# projection; "mlp" the first half of the MLP before GELU.
SAVED = ("qkv", "context", "attention", "mlp", "output")


def remat_policy(name: str) -> tuple[bool, Callable[..., bool] | None]:
    """(whether to recompute, jax.checkpoint policy) of a policy name.

    "none": autodiff keeps what it likes (fast on one device with memory to spare). "full": only the layer's input is
    kept. "dots": the products with weights. "a+b": the results of those names (SAVED); "context" alone costs little
    memory. Raises XtlError for anything else.
    """
    policies = jax.checkpoint_policies
    if name == "none":
        return False, None
    if name == "full":
        return True, policies.nothing_saveable
    if name == "dots":
        return True, policies.dots_with_no_batch_dims_saveable
    for part in name.split("+"):
        if part not in SAVED:
            raise XtlError(f"remat {name!r}: {part!r} is unknown.{nearest(part, ('none', 'full', 'dots', *SAVED))}")
    return True, policies.save_only_these_names(*name.split("+"))


# ---------------------------------------------------------------- sizes

SIZES = {
    "tiny": EncoderConfig(hidden=128, layers=3, heads=4, mlp=512),
    "mini": EncoderConfig(hidden=256, layers=6, heads=4, mlp=1024),
    "base": EncoderConfig(hidden=768, layers=12, heads=12, mlp=3072),
    "large": EncoderConfig(hidden=1024, layers=24, heads=16, mlp=4096),
    "xl": EncoderConfig(vocab_size=250880, hidden=2560, layers=36, heads=32, mlp=10240, norm="pre"),
    "xxl": EncoderConfig(vocab_size=250880, hidden=4096, layers=48, heads=32, mlp=16384, norm="pre"),
}


def encoder_config(size: str, **changes: Any) -> EncoderConfig:
    """The config of a named size with some fields changed, e.g. encoder_config("base", dtype="bfloat16")."""
    if size not in SIZES:
        raise XtlError(f"unknown encoder size {size!r}.{nearest(size, SIZES)}")
    known = {field.name for field in fields(EncoderConfig)}
    for name in changes:
        if name not in known:
            raise XtlError(f"encoder has no field {name!r}.{nearest(name, known)}")
    return replace(SIZES[size], **changes)


# ---------------------------------------------------------------- modules


class Embed(nnx.Module):
    """Token + position + token type, normalised (post-norm models only), with dropout."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.token = param(rngs, dense_init, (config.vocab_size, config.hidden), ("vocab", "embed"))
        self.position = param(rngs, dense_init, (config.max_positions, config.hidden), (None, None))
        self.token_type = param(rngs, dense_init, (config.hidden,), (None,))  # XLM-R knows one type
        if config.norm == "post":
            self.norm = LayerNorm(config.hidden, eps=config.eps, dtype=config.dtype, rngs=rngs)

    def __call__(self, ids_rt: jax.Array, positions_rt: jax.Array, key: jax.Array | None) -> jax.Array:
        # Ids and positions outside the tables become NaN: a wrong vocabulary must not train silently.
        # Only what was looked up is cast to the compute dtype (the whole table would take longer), before it travels.
        x_rtd = self.token.get_value().at[ids_rt].get(mode="fill", fill_value=jnp.nan).astype(self.config.dtype)
        x_rtd = constrain(constrain(x_rtd, "lookup_rows", None, "embed"), "rows")
        x_rtd = x_rtd + self.position.get_value().at[positions_rt].get(mode="fill", fill_value=jnp.nan)
        x_rtd += self.token_type[...]
        x_rtd = self.norm(x_rtd) if self.config.norm == "post" else x_rtd.astype(self.config.dtype)
        return dropout(x_rtd, self.config.dropout, key)


class Attention(nnx.Module):
    """Self-attention within segments."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        self.config, width = config, config.hidden
        self.query, self.key, self.value = (
            Dense(width, width, ("embed", "heads"), dtype=config.dtype, rngs=rngs) for _ in range(3)
        )
        self.out = Dense(width, width, ("heads", "embed"), dtype=config.dtype, rngs=rngs)

    def __call__(self, x_rtd: jax.Array, segments_rt: jax.Array, key: jax.Array | None) -> jax.Array:
        """The output product without its bias: [R, T, D]."""
        config = self.config
        by_head = (*x_rtd.shape[:2], config.heads, config.head_size)
        q_rthk, k_rthk, v_rthk = (
            constrain(checkpoint_name(dense(x_rtd), "qkv").reshape(by_head), "rows", None, "heads")
            for dense in (self.query, self.key, self.value)
        )
        context_rthk = attention.attend(
            q_rthk, k_rthk, v_rthk, segments_rt, name=config.attention, rate=config.attention_dropout, key=key
        )
        context_rtd = constrain(checkpoint_name(context_rthk.reshape(x_rtd.shape), "context"), "rows", None, "heads")
        return self.out.product(context_rtd)


class Mlp(nnx.Module):
    """D -> F, exact GELU, F -> D."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        self.dtype = config.dtype
        self.wi = Dense(config.hidden, config.mlp, ("embed", "mlp"), dtype=config.dtype, rngs=rngs)
        self.wo = Dense(config.mlp, config.hidden, ("mlp", "embed"), dtype=config.dtype, rngs=rngs)

    def __call__(self, x_rtd: jax.Array) -> jax.Array:
        """The output product without its bias: [R, T, D]."""
        h_rtf = constrain(checkpoint_name(self.wi.product(x_rtd), "mlp"), "rows", None, "mlp")
        return self.wo.product(gelu(self.wi.add_bias(h_rtf), self.dtype))


class Layer(nnx.Module):
    """One transformer layer, post-norm (x = LN(x + f(x))) or pre-norm (x = x + f(LN(x)))."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.attention, self.mlp = Attention(config, rngs=rngs), Mlp(config, rngs=rngs)
        self.attention_norm = LayerNorm(config.hidden, eps=config.eps, dtype=config.dtype, rngs=rngs)
        self.mlp_norm = LayerNorm(config.hidden, eps=config.eps, dtype=config.dtype, rngs=rngs)

    def __call__(self, x_rtd: jax.Array, segments_rt: jax.Array, key: jax.Array | None) -> jax.Array:
        x_rtd = constrain(x_rtd, "rows")
        keys = (None, None, None) if key is None else tuple(jax.random.fold_in(key, site) for site in range(3))

        def attend(x_rtd: jax.Array) -> jax.Array:
            y_rtd = checkpoint_name(self.attention(x_rtd, segments_rt, keys[0]), "attention")
            return dropout(self.attention.out.add_bias(y_rtd), self.config.dropout, keys[1])

        def mlp(x_rtd: jax.Array, rate: float) -> jax.Array:
            y_rtd = checkpoint_name(self.mlp(x_rtd), "output")
            return dropout(self.mlp.wo.add_bias(y_rtd), rate, keys[2])

        # Sums of the residual stream are taken in float32 and stored in the compute dtype.
        if self.config.norm == "post":
            x_rtd = self.attention_norm((x_rtd + attend(x_rtd)).astype(self.config.dtype))
            return constrain(self.mlp_norm((x_rtd + mlp(x_rtd, self.config.dropout)).astype(self.config.dtype)), "rows")
        x_rtd = (x_rtd + attend(self.attention_norm(x_rtd))).astype(self.config.dtype)
        # transformers' XLMRobertaXL has no dropout after the MLP; so neither has this.
        return constrain((x_rtd + mlp(self.mlp_norm(x_rtd), 0.0)).astype(self.config.dtype), "rows")


class Pooled(NamedTuple):
    """One vector per segment and layer, float32. Index 0 of L + 1 is the embedding output."""

    mean_lrsd: jax.Array  # over all tokens of the segment, <s> and </s> included
    cls_lrsd: jax.Array  # at <s>


class Encoder(nnx.Module):
    """Token ids to hidden states. Rows hold several segments; a token sees only its own segment."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embed = Embed(config, rngs=rngs)
        self.layers = stack(lambda rngs: Layer(config, rngs=rngs), config.layers, rngs)
        if config.norm == "pre":
            self.norm = LayerNorm(config.hidden, eps=config.eps, dtype=config.dtype, rngs=rngs)
        self.pooler = Dense(config.hidden, config.hidden, ("embed", None), dtype=config.dtype, rngs=rngs)

    @property
    def embedding(self) -> jax.Array:
        """The token table [V, D], float32 (MLM's output layer uses it too)."""
        return self.embed.token.get_value()

    def __call__(
        self,
        ids_rt: jax.Array,
        segments_rt: jax.Array,
        positions_rt: jax.Array,
        key: jax.Array | None = None,
        *,
        upto: int | None = None,
    ) -> jax.Array:
        """Hidden states [R, T, D] in the compute dtype, after `upto` layers (None: all).

        ids_rt, segments_rt (0 = padding) and positions_rt (from 2, restarting in each segment) are int32 [R, T]. With a
        key dropout is on. `upto` counts like transformers' hidden_states: 0 is the embedding output, and the last one
        of a pre-norm model is normalised. Hidden states at padding mean nothing.
        """
        return self._run(ids_rt, segments_rt, positions_rt, key, upto=upto)[0]

    def all_layers(
        self, ids_rt: jax.Array, segments_rt: jax.Array, positions_rt: jax.Array, slots_rs: jax.Array
    ) -> Pooled:
        """One vector per segment from every layer, pooled as the layers run, so that no hidden states are kept.

        `slots_rs` is the position of the `<s>` of each segment (0 if the slot is empty; empty slots give mean 0).
        """

        def pool(x_rtd: jax.Array) -> Pooled:
            mean_rsd = mean_segments(x_rtd, segments_rt, slots_rs.shape[1])
            return Pooled(mean_rsd, take_slots(x_rtd, slots_rs).astype(jnp.float32))

        return self._run(ids_rt, segments_rt, positions_rt, None, observe=pool)[1]

    def pool(self, x: jax.Array) -> jax.Array:
        """BERT's pooler on vectors [..., D] taken at `<s>`: tanh of a dense layer. Part of the encoder, as in jiant."""
        return jnp.tanh(self.pooler(x))

    def _run(
        self,
        ids_rt: jax.Array,
        segments_rt: jax.Array,
        positions_rt: jax.Array,
        key: jax.Array | None,
        *,
        upto: int | None = None,
        observe: Callable[[jax.Array], Any] = lambda x_rtd: None,
    ) -> tuple[jax.Array, Any]:
        """(last hidden state, observations of the embedding output and of every layer, stacked; None without observe).

        Dropout keys are addressed: fold_in(key, 0) for the embedding, fold_in(key, n) for layer n of 1..L.
        """
        config = self.config
        count = config.layers if upto is None else upto
        if not 0 <= count <= config.layers:
            raise XtlError(f"layer {count} was asked for, but the encoder has layers 0 (embedding) to {config.layers}")

        def fold(index: jax.Array | int) -> jax.Array | None:
            return None if key is None else jax.random.fold_in(key, index)

        def layer(x_rtd: jax.Array, weights: Layer, index: jax.Array) -> tuple[jax.Array, Any]:
            x_rtd = weights(x_rtd, segments_rt, fold(index))
            return x_rtd, observe(x_rtd)

        recompute, policy = remat_policy(config.remat)
        if recompute:  # inside scan nothing can be shared with the forward pass, so there is no need to prevent it
            layer = jax.checkpoint(layer, policy=policy, prevent_cse=config.scan == 0)

        x_rtd = self.embed(ids_rt, positions_rt, fold(0))
        seen = [jax.tree.map(lambda y: y[None], observe(x_rtd))]
        weights = self.layers if count == config.layers else jax.tree.map(lambda w: w[:count], self.layers)
        if count:
            group = math.gcd(config.scan, count) if config.scan else 0
            x_rtd, ys = _through(layer, x_rtd, weights, count, group)
            seen.append(ys)
        if config.norm == "pre" and count == config.layers:
            x_rtd = self.norm(x_rtd)
            seen[-1] = jax.tree.map(lambda ys, y: ys.at[-1].set(y), seen[-1], observe(x_rtd))
        return x_rtd, jax.tree.map(lambda *ys: jnp.concatenate(ys), *seen)


def _through(layer: Callable, x: jax.Array, weights: Layer, count: int, group: int) -> tuple[jax.Array, Any]:
    """x carried through `count` stacked layers, `group` of them unrolled in a step of lax.scan (0: all, no scan)."""

    def unrolled(x: jax.Array, weights: Layer, indices: jax.Array) -> tuple[jax.Array, Any]:
        seen = []
        for index, one in enumerate(_unstack(weights, len(indices))):
            x, y = layer(x, one, indices[index])
            seen.append(y)
        return x, jax.tree.map(lambda *ys: jnp.stack(ys), *seen)

    indices = jnp.arange(1, count + 1)
    if group == 0:
        return unrolled(x, weights, indices)
    grouped = jax.tree.map(lambda w: w.reshape(count // group, group, *w.shape[1:]), (weights, indices))
    x, ys = jax.lax.scan(lambda x, step: unrolled(x, *step), x, grouped)
    return x, jax.tree.map(lambda y: y.reshape(count, *y.shape[2:]), ys)


def _unstack(tree: Layer, count: int) -> list[Layer]:
    """The `count` slices of a stacked tree. lax.split, because its gradient is one concatenation; the gradient of
    indexing would be `count` full-size additions."""
    leaves, structure = jax.tree.flatten(tree)
    columns = [[part[0] for part in jax.lax.split(leaf, (1,) * count)] for leaf in leaves]
    return [jax.tree.unflatten(structure, column) for column in zip(*columns, strict=True)]
