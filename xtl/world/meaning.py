"""What sentences of the world can mean: concepts, facts about them, and propositions drawn from these; no language yet.

Shapes: N propositions drawn at a time, one integer array per slot.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xtl.world.options import World


class Concept(NamedTuple):
    """One content word's meaning. `english` is also its form in English."""

    id: int
    english: str
    kind: str  # noun, verb, adjective, adverb, number, given, family, place_name, org_name, org_noun
    type: str = ""  # of nouns: person, animal, ...; of adjectives: quality or state
    special: bool = False  # belongs to the special domain alone


NOUNS = {
    "person": "teacher doctor farmer singer",
    "animal": "dog cat horse bird",
    "food": "apple onion carrot lemon",
    "thing": "book lamp drum hammer",
    "vehicle": "car boat train truck",
    "place": "garden river village market",
}
SPECIAL_NOUNS = {"person": "nurse patient", "thing": "vaccine", "food": "pill"}
VERBS = "watch follow help clean paint open push call repair lift"
SPECIAL_VERBS = "treat infect"
INTRANSITIVE = "wait jump rest"
QUALITIES = "red old soft tall"
STATES = "tired glad proud angry"
ADVERBS = "today again early"
NUMBERS = "two three"
NAMES = {
    "given": "Anna Omar Lena Ivan",
    "family": "Moss Reed Voss",
    "place_name": "Orin Tavra Belsk Quel",
    "org_name": "Delta Nova Arco",
    "org_noun": "Bank Works",
}
PLACES = ("in", "near", "behind")  # relations of a place; function words, not concepts
ANIMATE = ("person", "animal")


def _concepts() -> tuple[Concept, ...]:
    rows: list[tuple[str, str, str, bool]] = []
    for type_ in NOUNS:
        rows += [(w, "noun", type_, False) for w in NOUNS[type_].split()]
        rows += [(w, "noun", type_, True) for w in SPECIAL_NOUNS.get(type_, "").split()]
    rows += [(w, "verb", "transitive", False) for w in VERBS.split()]
    rows += [(w, "verb", "transitive", True) for w in SPECIAL_VERBS.split()]
    rows += [(w, "verb", "intransitive", False) for w in INTRANSITIVE.split()]
    rows += [(w, "adjective", "quality", False) for w in QUALITIES.split()]
    rows += [(w, "adjective", "state", False) for w in STATES.split()]
    rows += [(w, "adverb", "", False) for w in ADVERBS.split()]
    rows += [(w, "number", "", False) for w in NUMBERS.split()]
    for kind, words in NAMES.items():
        rows += [(w, kind, "name", False) for w in words.split()]
    return tuple(Concept(i, *row) for i, row in enumerate(rows))


CONCEPTS = _concepts()
BY_KIND = {k: tuple(c for c in CONCEPTS if c.kind == k) for k in dict.fromkeys(c.kind for c in CONCEPTS)}


class Phrase(NamedTuple):
    """A participant: a noun (with quality, and number 1, 2 = plural, or 2 + a number word's concept) or a name."""

    noun: int
    quality: int = -1
    number: int = 1
    definite: bool = True
    second: int = -1  # second word of a name: family name, or what kind of organisation


class Clause(NamedTuple):
    """One proposition. `object` None: intransitive; `state` >= 0: "subject was state", the verb is then unused (-1)."""

    verb: int
    subject: Phrase
    object: Phrase | None = None
    negated: bool = False
    future: bool = False
    relation: int = -1  # index into PLACES
    place: Phrase | None = None
    adverb: int = -1
    state: int = -1

    def bare(self) -> "Clause":
        """Without place and adverb."""
        return self._replace(relation=-1, place=None, adverb=-1)

    def known(self) -> "Clause":
        """As a second mention: what has been introduced is definite."""
        object_ = self.object and self.object._replace(definite=True)
        return self._replace(subject=self.subject._replace(definite=True), object=object_)

    def short(self) -> "Clause":
        """As a second mention, without qualities."""
        known = self.known()
        object_ = known.object and known.object._replace(quality=-1)
        return known._replace(subject=known.subject._replace(quality=-1), object=object_)


@dataclass(frozen=True)
class Facts:
    """What is true in one world: who does what to whom how often, and what follows from it."""

    subject_weights: np.ndarray  # [verbs, participants]
    object_weights: np.ndarray  # [verbs, participants]; zero rows for intransitive verbs
    verb_weights: np.ndarray  # [verbs]
    place_weights: np.ndarray  # [participants]
    participants: np.ndarray  # concept id of each participant column: nouns and names
    verbs: np.ndarray  # concept id of each verb row
    qualities: np.ndarray  # [participants, qualities] how often a noun has a quality
    frequency: np.ndarray  # [concepts] relative, within a sort of concept; 0 where all are equally frequent
    next_verb: dict[int, int]  # transitive verb -> what happens then
    state: dict[int, int]  # transitive verb -> state of its subject afterwards


@functools.lru_cache(maxsize=8)
def facts(world: World) -> Facts:
    """The facts of a world: Zipf frequencies and sparse Dirichlet preferences, drawn once from its seed."""
    rng = world.rng("facts")
    verbs = BY_KIND["verb"]
    taking = tuple(c for kind in ("noun", "given", "place_name", "org_name") for c in BY_KIND[kind])

    def zipf(n: int) -> np.ndarray:
        weights = 1 / (rng.permutation(n) + 4.0)  # offset 4: the rarest of 16 verbs is still 5 times rarer, not 16
        return weights / weights.sum()

    def sort(concept: Concept) -> str:
        return concept.type if concept.kind == "noun" else concept.kind

    sorts = np.array([sort(c) for c in taking])
    frequency = np.zeros(len(taking))
    for name in np.unique(sorts):
        frequency[sorts == name] = zipf(int((sorts == name).sum()))
    subject_sorts = ("person", "animal", "given", "org_name")
    object_sorts = ("person", "animal", "food", "thing", "vehicle", "given", "place_name")

    def prefer(allowed: tuple[str, ...], alpha: float) -> np.ndarray:
        share = rng.dirichlet([alpha] * len(allowed))
        share = 0.9 * share + 0.1 / len(allowed)  # no combination is impossible, so roles can be swapped
        weights = np.zeros(len(taking))
        for name, s in zip(allowed, share, strict=True):
            within = frequency[sorts == name] * rng.gamma(1.0, size=int((sorts == name).sum()))
            weights[sorts == name] = s * within / within.sum()
        return weights

    subjects, objects = [], []
    for verb in verbs:
        subjects.append(prefer(subject_sorts, 0.5))
        objects.append(prefer(object_sorts, 0.25) if verb.type == "transitive" else np.zeros(len(taking)))
    transitive = [c.id for c in verbs if c.type == "transitive"]
    chains = [[i for i in transitive if CONCEPTS[i].special == special] for special in (False, True)]
    orders = [rng.permutation(chain) for chain in chains]
    states = [c.id for c in BY_KIND["adjective"] if c.type == "state"]
    places = np.where(sorts == "place", frequency, 0) + 0.5 * np.where(sorts == "place_name", frequency, 0)
    overall = np.zeros(len(CONCEPTS))
    overall[[c.id for c in taking]] = frequency
    verb_weights = zipf(len(verbs))
    overall[[c.id for c in verbs]] = verb_weights
    quality_count = sum(c.type == "quality" for c in BY_KIND["adjective"])
    return Facts(
        subject_weights=np.array(subjects),
        object_weights=np.array(objects),
        verb_weights=verb_weights,
        frequency=overall,
        place_weights=places / places.sum(),
        participants=np.array([c.id for c in taking]),
        verbs=np.array([c.id for c in verbs]),
        qualities=rng.dirichlet([0.3] * quality_count, size=len(taking)),
        next_verb={int(a): int(b) for o in orders for a, b in zip(o, np.roll(o, -1), strict=True)},
        state={int(v): int(states[i % len(states)]) for i, v in enumerate(rng.permutation(transitive))},
    )


def _draw(rng: np.random.Generator, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One column for each entry of `rows`, with that row's weights."""
    cumulative = np.cumsum(weights, axis=1)
    cumulative /= cumulative[:, -1:]
    # Laying the rows end to end lets one binary search serve all of them.
    flat = (cumulative + np.arange(len(weights))[:, None]).ravel()
    picked = np.searchsorted(flat, rng.random(len(rows)) * (1 - 1e-12) + rows, side="right")
    return picked - rows * weights.shape[1]


def split_of(world: World, verb: np.ndarray, subject: np.ndarray, object_: np.ndarray) -> np.ndarray:
    """0 train, 1 dev, 2 test for each (verb, subject, object): 80, 10, 10 %. Splits of all tasks share no such core."""
    x = (verb.astype(np.uint64) << np.uint64(32)) + (subject.astype(np.uint64) << np.uint64(16))
    x += (object_ + 1).astype(np.uint64) + np.uint64((world.seed * 0x9E3779B97F4A7C15) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    bucket = (x ^ (x >> np.uint64(31))) % np.uint64(10)
    return np.where(bucket == 8, 1, np.where(bucket == 9, 2, 0))


# ---------------------------------------------------------------- propositions

# Candidates drawn per proposition still wanted, by split: 80 % of the cores are train's, 10 % dev's, 10 % test's, and
# some candidates have the same noun twice.
CANDIDATES = (1.5, 12, 12)
SPARE = 16  # candidates beyond that
OWN_WORDS, OTHER_WORDS = 6.0, 0.3  # factors on the weights of the special domain's own words, and of all others, in it
PLURAL, COUNTED = 0.35, 0.15  # probability of a plural; of one with a number word, among all phrases
FUTURE = 0.3  # probability
MODIFIERS = (0.8, 0.8, 0.8, 0.5)  # of quality of subject and object, place, adverb: factors on `modifiers`
BITS = 16  # of the random numbers that choose among few
# Columns of a candidate's numbers: one for each phrase, and then
_NEGATED, _FUTURE, _ADVERB = 3, 4, 5


def clauses(
    world: World,
    rng: np.random.Generator,
    count: int,
    *,
    split: int,
    special: float = 0.0,
    allowed: frozenset[int] | None = None,
    transitive: bool = False,
    definite: float = 0.6,
    negated: float = 0.25,
    modifiers: float = 0.5,
) -> list[Clause]:
    """`count` propositions of one split (0, 1, 2).

    special: probability of the special domain; allowed: the only concepts to use (None: all); modifiers: probability of
    each of quality, place and adverb.
    """
    choices = _choices(facts(world), allowed, transitive=transitive)
    propositions: list[Clause] = []
    while len(propositions) < count:
        missing = count - len(propositions)
        candidates = _candidates(choices, rng, int(missing * CANDIDATES[split]) + SPARE, special, modifiers)
        fitting = np.flatnonzero(candidates.fit(world, split))[:missing].tolist()
        propositions += [candidates.clause(i, definite=definite, negated=negated) for i in fitting]
    return propositions


@dataclass(frozen=True)
class _Choices:
    """What propositions are drawn from: weights, and the concepts that they stand for.

    Domain 0 is general speech, domain 1 the special domain; a row of subjects and objects is verb + domain * verbs.
    """

    facts: Facts
    allowed: frozenset[int] | None
    verbs: np.ndarray  # [domains, verbs]
    intransitive: np.ndarray  # [verbs] bool
    subjects: np.ndarray  # [domains * verbs, participants]
    objects: np.ndarray  # [domains * verbs, participants]
    places: np.ndarray  # [domains, participants]
    qualities: np.ndarray  # [participants, qualities]
    quality_words: np.ndarray  # [qualities] concept ids; so are the next two
    adverbs: list[int]
    number_words: list[int]
    has_qualities: bool  # whether any quality is allowed


def _choices(f: Facts, allowed: frozenset[int] | None, *, transitive: bool) -> _Choices:
    def usable(ids: Iterable[int]) -> np.ndarray:
        return np.array([allowed is None or int(i) in allowed for i in ids])

    def by_domain(weights: np.ndarray, ids: np.ndarray) -> np.ndarray:
        own = np.array([CONCEPTS[int(i)].special for i in ids])
        both = np.concatenate([weights * ~own, weights * np.where(own, OWN_WORDS, OTHER_WORDS)])
        return np.maximum(both, 1e-12) * usable(ids)

    intransitive = f.object_weights.sum(1) == 0
    quality_words = [c.id for c in BY_KIND["adjective"] if c.type == "quality"]
    adverbs, number_words = (
        [c.id for c in BY_KIND[kind] if allowed is None or c.id in allowed] for kind in ("adverb", "number")
    )
    return _Choices(
        facts=f,
        allowed=allowed,
        verbs=by_domain(f.verb_weights[None], f.verbs) * ~(intransitive & transitive),
        intransitive=intransitive,
        subjects=by_domain(f.subject_weights, f.participants),
        objects=by_domain(f.object_weights, f.participants),
        places=by_domain(f.place_weights[None], f.participants),
        qualities=np.maximum(f.qualities, 1e-9) * usable(quality_words),
        quality_words=np.array(quality_words),
        adverbs=adverbs,
        number_words=number_words,
        has_qualities=bool(usable(quality_words).any()),
    )


@dataclass(frozen=True)
class _Candidates:
    """N propositions as they are drawn, before any is looked at."""

    choices: _Choices
    verb: np.ndarray  # [N] rows of Facts.verbs
    phrases: tuple[np.ndarray, np.ndarray, np.ndarray]  # subject, object, place: [N] columns of Facts.participants
    relation: np.ndarray  # [N] index into PLACES
    has: np.ndarray  # [N, 4] bool: quality of subject, quality of object, place, adverb
    chances: np.ndarray  # [N, 6] in [0, 1): number of subject and object, definiteness of all three phrases
    quality: np.ndarray  # [N, 2] concept ids, for subject and object
    numbers: np.ndarray  # [N, 6] of BITS bits

    def fit(self, world: World, split: int) -> np.ndarray:
        """[N] bool: whether the core is of the split, and subject, object and place are not the same."""
        f, (subject, object_, place) = self.choices.facts, self.phrases
        core_object = np.where(self.choices.intransitive[self.verb], -1, f.participants[object_])
        of_split = split_of(world, f.verbs[self.verb], f.participants[subject], core_object) == split
        return of_split & (subject != object_) & (place != object_)

    def clause(self, i: int, *, definite: float, negated: float) -> Clause:
        """Proposition i; definite and negated are probabilities."""
        choices, numbers = self.choices, self.numbers[i]
        placed = bool(self.has[i, 2])
        return Clause(
            int(choices.facts.verbs[self.verb[i]]),
            self._phrase(i, 0, definite),
            None if choices.intransitive[self.verb[i]] else self._phrase(i, 1, definite),
            negated=bool(numbers[_NEGATED] < negated * (1 << BITS)),
            future=bool(numbers[_FUTURE] < FUTURE * (1 << BITS)),
            relation=int(self.relation[i]) if placed else -1,
            place=self._phrase(i, 2, definite) if placed else None,
            adverb=choices.adverbs[numbers[_ADVERB] % len(choices.adverbs)] if self.has[i, 3] else -1,
        )

    def _phrase(self, i: int, slot: int, definite: float) -> Phrase:
        """The subject (slot 0), object (1) or place (2) of proposition i."""
        choices, drawn = self.choices, int(self.numbers[i, slot])
        concept = CONCEPTS[int(choices.facts.participants[self.phrases[slot][i]])]
        if concept.kind != "noun":
            return Phrase(concept.id, second=_second(concept, drawn, choices.allowed))
        number = 1
        if slot < 2 and self.chances[i, slot] < PLURAL:
            counted = choices.number_words and self.chances[i, slot] < COUNTED
            number = 2 + choices.number_words[drawn % len(choices.number_words)] if counted else 2
        quality = int(self.quality[i, slot]) if slot < 2 and self.has[i, slot] else -1
        return Phrase(concept.id, quality, number, bool(self.chances[i, 2 + slot] < definite))


def _candidates(choices: _Choices, rng: np.random.Generator, n: int, special: float, modifiers: float) -> _Candidates:
    """N propositions. The order of the draws is part of the world: data of equal options must stay equal."""
    domain = (rng.random(n) < special).astype(int)
    verb = _draw(rng, choices.verbs, domain)
    row = verb + domain * len(choices.facts.verbs)
    subject, object_ = _draw(rng, choices.subjects, row), _draw(rng, choices.objects, row)
    place, relation = _draw(rng, choices.places, domain), rng.integers(len(PLACES), size=n)
    possible = [choices.has_qualities, choices.has_qualities, True, bool(choices.adverbs)]
    has = (rng.random((n, 4)) < modifiers * np.array(MODIFIERS)) & possible
    chances = rng.random((n, 6))
    quality = np.stack([_draw(rng, choices.qualities, participant) for participant in (subject, object_)], axis=1)
    return _Candidates(
        choices=choices,
        verb=verb,
        phrases=(subject, object_, place),
        relation=relation,
        has=has,
        chances=chances,
        quality=choices.quality_words[quality],
        numbers=rng.integers(1 << BITS, size=(n, 6)),
    )


def _second(name: Concept, number: int, allowed: frozenset[int] | None) -> int:
    """A second name word: always for organisations, half of the time for persons, never for places."""
    if name.kind == "place_name":
        return -1
    family = name.kind == "given"
    words = [c.id for c in BY_KIND["family" if family else "org_noun"] if allowed is None or c.id in allowed]
    if not words or (family and number % 2):
        return -1
    return words[(number // 2) % len(words)]
