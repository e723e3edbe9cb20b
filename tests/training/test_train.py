"""Promises: an interrupted stage ends as an uninterrupted one, bit for bit; what is handed on is what was trained."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from tests.support.stages import MNLI, Events, Killed, after, stage, stages
from xtl import files, logs
from xtl.cli.main import main
from xtl.config.schema import as_dict
from xtl.data import cache as cached
from xtl.data import sources
from xtl.errors import XtlError
from xtl.parallel import multihost
from xtl.parallel.mesh import make_mesh
from xtl.training import checkpoint, state
from xtl.training import evaluator as evaluation
from xtl.training.events import Evaluated, Judged, Logged, Note, Saved, Started
from xtl.training.loop import train as train_stage

XNLI = {"xnli": {"languages": ("en", "qna"), "limit": 20}}


def train(one, folder, *, mesh=None, **options):
    """On one device, unless told otherwise."""
    return train_stage(one, folder, mesh=mesh or make_mesh((1, 1, 1), devices=jax.devices()[:1]), **options)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def six_steps(cache, tmp_path_factory):
    """(stage, folder) of six uninterrupted steps with a checkpoint after three."""
    one, folder = stage(cache, evaluate=XNLI), tmp_path_factory.mktemp("six")
    train(one, folder)
    return one, folder


def with_system(one, **changes):
    return dataclasses.replace(one, system=dataclasses.replace(one.system, **changes))


def weights(folder, step):
    """Digests of the whole state after a step: weights, moments, counters."""
    return checkpoint.describe(folder / "checkpoints" / str(step))["digests"]


def measured(folder):
    """metrics.jsonl without its clock."""
    keys = ("step", "task", "loss", "learning_rate", "grad_norm", "examples", "tokens")
    return [{key: record[key] for key in keys} for record in logs.read_lines(folder / "metrics.jsonl")]


def reports(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "eval").iterdir())}


def assert_same_run(folder, reference, *, step=6):
    assert weights(folder, step) == weights(reference, step)
    assert measured(folder) == measured(reference)
    assert reports(folder) == reports(reference)


# ---------------------------------------------------------------- interruption


def test_three_and_three_steps_are_six_bit_for_bit(six_steps, tmp_path):
    one, reference = six_steps
    with pytest.raises(Killed):
        train(one, tmp_path, on_event=Events(after(Saved, 3)))
    events = Events()
    train(one, tmp_path, on_event=events)
    assert events.of(Started)[0].step == 3 and events.of(Started)[0].resumed
    assert_same_run(tmp_path, reference)


def test_steps_after_the_last_checkpoint_are_done_again_and_logged_once(six_steps, tmp_path):
    one, reference = six_steps
    with pytest.raises(Killed):
        train(one, tmp_path, on_event=Events(after(Logged, 4)))
    assert [r["step"] for r in logs.read_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
    train(one, tmp_path)
    assert [r["step"] for r in logs.read_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert_same_run(tmp_path, reference)


def test_a_stage_can_be_interrupted_again_and_again(six_steps, tmp_path):
    one, reference = six_steps
    one = with_system(one, checkpoint_every=1)
    for step in (1, 2, 4):  # the second resume has broken well-known trainers
        with pytest.raises(Killed):
            train(one, tmp_path, on_event=Events(after(Saved, step)))
    with pytest.raises(Killed):
        train(one, tmp_path, on_event=Events(lambda event: isinstance(event, Evaluated)))  # trained, not yet evaluated
    assert not (tmp_path / "eval").exists()
    train(one, tmp_path)
    assert_same_run(tmp_path, reference)


def test_sigterm_saves_and_leaves_and_the_next_run_goes_on(six_steps, tmp_path):
    one, reference = six_steps
    before = signal.getsignal(signal.SIGTERM)

    def tell(event):
        if isinstance(event, Logged) and event.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(multihost.Preempted) as left:
        train(one, tmp_path, on_event=tell)
    assert left.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert os.listdir(tmp_path / "checkpoints") == ["2"]
    train(one, tmp_path)
    assert weights(tmp_path, 6) == weights(reference, 6) and reports(tmp_path) == reports(reference)


def test_a_finished_stage_is_not_trained_again(six_steps, tmp_path):
    one, reference = six_steps
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "eval")
    events = Events()
    result = train(one, tmp_path, on_event=events)
    assert not events.of(Logged) and not events.of(Saved) and result["steps"] == 6
    assert_same_run(tmp_path, reference)


def test_a_damaged_checkpoint_is_passed_over_with_a_note(six_steps, tmp_path):
    one, reference = six_steps
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "eval")
    file = max((tmp_path / "checkpoints/6/state").rglob("*"), key=lambda f: f.stat().st_size if f.is_file() else 0)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    events = Events()
    train(one, tmp_path, on_event=events)
    assert "damaged" in events.of(Note)[0].text and events.of(Started)[0].step == 3
    assert_same_run(tmp_path, reference)


def test_prefetching_and_logging_change_no_number(six_steps, tmp_path):
    one, reference = six_steps
    one = with_system(one, prefetch=0, log_every=4, checkpoint_every=100)
    train(one, tmp_path)
    assert weights(tmp_path, 6) == weights(reference, 6) and reports(tmp_path) == reports(reference)
    assert [r["step"] for r in logs.read_lines(tmp_path / "metrics.jsonl")] == [4, 6]


# ---------------------------------------------------------------- what is written


def test_the_run_folder_is_as_the_contract_says(six_steps):
    _, folder = six_steps
    assert sorted(os.listdir(folder)) == ["checkpoints", "eval", "goodput.json", "metrics.jsonl", "predictions"]
    assert sorted(os.listdir(folder / "checkpoints")) == ["3", "6"]
    assert (folder / "checkpoints/6/encoder").is_dir() and not (folder / "checkpoints/3/encoder").exists()
    report = json.loads((folder / "eval/xnli.json").read_text())
    assert list(report) == ["task", "split", "metric", "languages", "average"]
    assert report["languages"]["qna"]["n"] == 20 and set(report["languages"]) == {"en", "qna"}
    assert sorted(os.listdir(folder / "predictions/xnli")) == ["test-en.tsv", "test-qna.tsv"]
    record = logs.read_lines(folder / "metrics.jsonl")[0]
    assert {"step", "loss", "examples", "tokens", "seconds", "tokens_per_second", "mfu"} <= set(record)
    assert record["mfu"] is None and record["examples"] == 8 and 8 * 5 < record["tokens"] < 8 * 48


def test_a_checkpoint_explains_itself(six_steps):
    _, folder = six_steps
    about = checkpoint.describe(folder / "checkpoints/6")
    assert about["stage"] == "s" and about["origin"] == {"start": "scratch"} and about["encoder"]["hidden"] == 32
    assert about["heads"]["mnli"]["family"] == "pair" and about["progress"]["finished"]


def test_losses_that_are_not_finite_end_the_stage(cache, tmp_path):
    """The first step is finite and sends the weights to infinity; those after it are counted (see test_faults.py)."""
    broken = stage(cache, train={"learning_rate": 1e30, "warmup": 0.0, "clip_norm": 0.0, "weight_decay": 1e30})
    with pytest.raises(XtlError, match=r"step \d \(mnli\): loss nan.*3 in a row.*learning_rate"):
        train(broken, tmp_path)
    assert not files.exists(tmp_path / "checkpoints/6")


# ---------------------------------------------------------------- handoff


def test_the_encoder_is_handed_on_to_another_head(cache, six_steps, tmp_path):
    _, parent = six_steps
    both = stages(
        cache,
        parent={"tasks": MNLI},
        child={"start": "stage:parent", "tasks": {"udpos": {"batch_size": 8, "max_length": 48}}, "train": {"steps": 3}},
    )
    child = both["child"]
    events = Events()
    train(child, tmp_path, parent=parent, on_event=events)
    origin = checkpoint.describe(tmp_path / "checkpoints/3")["origin"]
    assert origin["weights"] == checkpoint.fingerprint(weights(parent, 6)["encoder"]) and origin["parent"] == "s"
    assert "heads left behind: mnli" in events.of(Note)[0].text
    assert set(checkpoint.describe(tmp_path / "checkpoints/3")["heads"]) == {"udpos"}


def test_heads_are_new_by_default_and_kept_when_asked(cache, six_steps, tmp_path):
    _, parent = six_steps
    frozen = {"learning_rate": 1e-30, "steps": 3}
    theirs = weights(parent, 6)
    for keep in (False, True):
        fields = {"start": str(parent), "tasks": MNLI, "train": frozen | {"keep_head": keep}}
        train(stages(cache, c=fields)["c"], tmp_path / str(keep))
        mine = weights(tmp_path / str(keep), 3)
        assert mine["encoder"] == theirs["encoder"]
        assert (mine["heads"] == theirs["heads"]) is keep


def test_keeping_a_head_that_is_not_there_is_an_error_that_lists_those_that_are(cache, six_steps, tmp_path):
    _, parent = six_steps
    fields = {"start": str(parent), "tasks": {"udpos": {"max_length": 48}}, "train": {"keep_head": True}}
    with pytest.raises(XtlError, match=r"no head for udpos \(it has: mnli\)"):
        train(stages(cache, c=fields)["c"], tmp_path)


def test_a_head_is_not_kept_in_other_layers_than_it_was_trained_in(cache, six_steps, tmp_path):
    _, parent = six_steps
    tasks = {"mnli": MNLI["mnli"] | {"options": {"head": "hf"}}}
    fields = {"start": str(parent), "tasks": tasks, "train": {"keep_head": True}}
    with pytest.raises(XtlError, match=r"head mnli of .* was trained with options.head=default: give mnli the same"):
        train(stages(cache, c=fields)["c"], tmp_path)


def test_a_stage_folder_serves_as_checkpoint_and_as_start_whatever_else_lies_in_it(cache, six_steps, tmp_path):
    """It holds a config.json, too, as a Hugging Face folder does."""
    one, source = six_steps
    folder = tmp_path / "s-12345678"
    shutil.copytree(source, folder)
    files.write_json(folder / "config.json", as_dict(one))
    files.write_json(folder / "status.json", {"state": "done"})
    report = tmp_path / "report.json"
    words = [f"--checkpoint={folder}", "--task=xnli", "--languages=en,qna", f"--json={report}"]
    assert main(["eval", *words]) == 0
    assert set(files.read_json(report)["languages"]) == {"en", "qna"}
    child = stages(cache, c={"start": str(folder), "tasks": MNLI, "train": {"learning_rate": 1e-30, "steps": 3}})["c"]
    train(child, tmp_path / "child")
    assert weights(tmp_path / "child", 3)["encoder"] == weights(folder, 6)["encoder"]


def test_a_stage_without_training_evaluates_what_it_starts_from(cache, six_steps, tmp_path):
    one, parent = six_steps
    fields = {
        "phase": "eval",
        "start": str(parent),
        "evaluate": XNLI | {"tatoeba": {"languages": ("qna",), "limit": 0}},
    }
    result = train(stages(cache, e=fields)["e"], tmp_path)
    assert (tmp_path / "eval/xnli.json").read_bytes() == (parent / "eval/xnli.json").read_bytes()
    assert result["steps"] == 0 and set(result["evaluations"]) == {"xnli", "tatoeba"}
    assert not (tmp_path / "checkpoints").exists() and one.evaluate["xnli"].limit == 20


# ---------------------------------------------------------------- selection, mixtures


def test_the_best_checkpoint_is_handed_on_and_patience_ends_the_stage(cache, tmp_path):
    select = {"every": 1, "examples": 8, "patience": 3, "tasks": ("mnli",)}
    stuck = stage(cache, train={"steps": 9, "learning_rate": 1e-30}, select=select, evaluate=XNLI)
    events = Events()
    result = train(stuck, tmp_path / "whole", on_event=events)
    scores = [event.score for event in events.of(Judged)]
    assert len(set(scores)) == 1 and len(scores) == 4  # the first is the best, three more without gain
    assert result["selection"]["best_step"] == 1 and result["handoff"] == "checkpoints/1" and result["steps"] == 4
    for step in (1, 3):  # selection is part of what resumes
        with pytest.raises(Killed):
            train(stuck, tmp_path / "cut", on_event=Events(after(Saved, step) if step == 1 else after(Judged, 3)))
    again = train(stuck, tmp_path / "cut")
    assert again["selection"] == result["selection"] and weights(tmp_path / "cut", 4) == weights(tmp_path / "whole", 4)
    assert reports(tmp_path / "cut") == reports(tmp_path / "whole")


def test_a_head_is_evaluated_with_the_options_it_was_trained_with(cache, tmp_path, monkeypatch):
    """head="hf" leaves the pooler out: evaluating xnli with the default's layers would be another model, silently."""
    build, built = evaluation.build_eval_step, []

    def recorded(config, task, mesh):
        built.append(task.options.get("head"))
        return build(config, task, mesh)

    monkeypatch.setattr(evaluation, "build_eval_step", recorded)
    tasks, entry = {"mnli": MNLI["mnli"] | {"options": {"head": "hf"}}}, {"languages": ("en",), "limit": 20}
    select = {"every": 2, "examples": 8, "tasks": ("mnli",)}
    one = stage(cache, tasks=tasks, train={"steps": 2}, select=select, evaluate={"xnli": entry})
    train(one, tmp_path / "s")
    again = {"phase": "eval", "start": str(tmp_path / "s"), "evaluate": {"xnli": entry}}
    train(stages(cache, e=again)["e"], tmp_path / "e")
    assert built == ["hf", "hf", "hf"]  # for selection, after training, and by a stage that only evaluates


def test_a_mixture_trains_one_task_a_step_and_hands_on_all_heads(cache, tmp_path):
    tasks = {**MNLI, "udpos": {"batch_size": 4, "max_length": 48}}
    mixed = stage(cache, tasks=tasks, train={"steps": 8, "sampling": {"kind": "uniform"}})
    result = train(mixed, tmp_path)
    records = logs.read_lines(tmp_path / "metrics.jsonl")
    assert {record["task"] for record in records} == {"mnli", "udpos"}
    assert all(record["examples"] == {"mnli": 8, "udpos": 4}[record["task"]] for record in records)
    assert set(result["parameters"]) == {"encoder", "heads/mnli", "heads/udpos"}
    assert {name.split("/")[0] for name in weights(tmp_path, 8)["heads"]} == {"mnli", "udpos"}


def test_a_mixture_is_judged_by_the_mean_of_its_tasks_mlm_aside(cache, tmp_path):
    tasks = {**MNLI, "udpos": {"batch_size": 4, "max_length": 48}, "mlm": {"batch_size": 4, "max_length": 48}}
    select = {"every": 3, "examples": 8}
    mixed = stage(cache, tasks=tasks, train={"steps": 3, "sampling": {"kind": "uniform"}}, select=select)
    assert mixed.select.tasks == ("mnli", "udpos")
    events = Events()
    train(mixed, tmp_path, on_event=events)
    (dev,) = events.of(Judged)
    assert set(dev.scores) == {"mnli", "udpos"} and dev.score == sum(dev.scores.values()) / 2


@pytest.mark.parametrize("name", ["lareqa", "mewslix"])
def test_a_dual_encoder_is_trained_on_pairs_and_ranks_the_pool(cache, tmp_path, name):
    entry = {"languages": ("en", "qna")}
    dual = stage(cache, tasks={name: {"batch_size": 8, "max_length": 48}}, evaluate={name: entry})
    result = train(dual, tmp_path)
    assert all(record["examples"] == 8 and np.isfinite(record["loss"]) for record in measured(tmp_path))
    scores = files.read_json(tmp_path / f"eval/{name}.json")["languages"]
    assert set(result["evaluations"]) == {name} and set(scores) == {"en", "qna"}


@pytest.mark.mesh
def test_a_stage_moved_to_another_mesh_goes_on_to_the_same_numbers(six_steps, tmp_path):
    one, reference = six_steps
    with pytest.raises(Killed):
        train(one, tmp_path, on_event=Events(after(Saved, 3)))
    events = Events()
    train(one, tmp_path, mesh=make_mesh((1, 2, 1), devices=jax.devices()[:2]), on_event=events)
    assert events.of(Started)[0].mesh["fsdp"] == 2
    losses = [[record["loss"] for record in logs.read_lines(f / "metrics.jsonl")] for f in (tmp_path, reference)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_stage_with_selection_reads_every_set_and_every_cache_entry_once(cache, tmp_path, monkeypatch):
    """Over all rounds of selection and the final evaluation; mnli's dev set serves both."""
    select = {"every": 2, "examples": 8, "tasks": ("mnli", "xnli"), "languages": ("en",)}
    evaluated = {"mnli": {"languages": ("en",), "split": "dev"}, "xnli": {"languages": ("en", "qna"), "limit": 20}}
    evaluated |= {"tatoeba": {"languages": ("qna",), "limit": 0}, "bucc2018": {"languages": ("qna",)}}
    one = stage(cache, select=select, evaluate=evaluated)
    assert one.train.steps == 6  # three rounds
    train(one, tmp_path / "cold")
    loaded, checked, load, fault = [], [], sources.load, cached.fault
    monkeypatch.setattr(sources, "load", lambda task, *a: loaded.append((task.name, *a[:2])) or load(task, *a))
    monkeypatch.setattr(cached, "fault", lambda entry, *a: checked.append(entry.name) or fault(entry, *a))
    train(one, tmp_path / "warm")
    assert set(loaded) == {
        ("mnli", "en", "dev"), ("xnli", "en", "dev"), ("xnli", "en", "test"), ("xnli", "qna", "test"),
        ("tatoeba", "qna", "test"), ("bucc2018", "qna", "dev"), ("bucc2018", "qna", "test"),
    }  # fmt: skip
    assert len(loaded) == len(set(loaded))
    assert len(checked) == len(set(checked)) == len(loaded) + 1  # and what is trained on
    loaded.clear()
    train(stage(tmp_path / "cache", select=select, evaluate=evaluated), tmp_path / "new")
    assert len(loaded) == len(set(loaded)) and ("mnli", "en", "train") in loaded  # also where entries must be built
    assert reports(tmp_path / "cold") == reports(tmp_path / "warm") == reports(tmp_path / "new")


def test_evaluations_that_are_written_are_not_made_again(six_steps, tmp_path):
    one, reference = six_steps
    shutil.copytree(reference / "eval", tmp_path / "eval")
    mesh = make_mesh((1, 1, 1), devices=jax.devices()[:1])
    evaluator = evaluation.Evaluator(state.encoder_config(one), mesh, None, one.data)
    averages = evaluation.evaluate_stage(evaluator, {}, one, tmp_path)
    assert averages["xnli"] == json.loads((reference / "eval/xnli.json").read_text())["average"]


def test_the_same_stage_trains_to_the_same_bits(six_steps, tmp_path):
    one, reference = six_steps
    train(one, tmp_path)
    assert_same_run(tmp_path, reference)
    params = state.shapes(state.encoder_config(one)).params.encoder
    assert np.sum([x.size for x in jax.tree.leaves(params)]) > 0


def test_sigterm_after_the_last_step_is_not_lost(six_steps, tmp_path):
    one, reference = six_steps

    def tell(event):
        if isinstance(event, Saved) and event.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(multihost.Preempted):
        train(one, tmp_path, on_event=tell)
    assert not (tmp_path / "eval").exists()
    train(one, tmp_path)
    assert_same_run(tmp_path, reference)
