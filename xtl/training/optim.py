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
    grads: Tree, opt_state: Tree, params: Tree, *, hyper: Hyper, rate: jax.Array
) -> tuple[Tree, Tree, dict[str, jax.Array]]:
    """One AdamW step; returns (params, opt_state, {"grad_norm": the joint norm before clipping}).

    grads and params: {"encoder", "heads": {name}}; opt_state: an Adam state (`init`) in the place of each part. So each
    part has its own count: in a mixture a head's bias correction follows the updates that head has had, as in PyTorch.
    """
    norm = optax.tree.norm(grads)
    limit = jnp.where(hyper["clip_norm"] > 0, hyper["clip_norm"], jnp.inf)
    grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-30)), grads)
    adam = optax.scale_by_adam(b1=hyper["b1"], b2=hyper["b2"], eps=hyper["eps"])
    parts: Any
    moments, parts = jax.tree.flatten(opt_state, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState))
    stepped = [adam.update(part, moment) for part, moment in zip(parts.flatten_up_to(grads), moments, strict=True)]
    updates, opt_state = (parts.unflatten(column) for column in zip(*stepped, strict=True))

    def move(param: jax.Array, update: jax.Array, decays: bool) -> jax.Array:
        return param - rate * (update + hyper["weight_decay"] * param if decays else update)

    return jax.tree.map(move, params, updates, decay_mask(params)), opt_state, {"grad_norm": norm}


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
