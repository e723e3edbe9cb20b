"""Domain: does the match of domain between intermediate and target data matter, and how does it interact with size?

Design: domain (general, special) x format x size of the intermediate set x seeds. The headline is the interaction of
domain similarity with log2 size, estimated once per seed: seeds are what is sampled.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from xtl.errors import XtlError
from xtl.studies import predictors, statistics, tables
from xtl.studies.analysis import Analysis, Figure
from xtl.studies.finished import Finished
from xtl.studies.statistics import Estimate

QUESTION = "Does it help when the intermediate data is from the target's domain, and does size change that?"


def seed_coefficients(table: pd.DataFrame) -> pd.DataFrame:
    """One row per seed: slopes of gain on similarity, on log2 size, and on their product, within format and target.

    `table` rows: format, target, similarity, size, seed, gain. Similarity and size are centred within format and
    target, so that nothing is learnt from comparing formats, which may differ in sizes and in how steeply these help;
    `similarity` is then its effect at the middle size. Raises XtlError when domain is confounded with format or size.
    """
    needed = {"format", "target", "similarity", "size", "seed", "gain"}
    if missing := needed - set(table.columns):
        raise XtlError(f"domain: the table lacks the columns {', '.join(sorted(missing))}")
    for (form, target), part in table.groupby(["format", "target"]):
        by_domain = part.groupby("similarity")["size"].agg(frozenset)
        if len(by_domain) < 2:
            raise XtlError(f"domain: {form} on {target} has one domain only; compare domains within a format")
        if by_domain.nunique() > 1:
            raise XtlError(f"domain: the domains of {form} on {target} have different sizes; compare them at the same")
    cell = table["format"] + "/" + table["target"]

    def centred(values: pd.Series) -> pd.Series:
        return values - values.groupby(cell).transform("mean")

    similarities, sizes = centred(table["similarity"].astype(float)), centred(np.log2(table["size"].astype(float)))
    rows = []
    for seed, part in table.groupby("seed"):
        cells = pd.get_dummies(cell[part.index]).to_numpy(float)
        similarity, size = similarities[part.index].to_numpy(), sizes[part.index].to_numpy()
        design = np.column_stack([similarity, size, similarity * size, cells])
        coefficients = np.linalg.lstsq(design, part["gain"].to_numpy(float), rcond=None)[0]
        rows.append({"seed": seed, **dict(zip(("similarity", "log_size", "interaction"), coefficients, strict=False))})
    return pd.DataFrame(rows)


def analyse(table: pd.DataFrame) -> Analysis:
    """`table` as seed_coefficients takes it."""
    headline = coefficients(table)
    by_cell = table.groupby(["format", "target", "domain", "size"])["gain"].agg(["mean", "std", "count"])
    return Analysis(
        study="domain",
        question=QUESTION,
        design="; ".join(
            f"{form}: {part['domain'].nunique()} domains x {part['size'].nunique()} sizes"
            for form, part in table.groupby("format")
        )
        + f"; {table['seed'].nunique()} seeds.",
        headline=headline,
        tables={"The same by format": _by_format(table), "Gain by domain and size": by_cell},
        figures=[_figure(table), *(_figure(table, target) for target in sorted(table["target"].unique()))],
        sentences=[h.sentence() + "." for h in headline],
        limits=[
            "Seeds are the sample: the result speaks of these sets and targets, not of domains at large.",
            "Formats are compared within, never across: a span set in one domain is never held against a choice set.",
        ],
        methods=METHODS,
    )


def coefficients(table: pd.DataFrame) -> list[Estimate]:
    """The interaction (points per doubling of the set), the effect of similarity, and that of log2 size, over seeds."""
    per_seed = seed_coefficients(table)
    return [
        statistics.mean(per_seed[column], name=label, unit="seeds")
        for column, label in (
            ("interaction", "similarity x log2(size)"),
            ("similarity", "similarity at the middle size"),
            ("log_size", "log2(size)"),
        )
    ]


def study(finished: Finished) -> Analysis:
    """The answer from a finished run; settings: cells (condition -> format, domain, size), texts, limits."""
    cells = pd.DataFrame(finished.settings["cells"]).T.rename_axis("intermediate").reset_index()
    similarities = predictors.similarities(finished, cells)
    mean = finished.scores.groupby(["intermediate", "target", "seed"], as_index=False)["score"].mean()
    gains = tables.gains(mean.assign(language="all"))[["intermediate", "target", "seed", "gain"]]
    table = gains.merge(cells, on="intermediate").merge(similarities, on=["format", "domain", "target"])
    analysis = analyse(table.astype({"size": int}))
    analysis.tables["Similarity of the intermediate texts to the target's English texts"] = similarities
    analysis.limits += list(finished.settings.get("limits") or ())
    return analysis


def _by_format(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {"format": form, "effect": e.name, "value": e.value, "interval": (e.low, e.high), "p": e.p}
        for form, part in table.groupby("format")
        for e in coefficients(part)
    )


def _figure(table: pd.DataFrame, target: str = "") -> Figure:
    """The learning curves over all targets, or of one."""
    rows = table[table["target"] == target] if target else table
    domains, formats = sorted(rows["domain"].unique()), sorted(rows["format"].unique())

    def draw(axes: Any) -> None:
        for (form, domain), part in rows.groupby(["format", "domain"]):
            by_seed = part.groupby(["size", "seed"])["gain"].mean().unstack("seed")
            mean, count = by_seed.mean(axis=1), by_seed.count(axis=1)
            error = by_seed.sem(axis=1).fillna(0) * stats.t.ppf(0.975, np.maximum(count - 1, 1))
            color, style = f"C{formats.index(form)}", ("-", "--")[domains.index(domain) % 2]
            axes.plot(mean.index, mean, style, marker="o", markersize=4, color=color, label=f"{form}, {domain}")
            axes.fill_between(mean.index, mean - error, mean + error, color=color, alpha=0.12, linewidth=0)
        sizes = sorted(rows["size"].unique())
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(xlabel="examples of the intermediate set", ylabel="gain over none (points)")
        axes.legend(frameon=False, fontsize=8, handlelength=3.5)

    of = f" on {target}" if target else ", mean over targets"
    caption = f"Learning curves of the gain{of}, by domain and format; bands are 95 % over seeds."
    return Figure(f"domain-{target}" if target else "domain", caption, draw)


METHODS = """\
For each seed we regress the gain over no intermediate training on the similarity of the intermediate set's domain to
the target (1 - Jensen-Shannon divergence of unigrams), the log2 of its size, and their product, all centred within
format and target. Means over seeds carry t intervals."""
