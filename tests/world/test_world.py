"""The world: what it promises about its languages, tasks and shared words."""

import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from xtl import world
from xtl.errors import XtlError
from xtl.task import NLI, PANX_TAGS, UPOS, Choice, Pair, Span, Tagged, Task, Text
from xtl.world.grammar import CCG, lexicons
from xtl.world.meaning import BY_KIND
from xtl.world.tasks import KIND_OF, KINDS

SMALL = {"documents": 200, "train": 60, "dev": 40, "test": 60}
LABELS = {"nli": NLI, "questions": ("0", "1"), "reordered": ("0", "1"), "categories": UPOS, "names": PANX_TAGS}


def make(name: str, *, train: str = "") -> Task:
    """A task of that name; the catalogue is not needed to test the world. The family does not matter here."""
    labels = LABELS.get(KIND_OF.get(name, ""), ())
    return Task(
        name=name,
        family="pair",
        about="",
        languages=(),
        splits=("train", "dev", "test"),
        metric="x",
        labels=labels,
        train=train,
    )


LABELLED = sorted(name for name, kind in KIND_OF.items() if kind in KINDS)
SENTENCES = sorted(name for name, kind in KIND_OF.items() if kind not in KINDS)


def texts_of(example) -> list[str]:
    match example:
        case Pair(_, a, b, _):
            return [a, b]
        case Choice(_, prompt, choices, _):
            return [prompt, *choices]
        case Span(_, question, context, _):
            return [question, context]
        case Tagged(_, words, _):
            return [" ".join(words)]
        case Text(_, text, _):
            return [text]


# ---------------------------------------------------------------- determinism


PRINT_DIGEST = """
import hashlib
from xtl import world
from tests.world.test_world import LABELLED, SENTENCES, SMALL, make
digest = hashlib.sha256()
for name in (*LABELLED, *SENTENCES):
    if name == "mewslix_pairs":  # came after the digest was taken; its texts are mewslix's
        continue
    loaded = world.load(make(name), "qfb", "train" if name == "mlm" else "test", SMALL)
    digest.update(repr((list(loaded.examples), list(loaded.gold))).encode())
digest.update(repr(sorted(world.tokenizer(SMALL).get_vocab().items())).encode())
print(digest.hexdigest())
"""


DIGEST = "de7d3218042197ebba55300b6eae401982538278f1dcdb0cdfac699a8fc1a2f1"  # of PRINT_DIGEST


def test_the_world_is_the_one_of_published_results_in_every_process_whatever_the_hash_seed():
    """Results name a world by its options alone, so equal options must give equal data in every version of xtl."""
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p or "." for p in sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == DIGEST


def test_a_language_does_not_depend_on_the_order_of_loading():
    first = world.load(make("mnli"), "qna", "train", SMALL | {"seed": 5}).examples
    world.load(make("mlm"), "qfc", "train", SMALL | {"seed": 5})
    world.load(make("squad_v1"), "en", "train", SMALL | {"seed": 5})
    assert first == world.load(make("mnli"), "qna", "train", SMALL | {"seed": 5}).examples


def test_seeds_make_different_worlds():
    a, b = (world.load(make("mlm"), "qna", "train", SMALL | {"seed": s}).examples for s in (0, 1))
    assert not {e.text for e in a} & {e.text for e in b}


# ---------------------------------------------------------------- tasks


@pytest.mark.parametrize("name", LABELLED)
def test_every_labelled_task_loads_parallel_in_every_language_with_disjoint_splits(name):
    task = make(name)
    assert len(world.languages(task, SMALL)) == 10
    for split in ("train", "dev", "test"):
        loaded = {c: world.load(task, c, split, SMALL).examples for c in world.languages(task, SMALL)}
        ids = [e.id for e in loaded["en"]]
        assert len(ids) == SMALL[split] == len(set(ids))
        for code, examples in loaded.items():
            assert [e.id for e in examples] == ids, code
        if not isinstance(loaded["en"][0], Span | Tagged):
            labels = [e.label for e in loaded["en"]]
            assert all([e.label for e in examples] == labels for examples in loaded.values())
    english = [
        {tuple(texts_of(e)) for e in world.load(task, "en", s, SMALL).examples} for s in ("train", "dev", "test")
    ]
    # Two choices are told apart by a prompt such as "Anna was glad. because?" and may recur; whole examples may not.
    assert not english[0] & english[1]
    assert not english[0] & english[2]
    assert not english[1] & english[2]


def test_no_split_shares_a_verb_subject_object_with_another_task_s_split():
    from xtl.world.meaning import clauses, split_of

    small = world.make_world(SMALL)
    for split in range(3):
        drawn = clauses(small, small.rng("here", split), 100, split=split)
        core = [(c.verb, c.subject.noun, c.object.noun if c.object else -1) for c in drawn]
        assert (split_of(small, *np.array(core).T) == split).all()


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_balanced_and_within_range(name):
    task = make(name)
    examples = world.load(task, "qmb", "train", SMALL | {"train": 300}).examples
    if isinstance(examples[0], Pair):
        counts = Counter(e.label for e in examples)
        assert set(counts) == set(range(len(task.labels)))
        assert max(counts.values()) - min(counts.values()) <= 2
    elif isinstance(examples[0], Choice):
        counts = Counter(e.label for e in examples)
        choices = {len(e.choices) for e in examples}
        assert len(choices) == 1
        assert set(counts) == set(range(choices.pop()))
        assert max(counts.values()) < 2 * 300 / len(counts)
    elif isinstance(examples[0], Tagged):
        labels = world.labels(task)
        assert all(len(e.words) == len(e.tags) and max(e.tags) < len(labels) for e in examples)
        assert len({t for e in examples for t in e.tags}) >= 6


def test_nli_labels_are_the_task_s_own_indices():
    other_order = Task(**{**vars_of(make("mnli")), "labels": ("entailment", "neutral", "contradiction")})
    ours, theirs = (world.load(t, "en", "dev", SMALL).examples for t in (make("mnli"), other_order))
    assert [NLI[e.label] for e in ours] == [other_order.labels[e.label] for e in theirs]


def vars_of(task: Task) -> dict:
    return {name: getattr(task, name) for name in task.__dataclass_fields__}


def test_a_contradiction_differs_by_negation_and_an_entailment_says_nothing_new():
    for e in world.load(make("mnli"), "en", "train", SMALL | {"train": 300}).examples:
        a, b = ({w.strip(".") for w in t.split()} for t in (e.a, e.b))
        negated = ("never" in a) != ("never" in b)
        assert negated == (NLI[e.label] == "contradiction")
        if NLI[e.label] == "entailment":
            assert b <= a


@pytest.mark.parametrize("name", ["squad_v1", "squad_v2", "xquad", "tydiqa"])
@pytest.mark.parametrize("code", world.languages())
def test_answer_offsets_are_exact_and_at_word_edges(name, code):
    unanswerable = 0
    for e in world.load(make(name), code, "train", SMALL).examples:
        unanswerable += not e.answers
        for text, start in e.answers:
            assert e.context[start : start + len(text)] == text
            assert start == 0 or e.context[start - 1] == " "
            assert e.context[start + len(text) :][:1] in (" ", ".")
    assert (unanswerable > 0) == (name == "squad_v2")


def test_names_are_tagged_as_bio_with_every_type():
    tags = Counter()
    for e in world.load(make("panx"), "qfa", "train", SMALL | {"train": 300}).examples:
        previous = "O"
        for tag in (PANX_TAGS[t] for t in e.tags):
            assert not tag.startswith("I-") or previous[1:] == tag[1:]
            previous = tag
            tags[tag] += 1
    assert set(tags) >= {"B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "O"}


def test_training_data_of_a_target_is_the_translation_of_the_task_it_trains_on():
    english = world.load(make("mnli"), "en", "train", SMALL).examples
    translated = world.load(make("xnli", train="mnli"), "qnb", "train", SMALL).examples
    assert [(e.id, e.label) for e in english] == [(e.id, e.label) for e in translated]
    assert [e.a for e in english] != [e.a for e in translated]


def test_text_of_two_languages_is_not_parallel_and_follows_the_data_share():
    options = SMALL | {"languages": {"qna": {"data_share": 0.1}, "qfa": {"data_share": 0.0}}}
    sizes = {c: len(world.load(make("mlm"), c, "train", options).examples) for c in ("en", "qna", "qfa")}
    assert sizes == {"en": 200, "qna": 20, "qfa": 0}


# ---------------------------------------------------------------- retrieval


@pytest.mark.parametrize("name", ["tatoeba", "bucc2018"])
def test_parallel_sentences_pair_every_language_with_english(name):
    task = make(name)
    codes = world.languages(task, SMALL)
    assert "en" not in codes
    assert len(codes) == 9
    for code in codes:
        loaded = world.load(task, code, "test", SMALL)
        sides = {s: [e for e in loaded.examples if e.side == s] for s in ("query", "pool")}
        for side, column in (("query", 0), ("pool", 1)):
            ids = [e.id for e in sides[side]]
            assert len(set(ids)) == len(ids)
            assert len({e.text for e in sides[side]}) == len(ids), "a sentence occurs twice"
            assert {g[column] for g in loaded.gold} <= set(ids)
        if name == "tatoeba":
            assert len(loaded.gold) == 60
            assert sides["query"] == sorted(sides["query"], key=lambda e: e.text)
            assert [q.id[-6:] for q in sides["query"]] != [p.id[-6:] for p in sides["pool"]]
        else:
            assert 0 < len(loaded.gold) < min(map(len, sides.values()))
            assert {g[0].split("-")[0] for g in loaded.gold} == {code}
    with pytest.raises(XtlError, match="does not exist in 'en'"):
        world.load(task, "en", "test", SMALL)


def test_an_answer_is_found_in_every_language_and_an_entity_once():
    loaded = world.load(make("lareqa"), "qma", "test", SMALL)
    assert Counter(Counter(q for q, _ in loaded.gold).values()) == {10: 60}
    ids = {e.id for e in loaded.examples}
    assert len(ids) == len(loaded.examples)
    assert all(q in ids and p in ids for q, p in loaded.gold)
    loaded = world.load(make("mewslix"), "qma", "test", SMALL)
    assert set(Counter(q for q, _ in loaded.gold).values()) == {1}
    assert all("{" in e.text for e in loaded.examples if e.side == "query")


@pytest.mark.parametrize("name", ["lareqa", "mewslix"])
def test_training_pairs_are_a_query_and_the_candidate_that_only_it_fits(name):
    for code in ("en", "qma"):
        loaded = world.load(make(name), code, "train", SMALL)
        assert len(loaded.examples) == SMALL["train"] and not loaded.gold
        assert all(isinstance(e, Pair) and e.label is None for e in loaded.examples)
        for unique in ([e.id for e in loaded.examples], [e.b for e in loaded.examples]):
            assert len(set(unique)) == len(unique)
        tested = {e.text for e in world.load(make(name), code, "test", SMALL).examples}
        assert not tested & {text for e in loaded.examples for text in texts_of(e)}
        shared = tuple(world.anchors(code, SMALL))
        free = {e.id for e in loaded.examples if not any(w.startswith(shared) for t in texts_of(e) for w in t.split())}
        assert world.anchor_free(make(name), code, "train", SMALL) == free


def test_a_training_query_is_answered_by_its_candidate():
    for e in world.load(make("lareqa"), "en", "train", SMALL).examples:
        question, statement = e.a.rstrip("?").split(), e.b.rstrip(".").split()
        assert question[0] in ("who", "what", "where") and set(question[1:]) <= set(statement)
    for e in world.load(make("mewslix"), "en", "train", SMALL).examples:
        name, sentence = e.a.split(": ", 1)
        assert sentence.count(f"{{ {name} }}") == 1 and e.b.startswith(f"{name}: {name} ")
        stems = {w.strip(".").removesuffix("ed") for w in sentence.split()}
        deeds = stems & {c.english for c in BY_KIND["verb"]}
        assert len(deeds) == 1 and deeds.pop() in e.b


# ---------------------------------------------------------------- shared words


def test_languages_share_exactly_the_anchors_and_nothing_else():
    lexicon_of = lexicons(world.make_world(SMALL))
    shared = world.anchors("qna", SMALL)
    english = {*lexicon_of["en"].concepts, *lexicon_of["en"].function.values(), *lexicon_of["en"].affixes.values()}
    for code, lexicon in lexicon_of.items():
        if code != "en":
            own = {*lexicon.concepts, *lexicon.function.values(), *lexicon.affixes.values()}
            assert own & english == world.anchors(code, SMALL) == shared
    forms = Counter(f for x in lexicon_of.values() for f in {*x.concepts, *x.function.values(), *x.affixes.values()})
    assert {f for f, n in forms.items() if n > 1} == shared


def test_anchor_share_is_met_and_nested_and_can_differ_by_language():
    counts = [len(world.anchors("qfc", {"anchor_share": s})) for s in (0.0, 0.2, 0.4)]
    total = len(lexicons(world.make_world())["en"].concepts)
    assert counts[0] == 0
    assert abs(counts[1] / total - 0.2) < 0.06
    assert abs(counts[2] / total - 0.4) < 0.06
    assert world.anchors("qfc", {"anchor_share": 0.2}) < world.anchors("qfc", {"anchor_share": 0.4})
    mixed = {"languages": {"qnb": {"anchor_share": 0.1}}}
    assert len(world.anchors("qnb", mixed)) < len(world.anchors("qna", mixed))


def test_transliteration_leaves_other_scripts_without_shared_words():
    assert not world.anchors("qma", {"transliterate": True})
    assert world.anchors("qna", {"transliterate": True})


@pytest.mark.parametrize("name", ["xnli", "udpos", "xquad", "hellaswag", "tatoeba", "lareqa"])
def test_half_of_a_test_set_is_free_of_anchors_and_no_word_of_it_is_shared(name):
    task = make(name)
    for code in ("qnc", "qfb"):
        free = world.anchor_free(task, code, "test", SMALL)
        examples = world.load(task, code, "test", SMALL).examples
        assert {e.id for e in examples} >= free
        assert len(free) >= 0.4 * len(examples) if name != "lareqa" else free
        shared = tuple(world.anchors(code, SMALL))
        for e in examples:
            if e.id in free and not e.id.startswith("en-"):
                assert not any(w.startswith(shared) for text in texts_of(e) for w in text.split())


def test_own_words_are_the_content_words_that_no_anchor_gives_away():
    task = make("udpos")
    own = world.own_words(task, "qnc", "test", SMALL)
    shared = tuple(world.anchors("qnc", SMALL))
    content = {UPOS.index(t) for t in ("NOUN", "VERB", "ADJ", "PROPN", "ADV", "NUM")}
    assert any(any(mask) for mask in own.values())
    for e in world.load(task, "qnc", "test", SMALL).examples:
        for word, tag, mine in zip(e.words, e.tags, own[e.id], strict=True):
            assert not (mine and word.startswith(shared))
            assert not mine or tag in content


def test_matching_anchors_alone_scores_above_chance_and_at_chance_on_anchor_free_sentences():
    task = make("tatoeba")
    for code in ("qna", "qfc"):
        raw, free = (world.anchor_baseline(task, code, "test", SMALL, free=f) for f in (False, True))
        assert raw > 5
        assert free < 5
    with pytest.raises(XtlError, match="no retrieval task"):
        world.anchor_baseline(make("xnli"), "qna", "test", SMALL)


def test_code_switching_puts_english_words_into_foreign_text_and_the_other_way_round():
    switched = {"code_switch": 0.3, "anchor_share": 0.0, "anchor_free": 0.0} | SMALL
    words = {c: {w.strip(".?") for e in world.load(make("mlm"), c, "train", switched).examples for w in e.text.split()}
             for c in ("en", "qna")}  # fmt: skip
    lexicon_of = lexicons(world.make_world(switched))
    assert len(words["qna"] & set(lexicon_of["en"].concepts)) > 30
    assert len(words["en"] & set(lexicon_of["qna"].concepts)) > 10


# ---------------------------------------------------------------- languages


def test_distance_grows_from_near_to_far_and_ignores_affixes_script_and_lexicon():
    distances = [world.distance(c) for c in world.languages()]
    assert distances == sorted(distances)
    assert distances[0] == distances[1] == 0.0
    assert distances[-1] == pytest.approx(8 / 9), "no order differs from English in both subject and object"
    changed = {"languages": {"qfa": {"affixation": "fusional", "script": "Armn", "anchor_share": 0.1}}}
    assert world.distance("qfa", changed) == world.distance("qfa")
    assert world.distance("qfa", {"languages": {"qfa": {"order": "SVO"}}}) < world.distance("qfa")


def test_affixation_is_spread_over_near_middle_and_far():
    kinds = {c: world.LANGUAGES[c].affixation for c in world.languages() if c != "en"}
    for band in ("qn", "qm", "qf"):
        assert {kinds[c] for c in kinds if c.startswith(band)} == {"isolating", "agglutinative", "fusional"}


def test_more_languages_hold_every_pair_of_distance_and_affixation_once_and_change_none_of_the_ten():
    options = SMALL | {"more_languages": 24}
    table = world.make_world(options).table
    drawn = [code for code in table if code not in world.LANGUAGES]
    pairs = {(round(9 * world.distance(code, options)), table[code].affixation) for code in drawn}
    assert len(drawn) == len(pairs) == 24
    for task, split in itertools.product(("xnli", "udpos", "tatoeba", "mlm"), ("train", "test")):
        for code in world.languages(make(task), SMALL):
            assert world.load(make(task), code, split, options) == world.load(make(task), code, split, SMALL)
    fewer = SMALL | {"more_languages": 5}
    assert world.load(make("xnli"), drawn[4], "test", options) == world.load(make("xnli"), drawn[4], "test", fewer)
    assert drawn[5] not in world.languages(make("xnli"), fewer)
    share = options | {"languages": {drawn[0]: {"data_share": 0.1}}}
    assert world.make_world(share).table[drawn[0]].order == table[drawn[0]].order, "a drawn language can be changed"


def test_a_new_language_can_be_described_by_its_features():
    options = SMALL | {"languages": {"qta": {"order": "VSO", "affixation": "agglutinative", "script": "Armn"}}}
    assert "qta" in world.languages(make("xnli"), options)
    before = world.load(make("xnli"), "qfc", "test", SMALL).examples
    assert world.load(make("xnli"), "qfc", "test", options).examples == before, "a new language changes no other"
    assert world.load(make("xnli"), "qta", "test", options).examples[0].a != before[0].a


def test_the_tokenizer_spells_every_word_without_unknowns_in_stems_and_affixes():
    options = SMALL | {"languages": {"qta": {"script": "Armn"}}}
    tokenizer = world.tokenizer(options)
    assert 700 <= world.tokenizer(SMALL).get_vocab_size() <= 1200
    assert [tokenizer.token_to_id(t) for t in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert tokenizer.token_to_id("<mask>") == tokenizer.get_vocab_size() - 1
    pieces = {c: [] for c in world.languages(None, options)}
    for name in (*LABELLED, *SENTENCES):
        for code in world.languages(make(name), options):
            for e in world.load(make(name), code, "test", options).examples[:20]:
                for text in texts_of(e):
                    ids = tokenizer.encode(text, add_special_tokens=False).ids
                    assert 3 not in ids, text
                    pieces[code].append(len(ids) / len(text.split()))
    fertility = {c: np.mean(p) for c, p in pieces.items()}
    assert fertility["qfb"] > fertility["qfc"] > fertility["qfa"], "agglutinative > fusional > isolating"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor_shares": 0.3}, r"unknown world option 'anchor_shares'. Did you mean 'anchor_share'\?"),
        ({"anchor_share": 1.5}, "world.anchor_share 1.5 is not between 0 and 1"),
        ({"languages": {"qna": {"orders": "SVO"}}}, r"unknown feature 'orders'. Did you mean 'order'\?"),
        ({"languages": {"qna": {"order": "OSV"}}}, "order 'OSV' is none of SVO, SOV, VSO"),
        ({"special": {"mnli": 2}}, "world.special.mnli 2 is not between 0 and 1"),
        ({"test": 0}, "world.test 0 must be at least 1"),
        ({"more_languages": -1}, "world.more_languages -1 is not between 0 and 156"),
        ({"more_languages": 500}, "world.more_languages 500 is not between 0 and 156"),
        ({"anchor_share": 0.95}, "too few words are left unshared; lower anchor_share, or set anchor_free to 0"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(XtlError, match=message):
        world.load(make("xnli"), "qna", "test", SMALL | options)


def test_a_wrong_language_split_or_task_is_named():
    with pytest.raises(XtlError, match="the world has no language 'de'"):
        world.load(make("xnli"), "de", "test", SMALL)
    with pytest.raises(XtlError, match=r"no split 'tset'. Did you mean 'test'\?"):
        world.load(make("xnli"), "en", "tset", SMALL)
    with pytest.raises(XtlError, match="task mnly has no counterpart in the world"):
        world.load(make("mnly"), "en", "test", SMALL)


def test_a_new_task_can_name_its_kind_and_supertags_bring_their_labels():
    named = Task(**{**vars_of(make("covidqa")), "options": {"world": "span"}})
    assert world.load(named, "en", "train", SMALL | {"special": {"covidqa": 1.0}}).examples[0].answers
    assert world.labels(make("ccg")) == CCG
    assert world.labels(make("xnli")) == NLI


def test_the_special_domain_has_its_own_words():
    def share(special: float) -> float:
        options = SMALL | {"special": {"squad_v1": special}}
        words = " ".join(e.context for e in world.load(make("squad_v1"), "en", "train", options).examples).split()
        return sum(w.strip(".s") in ("nur", "nurse", "patient", "vaccine", "pill") for w in words) / len(words)

    assert share(0.0) == 0
    assert share(1.0) > 0.03
