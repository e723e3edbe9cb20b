"""What every family must say of itself, and that facts agree with what the code does."""

import importlib
import pkgutil
import subprocess
import sys

import jax
import pytest

from tests.support import tiny
from xtl import families
from xtl.benchmark.prediction_files import SUFFIX, kind_of
from xtl.errors import XtlError
from xtl.families import family
from xtl.families.interface import Family
from xtl.models.hf import names
from xtl.task import FAMILIES, Task, with_options
from xtl.tasks import catalog, get_task
from xtl.training import state

EXAMPLES = {name: next(task for task in catalog().values() if task.family == name) for name in FAMILIES}


@pytest.mark.parametrize("task", EXAMPLES.values(), ids=EXAMPLES)
def test_every_family_is_one_instance_of_a_class_in_its_file(task):
    one = family(task)
    assert isinstance(one, Family) and one is family(task)
    assert type(one).__module__ == f"xtl.families.{task.family}"


def test_every_family_that_tasks_may_name_has_a_file_and_the_other_way_round():
    modules = [importlib.import_module(f"xtl.families.{m.name}") for m in pkgutil.iter_modules(families.__path__)]
    assert {m.__name__.rpartition(".")[2] for m in modules if hasattr(m, "FAMILY")} == set(FAMILIES)


@pytest.mark.parametrize("task", EXAMPLES.values(), ids=EXAMPLES)
def test_a_family_has_weights_exactly_if_it_says_so(task):
    heads = state.shapes(tiny.CONFIG, (task,)).params.heads
    assert bool(heads) == family(task).has_head


def test_a_head_has_the_weights_of_its_counterpart_in_transformers():
    for task in EXAMPLES.values():
        if family(task).counterpart:
            task = with_options(task, family(task).counterpart_options)
            theirs = names.head(family(task).head_of_transformers(task), task.labels)
            heads = state.shapes(tiny.CONFIG, (task,)).params.heads[task.name]
            ours = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in
                    jax.tree_util.tree_leaves_with_path(heads)}  # fmt: skip
            assert ours == {path: theirs.shape(path, tiny.CONFIG) for path in theirs.weights}


def test_predictions_files_of_a_benchmark_are_of_the_kind_that_the_family_writes():
    for task in catalog().values():
        kind = family(task).file_kind(task)
        assert kind in {*SUFFIX, ""}
        if task.benchmarks:
            assert kind_of(task.name) == kind
        elif kind:
            assert kind_of(task.name, lambda name, kind=kind: kind) == kind
        else:
            with pytest.raises(XtlError, match="has no form as a predictions file"):
                kind_of(task.name, lambda name: "")


def test_tasks_that_count_pairs_are_those_with_a_pool():
    assert {task.family for task in catalog().values() if task.retrieval} == {"retrieve", "dual"}
    assert not any(task.retrieval for task in catalog().values() if task.family not in ("retrieve", "dual"))


def test_options_are_laid_over_those_of_the_task_and_equal_options_make_equal_tasks():
    task = Task(name="x", family="span", about="", languages=(), splits=(), metric="", options={"stride": 8, "a": 1})
    changed = with_options(task, {"stride": 16})
    assert changed.options == {"stride": 16, "a": 1} and task.options == {"stride": 8, "a": 1}
    assert with_options(task, {}) is task
    assert changed == with_options(task, {"stride": 16}) != task
    assert hash(changed) == hash(task), "a step is looked up by equality, whatever its options hold"


def test_only_asking_for_a_family_imports_jax():
    code = "import sys, xtl.families, xtl.config, xtl.tasks; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert get_task("mnli").family in FAMILIES
