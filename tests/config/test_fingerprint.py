"""What a stage is known by: fingerprints cover all that changes numbers and nothing else; steps and shares."""

import dataclasses
import hashlib
import math

import pytest

from tests.config.test_config import full, make, resolved
from xtl import config
from xtl.config import fingerprint, schema
from xtl.config.resolution import resolve
from xtl.errors import XtlError

# ---------------------------------------------------------------- fingerprints


def test_fingerprints_ignore_names_machine_and_folders():
    base = make()
    reference = full(base, "s")
    for path, value in (
        ("system.mesh.fsdp", 4),
        ("system.log_every", 3),
        ("system.remat", "full"),
        ("data.root", "elsewhere"),
        ("data.cache", "there"),
        ("stages.s.intermediate", "renamed"),
        ("stages.s.phase", "intermediate"),
        ("stages.s.select.patience", 7),  # select.every is 0: nothing is selected
    ):
        pipeline = make()
        config.override(pipeline, path, value)
        assert full(pipeline, "s") == reference, path
    renamed = make(stages=[config.stage("other", tasks="mnli", train={"steps": 10})])
    assert full(renamed, "other") == reference


# The content of the data, reader options and sources of single tasks included, is in data.revision, which the look at
# the data fills in.
NEUTRAL = "name phase intermediate start encoder.size data.root data.cache data.options data.sources data.revision"


def other(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, dict):
        return {**value, "x": 1}
    return value + {str: "x", tuple: ("x",)}.get(type(value), 1)


def unchecked(section, fields):
    """The section of these fields, also where a value is none of its choices."""
    values = {}
    for key, kind in schema.types_of(section).items():
        if dataclasses.is_dataclass(kind):
            values[key] = unchecked(kind, fields[key])
        elif entry := schema.entry_type(kind):
            values[key] = {name: unchecked(entry, one) for name, one in fields[key].items()}
        else:
            values[key] = fields[key]
    return section(**values)


def test_every_other_key_changes_the_fingerprint():
    """Each leaf of the schema that is not known to be neutral: a new key is covered without being thought of."""
    entries = {"tasks": {"mnli": {}, "qqp": {}}, "evaluate": {"xnli": {}}, "select": {"every": 5}}
    base = resolved(make(stages=[config.stage("s", train={"steps": 10}, **entries)]))
    reference = config.fingerprints(base)["s"].full
    for path, _ in schema.leaves():
        if path.startswith("system.") or path in NEUTRAL.split():
            continue
        plain = {name: schema.as_dict(stage) for name, stage in base.items()}
        plain["s"]["data"]["revision"] |= {"testx/xnli": "", "dev/x": ""}  # what a changed split or task looks up
        section, keys = (
            plain["s"],
            path.replace("tasks.*", "tasks.mnli").replace("evaluate.*", "evaluate.xnli").split("."),
        )
        for key in keys[:-1]:
            section = section[key]
        section[keys[-1]] = other(section[keys[-1]])
        changed = {name: unchecked(schema.Stage, fields) for name, fields in plain.items()}
        assert config.fingerprints(changed)["s"].full != reference, path


def test_children_depend_on_how_a_parent_was_trained_not_on_how_it_was_evaluated():
    def prints(**changes):
        stages = [
            config.stage("a", **config.merged({"tasks": {"mnli": {}}, "train": {"steps": 5}}, changes)),
            config.stage("b", start="stage:a", tasks="qqp", train={"steps": 5}),
        ]
        return config.fingerprints(resolved(make(stages=stages)))

    plain, evaluated, longer = prints(), prints(evaluate={"mnli": {}}), prints(train={"steps": 6})
    assert evaluated["a"].full != plain["a"].full and evaluated["a"].training == plain["a"].training
    assert evaluated["b"] == plain["b"]
    assert longer["b"].full != plain["b"].full


def test_the_order_of_tasks_in_a_mixture_counts():
    mixes = [resolved(tasks={a: {}, b: {}}) for a, b in (("mnli", "qqp"), ("qqp", "mnli"))]
    assert len({config.fingerprints(m)["s"].full for m in mixes}) == 2


def test_steps_win_over_epochs():
    both, steps = (
        make(stages=[config.stage("s", tasks="mnli", train=t)]) for t in ({"steps": 9, "epochs": 2}, {"steps": 9})
    )
    assert full(both, "s") == full(steps, "s")


def test_the_numerics_version_changes_every_fingerprint(monkeypatch):
    before = full(make(), "s")
    monkeypatch.setattr(fingerprint, "NUMERICS", fingerprint.NUMERICS + 1)
    assert full(make(), "s") != before


def test_model_folders_count_by_content_wherever_they_lie(tmp_path):
    def with_model(name, content):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(content)
        return full(make(stages=[config.stage("s", start=str(folder), tasks="mnli", train={"steps": 1})]), "s")

    same = [with_model(name, b"weights") for name in ("a", "b")]
    assert same[0] == same[1] != with_model("c", b"other weights")


def test_tokenizers_count_by_content(tmp_path):
    prints = set()
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sentencepiece.bpe.model").write_bytes(content)
        prints.add(full(make(data={"tokenizer": str(tmp_path / name)}), "s"))
    assert len(prints) == 2


def test_changed_data_change_the_fingerprint_and_other_files_do_not(tmp_path):
    folder = tmp_path / "mnli" / "MNLI"
    folder.mkdir(parents=True)
    train = "index\tsentence1\tsentence2\tgold_label\n0\ta\tb\tneutral\n"
    (folder / "train.tsv").write_text(train)

    def now():
        return config.fingerprints(resolve(make(data={"root": str(tmp_path)})).stages)["s"].full

    first = now()
    (folder / "dev_matched.tsv").write_text(train)  # not read by this stage
    assert now() == first
    (folder / "train.tsv").write_text(train.replace("\ta\t", "\tA\t"))
    assert now() != first


# ---------------------------------------------------------------- steps and shares


def stage_of(**stage):
    return resolved(**stage)["s"]


def test_epochs_become_steps_by_the_number_of_examples():
    stage = stage_of(train={"epochs": 3.0})
    assert config.with_steps(stage, {"mnli": 100}).train.steps == math.ceil(3 * 100 / 32)
    assert config.with_steps(stage, {"mnli": 64}).train.steps == 6  # exactly, without a step for rounding
    given = stage_of(train={"steps": 7})
    assert config.with_steps(given, {"mnli": 100}) is given


def test_an_epoch_of_a_mixture_sees_every_task_once_up_to_the_cap():
    tasks = {"mnli": {"batch_size": 10}, "qqp": {"batch_size": 20}}
    stage = stage_of(tasks=tasks, train={"epochs": 1.0, "sampling": {"cap": 1000}})
    assert config.with_steps(stage, {"mnli": 500, "qqp": 4000}).train.steps == 50 + 50


def test_a_fixed_share_of_mlm_comes_on_top():
    tasks = {"mnli": {"batch_size": 10}, "mlm": {"batch_size": 10, "weight": 0.2}}
    stage = stage_of(tasks=tasks, train={"epochs": 1.0})
    assert config.with_steps(stage, {"mnli": 800, "mlm": 10**6}).train.steps == 100
    assert config.task_weights(stage, {"mnli": 800, "mlm": 10**6}) == pytest.approx({"mnli": 0.8, "mlm": 0.2})


@pytest.mark.parametrize(
    "sampling, expected",
    [
        ({"kind": "proportional"}, (0.9, 0.1)),
        ({"kind": "proportional", "cap": 100}, (0.5, 0.5)),
        ({"kind": "uniform"}, (0.5, 0.5)),
        ({"kind": "temperature", "temperature": 2.0}, (0.75, 0.25)),
    ],
)
def test_shares_of_a_mixture(sampling, expected):
    stage = stage_of(tasks=("mnli", "qqp"), train={"steps": 1, "sampling": sampling})
    assert tuple(config.task_weights(stage, {"mnli": 900, "qqp": 100}).values()) == pytest.approx(expected)


def test_no_training_examples_is_an_error():
    with pytest.raises(XtlError, match="mnli has no training examples"):
        config.with_steps(stage_of(train={"epochs": 1.0}), {"mnli": 0})


def test_digests_are_of_canonical_json():
    assert fingerprint.digest({"b": 1, "a": (1, 2)}) == hashlib.sha256(b'{"a":[1,2],"b":1}').hexdigest()
