"""Heads to and from Hugging Face folders, without PyTorch: names, labels, what is refused, and the two verbs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from xtl.cli.main import main
from xtl.errors import XtlError
from xtl.families import family
from xtl.models.encoder import EncoderConfig
from xtl.models.hf import names
from xtl.models.hf.load import load_hf
from xtl.models.hf.save import save_hf
from xtl.task import NLI, Task
from xtl.tasks import get_task
from xtl.training import checkpoint, state

CONFIGS = {
    norm: EncoderConfig(vocab_size=104, hidden=32, layers=2, heads=4, mlp=64, max_positions=40, norm=norm)
    for norm in ("post", "pre")
}
CLASSES = {
    "mlm": "ForMaskedLM",
    "pair": "ForSequenceClassification",
    "choice": "ForMultipleChoice",
    "span": "ForQuestionAnswering",
    "tag": "ForTokenClassification",
}
HF = {"pair": {"head": "hf"}, "choice": {"head": "hf"}}


def toy(family, labels=None, **options):
    labels = {"pair": NLI, "tag": ("B-LOC", "I-LOC", "O")}.get(family, ()) if labels is None else labels
    fields = {"name": "toy", "about": "", "languages": (), "splits": (), "metric": ""}
    return Task(**fields, family=family, labels=labels, options=HF.get(family, {}) | options)


def described(task):
    return {"family": task.family, "labels": list(task.labels), "options": dict(task.options)}


def head_of(task):
    return names.head(family(task).head_of_transformers(task), task.labels)


def random_params(config, *tasks):
    """{"encoder", "heads"} as plain arrays, every weight different from every other."""
    rng = np.random.default_rng(0)
    shapes = state.shapes(config, tasks).params
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)


def save(folder, task, config=CONFIGS["post"], **options):
    params = random_params(config, task)
    head = params.heads[task.name]
    return params, save_hf(folder, config, params.encoder, head=(head_of(task), head), **options)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def rename_labels(folder, id2label):
    fields = config_of(folder) | {"id2label": id2label}
    (folder / "config.json").write_text(json.dumps(fields))


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("norm", CONFIGS)
@pytest.mark.parametrize("family", CLASSES)
def test_a_head_comes_back_unchanged_from_a_folder_of_the_right_class(family, norm, tmp_path):
    task, config = toy(family), CONFIGS[norm]
    params, folder = save(tmp_path / "hf", task, config, pooler=False)
    loaded = load_hf(folder, head=head_of(task))
    assert_equal_trees(loaded.head, jax.device_get(params.heads["toy"]))
    tensors, theirs = load_file(folder / "model.safetensors"), config_of(folder)
    assert loaded.report.read == len(tensors) and not loaded.report.unexpected
    model = {"post": "XLMRoberta", "pre": "XLMRobertaXL"}[norm]
    assert theirs["architectures"] == [model + CLASSES[family]]
    if task.labels:
        assert theirs["id2label"] == {str(n): label for n, label in enumerate(task.labels)}
        assert theirs["label2id"] == {label: n for n, label in enumerate(task.labels)}
    else:
        assert "id2label" not in theirs and "label2id" not in theirs


@pytest.mark.parametrize("family", CLASSES)
def test_every_weight_of_a_head_has_a_name_there_and_its_shape(family):
    task = toy(family)
    shapes = checkpoint.named(state.shapes(CONFIGS["post"], (task,)).params.heads["toy"])
    head = head_of(task)
    assert {path: head.shape(path, CONFIGS["post"]) for path in head.weights} == {
        path: leaf.shape for path, leaf in shapes.items()
    }


def test_linear_weights_of_a_head_are_transposed(tmp_path):
    params, folder = save(tmp_path / "hf", toy("tag"))
    there = load_file(folder / "model.safetensors")["classifier.weight"]
    np.testing.assert_array_equal(there, np.asarray(params.heads["toy"]["out"]["kernel"]).T)


def test_the_dense_layer_of_a_choice_head_takes_the_place_of_the_pooler(tmp_path):
    params, folder = save(tmp_path / "hf", toy("choice"))  # pooler=True: the encoder's own must give way
    there = load_file(folder / "model.safetensors")["roberta.pooler.dense.weight"]
    dense = params.heads["toy"]["classifier"]["dense"]["kernel"]
    np.testing.assert_array_equal(there, np.asarray(dense).T)
    loaded = load_hf(folder, head=head_of(toy("choice")))
    np.testing.assert_array_equal(loaded.params["pooler"]["kernel"].get_value(), dense)


def test_a_head_that_nobody_asks_for_is_reported(tmp_path):
    _, folder = save(tmp_path / "hf", toy("tag"))
    loaded = load_hf(folder)
    assert loaded.head is None and loaded.report.unexpected == ("classifier.bias", "classifier.weight")


# ---------------------------------------------------------------- labels


def test_outputs_are_put_in_the_order_of_our_labels(tmp_path):
    params, folder = save(tmp_path / "hf", toy("pair"))
    rename_labels(folder, {"0": "Neutral", "2": "entailment", "1": "CONTRADICTION"})
    for given in ((), ("neutral", "contradiction", "entailment")):
        out = load_hf(folder, head=head_of(toy("pair")), labels=given).head["out"]
        for name in ("kernel", "bias"):
            np.testing.assert_array_equal(out[name], params.heads["toy"]["out"][name][..., [1, 2, 0]])


def test_labels_that_differ_only_in_case_are_told_apart(tmp_path):
    params, folder = save(tmp_path / "hf", toy("tag", ("x", "X")))
    rename_labels(folder, {"0": "X", "1": "x"})
    out = load_hf(folder, head=head_of(toy("tag", ("x", "X")))).head["out"]
    np.testing.assert_array_equal(out["bias"], params.heads["toy"]["out"]["bias"][::-1])


@pytest.mark.parametrize(
    ("there", "given", "message"),
    [
        ({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, (), r"config\.json does not name the labels; .*--labels"),
        ({}, (), r"config\.json does not name the labels"),
        ({"0": "yes", "1": "no"}, (), r"the model has the 2 labels yes, no, the task has the 3 contradiction, ent"),
        ({"0": "no", "1": "yes", "2": "maybe"}, (), r"if only the words differ, .*--labels"),
        ({}, ("entailment", "neutral"), r"the model has the 2 labels entailment, neutral"),
        ({}, ("neutral", "neutral", "entailment"), r"the model has the 3 labels neutral, neutral"),
    ],
)
def test_labels_that_are_not_the_tasks_are_refused(tmp_path, there, given, message):
    _, folder = save(tmp_path / "hf", toy("pair"))
    rename_labels(folder, there)
    with pytest.raises(XtlError, match=message):
        load_hf(folder, head=head_of(toy("pair")), labels=given)


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (toy("dual"), r"the head of toy \(family dual\) has no counterpart in transformers"),
        (toy("retrieve"), r"family retrieve"),
        (toy("pair", head="jiant"), r"pooler below its dense layer.* tasks\.toy\.options\.head=hf has"),
        (toy("choice", head="jiant"), r"pooler below its dense layer"),
    ],
)
def test_heads_without_a_counterpart_are_refused_with_a_reason(task, message):
    with pytest.raises(XtlError, match=message):
        head_of(task)


def test_a_folder_of_another_class_is_refused_by_name(tmp_path):
    _, folder = save(tmp_path / "hf", toy("tag"))
    message = r"head of XLMRobertaForQuestionAnswering .*qa_outputs\.bias.*\(config\.json: XLMRobertaForTokenClassif"
    with pytest.raises(XtlError, match=message):
        load_hf(folder, head=head_of(toy("span")))
    with pytest.raises(XtlError, match=r"classifier\.weight has shape \(3, 32\), the head here needs \(1, 32\)"):
        load_hf(folder, head=head_of(toy("choice")))


# ---------------------------------------------------------------- verbs


HEADS = {
    "mnli": described(get_task("mnli")) | {"options": {"head": "hf"}},
    "panx": described(get_task("panx")) | {"options": {}},
    "hellaswag": described(get_task("hellaswag")) | {"options": {}},
    "lareqa": described(get_task("lareqa")) | {"options": {}},
}


def trained(folder, *tasks):
    """A handoff with random weights, as the end of a stage leaves it."""
    config = CONFIGS["post"]
    params = random_params(config, *map(get_task, tasks))
    shape = {"vocab_size": 104, "hidden": 32, "layers": 2, "heads": 4, "mlp": 64, "max_positions": 40}
    about = {"stage": "s", "encoder": {"size": "base", **shape}, "heads": {name: HEADS[name] for name in tasks}}
    checkpoint.save_encoder(folder, params, about)
    return params


def run_cli(capsys, *words):
    status = main([str(word) for word in words])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("task", ["mnli", "panx"])
def test_a_trained_head_goes_out_and_comes_back_by_command(task, tmp_path, capsys):
    params = trained(tmp_path / "ours", task)
    status, out, _ = run_cli(capsys, "export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'hf'}")
    assert status == 0 and f"head     {task}\n" in out
    assert not any("pooler" in name for name in load_file(tmp_path / "hf" / "model.safetensors"))
    words = (f"--model={tmp_path / 'hf'}", f"--out={tmp_path / 'again'}", f"--task={task}")
    status, out, _ = run_cli(capsys, "import", *words)
    assert status == 0 and f"heads    {task}\n" in out and "made at random: pooler/bias, pooler/kernel" in out
    about = checkpoint.describe(tmp_path / "again")
    assert about["heads"] == {task: HEADS[task]}
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params)
    encoder, heads, _ = checkpoint.load_encoder(tmp_path / "again", target.encoder, heads=target.heads)
    assert_equal_trees(heads, params.heads)
    assert_equal_trees(encoder["layers"], params.encoder["layers"])


def test_the_only_head_that_fits_is_exported_and_the_others_are_named(tmp_path, capsys):
    trained(tmp_path / "ours", "hellaswag", "panx", "lareqa")
    status, out, _ = run_cli(capsys, "export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'hf'}")
    assert status == 0 and "head     panx\n" in out and "left out hellaswag, lareqa\n" in out
    assert "the head of hellaswag has the pooler below" in out and "lareqa (family dual) has no counterpart" in out
    assert config_of(tmp_path / "hf")["architectures"] == ["XLMRobertaForTokenClassification"]


def test_none_or_nothing_that_fits_exports_the_encoder_alone(tmp_path, capsys):
    for tasks, words in ((("panx",), ["--head=none"]), (("lareqa",), [])):
        ours, there = tmp_path / tasks[0], tmp_path / f"{tasks[0]}-hf"
        trained(ours, *tasks)
        status, out, _ = run_cli(capsys, "export", f"--checkpoint={ours}", f"--out={there}", *words)
        assert status == 0 and "head     none\n" in out and f"left out {tasks[0]}\n" in out
        assert config_of(there)["architectures"] == ["XLMRobertaModel"]
        assert "pooler.dense.weight" in load_file(there / "model.safetensors")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "several heads: choose --head=mnli or --head=panx (or none)"),
        (["--head=lareqa"], "the head of lareqa (family dual) has no counterpart in transformers"),
        (["--head=pnax"], "--head=pnax: the checkpoint has no such head. Did you mean 'panx'?"),
    ],
)
def test_a_head_that_cannot_be_exported_is_one_line(tmp_path, capsys, words, match):
    trained(tmp_path / "ours", "mnli", "panx", "lareqa")
    status, _, err = run_cli(capsys, "export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'hf'}", *words)
    assert status == 1 and match in err and err.count("\n") == 1 and not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--task=lareqa"], "(family dual) has no counterpart in transformers"),
        (["--labels=a,b"], "--labels=a,b: only with the --task of a head that has labels"),
        (["--task=mnli", "--labels=a,b"], "the model has the 2 labels a, b"),
        (["--task=xquad"], "head of XLMRobertaForQuestionAnswering is not complete"),
    ],
)
def test_a_head_that_cannot_be_imported_is_one_line(tmp_path, capsys, words, match):
    _, folder = save(tmp_path / "hf", toy("pair"))
    status, _, err = run_cli(capsys, "import", f"--model={folder}", f"--out={tmp_path / 'ours'}", *words)
    assert status == 1 and match in err and err.count("\n") == 1 and not (tmp_path / "ours").exists()


def test_an_mlm_head_is_imported_and_exported_without_being_named(tmp_path, capsys):
    _, folder = save(tmp_path / "hf", toy("mlm"))
    ours, again = tmp_path / "ours", tmp_path / "again"
    assert run_cli(capsys, "import", f"--model={folder}", f"--out={ours}")[0] == 0
    status, out, _ = run_cli(capsys, "export", f"--checkpoint={ours}", f"--out={again}")
    assert status == 0 and "head     mlm\n" in out
    before, after = (load_file(path / "model.safetensors") for path in (folder, again))
    assert set(before) - set(after) == {"roberta.pooler.dense.weight", "roberta.pooler.dense.bias"}
    assert all(np.array_equal(tensor, before[name]) for name, tensor in after.items())
