"""The languages of the world as rows of typological features, and their distance from English.

Word order, affixation, script and shared lexicon are independent columns: near, middle and far languages each come in
all three kinds of affixation, so an effect of distance cannot be an effect of morphology.
"""

import functools
import itertools
import math
import string
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from xtl.errors import XtlError, nearest

SOURCE = "en"

FEATURES: dict[str, tuple[str, ...]] = {
    "order": ("SVO", "SOV", "VSO"),
    "adjective": ("before", "after"),  # of its noun
    "adposition": ("before", "after"),  # of its noun phrase
    "negation": ("before", "after"),  # of the verb
    "auxiliary": ("before", "after"),  # of the verb
    "article": ("before", "after", "none"),
    "question": ("first", "in place"),  # where the question word stands
}
VALUES = len(FEATURES) + 2  # of a vector: these, and the orders of verb and object, of subject and verb
AFFIXATION = ("weak", "isolating", "fusional", "agglutinative")
ALPHABETS = {  # consonants, vowels
    "Latn": ("bdfghjklmnprstvz", "aeiou"),
    "Cyrl": ("бвгджзклмнпрстфх", "аеиоу"),
    "Grek": ("βγδζθκλμνξπρστφχ", "αεηιο"),
    "Geor": ("ბგდვზთკლმნპრსტფხ", "აეიოუ"),
    "Armn": ("բգդզթլխկհմնպռսվտ", "աեիոու"),
}


@dataclass(frozen=True, kw_only=True)
class Language:
    """One language. `anchor_share` None means the world's; `data_share` scales its MLM corpus (0 = unseen)."""

    code: str
    about: str
    order: str
    adjective: str
    adposition: str
    negation: str
    auxiliary: str
    article: str
    question: str
    affixation: str
    script: str = "Latn"
    anchor_share: float | None = None
    data_share: float = 1.0

    def __post_init__(self) -> None:
        closed = FEATURES | {"affixation": AFFIXATION, "script": tuple(ALPHABETS)}
        for name, values in closed.items():
            if getattr(self, name) not in values:
                given = getattr(self, name)
                raise XtlError(f"world language {self.code}: {name} {given!r} is none of {', '.join(values)}")
        for name in ("anchor_share", "data_share"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise XtlError(f"world language {self.code}: {name} {share} is not between 0 and 1")

    def vector(self) -> tuple[int, ...]:
        """Binary syntactic features, one for each value, as in URIEL. Affixation, script and lexicon are not in it."""
        ones = [int(getattr(self, name) == value) for name, values in FEATURES.items() for value in values]
        # URIEL, too, holds the order of each two besides the order of all three.
        verb_object, subject_verb = self.order != "SOV", self.order != "VSO"
        return (*ones, int(verb_object), int(not verb_object), int(subject_verb), int(not subject_verb))


def _row(code: str, about: str, syntax: str, affixation: str, script: str = "Latn") -> Language:
    words = syntax.split()
    place = {"<": "before", ">": "after", "-": "none", "1": "first", "=": "in place"}
    values: dict[str, Any] = dict(zip(FEATURES, [words[0], *(place[w] for w in words[1:])], strict=True))
    return Language(code=code, about=about, affixation=affixation, script=script, **values)


# Codes are from ISO 639-3's private range qaa-qtz: qn. near, qm. middle, qf. far from English. A vector has nine values
# (FEATURES, and the orders of verb and object, of subject and verb); the rows change 0 0 1 2 3 5 5 6 7 8 of them.
# Columns: order, adjective, adposition, negation, auxiliary, article, question;
# < before, > after, - none, 1 first, = in place.
LANGUAGES: dict[str, Language] = {
    row.code: row
    for row in (
        _row("en", "English: real words, regularised grammar", "SVO < < < < < 1", "weak"),
        _row("qna", "near: the syntax of English, no affixes", "SVO < < < < < 1", "isolating"),
        _row("qnb", "near: negation after the verb; affixes in chains", "SVO < < > < < 1", "agglutinative"),
        _row("qnc", "near: adjective and article after the noun; fused affixes", "SVO > < < < > 1", "fusional"),
        _row("qma", "middle: noun and verb come first, no articles", "SVO > < > < - 1", "isolating", "Cyrl"),
        _row("qmb", "middle: verb first, no articles; affixes in chains", "VSO > < < < - =", "agglutinative"),
        _row("qmc", "middle: postpositions, late function words; fused affixes", "SVO < > > > > =", "fusional", "Grek"),
        _row("qfa", "far: verb last, noun first, no affixes", "SOV > < < > > =", "isolating"),
        _row("qfb", "far: verb last, no articles; affixes in chains", "SOV < > > > - =", "agglutinative", "Geor"),
        _row("qfc", "far: the mirror of English; fused affixes", "SOV > > > > > =", "fusional"),
    )
}


DRAWN = [f"q{a}{b}" for a in "ghijkl" for b in string.ascii_lowercase]  # codes, of the same private range


def draw(count: int, rng: np.random.Generator) -> dict[str, Language]:
    """`count` more languages; a smaller count gives the first ones of a larger.

    Distance from English (1/9 to 8/9) and affixation take turns, so that 24 languages hold each pair of them once, and
    so do scripts; the syntax is drawn among all of that distance.
    """
    drawn = {}
    for i, code in enumerate(DRAWN[:count]):
        unlike, affixation, script = 1 + i % 8, AFFIXATION[1 + i % 3], list(ALPHABETS)[i % len(ALPHABETS)]
        alike = _syntaxes()[unlike]
        about = f"drawn: {unlike} of {VALUES} values unlike English, {affixation}"
        syntax = alike[rng.integers(len(alike))]
        drawn[code] = Language(code=code, about=about, affixation=affixation, script=script, **syntax)
    return drawn


@functools.cache
def _syntaxes() -> dict[int, list[dict[str, Any]]]:
    """Every combination of FEATURES, by how many values of its vector are unlike English."""
    syntaxes: dict[int, list[dict[str, Any]]] = {}
    for values in itertools.product(*FEATURES.values()):
        syntax: dict[str, Any] = dict(zip(FEATURES, values, strict=True))
        unlike = VALUES * distance(replace(LANGUAGES[SOURCE], **syntax))
        syntaxes.setdefault(round(unlike), []).append(syntax)
    return syntaxes


def language_table(overrides: dict[str, dict[str, Any]], more: Mapping[str, Language]) -> dict[str, Language]:
    """LANGUAGES and `more`, with some columns of some rows replaced; a new code starts as a copy of English."""
    table = {**LANGUAGES, **more}
    known = {f.name for f in fields(Language)} - {"code"}
    for code, changes in overrides.items():
        for name in changes:
            if name not in known:
                raise XtlError(f"world language {code}: unknown feature {name!r}.{nearest(name, known)}")
        base = table.get(code) or replace(LANGUAGES[SOURCE], code=code, about="added", affixation="isolating")
        table[code] = replace(base, **changes)
    return table


def distance(language: Language | str, to: Language | str = SOURCE) -> float:
    """Cosine distance of two syntactic feature vectors: the share of their values that differ."""
    a, b = (LANGUAGES[x].vector() if isinstance(x, str) else x.vector() for x in (language, to))
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return 1 - product / math.sqrt(sum(a) * sum(b))
