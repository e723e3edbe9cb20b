"""AdamW with warm-up and decay, clipped jointly over encoder and active head. Hyper-parameters are data, not constants.

They enter the compiled step as a small tree of scalars, so stages that differ only in them share one executable.
Reference recipe: jiant's (AdamW with eps 1e-8, no weight decay for biases and LayerNorm, clipping at 1.0, linear
warm-up and decay).
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from xtl.errors import XtlError, nearest

Tree = Any
Hyper = Mapping[str, Any]

DECAYS = ("linear", "cosine", "constant")

# First match wins; every parameter must match one. Paths look like `encoder/layers/query/kernel`.
DECAY_RULES: tuple[tuple[str, bool], ...] = (
    (r"(^|/)bias$", False),
    (r"(^|/)scale$", False),  # LayerNorm; the temperature of dual encoders
    (r"(^|/)(kernel|token|position|token_type)$", True),
)


def hyper(train: Any, *, steps: int | None = None) -> dict[str, np.float32]:
    """The scalars of a stage's `train` section (see Resolved stage): learning rate, schedule, decay, clipping, Adam.

    `warmup` below 1 is a fraction of the steps; clip_norm 0 turns clipping off.
    """
    total = train.steps if steps is None else steps
    if train.decay not in DECAYS:
        raise XtlError(f"train.decay {train.decay!r} is unknown.{nearest(train.decay, DECAYS)}")
    warmup = round(train.warmup * total) if train.warmup < 1 else train.warmup
    values = {
        "learning_rate": train.learning_rate,
        "warmup_steps": warmup,
        "total_steps": total,
        "decay": DECAYS.index(train.decay),
        "weight_decay": train.weight_decay,
        "clip_norm": train.clip_norm,
        "b1": train.b1,
        "b2": train.b2,
        "eps": train.eps,
    }
    return {name: np.float32(value) for name, value in values.items()}


def learning_rate(hyper: Hyper, step: jax.Array) -> jax.Array:
    """The rate of a 0-based step: linear from 0 over the warm-up, then linear, cosine or no decay to 0 at total_steps.

    The same numbers as transformers' schedules, so the first step of a warm-up moves nothing.
    """
    step = step.astype(jnp.float32)
    warmup, total = hyper["warmup_steps"], hyper["total_steps"]
    progress = jnp.clip((step - warmup) / jnp.maximum(total - warmup, 1.0), 0.0, 1.0)
    falls = jnp.stack([1.0 - progress, 0.5 * (1.0 + jnp.cos(jnp.pi * progress)), jnp.ones_like(progress)])
    factor = jnp.where(step < warmup, step / jnp.maximum(warmup, 1.0), falls[hyper["decay"].astype(jnp.int32)])
    return hyper["learning_rate"] * factor


def init(params: Tree) -> optax.ScaleByAdamState:
    """Adam's moments for one part (the encoder, or one head), laid out like its parameters."""
    return optax.scale_by_adam().init(params)


def like(part: Tree, *, count: Any) -> optax.ScaleByAdamState:
    """The moments' counterpart of any tree shaped like a part's parameters, such as their shardings."""
    return optax.ScaleByAdamState(count=count, mu=part, nu=part)


def update(
    grads: Tree, opt_state: Tree, params: Tree, *, hyper: Hyper, rate: jax.Array, loss: jax.Array | float = 0.0
) -> tuple[Tree, Tree, dict[str, jax.Array]]:
    """One AdamW step; returns (params, opt_state, {"grad_norm": the joint norm before clipping, "applied": bool}).

    grads and params: {"encoder", "heads": {name}}; opt_state: an Adam state (`init`) in the place of each part. So each
    part has its own count: in a mixture a head's bias correction follows the updates that head has had, as in PyTorch.

    Where the norm or the loss is not finite, the step is not applied: parameters, moments and counts are what they
    were. This is done by scalars (a rate of 0, decays of 1), because choosing between old and new arrays afterwards
    would keep both in memory and take a third longer.
    """
    norm = optax.tree.norm(grads)
    applied = jnp.isfinite(norm) & jnp.isfinite(loss)
    limit = jnp.where(hyper["clip_norm"] > 0, hyper["clip_norm"], jnp.inf)
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-30))
    grads = jax.tree.map(lambda g: jnp.where(applied, g * factor, 0.0), grads)
    rate = jnp.where(applied, rate, 0.0)
    parts: Any
    moments, parts = jax.tree.flatten(opt_state, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState))
    stepped = [
        _adam(part, moment, hyper, applied) for part, moment in zip(parts.flatten_up_to(grads), moments, strict=True)
    ]
    updates, opt_state = (parts.unflatten(column) for column in zip(*stepped, strict=True))

    def move(param: jax.Array, update: jax.Array, decays: bool) -> jax.Array:
        return param - rate * (update + hyper["weight_decay"] * param if decays else update)

    moved = jax.tree.map(move, params, updates, decay_mask(params))
    return moved, opt_state, {"grad_norm": norm, "applied": applied}


def _adam(
    grads: Tree, moments: optax.ScaleByAdamState, hyper: Hyper, applied: jax.Array
) -> tuple[Tree, optax.ScaleByAdamState]:
    """optax.scale_by_adam, number for number; where it is not applied, the moments and their count stay."""
    b1, b2 = (jnp.where(applied, hyper[name], 1.0) for name in ("b1", "b2"))
    mu = optax.tree.update_moment(grads, moments.mu, b1, 1)
    nu = optax.tree.update_moment_per_elem_norm(grads, moments.nu, b2, 2)
    count = moments.count + applied
    seen = jnp.maximum(count, 1)
    mu_hat, nu_hat = (optax.tree.bias_correction(m, hyper[b], seen) for m, b in ((mu, "b1"), (nu, "b2")))
    updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + hyper["eps"]), mu_hat, nu_hat)
    return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)


def decay_mask(params: Tree) -> Tree:
    """True where weight decay applies. A parameter that no rule covers is an error that names it."""
    leftovers = []

    def decays(path: tuple, _: Any) -> bool:
        name = path_name(path)
        for pattern, verdict in DECAY_RULES:
            if re.search(pattern, name):
                return verdict
        leftovers.append(name)
        return False

    mask = jax.tree_util.tree_map_with_path(decays, params)
    if leftovers:
        raise XtlError(f"no weight-decay rule covers {', '.join(leftovers)}: add one to xtl.training.optim.DECAY_RULES")
    return mask


def path_name(path: tuple) -> str:
    """A tree path as `encoder/layers/query/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
