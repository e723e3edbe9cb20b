"""Counts of the structure of a checkout: arrows between rooms, long functions, hidden imports, the loop's complexity.

    python scripts/structure.py [ROOT]

The table of docs/contributing.md is made with it; tests/test_structure.py holds the code to its limits.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CODE = ("xtl", "tpu", "scripts", "configs")


def sources(root: Path, *folders: str) -> Iterator[Path]:
    """The Python files of some folders, sorted."""
    for folder in folders or CODE:
        yield from sorted((root / folder).rglob("*.py"))


def module_of(root: Path, path: Path) -> str:
    """The dotted name of a file."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported(node: ast.AST, modules: set[str]) -> Iterator[str]:
    """The xtl modules that an import statement names."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "xtl":
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in modules else str(node.module)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "xtl")


def imports(root: Path) -> Iterator[tuple[str, str, bool]]:
    """(importing module, imported module, whether inside a function) of every import within xtl."""
    modules = {module_of(root, path) for path in sources(root, "xtl")}
    for path in sources(root, "xtl"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {id(node) for block in ast.walk(tree) if _for_types_only(block) for node in ast.walk(block)}
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            if id(node) not in guarded:
                for target in imported(node, modules):
                    yield module_of(root, path), target, id(node) in inside


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room(module: str) -> str:
    """The room of a module: the first name below xtl; `ground` for what lies beside the rooms."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "xtl"


def arrows(root: Path) -> set[tuple[str, str]]:
    """(room, room) that one imports the other."""
    return {(room(a), room(b)) for a, b, _ in imports(root) if room(a) != room(b)}


def hidden_imports(root: Path) -> list[tuple[str, str]]:
    """(module, imported module) of the imports inside functions, the command line's aside."""
    command_line = ("xtl.cli", "xtl.verbs")
    return sorted({(a, b) for a, b, inside in imports(root) if inside and not a.startswith(command_line)})


def functions(root: Path, *folders: str) -> Iterator[tuple[str, int]]:
    """(file:function, lines) of every function."""
    for path in sources(root, *folders):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                yield f"{path.relative_to(root)}:{node.name}", lines


def complexity(path: Path, function: str) -> int:
    """Cyclomatic complexity of a function, by ruff."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "C901", "--output-format", "json"]
    command += ["--config", "lint.mccabe.max-complexity=0", str(path)]
    violations = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    messages = (re.match(r"`(\w+)` is too complex \((\d+)", entry["message"]) for entry in violations)
    return max(int(match[2]) for match in messages if match and match[1] == function)


def main() -> None:
    """Print the table of a checkout (default: this one)."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    loop = next(path for path in (root / "xtl/training/loop.py", root / "xtl/train.py") if path.exists())
    lengths = dict(functions(root))
    top = [path for path in (root / "xtl").iterdir() if path.suffix == ".py"]
    train = next(lines for name, lines in lengths.items() if name == f"{loop.relative_to(root)}:train")
    hidden = [1 for _, _, inside in imports(root) if inside]
    rows = {
        "modules beside each other in xtl/": len(top),
        "import arrows between rooms": len(arrows(root)),
        "imports of xtl inside functions": len(hidden),
        "of these, outside the command line": len(hidden_imports(root)),
        "functions over 60 lines": sum(lines > 60 for lines in lengths.values()),
        "functions over 80 lines": sum(lines > 80 for lines in lengths.values()),
        "lines of the training loop's function": train,
        "complexity of the training loop": complexity(loop, "train"),
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
