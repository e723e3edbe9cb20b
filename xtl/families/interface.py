"""What a task family is: the class `Family`, one subclass per file of this package, one instance (`FAMILY`) per file.

Everything that other rooms need to know about a family is a fact or a method of its class. The options of a stage are
laid over those of the task before a family sees it (`xtl.task.with_options`), so a family reads `task.options` alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from xtl.data.rows import Batch as HostBatch
from xtl.data.rows import Column, Encoded, RowShape, Segment
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.families.nearest import Index
from xtl.models.encoder import EncoderConfig
from xtl.task import Loaded, Task

Batch = Mapping[str, jax.Array]  # on the device, by name_dims
Outputs = Mapping[str, np.ndarray]  # of a whole set, in the order of Encoded, by name_dims
Pool = Callable[[jax.Array], jax.Array]  # the encoder's pooler
Gold = Sequence[tuple[str, str]]  # (query id, pool id)
Scores = Mapping[str, float]

ExampleT = TypeVar("ExampleT")
LogitsT = TypeVar("LogitsT")
PredictionT = TypeVar("PredictionT")


@dataclass(frozen=True)
class SharedPool:
    """One pool for the queries of all languages: ids of its texts, and their vectors, ready to be searched."""

    ids: tuple[str, ...]
    index: Index


NEVER = -1e30  # the logit of what cannot be chosen; finite, so that gradients stay finite


class Family(Generic[ExampleT, LogitsT, PredictionT]):
    """How examples of one kind become tokens, logits, a loss, predictions and scores. Instances hold no state.

    Columns of `Encoded` whose names begin with "_" serve `decode` alone and never reach a batch. `_example` says which
    of the examples a segment belongs to, where an example can have several.
    """

    # ---------------------------------------------------------------- facts

    label_columns: ClassVar[tuple[str, ...]] = ()  # of a batch, int32, by name_dims
    segments: ClassVar[int] = 1  # per example; where the data decides, the usual number
    few_labels: ClassVar[bool] = False  # predicts one of a few labels, so it can collapse onto the most frequent
    has_head: ClassVar[bool] = True  # weights of its own on top of the encoder
    head_of_encoder: ClassVar[bool] = False  # the head was pretrained with the encoder, and training goes on from it
    whole_pool: ClassVar[bool] = False  # scored against all texts of a set, so that a part of them is another task
    english_pool: ClassVar[bool] = False  # queries of a language against a pool of English texts
    judges: ClassVar[bool] = True  # whether a checkpoint is selected by its dev score, when there are other tasks
    predicted: ClassVar[float] = 0.0  # share of the tokens that go through the vocabulary product, for FLOPs
    counterpart: ClassVar[str] = ""  # transformers' class with the same head, after XLMRoberta; "": there is none
    counterpart_options: ClassVar[Mapping[str, Any]] = {}  # with which a task's head is that of the class

    # ---------------------------------------------------------------- examples -> tokens -> batches

    def encode(
        self, task: Task, examples: Sequence[ExampleT], tokenizer: Tokenizer, *, max_length: int, train: bool
    ) -> Encoded:
        """Tokens and label columns. XtlError for examples that cannot be trained on, or do not fit max_length."""
        raise NotImplementedError

    def augment(self, segments: list[Segment], address: Sequence[int], tokenizer: Tokenizer | None) -> list[Segment]:
        """The segments of one example at one visit; whatever is random is addressed by the integers `address`."""
        return segments

    def finish(self, batch: HostBatch, shape: RowShape) -> HostBatch:
        """A batch as the device gets it."""
        return batch

    def columns(self, shape: RowShape) -> dict[str, Column]:
        """(shape, dtype) of every label array that batches of this shape carry, in training and evaluation."""
        return {name: (shape.sizes(name), "int32") for name in self.label_columns}

    # ---------------------------------------------------------------- tokens -> logits -> loss

    def head(self, config: EncoderConfig, task: Task, *, rngs: nnx.Rngs) -> nnx.Module:
        """The module head(hidden_rtd, batch, embedding=, key=, pool=) -> logits; without a key there is no dropout."""
        raise NotImplementedError

    def loss(self, logits: LogitsT, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """(sum of losses, sum of weights), float32 scalars."""
        raise NotImplementedError

    def outputs(self, task: Task, logits: LogitsT, batch: Batch) -> dict[str, jax.Array]:
        """What `decode` needs, by name_dims; computed on the device, to be small."""
        raise NotImplementedError

    # ---------------------------------------------------------------- logits -> predictions -> scores

    def decode(
        self, task: Task, examples: Sequence[ExampleT], encoded: Encoded, outputs: Outputs
    ) -> Sequence[PredictionT]:
        """Predictions on the host, in the order of the examples (retrieval: of the queries)."""
        raise NotImplementedError

    def shared_pool(self, task: Task, parts: Iterable[tuple[Loaded, Outputs]]) -> SharedPool:
        """The pool of a task whose languages have one in common (`Task.pool`), from the sets that hold its texts."""
        raise NotImplementedError

    def rank(self, task: Task, loaded: Loaded, outputs: Outputs, pool: SharedPool) -> Sequence[PredictionT]:
        """What `decode` is to a set with a pool of its own: predictions for the queries of one language."""
        raise NotImplementedError

    def score(
        self,
        task: Task,
        language: str,
        loaded: Loaded,
        predictions: Sequence[PredictionT],
        carried: Scores | None = None,
    ) -> dict[str, float]:
        """{"metric": 0..100, ..., "n": count} over what has labels; {"n": 0} where nothing has.

        carried: what `carry` kept of the scores of the same language in `reference_split`.
        """
        raise NotImplementedError

    def reference_split(self, task: Task, split: str) -> str:
        """The split that must be evaluated before this one, because it decides how this one is scored; "" for none."""
        return ""

    def carry(self, scores: Scores) -> Scores:
        """What of the scores of the reference split goes on to `score`."""
        return {}

    def details(self, task: Task, loaded: Loaded, outputs: Outputs) -> dict[str, Any]:
        """More of one language for eval/<task>.json, as plain values: {name of the section: content}."""
        return {}

    # ---------------------------------------------------------------- what others read

    def file_kind(self, task: Task) -> str:
        """The kind of the predictions files (see xtl.benchmark.prediction_files); "" where none are written."""
        raise NotImplementedError

    def file_content(self, predictions: Sequence[PredictionT], scores: Scores) -> Sequence[Any]:
        """What `xtl.benchmark.submission.write_predictions` takes. scores: of the same predictions."""
        return predictions

    def setting(self, task: Task, layers: int) -> str:
        """How the scores were made, where that decides much and so must stand beside them; "" elsewhere.

        layers: of the encoder.
        """
        return ""

    def head_of_transformers(self, task: Task) -> str:
        """The class of transformers, after XLMRoberta, whose head computes the same. XtlError where there is none."""
        if not self.counterpart:
            raise XtlError(f"the head of {task.name} (family {task.family}) has no counterpart in transformers")
        for name, value in self.counterpart_options.items():
            if task.options.get(name) != value:
                raise XtlError(
                    f"the head of {task.name} has the pooler below its dense layer, as in jiant, and so no counterpart "
                    f"in transformers; one trained with tasks.{task.name}.options.{name}={value} has"
                )
        return self.counterpart


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
