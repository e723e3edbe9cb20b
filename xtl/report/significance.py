"""Which differences from the baseline are more than chance: one test per cell of the table.

A difference between two trainings carries the variance of training runs, which no resampling of test examples can see:
a paired bootstrap over examples rejects a true null far too often (Dodge et al. 2020; Sellam et al. 2022). So what is
sampled is runs: Welch's t test between the runs of a condition and those of the baseline, on scores averaged over the
languages of the column. With two to five runs, t with Satterthwaite's degrees of freedom keeps its level, a bootstrap
over runs does not. Runs are not paired by seed: equal seeds share the order of the target's data and its head, the
intermediate training has no counterpart in the baseline. The claim is about new runs of the same training on these test
sets and languages. All runs see the same examples, so the choice of examples adds no variance to it. p values are
adjusted for the number of tested cells (Benjamini & Hochberg 1995).

With one run on a side nothing is tested. Where predictions and gold are available, each difference has also an interval
by a paired bootstrap over examples (Koehn 2004; Berg-Kirkpatrick et al. 2012): of these trainings, not of the method.
Test sets of equal size are translations of each other, so their examples are resampled in step over languages, which
scipy.stats.bootstrap cannot do.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xtl.errors import XtlError
from xtl.report import p_values
from xtl.report.examples import Gold, load_gold, ratios
from xtl.runs.read import Run, Stage
from xtl.runs.results import BASELINE, Column, language_means

RESAMPLES = 2000
LEVELS = ((0.01, "**"), (0.05, "*"))  # of the adjusted p value
ALPHA, POWER = 0.05, 0.8
FEWEST_SEEDS, MANY_SEEDS = 3, 100  # the numbers of seeds that a difference can be said to need

Cell = tuple[str, int]  # intermediate, column of the table


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a difference, in points."""

    low: float
    high: float


@dataclass(frozen=True)
class Test:
    """What is known about one difference from the baseline."""

    runs: tuple[int, int]  # distinct trainings of the condition and of the baseline
    p: float | None = None  # None: not tested
    adjusted: float | None = None
    over_runs: Interval | None = None  # where new trainings of both sides would put it; None: not tested
    over_examples: Interval | None = None  # of these trainings on other examples; None: no predictions or gold
    seeds_needed: int | None = None  # per side, for POWER at the observed difference; None: SD over runs not known

    @property
    def significant(self) -> bool:
        return self.adjusted is not None and self.adjusted < ALPHA

    @property
    def mark(self) -> str:
        if self.adjusted is None:
            return ""
        return next((sign for level, sign in LEVELS if self.adjusted < level), "")


@dataclass
class Tests:
    """The tests of a table, and why some targets have no intervals over examples."""

    cells: dict[Cell, Test] = field(default_factory=dict)
    fallbacks: dict[str, str] = field(default_factory=dict)  # target -> reason

    @property
    def tested(self) -> dict[Cell, Test]:
        return {key: test for key, test in self.cells.items() if test.p is not None}

    @property
    def untested(self) -> dict[Cell, Test]:
        return {key: test for key, test in self.cells.items() if test.p is None}

    def mark(self, label: str, column: int) -> str:
        test = self.cells.get((label, column))
        return test.mark if test else ""


@dataclass(frozen=True)
class Side:
    """One cell as a side of a comparison, by seed: stage, training run, and score averaged over the languages."""

    stages: Mapping[int, Stage]
    origins: Mapping[int, str]  # fingerprint of the first training of the run, which tells runs apart
    scores: Mapping[int, float]

    @property
    def trained(self) -> bool:
        """Whether its stages train anything: a baseline that does not has no runs that could differ."""
        return any(stage.tasks for stage in self.stages.values())

    @property
    def runs(self) -> list[float]:
        """The score of each distinct run; seeds that share their first training are one run, and are averaged."""
        by_run: dict[str, list[float]] = {}
        for seed, score in self.scores.items():
            by_run.setdefault(self.origins[seed], []).append(score)
        return [statistics.fmean(scores) for scores in by_run.values()]

    def restricted(self, seeds: Iterable[int]) -> "Side":
        kept = set(seeds)
        return Side(*({s: x for s, x in by_seed.items() if s in kept} for by_seed in vars(self).values()))


def compare(run: Run) -> Tests:
    """What is known about every cell that has a baseline to be compared with."""
    sides = _sides(run)
    pairs = {
        (label, i): _compared(side, sides[BASELINE, i])
        for (label, i), side in sides.items()
        if label != BASELINE and (BASELINE, i) in sides
    }
    tests = Tests({key: _tested(*pair) for key, pair in pairs.items()})
    adjusted = p_values.adjusted([test.p for test in tests.tested.values() if test.p is not None], "fdr")
    for (key, test), p in zip(tests.tested.items(), adjusted, strict=True):
        tests.cells[key] = replace(test, adjusted=p)
    for key, test in tests.untested.items():
        condition, baseline = pairs[key]
        gap, sd = np.mean(condition.runs) - np.mean(baseline.runs), _run_sd(sides, key[1])
        tests.cells[key] = replace(test, seeds_needed=None if sd is None else seeds_needed(float(gap), sd))
    for target in run.targets:
        columns = {i: c for i, c in enumerate(run.table.columns) if c.target == target}
        own = {key: pair for key, pair in pairs.items() if key[1] in columns}
        try:
            intervals = _over_examples(own, columns, run.results.metrics[target])
        except (XtlError, OSError, KeyError, ValueError) as error:  # data not available, or not what it was
            tests.fallbacks[target] = str(error) or type(error).__name__
            continue
        for key, interval in intervals.items():
            tests.cells[key] = replace(tests.cells[key], over_examples=interval)
    return tests


def _sides(run: Run) -> dict[Cell, Side]:
    """Every cell of the table that has a score."""
    sides = {}
    for i, column in enumerate(run.table.columns):
        scores = {
            (label, seed, language): score
            for (label, target, language), by_seed in run.scores.items()
            if target == column.target
            for seed, score in by_seed.items()
        }
        for label in run.labels:
            stages = {stage.seed: stage for stage in run.stages_of(label, column.target) if stage.state == "done"}
            means = language_means(scores, label, column.languages)
            if means:
                origins = {seed: _origin(run, stage) for seed, stage in stages.items()}
                sides[label, i] = Side(stages, origins, means).restricted(means)
    return sides


def _origin(run: Run, stage: Stage) -> str:
    """Fingerprint of the intermediate training that a stage descends from, else its own. Pretraining does not count:
    it is common to both sides of every difference."""
    origin = ancestor = stage
    while ancestor.parents and ancestor.parents[0] in run.stages:
        ancestor = run.stages[ancestor.parents[0]]
        if ancestor.phase == "intermediate":
            origin = ancestor
    return origin.fingerprint


def _compared(condition: Side, baseline: Side) -> tuple[Side, Side]:
    """Both sides at the seeds that both have, as the difference in the table is; all seeds where they share none."""
    shared = sorted(set(condition.scores) & set(baseline.scores))
    return (condition.restricted(shared), baseline.restricted(shared)) if shared else (condition, baseline)


# ---------------------------------------------------------------- over runs


def _tested(condition: Side, baseline: Side) -> Test:
    runs = len(condition.runs), len(baseline.runs)
    test = Test(runs)
    if runs[0] < 2 or (runs[1] < 2 and baseline.trained):
        return test
    if np.ptp(condition.runs) + np.ptp(baseline.runs) < 1e-9:  # all at chance, for example: no SD to compare with
        return test
    p, interval = welch(condition.runs, baseline.runs)
    return replace(test, p=p, over_runs=interval)


def welch(condition: Sequence[float], baseline: Sequence[float]) -> tuple[float, Interval]:
    """Welch's t test that the means are equal: two-sided p, and the interval of condition - baseline.

    A baseline of one number is known exactly. A side may be constant, for which scipy.stats.ttest_ind warns of its
    precision; for others they agree.
    """
    from scipy import stats

    squares = [np.var(side, ddof=1) / len(side) if len(side) > 1 else 0.0 for side in (condition, baseline)]
    error = math.sqrt(sum(squares))
    freedom = sum(squares) ** 2 / sum(
        square**2 / (len(side) - 1) for square, side in zip(squares, (condition, baseline), strict=True) if square
    )
    gap = float(np.mean(condition) - np.mean(baseline))
    half = float(stats.t.ppf(1 - ALPHA / 2, freedom)) * error
    return float(2 * stats.t.sf(abs(gap) / error, freedom)), Interval(gap - half, gap + half)


def _run_sd(sides: Mapping[Cell, Side], column: int) -> float | None:
    """The SD over runs, pooled over the cells of the column that have several runs, else over those of the table."""
    several = {key: side.runs for key, side in sides.items() if len(side.runs) > 1}
    pooled = [runs for (_, i), runs in several.items() if i == column] or list(several.values())
    if not pooled:
        return None
    freedom = sum(len(runs) - 1 for runs in pooled)
    return math.sqrt(sum((len(runs) - 1) * np.var(runs, ddof=1) for runs in pooled) / freedom)


def seeds_needed(gap: float, sd: float) -> int:
    """Seeds per side for a t test of level ALPHA to see a gap with probability POWER; MANY_SEEDS + 1: more."""
    from statsmodels.stats.power import TTestIndPower

    if abs(gap) < 1e-9:
        return MANY_SEEDS + 1
    if sd < 1e-9:
        return FEWEST_SEEDS
    numbers = range(FEWEST_SEEDS, MANY_SEEDS + 1)
    powers = ((n, TTestIndPower().power(abs(gap) / sd, n, ALPHA)) for n in numbers)
    return next((n for n, power in powers if power >= POWER), MANY_SEEDS + 1)


# ---------------------------------------------------------------- over examples


def _over_examples(
    pairs: Mapping[Cell, tuple[Side, Side]], columns: Mapping[int, Column], metric: str
) -> dict[Cell, Interval]:
    """Paired bootstrap over the examples of one target: every stage is scored on the same resamples."""
    stages = {stage.fingerprint: stage for pair in pairs.values() for side in pair for stage in side.stages.values()}
    if not stages:
        return {}
    first = next(iter(stages.values()))
    languages = {language: column.target for column in columns.values() for language in column.languages}
    drawn = {
        language: _resampled(stages, load_gold(first, target, language), metric)
        for language, target in languages.items()
    }
    intervals = {}
    for (label, i), pair in pairs.items():
        condition_b, baseline_b = (
            np.mean(
                [drawn[x][stage.fingerprint] for x in columns[i].languages for stage in side.stages.values()], axis=0
            )
            for side in pair
        )
        low, high = np.quantile(condition_b - baseline_b, [ALPHA / 2, 1 - ALPHA / 2])
        intervals[label, i] = Interval(float(low), float(high))
    return intervals


def _resampled(stages: Mapping[str, Stage], gold: Gold, metric: str) -> dict[str, np.ndarray]:
    """The score of each stage on RESAMPLES resamples of one language's examples, the same for all: float64 [B]."""
    ratios_sn2 = [ratios(stage, gold, metric=metric) for stage in stages.values()]
    if len({len(one) for one in ratios_sn2}) > 1:  # mined pairs: the accepted sentences differ
        raise XtlError("the stages have predictions for different examples, so that examples cannot be paired")
    counts_n2s = np.stack(ratios_sn2, axis=-1)
    n = len(counts_n2s)
    rng = np.random.default_rng([RESAMPLES, n])  # by size alone: parallel sets are resampled in step
    sums_b2s = np.empty((RESAMPLES, *counts_n2s.shape[1:]))
    flat = counts_n2s.reshape(n, -1)
    for b in range(RESAMPLES):
        weights = np.bincount(rng.integers(0, n, n), minlength=n)
        sums_b2s[b] = (weights @ flat).reshape(counts_n2s.shape[1:])
    scores_bs = 100 * sums_b2s[:, 0] / np.maximum(sums_b2s[:, 1], 1e-12)
    return dict(zip(stages, scores_bs.T, strict=True))


# ---------------------------------------------------------------- in words


def explained(tests: Tests) -> list[str]:
    """How the differences were tested, in sentences for the reader of the table."""
    if not tests.cells:
        return ["There is no difference to test."]
    sentences = []
    if tests.tested:
        sentences += [
            "Welch's t test between the training runs of a condition and of the baseline, on scores averaged over"
            " languages: a claim about new runs of the same training, from the same pretrained encoder, on these test"
            " sets and languages, not about other examples or languages.",
            "Runs are not paired by seed, because intermediate training has no counterpart in the baseline.",
            "p values are adjusted over all tested cells of the table (Benjamini–Hochberg).",
        ]
    if tests.untested:
        sentences += _untested(tests)
    if any(test.over_examples for test in tests.cells.values()):
        sentences.append(
            f"Intervals over examples are of these trainings, not of the method: paired bootstrap, {RESAMPLES:,}"
            " resamples."
        )
    return sentences


def _untested(tests: Tests) -> list[str]:
    which = f"{len(tests.untested)} of {len(tests.cells)} differences are not" if tests.tested else "No difference is"
    sentences = [
        f"{which} tested, because one seed on a side, or runs that all score"
        " the same, do not show how far trainings differ by chance."
    ]
    if any(test.seeds_needed for test in tests.untested.values()):
        sentences.append(
            "The seeds that such a difference needs are per side, for a power of 80 % if the observed difference is the"
            " true one; the standard deviation over runs is estimated from the cells of the table with several seeds."
        )
    else:
        sentences.append("A claim about the method needs at least 3, better 5 seeds per condition.")
    return sentences
