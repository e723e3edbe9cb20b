"""Score tables with a planted effect, one simulator per study: analyses must recover it, and must not invent one.

    s(i, t, l, seed) = mu_t + beta_i - gamma_i distance_l + delta log_size_l + u_l + v_lt + eps

The languages of each target are the real ones of XTREME, so designs are as unbalanced as real ones.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from xtl.benchmark.aggregate import XTREME
from xtl.runs.results import SOURCE_LANGUAGE

TARGETS = ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa")


def scores(
    rng: np.random.Generator,
    languages: pd.DataFrame,
    *,
    conditions: Mapping[str, tuple[float, float]],
    targets: Sequence[str] = TARGETS,
    seeds: int = 3,
    size_effect: float = 0.0,
    language_sd: float = 4.0,
    language_task_sd: float = 3.0,
    condition_language_sd: float = 1.0,
    noise: float = 1.0,
) -> pd.DataFrame:
    """A table of scores. conditions: name -> (beta: points everywhere, gamma: points lost per unit of distance).

    English has distance 0, so gamma is the slope of the gap on distance. The language effects u_l and v_lt are common
    to all conditions (they cancel in gains); each condition also has an own effect on each language.
    """
    codes = languages.index.tolist()
    far = languages["distance"].to_dict()
    size = (size_effect * (languages["log_size"] - languages.loc[SOURCE_LANGUAGE, "log_size"])).to_dict()
    foreign = {code: float(code != SOURCE_LANGUAGE) for code in codes}  # English has no deviations: gaps are against it
    own = dict(zip(codes, rng.normal(0, language_sd, len(codes)), strict=True))
    columns: dict[str, list] = {name: [] for name in ("intermediate", "target", "language", "split", "seed", "score")}
    for target in targets:
        spoken = [c for c in XTREME.languages[target] if c in foreign]
        zero = np.array([foreign[c] for c in spoken])
        common = rng.uniform(55, 85) + np.array([size[c] + foreign[c] * own[c] for c in spoken])
        common = common + zero * rng.normal(0, language_task_sd, len(spoken))
        distance = np.array([far[c] for c in spoken])
        for name, (beta, gamma) in conditions.items():
            mean = common + beta - gamma * distance + zero * rng.normal(0, condition_language_sd, len(spoken))
            for seed in range(seeds):
                columns["intermediate"] += [name] * len(spoken)
                columns["target"] += [target] * len(spoken)
                columns["language"] += spoken
                columns["split"] += ["test"] * len(spoken)
                columns["seed"] += [seed] * len(spoken)
                columns["score"] += (mean + rng.normal(0, noise, len(spoken))).tolist()
    return pd.DataFrame(columns)


def tier_scores(
    rng: np.random.Generator,
    languages: pd.DataFrame,
    *,
    advantage: Mapping[str, float],
    sd: float = 3.0,
    seeds: int = 3,
) -> pd.DataFrame:
    """English and multilingual conditions of equal size, the second better by `advantage[tier]` points on average."""
    both = scores(rng, languages, conditions={"english": (2.0, 10.0), "multilingual": (2.0, 10.0)}, seeds=seeds,
                  condition_language_sd=0.0)  # fmt: skip
    codes = languages.index.tolist()
    draw = {c: advantage[languages.loc[c, "tier"]] + rng.normal(0, sd) for c in codes}
    more = both["language"].map(draw).where(both["intermediate"] == "multilingual", 0.0)
    return both.assign(score=both["score"] + more)


def divergences(
    rng: np.random.Generator, *, slope: float, intermediates: int = 9, targets: int = 9, sd: float = 1.5
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(gains, distances) of every (intermediate, target): gain = a_i + b_t + slope d + eps. Tasks that help are also
    nearer to everything, so that an analysis without indicators of the tasks is fooled."""
    general = rng.normal(0, 1, intermediates)
    needy = rng.normal(0, 1, targets)
    d = 0.5 - 0.1 * general[:, None] + 0.1 * needy[None] + rng.normal(0, 0.15, (intermediates, targets))
    gain = 1 + 1.5 * general[:, None] + rng.normal(0, 1, targets)[None] + slope * d + rng.normal(0, sd, d.shape)
    index = [(f"i{i}", f"t{t}") for i in range(intermediates) for t in range(targets)]
    frame = pd.DataFrame(index, columns=["intermediate", "target"])
    return frame.assign(gain=gain.ravel()), frame.assign(distance=d.ravel())


def retrieval_scores(
    rng: np.random.Generator,
    languages: pd.DataFrame,
    trained: Sequence[str],
    *,
    slope: float,
    sd: float = 2.0,
    seeds: int = 3,
) -> pd.DataFrame:
    """Retrieval scores after training in each language of `trained`: effect = slope x (10 MATTR) + noise, and a bonus
    for the training language itself that must not count."""
    codes = [c for c in languages.index if c != SOURCE_LANGUAGE]
    easy = rng.normal(40, 12, len(codes))
    parts = []
    for language in trained:
        effect = slope * 10 * (languages.loc[language, "mattr"] - 0.55) + rng.normal(0, sd)
        pair = rng.normal(0, 3, len(codes)) + 10.0 * (np.array(codes) == language)
        for seed in range(seeds):
            score = easy + effect + pair + rng.normal(0, 1, len(codes))
            parts.append(pd.DataFrame({"intermediate": language, "language": codes, "seed": seed, "score": score}))
    return pd.concat(parts, ignore_index=True).assign(target="tatoeba", split="test")


def domain_gains(
    rng: np.random.Generator, *, similarity: float, interaction: float, seeds: int = 5, sd: float = 1.0
) -> pd.DataFrame:
    """Gains by domain, format, size and seed: similarity to the target helps by `similarity` points at the middle size
    and by `interaction` more for each doubling. Each seed has its own deviation from the truth."""
    sizes, rows = (500, 1000, 2000, 5000, 10000), []
    middle = np.log2(sizes).mean()
    for seed in range(seeds):
        a, b = similarity + rng.normal(0, sd), interaction + rng.normal(0, sd / 3)
        for form in ("span", "choice"):
            for domain, near in (("general", 0.8), ("special", 0.4)):
                for target in ("tydiqa", "xcopa"):
                    for size in sizes:
                        doublings = np.log2(size) - middle
                        gain = 1 + 0.4 * doublings + near * (a + b * doublings) + rng.normal(0, sd)
                        rows.append((form, domain, target, near, size, seed, gain))
    return pd.DataFrame(rows, columns=["format", "domain", "target", "similarity", "size", "seed", "gain"])
