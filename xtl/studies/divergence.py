"""Divergence: does the distance between intermediate and target data predict gain and robustness?

Distances between the data of intermediate i and target t are measured on sentence vectors of one pretrained encoder and
on unigrams (predictors.py). Outcome: gain D(i, t).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from xtl import files
from xtl.benchmark.prediction_files import file_path
from xtl.errors import XtlError
from xtl.families import family
from xtl.report import p_values
from xtl.report.labels import label_points
from xtl.runs.results import SOURCE_LANGUAGE
from xtl.studies import predictors, statistics, tables
from xtl.studies.analysis import Analysis, Figure
from xtl.studies.finished import Finished
from xtl.studies.statistics import Estimate
from xtl.tasks import get_task

QUESTION = "Does the divergence between intermediate and target data predict the gain, and how robust it is?"


def mean_gains(scores: pd.DataFrame) -> pd.DataFrame:
    """Gain of every (intermediate, target), averaged over languages and seeds."""
    return tables.gains(scores).groupby(["intermediate", "target"], as_index=False)["gain"].mean()


def slope_of_gain(gains: pd.DataFrame, distances: pd.DataFrame, *, name: str = "gain on divergence") -> Estimate:
    """The slope of D(i, t) on d(i, t) beside indicators of i and of t: a task that helps, or is helped, everywhere adds
    nothing. n is the number of (intermediate, target) cells."""
    rows = gains.merge(distances, on=["intermediate", "target"], how="left")
    if rows["distance"].isna().any():
        lost = rows[rows["distance"].isna()].iloc[0]
        raise XtlError(f"no divergence between {lost['intermediate']} and {lost['target']}: compute it first")
    indicators = {
        f"{column} {level}": (rows[column] == level).to_numpy(float)
        for column in ("intermediate", "target")
        for level in sorted(rows[column].unique())[1:]
    }
    estimate = statistics.slope(rows["gain"], rows["distance"], indicators, name=name, unit="cells")
    return replace(estimate, method="OLS beside intermediate and target, HC3, t")


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
    slopes = {measure: slope_of_gain(gains, table, name=f"gain on {measure}") for measure, table in distances.items()}
    p_rows = {measure: permutation_p(gains, table) for measure, table in distances.items()}
    adjusted = p_values.adjusted([estimate.p for estimate in slopes.values()], "fdr")
    table = pd.DataFrame(
        {
            m: {"slope": e.value, "interval": (e.low, e.high), "p": e.p, "BH p": q, "permutation p": p_rows[m]}
            for (m, e), q in zip(slopes.items(), adjusted, strict=True)
        }
    ).T
    return Analysis(
        study="divergence",
        question=QUESTION,
        design=f"{gains['intermediate'].nunique()} intermediates x {gains['target'].nunique()} targets; the primary "
        f"measure is {primary}.",
        headline=[slopes[primary]],
        tables={"Divergence measures": table, "Robustness by condition": robustness(scores)},
        figures=[_figure(gains, distances[primary], primary)],
        sentences=[f"{slopes[primary].sentence()}; by permutation of whole tasks p = {p_rows[primary]:.3f}."],
        limits=[
            "Proxy A-distance saturates at 2 between languages; MMD does not.",
            f"{gains['intermediate'].nunique()} intermediates leave little power for claims between intermediates.",
        ],
        methods=METHODS,
    )


def study(finished: Finished) -> Analysis:
    """The answer from a finished run; settings: tasks, primary, texts, layer."""
    distances, notes = predictors.distances(finished)
    analysis = analyse(finished.scores, distances, primary=finished.settings.get("primary", "mmd"))
    analysis.limits += notes
    if (table := _consistency(finished)) is not None:
        analysis.tables["Consistency: share (%) of parallel test items answered as in English"] = table
    return analysis


def _consistency(finished: Finished) -> pd.DataFrame | None:
    """By condition and target, over languages and seeds; targets whose items are parallel and answered by a label."""
    rows = []
    for stage in finished.run.stages.values():
        folder = files.join(stage.folder, "predictions")
        for target in stage.evaluations:
            languages = finished.languages_of(target)
            kind = family(get_task(target)).file_kind(get_task(target))
            if kind not in ("labels", "choices") or SOURCE_LANGUAGE not in languages:
                continue
            paths = {code: file_path(folder, target, code, kind) for code in languages}
            if not all(files.exists(path) for path in paths.values()):
                continue
            answers = {code: files.read_text(path).splitlines() for code, path in paths.items()}
            english = np.array(answers.pop(SOURCE_LANGUAGE))
            same = [100 * float(np.mean(english == np.array(x))) for x in answers.values() if len(x) == len(english)]
            rows.append({"intermediate": stage.intermediate, "target": target, "agreement": np.mean(same)})
    if not rows:
        return None
    return pd.DataFrame(rows).groupby(["intermediate", "target"])["agreement"].mean().unstack("target")


def _figure(gains: pd.DataFrame, distances: pd.DataFrame, measure: str) -> Figure:
    rows = gains.merge(distances, on=["intermediate", "target"])

    def draw(axes: Any) -> None:
        for target, part in rows.groupby("target"):
            axes.scatter(part["distance"], part["gain"], s=20, label=target)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.margins(x=0.12)
        axes.set(xlabel=f"{measure} between intermediate and target", ylabel="gain over none (points)")
        axes.legend(frameon=False, fontsize=8)
        label_points(axes, zip(rows["intermediate"], rows["distance"], rows["gain"], strict=True), size=6.5)

    return Figure("divergence", "Gain of each intermediate on each target against the divergence of their data.", draw)


METHODS = """\
Divergence between intermediate and target data is the squared maximum mean discrepancy (Gretton et al. 2012; RBF, one
median bandwidth) between sentence vectors of the pretrained encoder at one layer, with equally many sentences per side.
Gains are averaged over languages and seeds and regressed on divergence with indicators for every intermediate and every
target task (HC3); dependence between cells that share a task is met by permuting whole rows and columns."""
