"""Which differences from the baseline are more than chance: one test per cell of the table.

Where predictions and gold are available: a paired bootstrap over examples (Koehn 2004; Berg-Kirkpatrick et al. 2012),
in which both sides are scored on the same resampled examples. Test sets of equal size are translations of each other,
so their examples are resampled in step over languages; seeds are resampled too. scipy.stats.bootstrap can share a
resample neither over test sets nor over the levels examples and seeds. Elsewhere: a sign-flip permutation test over
languages, seeds averaged first, because the seeds of one language are not independent. p values are adjusted for the
number of cells (Benjamini & Hochberg 1995).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xtl.errors import XtlError
from xtl.report import p_values
from xtl.report.examples import Gold, load_gold, ratios
from xtl.runs.read import Run, Stage
from xtl.runs.results import BASELINE, Column

RESAMPLES = 2000
LEVELS = ((0.01, "**"), (0.05, "*"))  # of the adjusted p value
FEWEST = 6  # languages: with fewer, no sign-flip test reaches p < 0.05

Cell = tuple[str, int]  # intermediate, column of the table


@dataclass(frozen=True)
class Test:
    """One tested difference. low, high: 95 % interval in points (bootstrap only)."""

    p: float
    unit: str  # "examples" or "languages": what was resampled
    low: float | None = None
    high: float | None = None
    adjusted: float = 1.0

    @property
    def mark(self) -> str:
        return next((sign for level, sign in LEVELS if self.adjusted < level), "")


@dataclass
class Tests:
    """The tests of a table, and why some targets could not be tested over examples."""

    cells: dict[Cell, Test]
    fallbacks: dict[str, str]  # target -> reason

    def mark(self, label: str, column: int) -> str:
        test = self.cells.get((label, column))
        return test.mark if test else ""


def compare(run: Run) -> Tests:
    """Test every cell that has a baseline to be compared with."""
    tests = Tests({}, {})
    for target in run.targets:
        columns = {i: c for i, c in enumerate(run.table.columns) if c.target == target}
        try:
            tests.cells |= _over_examples(run, target, columns)
        except (XtlError, OSError, KeyError, ValueError) as error:  # data not available, or not what it was
            tests.fallbacks[target] = str(error) or type(error).__name__
            tests.cells |= _over_languages(run, columns)
    tests.cells = _adjusted(tests.cells)
    return tests


def _adjusted(cells: Mapping[Cell, Test]) -> dict[Cell, Test]:
    adjusted = p_values.adjusted([test.p for test in cells.values()], "fdr")
    return {key: replace(test, adjusted=p) for (key, test), p in zip(cells.items(), adjusted, strict=True)}


def explained(tests: Tests) -> list[str]:
    """How the differences were tested, in sentences for the reader of the table."""
    units = {test.unit for test in tests.cells.values()}
    sentences = []
    if not tests.cells:
        sentences.append("No difference could be tested.")
    if "examples" in units:
        sentences.append("Paired bootstrap over test examples, 2,000 resamples, seeds resampled with them.")
    if "languages" in units:
        sentences.append(
            "Sign-flip permutation test over languages, seeds averaged first (six languages at least). It treats"
            " languages as independent, which translations of one test set are not, so it is too lenient."
        )
    return sentences


# ---------------------------------------------------------------- over examples


def _over_examples(run: Run, target: str, columns: Mapping[int, Column]) -> dict[Cell, Test]:
    """Paired bootstrap of every row that shares seeds with the baseline."""
    stages = {
        (label, stage.seed): stage
        for label in run.labels
        for stage in run.stages_of(label, target)
        if target in stage.evaluations and stage.state == "done"
    }
    rows = [label for label in run.labels if label != BASELINE]
    shared = {x: sorted(s for label, s in stages if label == x and (BASELINE, s) in stages) for x in rows}
    paired = {key: stage for key, stage in stages.items() if key[0] == BASELINE or key[1] in shared.get(key[0], ())}
    if not any(shared.values()):
        return {}
    drawn = {
        language: _resampled(
            paired, load_gold(next(iter(paired.values())), target, language), run.results.metrics[target]
        )
        for column in columns.values()
        for language in column.languages
    }
    tests = {}
    for i, column in columns.items():
        for label in rows:
            if not shared[label]:
                continue
            gaps_sb = np.mean(
                [
                    [drawn[x][label, seed] - drawn[x][BASELINE, seed] for seed in shared[label]]
                    for x in column.languages
                ],
                axis=0,
            )
            tests[label, i] = _tested(gaps_sb)
    return tests


def _resampled(stages: Mapping[tuple[str, int], Stage], gold: Gold, metric: str) -> dict[tuple[str, int], np.ndarray]:
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


def _tested(gaps_sb: np.ndarray) -> Test:
    """The test of differences by seed and resample, float64 [S, B]; each resample draws seeds again."""
    seeds, resamples = gaps_sb.shape
    rng = np.random.default_rng([RESAMPLES, seeds])
    drawn = rng.integers(0, seeds, (resamples, seeds))
    gaps_b = gaps_sb[drawn, np.arange(resamples)[:, None]].mean(axis=1)
    tail = min(int((gaps_b <= 0).sum()), int((gaps_b >= 0).sum()))
    low, high = np.quantile(gaps_b, [0.025, 0.975])
    return Test(min(1.0, 2 * (1 + tail) / (resamples + 1)), "examples", float(low), float(high))


# ---------------------------------------------------------------- over languages


def _over_languages(run: Run, columns: Mapping[int, Column]) -> dict[Cell, Test]:
    tests = {}
    for i, column in columns.items():
        for label in run.labels:
            gains = [run.gain(label, column.target, x) for x in column.languages]
            known = [gain for gain in gains if gain is not None]
            if label != BASELINE and len(known) >= FEWEST:
                tests[label, i] = Test(sign_flip(known), "languages")
    return tests


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p value that the mean of paired differences is 0: exact for few, else by RESAMPLES sign flips."""
    from scipy.stats import permutation_test

    result = permutation_test(
        (np.asarray(differences, float),),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=False,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)
