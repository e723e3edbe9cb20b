"""Multilingual: English against multilingual intermediate QA training, for low-resource languages.

Conditions differ in the languages of the intermediate data at equal size. Outcome: the difference in gain,
D(multilingual) - D(English), one number per language; the answer is its mean over the absent and low tiers.
"""

from typing import Any

import numpy as np
import pandas as pd

from xtl.errors import XtlError
from xtl.report import p_values
from xtl.report.labels import label_points
from xtl.runs.results import SOURCE_LANGUAGE
from xtl.studies import statistics, tables
from xtl.studies.analysis import Analysis, Figure
from xtl.studies.finished import Finished
from xtl.studies.statistics import Estimate

QUESTION = "Is multilingual intermediate QA training better than English for low-resource languages, at equal size?"
LOW = ("absent", "low")


def advantage(
    scores: pd.DataFrame, languages: pd.DataFrame, *, multilingual: str, english: str, trained_on: tuple[str, ...] = ()
) -> pd.DataFrame:
    """One row per language: `effect` = mean over targets and seeds of D(multilingual) - D(english), and its tier.

    Languages of the multilingual training data (`trained_on`) and English are left out: they are not zero-shot.
    """
    both = scores[scores["intermediate"].isin([multilingual, english])]
    versus = tables.gains(both, baseline=english)
    versus = versus[~versus["language"].isin([SOURCE_LANGUAGE, *trained_on])]
    if versus.empty:
        raise XtlError(f"{multilingual} against {english}: no language is left that neither was trained on")
    paired = versus.groupby("language")["gain"].mean()  # a paired difference needs no adjustment for the task
    return tables.described(paired, languages)


def low_tier_advantage(rows: pd.DataFrame, *, name: str = "advantage on absent and low tiers (points)") -> Estimate:
    """The mean advantage over the low-resource languages."""
    return statistics.mean(rows["effect"][rows["tier"].isin(LOW)], name=name)


def tier_interaction(rows: pd.DataFrame, *, name: str = "advantage, low - other tiers (points)") -> Estimate:
    """How much larger the advantage is for low-resource languages than for the others."""
    low = rows["tier"].isin(LOW)
    return statistics.difference(rows["effect"][low], rows["effect"][~low], name=name)


def analyse(
    scores: pd.DataFrame,
    languages: pd.DataFrame,
    *,
    pairs: dict[str, str],
    trained_on: dict[str, tuple[str, ...]] | None = None,
) -> Analysis:
    """`pairs`: multilingual condition -> the English condition of equal size."""
    headline, sentences, table, drawn = [], [], [], {}
    for many, english in pairs.items():
        own = (trained_on or {}).get(many, ())
        rows = advantage(scores, languages, multilingual=many, english=english, trained_on=own)
        drawn[f"{many} - {english}"] = rows
        low = low_tier_advantage(rows, name=f"advantage of {many} over {english} on low tiers")
        headline.append(low)
        sentences.append(low.sentence() + ".")
        if (~rows["tier"].isin(LOW)).sum() > 1:
            sentences.append(tier_interaction(rows, name=f"{many} over {english}, low - other tiers").sentence() + ".")
        for tier in tables.TIERS:
            values = rows["effect"][rows["tier"] == tier]
            if len(values) > 1:
                mean = statistics.mean(values, name=tier)
                table.append(
                    {
                        "comparison": f"{many} - {english}",
                        "tier": tier,
                        "languages": len(values),
                        "advantage": mean.value,
                        "interval": (mean.low, mean.high),
                        "wins": int((values > 0).sum()),
                    }
                )
    corrected = p_values.adjusted([h.p for h in headline], "holm")
    sentences.append(f"Holm-adjusted p of the headline comparisons: {', '.join(f'{p:.3f}' for p in corrected)}.")
    return Analysis(
        study="multilingual",
        question=QUESTION,
        design=f"{len(pairs)} comparisons at equal size, {scores['target'].nunique()} targets, "
        f"{scores['seed'].nunique()} seeds; languages of the training data are left out of every mean.",
        headline=headline,
        tables={"Advantage by tier": pd.DataFrame(table)},
        figures=[_figure(drawn)],
        sentences=sentences,
        limits=[
            "XQuAD and LAReQA are not targets here: XQuAD's items are from SQuAD's development set, in every language.",
            "None of XQuAD's languages is low-resource, so gains there are transfer to languages unseen in training.",
            "A mean over few languages speaks of these languages; the interval treats them as a sample of their tier.",
        ],
        methods=METHODS,
    )


def study(finished: Finished) -> Analysis:
    """The answer from a finished run; settings: pairs, trained_on, and `also`, further pairs outside the headline."""
    trained_on = {name: tuple(codes) for name, codes in finished.settings["trained_on"].items()}
    pairs = dict(finished.settings["pairs"])
    analysis = analyse(finished.scores, finished.languages, pairs=pairs, trained_on=trained_on)
    for many, other in (finished.settings.get("also") or {}).items():
        rows = advantage(
            finished.scores, finished.languages, multilingual=many, english=other, trained_on=trained_on[many]
        )
        low = low_tier_advantage(rows, name=f"advantage of {many} over {other} on low tiers")
        analysis.sentences.append(f"{low.sentence()} (as many different questions; not in the primary family).")
    analysis.limits.append(
        "Left out of every mean, because not zero-shot: "
        + "; ".join(f"{', '.join(trained_on[name])} ({name})" for name in pairs)
        + "."
    )
    return analysis


def _figure(drawn: dict[str, pd.DataFrame]) -> Figure:
    def draw(axes: Any) -> None:
        ticks, points = [], []
        for line, (name, rows) in enumerate(drawn.items()):
            for k, tier in enumerate(t for t in tables.TIERS if (rows["tier"] == t).sum() > 1):
                values = rows["effect"][rows["tier"] == tier]
                mean = statistics.mean(values)
                y = line + 0.2 * (k - 1)
                axes.errorbar(
                    mean.value, y, xerr=[[mean.value - mean.low], [mean.high - mean.value]], fmt="o", color=f"C{k}",
                    capsize=3, label=tier if line == 0 else None,
                )  # fmt: skip
                axes.scatter(values, np.full(len(values), y), s=8, alpha=0.4, color=f"C{k}")
                points += [(str(code), float(value), y) for code, value in values.items()]
            ticks.append(name.replace(" - ", "\n- "))
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.set(yticks=range(len(ticks)), yticklabels=ticks, xlabel="advantage over English of equal size (points)")
        axes.set_ylim(-0.5, len(ticks) - 0.3)
        axes.legend(frameon=False, fontsize=8, title="tier", title_fontsize=8)
        label_points(axes, points, size=6)

    caption = "Advantage by tier: mean with 95 % interval, languages as small dots."
    return Figure("multilingual", caption, draw, size=(6.4, 1.6 + 1.5 * len(drawn)))


METHODS = """\
We compare multilingual with English intermediate training on equally many questions. For every language that neither
set contains we average the paired difference in score over targets and seeds, and test the mean over the languages
that are absent from or small in CC-100 (< 3 GiB) against zero (t interval over languages), Holm-corrected over
comparisons; the interaction with resource tier is Welch's t. Sets that share items with a training set (XQuAD, LAReQA;
Artetxe et al. 2020, Roy et al. 2020) are excluded by construction."""
