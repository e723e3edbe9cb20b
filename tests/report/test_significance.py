"""Marks of significance: the chance of training runs does not earn one, and a real difference of 3 points does."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.support.simulate_runs import CONDITIONS, LANGUAGES, TARGETS, rates, simulate
from xtl.errors import XtlError
from xtl.report import significance, tables
from xtl.runs.results import BASELINE

TABLES = 100
LIMIT = 0.07


def simulated(*, seeds=3, sd=1.0, effects=None, items=100):
    rng = np.random.default_rng(seeds)
    return simulate(rng, seeds=seeds, target_sd=sd, intermediate_sd=sd, effects=effects, items=items)


def tolerance(independent: int) -> float:
    """Three binomial standard errors of a rate of 5 %."""
    return 3 * math.sqrt(0.05 * 0.95 / independent)


# ---------------------------------------------------------------- error rates


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("sd", [0.5, 1.0, 2.0])
def test_no_difference_is_rejected_seldom_whatever_the_chance_of_training(seeds, sd):
    """Cells of a table share runs: as independent count only the 6 pairs (column, condition) of differing targets."""
    null = rates(tables=TABLES, seeds=seeds, sd=sd)
    assert null.cells <= LIMIT and abs(null.cells - 0.05) <= tolerance(6 * TABLES), null
    assert null.tables <= LIMIT + tolerance(TABLES) and null.marked <= null.cells, null


def test_one_seed_earns_no_mark_however_many_examples():
    null = rates(tables=10, seeds=1, sd=2.0)
    large = rates(tables=10, seeds=1, sd=0.5, effects={"mnli": 20.0})
    assert null.cells == null.marked == null.tables == large.cells == large.marked == 0.0


def test_intervals_over_examples_do_not_know_the_chance_of_training(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 100)
    assert rates(tables=5, seeds=1, sd=2.0, predictions=True).examples > 0.2  # as tests, they would be wrong this often


@pytest.mark.parametrize(("sd", "cells", "marked"), [(0.5, 0.95, 0.9), (1.0, 0.7, 0.4)])
def test_five_seeds_show_three_points(sd, cells, marked):
    power = rates(tables=30, seeds=5, sd=sd, effects={"mnli": 3.0})
    assert power.cells >= cells and power.marked >= marked, power


# ---------------------------------------------------------------- what is compared


def test_the_test_is_welchs_as_scipy_has_it():
    rng = np.random.default_rng(0)
    for n, m in ((2, 2), (3, 5), (5, 3)):
        condition, baseline = rng.normal(1, 2, n), rng.normal(0, 1, m)
        p, interval = significance.welch(condition, baseline)
        expected = stats.ttest_ind(condition, baseline, equal_var=False)
        assert p == pytest.approx(expected.pvalue)
        assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    p, _ = significance.welch([1.0, 2.0, 4.0], [0.5])  # of a baseline that is not trained
    assert p == pytest.approx(stats.ttest_1samp([1.0, 2.0, 4.0], 0.5).pvalue)


def test_the_interval_has_the_difference_of_the_table_in_its_middle():
    run = simulated().run
    tests = significance.compare(run)
    assert set(tests.cells) == {(x, i) for x in CONDITIONS for i in range(2 * len(TARGETS))} and not tests.untested
    for (label, i), test in tests.cells.items():
        assert (test.over_runs.low + test.over_runs.high) / 2 == pytest.approx(run.table.cells[label][i].gain, abs=1e-3)


def test_a_baseline_without_training_counts_once_and_needs_no_seeds():
    tests = simulated().compare(predictions=False)
    retrieval = [i for i in range(2 * len(TARGETS)) if TARGETS[i // 2] == "tatoeba"]
    assert {tests.cells["mnli", i].runs for i in retrieval} == {(3, 1)}
    assert all(tests.cells["mnli", i].p is not None for i in retrieval)


def test_seeds_that_share_their_intermediate_training_are_one_run():
    run = simulated().run
    first = run.stages["mnli-s0"].fingerprint
    for seed in (1, 2):
        run.stages[f"mnli-s{seed}"] = replace(run.stages[f"mnli-s{seed}"], fingerprint=first)
    tests = significance.compare(run)
    assert all(test.runs[0] == 1 and not test.mark for (label, _), test in tests.cells.items() if label == "mnli")
    assert all(test.p is not None for (label, _), test in tests.cells.items() if label != "mnli")


def test_runs_that_all_score_the_same_are_not_tested():
    run = simulated().run
    for label, score in ((BASELINE, 33.3), ("mnli", 34.0)):
        for language in LANGUAGES:
            run.scores[label, "xnli", language] = dict.fromkeys(range(3), score)
    tests = significance.compare(run)
    assert set(tests.untested) == {("mnli", 0), ("mnli", 1)}


# ---------------------------------------------------------------- how many seeds


def test_the_seeds_needed_have_the_power_that_is_promised():
    for gap, sd in ((1.0, 1.0), (-2.0, 1.5), (1.0, 0.7)):
        n = significance.seeds_needed(gap, sd)
        powers = []
        for number in (n - 1, n):
            df, shift = 2 * number - 2, abs(gap) / sd * math.sqrt(number / 2)
            critical = stats.t.ppf(0.975, df)
            powers.append(stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift))
        assert powers[0] < significance.POWER <= powers[1]
    assert significance.seeds_needed(50.0, 0.1) == significance.FEWEST_SEEDS
    assert significance.seeds_needed(0.0, 1.0) > significance.MANY_SEEDS < significance.seeds_needed(0.01, 1.0)


def test_seeds_needed_come_from_the_cells_that_have_several_seeds():
    run = simulated(seeds=5, sd=2.0).run
    for (label, _, _), by_seed in run.scores.items():
        if label == "qqp":
            for seed in range(1, 5):
                del by_seed[seed]
    tests = significance.compare(run)
    assert {label for label, _ in tests.untested} == {"qqp"}
    assert all(test.seeds_needed >= 3 for test in tests.untested.values())
    text = " ".join(significance.explained(tests))
    assert "8 of 24 differences are not tested" in text and "power of 80 %" in text
    assert any(
        "seeds" in cell for row in tables.intervals(run, tests) for cell in row["cells"] if row["label"] == "qqp"
    )


# ---------------------------------------------------------------- intervals over examples


def test_intervals_over_examples_stand_beside_the_test_of_several_seeds(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 100)
    tests = simulated(effects={"mnli": 6.0}, items=1000).compare(predictions=True)
    assert not tests.fallbacks and all(test.over_examples and test.over_runs for test in tests.cells.values())
    assert all(tests.cells["mnli", i].over_examples.low > 0 for i in range(1, 6, 2))


def test_a_target_without_data_has_no_interval_over_examples_and_keeps_its_test():
    def fail(stage, target, language):
        raise XtlError("no data")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(significance, "load_gold", fail)
        tests = significance.compare(simulated().run)
    assert tests.fallbacks == dict.fromkeys(TARGETS, "no data") and not tests.untested
