"""Mixtures as they are trained: shares of the steps, of the languages, batch sizes of their own, one draw a step."""

from collections import Counter

import jax
import numpy as np
import pytest

from tests.support.stages import MNLI, stage
from xtl.config import schema
from xtl.config.completion import task_weights, with_steps
from xtl.config.recipes import PAPER, intermediate
from xtl.data import order

# Training examples of the nine tasks, as the paper's weights count them: at most 2**17 a task.
SIZES = {
    "anli_plus": 1_104_934,
    "mnli": 392_702,
    "qqp": 363_846,
    "squad_v2": 130_319,
    "squad_v1": 87_599,
    "hellaswag": 39_905,
    "ccg": 38_015,
    "cosmosqa": 25_262,
    "commonsenseqa": 9_741,
}
CAPPED = {name: min(size, 131_072) for name, size in SIZES.items()}
BATCHES = {name: size / PAPER[name][0] for name, size in CAPPED.items()}


def complete(fields):
    """What `task_weights` reads of a stage."""
    return schema.read(schema.Stage, {"tasks": fields["tasks"], "train": fields["train"]}, where="stage")


def drawn(shares, steps=40_000, seed=3):
    tasks = order.task_of_step(list(shares.values()), steps=steps, seed=seed)
    return {name: float(np.mean(tasks == i)) for i, name in enumerate(shares)}


def test_the_papers_nine_tasks_are_drawn_by_size_up_to_the_cap():
    shares = task_weights(complete(intermediate(PAPER)), SIZES)
    whole = sum(BATCHES.values())
    assert shares == pytest.approx({name: batches / whole for name, batches in BATCHES.items()})
    assert shares["anli_plus"] == shares["mnli"] == shares["qqp"]
    observed = drawn(shares)
    for name in PAPER:
        assert observed[name] == pytest.approx(shares[name], abs=0.01)


@pytest.mark.parametrize("mlm", [False, True])
def test_an_epoch_of_the_papers_mixture_is_one_pass_over_every_task_up_to_the_cap(mlm):
    fields, sizes = complete(intermediate(PAPER, mlm=mlm)), {**SIZES, "mlm": 10**6}
    steps, shares = with_steps(fields, sizes).train.steps, task_weights(fields, sizes)
    for name, size in CAPPED.items():
        assert steps * shares[name] * PAPER[name][0] / size == pytest.approx(3.0, rel=1e-3)


def test_tasks_of_one_batch_size_are_drawn_by_size_as_jiant_does():
    fields = complete({"tasks": {"mnli": {}, "qqp": {}}, "train": {}})
    assert task_weights(fields, {"mnli": 900, "qqp": 100}) == pytest.approx({"mnli": 0.9, "qqp": 0.1})


def test_mlm_takes_its_own_share_whatever_its_size():
    fields = complete(intermediate(PAPER, mlm=True))
    for documents in (10, 10**9):
        shares = task_weights(fields, {**SIZES, "mlm": documents})
        assert shares["mlm"] == pytest.approx(0.2)
        assert shares["mnli"] == pytest.approx(0.8 * BATCHES["mnli"] / sum(BATCHES.values()))
    assert drawn(shares)["mlm"] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    "sampling, expected",
    [
        ({"kind": "temperature", "temperature": 2.0}, {"mnli": 3 / 4, "qqp": 1 / 4}),
        ({"kind": "temperature", "temperature": 2.0, "cap": 100}, {"mnli": 1 / 2, "qqp": 1 / 2}),
        ({"kind": "uniform"}, {"mnli": 1 / 2, "qqp": 1 / 2}),
        ({"kind": "given"}, {"mnli": 0.3, "qqp": 0.7}),
    ],
)
def test_the_kinds_of_sampling(sampling, expected):
    weight = {"mnli": 0.3, "qqp": 0.7} if sampling["kind"] == "given" else {"mnli": 0.0, "qqp": 0.0}
    fields = {"tasks": {name: {"weight": weight[name]} for name in weight}, "train": {"sampling": sampling}}
    shares = task_weights(complete(fields), {"mnli": 900, "qqp": 100})
    assert shares == pytest.approx(expected) and drawn(shares) == pytest.approx(expected, abs=0.01)


def test_languages_are_drawn_by_their_exponent():
    sizes = [100_000, 1_000, 10]
    for exponent in (0.0, 0.3, 1.0):
        weights = order.exponent_weights(sizes, exponent)
        assert weights == pytest.approx(np.array(sizes) ** exponent / (np.array(sizes) ** exponent).sum())
        part, index = order.Order(sizes, seed=1, weights=weights)(0, 50_000)
        counts = Counter(part.tolist())
        assert [counts[i] / 50_000 for i in range(3)] == pytest.approx(weights, abs=0.01)
        assert all(index[part == i].max(initial=0) < sizes[i] for i in range(3))


def test_every_task_has_its_own_batch_size_and_one_shape(tmp_path):
    from xtl.parallel.mesh import make_mesh
    from xtl.training.setup import gather, prepare

    tasks = {
        **MNLI,
        "udpos": {"batch_size": 4, "max_length": 48},
        "mlm": {"batch_size": 6, "max_length": 48, "weight": 0.25},
    }
    resolved = stage(tmp_path, tasks=tasks, train={"steps": 200, "sampling": {"kind": "uniform"}})
    run = prepare(resolved, tmp_path, mesh=make_mesh((1, 1, 1), devices=jax.devices()[:1]))
    stream = gather(run)[1].stream
    assert [len(shapes) for shapes in stream.shapes] == [1, 1, 1]  # so each compiles once
    seen = Counter(stream.task_name(i) for i in range(200))
    assert seen["mlm"] / 200 == pytest.approx(0.25, abs=0.08) and seen["mnli"] / 200 == pytest.approx(0.375, abs=0.09)
    for i in range(12):
        name, batch = stream[i]
        assert batch["weight_e"].sum() == tasks[name]["batch_size"]
