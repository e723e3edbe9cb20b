"""Promises: a field of another shape is one line that names file, place and field; what can be read is counted."""

import json

import numpy as np
import pytest

from xtl.data import sources
from xtl.data.languages import suggestion
from xtl.data.rows import Encoded
from xtl.data.settings import Data
from xtl.data.sources import doctor
from xtl.data.sources.formats import fields
from xtl.data.sources.formats.examples import offset_unit
from xtl.errors import XtlError
from xtl.task import Pair
from xtl.tasks import get_task


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")


def load(root, task, split, language="en"):
    return sources.load(get_task(task), language, split, Data(source="files", root=str(root)))


def squad(root, answers, context="Rain fell.", split="train"):
    qas = [{"id": f"q{i}", "question": "What?", "answers": a} for i, a in enumerate(answers)]
    document = {"data": [{"paragraphs": [{"context": context, "qas": qas}]}]}
    write(root / "squad" / f"{split}-v1.1.json", json.dumps(document))


RAIN = [{"text": "Rain", "answer_start": 0}]


@pytest.mark.parametrize("answers", [None, "Rain", {"text": ["Rain"], "answer_start": [0]}, ["Rain"], [None]])
def test_answers_of_another_shape_name_file_id_and_field(tmp_path, answers):
    squad(tmp_path, [answers])
    with pytest.raises(XtlError, match=r"train-v1\.1\.json: id q0: 'answers' should be a list of objects"):
        load(tmp_path, "squad_v1", "train")


def test_the_doctor_goes_on_after_a_set_of_another_shape(tmp_path):
    squad(tmp_path, [None])
    squad(tmp_path, [RAIN], split="dev")
    checked = doctor.examine([get_task("squad_v1")], Data(source="files", root=str(tmp_path))).checked
    assert {c.split: bool(c.bad) for c in checked} == {"train": True, "dev": False}


@pytest.mark.parametrize("value", [None, 3, ["x"], "\ud83d"])
def test_text_that_is_none_names_place_and_field(value):
    with pytest.raises(XtlError, match=r"f:1: 'a' "):
        fields.text({"a": value}, "a", "f:1")


def test_labels_may_be_written_as_floats_and_a_missing_one_as_minus_one():
    read = [fields.label({"l": x}, "l", "f:1") for x in (1.0, "1.0", "-1", np.int64(2), True, float("nan"))]
    assert read == [1, "1", -1, 2, 1, None]


def test_a_label_column_under_another_name_is_no_hidden_label():
    assert fields.label({"a": "x"}, "label", "f:1", hidden=True) is None
    with pytest.raises(XtlError, match=r"no column 'gold_label', but 'Label'"):
        fields.label({"a": "x", "Label": "e"}, "gold_label", "f:1", hidden=True)


def test_questions_without_answers_are_dropped_in_training_and_named_in_evaluation(tmp_path):
    squad(tmp_path, [RAIN, []])
    squad(tmp_path, [RAIN, []], split="dev")
    loaded = load(tmp_path, "squad_v1", "train")
    assert [e.id for e in loaded.examples] == ["q0"] and loaded.dropped == {"question without an answer": 1}
    with pytest.raises(XtlError, match=r"dev-v1\.1\.json: id q1: no answer"):
        load(tmp_path, "squad_v1", "dev")


def test_offsets_in_utf16_units_find_their_occurrence(tmp_path):
    context = "\U0001f600" * 6 + " the cat saw cat hair"
    squad(tmp_path, [[{"text": "cat", "answer_start": 17}]], context)
    assert load(tmp_path, "squad_v1", "train").examples[0].answers == (("cat", 11),)


def test_the_unit_of_offsets_is_that_of_most_answers():
    context = "ééé one ééé two one"
    in_bytes = [(context, word, len(context[: context.index(word)].encode())) for word in ("one", "two")]
    assert offset_unit(in_bytes)[0] == "bytes"
    assert offset_unit((c, w, c.index(w)) for c, w, _ in in_bytes)[0] == ""


def test_two_releases_of_treebanks_are_refused_by_name(tmp_path):
    for release in ("v2.5", "v2.7"):
        row = "1\tRain\t_\tNOUN\t_\t_\t0\t_\t_\t_\n\n"
        write(tmp_path / f"udpos/ud-treebanks-{release}/UD_English-X/en_x-ud-dev.conllu", row)
    with pytest.raises(XtlError, match=r"two releases .*v2\.5 and .*v2\.7"):
        load(tmp_path, "udpos", "dev")


@pytest.mark.parametrize(("task", "file"), [("panx", "panx/xtreme/dev-en.tsv"), ("mlm", "mlm/en.txt")])
def test_a_git_lfs_pointer_is_named_as_one(tmp_path, task, file):
    write(tmp_path / file, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(XtlError, match="is a Git LFS pointer"):
        load(tmp_path, task, "dev")


@pytest.mark.parametrize(
    ("code", "ours"),
    [x.split("=") for x in ["ben=bn", "zh-CN=zh", "zh_Hans=zh", "cmn=zh", "iw=he", "in=id", "nb=no", "EN=en"]],
)
def test_a_language_is_suggested_by_equivalence(code, ours):
    assert suggestion(code, ["bn", "en", "he", "id", "no", "zh"]) == f" Did you mean {ours!r}?"


def test_a_language_that_only_looks_alike_is_not_suggested():
    assert suggestion("fil", ["en", "fi"]) == " Known: en, fi."


def test_output_that_is_not_finite_names_the_example():
    from xtl.training.evaluator import refuse_not_finite

    encoded = Encoded.from_segments([np.zeros(2, np.int32)] * 2, token_columns={}, segment_columns={})
    examples = [Pair("a", "x", None, 0), Pair("b", "y", None, 0)]
    refuse_not_finite({"logits_sk": np.zeros((2, 3))}, encoded, examples, "mnli en dev")
    for outputs in (
        {"logits_sk": np.array([[0.0, 1.0], [np.nan, 0.0]])},
        {"finite_t": np.array([True, True, True, False])},
    ):
        with pytest.raises(XtlError, match="mnli en dev: the model's output for example b is not finite"):
            refuse_not_finite(outputs, encoded, examples, "mnli en dev")
