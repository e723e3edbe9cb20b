"""What a stage costs: three forwards to train, one to evaluate, over the tokens of its data, counted or estimated."""

import pytest

from tests.support.fake_training import small_graph
from xtl.models import flops
from xtl.runs import cost
from xtl.runs.cost import Sizes
from xtl.tasks import get_task


@pytest.fixture(scope="module")
def graph():
    return small_graph()


def only(**sizes):
    """A measure that knows the sizes of these tasks alone."""
    return lambda use: sizes.get(use.task.name)


def test_training_is_three_forwards_of_what_the_steps_see_and_evaluation_one_of_the_whole_set(graph):
    unit = graph.unit("none-xnli")
    encoder, batch = unit.stage.encoder, unit.stage.tasks["mnli"].batch_size
    trained, evaluated = Sizes(1000, 20.0, 400.0), Sizes(300, 10.0, 100.0)
    total = cost.unit_cost(unit, only(mnli=trained, xnli=evaluated))
    seen = 10 * batch
    assert (total.steps, total.examples, total.tokens) == (10, seen + 300, seen * 20 + 300 * 10)
    training = flops.train_flops(encoder, tokens=seen * 20, token_pairs=seen * 400)
    assert total.flops == training + flops.forward_flops(encoder, tokens=3000, token_pairs=30_000)


def test_without_the_size_of_its_data_a_stage_of_given_steps_is_costed_by_typical_lengths(graph):
    unit = graph.unit("none-xnli")
    entry = unit.stage.tasks["mnli"]
    total = cost.unit_cost(unit, only())
    assert total.steps == 10 and total.tokens == 10 * entry.batch_size * cost.TYPICAL * entry.max_length


def test_a_stage_that_only_evaluates_costs_its_forwards(graph):
    unit = graph.unit("none-tatoeba")
    total = cost.unit_cost(unit, only(tatoeba=Sizes(50, 8.0, 64.0)))
    assert (total.steps, total.examples) == (0, 50)
    assert total.flops == flops.forward_flops(unit.stage.encoder, tokens=400, token_pairs=3200)


def test_examples_of_several_segments_are_typically_that_much_longer():
    pair, choice = (cost.typical(get_task(name), 7, 100) for name in ("mnli", "copa"))
    assert pair == Sizes(7, 50.0, 2500.0)
    assert choice.tokens > pair.tokens and choice.pairs / choice.tokens == 50.0


def test_chip_hours_are_those_of_all_chips_of_all_slices():
    left = [cost.Cost(1, 1.0, 1.0, 3600 * 2307e12)]
    assert cost.chip_hours(left, "tpu7x:2x2x1", 0.5) == (pytest.approx(2), pytest.approx(0.5))
    assert cost.chip_hours(left, "2*tpu7x-8", 0.5) == (pytest.approx(2), pytest.approx(0.25))
