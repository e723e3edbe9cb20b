"""Studies: planted effects are recovered at the nominal rate, absent ones are not invented, traps are refused."""

import numpy as np
import pandas as pd
import pytest

from tests.support import simulate
from xtl.errors import XtlError
from xtl.studies import (
    designs,
    divergence,
    domain,
    measures,
    morphology,
    multilingual,
    statistics,
    tables,
    texts,
    typology,
)

DRAWS = 500
LANGUAGES = tables.languages()
ADDED_BY_XTREME_R = ["az", "gu", "ht", "lt", "pa", "pl", "qu", "ro", "uk", "wo"]
XTREME_40 = LANGUAGES.drop(index=ADDED_BY_XTREME_R)


def coverage(estimates, truth):
    return np.mean([e.low <= truth <= e.high for e in estimates])


def rejections(estimates):
    return np.mean([e.p < 0.05 for e in estimates])


def typology_draws(gamma, *, size_effect=0.0, change=0.0, which="slope"):
    for draw in range(DRAWS):
        rng = np.random.default_rng([draw, 7])
        table = simulate.scores(
            rng,
            XTREME_40,
            conditions={"none": (0, gamma), "mnli": (1.5, gamma + change)},
            size_effect=size_effect,
            seeds=2,
        )
        if which == "slope":
            yield typology.slope_of_gap(table, XTREME_40)
        else:
            yield typology.change_of_slope(table, XTREME_40, "mnli")


# ---------------------------------------------------------------- headline statistics: coverage and level


@pytest.mark.parametrize("which", ["slope", "change"])
def test_typology_intervals_cover_the_planted_slope_as_often_as_they_say(which):
    truth = 20.0 if which == "slope" else -6.0
    draws = list(typology_draws(20.0, size_effect=4.0, change=-6.0 if which == "change" else 0.0, which=which))
    assert 0.92 <= coverage(draws, truth) <= 0.98


@pytest.mark.parametrize("which", ["slope", "change"])
def test_typology_finds_no_slope_where_only_pretraining_size_matters(which):
    assert rejections(list(typology_draws(0.0, size_effect=6.0, which=which))) <= 0.07


def test_multilingual_intervals_cover_the_planted_advantage_and_keep_their_level():
    real, null = [], []
    for draw in range(DRAWS):
        for estimates, low in ((real, 3.0), (null, 0.0)):
            rng = np.random.default_rng([draw, 8])
            advantage = {"absent": low, "low": low, "mid": 0.5, "high": 0.0}
            table = simulate.tier_scores(rng, LANGUAGES, advantage=advantage, seeds=1)
            rows = multilingual.advantage(table, LANGUAGES, multilingual="multilingual", english="english")
            estimates.append(multilingual.low_tier_advantage(rows))
    assert 0.92 <= coverage(real, 3.0) <= 0.98
    assert rejections(null) <= 0.07


def test_divergence_intervals_cover_the_planted_slope_and_keep_their_level():
    draws = lambda slope: [
        divergence.slope_of_gain(*simulate.divergences(np.random.default_rng([draw, 9]), slope=slope))
        for draw in range(DRAWS)
    ]
    assert 0.92 <= coverage(draws(-5.0), -5.0) <= 0.98
    assert rejections(draws(0.0)) <= 0.07


def test_morphology_intervals_cover_the_planted_slope_and_keep_their_level():
    trained = [*LANGUAGES.index[LANGUAGES["mattr"].notna()], "bg", "fr", "sw", "ur"]
    languages = LANGUAGES.assign(mattr=LANGUAGES["mattr"].fillna(LANGUAGES["distance"] / 2 + 0.45))

    def draws(slope):
        for draw in range(DRAWS):
            table = simulate.retrieval_scores(
                np.random.default_rng([draw, 10]), languages, trained, slope=slope, seeds=1
            )
            yield morphology.slope_on_richness(morphology.training_effects(table), languages)

    assert 0.92 <= coverage(list(draws(2.0)), 2.0) <= 0.98
    assert rejections(list(draws(0.0))) <= 0.07


def test_domain_intervals_cover_the_planted_interaction_and_keep_their_level():
    draws = lambda value: [
        domain.coefficients(simulate.domain_gains(np.random.default_rng([draw, 11]), similarity=3, interaction=value))[
            0
        ]
        for draw in range(DRAWS)
    ]
    assert 0.92 <= coverage(list(draws(-0.5)), -0.5) <= 0.98
    assert rejections(list(draws(0.0))) <= 0.07


def test_rows_taken_as_independent_would_reject_a_true_null_far_too_often():
    """Why scores are reduced to one number per language first."""
    import statsmodels.api as sm

    rejected = []
    for draw in range(60):
        rng = np.random.default_rng([draw, 12])
        table = tables.gaps(simulate.scores(rng, XTREME_40, conditions={"none": (0, 0.0)}))
        x = sm.add_constant(XTREME_40.loc[table["language"], "distance"].to_numpy())
        centred = table["gap"] - table.groupby("target")["gap"].transform("mean")
        rejected.append(sm.OLS(centred.to_numpy(), x).fit().pvalues[1] < 0.05)
    assert np.mean(rejected) > 0.25


# ---------------------------------------------------------------- statistics


def test_language_effects_do_not_take_a_language_of_hard_tasks_for_a_hard_language():
    rows = [
        (t, l, hard - effect)
        for t, hard in (("easy", 80), ("hard", 40))
        for l, effect in zip("abcd", range(4), strict=True)
    ]
    table = pd.DataFrame(rows, columns=["target", "language", "score"])
    table = table[~((table["target"] == "easy") & (table["language"] == "a"))]
    effects = statistics.language_effects(table, "score")
    assert np.allclose(effects, [1.5, 0.5, -0.5, -1.5])


def test_the_band_of_a_line_is_narrowest_in_the_middle_and_holds_the_line():
    x = np.arange(20.0)
    y = 3 - 2 * x + np.random.default_rng(0).normal(0, 1, 20)
    middle, end = (np.concatenate(statistics.band(y, x, [at])) for at in (9.5, 19.0))
    slope, start = np.polyfit(x, y, 1)
    assert np.isclose(middle[0], start + 9.5 * slope) and middle[1] < 3 - 2 * 9.5 < middle[2]
    assert middle[2] - middle[1] < end[2] - end[1]


def test_language_effects_refuse_tasks_that_share_no_language():
    table = pd.DataFrame({"target": list("xxyy"), "language": list("abcd"), "score": range(4)})
    with pytest.raises(XtlError, match="without a common language"):
        statistics.language_effects(table, "score")


def test_partial_rank_correlation_removes_what_size_explains():
    rng = np.random.default_rng(3)
    size = rng.normal(size=200)
    x, y = size + 0.3 * rng.normal(size=200), size + 0.3 * rng.normal(size=200)
    raw = statistics.spearman(x, y, resamples=200)
    partial = statistics.spearman(x, y, [size], resamples=200)
    assert raw.value > 0.8 and abs(partial.value) < 0.2 and partial.p > 0.01


def test_detectable_correlations_match_the_published_table():
    for n, rho in ((9, 0.83), (14, 0.70), (33, 0.48), (40, 0.44)):
        assert abs(statistics.detectable_rho(n) - rho) < 0.015


# ---------------------------------------------------------------- traps


def test_training_on_xquad_excludes_the_targets_made_of_the_same_items():
    with pytest.raises(XtlError, match="xquad, lareqa"):
        designs.refuse_overlap("xquad", ["xquad", "lareqa", "tydiqa"], split="test")
    designs.refuse_overlap("squad_v1", ["xquad", "mlqa"])  # its training set is clean
    with pytest.raises(XtlError):
        designs.refuse_overlap("squad_v1", ["squad_v1"], split="dev")


def test_indic_vowel_signs_stay_inside_their_words():
    assert texts.words("नमस्ते दुनिया, hello") == ["नमस्ते", "दुनिया", "hello"]


def test_scripts_without_spaces_get_no_type_token_ratio():
    with pytest.raises(XtlError, match="needs a segmenter"):
        measures.mattr(["这是一个句子"], language="zh")


def test_moving_average_type_token_ratio_equals_the_plain_mean_over_windows():
    rng = np.random.default_rng(0)
    tokens = [f"w{i}" for i in rng.integers(0, 40, 300)]
    expected = np.mean([len(set(tokens[i : i + 50])) / 50 for i in range(len(tokens) - 49)])
    assert abs(measures.mattr([" ".join(tokens)], language="de", window=50) - expected) < 1e-12


def test_languages_with_too_few_shared_features_are_reported_with_and_without():
    rng = np.random.default_rng(1)
    table = simulate.scores(rng, LANGUAGES, conditions={"none": (0, 15.0), "mnli": (1, 12.0)})
    analysis = typology.analyse(table, LANGUAGES, resamples=100)
    assert any("left out: af, jv, kk" in s for s in analysis.sentences)
    assert any("fewer than 40 shared" in limit for limit in analysis.limits)


def test_domain_refuses_a_format_seen_in_one_domain_only():
    table = simulate.domain_gains(np.random.default_rng(0), similarity=1, interaction=0)
    with pytest.raises(XtlError, match=r"choice on .* has one domain only"):
        domain.seed_coefficients(table[~((table["format"] == "choice") & (table["domain"] == "special"))])


def test_domain_refuses_domains_of_different_sizes():
    table = simulate.domain_gains(np.random.default_rng(0), similarity=1, interaction=0)
    few = (table["format"] == "span") & (table["domain"] == "special") & (table["size"] > 2000)
    with pytest.raises(XtlError, match=r"domains of span on .* have different sizes"):
        domain.seed_coefficients(table[~few])


def test_domain_learns_nothing_from_comparing_formats():
    """A format that is nearer to the target, steeper in size and has fewer sizes is not taken for an interaction."""
    table = simulate.domain_gains(np.random.default_rng(0), similarity=2, interaction=0.5, seeds=2, sd=0)
    choice = table["format"] == "choice"
    table.loc[choice, "gain"] += 5 * np.log2(table.loc[choice, "size"])
    table.loc[choice, "similarity"] += 0.15
    table = table[~(choice & (table["size"] > 2000))]
    assert np.allclose(domain.seed_coefficients(table)["interaction"], 0.5)


def test_gains_refuse_scores_without_a_baseline_of_the_same_seed():
    table = simulate.scores(np.random.default_rng(0), LANGUAGES, conditions={"none": (0, 0), "mnli": (0, 0)}, seeds=2)
    with pytest.raises(XtlError, match="no counterpart of the same seed"):
        tables.gains(table[~((table["intermediate"] == "none") & (table["seed"] == 1))])


# ---------------------------------------------------------------- measures, tables


def test_divergence_measures_are_zero_for_one_distribution_and_grow_with_a_shift():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 300, 8))
    gamma = measures.median_bandwidth(x, y)
    near, far = measures.mmd(x, y, gamma=gamma), measures.mmd(x, y + 1.0, gamma=gamma)
    assert abs(near) < 0.01 < far
    assert measures.proxy_a_distance(x, y) < 0.4 < 1.2 < measures.proxy_a_distance(x, y + 1.5)
    with pytest.raises(XtlError, match="equal n"):
        measures.mmd(x, y[:10], gamma=gamma)


def test_unigram_divergence_is_bounded_by_zero_and_one():
    same, other = ["the cat sat"] * 3, ["der Hund lief"] * 3
    assert measures.unigram_divergence(same, same) == 0 and abs(measures.unigram_divergence(same, other) - 1) < 1e-9


def test_the_language_table_holds_the_fifty_languages_with_tiers_and_distances():
    assert len(LANGUAGES) == 50 and LANGUAGES.loc["en", "distance"] == 0
    assert LANGUAGES["absent"].sum() == 4 and set(LANGUAGES.index[LANGUAGES["tier"] == "absent"]) == {
        "ht",
        "qu",
        "wo",
        "yo",
    }
    assert LANGUAGES.loc[["bn", "de", "sw"], "tier"].tolist() == ["mid", "high", "low"]
    assert LANGUAGES["distance"].notna().all()


def test_an_encoder_of_one_s_own_text_is_held_against_that_text_and_not_against_cc100():
    table = tables.pretrained_on(LANGUAGES, {"en": 0.1, "de": 0.01})
    assert table.loc["de", "log_size"] == -2 and table.loc["de", "absent"] == 0
    assert table.loc["sw", "log_size"] < -2 and table.loc["sw", "absent"] == 1 and table.loc["sw", "tier"] == "absent"
    assert "pretrained on" in table.attrs["distance"] and "CC-100" not in table.attrs["distance"]
    assert LANGUAGES.loc["sw", "absent"] == 0 and "CC-100" in LANGUAGES.attrs["distance"]


def test_every_analysis_ends_in_sentences_tables_and_a_figure_that_draws():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rng = np.random.default_rng(4)
    table = simulate.scores(rng, LANGUAGES, conditions={"none": (0, 15.0), "mnli": (1, 12.0)})
    tiers = simulate.tier_scores(rng, LANGUAGES, advantage={"absent": 3, "low": 3, "mid": 0, "high": 0})
    base = tiers[tiers["intermediate"] == "english"].assign(intermediate="none")
    gains, distances = simulate.divergences(rng, slope=-5)
    cells = gains.rename(columns={"gain": "score"}).assign(language="de", split="test", seed=0)
    none = cells.drop_duplicates("target").assign(intermediate="none", score=0.0)
    trained = LANGUAGES.index[LANGUAGES["mattr"].notna()].tolist()
    analyses = [
        typology.analyse(table, LANGUAGES, resamples=100),
        multilingual.analyse(pd.concat([tiers, base]), LANGUAGES, pairs={"multilingual": "english"}),
        divergence.analyse(pd.concat([cells, none]), {"mmd": distances}),
        morphology.analyse(simulate.retrieval_scores(rng, LANGUAGES, trained, slope=2.0), LANGUAGES),
        domain.analyse(simulate.domain_gains(rng, similarity=3, interaction=-0.5)),
    ]
    for analysis in analyses:
        assert analysis.headline and analysis.sentences and analysis.tables and analysis.limits and analysis.methods
        for figure in analysis.figures:
            _, axes = pyplot.subplots()
            figure.draw(axes)
            assert axes.get_xlabel() and axes.get_children()
            pyplot.close("all")
