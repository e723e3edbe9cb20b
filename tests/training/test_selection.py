"""Promises: a stage that selects has several checkpoints to choose from, however short it is."""

import pytest

from xtl.training.selection import interval


@pytest.mark.parametrize(
    ("every", "steps", "expected"), [(1000, 5000, 1000), (1000, 1000, 1000), (1000, 999, 250), (1000, 8, 2), (5, 1, 1)]
)
def test_a_stage_shorter_than_the_interval_is_evaluated_in_quarters(every, steps, expected):
    assert interval(every, steps) == expected
