"""How each language says a proposition: a lexicon, affixes, word order; every word comes with its annotations."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from xtl.task import PANX_TAGS, UPOS
from xtl.world.language import ALPHABETS, SOURCE, Language
from xtl.world.meaning import CONCEPTS, PLACES, Clause, Phrase, facts
from xtl.world.options import World

# Categories are direction-neutral ("|" for "/" or "\"), so that one label set serves every word order.
CCG = (
    *("NP|N", "N|N", "N", "N[pl]", "NP", "NP[pl]", "NP|NP"),
    *("S[past]|NP|NP", "S[fut]|NP|NP", "S[past]|NP", "S[fut]|NP", "(S|NP)|(S|NP)", "(S|NP)|A", "A"),
    *("(S|S)|NP", "S|S", "(S|S)|S", "S", "Q|(S|NP)", "Q|(S|NP|NP)", "Q|S", "."),
)
FUNCTION_WORDS = {  # key: English form, tag, category
    "the": ("the", "DET", "NP|N"),
    "a": ("a", "DET", "NP|N"),
    "not": ("never", "PART", "(S|NP)|(S|NP)"),
    "will": ("will", "AUX", "(S|NP)|(S|NP)"),
    "did": ("did", "AUX", "(S|NP)|(S|NP)"),
    "was": ("was", "AUX", "(S|NP)|A"),
    "many": ("many", "PART", "N|N"),
    "who": ("who", "PRON", "Q|(S|NP)"),
    "what": ("what", "PRON", "Q|(S|NP)"),
    "where": ("where", "ADV", "Q|S"),
    "why": ("why", "ADV", "Q|S"),
    "how": ("how", "ADV", "Q|S"),
    "because": ("because", "SCONJ", "(S|S)|S"),
    "so": ("so", "CCONJ", "(S|S)|S"),
    "then": ("then", "ADV", "(S|S)|S"),
    "yes": ("yes", "INTJ", "S"),
    "no": ("no", "INTJ", "S"),
    "perhaps": ("perhaps", "INTJ", "S"),
    **{p: (p, "ADP", "(S|S)|NP") for p in PLACES},
}
WEAK = {"noun:pl": "s", "verb:past": "ed"}  # all the affixes of English
AFFIXES = {
    "weak": tuple(WEAK),
    "isolating": (),
    "agglutinative": ("noun:pl", "noun:acc", *(f"noun:{p}" for p in PLACES), "verb:past", "verb:fut", "verb:pl"),
    "fusional": ("noun:pl", "noun:acc", "noun:pl:acc", "verb:past", "verb:fut", "verb:past:pl", "verb:fut:pl"),
}
UNUSED = {  # function words that a kind of affixation does without
    "weak": {"did", "many"},
    "isolating": set(),
    "fusional": {"did", "will", "many"},
    "agglutinative": {"did", "will", "many", *PLACES},
}
_TAG = {"noun": "NOUN", "verb": "VERB", "adjective": "ADJ", "adverb": "ADV", "number": "NUM"}
_NAME = {"given": "B-PER", "family": "I-PER", "place_name": "B-LOC", "org_name": "B-ORG", "org_noun": "I-ORG"}


class Word(NamedTuple):
    """One word: key is a concept id, a key of FUNCTION_WORDS, or the mark itself; tags index UPOS, CCG, PANX_TAGS."""

    form: str
    key: int | str
    tag: int
    category: int
    name: int = PANX_TAGS.index("O")


class Part(NamedTuple):
    """A stretch of a sentence. role: S, V, O, P (place), T (adverb), Q (question word), L (linking word), or a mark."""

    role: str
    words: tuple[Word, ...]


STOP = Part(".", (Word(".", ".", UPOS.index("PUNCT"), CCG.index(".")),))
ASK = Part("?", (Word("?", "?", UPOS.index("PUNCT"), CCG.index(".")),))


# ---------------------------------------------------------------- lexicon


@functools.lru_cache(maxsize=8)
def anchor_rank(world: World) -> np.ndarray:
    """[concepts] in (0, 1): a language with anchor share s shares the concepts ranked below s with English.

    Within each sort of concept the ranks are spread evenly over frequency, and larger shares contain smaller ones.
    """
    frequency = facts(world).frequency
    rank = np.zeros(len(CONCEPTS))
    sorts: dict[tuple, list[int]] = {}
    for c in CONCEPTS:
        sorts.setdefault((c.kind, c.type, c.special), []).append(c.id)
    rng = world.rng("anchors")
    for ids in sorts.values():
        ids.sort(key=lambda i: -frequency[i])
        # The golden-ratio sequence: any run of it, and so any range of frequency, is nearly uniform on (0, 1).
        spread = (rng.random() + np.arange(len(ids)) * 0.6180339887498949) % 1
        rank[ids] = (np.argsort(np.argsort(spread)) + rng.random()) / len(ids)
    return rank


@functools.lru_cache(maxsize=256)
def anchor_ids(world: World, code: str) -> frozenset[int]:
    """Concepts that this language spells as English does; for English, those that any other language does."""
    if code == SOURCE:
        return frozenset().union(*(anchor_ids(world, c) for c in world.table if c != SOURCE))
    if world.transliterate and world.language(code).script != world.language(SOURCE).script:
        return frozenset()
    return frozenset(np.flatnonzero(anchor_rank(world) < world.share(code)).tolist())


class Lexicon(NamedTuple):
    concepts: tuple[str, ...]  # form of each concept
    function: dict[str, str]
    affixes: dict[str, str]


@functools.lru_cache(maxsize=8)
def lexicons(world: World) -> dict[str, Lexicon]:
    """Forms of all languages. Only anchors are shared; no two other words or affixes of any two languages are equal."""
    english = {k: v[0] for k, v in FUNCTION_WORDS.items() if k not in UNUSED["weak"]}
    languages = {SOURCE: Lexicon(tuple(c.english for c in CONCEPTS), english, dict(WEAK))}
    taken = {f.lower() for f in (*languages[SOURCE].concepts, *english.values(), *WEAK.values())}
    taken_affixes = set(WEAK.values())
    for code, language in world.table.items():
        if code == SOURCE:
            continue
        rng = world.rng("lexicon", code)
        consonants, vowels = ALPHABETS[language.script]
        # A language uses part of its alphabet, so that languages of one script also look different.
        onset = rng.permutation(list(consonants))[:10]
        nucleus = rng.permutation(list(vowels))[: rng.integers(3, 6)]

        def new(syllables: Sequence[int]) -> str:
            while True:
                n = int(rng.choice(syllables))  # noqa: B023
                form = "".join(str(rng.choice(onset)) + str(rng.choice(nucleus)) for _ in range(n))  # noqa: B023
                form += str(rng.choice(onset)) if rng.random() < 0.4 else ""  # noqa: B023
                if form not in taken:
                    taken.add(form)
                    return form

        anchors = anchor_ids(world, code)
        concepts = []
        for c in CONCEPTS:
            form = new((2, 2, 3))
            named = c.kind in _NAME
            concepts.append(c.english if c.id in anchors else form.capitalize() if named else form)
        function = {k: new((1, 2)) for k in FUNCTION_WORDS if k not in UNUSED[language.affixation]}
        if language.article == "none":
            function = {k: f for k, f in function.items() if k not in ("the", "a")}
        affixes = {}
        for key in AFFIXES[language.affixation]:
            form = new((1, 1, 2))
            while form in taken_affixes:
                form = new((1, 2))
            taken_affixes.add(form)
            affixes[key] = form
        languages[code] = Lexicon(tuple(concepts), function, affixes)
    return languages


# ---------------------------------------------------------------- grammar


class Grammar:
    """Says propositions in one language."""

    def __init__(self, world: World, code: str):
        self.world, self.code = world, code
        self.language: Language = world.language(code)
        self.lexicon = lexicons(world)[code]
        self._phrases: dict[tuple, tuple[Word, ...]] = {}

    # -- words

    def content(self, concept: int, *affixes: str, category: str, tag: str = "") -> Word:
        kind = CONCEPTS[concept].kind
        form = self.lexicon.concepts[concept] + "".join(self.lexicon.affixes[a] for a in affixes)
        name = _NAME.get(kind, "O")
        upos = tag or _TAG.get(kind, "PROPN")
        return Word(form, concept, UPOS.index(upos), CCG.index(category), PANX_TAGS.index(name))

    def function(self, key: str, category: str = "") -> Word:
        _, tag, usual = FUNCTION_WORDS[key]
        return Word(self.lexicon.function[key], key, UPOS.index(tag), CCG.index(category or usual))

    # -- phrases

    def phrase(self, phrase: Phrase, role: str) -> tuple[Word, ...]:
        """A participant as S, O, or with the index of its relation as place ("P0")."""
        words = self._phrases.get((phrase, role))
        if words is None:
            words = self._phrases[phrase, role] = tuple(self._phrase(phrase, role))
        return words

    def _noun_affixes(self, plural: bool, role: str) -> tuple[str, ...]:
        kind = self.language.affixation
        if kind == "isolating":
            return ()
        if kind == "weak":
            return ("noun:pl",) if plural else ()
        case = "acc" if role == "O" else ""
        if kind == "fusional":
            key = ":".join(["noun", *(["pl"] if plural else []), *([case] if case else [])])
            return (key,) if key != "noun" else ()
        case = PLACES[int(role[1])] if role[0] == "P" else case
        return (*(("noun:pl",) if plural else ()), *((f"noun:{case}",) if case else ()))

    def _phrase(self, p: Phrase, role: str) -> Iterable[Word]:
        plural = p.number > 1
        affixes = self._noun_affixes(plural, role)
        cased = self.language.affixation == "agglutinative"
        if CONCEPTS[p.noun].kind != "noun":
            words = [self.content(p.noun, *(affixes if p.second < 0 else ()), category="NP")]
            if p.second >= 0:  # case goes on the last word of a name
                words.append(self.content(p.second, *affixes, category="NP|NP"))
        else:
            articles = self.language.article != "none" and (p.definite or not plural)
            head = "S|S" if role[0] == "P" and cased else ("N" if articles else "NP") + ("[pl]" if plural else "")
            words = [self.content(p.noun, *affixes, category=head)]
            if plural and self.language.affixation == "isolating" and p.number == 2:
                words.append(self.function("many"))
            if p.quality >= 0:
                quality = self.content(p.quality, category="N|N")
                words.insert(0 if self.language.adjective == "before" else 1, quality)
            if p.number > 2:
                words.insert(0, self.content(p.number - 2, category="N|N"))
            if articles:
                article = self.function("the" if p.definite else "a")
                words.insert(0 if self.language.article == "before" else len(words), article)
        if role[0] == "P" and not cased:
            relation = self.function(PLACES[int(role[1])])
            words.insert(0 if self.language.adposition == "before" else len(words), relation)
        return words

    def verb(self, clause: Clause) -> tuple[Word, ...]:
        """The verb group: verb, negation, auxiliary."""
        time = "fut" if clause.future else "past"
        auxiliary = None
        if clause.state >= 0:
            words = [self.function("was")]
        else:
            plural = clause.subject.number > 1
            kind = self.language.affixation
            affixes: tuple[str, ...] = ()
            if kind == "weak":
                affixes, auxiliary = ((), "will") if clause.future else (("verb:past",), None)
            elif kind == "isolating":
                auxiliary = "will" if clause.future else "did"
            elif kind == "fusional":
                affixes = (f"verb:{time}:pl" if plural else f"verb:{time}",)
            else:
                affixes = (f"verb:{time}", *(("verb:pl",) if plural else ()))
            category = f"S[{time}]|NP" + ("|NP" if CONCEPTS[clause.verb].type == "transitive" else "")
            words = [self.content(clause.verb, *affixes, category=category)]
        for key, side in (("not" if clause.negated else None, "negation"), (auxiliary, "auxiliary")):
            if key:
                words.insert(0 if getattr(self.language, side) == "before" else len(words), self.function(key))
        return tuple(words)

    # -- sentences

    def parts(self, clause: Clause, *, front: str = "", ask: str = "", link: str = "") -> list[Part]:
        """The clause in this language's order, without a final mark.

        front: a role (T or P) moved to the beginning; ask: the role (S, O, P) that a question word stands for;
        link: a linking word (because, so, then) before the clause.
        """
        by_role = {"S": Part("S", self.phrase(clause.subject, "S")), "V": Part("V", self.verb(clause))}
        if clause.state >= 0:
            by_role["O"] = Part("O", (self.content(clause.state, category="A"),))
        elif clause.object is not None:
            by_role["O"] = Part("O", self.phrase(clause.object, "O"))
        if clause.place is not None:
            by_role["P"] = Part("P", self.phrase(clause.place, f"P{clause.relation}"))
        if clause.adverb >= 0:
            by_role["T"] = Part("T", (self.content(clause.adverb, category="S|S"),))
        if ask:
            by_role[ask] = Part("Q", (self._question(clause, ask),))
        order = {"SVO": "SVOPT", "SOV": "STPOV", "VSO": "VSOPT"}[self.language.order]
        first = ask if ask and self.language.question == "first" else front
        if first in by_role:
            order = first + order.replace(first, "")
        parts = [by_role[role] for role in order if role in by_role]
        return [Part("L", (self.function(link),)), *parts] if link else parts

    def _question(self, clause: Clause, role: str) -> Word:
        if role == "P":
            return self.function("where")
        if role == "O" and clause.state >= 0:
            return self.function("how")
        asked = clause.subject if role == "S" else clause.object
        assert asked is not None
        concept = CONCEPTS[asked.noun]
        human = concept.kind == "given" or concept.type == "person"
        return self.function("who" if human else "what", "Q|(S|NP)" if role == "S" else "Q|(S|NP|NP)")

    def words(self, clause: Clause, *, mark: Part | None = None, **how: str) -> list[Word]:
        """The words of a sentence with its final mark, which is a question mark after a question word."""
        end = mark or (ASK if how.get("ask") else STOP)
        return [w for part in [*self.parts(clause, **how), end] for w in part.words]

    def text(self, clause: Clause, **how: str) -> str:
        """One sentence."""
        return spell(self.words(clause, mark=None, **how))

    def name(self, phrase: Phrase) -> list[Word]:
        """A participant alone, as an answer: subject form, without article."""
        return [w for w in self.phrase(phrase, "S") if w.key not in ("the", "a")]


def spell(words: Iterable[Word]) -> str:
    """Words joined by spaces; marks stick to the word before them."""
    out = ""
    for word in words:
        out += word.form if not out or word.form in ".?" else " " + word.form
    return out


@functools.lru_cache(maxsize=64)
def grammar(world: World, code: str) -> Grammar:
    """The grammar of one language of one world."""
    return Grammar(world, code)
