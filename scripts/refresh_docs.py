"""Update the tables of docs/data.md from the catalog.

python scripts/refresh_docs.py
"""

import re
from pathlib import Path
from typing import Any

from xtl.cli.verbs.tasks import record
from xtl.data.sources.formats.base import Files, Join
from xtl.data.sources.formats.tables import JoinedTables
from xtl.task import Task
from xtl.tasks import catalog

PAGE = Path(__file__).resolve().parent.parent / "docs" / "data.md"
BLOCK = re.compile(r"(<!-- (\w+): made by scripts/refresh_docs.py -->\n).*?(<!-- end -->)", re.DOTALL)


def refreshed(page: str) -> str:
    """The page with the tables of today's catalog."""
    tables = {"tasks": tasks(), "files": files()}
    return BLOCK.sub(lambda block: f"{block[1]}\n{tables[block[2]]}\n\n{block[3]}", page)


def tasks() -> str:
    """One line per task: what there is, and what it is called in each source."""
    head = ("task", "languages", "train", "dev", "test", "hub", "TFDS", "licence")
    lines = [head, ["---"] * len(head)]
    lines += [_line(task) for task in catalog().values()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _line(task: Task) -> list[str]:
    languages = " ".join(task.languages) if len(task.languages) < 8 else str(len(task.languages))
    languages += f" + {len(task.languages_r)} (XTREME-R)" if task.languages_r else ""
    if translated := record(task)["languages_translated"]:
        languages += f"; {len(translated)} translated"
    sizes = [_size(task, split) for split in ("train", "dev", "test")]
    return [f"`{task.name}`", languages, *sizes, _names(task.hub), _names(task.tfds), task.licence or "by source"]


def _size(task: Task, split: str) -> str:
    if split not in task.splits:
        return "–"
    size = task.sizes.get(split)
    if size is None:
        return "?"
    if isinstance(size, int):
        return f"{size:,}"
    low, high = min(size.values()), max(size.values())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _names(spec: Any) -> str:
    if spec is None:
        return "–"
    if isinstance(spec, JoinedTables):
        return "as its parts"
    names = (f"`{t.name}` `{t.config}`" if t.config else f"`{t.name}`" for t in spec.at)
    return ", ".join(dict.fromkeys(names))


def files() -> str:
    """What to put where, one line per task."""
    return "\n".join(f"- `{t.name}`: {t.files.get}." for t in catalog().values() if isinstance(t.files, Files)) + (
        "\n" + "\n".join(f"- `{t.name}`: as its parts." for t in catalog().values() if isinstance(t.files, Join))
    )


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text()))
