"""Packing changes nothing: packed and unpacked batches of the same examples give the same loss and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support.small_tokenizer import WORDS, small_tokenizer
from xtl.data.batches import TrainStream, TrainTask
from xtl.families import family
from xtl.models.encoder import Encoder, EncoderConfig
from xtl.task import Choice, Pair, Span, Tagged, Task, Text

TOKENIZER = small_tokenizer()
CONFIG = EncoderConfig(vocab_size=TOKENIZER.vocab_size, hidden=32, layers=1, heads=2, mlp=64, max_positions=66)
LENGTH = 48
RNG = np.random.default_rng(0)


def sentence(low=1, high=9):
    return " ".join(RNG.choice(WORDS, RNG.integers(low, high)))


def span(i):
    words = RNG.choice(WORDS, RNG.integers(4, 60))  # some contexts need several windows
    first = int(RNG.integers(len(words)))
    answer = " ".join(words[first : first + 2])
    return Span(str(i), sentence(), " ".join(words), ((answer, len(" ".join([*words[:first], ""]))),))


def tagged(i):
    words = tuple(RNG.choice(WORDS, RNG.integers(1, 70)))
    return Tagged(str(i), words, tuple(RNG.integers(3, size=len(words)).tolist()))


def task(name, **fields):
    return Task(name="toy", family=name, about="", languages=("en",), splits=("train",), metric="", **fields)


FAMILIES = {
    "pair": (
        task("pair", labels=("a", "b", "c")),
        [Pair(str(i), sentence(), sentence() if i % 3 else None, i % 3) for i in range(40)],
    ),
    "pair-hf": (
        task("pair", labels=("a", "b"), options={"head": "hf"}),
        [Pair(str(i), sentence(), sentence(), i % 2) for i in range(40)],
    ),
    "choice": (
        task("choice"),
        [Choice(str(i), sentence(), tuple(sentence() for _ in range(2 + i % 3)), i % 2) for i in range(40)],
    ),
    "span": (task("span", options={"stride": 8}), [span(i) for i in range(30)]),
    "tag": (task("tag", labels=("x", "y", "z")), [tagged(i) for i in range(40)]),
    "mlm": (task("mlm"), [Text(str(i), sentence(1, 30)) for i in range(40)]),
    "dual": (task("dual"), [Pair(str(i), sentence(), sentence(3, 20), None) for i in range(40)]),
}


def batches(task, examples, *, packed, accumulate=1):
    encoded = family(task).encode(task, examples, TOKENIZER, max_length=LENGTH, train=True)
    part = TrainTask(task.name, family(task), [encoded], batch_size=12, row_length=LENGTH)
    return TrainStream([part], steps=3, seed=1, tokenizer=TOKENIZER, packed=packed, slots=6, accumulate=accumulate)


def model(task):
    """(weights, function of weights and batch -> loss sum and weight); the weights depend on the task alone."""
    rngs = nnx.Rngs(params=7)
    graph, params = nnx.split((Encoder(CONFIG, rngs=rngs), family(task).head(CONFIG, task, rngs=rngs)), nnx.Param)
    # Freshly drawn matrices give gradients near the rounding error of the loss.
    params = jax.tree.map(lambda x: 6 * x if x.ndim > 1 else x, params)

    def sums(params, batch):
        encoder, head = nnx.merge(graph, params)
        hidden = encoder(batch["ids_rt"], batch["segments_rt"], batch["positions_rt"])
        return family(task).loss(head(hidden, batch, embedding=encoder.embedding, pool=encoder.pool), batch)

    return params, sums


def loss_and_gradients(task, batch):
    params, sums = model(task)

    def mean(params, batch):
        loss, weight = sums(params, batch)
        return loss / weight, weight

    (loss, weight), gradients = jax.jit(jax.value_and_grad(mean, has_aux=True))(params, batch)
    return loss, weight, jax.tree.leaves(gradients)


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_and_unpacked_batches_give_the_same_loss_and_gradients(name):
    task, examples = FAMILIES[name]
    packed, plain = (batches(task, examples, packed=p)[1][1] for p in (True, False))
    assert len(packed["ids_rt"]) < len(plain["ids_rt"]), "nothing was packed"
    loss, weight, gradients = loss_and_gradients(task, packed)
    expected_loss, expected_weight, expected = loss_and_gradients(task, plain)
    assert weight == expected_weight > 0
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    scale = max(float(jnp.abs(g).max()) for g in expected)
    assert scale > 0
    for g, e in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("name", ["choice", "span"])
def test_sums_of_micro_batches_are_the_sum_of_the_batch(name):
    task, examples = FAMILIES[name]
    _, whole = batches(task, examples, packed=True)[0]
    _, parts = batches(task, examples, packed=True, accumulate=3)[0]
    params, sums = model(task)
    sums = jax.jit(sums)
    loss, weight = sums(params, whole)
    each = [sums(params, {k: v[a] for k, v in parts.items()}) for a in range(3)]
    assert sum(w for _, w in each) == weight
    np.testing.assert_allclose(sum(x for x, _ in each), loss, rtol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_have_float32_logits_and_drop_only_with_a_key(name):
    task, examples = FAMILIES[name]
    _, batch = batches(task, examples, packed=True)[0]
    config = EncoderConfig(**{**vars(CONFIG), "dtype": "bfloat16"})
    head = family(task).head(config, task, rngs=nnx.Rngs(params=0))
    hidden = jax.random.normal(jax.random.key(0), (*batch["ids_rt"].shape, CONFIG.hidden), jnp.bfloat16)
    table = jax.random.normal(jax.random.key(1), (CONFIG.vocab_size, CONFIG.hidden))

    def logits(key):
        return jax.tree.leaves(head(hidden, batch, embedding=table, key=key, pool=jnp.tanh))[0]

    assert logits(None).dtype == jnp.float32
    assert (logits(None) == logits(None)).all()
    dropped = logits(jax.random.key(2))
    assert (dropped == logits(None)).all() == (name in ("span", "mlm", "dual")), "only these heads have no dropout"
