"""Morphology: does intermediate training on morphologically rich languages help sentence retrieval?

Each condition trains on the same examples in one language. Outcome: retrieval accuracy of every other language, one
effect a training language; predictor: its richness (moving-average type-token ratio of parallel text).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import regex

from xtl.errors import XtlError
from xtl.studies import statistics, tables
from xtl.studies.analysis import Analysis, Figure, name_points
from xtl.studies.statistics import Estimate

QUESTION = "Does intermediate training on a morphologically rich language help retrieval more than on a poor one?"
RICH = 0.6  # MATTR at and above which a language counts as rich
NO_SPACES = ("zh", "ja", "th", "my")  # need a segmenter: no type-token ratios for them

# ---------------------------------------------------------------- richness of a text


def words(text: str) -> list[str]:
    """Words as runs of letters, marks and digits. Python's `\\w` splits Indic vowel signs off and wrecks the counts."""
    return regex.findall(r"[\p{L}\p{M}\p{N}]+", text.lower())


def mattr(texts: Iterable[str], *, language: str, window: int = 500) -> float:
    """Moving-average type-token ratio (Covington & McFall 2010), 0..1. Refuses scripts without spaces, short texts."""
    if language in NO_SPACES:
        raise XtlError(f"{language} is written without spaces: a type-token ratio needs a segmenter; leave it out")
    tokens = [word for text in texts for word in words(text)]
    if len(tokens) < window:
        raise XtlError(f"{language}: {len(tokens)} words are fewer than the window of {window}; give more text")
    counts: dict[str, int] = {}
    ratios = []
    for i, token in enumerate(tokens):
        counts[token] = counts.get(token, 0) + 1
        if i >= window:
            old = tokens[i - window]
            counts[old] -= 1
            if not counts[old]:
                del counts[old]
        if i >= window - 1:
            ratios.append(len(counts) / window)
    return float(np.mean(ratios))


def fertility(pieces: Sequence[int]) -> dict[str, float]:
    """Pieces a word and share of words in two or more pieces, from the piece count of each word (Rust et al. 2021)."""
    counts = np.asarray(pieces)
    return {"fertility": float(counts.mean()), "continued": float((counts > 1).mean())}


# ---------------------------------------------------------------- analysis


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
    rows = tables.described(effects, languages).drop(index=tables.SOURCE, errors="ignore")
    rows = rows[rows["mattr"].notna()]
    high = rows["mattr"] >= rich
    return statistics.difference(rows["effect"][high], rows["effect"][~high], name=name, unit="training languages")


def one_layer(options: Mapping[str, Mapping[str, Any]]) -> tuple[int, str]:
    """(layer, pooling) of the retrieval of every condition. `options`: stage -> its evaluation options.

    XtlError unless all name one layer and the same: the best layer of each condition would compare layers, and it
    reverses conclusions.
    """
    first = ""
    for name, own in options.items():
        if "layer" not in own:
            raise XtlError(f"stage {name}: retrieval names no layer; give options.layer, one for all conditions")
        if first and any(own.get(k) != options[first].get(k) for k in ("layer", "pooling", "centre")):
            raise XtlError(
                f"stages {first} and {name} retrieve with different vectors ({dict(options[first])}, {dict(own)}): "
                "choose one layer and pooling for all conditions, beforehand"
            )
        first = first or name
    return options[first]["layer"], options[first].get("pooling", "mean")


def analyse(
    scores: pd.DataFrame,
    languages: pd.DataFrame,
    *,
    relatives: dict[str, tuple[str, ...]] | None = None,
    rich: float = RICH,
) -> Analysis:
    """`scores`: retrieval targets; conditions are `none` and training language codes. rich: see rich_minus_poor."""
    trained = scores[scores["intermediate"] != tables.BASELINE]
    effects = training_effects(trained)
    headline = [slope_on_richness(effects, languages)]
    rows = tables.described(effects, languages)
    known = rows[rows["mattr"].notna()].drop(index=tables.SOURCE, errors="ignore")
    groups = (known["mattr"] >= rich).value_counts()
    if len(groups) == 2 and groups.min() >= 2:
        headline.append(rich_minus_poor(effects, languages, rich=rich))
    if relatives:
        strict = training_effects(trained, relatives=relatives)
        headline.append(
            slope_on_richness(strict, languages, name="the same without relatives of the training language")
        )
    table = rows[["name", "family", "mattr", "effect"]].sort_values("mattr", ascending=False)
    if (scores["intermediate"] == tables.BASELINE).any():
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
        name_points(axes, zip(known.index, known["mattr"], known["effect"], strict=True), size=8)
        axes.set(xlabel="richness of the training language (MATTR)", ylabel="effect on retrieval (points)")

    return Figure(
        "morphology", "Effect of each training language on the retrieval of the others, by its richness.", draw
    )


METHODS = """\
We train the same intermediate examples in one language at a time and score sentence retrieval in all others with one
fixed layer and pooling. Scores are reduced to one effect a training language by least squares on training-language and
(target, evaluated language) indicators, without the training language's own cells, and regressed on its moving-average
type-token ratio over parallel text (Covington & McFall 2010; window 500), HC3 errors, t interval over training
languages."""
