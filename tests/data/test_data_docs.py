"""docs/data.md says what the catalog says, and its example is a task."""

import re
from pathlib import Path

from scripts.refresh_docs import PAGE, refreshed
from xtl.cli.verbs.tasks import record
from xtl.task import Task
from xtl.tasks import catalog

TRAPS = Path(__file__).parents[1]


def test_tables_of_the_page_are_those_of_the_catalog():
    page = PAGE.read_text()
    assert refreshed(page) == page, "run: python scripts/refresh_docs.py"
    assert all(f"| `{name}` |" in page for name in catalog())


def test_example_of_the_page_is_a_task():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert isinstance(names["TASK"], Task)


def test_every_trap_of_the_page_has_a_test_named_after_it():
    page = PAGE.read_text().partition("## Traps")[2].partition("## Adding")[0]
    numbers = re.findall(r"^(\d+)\. ", page, re.MULTILINE)
    assert numbers == [str(n) for n in range(1, 15)]
    tests = "".join(path.read_text() for path in TRAPS.rglob("test_*.py"))
    for number in numbers:
        assert f"def test_trap_15_{number}_" in tests


def test_records_name_translated_training_data():
    entry = record(catalog()["mnli"])
    assert "sw" in entry["languages_translated"] and entry["languages"] == ["en"]
