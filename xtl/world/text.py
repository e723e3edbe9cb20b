"""World counterparts that are sets of sentences: MLM documents, and retrieval of translations, answers and entities."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from xtl.task import Loaded, Pair, Task, Text
from xtl.world.grammar import ASK, STOP, Grammar, Word, grammar, lexicons, spell
from xtl.world.language import SOURCE
from xtl.world.meaning import BY_KIND, Clause, Phrase, clauses, facts
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
    f, known = facts(g.world), a.short()
    told = g.words(a, front=("", "", "T", "P")[n % 4])
    beside = g.words(b)
    if form < 0.35:  # asked and answered, beside something else
        roles = "S" + "O" * (a.object is not None) + "P" * (a.place is not None)
        ask = roles[n % len(roles)]
        asked = {"S": a.subject, "O": a.object, "P": a.place}[ask]
        assert asked is not None
        question = g.words(known._replace(adverb=-1), ask=ask)
        answer = [*g.name(asked), *STOP.words]
        texts = told + beside if n & 64 else beside + told
        return question + answer + texts if n & 128 else texts + question + answer
    if form < 0.45:  # asked for yes or no
        word, asked_about = _doubt(a, b, n)
        question = g.words(asked_about, mark=ASK)
        return told + question + [g.function(word), *STOP.words]
    if form < 0.65 and a.verb in f.state and not a.negated:  # what it led to
        outcome = Clause(-1, known.subject, state=f.state[a.verb])
        because = g.words(known.bare(), link="because")
        if n % 4 == 0:
            return told + g.words(outcome, link="so") + beside
        if n % 4 == 1:
            return beside + g.words(outcome) + because
        if n % 4 == 2:
            answer = [g.content(outcome.state, category="A"), *STOP.words]
            return told + g.words(outcome, ask="O") + answer
        return g.words(outcome, link="why", mark=ASK) + because
    if form < 0.8 and a.verb in f.next_verb and not a.negated:  # what came next
        return told + g.words(known.bare()._replace(verb=f.next_verb[a.verb]), link="then")
    if form < 0.95:  # said again
        return told + g.words(known)
    return told + beside


def _doubt(a: Clause, b: Clause, n: int) -> tuple[str, Clause]:
    """A question about clause a, and whether the answer is yes, no or perhaps (b tells what else might have been)."""
    word = ("yes", "no", "perhaps")[n % 3]
    asked = a.short() if n & 64 else a.known()
    if not a.negated and n & 128:
        asked = asked.bare()
    if word == "no":
        asked = asked._replace(negated=not a.negated)
    elif word == "perhaps":
        ways = [asked._replace(subject=b.known().subject)] if b.subject.noun != a.subject.noun else []
        if a.object is not None and b.object is not None:
            ways += [asked._replace(object=b.known().object)] if a.object.noun != b.object.noun else []
            ways += [asked._replace(verb=b.verb)] if a.verb != b.verb else []
        if not ways:
            return "yes", asked
        asked = ways[(n >> 8) % len(ways)]
    return word, asked


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
    said = list(seen)
    return tuple(said[i] for i in rng.permutation(count))


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


FACTS = 3  # told of an entity


def entities(world: World, task: Task, code: str, split: str, drawn: Sequence[Clause]) -> Loaded:
    """Mentions of names in sentences of one language; the pool describes every name once, each in some language.

    A query is "mention: sentence with { mention } in braces"; a description tells three things about the name, and the
    sentence is about one of them.

    Training: pairs of a query and the description, in one language. There every mention has an entity of its own, and
    many entities share a name: with one for each name, most batches would hold a right candidate as a wrong one too.
    """
    rng, g, codes = world.rng("mentions", task.name, split), grammar(world, code), list(world.table)
    second = {"given": "family", "org_name": "org_noun"}
    named = [Phrase(a.id, second=b.id) for kind in second for a in BY_KIND[kind] for b in BY_KIND[second[kind]]]
    told = clauses(world, world.rng("descriptions", task.name), FACTS * len(named), split=0, definite=1.0, negated=0.0)
    known = [told[FACTS * e : FACTS * (e + 1)] for e in range(len(named))]
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
    """A function from the number of a name to ever new facts, unlike all that is told of that name in dev and test."""

    def draw() -> Iterator[Clause]:
        rng = world.rng("descriptions", task.name, "train")
        while True:
            yield from clauses(world, rng, 1000, split=0, definite=1.0, negated=0.0)

    drawn, taken = draw(), [{_deed(fact) for fact in told} for told in known]
    return lambda e: list(islice((fact for fact in drawn if _deed(fact) not in taken[e]), FACTS))


def _deed(clause: Clause) -> tuple[int, int]:
    """What is done, and to what."""
    return clause.verb, clause.object.noun if clause.object is not None else -1


def _described(g: Grammar, name: Phrase, known: Sequence[Clause]) -> str:
    return f"{spell(g.name(name))}: {' '.join(g.text(clause._replace(subject=name)) for clause in known)}"


def _mention(g: Grammar, name: Phrase, clause: Clause, fact: Clause) -> str:
    """The clause, but of the name and what the fact says of it."""
    words: list[str] = []
    for part in g.parts(clause._replace(verb=fact.verb, object=fact.object, subject=name)):
        said = [w.form for w in part.words]
        words += ["{", *said, "}"] if part.role == "S" else said
    return f"{spell(g.name(name))}: {' '.join(words)}."


RETRIEVAL = {"parallel": parallel, "mining": mining, "answers": answers, "entities": entities}
