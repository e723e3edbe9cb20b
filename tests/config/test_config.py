"""Configs: building, completing, checking, overriding; golden files of what the shipped ones resolve to."""

import dataclasses
import json
from pathlib import Path

import pytest

from scripts.refresh_golden import CONFIGS, GOLDEN, golden
from tests.support.fake_training import small_config
from xtl import config
from xtl.config import recipes
from xtl.config.grids import short
from xtl.config.resolution import resolve
from xtl.config.schema import MeshShape
from xtl.errors import XtlError
from xtl.tasks import get_task


def resolved(pipeline=None, **stage):
    """The stages of a config, or of one built around a single stage."""
    if pipeline is None:
        stage.setdefault("tasks", "mnli")
        stage.setdefault("train", {"steps": 10})
        pipeline = config.pipeline("one", encoder=config.encoder("tiny"), stages=[config.stage("s", **stage)])
    return resolve(pipeline, look=False).stages


def full(pipeline, name):
    return config.fingerprints(resolved(pipeline))[name].full


# ---------------------------------------------------------------- golden files


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_resolve_to_their_golden_files(name):
    expected = (GOLDEN / f"{name}.txt").read_text()
    assert golden(name) == expected, (
        f"configs/{name}.py resolves to something else: scripts/refresh_golden.py, and look"
    )


# ---------------------------------------------------------------- building


def test_a_stage_is_complete_and_in_the_schemas_types():
    stage = config.stage("s", tasks={"mnli": {"limit": 5}}, train={"epochs": 2, "learning_rate": 1})
    assert stage.train.epochs == 2.0 and isinstance(stage.train.learning_rate, float)
    assert stage.tasks.mnli.languages == ("en",) and stage.tasks.mnli.limit == 5
    assert stage.select.every == 0 and stage.encoder.to_dict() == {}


def test_the_order_of_stages_tasks_and_conditions_is_kept():
    pipeline = small_config()
    assert list(pipeline.stages)[:3] == ["mlm", "none-xnli", "none-xquad+mlqa"]
    mixed = resolved(tasks={"squad_v1": {}, "mnli": {}, "anli": {}})
    assert list(mixed["s"].tasks) == ["squad_v1", "mnli", "anli"]


def test_sizes_fill_the_encoder_and_single_fields_change_it():
    shape = resolved(make(encoder=config.encoder("large", dropout=0.0)))["s"].encoder
    assert (shape.hidden, shape.layers, shape.heads, shape.mlp) == (1024, 24, 16, 4096)
    assert (shape.vocab_size, shape.max_positions, shape.norm, shape.dropout) == (250002, 514, "post", 0.0)
    assert resolved(make(encoder=config.encoder("xl")))["s"].encoder.norm == "pre"


def make(*, stages=None, **options):
    stages = stages or [config.stage("s", tasks="mnli", train={"steps": 10})]
    return config.pipeline("one", stages=stages, **{"encoder": config.encoder("tiny"), **options})


def test_stages_inherit_encoder_data_and_system_and_may_differ():
    stages = [
        config.stage("a", tasks="mnli", train={"steps": 1}, data={"root": "elsewhere"}),
        config.stage("b", tasks="mnli", train={"steps": 1}, system={"mesh": {"fsdp": 2}}),
    ]
    resolved_stages = resolved(make(stages=stages, data={"root": "here"}, system={"log_every": 7}))
    assert (resolved_stages["a"].data.root, resolved_stages["b"].data.root) == ("elsewhere", "here")
    assert (
        resolved_stages["b"].system.mesh == MeshShape(data=-1, fsdp=2, tensor=1)
        and resolved_stages["a"].system.log_every == 7
    )


def test_the_tokenizer_may_lie_under_the_data_root():
    stages = resolved(make(data={"root": "/d", "tokenizer": "{root}/tok"}))
    assert stages["s"].data.tokenizer == "/d/tok"


def test_a_resolved_stage_is_frozen():
    stage = resolved()["s"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage.train.steps = 3


def test_the_seed_of_the_pipeline_moves_every_stage():
    assert [s.seed for s in resolved(make(seed=5)).values()] == [5]


# ---------------------------------------------------------------- grids and recipes


def test_a_grid_is_conditions_times_targets_times_seeds():
    pipeline = small_config(seeds=(0, 1, 2))
    assert len(pipeline.stages) == 1 + 3 * (1 + 2 * 3)
    one = pipeline.stages["mnli-xnli-s2"]
    assert (one.start, one.intermediate, one.seed, one.phase) == ("stage:mnli-s2", "mnli", 2, "target")
    assert pipeline.stages["none-tatoeba"].phase == "eval" and pipeline.stages["none-tatoeba"].start == "stage:mlm"


def test_learning_rates_are_an_axis_of_the_grid():
    targets = config.targets(["xnli", "tatoeba"])
    conditions = {"none": None, "mnli": config.recipe("mnli", source="paper")}
    stages = {s.name: s for s in config.grid(start="m/m", conditions=conditions, targets=targets, rates=(1e-5, 3.5e-6))}
    assert sorted(stages) == sorted(
        ["mnli", "none-tatoeba", "mnli-tatoeba"]
        + [f"{label}@{rate}-xnli" for label in ("none", "mnli") for rate in ("1e-5", "35e-7")]
    )
    one = stages["mnli@35e-7-xnli"]
    assert (one.intermediate, one.start, one.train.learning_rate) == ("mnli@35e-7", "stage:mnli", 3.5e-6)
    rows = config.swept(conditions, (1e-5, 5e-6))
    assert list(rows) == ["none", "mnli@1e-5", "mnli@5e-6"] and rows["none"] is None
    assert rows["mnli@5e-6"]["train"]["learning_rate"] == 5e-6 and rows["mnli@5e-6"]["train"]["epochs"] == 2.0
    assert [short(rate) for rate in (1e-3, 2e-5, 1.25e-4, 1.0, 10.0)] == ["1e-3", "2e-5", "125e-6", "1e0", "1e1"]


def test_targets_that_train_alike_share_a_stage():
    targets = config.targets({"xnli": {}, "xquad": {}, "mlqa": {"split": "dev"}, "tydiqa": {}, "tatoeba": {}})
    assert list(targets) == ["xnli", "xquad+mlqa", "tydiqa", "tatoeba"]
    assert targets["xquad+mlqa"]["evaluate"] == {"xquad": {}, "mlqa": {"split": "dev"}}
    assert list(targets["xquad+mlqa"]["tasks"]) == ["squad_v1"] and "tasks" not in targets["tatoeba"]


def test_the_papers_matrix_has_as_many_stages_as_counted_by_hand():
    nine = ["anli_plus", "mnli", "qqp", "squad_v2", "squad_v1", "hellaswag", "ccg", "cosmosqa", "commonsenseqa"]
    conditions = {"none": None, **{n: config.recipe(n, source="paper") for n in nine}}
    conditions["multi"] = config.intermediate(nine)
    targets = ["xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "bucc2018", "tatoeba"]
    pipeline = config.pipeline(
        "paper",
        encoder=config.encoder("large"),
        stages=config.grid(
            start="FacebookAI/xlm-roberta-large", conditions=conditions, targets=config.targets(targets)
        ),
    )
    # ten intermediate stages; eleven rows of xnli, pawsx, udpos, panx, xquad+mlqa, tydiqa, bucc2018, tatoeba
    assert len(pipeline.stages) == 10 + 11 * 8
    assert len(resolved(pipeline)) == len(pipeline.stages)


@pytest.mark.parametrize(
    "task, source, batch, epochs, rate, length",
    [
        ("squad_v1", "paper", 8, 3, 1e-5, 384),
        ("commonsenseqa", "paper", 4, 10, 1e-5, 256),
        ("xnli", "jiant", 32, 2, 1e-5, 256),
        ("mlqa", "jiant", 16, 2, 1e-5, 384),
        ("panx", "xtreme", 32, 10, 2e-5, 128),
        ("tydiqa", "xtreme", 32, 3, 3e-5, 384),
        ("panx", "xtune", 32, 10, 7e-6, 128),
    ],
)
def test_recipes_are_the_published_numbers(task, source, batch, epochs, rate, length):
    stage = resolved(**config.recipe(task, source=source))["s"]
    (entry,) = stage.tasks.values()
    assert (entry.batch_size, stage.train.epochs, stage.train.learning_rate) == (batch, epochs, rate)
    assert entry.max_length == length and stage.train.clip_norm == 1.0 and stage.train.eps == 1e-8


def test_every_recipe_resolves():
    for source, table in (("paper", recipes.PAPER), ("jiant", recipes.JIANT), ("xtune", recipes.XTUNE)):
        for task in table:
            assert resolved(**config.recipe(task, source=source))
    for task in recipes.XTREME:
        trained = next(iter(config.recipe(task, source="xtreme").get("tasks", {task: {}})))
        assert get_task(trained)


def test_recipe_errors_name_who_has_one():
    with pytest.raises(XtlError, match="jiant and xtreme and xtune have one"):
        config.recipe("xnli", source="paper")
    with pytest.raises(XtlError, match=r"unknown recipe source 'jiand'.*'jiant'"):
        config.recipe("xnli", source="jiand")


# ---------------------------------------------------------------- mistakes, each one line


def stage_error(match, **stage):
    with pytest.raises(XtlError, match=match) as caught:
        resolved(**stage)
    assert "\n" not in str(caught.value) and "stage s" in str(caught.value)


def test_a_head_to_keep_is_looked_for_before_anything_is_trained():
    """Labels, form and family are known from the config, so that nobody waits for the parent in vain."""

    def child(task, parent_tasks, **options):
        keep = {"steps": 1, "keep_head": True}
        stages = [
            config.stage("a", tasks=parent_tasks, train={"steps": 1}),
            config.stage("b", start="stage:a", tasks={task: {"options": options}}, train=keep),
        ]
        return resolve(make(stages=stages), look=False)

    assert child("anli_plus", "mnli").stages["b"].train.keep_head
    with pytest.raises(XtlError, match=r"stage b: train.keep_head: a has no head for udpos \(it has: mnli\)"):
        child("udpos", "mnli")
    with pytest.raises(XtlError, match=r"stage b: .*several heads .mnli, snli."):
        child("anli_plus", ("mnli", "snli"))
    with pytest.raises(XtlError, match=r"stage b: .*head mnli of a was trained with options.head=default: give mnli"):
        child("mnli", "mnli", head="hf")


def test_unknown_keys_name_the_nearest_one():
    stage_error("unknown key 'learning_rat'.*Did you mean 'learning_rate'", train={"steps": 1, "learning_rat": 1.0})
    stage_error(r"unknown key 'batch_size'.*belongs to tasks\.\*", train={"steps": 1, "batch_size": 3})
    stage_error("unknown key 'task'.*", task="mnli")


def test_wrong_types_say_what_is_wanted():
    stage_error(r"train\.steps must be a whole number, not 1\.5", train={"steps": 1.5})
    stage_error(r"train\.steps must be a whole number, not True", train={"steps": True})
    stage_error(r"train\.learning_rate must be a number, not '1e-5'", train={"steps": 1, "learning_rate": "1e-5"})
    stage_error("tasks.mnli.languages must be a list of names", tasks={"mnli": {"languages": "en"}})
    stage_error("train is a section", train=3)


@pytest.mark.parametrize(
    "match, stage",
    [
        ("unknown task 'xnlu'.*Did you mean 'xnli'", {"evaluate": "xnlu"}),
        ("start 'stage:mln': there is no such stage", {"start": "stage:mln"}),
        ("neither train.steps nor train.epochs", {"train": {"steps": 0}}),
        ("batch_size 32 is not a multiple of accumulate 3", {"train": {"steps": 1, "accumulate": 3}}),
        ("max_length 600 is outside 8..512", {"tasks": {"mnli": {"max_length": 600}}}),
        ("does not fit train.row_length", {"train": {"steps": 1, "row_length": 64}}),
        ("'linar' is not one of linear.*Did you mean 'linear'", {"train": {"steps": 1, "decay": "linar"}}),
        ("learning_rate must be above 0", {"train": {"steps": 1, "learning_rate": 0.0}}),
        ("hidden 100 is not a multiple of heads", {"encoder": {"hidden": 100, "heads": 3}}),
        ("unknown size 'lage'.*Did you mean 'large'", {"encoder": {"size": "lage"}}),
        ("evaluate.mlqa: no head for mlqa among the trained ones .mnli.: train it on squad_v1", {"evaluate": "mlqa"}),
        (
            r"evaluate.anli_plus: anli_plus can be read by several heads \(mnli, snli\)",
            {"tasks": ("mnli", "snli"), "evaluate": "anli_plus"},
        ),
        ("xnli has no split 'train'", {"evaluate": {"xnli": {"split": "train"}}}),
        ("evaluates an untrained encoder", {"tasks": {}, "train": {}, "evaluate": "tatoeba"}),
        ("has train.steps but no tasks", {"tasks": {}, "evaluate": "tatoeba", "start": "a/b"}),
        ("needs a weight", {"tasks": ("mnli", "qqp"), "train": {"steps": 1, "sampling": {"kind": "given"}}}),
        ("leave nothing for the other tasks", {"tasks": {"mnli": {"weight": 1.0}, "qqp": {}}}),
        ("'gpu' is not one of files", {"data": {"source": "gpu"}}),
    ],
)  # fmt: skip
def test_stages_that_cannot_work_are_refused(match, stage):
    stage_error(match, **stage)


def test_a_circle_of_stages_is_named():
    stages = [config.stage(a, start=f"stage:{b}", tasks="mnli", train={"steps": 1}) for a, b in ("ab", "bc", "ca")]
    with pytest.raises(XtlError, match=r"in a circle: . <- . <- . <- ."):
        resolved(make(stages=stages))


def test_starting_from_a_stage_that_only_evaluates_is_refused():
    stages = [
        config.stage("a", phase="eval", start="x/y", evaluate="tatoeba"),
        config.stage("b", start="stage:a", tasks="mnli", train={"steps": 1}),
    ]
    with pytest.raises(XtlError, match="only evaluates and hands no encoder on"):
        resolved(make(stages=stages))


def test_a_handoff_between_encoders_of_other_shapes_is_refused():
    stages = [
        config.stage("a", tasks="mnli", train={"steps": 1}),
        config.stage("b", start="stage:a", tasks="mnli", train={"steps": 1}, encoder={"size": "mini"}),
    ]
    with pytest.raises(XtlError, match=r"stage b: encoder\.hidden is 256, but 128 in a"):
        resolved(make(stages=stages))


def test_two_stages_may_not_write_one_place():
    one, other = (
        config.stage(n, tasks="mnli", train={"steps": k}, evaluate="xnli") for k, n in enumerate(("a", "b"), 1)
    )
    with pytest.raises(XtlError, match=r"stages a and b write one place of the table.*target xnli"):
        resolved(make(stages=[one, other]))
    with pytest.raises(XtlError, match="two stages are named 'a'"):
        make(stages=[one, one])
    with pytest.raises(XtlError, match="differ only in upper and lower case"):
        resolved(make(stages=[config.stage(n, tasks="mnli", train={"steps": 1}) for n in ("Mnli", "mnli")]))


def test_stage_names_that_would_break_flags_or_folders_are_refused():
    for name in ("a.b", "a/b", "", "-a", "a b"):
        with pytest.raises(XtlError, match="stage name"):
            config.stage(name, tasks="mnli")


def test_a_missing_data_root_is_named_before_anything_runs(tmp_path):
    with pytest.raises(XtlError, match="does not exist"):
        resolve(make(data={"root": str(tmp_path / "nowhere")}))
    with pytest.raises(XtlError, match=r"stage s.tasks.mnli: no train data in en"):
        resolve(make(data={"root": str(tmp_path)}))


def test_a_missing_tokenizer_is_named_before_anything_runs(tmp_path):
    with pytest.raises(XtlError, match=r"data\.tokenizer '/no/such' is neither an existing folder"):
        resolve(make(data={"root": str(tmp_path), "tokenizer": "/no/such"}))


def test_a_model_folder_of_another_shape_is_named_before_anything_runs(tmp_path):
    theirs = {
        "model_type": "xlm-roberta", "vocab_size": 250002, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 514, "layer_norm_eps": 1e-5,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "pad_token_id": 1,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(theirs))
    stage = config.stage("s", tasks="mnli", train={"steps": 1}, start=str(tmp_path))
    with pytest.raises(XtlError, match=r"encoder\.hidden is 128, but 768 in"):
        resolve(make(stages=[stage], data={"source": "world"}, encoder=config.encoder("tiny", vocab_size=250002)))


def test_languages_that_a_world_adds_are_trained_and_evaluated_like_the_others():
    stage = config.stage("mlm", phase="mlm", tasks={"mlm": {"languages": ()}}, train={"steps": 1}, evaluate="tatoeba")
    added = {"more_languages": 3, "languages": {"qta": {"order": "SOV"}}}
    mlm = resolve(make(stages=[stage], data={"source": "world", "world": added})).stages["mlm"]
    assert len(mlm.tasks["mlm"].languages) == 14 and "qta" in mlm.tasks["mlm"].languages
    assert set(mlm.evaluate["tatoeba"].languages) == set(mlm.tasks["mlm"].languages) - {"en"}


def test_world_languages_that_do_not_exist_are_named():
    stage = config.stage("s", tasks="mnli", train={"steps": 1}, evaluate={"xnli": {"languages": ("en", "qzz")}})
    with pytest.raises(XtlError, match="no test data in qzz"):
        resolve(make(stages=[stage], data={"source": "world"}), look=False)


# ---------------------------------------------------------------- files, arguments, overrides


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "exp.py"
    path.write_text(
        "from xtl import config\n"
        "def get_config(arg=''):\n"
        "    a = config.arguments(arg, steps=10, seeds=(0,), rate=1e-3, fast=False, name='mlm')\n"
        "    stages = [config.stage(a.name, tasks='mnli', train={'steps': a.steps}, seed=s) for s in a.seeds[:1]]\n"
        "    return config.pipeline('exp', stages=stages, data={'source': 'world'})\n"
    )
    return path


def test_config_files_take_arguments_and_overrides(config_file):
    pipeline = config.load_config(
        f"{config_file}:steps=7,seeds=3+4,name=first",
        {"config.stages.first.train.learning_rate": "2e-4", "encoder.size": "tiny", "config.data.world.seed": "5"},
    )
    stage = pipeline.stages.first
    assert (stage.train.steps, stage.seed, stage.train.learning_rate) == (7, 3, 2e-4)
    resolved_stage = resolve(pipeline, look=False).stages["first"]
    assert resolved_stage.encoder.hidden == 128 and resolved_stage.data.world["seed"] == 5


@pytest.mark.parametrize(
    "path, value, expected",
    [
        ("stages.s.train.packing", "false", False),
        ("stages.s.tasks.mnli.languages", "en,de", ("en", "de")),
        ("stages.s.tasks.mnli.languages", "('en', 'de')", ("en", "de")),
        ("stages.s.tasks.mnli.options.stride", "64", 64),
        ("stages.s.tasks.mnli.options.name", "abc", "abc"),
        ("stages.s.data.root", "there", "there"),
        ("system.mesh.fsdp", "4", 4),
        ("encoder.dropout", 0, 0.0),
    ],
)
def test_overrides_are_read_in_the_type_of_the_key(path, value, expected):
    pipeline = make()
    config.override(pipeline, path, value)
    node = pipeline
    for key in path.split("."):
        node = node[key]
    assert node == expected and type(node) is type(expected)


@pytest.mark.parametrize(
    "path, value, match",
    [
        ("stages.t.train.steps", "1", r"--config\.stages has no 't'"),
        ("stages.s.train.stps", "1", "unknown key 'stps'. Did you mean 'steps'"),
        ("stages.s.train.steps", "many", r"--config\.stages\.s\.train\.steps must be a whole number, not 'many'"),
        ("stages.s.train", "1", "is a section; set one of its keys"),
        ("seed.x", "1", "is a single value"),
        ("dat.root", "x", "unknown key 'dat'. Did you mean 'data'"),
    ],
)
def test_bad_overrides_are_named(path, value, match):
    with pytest.raises(XtlError, match=match):
        config.override(make(), path, value)


@pytest.mark.parametrize(
    "arg, match",
    [
        ("stepz=3", "unknown config argument 'stepz'. Did you mean 'steps'"),
        ("steps=x", "config argument steps must be a whole number"),
        ("steps", "needs a value"),
        ("seeds=0+x", "seeds must be a whole number, not 'x'"),
    ],
)
def test_bad_arguments_are_named(config_file, arg, match):
    with pytest.raises(XtlError, match=match):
        config.load_config(f"{config_file}:{arg}")


def test_broken_config_files_are_errors_with_a_line(tmp_path):
    with pytest.raises(XtlError, match="no such config file"):
        config.load_config(tmp_path / "none.py")
    path = tmp_path / "bad.py"
    for text, match in (
        ("x = 1\n", "must define get_config"),
        ("def get_config(arg):\n    return 1 / 0\n", "line 2: ZeroDivisionError"),
        ("def get_config(arg:\n", "line 1: SyntaxError"),
        ("def get_config(arg):\n    return {}\n", "must return what xtl.config.pipeline"),
        (
            "from xtl import config\ndef get_config(arg):\n    return config.stage('a', stepz=1)\n",
            "unknown key 'stepz'",
        ),
    ):
        path.write_text(text)
        with pytest.raises(XtlError, match=match) as caught:
            config.load_config(path)
        assert str(path) in str(caught.value)


def test_configs_build_without_jax():
    """The front door: importing and building must not pay for JAX."""
    import subprocess
    import sys

    code = (
        "import sys; from xtl import config; "
        "config.pipeline('p', stages=[config.stage('s', tasks='mnli')], encoder=config.encoder('base')); "
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
