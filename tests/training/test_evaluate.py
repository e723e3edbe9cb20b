"""Promises: predictions do not depend on how evaluation is batched; scores and files are of the examples asked for."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.support import tiny
from tests.support.stages import WORLD
from xtl import world
from xtl.benchmark import prediction_files
from xtl.data.rows import Encoded
from xtl.data.settings import Data
from xtl.data.tokenizer import load_tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.families.heads import head_for
from xtl.models.encoder import EncoderConfig
from xtl.parallel.mesh import make_mesh
from xtl.tasks import get_task
from xtl.training import evaluator as evaluation
from xtl.training import state
from xtl.training.evaluator import Evaluation, Evaluator, batch_shape, first_examples, write_predictions
from xtl.training.selection import Selection, collapse, majority_share

ORIGINAL = Path(__file__).parents[1] / "fixtures" / "original"
DATA = Data(source="world", tokenizer="world", world=WORLD)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("world", WORLD)


@pytest.fixture(scope="module")
def config(tokenizer):
    return EncoderConfig(vocab_size=tokenizer.vocab_size, hidden=32, layers=2, heads=2, mlp=64, max_positions=130)


def predicted(
    task, config, tokenizer, *, mesh=None, languages=("qna",), split="dev", heads=(), data=DATA, eval_rows=0, ahead=2,
    **how,
) -> Evaluation:  # fmt: skip
    mesh = mesh or tiny.one_device()
    params = state.init(config, tuple(map(get_task, heads)), mesh, seed=0).params
    evaluator = Evaluator(config, mesh, tokenizer, data, eval_rows=eval_rows, ahead=ahead)
    return evaluator(params, get_task(task), languages, split, **how)


@pytest.mark.mesh
@pytest.mark.parametrize(("task", "head"), [("xnli", "mnli"), ("xquad", "squad_v1"), ("udpos", "udpos")])
def test_predictions_do_not_depend_on_batching_nor_mesh(task, head, config, tokenizer):
    options = {"heads": (head,), "split": "test", "limit": 30}
    reference = predicted(task, config, tokenizer, **options)
    assert len(reference.predictions["qna"]) == 30
    other = predicted(task, config, tokenizer, eval_rows=3, ahead=0, **options)
    spread = predicted(task, config, tokenizer, mesh=make_mesh((2, 2, 2)), **options)
    for again in (other, spread):
        text = lambda p: getattr(p, "text", p)
        assert [text(p) for p in again.predictions["qna"]] == [text(p) for p in reference.predictions["qna"]]
        assert again.scores == reference.scores


def test_retrieval_needs_no_head_and_reports_pairs_without_shared_words(config, tokenizer):
    data = replace(DATA, world=WORLD | {"anchor_free": 0.5})
    result = predicted("tatoeba", config, tokenizer, split="test", data=data, options={"layer": 1})
    examples = world.load(get_task("tatoeba"), "qna", "test", data.world)
    assert result.scores["qna"]["n"] == len(examples.gold)
    assert 0 < result.scores["qna"]["anchor_free_n"] < len(examples.gold)
    assert "anchor_free_accuracy" in result.scores["qna"]


def test_a_layer_sweep_holds_the_score_of_the_chosen_layer_among_all_others(config, tokenizer):
    options = {"layer": 1, "pooling": "cls"}
    plain = predicted("tatoeba", config, tokenizer, split="test", options=options)
    swept = predicted("tatoeba", config, tokenizer, split="test", options={**options, "sweep": True})
    by_layer = swept.as_json()["sweep"]["qna"]
    assert plain.scores == swept.scores and by_layer["cls"][1] == plain.scores["qna"]["accuracy"]
    assert {len(scores) for scores in by_layer.values()} == {config.layers + 1}


def test_all_languages_share_one_batch_shape_and_one_compile(config, tokenizer):
    predicted("xnli", config, tokenizer, heads=("mnli",), languages=("en",), eval_rows=4, limit=10)
    step = evaluation.build_eval_step(config, get_task("xnli"), tiny.one_device())
    before = step._cache_size()
    result = predicted("xnli", config, tokenizer, heads=("mnli",), languages=("en", "qna", "qfa"), limit=10)
    assert step._cache_size() <= before + 1
    assert list(result.scores) == ["en", "qna", "qfa"]
    assert result.average == pytest.approx(np.mean([s["accuracy"] for s in result.scores.values()]))


def test_files_are_what_the_benchmark_reads(config, tokenizer, tmp_path):
    result = predicted(
        "xnli", config, tokenizer, heads=("mnli",), split="test", limit=12,
        on_language=lambda judged: write_predictions(judged, tmp_path),
    )  # fmt: skip
    file = prediction_files.file_path(tmp_path / "predictions", "xnli", "qna", "labels")
    assert prediction_files.parse_predictions(file, "labels").trusted() == result.predictions["qna"]
    written = json.loads(json.dumps(result.as_json()))
    assert list(written) == ["task", "split", "metric", "languages", "average"]
    assert written["languages"]["qna"]["n"] == 12


@pytest.mark.parametrize("task", ["tatoeba", "xquad", "udpos", "hellaswag"])
def test_every_family_s_predictions_make_a_file(task, config, tokenizer, tmp_path):
    head = {"xquad": "squad_v1", "tatoeba": ""}.get(task, task)
    heads = (head,) if head else ()
    language = "en" if task == "hellaswag" else "qna"
    predicted(
        task, config, tokenizer, heads=heads, languages=(language,), split="test",
        on_language=lambda judged: write_predictions(judged, tmp_path),
    )  # fmt: skip
    kind = family(get_task(task)).file_kind(get_task(task))
    file = prediction_files.file_path(tmp_path / "predictions", task, language, kind)
    assert prediction_files.parse_predictions(file, kind).trusted()


def test_a_language_without_labels_has_no_average():
    result = Evaluation(get_task("xnli"), "test", {"de": {"n": 0}, "en": {"accuracy": 50.0, "n": 2}}, {}, {})
    assert result.average is None and result.as_json()["unlabelled"] == ["de"]


def test_a_limit_on_retrieval_is_refused_because_it_would_shrink_the_pool(config, tokenizer):
    with pytest.raises(XtlError, match="whole pool"):
        predicted("tatoeba", config, tokenizer, split="test", limit=10)


def test_bitext_mining_takes_its_threshold_from_development_data(config, tokenizer):
    options = {
        "layer": 0,
        "centre": True,
    }  # bags of pieces find sentences that share words: there is a threshold to find
    mined = [predicted("bucc2018", config, tokenizer, split=s, options=options) for s in ("dev", "test")]
    thresholds = [result.scores["qna"]["threshold"] for result in mined]
    assert thresholds[0] == thresholds[1] > 0


def test_rows_that_are_no_examples_are_reported():
    result = Evaluation(get_task("xnli"), "test", {"de": {"accuracy": 50.0, "n": 2}}, {}, {"de": {"no label": 3}})
    assert result.as_json()["dropped"] == {"de": {"no label": 3}}


# ---------------------------------------------------------------- heads


def test_a_task_is_evaluated_with_the_head_it_trains_by():
    heads = {name: get_task(name) for name in ("mnli", "squad_v1")}
    assert head_for(get_task("xnli"), heads) == "mnli"
    assert head_for(get_task("udpos"), {"udpos": get_task("udpos")}) == "udpos"
    assert head_for(get_task("tatoeba"), {}) is None
    with pytest.raises(XtlError, match=r"no head for xnli among the trained ones \(squad_v1\): train it on mnli"):
        head_for(get_task("xnli"), {"squad_v1": heads["squad_v1"]})


# ---------------------------------------------------------------- shapes and limits


def test_the_first_examples_of_windows_are_all_windows_of_those_examples():
    encoded = Encoded.from_segments(
        [[0, 5, 2], [0, 6, 7, 2], [0, 8, 2], [0, 9, 2]],
        token_columns={"x": [[1, 1, 1], [2, 2, 2, 2], [3, 3, 3], [4, 4, 4]]},
        segment_columns={"_example": [0, 0, 1, 2]},
        example_columns={"y": [0, 1, 2, 3]},
    )
    part = first_examples(encoded, 2)
    assert part.segments == 3 and part.ids.tolist() == [0, 5, 2, 0, 6, 7, 2, 0, 8, 2]
    assert part.segment_columns["_example"].tolist() == [0, 0, 1] and part.example_columns["y"].tolist() == [0, 1, 2]
    assert part.token_columns["x"].tolist() == [1] * 3 + [2] * 4 + [3] * 3
    assert len(first_examples(encoded, 99)) == 4


def test_the_first_examples_of_choices_are_whole():
    encoded = Encoded.from_segments([[0, 2]] * 6, per_example=[3, 3], example_columns={"label": [0, 1]})
    assert first_examples(encoded, 1).segments == 3


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_batches_fit_what_they_must_hold(shape):
    mesh = make_mesh(shape, devices=jax.devices()[: int(np.prod(shape))])
    shards = shape[0] * shape[1]
    one = batch_shape([tiny.encoded(tiny.MNLI, examples=3)], mesh=mesh)
    assert one["rows"] == shards and one["row_length"] == 64  # little to do: no more rows than needed
    choices = batch_shape([tiny.encoded(tiny.HELLASWAG, examples=3)], mesh=mesh)
    assert choices["choices"] == 4 and choices["rows"] * choices["slots"] >= 4
    long = Encoded.from_segments([[0, *[5] * 500, 2]] * 100)
    got = batch_shape([long], mesh=mesh)
    assert got["row_length"] == 512 and got["rows"] % shards == 0 and got["slots"] == 2
    assert batch_shape([long], mesh=mesh, rows=9)["rows"] % shards == 0


# ---------------------------------------------------------------- selection


def test_the_earliest_of_equal_scores_is_kept_and_patience_counts_from_it():
    record = Selection("accuracy", patience=2)
    verdicts = []
    for step, score in enumerate([50.0, 60.0, 60.0, 59.0], start=1):
        record, best = record.seen(step, score)
        verdicts.append(best)
    assert verdicts == [True, True, False, False]
    assert record.best_step == 2 and record.exhausted
    assert Selection.from_json(json.loads(json.dumps(record.as_json()))) == record


def test_a_lower_loss_is_better_and_no_patience_never_ends():
    record = Selection("loss")
    for step, loss in enumerate([3.0, 2.0, 2.5, 2.6, 2.7], start=1):
        record, _ = record.seen(step, loss)
    assert record.best_step == 2 and record.since == 3 and not record.exhausted


def test_collapse_is_one_label_for_all_or_a_loss_that_never_fell():
    assert majority_share(["a", "a", "b", "a"]) == 0.75 and majority_share([("X", "Y"), ("X",)]) == pytest.approx(2 / 3)
    falling, flat = [1.1 - 0.05 * i for i in range(12)], [1.1] * 12
    assert collapse(falling, majority=0.6) == ""
    assert "one and the same label" in collapse(falling, majority=1.0)
    assert "no less than 1.1" in collapse(flat)
    assert collapse(flat[:3]) == ""  # too little to tell


@pytest.mark.parametrize(("task", "texts", "encoded"), [("lareqa", 5, 7), ("mewslix", 2, 4)])
def test_one_pool_is_encoded_once_for_the_queries_of_all_languages(
    task, texts, encoded, config, tokenizer, monkeypatch
):
    """Also of those that are not asked for: LAReQA's candidates are of every language of the data."""
    sizes, gather = [], evaluation.EvalBatches.gather
    monkeypatch.setattr(
        evaluation.EvalBatches, "gather", lambda self, outputs: sizes.append(len(self.encoded)) or gather(self, outputs)
    )
    data = Data(source="files", root=str(ORIGINAL), tokenizer="world", world=WORLD)
    both = predicted(task, config, tokenizer, data=data, split="test", heads=(task,), languages=("de", "en"))
    assert sum(sizes) == encoded
    assert both.as_json()["pool"]["texts"] == texts
    assert {len(ranking.candidates) for rankings in both.predictions.values() for ranking in rankings} == {texts}
    one = predicted(task, config, tokenizer, data=data, split="test", heads=(task,), languages=("de",))
    assert one.predictions["de"] == both.predictions["de"] and one.scores["de"] == both.scores["de"]
    with pytest.raises(XtlError, match=f"evaluate.{task}.limit: retrieval is scored against the whole pool"):
        predicted(task, config, tokenizer, data=data, split="test", heads=(task,), languages=("de",), limit=1)
