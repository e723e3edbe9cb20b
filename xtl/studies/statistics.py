"""The statistics of the studies, by scipy and statsmodels; pure functions on arrays and data frames.

What is sampled is languages (or seeds), never language x task x seed rows: the rows of one language share its effect,
and treating them as independent rejects a true null about half the time (simulated in tests/studies). So scores are
first reduced to one number per language (`language_effects`), and intervals come from the spread of those numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from xtl.errors import XtlError
from xtl.report import p_values

LEVEL = 0.95
FEWEST = 5  # languages of a rank correlation


@dataclass(frozen=True)
class Estimate:
    """One number with its uncertainty: a 95 % interval, a two-sided p value, and how many units stand behind it."""

    name: str
    value: float
    low: float
    high: float
    p: float
    n: int
    unit: str  # what n counts and what was resampled: "languages", "seeds", "cells"
    method: str

    def sentence(self) -> str:
        """The statistic in words, as for a paper."""
        interval, p = f"[{self.low:.2f}, {self.high:.2f}]", p_values.equation(self.p)
        return f"{self.name} = {self.value:.2f}, 95 % interval {interval}, {p}, n = {self.n} {self.unit}"


# ---------------------------------------------------------------- one number per language


def language_effects(table: pd.DataFrame, value: str, *, unit: str = "language", block: str = "target") -> pd.Series:
    """The effect of each language over tasks with different language sets: value ~ task + language by least squares.

    A language that is only in a hard task is not taken for a hard language, as a plain mean over tasks would. The
    effects are centred on the mean language. Rows are one (block, unit) each; seeds are averaged before. Raises
    XtlError when tasks share too few languages to be compared.
    """
    rows = table[[unit, block, value]].dropna()
    if rows.duplicated([unit, block]).any():
        raise XtlError(f"several rows for one ({block}, {unit}): average over seeds first")
    u, units = pd.factorize(rows[unit], sort=True)
    b, blocks = pd.factorize(rows[block], sort=True)
    met = np.zeros((len(units), len(blocks)))
    met[u, b] = 1
    # Normal equations of value ~ unit + block with the blocks eliminated: one small system in the units.
    per_block = met.sum(axis=0)
    laplacian = np.diag(met.sum(axis=1)) - (met / per_block) @ met.T
    if np.linalg.matrix_rank(laplacian) < len(units) - 1:
        raise XtlError(f"the {block}s fall into groups without a common {unit}: analyse them one by one")
    values = rows[value].to_numpy(float)
    block_means = np.bincount(b, values, len(blocks)) / per_block
    solution = np.linalg.pinv(laplacian) @ (np.bincount(u, values, len(units)) - met @ block_means)
    return pd.Series(solution - solution.mean(), index=pd.Index(units, name=unit), name=value)


# ---------------------------------------------------------------- association


def slope(
    y: ArrayLike,
    x: ArrayLike,
    covariates: Mapping[str, ArrayLike] | None = None,
    *,
    name: str = "slope",
    unit: str = "languages",
) -> Estimate:
    """The least-squares slope of y on x beside the covariates; HC3 errors (MacKinnon & White 1985), t interval."""
    import statsmodels.api as sm

    columns = [np.asarray(x, float), *(np.asarray(c, float) for c in (covariates or {}).values())]
    design = np.column_stack([np.ones(len(columns[0])), *columns])
    if len(design) <= design.shape[1] + 1:
        raise XtlError(f"{name}: {len(design)} {unit} are too few for {design.shape[1] - 1} predictors")
    fit = sm.OLS(np.asarray(y, float), design).fit(cov_type="HC3", use_t=True)
    low, high = fit.conf_int(1 - LEVEL)[1]
    beside = f" beside {', '.join(covariates)}" if covariates else ""
    return Estimate(name, fit.params[1], low, high, float(fit.pvalues[1]), len(design), unit, f"OLS{beside}, HC3, t")


def band(y: ArrayLike, x: ArrayLike, at: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least-squares line of y on x at the points `at`, for figures: (mean, low, high) of its 95 % band."""
    import statsmodels.api as sm

    fit = sm.OLS(np.asarray(y, float), sm.add_constant(np.asarray(x, float))).fit()
    points = sm.add_constant(np.asarray(at, float), has_constant="add")
    frame = fit.get_prediction(points).summary_frame(alpha=1 - LEVEL)
    return frame["mean"].to_numpy(), frame["mean_ci_lower"].to_numpy(), frame["mean_ci_upper"].to_numpy()


def rho(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rho alone."""
    return _rho(_ranks(x, None), _ranks(y, None))


def spearman(
    x: ArrayLike,
    y: ArrayLike,
    covariates: Sequence[ArrayLike] = (),
    *,
    seed: int = 0,
    resamples: int = 2000,
    name: str = "rho",
) -> Estimate:
    """Spearman's rho; with covariates, of what their ranks leave unexplained in the ranks of x and y.

    The interval is the percentile bootstrap over languages, p is by permutation of the residual ranks of y (Freedman &
    Lane 1983). Not by scipy.stats: bootstrap() gives no interval once a resample of few languages is degenerate, and
    permutation_test() knows no covariates.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < FEWEST:
        raise XtlError(f"{name}: a rank correlation of {len(x)} languages says nothing; at least {FEWEST} are needed")
    others = np.column_stack([np.asarray(c, float) for c in covariates]) if covariates else None

    def ranks_of(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = None if others is None else others[index]
        return _ranks(x[index], own), _ranks(y[index], own)

    ranks_x, ranks_y = ranks_of(np.arange(len(x)))
    value = _rho(ranks_x, ranks_y)
    rng = np.random.default_rng(seed)
    draws = [_rho(*ranks_of(i)) for i in rng.integers(0, len(x), (resamples, len(x))) if _varied(i)]
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    null = np.array([_rho(ranks_x, rng.permutation(ranks_y)) for _ in range(resamples)])
    p = (1 + np.sum(np.abs(null) >= abs(value) - 1e-12)) / (resamples + 1)
    method = f"{'partial ' if covariates else ''}Spearman, bootstrap, permutation"
    return Estimate(name, value, float(low), float(high), float(p), len(x), "languages", method)


def _ranks(values: ArrayLike, covariates: np.ndarray | None) -> np.ndarray:
    """Ranks of values; with covariates [n, k], what the ranks of these leave unexplained of them."""
    ranks = stats.rankdata(values)
    if covariates is None:
        return ranks
    design = np.column_stack([np.ones(len(ranks)), stats.rankdata(covariates, axis=0)])
    return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]


def _rho(ranks_x: np.ndarray, ranks_y: np.ndarray) -> float:
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(ranks_x, ranks_y)[0, 1])


def _varied(index: np.ndarray) -> bool:
    return len(np.unique(index)) > 2


def detectable_rho(n: int, *, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest |rho| that n languages detect with this power (Fisher z, Spearman's variance 1.06 / (n - 3))."""
    if n <= 3:
        return 1.0
    z = (stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)) * math.sqrt(1.06 / (n - 3))
    return math.tanh(z)


# ---------------------------------------------------------------- differences


def mean(values: ArrayLike, *, name: str = "mean", unit: str = "languages") -> Estimate:
    """The mean of one number per unit, with a t interval."""
    values = np.asarray(values, float)
    if len(values) < 2:
        raise XtlError(f"{name}: {len(values)} {unit} give no interval; at least 2 are needed")
    result = stats.ttest_1samp(values, 0.0)
    low, high = result.confidence_interval(LEVEL)
    p = 1.0 if np.isnan(result.pvalue) else float(result.pvalue)  # all values are exactly 0
    return Estimate(name, float(values.mean()), float(low), float(high), p, len(values), unit, "t")


def difference(a: ArrayLike, b: ArrayLike, *, name: str = "difference", unit: str = "languages") -> Estimate:
    """mean(a) - mean(b) of two groups of units, Welch's t."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if min(len(a), len(b)) < 2:
        raise XtlError(f"{name}: groups of {len(a)} and {len(b)} {unit}; each needs at least 2")
    result = stats.ttest_ind(a, b, equal_var=False)
    low, high = result.confidence_interval(LEVEL)
    return Estimate(
        name,
        float(a.mean() - b.mean()),
        float(low),
        float(high),
        1.0 if np.isnan(result.pvalue) else float(result.pvalue),
        len(a) + len(b),
        unit,
        "Welch's t",
    )


# ---------------------------------------------------------------- robustness


def leave_one_out(groups: Sequence[str], estimate: Callable[[np.ndarray], Estimate]) -> pd.DataFrame:
    """The estimate without each group (language family) in turn: columns left_out, n, value, low, high."""
    names = np.asarray(groups)
    rows = []
    for group in sorted(set(groups)):
        without = estimate(names != group)
        rows.append(
            {"left_out": group, "n": without.n, "value": without.value, "low": without.low, "high": without.high}
        )
    return pd.DataFrame(rows)
