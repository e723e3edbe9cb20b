"""SQuAD v1.1, SQuAD v2.0 and MLQA scoring: each rule by hand, then properties on arbitrary text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtl.errors import XtlError
from xtl.metrics.qa import mlqa, normalise_mlqa, normalise_squad, squad, squad_v2, token_f1

MLQA_LANGUAGES = ("en", "es", "hi", "vi", "de", "ar", "zh")
# Emoji with joiners, right-to-left text with marks, combining marks, empty answers: what real answers hold.
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "👩‍👩‍👧 the", "السَّلام", "שָׁלוֹם", "e\u0301te\u0301", "the", "?!", "１９４５年", "ไทย", "a\u2028b"]
    ),
)
answered = st.dictionaries(st.text(max_size=4), st.tuples(st.lists(texts, min_size=1, max_size=3), texts), min_size=1)


def split(questions):
    gold = {key: answers for key, (answers, _) in questions.items()}
    return gold, {key: prediction for key, (_, prediction) in questions.items()}


# ---------------------------------------------------------------- normalisation


def test_squad_drops_case_ascii_punctuation_english_articles_and_spaces():
    assert normalise_squad('  The "Pale-Blue"\tDot, an  A-team ') == "paleblue dot ateam"


def test_squad_articles_go_only_as_whole_words():
    assert normalise_squad("another theory of a man") == "another theory of man"


def test_squad_keeps_other_punctuation_and_other_articles():
    assert normalise_squad("«Der Spiegel»。") == "«der spiegel»。"


def test_squad_has_no_rule_for_languages_without_spaces():
    assert token_f1(normalise_squad("北京市"), normalise_squad("北京")) == 0.0


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The cat, a dog – an owl", "cat dog owl"),
        ("es", "El gato y unas perras, la luna; los un una unos las fin", "gato y perras luna fin"),
        ("vi", "Những cái bàn của chiếc là xe", "bàn xe"),
        ("de", "Der Hund einer Frau des Dorfes einem eines", "hund frau dorfes"),
        ("de", "derart", "derart"),
        ("hi", "एक किताब।", "एक किताब"),
        ("zh", "the 北京", "the 北 京"),
    ],
)
def test_mlqa_articles_of_each_language(language, text, expected):
    assert normalise_mlqa(text, language) == expected


def test_mlqa_arabic_article_is_cut_anywhere_and_leaves_a_space():
    assert normalise_mlqa("الكتاب", "ar") == "كتاب"
    assert normalise_mlqa("والكتاب", "ar") == "و كتاب"
    assert normalise_mlqa("خيال", "ar") == "خي"


def test_mlqa_removes_unicode_punctuation_and_ascii_symbols():
    assert normalise_mlqa("«¿Qué?» – $5+5…", "es") == "qué 55"
    assert normalise_mlqa("، نعم؟", "ar") == "نعم"


def test_mlqa_chinese_characters_are_tokens_and_the_rest_splits_on_spaces():
    assert normalise_mlqa("1949年10月 Mao Zedong，在北京。", "zh") == "1949 年 10 月 mao zedong 在 北 京"


def test_mlqa_chinese_range_ends_at_9fa5():
    assert normalise_mlqa("\u9fa5\u9fa6\u9fa7", "zh") == "\u9fa5 \u9fa6\u9fa7"  # as does the script's expression


def test_mlqa_refuses_other_languages():
    with pytest.raises(XtlError, match="no rules for language 'fr'"):
        mlqa({"q": ["a"]}, {"q": "a"}, language="fr")


# ---------------------------------------------------------------- scores


def test_squad_of_a_hand_counted_case():
    gold = {"q1": ["in 1945", "1945"], "q2": ["Super Bowl 50"], "q3": ["Denver Broncos"]}
    predictions = {"q1": "the 1945", "q2": "Bowl 50 game", "q3": "Panthers"}
    # EM 1, 0, 0; F1 1, 2/3 (2 of 3 tokens both ways), 0
    assert squad(gold, predictions) == {
        "em": pytest.approx(100 / 3),
        "f1": pytest.approx(500 / 9),
        "em_f1": pytest.approx((100 / 3 + 500 / 9) / 2),
    }


def test_f1_counts_tokens_with_multiplicity():
    assert token_f1("no no no yes", "no yes yes") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


def test_mlqa_chinese_f1_is_over_characters():
    # gold 4 characters, prediction 2 of them: precision 1, recall 1/2
    assert mlqa({"q": ["中国北京"]}, {"q": "北京"}, language="zh")["f1"] == pytest.approx(100 * 2 / 3)


def test_v1_gives_a_gold_answer_without_tokens_em_1_and_f1_0():
    assert squad({"q": ["The"]}, {"q": "a"}) == {"em": 100.0, "f1": 0.0, "em_f1": 50.0}


def test_missing_and_foreign_ids_are_errors_or_follow_the_script():
    gold = {"q1": ["x"], "q2": ["y"]}
    with pytest.raises(XtlError, match="1 of 2 questions have no prediction, the first is q2"):
        squad(gold, {"q1": "x"})
    with pytest.raises(XtlError, match="unknown questions, the first is q9"):
        squad(gold, {"q1": "x", "q2": "y", "q9": "z"})
    assert squad(gold, {"q1": "x", "q9": "z"}, strict=False)["em"] == 50.0


def test_v1_refuses_a_question_without_gold_answer():
    with pytest.raises(XtlError, match="question q has no gold answer"):
        squad({"q": []}, {"q": ""})


# ---------------------------------------------------------------- SQuAD v2.0

V2_GOLD = {"a": ["red car"], "b": [], "c": ["blue"], "d": []}
V2_BEST = {"a": "red car", "b": "green", "c": "the blue sky", "d": "white"}


def test_v2_final_answers():
    scores = squad_v2(V2_GOLD, {"a": "red car", "b": "", "c": "blue sky", "d": "white"})
    assert scores["em"] == 50.0 and scores["f1"] == pytest.approx(100 * (1 + 1 + 2 / 3 + 0) / 4)
    assert scores["has_answer_em"] == 50.0 and scores["no_answer_em"] == 50.0
    assert "best_em" not in scores


def test_v2_answers_nothing_above_the_threshold():
    scores = squad_v2(V2_GOLD, V2_BEST, null_scores={"a": -3.0, "b": 1.0, "c": 0.5, "d": 0.0})
    assert scores["em"] == 50.0  # a right; b nulled, right; c nulled, wrong; d at the threshold is not nulled, wrong
    scores = squad_v2(V2_GOLD, V2_BEST, null_scores={"a": -3.0, "b": 1.0, "c": 0.5, "d": 0.0}, threshold=-1.0)
    assert scores["em"] == 75.0


def test_v2_best_threshold_search():
    # Start: 2 unanswerable, all nulled: 2. Admit a (+1 EM, +1 F1) = 3; c (+0 EM, +2/3 F1) = 3.67; d (-1); b (-1).
    scores = squad_v2(V2_GOLD, V2_BEST, null_scores={"a": -3.0, "b": 2.0, "c": -1.0, "d": 0.0})
    assert (scores["best_em"], scores["best_em_threshold"]) == (75.0, -3.0)
    assert (scores["best_f1"], scores["best_f1_threshold"]) == (pytest.approx(100 * (3 + 2 / 3) / 4), -1.0)
    assert scores["best_em_f1"] == pytest.approx((scores["best_em"] + scores["best_f1"]) / 2)


def test_v2_best_threshold_lies_below_all_when_answering_nothing_is_best():
    scores = squad_v2({"a": [], "b": ["x"]}, {"a": "y", "b": "z"}, null_scores={"a": -5.0, "b": -4.0})
    assert (scores["best_em"], scores["best_em_threshold"]) == (50.0, -6.0)


def test_v2_counts_answers_without_tokens_as_empty():
    assert squad_v2({"q": ["the"]}, {"q": ""})["f1"] == 100.0
    assert squad_v2({"q": ["blue"]}, {"q": "?"})["f1"] == 0.0


def test_v2_refuses_missing_ids_and_null_scores():
    with pytest.raises(XtlError, match="no prediction"):
        squad_v2(V2_GOLD, {"a": "x"})
    with pytest.raises(XtlError, match="1 of 4 questions"):
        squad_v2(V2_GOLD, V2_BEST, null_scores={"a": 0.0, "b": 0.0, "c": 0.0})


words = st.sampled_from(["red", "red car", "a red car", "blue", "blue sky", "北京"])


@given(st.lists(st.tuples(st.booleans(), words, words, st.integers(-9, 9)), min_size=1, unique_by=lambda q: q[3]))
def test_v2_search_finds_the_best_of_all_thresholds_without_ties(questions):
    gold = {str(i): [answer] if has else [] for i, (has, answer, _, _) in enumerate(questions)}
    best = {str(i): text for i, (_, _, text, _) in enumerate(questions)}
    null_scores = {str(i): float(score) for i, (_, _, _, score) in enumerate(questions)}
    scores = squad_v2(gold, best, null_scores=null_scores)
    for name in ("em", "f1"):
        tried = [
            squad_v2(gold, best, null_scores=null_scores, threshold=threshold)[name]
            for threshold in [min(null_scores.values()) - 1, *null_scores.values()]
        ]
        assert scores[f"best_{name}"] == pytest.approx(max(tried))
        threshold = scores[f"best_{name}_threshold"]
        assert squad_v2(gold, best, null_scores=null_scores, threshold=threshold)[name] == pytest.approx(max(tried))


# ---------------------------------------------------------------- properties


@given(answered)
def test_scores_lie_in_range_and_em_never_exceeds_f1_where_answers_have_tokens(questions):
    gold, predictions = split(questions)
    scores = squad(gold, predictions)
    assert 0 <= scores["em"] <= 100 and 0 <= scores["f1"] <= 100
    with_tokens = {key: answers for key, answers in gold.items() if all(map(normalise_squad, answers))}
    if with_tokens:
        scores = squad(with_tokens, predictions, strict=False)
        assert scores["em"] <= scores["f1"] + 1e-9


@given(answered, st.sampled_from(MLQA_LANGUAGES))
def test_mlqa_takes_any_text_and_normalising_leaves_single_spaces(questions, language):
    gold, predictions = split(questions)
    scores = mlqa(gold, predictions, language=language)
    assert 0 <= scores["em"] <= 100 and 0 <= scores["f1"] <= 100
    for text in predictions.values():
        normalised = normalise_mlqa(text, language)
        assert normalised.split() == (normalised.split(" ") if normalised else [])
        assert not any(unicodedata.category(c).startswith("P") for c in normalised)


@given(answered, st.sampled_from(MLQA_LANGUAGES))
def test_the_gold_answer_itself_is_an_exact_match(questions, language):
    gold, _ = split(questions)
    predictions = {key: answers[-1] for key, answers in gold.items()}
    assert squad(gold, predictions)["em"] == 100.0
    assert mlqa(gold, predictions, language=language)["em"] == 100.0
    if all(normalise_mlqa(text, language) for text in predictions.values()):
        assert mlqa(gold, predictions, language=language)["f1"] == pytest.approx(100.0)
    if all(map(normalise_squad, predictions.values())):  # v2.0 drops gold answers without tokens beside others
        assert squad_v2(gold, predictions)["f1"] == pytest.approx(100.0)


@given(answered, st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_the_order_of_questions(questions, random):
    gold, predictions = split(questions)
    shuffled = dict(random.sample(list(gold.items()), len(gold)))
    assert squad(shuffled, predictions) == pytest.approx(squad(gold, predictions))
    assert squad_v2(shuffled, predictions) == pytest.approx(squad_v2(gold, predictions))
