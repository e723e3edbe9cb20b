"""The house stays in order: imports run one way, functions stay short, names say what a thing is."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import structure

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 80  # lines of a function

# Imports inside functions, the command line's aside: each is here for what it would bring.
DEFERRED = {
    ("xtl.config.checks", "xtl.models.hf.load"): "JAX; only a stage that starts from a Hugging Face folder needs it",
    ("xtl.config.resolution", "xtl.models.encoder"): "JAX; building a config must not wait for it",
    ("xtl.data.tokenizer", "xtl.world.tokenizer"): "generates the synthetic languages; real data needs none",
    ("xtl.models.attention", "xtl.models.fused"): "Pallas",
    ("xtl.runs.cost", "xtl.data.tokenizer"): "the tokenizers library; only `plan --count` needs it",
    ("xtl.runs.cost", "xtl.training.evaluator"): "JAX; only `plan --count` needs it",
    ("xtl.runs.pipeline", "xtl.parallel.multihost"): "JAX; the graph and the report are read without it",
    ("xtl.runs.pipeline", "xtl.training.checkpoint"): "JAX and Orbax",
    ("xtl.runs.pipeline", "xtl.training.loop"): "JAX and Orbax",
}
MOST_DEFERRED = 12

VAGUE = {"found", "made", "told", "said"}  # what became of a value, not what it is
ELSEWHERE = re.compile(r"\b(DESIGN|TASKS|ENGINEERING|STYLE)(\.md)?\b( section)? [0-9]|\btrap [0-9]+\.[0-9]|\bSTUDIES:")


def test_imports_between_rooms_run_one_way():
    command = [Path(sys.executable).parent / "lint-imports", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_an_import_inside_a_function_has_a_reason():
    hidden = set(structure.hidden_imports(ROOT))
    assert hidden <= set(DEFERRED), f"move to the top of the file: {sorted(hidden - set(DEFERRED))}"
    assert set(DEFERRED) <= hidden, f"no longer there: {sorted(set(DEFERRED) - hidden)}"
    assert len(DEFERRED) <= MOST_DEFERRED


@pytest.mark.parametrize("room", ["task", "tasks", "families", "config", "runs", "report", "cli.main"])
def test_a_light_room_brings_no_jax(room):
    modules = sorted(
        name
        for path in structure.sources(ROOT, "xtl")
        if (name := structure.module_of(ROOT, path)).startswith(f"xtl.{room}")
        and (room != "families" or name in ("xtl.families", "xtl.families.heads"))
    )
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_function_is_longer_than_a_screen_or_two():
    long = {name: lines for name, lines in structure.functions(ROOT) if lines > LONGEST}
    assert not long


def test_the_training_loop_can_be_read_at_once():
    lengths = dict(structure.functions(ROOT, "xtl"))
    assert lengths["xtl/training/loop.py:train"] <= 110
    assert structure.complexity(ROOT / "xtl/training/loop.py", "train") <= 12


def test_locals_name_the_thing():
    vague = []
    for path in [*structure.sources(ROOT), *sorted((ROOT / "tests").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id
            name = (
                stored or (isinstance(node, ast.arg) and node.arg) or (isinstance(node, ast.FunctionDef) and node.name)
            )
            if name in VAGUE:
                vague.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert not vague


def test_no_text_refers_to_a_document_outside_the_repository():
    texts = [*structure.sources(ROOT), *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "BUILD.md"]
    outside = []
    for path in texts:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if ELSEWHERE.search(line) and path.name != "data.md":  # which has a list of traps of its own
                outside.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not outside
