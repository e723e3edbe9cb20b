"""World counterparts of the tasks: what an item means (drawn once for all languages), and how a language expresses it.

A kind of task is two functions. `draw` makes N items out of propositions; `say` turns one item into an example of one
language. Equal ids are equal items, so every split of every task is exactly parallel over languages.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xtl.errors import XtlError, nearest
from xtl.task import PANX_TAGS, UPOS, Choice, Example, Pair, Span, Tagged, Task
from xtl.world.grammar import ASK, CCG, STOP, Grammar, Part, Word, spell
from xtl.world.meaning import ANIMATE, BY_KIND, CONCEPTS, Clause, Phrase, clauses, facts
from xtl.world.options import World


@dataclass(frozen=True)
class Draw:
    """What every `draw` receives."""

    world: World
    rng: np.random.Generator
    count: int
    split: int
    special: float
    allowed: frozenset[int] | None

    def clauses(self, count: int = 0, **knobs: Any) -> list[Clause]:
        return clauses(
            self.world,
            self.rng,
            count or self.count,
            split=self.split,
            special=self.special,
            allowed=self.allowed,
            **knobs,
        )

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def other(self, concept: int, unlike: tuple[int, ...] = ()) -> int:
        """Another concept of the same sort and domain."""
        c = CONCEPTS[concept]
        same = [d.id for d in BY_KIND[c.kind] if d.type == c.type and d.id != concept and d.special <= c.special]
        same = [i for i in same if self.allowed is None or i in self.allowed]
        return int(self.pick([i for i in same if i not in unlike] or same))

    def filtered(self, keep: Callable[[Clause], bool], **knobs: Any) -> list[Clause]:
        kept: list[Clause] = []
        while len(kept) < self.count:
            kept += [c for c in self.clauses(2 * self.count + 32, **knobs) if keep(c)]
        return kept[: self.count]


class Kind(NamedTuple):
    draw: Callable[[Draw], list[Any]]
    say: Callable[[Grammar, Task, str, Any], Example]


# ---------------------------------------------------------------- pairs


def _shorter(draw: Draw, clause: Clause, *, adjuncts: bool) -> Clause:
    """The clause less some of its modifiers, at least one if it has any."""
    droppable = [("subject", "quality")] if clause.subject.quality >= 0 else []
    droppable += [("object", "quality")] if clause.object is not None and clause.object.quality >= 0 else []
    if adjuncts:
        droppable += [("place", "")] if clause.place is not None else []
        droppable += [("adverb", "")] if clause.adverb >= 0 else []
    drop = [d for d in droppable if draw.chance(0.6)] or ([draw.pick(droppable)] if droppable else [])
    for slot, what in drop:
        if what:
            clause = clause._replace(**{slot: getattr(clause, slot)._replace(quality=-1)})
        elif slot == "place":
            clause = clause._replace(place=None, relation=-1)
        else:
            clause = clause._replace(adverb=-1)
    return clause


def _changed(draw: Draw, clause: Clause, slots: str = "VSO") -> Clause:
    """The clause with one of its verb, subject, object replaced by another of its sort."""
    slot = draw.pick([s for s in slots if s != "O" or clause.object is not None])
    if slot == "V":
        return clause._replace(verb=draw.other(clause.verb))
    taken = tuple(p.noun for p in (clause.subject, clause.object) if p is not None)
    if slot == "S" or clause.object is None:
        return clause._replace(subject=clause.subject._replace(noun=draw.other(clause.subject.noun, taken)))
    return clause._replace(object=clause.object._replace(noun=draw.other(clause.object.noun, taken)))


def _draw_nli(draw: Draw) -> list[tuple]:
    """Premise, hypothesis, label. All phrases are definite, so a quality dropped under negation is still entailed;
    place and adverb restrict, and stay when the premise is negated."""
    items = []
    for i, premise in enumerate(draw.clauses(definite=1.0, negated=0.4, modifiers=0.7)):
        label = ("entailment", "contradiction", "neutral")[i % 3]
        hypothesis = _shorter(draw, premise, adjuncts=not premise.negated)
        if label == "contradiction":
            hypothesis = hypothesis._replace(negated=not premise.negated)
        elif label == "neutral":
            hypothesis = _changed(draw, _changed(draw, hypothesis, "SO"), "V")
        items.append((premise, hypothesis, label))
    return items


def _say_nli(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
    premise, hypothesis, label = item
    return Pair(id_, g.text(premise), g.text(hypothesis), task.label_id(label, id_))


def _draw_questions(draw: Draw) -> list[tuple]:
    """Two questions, asked in the same way about the same thing or not."""
    items = []
    for i, clause in enumerate(draw.clauses(definite=1.0, negated=0.0, transitive=True)):
        ask = draw.pick("SOP" if clause.place is not None else "SO")
        second = _shorter(draw, clause, adjuncts=ask != "P")
        if i % 2 == 0:
            second = _changed(draw, second, {"S": "VO", "O": "VS", "P": "VSO"}[ask])
        items.append((clause, second, ask, i % 2))
    return items


def _say_questions(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
    first, second, ask, label = item
    return Pair(id_, g.text(first, ask=ask), g.text(second, ask=ask), label)


def _animate(phrase: Phrase) -> bool:
    return CONCEPTS[phrase.noun].type in ANIMATE or CONCEPTS[phrase.noun].kind == "given"


def _draw_reordered(draw: Draw) -> list[tuple]:
    """A sentence and the same words in another order: an adjunct moved, and in every second item the roles swapped."""

    def keep(c: Clause) -> bool:
        movable = c.place is not None or c.adverb >= 0
        return movable and c.object is not None and _animate(c.subject) and _animate(c.object)

    items = []
    for i, clause in enumerate(draw.filtered(keep, transitive=True, definite=1.0, modifiers=0.8)):
        front = draw.pick("T" * (clause.adverb >= 0) + "P" * (clause.place is not None))
        assert clause.object is not None
        second = clause if i % 2 else clause._replace(subject=clause.object, object=clause.subject)
        items.append((clause, second, front, i % 2))
    return items


def _say_reordered(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
    first, second, front, label = item
    return Pair(id_, g.text(first), g.text(second, front=front), label)


# ---------------------------------------------------------------- choices


def _shuffled(draw: Draw, right: Any, wrong: list[Any]) -> tuple[tuple, int]:
    label = int(draw.rng.integers(len(wrong) + 1))
    return (*wrong[:label], right, *wrong[label:]), label


def _outcome(clause: Clause, state: int) -> Clause:
    return Clause(-1, clause.subject, state=state)


def _draw_next(draw: Draw) -> list[tuple]:
    """What happens then: the right next event against a wrong event, a wrong subject, a wrong object."""
    f = facts(draw.world)
    items = []
    for clause in draw.clauses(transitive=True, negated=0.0):
        right = clause.bare().known()._replace(verb=f.next_verb[clause.verb])
        wrong = [right._replace(verb=draw.other(right.verb, (clause.verb,)))]
        wrong += [_changed(draw, right, "S"), _changed(draw, right, "O")]
        items.append((clause, "", *_shuffled(draw, ("then", right), [("then", w) for w in wrong])))
    return items


def _other_state(draw: Draw, state: int) -> int:
    return draw.pick([c.id for c in BY_KIND["adjective"] if c.type == "state" and c.id != state])


def _draw_cause(draw: Draw) -> list[tuple]:
    """Cause and effect in turn, two choices: a verb decides how its subject is afterwards."""
    f = facts(draw.world)
    items = []
    for i, clause in enumerate(draw.clauses(transitive=True, negated=0.0)):
        state = f.state[clause.verb]
        event, effect = clause.bare().known(), _outcome(clause, state)
        if i % 2:
            wrong: Clause = effect._replace(state=_other_state(draw, state))
            items.append((clause, "so", *_shuffled(draw, ("", effect.known()), [("", wrong.known())])))
        else:
            verb = draw.pick([v for v, s in f.state.items() if s != state and not CONCEPTS[v].special])
            wrong = event._replace(verb=verb)
            items.append((effect, "because", *_shuffled(draw, ("", event), [("", wrong)])))
    return items


def _draw_state(draw: Draw) -> list[tuple]:
    """An event; how its subject was afterwards; three states."""
    f = facts(draw.world)
    items = []
    for clause in draw.clauses(transitive=True, negated=0.0):
        state = f.state[clause.verb]
        states = [c.id for c in BY_KIND["adjective"] if c.type == "state" and c.id != state]
        wrong = [int(s) for s in draw.rng.permutation(states)[:2]]
        items.append((clause, _outcome(clause, state).known(), *_shuffled(draw, state, wrong)))
    return items


def _draw_reason(draw: Draw) -> list[tuple]:
    """Two events, and why somebody was as he was: the event that fits, the other one, and two that did not happen."""
    f = facts(draw.world)
    items = []
    events = draw.clauses(2 * draw.count, transitive=True, negated=0.0)
    for clause, beside in zip(events[: draw.count], events[draw.count :], strict=True):
        state = f.state[clause.verb]
        unfit = [v for v, s in f.state.items() if s != state and v != clause.verb and not CONCEPTS[v].special]
        beside = beside._replace(verb=draw.pick(unfit))
        right = clause.bare().known()
        wrong = [beside.bare().known(), right._replace(verb=draw.pick(unfit)), _changed(draw, right, "S")]
        context = (clause, beside) if draw.chance(0.5) else (beside, clause)
        items.append(((context, _outcome(clause, state).known()), "why", *_shuffled(draw, right, wrong)))
    return items


def _draw_object(draw: Draw) -> list[tuple]:
    """What does one usually do this to: the likeliest sort of thing against four that it is seldom done to."""
    f = facts(draw.world)
    nouns = [i for i, p in enumerate(f.participants) if CONCEPTS[int(p)].kind == "noun"]
    nouns = [i for i in nouns if CONCEPTS[int(f.participants[i])].type != "place"]
    if draw.allowed is not None:
        nouns = [i for i in nouns if int(f.participants[i]) in draw.allowed]
    row = {int(v): i for i, v in enumerate(f.verbs)}
    items = []
    for clause in draw.clauses(transitive=True, negated=0.0):
        weights = f.object_weights[row[clause.verb], nouns]
        likely = np.argsort(-weights, kind="stable")
        right = int(f.participants[nouns[likely[int(draw.rng.integers(3))]]])
        rare = likely[len(likely) // 2 :]
        wrong = [Phrase(int(f.participants[nouns[i]])) for i in draw.rng.permutation(rare)[:4]]
        items.append((clause.bare()._replace(object=Phrase(right)), *_shuffled(draw, Phrase(right), wrong)))
    return items


def _say_events(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
    prompt, link, choices, label = item
    ask = spell([g.function(link), ASK.words[0]]) if link else ""
    texts = tuple(g.text(clause, link=word) for word, clause in choices)
    return Choice(id_, f"{g.text(prompt)} {ask}".rstrip(), texts, label)


def _say_state(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
    event, outcome, states, label = item
    prompt = f"{g.text(event)} {g.text(outcome, ask='O')}"
    return Choice(id_, prompt, tuple(g.content(s, category="A").form + "." for s in states), label)


def _say_reason(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
    (context, outcome), why, choices, label = item
    question = spell([w for part in [*g.parts(outcome, link=why), ASK] for w in part.words])
    prompt = " ".join([*map(g.text, context), question])
    return Choice(id_, prompt, tuple(g.text(c, link="because") for c in choices), label)


def _say_object(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
    clause, phrases, label = item
    return Choice(id_, g.text(clause, ask="O"), tuple(spell(g.name(p)) for p in phrases), label)


# ---------------------------------------------------------------- spans


def _draw_span(draw: Draw, unanswerable: float = 0.0) -> list[tuple]:
    """Three events and a question on one of them. Unanswerable: the question's verb is none of the three."""
    pool = draw.clauses(3 * draw.count + 64, transitive=True, negated=0.0, modifiers=0.5)
    items = []
    for i in range(draw.count):
        about = pool[3 * i]
        beside, used = [], {about.verb}
        for clause in pool[3 * i + 1 : 3 * i + 3]:
            if clause.verb in used:
                clause = clause._replace(verb=draw.other(clause.verb, tuple(used)))
            used.add(clause.verb)
            beside.append(clause)
        ask = draw.pick("SSOOP" if about.place is not None else "SO")
        question = _shorter(draw, about, adjuncts=False).known()
        if ask != "P":
            question = question._replace(adverb=-1)
        none = draw.chance(unanswerable)
        if none:
            question = question._replace(verb=draw.other(about.verb, tuple(used)))
        context = tuple([about, *beside][j] for j in draw.rng.permutation(3))
        items.append((context, question, ask, None if none else context.index(about)))
    return items


def _say_span(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
    context, question, ask, where = item
    words: list[Word] = []
    answer: list[Word] = []
    start = 0
    for i, clause in enumerate(context):
        for part in [*g.parts(clause), STOP]:
            if i == where and part.role == ask:
                # Articles and adpositions stand at the edge of a phrase in every grammar, so the rest is one stretch.
                inner = [w for w in part.words if UPOS[w.tag] not in ("DET", "ADP")]
                before = part.words[: part.words.index(inner[0])]
                start, answer = len(spell([*words, *before])) + bool(words or before), inner
            words.extend(part.words)
    text = spell(words)
    answers = ((spell(answer), start),) if answer else ()
    return Span(id_, g.text(question, ask=ask), text, answers)


# ---------------------------------------------------------------- tags


def _draw_sentence(draw: Draw) -> list[tuple]:
    """Statements, questions, and two clauses linked."""
    f = facts(draw.world)
    items: list[tuple] = []
    for clause in draw.clauses():
        form = draw.rng.random()
        if form < 0.15:
            items.append(("ask", clause, draw.pick("SO" if clause.object is not None else "S")))
        elif form < 0.3 and clause.verb in f.state:
            items.append(("because", _outcome(clause, f.state[clause.verb]), clause.bare().known()))
        else:
            items.append(("say", clause, draw.pick(["", "", "T", "P"])))
    return items


def _sentence(g: Grammar, item: tuple) -> list[Word]:
    form, clause, rest = item
    if form == "ask":
        return g.words(clause, ask=rest)
    if form == "say":
        return g.words(clause, front=rest)
    parts: list[Part] = [*g.parts(clause), *g.parts(rest, link=form), STOP]
    return [w for part in parts for w in part.words]


def _draw_named(draw: Draw) -> list[tuple]:
    """Sentences with at least one name."""

    def keep(c: Clause) -> bool:
        return any(p is not None and CONCEPTS[p.noun].kind != "noun" for p in (c.subject, c.object, c.place))

    return [("say", c, "") for c in draw.filtered(keep)]


def _say_tags(column: str, tags: tuple[str, ...]) -> Callable[[Grammar, Task, str, Any], Example]:
    def say(g: Grammar, task: Task, id_: str, item: tuple) -> Example:
        words = _sentence(g, item)
        indices = tuple(getattr(w, column) for w in words)
        if tags != CCG and task.labels not in ((), tags):  # ccg's own tags are bare numbers
            indices = tuple(task.label_id(tags[i], id_) for i in indices)
        return Tagged(id_, tuple(w.form for w in words), indices)

    return say


# ---------------------------------------------------------------- table

KINDS = {
    "nli": Kind(_draw_nli, _say_nli),
    "questions": Kind(_draw_questions, _say_questions),
    "reordered": Kind(_draw_reordered, _say_reordered),
    "next": Kind(_draw_next, _say_events),
    "cause": Kind(_draw_cause, _say_events),
    "state": Kind(_draw_state, _say_state),
    "reason": Kind(_draw_reason, _say_reason),
    "object": Kind(_draw_object, _say_object),
    "span": Kind(_draw_span, _say_span),
    "span or none": Kind(lambda draw: _draw_span(draw, 1 / 3), _say_span),
    "categories": Kind(_draw_sentence, _say_tags("tag", UPOS)),
    "supertags": Kind(_draw_sentence, _say_tags("category", CCG)),
    "names": Kind(_draw_named, _say_tags("name", PANX_TAGS)),
}
# text, parallel, mining, answers and entities are kinds of xtl/world/text.py: sets of sentences, not labelled items.
KIND_OF = {
    "mlm": "text",
    **dict.fromkeys(("mnli", "xnli", "snli", "anli", "anli_plus", "mednli"), "nli"),
    **dict.fromkeys(("anli_r1", "anli_r2", "anli_r3"), "nli"),
    "qqp": "questions",
    **dict.fromkeys(("pawsx", "paws"), "reordered"),
    "hellaswag": "next",
    **dict.fromkeys(("copa", "xcopa"), "cause"),
    "socialiqa": "state",
    "cosmosqa": "reason",
    "commonsenseqa": "object",
    **dict.fromkeys(("squad_v1", "xquad", "mlqa", "tydiqa"), "span"),
    "squad_v2": "span or none",
    "udpos": "categories",
    "panx": "names",
    "ccg": "supertags",
    "tatoeba": "parallel",
    "bucc2018": "mining",
    "lareqa": "answers",
    "mewslix": "entities",
}


def kind_of(task: Task) -> str:
    """The kind of a task: by its name, or named in its options under "world"."""
    named = task.options.get("world") or KIND_OF.get(task.name)
    if named is None:
        raise XtlError(
            f"task {task.name} has no counterpart in the world; name one in its options, "
            f'{{"world": KIND}}.{nearest(task.name, KIND_OF)}'
        )
    known = {*KINDS, *KIND_OF.values()}
    if named not in known:
        raise XtlError(f"task {task.name}: unknown kind of world task {named!r}.{nearest(str(named), known)}")
    return str(named)


def concepts_in(item: Any) -> frozenset[int]:
    """All concepts that an item mentions."""
    concepts: set[int] = set()

    def walk(x: Any) -> None:
        if isinstance(x, Phrase):
            concepts.update((x.noun, x.quality, x.second, x.number - 2 if x.number > 2 else -1))
        elif isinstance(x, Clause):
            concepts.update((x.verb, x.adverb, x.state))
            walk((x.subject, x.object, x.place))
        elif isinstance(x, tuple):
            for y in x:
                walk(y)

    walk(item)
    return frozenset(concepts - {-1})
