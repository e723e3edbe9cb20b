"""The two tables that every analysis reads: scores, and languages (real or of the world)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xtl import world
from xtl.errors import XtlError
from xtl.report.languages import TABLE
from xtl.runs.results import BASELINE, SOURCE_LANGUAGE

TIERS = ("absent", "low", "mid", "high")  # CC-100: not in it, < 3 GiB, 3 to 20 GiB, more
FEW_FEATURES = 40  # URIEL distances over fewer shared features are unreliable (kk 12, jv 17, af 37, ht 37)

# ---------------------------------------------------------------- languages


URIEL = """\
(cosine on URIEL's completed syntactic features; Littell et al. 2017; Khan et al. 2025) beside the log size of the
language in CC-100 (Conneau et al. 2020)"""
URIEL_OWN = """\
(cosine on URIEL's completed syntactic features; Littell et al. 2017; Khan et al. 2025) beside the log size of the
language in the text that the encoder was pretrained on"""
OWN = "(cosine on the synthetic languages' own features) beside the log share of its text in pretraining"


def languages(path: Path = TABLE) -> pd.DataFrame:
    """The 50 real languages by code.

    Columns: iso639_3, name, family (branch, for Indo-European), script, order, distance (syntactic cosine distance from
    English, 0..1), shared (features behind the angular distance), log_size (log10 GiB of CC-100; an absent language has
    half the smallest size, and `absent` 1), tier, mattr (richness; empty where unknown). attrs["distance"]: in words.
    """
    raw = pd.read_csv(path, comment="#", keep_default_na=False, na_values=[""]).set_index("lang")
    size = raw["cc100_gib"].astype(float)
    absent = size.isna()
    table = pd.DataFrame(
        {
            "iso639_3": raw["iso639_3"],
            "name": raw["name"],
            "family": raw["family"],
            "script": raw["script"],
            "order": raw["word_order"],
            "distance": raw["syn_knn_cos"].astype(float),
            "shared": raw["syn_shared"].astype(int),
            "log_size": np.log10(size.fillna(size.min() / 2)),
            "absent": absent.astype(int),
            "tier": [tier(None if a else s) for s, a in zip(size, absent, strict=True)],
            "mattr": raw["mattr"].astype(float),
        }
    )
    table.attrs["distance"] = URIEL
    return table


def pretrained_on(table: pd.DataFrame, gib: Mapping[str, float]) -> pd.DataFrame:
    """The table for an encoder that was pretrained on other text than CC-100; gib: GiB of it by language.

    Tiers are by CC-100's sizes and say nothing here: a language is "absent" or "high".
    """
    size = pd.Series(gib).reindex(table.index)
    absent = size.isna()
    sized = table.assign(
        log_size=np.log10(size.fillna(size.min() / 2)),
        absent=absent.astype(int),
        tier=absent.map({True: "absent", False: "high"}),
    )
    sized.attrs["distance"] = URIEL_OWN
    return sized


def tier(gib: float | None) -> str:
    """The resource tier of a size in GiB; None is absent."""
    if gib is None or gib == 0:
        return "absent"
    return "low" if gib < 3 else "mid" if gib < 20 else "high"


def world_languages(options: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """The world's languages in the same columns. Size is the language's share of MLM text (1 = "high")."""
    own_world = world.make_world(options)
    shares = {code: row.data_share for code, row in own_world.table.items()}
    smallest = min(share for share in shares.values() if share)
    affixes = {"weak": 0.25, "isolating": 0.0, "fusional": 0.5, "agglutinative": 1.0}
    table = pd.DataFrame(
        {
            code: {
                "iso639_3": code,
                "name": code,
                "family": row.affixation,
                "script": row.script,
                "order": row.order,
                "distance": world.distance(code, own_world),
                "shared": 99,
                "log_size": math.log10(shares[code] or smallest / 2),
                "absent": int(shares[code] == 0),
                "tier": "absent" if not shares[code] else "high" if shares[code] >= 1 else "low",
                "mattr": affixes[row.affixation],
            }
            for code, row in own_world.table.items()
        }
    ).T.infer_objects()
    table.attrs["distance"] = OWN
    return table


# ---------------------------------------------------------------- scores


def scores(results: Path | pd.DataFrame, *, metrics: Mapping[str, str]) -> pd.DataFrame:
    """Rows (intermediate, target, language, split, seed, score) of each target's main metric.

    `results` is a results.csv or its frame, `metrics` target -> metric. Raises XtlError for a target without any row.
    """
    raw = results if isinstance(results, pd.DataFrame) else pd.read_csv(results, keep_default_na=False)
    main = raw["metric"] == raw["target"].map(metrics)
    table = raw[main & raw["target"].isin(list(metrics))].copy()
    table["score"] = table["value"].astype(float)
    for target in metrics:
        if not (table["target"] == target).any():
            raise XtlError(f"no scores of {target} ({metrics[target]}) in the results: run or finish its stages first")
    return table[["intermediate", "target", "language", "split", "seed", "score"]].reset_index(drop=True)


def seed_means(table: pd.DataFrame, value: str = "score") -> pd.DataFrame:
    """The mean over seeds for each (intermediate, target, language)."""
    return table.groupby(["intermediate", "target", "language"], as_index=False)[value].mean()


def gains(table: pd.DataFrame, *, baseline: str = BASELINE) -> pd.DataFrame:
    """D(i, t, l) = s(i, t, l) - s(none, t, l), paired by seed; column `gain`, no rows of the baseline."""
    keys = ["target", "language", "seed"]
    if not (table["intermediate"] == baseline).any():
        raise XtlError(
            f"there is no condition {baseline!r} to compare with; conditions: {_list(table['intermediate'])}"
        )
    base = table[table["intermediate"] == baseline][[*keys, "score"]].rename(columns={"score": "base"})
    merged = table[table["intermediate"] != baseline].merge(base, on=keys, how="inner")
    lost = (table["intermediate"] != baseline).sum() - len(merged)
    if lost:
        raise XtlError(f"{lost} scores have no counterpart of the same seed in {baseline!r}; finish its stages first")
    return merged.assign(gain=merged["score"] - merged["base"])


def gaps(table: pd.DataFrame) -> pd.DataFrame:
    """G(i, t, l) = s(i, t, en) - s(i, t, l), paired by seed; column `gap`, no English rows.

    Targets without English (retrieval) have no gap and are left out.
    """
    keys = ["intermediate", "target", "seed"]
    english = table[table["language"] == SOURCE_LANGUAGE][[*keys, "score"]].rename(columns={"score": "english"})
    merged = table[table["language"] != SOURCE_LANGUAGE].merge(english, on=keys, how="inner")
    if merged.empty:
        raise XtlError("no target has English scores, so there is no gap to English")
    return merged.assign(gap=merged["english"] - merged["score"])


def described(effects: pd.Series, table: pd.DataFrame) -> pd.DataFrame:
    """One row per language: its effect beside its columns in the table of languages. Unknown languages are an error."""
    unknown = sorted(set(effects.index) - set(table.index))
    if unknown:
        raise XtlError(f"the table of languages lacks {', '.join(unknown)}: add them to xtl/report/languages.csv")
    return table.loc[effects.index].assign(effect=effects)


def held(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """(rows, covariates) for a regression that holds pretraining size fixed.

    log_size enters if it varies; the indicator of absent languages if at least three of them are there. One or two
    would be fitted exactly by it and say nothing, so they are left out of the rows.
    """
    few = 0 < rows["absent"].sum() < 3
    rows = rows[rows["absent"] == 0] if few else rows
    names = [name for name in ("log_size", "absent") if rows[name].nunique() > 1]
    return rows, {name: rows[name].to_numpy(float) for name in names}


def _list(values: pd.Series) -> str:
    return ", ".join(map(str, sorted(values.unique())))
