"""World counterparts that are sets of sentences: MLM documents, and retrieval of translations, answers and entities."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from xtl.task import Loaded, Pair, Task, Text
from xtl.world.grammar import ASK, STOP, Grammar, Word, grammar, lexicons, spell
from xtl.world.language import SOURCE
from xtl.world.meaning import BY_KIND, Clause, Facts, Phrase, clauses, facts
from xtl.world.options import SPLITS, World

T = TypeVar("T")

DOMAIN_IN_TEXT = 0.1  # share of the special domain in MLM text, unless the world says otherwise

# ---------------------------------------------------------------- MLM documents


def documents(world: World, code: str, split: str, count: int) -> list[Text]:
    """Short documents of one language: a proposition, and then what follows, repeats, explains or asks about it.

    Languages speak of the same world in the same proportions, but of different events: nothing here is parallel.
    """
    rng = world.rng("documents", code, split)
    share = world.special.get("mlm", DOMAIN_IN_TEXT)
    first, second = (clauses(world, rng, count, split=SPLITS.index(split), special=share) for _ in range(2))
    g = grammar(world, code)
    shares, numbers = rng.random(count), rng.integers(1 << 16, size=count)
    switch = _Switch(world, code, rng) if world.code_switch else None
    texts = []
    for i, (event, other, at, number) in enumerate(zip(first, second, shares.tolist(), numbers.tolist(), strict=True)):
        words = _write(_Draft(g, event, other, _Number(number)), at)
        texts.append(Text(f"{code}-{i:06d}", spell(switch(words) if switch else words)))
    return texts


@dataclass(frozen=True)
class _Number:
    """The 16 random bits from which a document takes its small decisions. Decisions that share bits go together."""

    bits: int

    def one_of(self, options: Sequence[T]) -> T:
        """By the lowest bits."""
        return options[self.bits % len(options)]

    def another_of(self, options: Sequence[T]) -> T:
        """By the highest eight bits, so independently of `one_of` among 2, 4, ..., of `coin` and of `second_coin`."""
        return options[(self.bits >> 8) % len(options)]

    @property
    def coin(self) -> bool:
        return bool(self.bits & 1 << 6)

    @property
    def second_coin(self) -> bool:
        return bool(self.bits & 1 << 7)


@dataclass(frozen=True)
class _Draft:
    """What a document is written from."""

    g: Grammar
    event: Clause
    other: Clause  # an unrelated event
    number: _Number

    @property
    def facts(self) -> Facts:
        return facts(self.g.world)

    @property
    def opening(self) -> list[Word]:
        """The event; half of the time its adverb or place comes first."""
        return self.g.words(self.event, front=self.number.one_of(("", "", "T", "P")))

    @property
    def aside(self) -> list[Word]:
        """The unrelated event."""
        return self.g.words(self.other)


def _question(draft: _Draft) -> list[Word]:
    """The event is asked about and the answer given, before or after event and aside."""
    g, event, number = draft.g, draft.event, draft.number
    participants = {"S": event.subject, "O": event.object, "P": event.place}
    role = number.one_of([role for role, phrase in participants.items() if phrase is not None])
    phrase = participants[role]
    assert phrase is not None
    question = g.words(event.short()._replace(adverb=-1), ask=role)
    answer = [*g.name(phrase), *STOP.words]
    texts = draft.opening + draft.aside if number.coin else draft.aside + draft.opening
    return question + answer + texts if number.second_coin else texts + question + answer


def _yes_or_no(draft: _Draft) -> list[Word]:
    answer, asked = _doubt(draft)
    return [*draft.opening, *draft.g.words(asked, mark=ASK), draft.g.function(answer), *STOP.words]


def _doubt(draft: _Draft) -> tuple[str, Clause]:
    """What is asked about the event, and whether the answer is yes, no, or perhaps: about something else."""
    event, other, number = draft.event, draft.other, draft.number
    answer = number.one_of(("yes", "no", "perhaps"))
    asked = event.short() if number.coin else event.known()
    if not event.negated and number.second_coin:
        asked = asked.bare()
    if answer == "no":
        asked = asked._replace(negated=not event.negated)
    elif answer == "perhaps":
        ways = [asked._replace(subject=other.known().subject)] if other.subject.noun != event.subject.noun else []
        if event.object is not None and other.object is not None:
            ways += [asked._replace(object=other.known().object)] if event.object.noun != other.object.noun else []
            ways += [asked._replace(verb=other.verb)] if event.verb != other.verb else []
        if not ways:
            return "yes", asked
        asked = number.another_of(ways)
    return answer, asked


def _consequence(draft: _Draft) -> list[Word]:
    """How the subject was afterwards: as a consequence, with its reason, asked for, or asked why."""
    g, known = draft.g, draft.event.short()
    outcome = Clause(-1, known.subject, state=draft.facts.state[draft.event.verb])
    because = g.words(known.bare(), link="because")
    match draft.number.one_of(("so", "because", "how", "why")):
        case "so":
            return draft.opening + g.words(outcome, link="so") + draft.aside
        case "because":
            return draft.aside + g.words(outcome) + because
        case "how":
            answer = [g.content(outcome.state, category="A"), *STOP.words]
            return draft.opening + g.words(outcome, ask="O") + answer
        case _:
            return g.words(outcome, link="why", mark=ASK) + because


def _sequel(draft: _Draft) -> list[Word]:
    """What the subject did next to the same object."""
    happens_next = draft.event.short().bare()._replace(verb=draft.facts.next_verb[draft.event.verb])
    return draft.opening + draft.g.words(happens_next, link="then")


def _repetition(draft: _Draft) -> list[Word]:
    return draft.opening + draft.g.words(draft.event.short())


def _unrelated(draft: _Draft) -> list[Word]:
    return draft.opening + draft.aside


class _Form(NamedTuple):
    """One form of document; where it does not suit the event, the next one that does is taken."""

    up_to: float  # cumulative share
    write: Callable[[_Draft], list[Word]]
    suits: Callable[[_Draft], bool] = lambda draft: True


FORMS = (
    _Form(0.35, _question),
    _Form(0.45, _yes_or_no),
    _Form(0.65, _consequence, lambda draft: draft.event.verb in draft.facts.state and not draft.event.negated),
    _Form(0.80, _sequel, lambda draft: draft.event.verb in draft.facts.next_verb and not draft.event.negated),
    _Form(0.95, _repetition),
    _Form(1.00, _unrelated),
)


def _write(draft: _Draft, at: float) -> list[Word]:
    """The document of the form that stands at a place in [0, 1) of the cumulative shares."""
    return next(form for form in FORMS if at < form.up_to and form.suits(draft)).write(draft)


class _Switch:
    """Replaces content words by their translation, as bilingual writers do: into English, or from English into any."""

    def __init__(self, world: World, code: str, rng: np.random.Generator):
        lexicon = lexicons(world)
        others = [SOURCE] if code != SOURCE else [c for c in lexicon if c != SOURCE]
        self.forms = [lexicon[c].concepts for c in others]
        self.rate, self.rng = world.code_switch, rng

    def __call__(self, words: list[Word]) -> list[Word]:
        draws, which = self.rng.random(len(words)), self.rng.integers(len(self.forms), size=len(words))
        return [
            w._replace(form=self.forms[which[i]][w.key]) if isinstance(w.key, int) and draws[i] < self.rate else w
            for i, w in enumerate(words)
        ]


# ---------------------------------------------------------------- retrieval


def distinct(world: World, name: str, split: str, allowed: Callable[[], frozenset[int]]) -> tuple[Clause, ...]:
    """Different propositions; in dev and test sets the share `anchor_free` of them are of `allowed` concepts only."""
    rng, count = world.rng("sentences", name, split), world.size(name, split)
    seen: dict[Clause, bool] = {}
    for free in (False, True):
        wanted = count if free or split == "train" else count - round(count * world.anchor_free)
        while len(seen) < wanted:
            drawn = clauses(
                world,
                rng,
                wanted - len(seen),
                split=SPLITS.index(split),
                special=world.special.get(name, 0.0),
                allowed=allowed() if free else None,
                definite=1.0,  # some languages have no articles; their sentences must differ all the same
                modifiers=0.8,
            )
            for clause in drawn:
                seen.setdefault(clause, free)
    propositions = list(seen)
    return tuple(propositions[i] for i in rng.permutation(count))


def parallel(world: World, task: Task, code: str, split: str, drawn: Sequence[Clause]) -> Loaded:
    """English queries, sorted as Tatoeba's are, and one foreign sentence for each, in another order."""
    english, foreign = grammar(world, SOURCE), grammar(world, code)
    queries = [Text(f"{SOURCE}-{i:06d}", english.text(c), "query") for i, c in enumerate(drawn)]
    pool = [Text(f"{code}-{i:06d}", foreign.text(c), "pool") for i, c in enumerate(drawn)]
    gold = [(q.id, p.id) for q, p in zip(queries, pool, strict=True)]
    order = world.rng("pool", task.name, split).permutation(len(pool))
    return Loaded([*sorted(queries, key=lambda q: q.text), *(pool[i] for i in order)], gold)


MINED = 0.3  # share of the sentences of a mining corpus that have a translation in the other


def mining(world: World, task: Task, code: str, split: str, drawn: Sequence[Clause]) -> Loaded:
    """Two corpora, foreign (queries) and English (pool), in which only some sentences correspond."""
    english, foreign = grammar(world, SOURCE), grammar(world, code)
    count = len(drawn)
    pairs = round(count * MINED)
    alone = (count - pairs) // 2
    rng = world.rng("corpora", task.name, split)
    examples, gold = [], []
    spoken = {"query": [*range(pairs + alone)], "pool": [*range(pairs), *range(pairs + alone, count)]}
    for side, g in (("query", foreign), ("pool", english)):
        order = [spoken[side][i] for i in rng.permutation(len(spoken[side]))]
        examples += [Text(f"{g.code}-{i:09d}", g.text(drawn[i]), side) for i in order]
    gold = [(f"{code}-{i:09d}", f"{SOURCE}-{i:09d}") for i in range(pairs)]
    return Loaded(examples, gold)


def answers(world: World, task: Task, code: str, split: str, drawn: Sequence[Clause]) -> Loaded:
    """Questions of one language; the pool holds the answering sentence in every language.

    Training: pairs of a question and its answering sentence, in one language.
    """
    rng = world.rng("questions", task.name, split)
    g = grammar(world, code)
    asks = rng.integers(6, size=len(drawn)).tolist()
    queries = []
    for i, (clause, n) in enumerate(zip(drawn, asks, strict=True)):
        ask = "SOP"[n % 3] if clause.place is not None and clause.object is not None else "S"
        queries.append(Text(f"{code}-q{i:06d}", g.text(clause.short(), ask=ask), "query"))
    if split == "train":
        return Loaded([Pair(q.id, q.text, g.text(clause), None) for q, clause in zip(queries, drawn, strict=True)])
    codes = list(world.table)
    pool = [
        Text(f"{c}-{i:06d}", grammar(world, c).text(clause), "pool") for c in codes for i, clause in enumerate(drawn)
    ]
    gold = [(q.id, f"{c}-{i:06d}") for i, q in enumerate(queries) for c in codes]
    return Loaded([*queries, *pool], gold)


FACTS = 3  # in the description of an entity


def entities(world: World, task: Task, code: str, split: str, drawn: Sequence[Clause]) -> Loaded:
    """Mentions of names in sentences of one language; the pool describes every name once, each in some language.

    A query is "mention: sentence with { mention } in braces"; a description tells three things about the name, and the
    sentence is about one of them.

    Training: pairs of a query and the description, in one language. There every mention has an entity of its own, and
    many entities share a name: with one entity per name, most batches would hold right candidates among the wrong ones.
    """
    rng, g, codes = world.rng("mentions", task.name, split), grammar(world, code), list(world.table)
    second = {"given": "family", "org_name": "org_noun"}
    named = [Phrase(a.id, second=b.id) for kind in second for a in BY_KIND[kind] for b in BY_KIND[second[kind]]]
    rng_facts, count = world.rng("descriptions", task.name), FACTS * len(named)
    described = clauses(world, rng_facts, count, split=0, definite=1.0, negated=0.0)
    known = [described[FACTS * e : FACTS * (e + 1)] for e in range(len(named))]
    mentions = [(clause, int(rng.integers(len(named))), int(rng.integers(FACTS))) for clause in drawn]
    if split == "train":
        other, pairs = _others(world, task, known), []
        for i, (clause, e, n) in enumerate(mentions):
            own = other(e)
            a, b = _mention(g, named[e], clause, own[n]), _described(g, named[e], own)
            pairs.append(Pair(f"{code}-{i:06d}", a, b, None))
        return Loaded(pairs)
    pool, queries, gold = [], [], []
    for e, name in enumerate(named):
        pool.append(Text(f"entity-{e:03d}", _described(grammar(world, codes[e % len(codes)]), name, known[e]), "pool"))
    for i, (clause, e, n) in enumerate(mentions):
        queries.append(Text(f"{code}-{i:06d}", _mention(g, named[e], clause, known[e][n]), "query"))
        gold.append((queries[-1].id, pool[e].id))
    return Loaded([*queries, *pool], gold)


def _others(world: World, task: Task, known: Sequence[Sequence[Clause]]) -> Callable[[int], list[Clause]]:
    """A function from the number of a name to new facts at each call, none of which describe it in dev and test."""

    def draw() -> Iterator[Clause]:
        rng = world.rng("descriptions", task.name, "train")
        while True:
            yield from clauses(world, rng, 1000, split=0, definite=1.0, negated=0.0)

    drawn, taken = draw(), [{_deed(fact) for fact in described} for described in known]
    return lambda e: list(islice((fact for fact in drawn if _deed(fact) not in taken[e]), FACTS))


def _deed(clause: Clause) -> tuple[int, int]:
    """What is done, and to what."""
    return clause.verb, clause.object.noun if clause.object is not None else -1


def _described(g: Grammar, name: Phrase, known: Sequence[Clause]) -> str:
    return f"{spell(g.name(name))}: {' '.join(g.text(clause._replace(subject=name)) for clause in known)}"


def _mention(g: Grammar, name: Phrase, clause: Clause, fact: Clause) -> str:
    """The clause with the name as its subject, and with verb and object of the fact."""
    words: list[str] = []
    for part in g.parts(clause._replace(verb=fact.verb, object=fact.object, subject=name)):
        forms = [w.form for w in part.words]
        words += ["{", *forms, "}"] if part.role == "S" else forms
    return f"{spell(g.name(name))}: {' '.join(words)}."


RETRIEVAL = {"parallel": parallel, "mining": mining, "answers": answers, "entities": entities}
