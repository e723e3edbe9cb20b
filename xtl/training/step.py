"""The pure steps: state and batch in, state and metrics out. No data stack: benchmarks and compilers use them too.

Built once per (encoder config, task, mesh) and cached: jit then compiles once per batch shape, whatever the learning
rate, the schedule, the seed or the stage. Call them inside `jax.set_mesh(mesh)`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from xtl.families import family
from xtl.families.interface import Batch
from xtl.models.encoder import EncoderConfig
from xtl.parallel import mesh as meshes
from xtl.parallel import multihost
from xtl.task import Task
from xtl.training import optim
from xtl.training import state as states
from xtl.training.state import Params, State

Tree = Any


# ---------------------------------------------------------------- train


@functools.cache
def build_train_step(
    config: EncoderConfig, task: Task, mesh: Mesh, flags: tuple[tuple[str, str], ...] = ()
) -> Callable[[State, Batch, Tree, jax.Array], tuple[State, dict[str, jax.Array]]]:
    """The jitted step(state, batch, hyper, seed) -> (state, metrics). It donates the state, which holds this head only.

    hyper: see optim.hyper. seed: uint32; dropout keys are folded from (seed, step, micro-batch, layer). Metrics are
    device scalars over the whole batch: loss (weighted mean), weight, grad_norm, learning_rate, examples, tokens
    (real ones), token_pairs (sum of segment length^2, for FLOPs). flags: of the compiler, as pairs.

    A batch with a leading micro-batch axis is accumulated: sums of losses and gradients are divided by the global
    weight once, at the end, so the step equals the one on the undivided batch whatever the weights of its parts.

    Where the loss or the gradient's norm is not finite, the state comes back as it was; the metrics show it.
    """
    encoder_graph, head_graph = states.encoder_graph(config), states.head_graph(config, task)
    layout = states.shardings(config, (task,), mesh)
    loss_of = family(task).loss

    def loss_sum(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits = forward(encoder_graph, head_graph, params, batch, key=key)
        loss, weight = loss_of(logits, batch)
        return loss, {"loss": loss, "weight": weight, **batch_counts(batch)}

    def gradients(params: Params, batch: Batch, key: jax.Array) -> tuple[Params, dict[str, jax.Array]]:
        grads, sums = jax.grad(loss_sum, has_aux=True)(params, batch, key)
        return jax.lax.with_sharding_constraint(grads, layout.params), sums

    def train_step(state: State, batch: Batch, hyper: Tree, seed: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        params, key = state.params, jax.random.fold_in(jax.random.key(seed), state.step)
        if batch["ids_rt"].ndim == 2:
            grads, sums = gradients(params, batch, jax.random.fold_in(key, 0))
        else:
            grads, sums = _accumulated(gradients, params, batch, key)
        scale = 1.0 / jnp.where(sums["weight"] > 0, sums["weight"], 1.0)
        grads = jax.tree.map(lambda g: g * scale, grads)
        rate = optim.learning_rate(hyper, state.step)
        loss = sums["loss"] * scale
        params, opt_state, seen = optim.update(grads, state.opt_state, params, hyper=hyper, rate=rate, loss=loss)
        metrics = {**sums, "loss": loss, "learning_rate": rate, "grad_norm": seen["grad_norm"]}
        return State(state.step + seen["applied"], params, opt_state), metrics

    return jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=(layout, states.everywhere(mesh)),
        compiler_options=dict(flags) or None,
    )


def _accumulated(
    gradients: Callable, params: Params, batch: Batch, key: jax.Array
) -> tuple[Params, dict[str, jax.Array]]:
    """Sums over the micro-batches on the leading axis, one at a time."""

    def add(total: Tree, part: tuple[Batch, jax.Array]) -> tuple[Tree, None]:
        micro, index = part
        return jax.tree.map(jnp.add, total, gradients(params, micro, jax.random.fold_in(key, index))), None

    first = {name: array[0] for name, array in batch.items()}
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(gradients, params, first, key))
    indices = jnp.arange(batch["ids_rt"].shape[0])
    return jax.lax.scan(add, zeros, (dict(batch), indices))[0]


def batch_counts(batch: Batch) -> dict[str, jax.Array]:
    """What a batch holds, padding left out: examples, tokens, token_pairs (sum of segment length^2)."""
    lengths_rs = batch["lengths_rs"]
    return {
        "examples": jnp.sum(batch["weight_e"]),
        "tokens": jnp.sum(lengths_rs),
        "token_pairs": jnp.sum(jnp.square(lengths_rs.astype(jnp.float32))),
    }


# ---------------------------------------------------------------- evaluate


@functools.cache
def build_eval_step(config: EncoderConfig, task: Task, mesh: Mesh) -> Callable[[Params, Batch], dict[str, jax.Array]]:
    """The jitted step(params, batch) -> the family's outputs, whole on every host. No dropout.

    params: the encoder and one head, which may have been trained under another task's name.
    task: with the options of the evaluation (and of the head) laid over its own.
    """
    encoder_graph, head_graph = states.encoder_graph(config), states.head_graph(config, task)

    def eval_step(params: Params, batch: Batch) -> dict[str, jax.Array]:
        logits = forward(encoder_graph, head_graph, params, batch, key=None)
        return family(task).outputs(task, logits, batch)

    return jax.jit(eval_step, out_shardings=states.everywhere(mesh))


# ---------------------------------------------------------------- shared


def forward(
    encoder_graph: nnx.GraphDef,
    head_graph: nnx.GraphDef | None,
    params: Params,
    batch: Batch,
    *,
    key: jax.Array | None,
) -> Any:
    """Logits of the one head in `params`; without a head, the encoder's pooled layers (sentence retrieval)."""
    encoder = nnx.merge(encoder_graph, params.encoder)
    inputs = batch["ids_rt"], batch["segments_rt"], batch["positions_rt"]
    if head_graph is None:
        return encoder.all_layers(*inputs, batch["slots_rs"])
    (head_params,) = params.heads.values()
    head = nnx.merge(head_graph, head_params)
    encoder_key, head_key = (None, None) if key is None else (jax.random.fold_in(key, 0), jax.random.fold_in(key, 1))
    hidden_rtd = encoder(*inputs, key=encoder_key)
    return head(hidden_rtd, batch, embedding=encoder.embedding, key=head_key, pool=encoder.pool)


def place(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's rows as global arrays on the mesh: rows split over data and fsdp, example arrays on every device."""
    accumulate = batch["ids_rt"].shape[0] if batch["ids_rt"].ndim == 3 else 1
    lead, hosts = int(accumulate > 1), multihost.row_slice(mesh)[1]

    def whole(name: str, array: np.ndarray) -> tuple[int, ...]:
        rows = hosts if name.rpartition("_")[2].startswith("r") else 1
        return (*array.shape[:lead], array.shape[lead] * rows, *array.shape[lead + 1 :])

    shapes = {name: jax.ShapeDtypeStruct(whole(name, array), array.dtype) for name, array in batch.items()}
    layout = meshes.batch_shardings(shapes, mesh, accumulate=accumulate)
    if jax.process_count() == 1:
        return jax.device_put(dict(batch), layout)
    with jax.transfer_guard("allow"):  # this, too, is an explicit transfer, which JAX takes for an implicit one
        return {
            name: jax.make_array_from_process_local_data(layout[name], array, shapes[name].shape)
            for name, array in batch.items()
        }
