"""Divergence: does the distance between intermediate and target data predict gain and robustness?

Measures between two sets of sentence vectors (one pretrained encoder, one layer, equal n): unbiased MMD, proxy
A-distance, centroid cosine; between texts: Jensen-Shannon divergence of unigrams. Outcome: gain D(i, t).
"""

from typing import Any

import numpy as np
import pandas as pd

from xtl.errors import XtlError
from xtl.studies import statistics, tables
from xtl.studies.analysis import Analysis, Figure, name_points
from xtl.studies.statistics import Estimate

QUESTION = "Does the divergence between intermediate and target data predict the gain, and how robust it is?"

# ---------------------------------------------------------------- measures


def _same_size(x: np.ndarray, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise XtlError(f"divergence: {len(x)} and {len(y)} vectors; measures are comparable at equal n only")


def median_bandwidth(*samples: np.ndarray) -> float:
    """The RBF gamma of the median heuristic over the pooled sample; take one for all pairs that are compared."""
    from scipy.spatial.distance import pdist

    pooled = np.concatenate(samples)[:2000]
    return 1.0 / (2.0 * float(np.median(pdist(pooled))) ** 2)


def mmd(x: np.ndarray, y: np.ndarray, *, gamma: float) -> float:
    """Squared maximum mean discrepancy with an RBF kernel, unbiased (Gretton et al. 2012). May be slightly negative."""
    from sklearn.metrics.pairwise import rbf_kernel

    _same_size(x, y)
    n = len(x)
    within = [(rbf_kernel(z, z, gamma=gamma).sum() - n) / (n * (n - 1)) for z in (x, y)]
    return float(sum(within) - 2 * rbf_kernel(x, y, gamma=gamma).mean())


def proxy_a_distance(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> float:
    """2 (1 - 2 e), e the cross-validated error of a linear classifier of the two sides: 0 same, 2 separable.

    Ben-David et al. 2007.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _same_size(x, y)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    labels = np.repeat([0, 1], [len(x), len(y)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    error = 1 - cross_val_score(model, np.concatenate([x, y]), labels, cv=folds).mean()
    return float(max(0.0, 2 * (1 - 2 * error)))


def centroid_distance(x: np.ndarray, y: np.ndarray) -> float:
    """1 - cosine of the mean vectors (Poth et al. 2021)."""
    a, b = x.mean(0), y.mean(0)
    return float(1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def unigram_divergence(x: list[str], y: list[str], *, types: int = 10_000) -> float:
    """Jensen-Shannon divergence, base 2, of word distributions over the joint most frequent types: 0..1."""
    from collections import Counter

    from scipy.spatial.distance import jensenshannon

    from xtl.studies.morphology import words

    counts = [Counter(word for text in texts for word in words(text)) for texts in (x, y)]
    if not all(counts):
        raise XtlError("divergence: a side has no words")
    joint = [word for word, _ in (counts[0] + counts[1]).most_common(types)]
    p, q = ([c[word] for word in joint] for c in counts)
    return float(jensenshannon(p, q, base=2) ** 2)


# ---------------------------------------------------------------- analysis


def mean_gains(scores: pd.DataFrame) -> pd.DataFrame:
    """Gain of every (intermediate, target), averaged over languages and seeds."""
    return tables.gains(scores).groupby(["intermediate", "target"], as_index=False)["gain"].mean()


def slope_of_gain(gains: pd.DataFrame, distances: pd.DataFrame, *, name: str = "gain on divergence") -> Estimate:
    """The slope of D(i, t) on d(i, t) beside indicators of i and of t: a task that helps, or is helped, everywhere does
    not count. n is the number of (intermediate, target) cells."""
    rows = gains.merge(distances, on=["intermediate", "target"], how="left")
    if rows["distance"].isna().any():
        lost = rows[rows["distance"].isna()].iloc[0]
        raise XtlError(f"no divergence between {lost['intermediate']} and {lost['target']}: compute it first")
    indicators = {
        f"{column} {level}": (rows[column] == level).to_numpy(float)
        for column in ("intermediate", "target")
        for level in sorted(rows[column].unique())[1:]
    }
    found = statistics.slope(rows["gain"], rows["distance"], indicators, name=name, unit="cells")
    return Estimate(**{**vars(found), "method": "OLS beside intermediate and target, HC3, t"})


def permutation_p(gains: pd.DataFrame, distances: pd.DataFrame, *, seed: int = 0, resamples: int = 2000) -> float:
    """p of the doubly centred correlation of D and d under permutation of whole rows (intermediates) and columns
    (targets), because cells that share a task are dependent."""
    d = gains.pivot(index="intermediate", columns="target", values="gain")
    x = distances.pivot(index="intermediate", columns="target", values="distance").loc[d.index, d.columns]
    if d.isna().any().any() or x.isna().any().any():
        raise XtlError("divergence: the permutation needs every (intermediate, target) cell")
    centre = lambda m: m - m.mean(0, keepdims=True) - m.mean(1, keepdims=True) + m.mean()
    a, b = centre(d.to_numpy(float)), centre(x.to_numpy(float))
    observed = abs(np.sum(a * b))
    rng = np.random.default_rng(seed)
    count = sum(
        abs(np.sum(a * b[rng.permutation(len(b))][:, rng.permutation(b.shape[1])])) >= observed - 1e-12
        for _ in range(resamples)
    )
    return (1 + count) / (resamples + 1)


def robustness(scores: pd.DataFrame) -> pd.DataFrame:
    """For each condition: worst language, 10th percentile and spread over languages, share of (t, l) that lost."""
    mean = tables.seed_means(scores)
    by = mean.groupby("intermediate")["score"]
    table = pd.DataFrame({"worst": by.min(), "10th percentile": by.quantile(0.1), "spread": by.std()})
    lost = tables.gains(scores).groupby(["intermediate", "target", "language"])["gain"].agg(["mean", "std", "count"])
    if (lost["count"] > 1).all():
        from scipy import stats

        upper = lost["mean"] + stats.t.ppf(0.975, lost["count"] - 1) * lost["std"] / np.sqrt(lost["count"])
        table["negative transfer"] = (upper < 0).groupby(level=0).mean()
    return table


def analyse(scores: pd.DataFrame, distances: dict[str, pd.DataFrame], *, primary: str = "mmd") -> Analysis:
    """`distances`: measure -> rows (intermediate, target, distance); the primary one is fixed beforehand."""
    if primary not in distances:
        raise XtlError(f"the primary measure {primary!r} is not among {', '.join(distances)}")
    gains = mean_gains(scores)
    found = {measure: slope_of_gain(gains, table, name=f"gain on {measure}") for measure, table in distances.items()}
    p_rows = {measure: permutation_p(gains, table) for measure, table in distances.items()}
    adjusted = statistics.adjusted([found[m].p for m in found], exploratory=True)
    table = pd.DataFrame(
        {
            m: {"slope": e.value, "interval": (e.low, e.high), "p": e.p, "BH p": q, "permutation p": p_rows[m]}
            for (m, e), q in zip(found.items(), adjusted, strict=True)
        }
    ).T
    return Analysis(
        study="divergence",
        question=QUESTION,
        design=f"{gains['intermediate'].nunique()} intermediates x {gains['target'].nunique()} targets; the primary "
        f"measure is {primary}.",
        headline=[found[primary]],
        tables={"Divergence measures": table, "Robustness by condition": robustness(scores)},
        figures=[_figure(gains, distances[primary], primary)],
        sentences=[f"{found[primary].sentence()}; by permutation of whole tasks p = {p_rows[primary]:.3f}."],
        limits=[
            "Proxy A-distance saturates at 2 between languages; MMD does not.",
            f"{gains['intermediate'].nunique()} intermediates leave little power for claims between intermediates.",
        ],
        methods=METHODS,
    )


def _figure(gains: pd.DataFrame, distances: pd.DataFrame, measure: str) -> Figure:
    rows = gains.merge(distances, on=["intermediate", "target"])

    def draw(axes: Any) -> None:
        for target, part in rows.groupby("target"):
            axes.scatter(part["distance"], part["gain"], s=20, label=target)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.margins(x=0.12)
        name_points(axes, zip(rows["intermediate"], rows["distance"], rows["gain"], strict=True), size=6.5)
        axes.set(xlabel=f"{measure} between intermediate and target", ylabel="gain over none (points)")
        axes.legend(frameon=False, fontsize=8)

    return Figure("divergence", "Gain of each intermediate on each target against the divergence of their data.", draw)


METHODS = """\
Divergence between intermediate and target data is the squared maximum mean discrepancy (Gretton et al. 2012; RBF, one
median bandwidth) between sentence vectors of the pretrained encoder at one layer, with equally many sentences a side.
Gains are averaged over languages and seeds and regressed on divergence with indicators for every intermediate and every
target task (HC3); dependence between cells that share a task is met by permuting whole rows and columns."""
