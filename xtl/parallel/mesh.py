"""Mesh, and the one table from logical axis names to mesh axes.

Weights and activations name their dimensions logically ("embed", "heads", "rows"); only this file says which mesh axis
that is. Mesh axes: "data" (replicas of the weights), "fsdp" (weights and rows split), "tensor" (heads, mlp and
vocabulary split).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from xtl.errors import XtlError, nearest

AXES = ("data", "fsdp", "tensor")

RULES: dict[str, str | tuple[str, ...] | None] = {
    # weights
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    # activations
    "rows": ("data", "fsdp"),
    "lookup_rows": "data",  # the token lookup keeps the table's split of "embed": each device reads its own columns
}

# 250,002 = 2 x 3 x 41,667 word pieces: most tensor splits do not divide it, and then the table stays whole there.
MAY_STAY_WHOLE = ("vocab",)


# ---------------------------------------------------------------- mesh


def make_mesh(shape: Mapping[str, int] | Sequence[int] = (-1, 1, 1), *, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of the given (data, fsdp, tensor) sizes; one of them may be -1: all devices that remain.

    `shape` is a mapping (absent axes are 1; "data" absent and nothing else -1: the rest) or three numbers. Devices of
    several TPU slices are laid out with the data axis over the slow network between slices. Raises XtlError when the
    sizes do not make up the devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if isinstance(shape, Mapping):
        for name in shape:
            if name not in AXES:
                raise XtlError(f"mesh: unknown axis {name!r}.{nearest(name, AXES)}")
        rest = 1 if -1 in shape.values() else -1
        shape = [shape.get("data", rest), shape.get("fsdp", 1), shape.get("tensor", 1)]
    sizes = _fill(list(shape), len(devices))
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1:
        if sizes[0] % slices:
            raise XtlError(f"mesh: data={sizes[0]} must be a multiple of the {slices} slices")
        inner = (sizes[0] // slices, *sizes[1:])
        grid = mesh_utils.create_hybrid_device_mesh(inner, (slices, 1, 1), devices, allow_split_physical_axes=True)
    else:
        grid = mesh_utils.create_device_mesh(tuple(sizes), devices, allow_split_physical_axes=True)
    return Mesh(np.asarray(grid), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _fill(sizes: list[int], devices: int) -> list[int]:
    named = "x".join(map(str, sizes))
    if len(sizes) != len(AXES) or sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise XtlError(f"mesh {named}: give {', '.join(AXES)} as positive numbers, at most one of them -1 (the rest)")
    known = math.prod(size for size in sizes if size != -1)
    if devices % known or (-1 not in sizes and known != devices):
        raise XtlError(f"mesh {named} ({', '.join(AXES)}) does not make up {devices} devices; use -1 for the rest")
    return [devices // known if size == -1 else size for size in sizes]


# ---------------------------------------------------------------- shardings


def spec(
    axes: Sequence[str | None], shape: Sequence[int], mesh: Mesh | AbstractMesh, *, what: str = "array"
) -> PartitionSpec:
    """The partition of an array whose dimensions have these logical names. `what` names it in errors."""
    parts: list[str | tuple[str, ...] | None] = []
    for axis, size in zip(axes, shape, strict=True):
        if axis is not None and axis not in RULES:
            raise XtlError(f"{what}: unknown logical axis {axis!r}.{nearest(axis, RULES)}")
        rule = None if axis is None else RULES[axis]
        ways = math.prod(mesh.shape[name] for name in ((rule,) if isinstance(rule, str) else rule or ()))
        if size % ways and axis not in MAY_STAY_WHOLE:
            raise XtlError(f"{what}: {axis}={size} cannot be split {ways} ways over {rule}; change the mesh")
        parts.append(None if ways == 1 or size % ways else rule)
    return PartitionSpec(*parts)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """The same tree with a NamedSharding in the place of every array.

    `tree` holds arrays or shapes (from jax.eval_shape) in nnx variables that carry `axes`, as the models create them
    and an optimizer state mirrors them; everything else (step, counts) is replicated. One call serves as out_shardings
    of the initialisation and of the step, and as restore target.
    """

    def of(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, nnx.Variable):
            return NamedSharding(mesh, PartitionSpec())
        value, what = leaf.get_value(), jax.tree_util.keystr(path, simple=True, separator="/")
        axes = leaf.get_metadata().get("axes")
        if axes is None:
            raise XtlError(f"{what}: this weight has no logical axes; create it with xtl.models.layers.param")
        if not hasattr(value, "shape"):  # an optimizer keeps no moment here (optax.MaskedNode)
            return leaf
        return leaf.replace(NamedSharding(mesh, spec(axes, value.shape, mesh, what=what)))

    return jax.tree_util.tree_map_with_path(of, tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def batch_shardings(batch: Mapping[str, Any], mesh: Mesh, *, accumulate: int = 1) -> dict[str, NamedSharding]:
    """One sharding for each batch array, by the dims in its name: rows (`_r...`) are split, examples (`_e...`) are not.

    With accumulate > 1 every array has a leading micro-batch dimension, which is never split.
    """
    layout = {}
    for name, array in batch.items():
        dims = name.rpartition("_")[2]
        if dims[:1] not in ("r", "e"):
            raise XtlError(
                f"batch array {name!r}: its name must end in its dims, starting with r (rows) or e (examples)"
            )
        lead: tuple[str | None, ...] = (None,) if accumulate > 1 else ()
        axes = (*lead, "rows" if dims[0] == "r" else None)
        shape = tuple(array.shape[: len(axes)])
        layout[name] = NamedSharding(mesh, spec(axes, shape, mesh, what=f"batch array {name!r}"))
    return layout


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins the layout of an activation inside jit; dimensions beyond the given axes are not split.

    Without it the compiler may follow the weights' layout and copy activations (110 GB per chip for XL on 256).
    Outside `jax.set_mesh`, and on one device, x is returned as it is.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or not mesh.are_all_axes_auto:  # inside shard_map the layout is already fixed
        return x
    names = (*axes, *(None,) * (x.ndim - len(axes)))
    return jax.lax.with_sharding_constraint(x, spec(names, x.shape, mesh, what="activation"))


def product(x: jax.Array, kernel: jax.Array, axes: tuple[str | None, str | None]) -> jax.Array:
    """x W over the last dimension of x [rows, ..., in], for W [in, out] with these logical axes.

    On a mesh each device multiplies its own rows with the whole weight, gathered over fsdp for this use; the gradient
    of the weight goes back to where the weight lies. This is written out because the compiler, left to itself,
    multiplies pieces of weights around a ring of devices (four times slower for gradients, seen for large, fsdp=16)
    or reduces all gradients at once when the backward pass is over.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or not mesh.are_all_axes_auto:
        return jnp.matmul(x, kernel)
    split = tuple(name if name is not None and mesh.shape[RULES[name]] > 1 else None for name in axes)
    into, out = (None if name == "embed" else name for name in split)
    lead = ("rows", *(None,) * (x.ndim - 2))

    def local(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if "embed" in split:
            kernel = jax.lax.all_gather(kernel, RULES["embed"], axis=split.index("embed"), tiled=True)
        y = jnp.matmul(x, kernel)
        return y if into is None else jax.lax.psum(y, RULES[into])

    of_x, of_y = (
        spec((*lead, last), (*x.shape[:-1], size), mesh, what="activation")
        for last, size in ((into, kernel.shape[0]), (out, kernel.shape[1]))
    )
    of_kernel = spec(axes, kernel.shape, mesh, what="weight")
    return jax.shard_map(local, in_specs=(of_x, of_kernel), out_specs=of_y)(x, kernel)


def per_device(function: Callable, *, axes: Sequence[Sequence[str | None]], out_axes: Sequence[str | None]) -> Callable:
    """`function` run on each device's own block of its array arguments (for kernels the compiler cannot split).

    `axes` names the dimensions of each argument, `out_axes` those of the result. Outside a mesh, and on one device,
    the function itself.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or not mesh.are_all_axes_auto:
        return function

    def split(*arrays: jax.Array) -> jax.Array:
        parts = tuple(spec(a, x.shape, mesh, what="kernel argument") for a, x in zip(axes, arrays, strict=True))
        out = PartitionSpec(*(None if axis is None else RULES[axis] for axis in out_axes))
        return jax.shard_map(function, in_specs=parts, out_specs=out, check_vma=False)(*arrays)

    return split
