"""Promises: AdamW as the reference has it, the published schedules, decay on the right weights, clipping over all."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xtl.errors import XtlError
from xtl.models.encoder import encoder_config
from xtl.tasks import catalog
from xtl.training import optim, state

SETTINGS = {
    "learning_rate": 0.1,
    "warmup": 4,
    "steps": 20,
    "decay": "linear",
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "b1": 0.9,
    "b2": 0.98,
    "eps": 1e-6,
}


def hyper(**changes):
    return optim.hyper(SimpleNamespace(**(SETTINGS | changes)))


def rates(**changes):
    settings = hyper(**changes)
    return [float(optim.learning_rate(settings, jnp.int32(step))) for step in range(int(settings["total_steps"]) + 2)]


def test_linear_warmup_and_decay_are_the_reference_schedule():
    expected = [0.1 * (s / 4 if s < 4 else max(0, (20 - s) / 16)) for s in range(22)]
    assert rates() == pytest.approx(expected, abs=1e-8)


def test_cosine_and_constant_decay():
    cosine = [0.1 * (s / 4 if s < 4 else 0.5 * (1 + math.cos(math.pi * min(1, (s - 4) / 16)))) for s in range(22)]
    assert rates(decay="cosine") == pytest.approx(cosine, abs=1e-8)
    assert rates(decay="constant") == pytest.approx([0.1 * min(1, s / 4) for s in range(22)], abs=1e-8)


def test_a_fractional_warmup_is_a_share_of_the_steps_and_none_starts_at_full_rate():
    assert rates(warmup=0.2) == rates(warmup=4)
    assert rates(warmup=0)[0] == pytest.approx(0.1)


def test_an_unknown_decay_is_an_error_that_suggests_the_nearest():
    with pytest.raises(XtlError, match="Did you mean 'cosine'"):
        hyper(decay="cosin")


def adamw_by_hand(params, grads_of_steps, *, head_from: int):
    """PyTorch's AdamW with clip_grad_norm_, in NumPy, in float64; a part without gradients has no update at all."""
    p = {k: np.array(v, np.float64) for k, v in params.items()}
    m, v = ({k: np.zeros_like(x) for k, x in p.items()} for _ in range(2))
    count = dict.fromkeys(p, 0)
    for step, grads in enumerate(grads_of_steps):
        active = {k: g for k, g in grads.items() if not (k.startswith("head") and step < head_from)}
        norm = math.sqrt(sum((np.array(g, np.float64) ** 2).sum() for g in active.values()))
        for k, g in active.items():
            g = np.array(g, np.float64) * min(1.0, 1.0 / norm)
            count[k] += 1
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.98 * v[k] + 0.02 * g * g
            update = (m[k] / (1 - 0.9 ** count[k])) / (np.sqrt(v[k] / (1 - 0.98 ** count[k])) + 1e-6)
            decay = 0.0 if k.endswith("bias") else 0.1
            p[k] -= 0.1 * min(1, step / 4) * (update + decay * p[k])
    return p


def test_updates_are_adamw_s_with_each_part_counting_its_own_steps():
    rng = np.random.default_rng(0)
    shapes = {"encoder/kernel": (3, 4), "encoder/bias": (4,), "head/kernel": (4, 2)}
    flat = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    grads = [{k: rng.normal(size=s).astype(np.float32) * 3 for k, s in shapes.items()} for _ in range(5)]
    tree = lambda x: {
        "encoder": {"kernel": x["encoder/kernel"], "bias": x["encoder/bias"]},
        "heads": {"t": {"kernel": x["head/kernel"]}},
    }
    params = jax.tree.map(jnp.asarray, tree(flat))
    moments = {"encoder": optim.init(params["encoder"]), "heads": {"t": optim.init(params["heads"]["t"])}}
    settings = hyper(decay="constant")
    no_head = lambda t: {**t, "heads": {}}
    for step, g in enumerate(grads):
        rate = optim.learning_rate(settings, jnp.int32(step))
        whole = tree(g)
        if step < 2:  # another task's turn: this head is not there
            p, o, _ = optim.update(no_head(whole), no_head(moments), no_head(params), hyper=settings, rate=rate)
            params, moments = {**params, "encoder": p["encoder"]}, {**moments, "encoder": o["encoder"]}
        else:
            params, moments, seen = optim.update(whole, moments, params, hyper=settings, rate=rate)
            norm = math.sqrt(sum(float((np.float64(x) ** 2).sum()) for x in g.values()))
            assert float(seen["grad_norm"]) == pytest.approx(norm, rel=1e-6)
    expected = adamw_by_hand(flat, grads, head_from=2)
    np.testing.assert_allclose(params["encoder"]["kernel"], expected["encoder/kernel"], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(params["encoder"]["bias"], expected["encoder/bias"], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(params["heads"]["t"]["kernel"], expected["head/kernel"], rtol=2e-5, atol=1e-6)


def test_clipping_can_be_turned_off():
    params = {"encoder": {"kernel": jnp.zeros(2)}, "heads": {}}
    grads = {"encoder": {"kernel": jnp.array([30.0, 40.0])}, "heads": {}}
    moments = {"encoder": optim.init(params["encoder"]), "heads": {}}
    for clip, mu in ((0.0, [3.0, 4.0]), (5.0, [0.3, 0.4])):
        _, got, _ = optim.update(grads, moments, params, hyper=hyper(clip_norm=clip), rate=jnp.float32(0.1))
        np.testing.assert_allclose(got["encoder"].mu["kernel"], mu, rtol=1e-6)


def test_the_decay_rules_cover_every_weight_of_the_encoder_and_of_every_head():
    tasks = {task.family: task for task in catalog().values()}
    for norm in ("post", "pre"):
        config = encoder_config("tiny", vocab_size=64, norm=norm)
        params = state.shapes(config, tuple(tasks.values())).params
        mask = {optim.path_name(p): d for p, d in jax.tree_util.tree_leaves_with_path(optim.decay_mask(params))}
        assert mask["encoder/layers/mlp/wi/kernel"] and mask["encoder/embed/token"]
        exempt = {name for name, decays in mask.items() if not decays}
        assert all(name.endswith(("bias", "scale")) for name in exempt)
        assert not any(name.endswith(("bias", "scale")) for name in mask if name not in exempt)


def test_a_weight_that_no_rule_covers_is_an_error_that_names_it():
    with pytest.raises(XtlError, match="encoder/adapter/gate"):
        optim.decay_mask({"encoder": {"adapter": {"gate": jnp.zeros(3)}}})
