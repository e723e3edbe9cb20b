"""Retrieval families: exact search, layers and poolings, mining with a carried threshold, dual encoder training."""

import json
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_tokenizer import small_tokenizer
from xtl.benchmark.aggregate import task_averages
from xtl.data import sources
from xtl.data.batches import EvalBatches
from xtl.data.settings import Data
from xtl.errors import XtlError
from xtl.families import nearest as search
from xtl.families.dual import FAMILY as dual
from xtl.families.nearest import nearest
from xtl.families.retrieve import FAMILY as retrieve
from xtl.families.retrieve import default_layer, sides, sweep
from xtl.models.encoder import EncoderConfig, Pooled
from xtl.task import Loaded, Pair, Task, Text, with_options
from xtl.tasks import get_task

TOKENIZER = small_tokenizer()
RNG = np.random.default_rng(0)


def task(family, **options):
    return Task(name="toy", family=family, about="", languages=(), splits=(), metric="", options=options)


TATOEBA, BUCC = task("retrieve"), task("retrieve", mining=True)
LAREQA = task("dual", query_length=6)

# ---------------------------------------------------------------- search


def brute(queries, pool, k):
    q, p = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries.astype(np.float64), pool.astype(np.float64)))
    cosines = q @ p.T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


@pytest.mark.parametrize(("queries", "pool", "k"), [(1, 1, 4), (7, 300, 4), (70, 33, 20), (3, 64, 64)])
def test_neighbours_are_exact_across_blocks_chunks_and_devices(monkeypatch, queries, pool, k):
    monkeypatch.setattr(search, "QUERIES", 4)
    monkeypatch.setattr(search, "POOL", 64)
    a, b = RNG.normal(size=(queries, 8)), RNG.normal(size=(pool, 8))
    index, cosine = nearest(a, b, k=k)
    expected, values = brute(a, b, k)
    assert index.shape == (queries, min(k, pool)) and (index == expected).all()
    np.testing.assert_allclose(cosine, values, atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_of_equal_neighbours_the_first_is_taken(pool, k):
    index, cosine = nearest(np.ones((2, 3)), np.ones((pool, 3)), k=k)
    assert (index == np.arange(min(k, pool))).all()
    np.testing.assert_allclose(cosine, 1, rtol=1e-6)


def test_bad_vectors_are_errors():
    with pytest.raises(XtlError, match="pool is empty"):
        nearest(np.ones((1, 3)), np.ones((0, 3)), k=1)
    with pytest.raises(XtlError, match=r"shapes \(1, 3\) and \(1, 4\)"):
        nearest(np.ones((1, 3)), np.ones((1, 4)), k=1)
    with pytest.raises(XtlError, match="1 of 2 sentence vectors are not finite"):
        nearest(np.ones((1, 3)), np.array([[1, 2, 3], [np.nan, 1, 1]]), k=1)
    assert nearest(np.zeros((0, 3)), np.ones((2, 3)), k=1)[0].shape == (0, 1)
    assert nearest(np.zeros((1, 3)), np.ones((2, 3)), k=1)[1].tolist() == [[0.0]]


# ---------------------------------------------------------------- retrieve

QUERIES, POOL = [f"eng-{i}" for i in range(6)], [f"deu-{i}" for i in (3, 1, 0, 5, 4, 2)]
EXAMPLES = [Text(i, f"cat {i}", "query") for i in QUERIES] + [Text(i, f"Katze {i}", "pool") for i in POOL]
GOLD = [(q, f"deu-{q[4:]}") for q in QUERIES]
BASE = RNG.normal(size=(6, 8)).astype(np.float32)


def vectors(noise=0.0, shift=0.0):
    """Vectors of EXAMPLES: translations share one, plus noise, plus a shift of one side."""
    pool = BASE[[int(i[4:]) for i in POOL]] + noise * RNG.normal(size=(6, 8))
    return np.concatenate([BASE, pool + shift]).astype(np.float32)


def test_layer_and_pooling_choose_the_vector_and_default_to_the_published_ones():
    pooled = Pooled(*(jnp.asarray(RNG.normal(size=(13, 2, 3, 4)), jnp.float32) for _ in range(2)))
    assert (retrieve.outputs(TATOEBA, pooled, {})["vector_rsd"] == pooled.mean_lrsd[8]).all()
    assert (
        retrieve.outputs(task("retrieve", layer=0, pooling="cls"), pooled, {})["vector_rsd"] == pooled.cls_lrsd[0]
    ).all()
    swept = retrieve.outputs(task("retrieve", sweep=True), pooled, {})["vectors_rspld"]
    assert swept.shape == (2, 3, 2, 13, 4) and (swept[:, :, 1, 5] == pooled.cls_lrsd[5]).all()
    assert [default_layer(n) for n in (24, 12, 3)] == [14, 8, 2]
    with pytest.raises(XtlError, match="layer 13 is asked for"):
        retrieve.outputs(task("retrieve", layer=13), pooled, {})
    with pytest.raises(XtlError, match="Did you mean 'mean'"):
        retrieve.outputs(task("retrieve", pooling="men"), pooled, {})


def test_translations_are_found_and_written_as_pool_rows():
    predictions = retrieve.decode(TATOEBA, EXAMPLES, None, {"vector_sd": vectors()})
    assert [p.query for p in predictions] == QUERIES
    assert retrieve.file_content(predictions, {}) == [2, 1, 5, 0, 4, 3]
    assert retrieve.score(TATOEBA, "de", Loaded(EXAMPLES, GOLD), predictions) == {"accuracy": 100, "n": 6}
    assert retrieve.score(TATOEBA, "de", Loaded(EXAMPLES), predictions) == {"n": 0}


def test_anchor_free_accuracy_counts_only_pairs_without_shared_words():
    wrong = vectors()
    wrong[0] = wrong[1]
    predictions = retrieve.decode(TATOEBA, EXAMPLES, None, {"vector_sd": wrong})
    scores = retrieve.score(TATOEBA, "de", Loaded(EXAMPLES, GOLD, frozenset({"eng-0", "eng-1", "deu-1"})), predictions)
    assert scores["anchor_free_accuracy"] == 50 and scores["anchor_free_n"] == 2
    np.testing.assert_allclose(scores["accuracy"], 100 * 5 / 6)


def test_centring_removes_what_tells_the_languages_apart():
    shifted = vectors(shift=np.float32([90, -80, 0, 0, 0, 0, 0, 0]))
    centred = retrieve.decode(with_options(TATOEBA, {"centre": True}), EXAMPLES, None, {"vector_sd": shifted})
    plain = retrieve.decode(TATOEBA, EXAMPLES, None, {"vector_sd": shifted})
    scores = [retrieve.score(TATOEBA, "de", Loaded(EXAMPLES, GOLD), p)["accuracy"] for p in (centred, plain)]
    assert scores[0] == 100 > scores[1]


def test_a_sweep_scores_every_layer_and_pooling_of_one_pass():
    layers = np.stack([vectors(noise=9), vectors(), vectors(noise=9)], axis=1)
    by_pooling = sweep(TATOEBA, EXAMPLES, {"vectors_spld": np.stack([layers, layers[:, ::-1]], axis=1)}, GOLD)
    assert list(by_pooling) == ["mean", "mean, centred", "cls", "cls, centred"]
    assert all(len(scores) == 3 for scores in by_pooling.values())
    assert by_pooling["mean"][1] == by_pooling["cls, centred"][1] == 100 > by_pooling["mean"][0]


def test_mined_pairs_use_the_threshold_of_the_development_data():
    alone = [Text(f"x-{i}", f"alone {i}", side) for side in ("query", "pool") for i in range(4)]
    alone = [Text(f"{t.side}-{t.id}", t.text, t.side) for t in alone]
    repeated = [Text("eng-9", "cat eng-1", "query")]  # the same text as eng-1: neither keeps an id
    examples = EXAMPLES + alone + repeated
    vector_sd = np.concatenate([vectors(noise=0.02), RNG.normal(size=(9, 8))]).astype(np.float32)
    predictions = retrieve.decode(BUCC, examples, None, {"vector_sd": vector_sd})
    margins = [p.margin for p in predictions]
    assert margins == sorted(margins, reverse=True) and {p.source for p in predictions}.isdisjoint({"eng-1", "eng-9"})
    dev = retrieve.score(BUCC, "de", Loaded(examples, GOLD), predictions)
    assert round(dev["recall"], 2) == 83.33 and dev["precision"] == 100 and dev["threshold"] > 0
    test = retrieve.score(BUCC, "de", Loaded(examples, GOLD), predictions, retrieve.carry(dev))
    assert test == dev
    assert retrieve.score(BUCC, "de", Loaded(examples, GOLD), predictions, {"threshold": 99})["f1"] == 0
    written = retrieve.file_content(predictions, dev)
    assert sorted(written) == sorted(pair for pair in GOLD if pair[0] != "eng-1")


def test_sentences_of_neither_side_and_training_are_errors():
    with pytest.raises(XtlError, match="1 queries and 1 pool sentences of 3"):
        sides(TATOEBA, [EXAMPLES[0], EXAMPLES[-1], Text("x", "x")])
    with pytest.raises(XtlError, match="has no training"):
        retrieve.encode(TATOEBA, EXAMPLES, TOKENIZER, max_length=16, train=True)
    assert retrieve.encode(TATOEBA, EXAMPLES, TOKENIZER, max_length=4).segment_lengths.max() == 4


# ---------------------------------------------------------------- dual


def test_training_pairs_are_two_segments_cut_at_lengths_of_their_own():
    examples = [Pair("1", "who sat on a mat in paris", "the cat sat on a mat in paris", None)]
    encoded = dual.encode(LAREQA, examples, TOKENIZER, max_length=9, train=True)
    assert TOKENIZER.pieces(encoded.ids[encoded.tokens(0)]) == ["<s>", "▁who", "▁sat", "▁on", "▁a", "</s>"]
    candidate = ["<s>", "▁the", "▁cat", "▁sat", "▁on", "▁a", "▁mat", "▁in", "</s>"]
    assert TOKENIZER.pieces(encoded.ids[encoded.tokens(1)]) == candidate
    texts = [Text("q", examples[0].a, "query"), Text("p", examples[0].b, "pool")]
    assert (dual.encode(LAREQA, texts, TOKENIZER, max_length=9, train=False).ids == encoded.ids).all()
    with pytest.raises(XtlError, match="1 of 1 examples are no pairs"):
        dual.encode(LAREQA, texts[:1], TOKENIZER, max_length=9, train=True)
    with pytest.raises(XtlError, match="2 of 3 examples are no pairs"):
        dual.encode(LAREQA, [*texts, *examples], TOKENIZER, max_length=9, train=False)


def test_development_pairs_are_ranked_among_each_others_candidates():
    examples = [Pair(f"q{i}", "who", f"candidate {i // 2}", None) for i in range(4)]  # two questions a candidate
    encoded = dual.encode(LAREQA, examples, TOKENIZER, max_length=9, train=False)
    vector_sd = np.zeros((encoded.segments, 2))
    vector_sd[:, 0], vector_sd[4:, 1] = 1, 1
    ranked = dual.decode(LAREQA, examples, encoded, {"vector_sd": vector_sd})
    assert dual.file_content(ranked, {}) == [("q0", "q2"), ("q0", "q2"), ("q2", "q0"), ("q2", "q0")]
    assert dual.score(LAREQA, "en", Loaded(examples), ranked) == {"map20": 100, "n": 4}


def test_loss_is_the_softmax_over_the_candidates_of_the_batch():
    examples = [Pair(str(i), "who", "the cat", None) for i in range(3)]
    encoded = dual.encode(LAREQA, examples, TOKENIZER, max_length=9, train=True)
    (batch,) = EvalBatches(encoded, dual, rows=4, row_length=9, slots=2, choices=2)
    config = EncoderConfig(vocab_size=99, hidden=8, layers=1, heads=2, mlp=8)
    head = dual.head(config, LAREQA, rngs=nnx.Rngs(0))
    hidden = jnp.asarray(RNG.normal(size=(4, 9, 8)), jnp.float32)
    logits = head(hidden, batch, pool=lambda x: x)
    loss, weight = dual.loss(logits, batch)
    first = np.asarray(hidden, np.float64)[np.arange(4)[:, None], batch["slots_rs"]].reshape(-1, 8)
    unit = first / np.linalg.norm(first, axis=1, keepdims=True)
    q, c = (unit[batch["segments_ec"][:3, side]] for side in (0, 1))
    scores = 100 * q @ c.T
    expected = np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)
    assert weight == 3, "padding examples are no negatives"
    np.testing.assert_allclose(loss, expected.sum(), rtol=1e-5)


def test_rankings_hold_the_best_twenty_and_are_scored_over_all_right_candidates():
    examples = [Text("q", "who", "query"), *(Text(f"p{i}", "cat", "pool") for i in range(30))]
    angles = np.concatenate([[0], np.linspace(0.01, 1, 30)])
    ranked = dual.decode(LAREQA, examples, None, {"vector_sd": np.stack([np.cos(angles), np.sin(angles)], axis=1)})
    assert dual.file_content(ranked, {}) == [tuple(f"p{i}" for i in range(20))]
    assert dual.score(LAREQA, "en", Loaded(examples, [("q", "p0"), ("q", "p3")]), ranked) == {"map20": 75, "n": 1}
    assert dual.score(LAREQA, "en", Loaded(examples), ranked) == {"n": 0}


LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")


def write_xquad_r(root, *, paragraphs=9, questions=4):
    """Files in LAReQA's layout: in every language the same questions, other numbers of sentences in each paragraph."""
    folder = root / "lareqa" / "xquad-r"
    folder.mkdir(parents=True)
    for offset, language in enumerate(LANGUAGES):
        articles = []
        for p in range(paragraphs):
            sentences = [f"{language} sentence {s} of paragraph {p}." for s in range(3 + (p + offset) % 3)]
            if p == 2:
                sentences[-1] = sentences[0]  # one text twice: both answer
            context, breaks, at = " ".join(sentences), [], 0
            for sentence in sentences:
                breaks.append([at, at + len(sentence)])
                at += len(sentence) + 1
            asked = [
                {
                    "id": f"q{p}.{q}",
                    "question": f"{language} question {q} of {p}?",
                    "answers": [{"text": "sentence", "answer_start": breaks[q % len(breaks)][0] + 3}],
                }
                for q in range(questions)
            ]
            if p == 4:  # answers that start between two sentences: no questions, and so no candidates
                for question in asked:
                    question["answers"][0]["answer_start"] = breaks[0][1]
            articles.append({"paragraphs": [{"context": context, "sentence_breaks": breaks, "qas": asked}]})
        (folder / f"{language}.json").write_text(json.dumps({"data": articles}))
    return folder


def reference_map(folder, vector_of, k=20):
    """The benchmark's definition, from the files: all candidates of all languages in one matrix, products with each
    question, precision at every hit among the first k, divided by min(right answers, k), mean over all questions."""
    questions, candidates, right = [], {}, {}
    for language in LANGUAGES:
        paragraphs = [p for a in json.loads((folder / f"{language}.json").read_text())["data"] for p in a["paragraphs"]]
        for number, paragraph in enumerate(paragraphs):
            context = paragraph["context"]
            sentences = [context[a:b] for a, b in paragraph["sentence_breaks"]]
            for question in paragraph["qas"]:
                start = question["answers"][0]["answer_start"]
                inside = [i for i, (a, b) in enumerate(paragraph["sentence_breaks"]) if a <= start < b]
                if not inside:
                    continue
                questions.append((language, question["id"]))
                for i, sentence in enumerate(sentences):
                    column = candidates.setdefault((language, number, i), len(candidates))
                    if sentence == sentences[inside[0]]:
                        right.setdefault(question["id"], set()).add(column)
    matrix = np.stack([vector_of(f"{language}:{p}-{i}") for language, p, i in candidates]).astype(np.float64)
    precisions = []
    for language, name in questions:
        order = np.argsort(matrix @ vector_of(f"{language}:{name}").astype(np.float64))[::-1][:k]
        hit = np.isin(order, list(right[name]))
        at_hits = (np.cumsum(hit) / np.arange(1, len(order) + 1))[hit]
        precisions.append(at_hits.sum() / min(len(right[name]), k))
    return len(questions), len(candidates), 100 * float(np.mean(precisions))


def test_lareqa_is_scored_on_one_pool_of_all_languages_as_the_benchmark_defines_it(tmp_path):
    folder, lareqa = write_xquad_r(tmp_path), get_task("lareqa")

    def vector_of(name):
        """Fixed and random; texts of one paragraph are near each other, so that there is something to rank."""
        paragraph = name.partition(":")[2].lstrip("q")[0]
        common, own = (np.random.default_rng(zlib.crc32(x.encode())).normal(size=16) for x in (paragraph, name))
        return ((common + own) / np.linalg.norm(common + own)).astype(np.float32)

    data = Data(source="files", root=str(tmp_path))
    parts = sources.pool_parts(lareqa, "test", data)
    assert parts == LANGUAGES
    sets = {x: sources.load(lareqa, x, "test", data) for x in parts}
    outputs = {x: {"vector_sd": np.stack([vector_of(e.id) for e in sets[x].examples])} for x in parts}
    pool = dual.shared_pool(lareqa, ((sets[x], outputs[x]) for x in parts))
    rankings = {x: dual.rank(lareqa, sets[x], outputs[x], pool) for x in parts}
    scores = {x: dual.score(lareqa, x, sets[x], rankings[x]) for x in parts}
    questions, candidates, expected = reference_map(folder, vector_of)
    assert len(pool.ids) == candidates and sum(values["n"] for values in scores.values()) == questions
    assert not [query for query, _ in sets["de"].gold if query.startswith("de:q4")]
    assert 5 < expected < 95
    assert task_averages("lareqa", scores)["map20"] == pytest.approx(expected, abs=1e-6)


def test_a_candidate_of_lareqa_is_the_sentence_and_then_its_paragraph_in_one_text(tmp_path):
    write_xquad_r(tmp_path)
    loaded = sources.load(get_task("lareqa"), "de", "test", Data(source="files", root=str(tmp_path)))
    texts = {e.id: e.text for e in loaded.examples if e.side == "pool"}
    context = " ".join(f"de sentence {s} of paragraph 0." for s in range(4))
    assert texts["de:0-1"] == "de sentence 1 of paragraph 0." + context
    assert sorted(c for q, c in loaded.gold if q == "de:q0.1") == sorted(f"{x}:0-1" for x in LANGUAGES)
