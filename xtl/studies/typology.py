"""Typology: does the gap to English grow with linguistic distance, and does intermediate training change that slope?

Outcome: gap G(i, t, l) = s(i, t, en) - s(i, t, l), pooled over targets as one effect per language. Predictor: syntactic
distance from English (URIEL), beside the log of pretraining size. Template: Muller et al. 2022 (arXiv 2212.01757).
"""

from typing import Any

import numpy as np
import pandas as pd

from xtl.report import p_values
from xtl.report.labels import label_points
from xtl.runs.results import BASELINE, SOURCE_LANGUAGE
from xtl.studies import statistics, tables
from xtl.studies.analysis import Analysis, Figure
from xtl.studies.finished import Finished
from xtl.studies.statistics import Estimate

QUESTION = "Does zero-shot degradation grow with linguistic distance, and does intermediate training narrow the gap?"


def slope_of_gap(scores: pd.DataFrame, languages: pd.DataFrame, *, name: str = "slope of gap on distance") -> Estimate:
    """Points of gap per unit of distance, over all conditions in `scores`, with pretraining size held."""
    mean = tables.gaps(scores).groupby(["target", "language"], as_index=False)["gap"].mean()
    rows, size = tables.held(tables.described(statistics.language_effects(mean, "gap"), languages))
    return statistics.slope(rows["effect"], rows["distance"], size, name=name)


def change_of_slope(scores: pd.DataFrame, languages: pd.DataFrame, condition: str, *, name: str = "") -> Estimate:
    """How much the slope under `condition` differs from that under `none`: the slope of D(en) - D(l) on distance."""
    both = scores[scores["intermediate"].isin([condition, BASELINE])]
    gap = tables.gaps(both).rename(columns={"score": "raw", "gap": "score"})
    change = tables.gains(gap[["intermediate", "target", "language", "seed", "score"]])
    mean = change.groupby(["target", "language"], as_index=False)["gain"].mean()
    rows, size = tables.held(tables.described(statistics.language_effects(mean, "gain"), languages))
    return statistics.slope(rows["effect"], rows["distance"], size, name=name or f"change of slope, {condition} - none")


def analyse(scores: pd.DataFrame, languages: pd.DataFrame, *, seed: int = 0, resamples: int = 2000) -> Analysis:
    """`scores` as tables.scores gives them, `languages` as tables.languages (or world_languages)."""
    conditions = [BASELINE, *sorted(set(scores["intermediate"]) - {BASELINE})]
    pooled = slope_of_gap(scores, languages)
    changes = [change_of_slope(scores, languages, c) for c in conditions[1:]]
    corrected = p_values.adjusted([c.p for c in changes], "holm")
    rows = [_row(condition, scores, languages, seed=seed, resamples=resamples) for condition in conditions]
    by_condition = pd.DataFrame(rows).set_index("intermediate")
    effects = {c: _effects(scores[scores["intermediate"] == c], languages) for c in conditions}
    everything = _effects(scores.groupby(["target", "language", "seed"], as_index=False)["score"].mean(), languages)
    families = statistics.leave_one_out(
        everything["family"].tolist(),
        lambda keep: _slope_of_effects(everything[keep]),
    )
    few = everything.index[everything["shared"] < tables.FEW_FEATURES].tolist()
    sentences = [f"{pooled.sentence()}."]
    for change, p in zip(changes, corrected, strict=True):
        verdict = "not shown to change" if p >= 0.05 else "narrower" if change.value < 0 else "wider"
        sentences.append(f"{change.sentence()} (Holm-adjusted p = {p:.3f}): the gap of distant languages is {verdict}.")
    limits = [
        f"{pooled.n} languages detect |rho| >= {statistics.detectable_rho(pooled.n):.2f} with 80 % power.",
        "Distance goes with pretraining size, script and family; the slope holds size fixed, and the second table"
        " leaves out one family at a time.",
        "A smaller gap is not a higher score: English may have lost. See the results table for both.",
    ]
    answer_tables = {
        "Gap to English on distance, by condition": by_condition,
        "Slope without one family": families.rename(columns={"left_out": "left out", "value": "slope"}),
    }
    if few:
        kept = scores[~scores["language"].isin(few)]
        without = slope_of_gap(kept, languages, name="slope without languages of few shared features")
        sentences.append(f"{without.sentence()} (left out: {', '.join(few)}).")
        limits.append(f"Distances of {', '.join(few)} rest on fewer than {tables.FEW_FEATURES} shared URIEL features.")
    return Analysis(
        study="typology",
        question=QUESTION,
        design=f"{len(conditions)} conditions, {scores['target'].nunique()} targets, {pooled.n} languages, "
        f"{scores['seed'].nunique()} seeds; one gap per language, pooled over targets by least squares.",
        headline=[pooled, *changes],
        tables=answer_tables,
        figures=[_figure(effects)],
        sentences=sentences,
        limits=limits,
        methods=METHODS.format(distance=languages.attrs.get("distance", tables.URIEL)),
    )


def study(finished: Finished) -> Analysis:
    """The answer from a finished run; settings: resamples."""
    zero_shot, languages = finished.zero_shot(), finished.languages
    resamples = int(finished.settings.get("resamples", 2000))
    analysis = analyse(zero_shot, languages, resamples=resamples)
    analysis.tables["Scores by condition (points): the gap is not the score"] = _levels(zero_shot)
    by_target = _by_target(zero_shot, languages, resamples=resamples)
    analysis.tables["Rank correlation of the gap with distance, by target"] = by_target
    retrieval = finished.against_english()
    if len(retrieval):
        analysis.tables["Retrieval, apart: it has no English score"] = _retrieval(retrieval, languages)
    return analysis


def _levels(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over targets of the English score and of the mean of the others, by condition."""
    kind = scores["language"].eq(SOURCE_LANGUAGE).map({True: "English", False: "others"})
    by = scores.assign(kind=kind).groupby(["intermediate", "kind", "target"])["score"].mean()
    table = by.groupby(level=[0, 1]).mean().unstack("kind")
    table = table.loc[[BASELINE, *(name for name in table.index if name != BASELINE)]]
    base = table.loc[BASELINE]
    return table.assign(**{f"{kind} - none": table[kind] - base[kind] for kind in table.columns})


def _by_target(scores: pd.DataFrame, languages: pd.DataFrame, *, resamples: int) -> pd.DataFrame:
    rows = []
    gap = tables.seed_means(tables.gaps(scores), "gap")
    for (target, condition), part in gap.groupby(["target", "intermediate"]):
        if len(part) >= statistics.FEWEST:
            rho = statistics.spearman(languages.loc[part["language"], "distance"], part["gap"], resamples=resamples)
            rows.append({"target": target, "intermediate": condition, "languages": rho.n, "rho": rho.value,
                         "interval": (rho.low, rho.high), "p": rho.p})  # fmt: skip
    return pd.DataFrame(rows)


def _retrieval(scores: pd.DataFrame, languages: pd.DataFrame) -> pd.DataFrame:
    rows = []
    mean = tables.seed_means(scores)
    for (target, condition), part in mean.groupby(["target", "intermediate"]):
        row = {"target": target, "intermediate": condition, "languages": len(part), "mean": part["score"].mean()}
        if condition != BASELINE:
            base = mean[(mean["target"] == target) & (mean["intermediate"] == BASELINE)]
            gain = statistics.mean(part.set_index("language")["score"] - base.set_index("language")["score"])
            row |= {"gain": gain.value, "interval": (gain.low, gain.high)}
        if len(part) >= statistics.FEWEST:
            distance = languages.loc[part["language"], "distance"]
            row |= {"rho with distance": statistics.rho(distance, part["score"])}
        rows.append(row)
    return pd.DataFrame(rows)


def _effects(scores: pd.DataFrame, languages: pd.DataFrame) -> pd.DataFrame:
    """One row per language; `effect` is its gap in points."""
    if "intermediate" not in scores:
        scores = scores.assign(intermediate="all")
    mean = tables.gaps(scores).groupby(["target", "language"], as_index=False)["gap"].mean()
    rows = tables.described(statistics.language_effects(mean, "gap"), languages)
    return rows.assign(effect=rows["effect"] + mean["gap"].mean())


def _slope_of_effects(rows: pd.DataFrame) -> Estimate:
    rows, size = tables.held(rows)
    return statistics.slope(rows["effect"], rows["distance"], size)


def _row(condition: str, scores: pd.DataFrame, languages: pd.DataFrame, *, seed: int, resamples: int) -> dict:
    own = scores[scores["intermediate"] == condition]
    rows = _effects(own, languages)
    rho = statistics.spearman(rows["distance"], rows["effect"], seed=seed, resamples=resamples)
    kept, size = tables.held(rows)
    partial = rho
    if size:
        partial = statistics.spearman(
            kept["distance"], kept["effect"], list(size.values()), seed=seed, resamples=resamples
        )
    steep = slope_of_gap(own, languages)
    return {
        "intermediate": condition,
        "languages": len(rows),
        "mean gap": rows["effect"].mean(),
        "rho": rho.value,
        "rho interval": (rho.low, rho.high),
        "partial rho": partial.value,
        "partial rho interval": (partial.low, partial.high),
        "slope": steep.value,
        "slope interval": (steep.low, steep.high),
    }


def _figure(effects: dict[str, pd.DataFrame]) -> Figure:
    def draw(axes: Any) -> None:
        for condition, rows in effects.items():
            x = np.linspace(rows["distance"].min(), rows["distance"].max(), 50)
            points = axes.scatter(rows["distance"], rows["effect"], s=18, alpha=0.75, label=condition)
            mean, low, high = statistics.band(rows["effect"], rows["distance"], x)
            axes.plot(x, mean, color=points.get_facecolor()[0], linewidth=1.6)
            if condition == BASELINE:  # five bands over each other show nothing
                axes.fill_between(x, low, high, color=points.get_facecolor()[0], alpha=0.12, linewidth=0)
        axes.set(xlabel="syntactic distance from English", ylabel="gap to English (points)")
        axes.legend(frameon=False, fontsize=8)
        rows = effects[BASELINE]
        label_points(axes, zip(rows.index, rows["distance"], rows["effect"], strict=True))

    caption = "Gap to English of each language (pooled over targets) against its distance; the band is 95 % of none."
    return Figure("typology", caption, draw)


METHODS = """\
For every target and language we take the gap between the English score and the language's score, averaged over seeds,
and reduce the gaps to one effect per language by least squares on target and language indicators. We regress these
effects on the syntactic distance from English {distance}, with HC3 standard errors. Rank
correlations carry percentile bootstrap intervals over languages and permutation p values; changes of slope against the
baseline are Holm-corrected (Holm 1979). Languages, not scores, are the sampling unit."""
