"""Promises: MLM that is mixed in goes on from the head that was pretrained with the encoder; other heads are new."""

import json

import jax
import numpy as np
import pytest

from tests.support.stages import MNLI, Events, stages
from xtl.errors import XtlError
from xtl.families.heads import heads_to_start_from
from xtl.models.hf.names import MLM
from xtl.models.hf.save import save_hf
from xtl.parallel.mesh import make_mesh
from xtl.tasks import get_task
from xtl.training import checkpoint, handoff, state
from xtl.training.events import Note
from xtl.training.loop import train as train_stage

STILL = {"learning_rate": 1e-30, "steps": 24}  # every step sees the weights that the stage starts from
TEXTS = {"mlm": {"batch_size": 16, "max_length": 48}}
MIXED = {"mlm": TEXTS["mlm"] | {"weight": 0.8}, **MNLI}
SEED = 2  # its first step is one on MLM, so that it has the first batch of MLM alone
CALM = {"dropout": 0.0, "attention_dropout": 0.0}


def one_device():
    return make_mesh((1, 1, 1), devices=jax.devices()[:1])


def train(stage, folder, **options):
    return train_stage(stage, folder, mesh=one_device(), **options)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """(cache, folder, losses) of an encoder that was trained on MLM for a while: its own MLM loss, step by step."""
    cache, folder, again = (tmp_path_factory.mktemp(name) for name in ("cache", "mlm", "again"))
    train(stages(cache, mlm={"tasks": TEXTS, "train": {"steps": 150}, "encoder": CALM})["mlm"], folder)
    fields = {"start": str(folder), "tasks": TEXTS, "train": STILL | {"keep_head": True}, "encoder": CALM, "seed": SEED}
    train(stages(cache, s=fields)["s"], again)
    return cache, folder, mlm_losses(again)


def mixture(cache, start, **more):
    fields = {"start": str(start), "tasks": MIXED, "train": STILL, "encoder": CALM, "seed": SEED}
    return stages(cache, s=fields | more)["s"]


def mlm_losses(folder):
    """The loss of every step on MLM, in order."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["task"] == "mlm"]


def assert_starts_at(own, losses):
    """The first MLM step has the encoder's own loss on the same batch, and all of them its mean."""
    assert losses[0] == pytest.approx(own[0], abs=0.1)
    assert np.mean(losses) == pytest.approx(np.mean(own), abs=0.1)


def test_mlm_beside_another_task_starts_at_the_loss_of_the_encoder(pretrained, tmp_path):
    cache, folder, own = pretrained
    events = Events()
    train(mixture(cache, folder), tmp_path, on_event=events)
    assert_starts_at(own, mlm_losses(tmp_path))
    assert any(note.text == f"goes on from the heads of {folder}: mlm" for note in events.of(Note))
    about = checkpoint.describe(checkpoint.find_encoder(tmp_path))
    assert about["origin"]["kept"] == ["mlm"] and set(about["heads"]) == {"mlm", "mnli"}


def test_mlm_starts_at_the_loss_of_a_hugging_face_model(pretrained, tmp_path):
    cache, folder, own = pretrained
    stage = mixture(cache, folder)
    weights = handoff.load(
        folder, config=state.encoder_config(stage), mesh=one_device(), choose=lambda heads: ["mlm"], seed=0
    ).params
    theirs = save_hf(
        tmp_path / "hf", state.encoder_config(stage), weights.encoder, head=(MLM, weights.heads["mlm"]), pooler=True
    )
    events = Events()
    train(mixture(cache, theirs), tmp_path / "run", on_event=events)
    assert_starts_at(own, mlm_losses(tmp_path / "run"))
    assert any("goes on from the heads of" in note.text for note in events.of(Note))


def test_a_start_without_an_mlm_head_is_said_and_gets_a_new_one(pretrained, tmp_path):
    cache, _, own = pretrained
    train(stages(cache, p={"tasks": MNLI, "train": {"steps": 1}})["p"], tmp_path / "start")
    events = Events()
    train(mixture(cache, tmp_path / "start"), tmp_path / "run", on_event=events)
    assert f"{tmp_path / 'start'} has no mlm head: a new one is trained" in [note.text for note in events.of(Note)]
    assert mlm_losses(tmp_path / "run")[0] > own[0] + 0.3


def test_only_the_head_that_was_pretrained_with_the_encoder_is_kept_unasked():
    mnli, mlm = get_task("mnli"), get_task("mlm")
    tasks = {"mnli": mnli, "mlm": mlm}
    start_from = heads_to_start_from
    assert start_from(tasks, {"mnli": mnli, "mlm": mlm}, keep=False, origin="a") == {"mlm": "mlm"}
    assert start_from(tasks, {"mnli": mnli}, keep=False, origin="a") == {}
    assert start_from(tasks, {"mnli": mnli, "mlm": mlm}, keep=True, origin="a") == {"mnli": "mnli", "mlm": "mlm"}
    with pytest.raises(XtlError, match="a has no head for mlm"):
        start_from(tasks, {"mnli": mnli}, keep=True, origin="a")
