"""Exact nearest neighbours by cosine, on the devices, in blocks of fixed shape.

Letters: Q queries, P pool, D size of a vector, K neighbours, C chunks of the pool.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from xtl.errors import XtlError

QUERIES = 1024  # of a block, on each device
POOL = 16384  # of a chunk; a block of cosines takes QUERIES x POOL x 4 bytes = 64 MiB


def nearest(queries_qd: np.ndarray, pool_pd: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k pool vectors with the largest cosine to each query; see `Index`."""
    return Index(pool_pd)(queries_qd, k=k)


class Index:
    """A pool of vectors on the devices, placed once for any number of searches.

    Products are float32 on every device (TPUs would round to bfloat16). All local devices share the queries. A zero
    vector has cosine 0 to everything. XtlError for an empty pool, sizes that differ, or vectors that are not finite.
    """

    def __init__(self, pool_pd: np.ndarray):
        if not len(pool_pd):
            raise XtlError("nearest-neighbour search: the pool is empty")
        if pool_pd.ndim != 2:
            raise XtlError(f"nearest-neighbour search: the pool has shape {pool_pd.shape}")
        self.size, self.width = pool_pd.shape
        chunk = min(POOL, _power(self.size))
        chunks = -(-self.size // chunk)
        padded = np.zeros((chunks * chunk, self.width), np.float32)
        padded[: self.size] = unit(pool_pd)
        self.mesh = Mesh(np.array(jax.local_devices()), ("queries",), axis_types=(AxisType.Auto,))
        with jax.set_mesh(self.mesh):
            replicated = NamedSharding(self.mesh, PartitionSpec())
            self.pool_cpd = jax.device_put(padded.reshape(chunks, chunk, -1), replicated)

    def __call__(self, queries_qd: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k pool vectors with the largest cosine to each query, best first; of equals the one that stands first.

        Returns indices int64 [Q, k] and cosines float32 [Q, k]; k is lowered to P where the pool is smaller.
        """
        if queries_qd.ndim != 2 or queries_qd.shape[1] != self.width:
            shapes = f"{queries_qd.shape} and {(self.size, self.width)}"
            raise XtlError(f"nearest-neighbour search: vectors of shapes {shapes}")
        k, queries_qd, devices = min(k, self.size), unit(queries_qd), self.mesh.size
        block = min(QUERIES, _power(-(-len(queries_qd) // devices))) * devices
        blocks: list[tuple[np.ndarray, np.ndarray]] = []
        with jax.set_mesh(self.mesh):
            for start in range(0, len(queries_qd), block):
                part = queries_qd[start : start + block]
                rows = np.zeros((block, part.shape[1]), np.float32)
                rows[: len(part)] = part
                placed = jax.device_put(rows, NamedSharding(self.mesh, PartitionSpec("queries")))
                index_qk, cosine_qk = jax.device_get(_search(placed, self.pool_cpd, self.size, k=k))
                blocks.append((index_qk[: len(part)].astype(np.int64), cosine_qk[: len(part)]))
        if not blocks:
            return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
        indices, cosines = zip(*blocks, strict=True)
        return np.concatenate(indices), np.concatenate(cosines)


def unit(vectors_xd: np.ndarray) -> np.ndarray:
    """Vectors of length 1 (zero vectors stay zero), float32."""
    vectors_xd = np.asarray(vectors_xd, np.float32)
    norm_x1 = np.linalg.norm(vectors_xd, axis=1, keepdims=True)
    if not np.isfinite(norm_x1).all():
        raise XtlError(f"{int((~np.isfinite(norm_x1)).sum())} of {len(vectors_xd)} sentence vectors are not finite")
    return vectors_xd / np.where(norm_x1 > 0, norm_x1, 1)


def _power(n: int) -> int:
    """The smallest power of two >= n, so that few shapes are compiled."""
    return 1 << max(n - 1, 0).bit_length()


@functools.partial(jax.jit, static_argnames="k")
def _search(queries_qd: jax.Array, pool_cpd: jax.Array, size: jax.Array, *, k: int) -> tuple[jax.Array, jax.Array]:
    chunk = pool_cpd.shape[1]

    def scan(best: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]) -> tuple[tuple, None]:
        pool_pd, begin = part
        cosine_qp = jnp.einsum("qd,pd->qp", queries_qd, pool_pd, precision=jax.lax.Precision.HIGHEST)
        cosine_qp = jnp.where(begin + jnp.arange(chunk) < size, cosine_qp, -jnp.inf)
        here_qk, at_qk = jax.lax.top_k(cosine_qp, min(k, chunk))
        # The best so far come first, so that of equal cosines the earlier one stays.
        cosine = jnp.concatenate([best[1], here_qk], axis=1)
        index = jnp.concatenate([best[0], begin + at_qk], axis=1)
        cosine_qk, order_qk = jax.lax.top_k(cosine, k)
        return (jnp.take_along_axis(index, order_qk, axis=1), cosine_qk), None

    start = jnp.zeros((len(queries_qd), k), jnp.int32), jnp.full((len(queries_qd), k), -jnp.inf, jnp.float32)
    return jax.lax.scan(scan, start, (pool_cpd, chunk * jnp.arange(len(pool_cpd))))[0]
