"""Which example comes when: pure functions of (seed, position), so that resuming is only a number.

Nothing here depends on the number of hosts, on threads, or on what was drawn before.
"""

import functools
from collections.abc import Sequence

import numpy as np


def mix(*words: int | np.ndarray) -> np.ndarray:
    """A 64-bit hash of integers, element by element over arrays: where all randomness of the data comes from.

    Each word is stirred in by the finaliser of splitmix64 (Steele et al. 2014; the constants are its own), so that
    neighbouring steps, examples and seeds give unrelated bits.
    """
    z: np.ndarray = np.asarray(0x9E3779B97F4A7C15, np.uint64)
    with np.errstate(over="ignore"):
        for word in words:
            z = (z ^ np.asarray(word).astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(32))
    return z


def uniform(*words: int | np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) addressed by integers."""
    return (mix(*words) >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def generator(*words: int) -> np.random.Generator:
    """A NumPy generator addressed by integers."""
    return np.random.Generator(np.random.Philox(key=int(mix(*words))))


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return generator(seed, epoch, size).permutation(size)


class Order:
    """The endless order of the examples of several parts (languages).

    Without weights: the parts are one pool, shuffled anew each epoch, every example once per epoch. With weights: the
    part is drawn by weight and the example uniformly within it (with replacement), as language sampling with an
    exponent needs, where small languages repeat and large ones are never exhausted.
    """

    def __init__(self, sizes: Sequence[int], *, seed: int, weights: Sequence[float] | None = None):
        self.sizes, self.seed = np.asarray(sizes, np.int64), seed
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.shares = None if weights is None else np.cumsum(np.asarray(weights, float)) / float(np.sum(weights))

    @property
    def epoch_size(self) -> int:
        return int(self.starts[-1])

    def __call__(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(part, index within the part) of the examples at positions first .. first + count - 1."""
        k = np.arange(first, first + count, dtype=np.int64)
        if self.shares is None:
            pooled = np.empty(count, np.int64)
            epochs = k // self.epoch_size
            for epoch in np.unique(epochs):
                of_epoch = epochs == epoch
                pooled[of_epoch] = _permutation(self.seed, int(epoch), self.epoch_size)[
                    k[of_epoch] - epoch * self.epoch_size
                ]
            part = np.searchsorted(self.starts, pooled, side="right") - 1
            return part, pooled - self.starts[part]
        part = np.searchsorted(self.shares, uniform(self.seed, 1, k), side="right").clip(0, len(self.sizes) - 1)
        return part, (uniform(self.seed, 2, k) * self.sizes[part]).astype(np.int64)


def exponent_weights(sizes: Sequence[int], exponent: float) -> np.ndarray:
    """Language sampling p_l ~ n_l ** exponent (XLM-R: 0.3); an empty language gets 0."""
    sizes_array = np.asarray(sizes, float)
    weights = np.where(sizes_array > 0, np.maximum(sizes_array, 1) ** exponent, 0.0)
    return weights / weights.sum()


def task_of_step(weights: Sequence[float], *, steps: int, seed: int) -> np.ndarray:
    """The task trained at each step, int [steps]: one draw per step, addressed by (seed, step)."""
    if len(weights) == 1:
        return np.zeros(steps, np.int64)
    shares = np.cumsum(np.asarray(weights, float)) / float(np.sum(weights))
    drawn = uniform(seed, 3, np.arange(steps))
    return np.searchsorted(shares, drawn, side="right").clip(0, len(weights) - 1)
