"""Morphology: does intermediate training on morphologically rich languages help sentence retrieval?

Each condition trains on the same examples in one language. Outcome: retrieval accuracy of every other language, one
effect per training language; predictor: its richness (moving-average type-token ratio of parallel text).
"""

from typing import Any

import numpy as np
import pandas as pd

from xtl.report.labels import label_points
from xtl.runs.results import BASELINE, SOURCE_LANGUAGE
from xtl.studies import predictors, statistics, tables
from xtl.studies.analysis import Analysis, Figure
from xtl.studies.finished import Finished, english_pool
from xtl.studies.record import one_layer
from xtl.studies.statistics import Estimate

QUESTION = "Does intermediate training on a morphologically rich language help retrieval more than on a poor one?"
RICH = 0.6  # MATTR at and above which a language counts as rich


def training_effects(scores: pd.DataFrame, *, relatives: dict[str, tuple[str, ...]] | None = None) -> pd.Series:
    """The effect of each training language on retrieval: score ~ training language + evaluated language x target.

    Conditions are named by their language (`intermediate` = language code). The training language itself is left out of
    its own mean; in a second reading, `relatives` leaves out others too.
    """
    mean = tables.seed_means(scores)
    own = mean["language"] == mean["intermediate"]
    if relatives:
        own |= [
            lang in relatives.get(train, ()) for train, lang in zip(mean["intermediate"], mean["language"], strict=True)
        ]
    rows = mean[~own].assign(cell=lambda m: m["target"] + "/" + m["language"])
    return statistics.language_effects(rows, "score", unit="intermediate", block="cell")


def slope_on_richness(
    effects: pd.Series, languages: pd.DataFrame, *, name: str = "retrieval on MATTR (points per 0.1)"
) -> Estimate:
    """Points of retrieval per 0.1 of richness, over training languages with a known richness."""
    rows = tables.described(effects, languages)
    rows = rows[rows["mattr"].notna()]
    return statistics.slope(rows["effect"], 10 * rows["mattr"].astype(float), name=name, unit="training languages")


def rich_minus_poor(
    effects: pd.Series, languages: pd.DataFrame, *, rich: float = RICH, name: str = "rich - poor, not English"
) -> Estimate:
    """Mean effect of rich training languages (MATTR >= `rich`) minus that of poor ones; English is in neither."""
    rows = tables.described(effects, languages).drop(index=SOURCE_LANGUAGE, errors="ignore")
    rows = rows[rows["mattr"].notna()]
    high = rows["mattr"] >= rich
    return statistics.difference(rows["effect"][high], rows["effect"][~high], name=name, unit="training languages")


def analyse(
    scores: pd.DataFrame,
    languages: pd.DataFrame,
    *,
    relatives: dict[str, tuple[str, ...]] | None = None,
    rich: float = RICH,
) -> Analysis:
    """`scores`: retrieval targets; conditions are `none` and training language codes. rich: see rich_minus_poor."""
    trained = scores[scores["intermediate"] != BASELINE]
    effects = training_effects(trained)
    headline = [slope_on_richness(effects, languages)]
    rows = tables.described(effects, languages)
    known = rows[rows["mattr"].notna()].drop(index=SOURCE_LANGUAGE, errors="ignore")
    groups = (known["mattr"] >= rich).value_counts()
    if len(groups) == 2 and groups.min() >= 2:
        headline.append(rich_minus_poor(effects, languages, rich=rich))
    if relatives:
        strict = training_effects(trained, relatives=relatives)
        headline.append(
            slope_on_richness(strict, languages, name="the same without relatives of the training language")
        )
    table = rows[["name", "family", "mattr", "effect"]].sort_values("mattr", ascending=False)
    if (scores["intermediate"] == BASELINE).any():
        gain = tables.gains(scores)
        table = table.assign(gain=gain[gain["language"] != gain["intermediate"]].groupby("intermediate")["gain"].mean())
    return Analysis(
        study="morphology",
        question=QUESTION,
        design=f"{len(effects)} training languages with the same examples, {scores['target'].nunique()} retrieval "
        f"targets, {scores['seed'].nunique()} seeds; a training language never counts in its own mean.",
        headline=headline,
        tables={"Training languages, richest first": table},
        figures=[_figure(rows)],
        sentences=[h.sentence() + "." for h in headline],
        limits=[
            f"{len(effects)} training languages detect |rho| >= {statistics.detectable_rho(len(effects)):.2f}.",
            "Richness goes with family and script, and the quality of translated training data differs by language.",
            "No type-token ratio exists here for scripts without spaces; those languages are in the table only.",
        ],
        methods=METHODS,
    )


def study(finished: Finished) -> Analysis:
    """The answer from a finished run; settings: parallel (see predictors.richness)."""
    layer, pooling = one_layer(
        {
            f"{stage.name} ({task})": stage.config["evaluate"][task]["options"]
            for stage in finished.run.units
            for task in stage.evaluations
            if english_pool(task)
        }
    )
    trained = finished.conditions
    measured = predictors.richness(finished, trained)
    languages = finished.languages.assign(mattr=measured["mattr"].reindex(finished.languages.index))
    relatives = None
    if finished.data.source != "world":
        families = finished.languages["family"]
        relatives = {code: tuple(families.index[families == families[code]]) for code in trained}
    rich = float(measured.loc[[code for code in trained if code != SOURCE_LANGUAGE], "mattr"].median())
    analysis = analyse(finished.scores, languages, relatives=relatives, rich=rich)
    analysis.tables["Richness of the training languages, on parallel text"] = measured
    effects = training_effects(finished.scores[finished.scores["intermediate"] != BASELINE])
    for name in ("fertility", "continued", "word length"):
        known = measured[name].reindex(effects.index).dropna()
        scaled = (known - known.mean()) / known.std()
        slope = statistics.slope(
            effects[known.index], scaled, name=f"retrieval on {name} (points per SD)", unit="training languages"
        )
        analysis.sentences.append(f"{slope.sentence()} (secondary).")
    analysis.limits.append(f"One layer ({layer}) and pooling ({pooling}) for all conditions; another may differ.")
    analysis.limits.append(f"Rich: MATTR at or above the median of the training languages without English, {rich:.2f}.")
    return analysis


def _figure(rows: pd.DataFrame) -> Figure:
    known = rows[rows["mattr"].notna()]

    def draw(axes: Any) -> None:
        axes.scatter(known["mattr"], known["effect"], s=22)
        if known["mattr"].nunique() > 2:
            x = np.linspace(known["mattr"].min(), known["mattr"].max(), 50)
            mean, low, high = statistics.band(known["effect"], known["mattr"], x)
            axes.plot(x, mean, color="C0")
            axes.fill_between(x, low, high, color="C0", alpha=0.15, linewidth=0)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(xlabel="richness of the training language (MATTR)", ylabel="effect on retrieval (points)")
        label_points(axes, zip(known.index, known["mattr"], known["effect"], strict=True), size=8)

    return Figure(
        "morphology", "Effect of each training language on the retrieval of the others, by its richness.", draw
    )


METHODS = """\
We train the same intermediate examples in one language at a time and score sentence retrieval in all others with one
fixed layer and pooling. Scores are reduced to one effect per training language by least squares on training-language
and (target, evaluated language) indicators, without the training language's own cells, and regressed on its
moving-average type-token ratio over parallel text (Covington & McFall 2010; window 500), HC3 errors, t interval over
training languages."""
