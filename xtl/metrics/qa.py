"""Exact match and F1 of answer texts: SQuAD v1.1 (also XQuAD, TyDiQA), SQuAD v2.0, MLQA.

`gold` maps a question id to its acceptable answers, `predictions` an id to one text. For a text that normalises to
nothing ("the", "?!") the v1.1 and MLQA scripts give an exact match of 1 with an F1 of 0, because no token is shared;
EM <= F1 therefore holds only for answers with tokens. The v2.0 script counts two empty answers as F1 1.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from xtl.errors import XtlError, nearest

Gold = Mapping[str, Sequence[str]]
Normalise = Callable[[str], str]

_ASCII_PUNCTUATION = frozenset(string.punctuation)
_ENGLISH_ARTICLES = re.compile(r"\b(a|an|the)\b")

# MLQA's articles. Word boundaries are those of Python's `re`, where a combining mark is no word character: a decomposed
# letter is cut after its base (an NFD "a" + grave accent loses the "a" in English). The Arabic rule takes the pair of
# letters out wherever it stands, also inside words: the script's pattern (whitespace, the pair, start of text, or the
# pair) can only match by its second half.
_MLQA_ARTICLES = {
    "en": _ENGLISH_ARTICLES,
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "ar": re.compile("ال"),
    "hi": None,
    "zh": None,
}


def normalise_squad(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces. The same for every language: a Thai
    or Chinese answer without spaces is one token."""
    text = "".join(c for c in text.lower() if c not in _ASCII_PUNCTUATION)
    return " ".join(_ENGLISH_ARTICLES.sub(" ", text).split())


def normalise_mlqa(text: str, language: str) -> str:
    """MLQA's rule for one of its seven languages: lower case, without any Unicode punctuation and the language's
    articles, tokens joined by single spaces. In zh each character of U+4E00..U+9FA5 is a token (google-research/
    xtreme#38 disputes a published zh result, not this rule). XtlError for any other language, as the script.
    """
    if language not in _MLQA_ARTICLES:
        raise XtlError(f"MLQA scoring has no rules for language {language!r}.{nearest(language, _MLQA_ARTICLES)}")
    text = "".join(c for c in text.lower() if not _is_punctuation(c))
    if articles := _MLQA_ARTICLES[language]:
        text = articles.sub(" ", text)
    if language == "zh":
        text = "".join(f" {c} " if "\u4e00" <= c <= "\u9fa5" else c for c in text)
    return " ".join(text.split())


def _is_punctuation(character: str) -> bool:
    # Category P lacks ASCII symbols such as "$" and "+", which string.punctuation has.
    return character in _ASCII_PUNCTUATION or unicodedata.category(character).startswith("P")


def token_f1(gold: str, prediction: str) -> float:
    """F1 of the token multisets of two normalised texts, 0..1; 0 if either has no tokens."""
    gold_tokens, predicted_tokens = gold.split(), prediction.split()
    shared = sum((Counter(gold_tokens) & Counter(predicted_tokens)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted_tokens), shared / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


def squad(gold: Gold, predictions: Mapping[str, str], *, strict: bool = True) -> dict[str, float]:
    """`em`, `f1` and their mean `em_f1` by the SQuAD v1.1 script, each 0..100: best over the gold answers, mean over
    questions. With strict=False a question without prediction scores 0 and foreign ids are ignored, as in the script;
    by default both are errors."""
    return _best_over_answers(gold, predictions, normalise_squad, strict=strict)


def mlqa(gold: Gold, predictions: Mapping[str, str], *, language: str, strict: bool = True) -> dict[str, float]:
    """As `squad`, with MLQA's normalisation for the language of the answers."""
    return _best_over_answers(gold, predictions, lambda text: normalise_mlqa(text, language), strict=strict)


def _best_over_answers(
    gold: Gold, predictions: Mapping[str, str], normalise: Normalise, *, strict: bool
) -> dict[str, float]:
    if strict:
        _require_same_ids(gold, predictions)
    elif not gold:
        raise XtlError("nothing to score: there are no questions")
    em = f1 = 0.0
    for question, answers in gold.items():
        if not answers:
            raise XtlError(f"question {question} has no gold answer; only SQuAD v2.0 scoring knows such questions")
        if question not in predictions:
            continue
        prediction = normalise(predictions[question])
        accepted = [normalise(answer) for answer in answers]
        em += float(prediction in accepted)
        f1 += max(token_f1(answer, prediction) for answer in accepted)
    return _with_mean({"em": 100.0 * em / len(gold), "f1": 100.0 * f1 / len(gold)})


def _with_mean(scores: dict[str, float]) -> dict[str, float]:
    return scores | {"em_f1": (scores["em"] + scores["f1"]) / 2}


def _require_same_ids(gold: Gold, predictions: Mapping[str, str]) -> None:
    if not gold:
        raise XtlError("nothing to score: there are no questions")
    missing = [question for question in gold if question not in predictions]
    if missing:
        raise XtlError(f"{len(missing)} of {len(gold)} questions have no prediction, the first is {missing[0]}")
    foreign = [question for question in predictions if question not in gold]
    if foreign:
        raise XtlError(f"{len(foreign)} predictions are for unknown questions, the first is {foreign[0]}")


# ---------------------------------------------------------------- SQuAD v2.0


def squad_v2(
    gold: Gold,
    predictions: Mapping[str, str],
    *,
    null_scores: Mapping[str, float] | None = None,
    threshold: float = 0.0,
) -> dict[str, float]:
    """Scores of the SQuAD v2.0 script, each 0..100; a question without gold answers is unanswerable ("" is right).

    Without null_scores the predictions are final answers ("" for none). With them, a prediction is the best non-empty
    answer, a null score is how much better the empty one is, and "" is answered where null score > threshold.
    Returns `em`, `f1`, `em_f1` over all questions; `has_answer_em`, `has_answer_f1`, `no_answer_em`, `no_answer_f1`
    where such questions occur; and with null_scores the best of the threshold search: `best_em`, `best_f1`, their
    mean `best_em_f1` (the number jiant selects by), and the thresholds `best_em_threshold`, `best_f1_threshold`.
    Missing and foreign ids are errors: the script leaves missing ones out of the mean, which flatters.
    """
    _require_same_ids(gold, predictions)
    em, f1 = {}, {}
    for question, answers in gold.items():
        accepted = [text for answer in answers if (text := normalise_squad(answer))] or [""]
        prediction = normalise_squad(predictions[question])
        em[question] = float(prediction in accepted)
        f1[question] = max(
            token_f1(answer, prediction) if answer and prediction else float(answer == prediction)
            for answer in accepted
        )
    scores: dict[str, float] = {}
    if null_scores is not None:
        _require_same_ids(gold, dict.fromkeys(null_scores, ""))
        scores["best_em"], scores["best_em_threshold"] = _best_threshold(gold, predictions, em, null_scores)
        scores["best_f1"], scores["best_f1_threshold"] = _best_threshold(gold, predictions, f1, null_scores)
        scores["best_em_f1"] = (scores["best_em"] + scores["best_f1"]) / 2
        for question in gold:
            if null_scores[question] > threshold:
                em[question] = f1[question] = float(not gold[question])
    kinds = {"has_answer": [q for q in gold if gold[q]], "no_answer": [q for q in gold if not gold[q]]}
    for kind, questions in kinds.items():
        if questions:
            scores[f"{kind}_em"] = 100.0 * sum(em[q] for q in questions) / len(questions)
            scores[f"{kind}_f1"] = 100.0 * sum(f1[q] for q in questions) / len(questions)
    return _with_mean({"em": 100.0 * sum(em.values()) / len(gold), "f1": 100.0 * sum(f1.values()) / len(gold)}) | scores


def _best_threshold(
    gold: Gold, predictions: Mapping[str, str], scores: Mapping[str, float], null_scores: Mapping[str, float]
) -> tuple[float, float]:
    """The script's search: from "answer nothing", questions are admitted by rising null score (ties in the order of
    `gold`); the best running score, 0..100, and the null score at which it stood.

    A non-empty answer to an unanswerable question counts against, even one without tokens, which scores 1 elsewhere.
    Within a tie the running score may not be one that a threshold can produce; that is the script's, and small. If
    admitting nothing is best, the threshold lies below every null score (the script says 0, which is right only for
    null scores that are probabilities).
    """
    running = best = float(sum(not answers for answers in gold.values()))
    threshold = min(null_scores.values()) - 1.0
    for question in sorted(gold, key=lambda question: null_scores[question]):
        if gold[question]:
            running += scores[question]
        elif predictions[question]:
            running -= 1
        if running > best:
            best, threshold = running, null_scores[question]
    return 100.0 * best / len(gold), threshold
