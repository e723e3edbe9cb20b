"""The train state: `State(step, params, opt_state)`, where params and optimizer state are `Params(encoder, heads)`.

Shapes first, then shardings, then memory: `shapes` allocates nothing, `shardings` lays the same tree out on a mesh,
`target` is what a checkpoint restores into, and `init` runs under jit with those shardings, so that no array ever
exists unsharded. Modules are split into a graph (static, rebuilt at will) and parameters (data): only data is state.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xtl.config.schema import Stage
from xtl.families import family
from xtl.models.encoder import Encoder, EncoderConfig
from xtl.parallel import mesh as meshes
from xtl.task import Task
from xtl.training import optim

Tree = Any  # nested dicts of arrays, of their shapes, or of their shardings
Heads = tuple[Task, ...]  # the tasks whose heads the state holds; a head has its task's name


def encoder_config(stage: Stage, *, platform: str | None = None) -> EncoderConfig:
    """The EncoderConfig of a resolved stage: its `encoder` section, and `system` for how to run it.

    `remat` "auto" stores everything on a CPU and recomputes all but attention's output elsewhere; `attention` "auto" is
    our kernel on a TPU where it can be. platform: what they are decided for (default: the devices here).
    """
    system, names = stage.system, {field.name for field in dataclasses.fields(EncoderConfig)}
    platform = platform or jax.default_backend()
    remat, attention = system.remat, system.attention
    if remat == "auto":
        remat = "none" if platform == "cpu" else "context"
    if attention == "auto":
        width = math.lcm(stage.encoder.hidden // stage.encoder.heads, 128)  # lanes that a step of the kernel fills
        fills = stage.encoder.hidden // abs(system.mesh.tensor) % width == 0
        attention = "fused" if platform == "tpu" and fills else "xla"
    shape = {name: value for name, value in vars(stage.encoder).items() if name in names}
    return EncoderConfig(**shape, attention=attention, remat=remat, scan=system.scan)


# ---------------------------------------------------------------- the state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """The encoder's parameters and those of every head by task; also whatever has that shape (moments, shardings)."""

    encoder: Tree
    heads: Mapping[str, Tree]

    def map_parts(self, function: Callable[[Tree], Any]) -> "Params":
        """The function's result in the place of each part: the encoder, and every head."""
        return Params(function(self.encoder), {name: function(head) for name, head in self.heads.items()})

    def only(self, head: str) -> "Params":
        """The encoder with no other head than this one."""
        return Params(self.encoder, {name: part for name, part in self.heads.items() if name == head})

    def updated(self, part: "Params") -> "Params":
        """These parameters with those of `part` put in their place; heads that it lacks stay as they are."""
        return Params(part.encoder, {**self.heads, **part.heads})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What a training step takes and returns."""

    step: jax.Array  # int32, steps applied
    params: Params
    opt_state: Params  # an optax.ScaleByAdamState in the place of each part

    def only(self, head: str) -> "State":
        """The state with no other head than this one: what the step of that task takes (and donates)."""
        return State(self.step, self.params.only(head), self.opt_state.only(head))

    def updated(self, stepped: "State") -> "State":
        """This state after a step that saw some of its heads."""
        return State(stepped.step, self.params.updated(stepped.params), self.opt_state.updated(stepped.opt_state))


# ---------------------------------------------------------------- graphs: modules without their weights


@functools.cache
def encoder_graph(config: EncoderConfig) -> nnx.GraphDef:
    """The encoder's structure; `nnx.merge(graph, params["encoder"])` is the module."""
    return nnx.split(nnx.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(params=0))), nnx.Param)[0]


@functools.cache
def head_graph(config: EncoderConfig, task: Task) -> nnx.GraphDef | None:
    """The head's structure; None for a task that has no head (retrieval)."""
    if not family(task).has_head:
        return None
    build = family(task).head
    return nnx.split(nnx.eval_shape(lambda: build(config, task, rngs=nnx.Rngs(params=0))), nnx.Param)[0]


def _encoder(config: EncoderConfig, seed: jax.Array | int) -> nnx.State:
    """Fresh parameters, addressed by (seed, part): no part depends on which others there are."""
    rngs = nnx.Rngs(params=jax.random.fold_in(jax.random.key(seed), 0))
    return nnx.state(Encoder(config, rngs=rngs), nnx.Param)


def _head(config: EncoderConfig, task: Task, seed: jax.Array | int) -> nnx.State:
    rngs = nnx.Rngs(params=jax.random.fold_in(jax.random.key(seed), zlib.crc32(task.name.encode())))
    return nnx.state(family(task).head(config, task, rngs=rngs), nnx.Param)


def _with_heads(config: EncoderConfig, heads: Heads) -> Heads:
    return tuple(task for task in heads if head_graph(config, task) is not None)


# ---------------------------------------------------------------- shapes, shardings, memory


@functools.cache
def shapes(config: EncoderConfig, heads: Heads = ()) -> State:
    """The state as jax.ShapeDtypeStructs."""
    params = Params(
        nnx.to_pure_dict(jax.eval_shape(lambda: _encoder(config, 0))),
        {
            task.name: nnx.to_pure_dict(jax.eval_shape(lambda task=task: _head(config, task, 0)))
            for task in _with_heads(config, heads)
        },
    )
    step: Any = jax.ShapeDtypeStruct((), jnp.int32)
    return State(step, params, jax.eval_shape(_moments, params))


@functools.cache
def shardings(config: EncoderConfig, heads: Heads, mesh: Mesh) -> State:
    """The state as NamedShardings: moments like their parameters, counters everywhere."""
    params = Params(
        _layout(functools.partial(_encoder, config, 0), mesh),
        {task.name: _layout(functools.partial(_head, config, task, 0), mesh) for task in _with_heads(config, heads)},
    )
    moments = params.map_parts(lambda part: optim.like(part, count=everywhere(mesh)))
    step: Any = everywhere(mesh)
    return State(step, params, moments)


def everywhere(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def _layout(build: Callable[[], nnx.State], mesh: Mesh) -> Tree:
    return nnx.to_pure_dict(meshes.shardings(jax.eval_shape(build), mesh))


def target(config: EncoderConfig, heads: Heads, mesh: Mesh) -> State:
    """The state as shapes with shardings: what `xtl.training.checkpoint` restores into."""
    return jax.tree.map(
        lambda array, sharding: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding),
        shapes(config, heads),
        shardings(config, heads, mesh),
    )


def init(
    config: EncoderConfig,
    heads: Heads,
    mesh: Mesh,
    *,
    seed: int,
    encoder: Tree | None = None,
    given_heads: Mapping[str, Tree] | None = None,
) -> State:
    """A state at step 0, laid out on the mesh. Parts that are given (a handoff, on the target's shardings) are taken
    over as they are; the others are drawn from the seed."""
    given_heads, config = given_heads or {}, _weights_only(config)
    params = Params(
        _draw_encoder(config, mesh)(seed) if encoder is None else encoder,
        {
            task.name: given_heads[task.name] if task.name in given_heads else _draw_head(config, task, mesh)(seed)
            for task in _with_heads(config, heads)
        },
    )
    step, opt_state = _zeros(config, heads, mesh)(params)
    return State(step, params, opt_state)


def _weights_only(config: EncoderConfig) -> EncoderConfig:
    """The config without what weights do not depend on, so that stages which differ there share what is compiled."""
    return dataclasses.replace(
        config, dropout=0.0, attention_dropout=0.0, dtype="float32", attention="xla", remat="none", scan=1
    )


@functools.cache
def _draw_encoder(config: EncoderConfig, mesh: Mesh) -> Callable[[int], Tree]:
    draw = lambda seed: nnx.to_pure_dict(_encoder(config, seed))
    return jax.jit(draw, out_shardings=shardings(config, (), mesh).params.encoder)


@functools.cache
def _draw_head(config: EncoderConfig, task: Task, mesh: Mesh) -> Callable[[int], Tree]:
    draw = lambda seed: nnx.to_pure_dict(_head(config, task, seed))
    return jax.jit(draw, out_shardings=shardings(config, (task,), mesh).params.heads[task.name])


@functools.cache
def _zeros(config: EncoderConfig, heads: Heads, mesh: Mesh) -> Callable[[Params], tuple[jax.Array, Params]]:
    layout = shardings(config, heads, mesh)
    start = lambda params: (jnp.zeros((), jnp.int32), _moments(params))
    return jax.jit(start, out_shardings=(layout.step, layout.opt_state))


def _moments(params: Params) -> Params:
    return params.map_parts(optim.init)


def count_parameters(params: Params) -> dict[str, int]:
    """Number of parameters by part: {"encoder": 277453056, "heads/mnli": 593923}."""
    total = lambda tree: sum(int(leaf.size) for leaf in jax.tree.leaves(tree))
    counts = {"encoder": total(params.encoder)}
    counts.update({f"heads/{name}": total(head) for name, head in params.heads.items()})
    return counts
