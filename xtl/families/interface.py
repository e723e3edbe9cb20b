"""What the family modules (pair, choice, span, tag, mlm, retrieve, dual) have in common.

A family is a module with these functions; `options` are the task's own options with those of the stage laid over them.
  encode(task, examples, tokenizer, *, max_length, train, **options) -> Encoded: tokens and label columns
  Head(config, task, *, rngs)(hidden_rtd, batch, embedding, key, pool=) -> logits; no key: no dropout. Not in retrieve
  loss(logits, batch) -> (sum, weight), float32 scalars
  outputs(logits, batch, **options) -> {"name_dims": array}: on the device, what decode needs, small
  decode(task, examples, encoded, outputs, **options) -> predictions, on the host
  score(task, language, examples, predictions, *, gold, **options) -> {"metric": 0..100, ..., "n": count}
  written(predictions, **options) -> what a predictions file holds. Not in mlm
mlm has besides augment(ids, rng, tokenizer), called at every visit of a segment, and finish(batch, shape).

Columns of Encoded whose names begin with "_" serve decode alone; batches need not carry them. `_example` says which of
the examples a segment belongs to, where an example can have several.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Batch = Mapping[str, Any]  # arrays on the device, by name_dims
Outputs = Mapping[str, np.ndarray]  # of a whole set, in the order of Encoded, by name_dims
Pool = Callable[[jax.Array], jax.Array]  # the encoder's pooler
Gold = Sequence[tuple[str, str]]  # (query id, pool id)

NEVER = -1e30  # the logit of what cannot be chosen; finite, so that gradients stay finite


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(logits)[label] over the last dimension, float32; where the label is negative: of class 0."""
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - picked


def weighted(losses: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(sum of losses x weights, sum of weights), float32 scalars.

    Sums, never means: the step divides by the weight of the whole global batch, so that neither padding nor
    accumulation changes the loss.
    """
    return jnp.sum(losses * weights), jnp.sum(weights)
