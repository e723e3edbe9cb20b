"""World counterparts that are sets of sentences: MLM documents, parallel sentences, bitext mining, answer and entity search."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from xtl.tasks.base import Loaded, Task, Text
from xtl.world.grammar import ASK, STOP, Grammar, Word, anchor_ids, grammar, lexicons, spell
from xtl.world.language import SOURCE
from xtl.world.meaning import BY_KIND, CONCEPTS, Clause, Phrase, clauses, facts
from xtl.world.options import SPLITS, World

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
    forms, kinds = rng.random(count), rng.integers(1 << 16, size=count)
    switch = _Switch(world, code, rng) if world.code_switch else None
    made = []
    for i, (a, b, form, n) in enumerate(zip(first, second, forms.tolist(), kinds.tolist(), strict=True)):
        words = _document(g, a, b, form, n)
        made.append(Text(f"{code}-{i:06d}", spell(switch(words) if switch else words)))
    return made


def _document(g: Grammar, a: Clause, b: Clause, form: float, n: int) -> list[Word]:
    f = facts(g.world)
    words = g.words(a, front=("", "", "T", "P")[n % 4])
    known = _again(a)
    if form < 0.25 and a.object is not None:  # asked and answered
        ask = "SOP"[n % 3] if a.place is not None else "SO"[n % 2]
        target = {"S": a.subject, "O": a.object, "P": a.place}[ask]
        assert target is not None
        return words + g.words(known._replace(adverb=-1), ask=ask) + g.name(target) + list(STOP.words)
    if form < 0.5 and a.verb in f.state and not a.negated:  # what it led to
        outcome = Clause(-1, known.subject, state=f.state[a.verb])
        kind = n % 4
        if kind == 0:
            return words + [w for p in g.parts(outcome, link="so") for w in p.words] + list(STOP.words)
        if kind == 1:
            because = [w for p in g.parts(_bare(known), link="because") for w in p.words]
            return g.words(outcome) + because + list(STOP.words)
        if kind == 2:
            answer = [g.content(outcome.state, category="A")]
            return words + g.words(outcome, ask="O") + answer + list(STOP.words)
        why = [w for p in g.parts(outcome, link="why") for w in p.words] + list(ASK.words)
        return why + [w for p in g.parts(_bare(known), link="because") for w in p.words] + list(STOP.words)
    if form < 0.65 and a.verb in f.next_verb and not a.negated:  # what came next
        then = _bare(known)._replace(verb=f.next_verb[a.verb])
        return words + [w for p in g.parts(then, link="then") for w in p.words] + list(STOP.words)
    if form < 0.8:  # said again, shorter
        return words + g.words(known if n % 3 else known._replace(place=None, relation=-1, adverb=-1))
    if form < 0.9:  # more about the same participant
        return words + g.words(b._replace(subject=known.subject) if b.object != a.subject else b)
    return words + g.words(b)


def _again(clause: Clause) -> Clause:
    """The clause as a second mention: definite, without qualities."""
    subject = clause.subject._replace(definite=True, quality=-1)
    object_ = clause.object and clause.object._replace(definite=True, quality=-1)
    return clause._replace(subject=subject, object=object_)


def _bare(clause: Clause) -> Clause:
    return clause._replace(place=None, relation=-1, adverb=-1)


class _Switch:
    """Replaces content words by their translation, as bilingual writers do: into English, or from English into any."""

    def __init__(self, world: World, code: str, rng: np.random.Generator):
        own = anchor_ids(world, code) if code != SOURCE else frozenset()
        lexicon = lexicons(world)
        others = [SOURCE] if code != SOURCE else [c for c in lexicon if c != SOURCE]
        self.forms = [lexicon[c].concepts for c in others]
        self.rate, self.rng, self.anchors = world.code_switch, rng, own

    def __call__(self, words: list[Word]) -> list[Word]:
        draws, which = self.rng.random(len(words)), self.rng.integers(len(self.forms), size=len(words))
        return [
            w._replace(form=self.forms[which[i]][w.key]) if isinstance(w.key, int) and draws[i] < self.rate else w
            for i, w in enumerate(words)
        ]


# ---------------------------------------------------------------- retrieval


class Drawn(NamedTuple):
    """Sentences for a retrieval set, and whether they were drawn without shared words."""

    clauses: list[Clause]
    free: list[bool]


def distinct(world: World, name: str, split: str, count: int, allowed: Callable[[], frozenset[int]]) -> Drawn:
    """`count` different propositions, the share `anchor_free` of them of `allowed` concepts only, in random order."""
    rng = world.rng("sentences", name, split)
    seen: dict[Clause, bool] = {}
    for free in (False, True):
        wanted = count if free else count - round(count * world.anchor_free)
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
    order = rng.permutation(count)
    said = list(seen)
    return Drawn([said[i] for i in order], [seen[said[i]] for i in order])


def parallel(world: World, task: Task, code: str, split: str, drawn: Drawn) -> Loaded:
    """English queries, sorted as Tatoeba's are, and one foreign sentence for each, in another order."""
    english, foreign = grammar(world, SOURCE), grammar(world, code)
    queries = [Text(f"{SOURCE}-{i:06d}", english.text(c), "query") for i, c in enumerate(drawn.clauses)]
    pool = [Text(f"{code}-{i:06d}", foreign.text(c), "pool") for i, c in enumerate(drawn.clauses)]
    gold = [(q.id, p.id) for q, p in zip(queries, pool, strict=True)]
    order = world.rng("pool", task.name, split).permutation(len(pool))
    return Loaded([*sorted(queries, key=lambda q: q.text), *(pool[i] for i in order)], gold)


MINED = 0.3  # share of the sentences of a mining corpus that have a translation in the other


def mining(world: World, task: Task, code: str, split: str, drawn: Drawn) -> Loaded:
    """Two corpora, foreign (queries) and English (pool), in which only some sentences correspond."""
    english, foreign = grammar(world, SOURCE), grammar(world, code)
    count = len(drawn.clauses)
    pairs = round(count * MINED)
    alone = (count - pairs) // 2
    rng = world.rng("corpora", task.name, split)
    examples, gold = [], []
    spoken = {"query": [*range(pairs + alone)], "pool": [*range(pairs), *range(pairs + alone, count)]}
    for side, g in (("query", foreign), ("pool", english)):
        order = [spoken[side][i] for i in rng.permutation(len(spoken[side]))]
        examples += [Text(f"{g.code}-{i:09d}", g.text(drawn.clauses[i]), side) for i in order]
    gold = [(f"{code}-{i:09d}", f"{SOURCE}-{i:09d}") for i in range(pairs)]
    return Loaded(examples, gold)


def answers(world: World, task: Task, code: str, split: str, drawn: Drawn) -> Loaded:
    """Questions of one language; the pool holds the answering sentence in every language (training: in that language)."""
    rng = world.rng("questions", task.name, split)
    g = grammar(world, code)
    asks = rng.integers(6, size=len(drawn.clauses)).tolist()
    queries = []
    for i, (clause, n) in enumerate(zip(drawn.clauses, asks, strict=True)):
        ask = "SOP"[n % 3] if clause.place is not None and clause.object is not None else "S"
        queries.append(Text(f"{code}-q{i:06d}", g.text(_again(clause), ask=ask), "query"))
    codes = [code] if split == "train" else list(world.table)
    pool = [
        Text(f"{c}-{i:06d}", grammar(world, c).text(clause), "pool")
        for c in codes
        for i, clause in enumerate(drawn.clauses)
    ]
    gold = [(q.id, f"{c}-{i:06d}") for i, q in enumerate(queries) for c in codes]
    return Loaded([*queries, *pool], gold)


def entities(world: World, task: Task, code: str, split: str, drawn: Drawn) -> Loaded:
    """Mentions of names in sentences of one language; the pool describes every name once, each in some language.

    A query is "mention: sentence with { mention } in braces"; a description tells three things about the name.
    """
    rng = world.rng("mentions", task.name, split)
    first = [c.id for kind in ("given", "org_name") for c in BY_KIND[kind]]
    named = [Phrase(i, second=s.id) for i in first for s in BY_KIND[_second_kind(i)]]
    named += [Phrase(c.id) for c in BY_KIND["place_name"]]
    codes = list(world.table)
    about = world.rng("descriptions", task.name)
    facts_of = [clauses(world, about, 3, split=0, definite=1.0, negated=0.0) for _ in named]
    pool = []
    for e, (name, told) in enumerate(zip(named, facts_of, strict=True)):
        g = grammar(world, code if split == "train" else codes[e % len(codes)])
        said = [g.text(_about(clause, name)) for clause in told]
        pool.append(Text(f"entity-{e:03d}", f"{spell(g.name(name))}: {' '.join(said)}", "pool"))
    g, queries, gold = grammar(world, code), [], []
    for i, clause in enumerate(drawn.clauses):
        e = int(rng.integers(len(named)))
        # The sentence tells something like one of the known facts, so that name and context both count.
        told = facts_of[e][int(rng.integers(3))]
        clause = _about(clause._replace(verb=told.verb, object=told.object), named[e])
        words: list[Word] = []
        brace = STOP.words[0]
        for part in [*g.parts(clause), STOP]:
            mention = list(part.words) == list(g.phrase(named[e], part.role)) if part.role == "S" else False
            inner = [brace._replace(form="{"), *part.words, brace._replace(form="}")] if mention else part.words
            words.extend(inner)
        queries.append(Text(f"{code}-{i:06d}", f"{spell(g.name(named[e]))}: {spell(words)}", "query"))
        gold.append((queries[-1].id, pool[e].id))
    return Loaded([*queries, *pool], gold)


def _second_kind(first: int) -> str:
    return "family" if CONCEPTS[first].kind == "given" else "org_noun"


def _about(clause: Clause, name: Phrase) -> Clause:
    return clause._replace(subject=name)


RETRIEVAL = {"parallel": parallel, "mining": mining, "answers": answers, "entities": entities}
