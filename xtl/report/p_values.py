"""p values: how they are corrected for their number, and how they are written."""

from collections.abc import Sequence
from typing import Literal

Correction = Literal["holm", "fdr"]


def adjusted(p_values: Sequence[float], correction: Correction) -> list[float]:
    """p values corrected for how many there are.

    "holm" controls the chance of any false finding (Holm 1979): for the few comparisons that a study is about. "fdr"
    controls the share of false findings (Benjamini & Hochberg 1995): for tables with many cells.
    """
    if not p_values:
        return []
    if correction == "fdr":
        from scipy.stats import false_discovery_control

        return [float(p) for p in false_discovery_control(p_values)]
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def number(p: float) -> str:
    """`< 0.001` or `0.012`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def equation(p: float) -> str:
    """`p < 0.001` or `p = 0.012`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
