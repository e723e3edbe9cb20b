"""results.csv and the table: the same bytes whatever the order of work, and the right arithmetic."""

import csv
import io

import pytest
from rich.console import Console

from tests.support.fake_training import FakeTrain, score, small_graph
from xtl.cli.tables import results_tables
from xtl.runs import results
from xtl.runs.pipeline import run
from xtl.runs.results import Results, Row, table
from xtl.runs.workdir import Workdir


def finished(path, *, seeds=(0,), only=(), **options):
    run(small_graph(seeds=seeds), Workdir(path), train=FakeTrain(**options), only=only)
    return Workdir(path)


def test_results_csv_has_every_language_of_every_target(tmp_path):
    finished(tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert list(rows[0]) == ["intermediate", "target", "language", "split", "seed", "metric", "value", "stage"]
    places = {(r["intermediate"], r["target"], r["language"]) for r in rows}
    for label in ("none", "mnli"):
        for task, languages in {"xnli": ("en", "de", "sw"), "tatoeba": ("de", "fr")}.items():
            assert {(label, task, x) for x in languages} <= places
        assert {x for i, t, x in places if (i, t) == (label, "mlqa")} == {"ar", "de", "en", "es", "hi", "vi", "zh"}
    one = next(r for r in rows if (r["stage"], r["target"], r["language"]) == ("mnli-xnli", "xnli", "de"))
    assert one["value"] == f"{score('mnli-xnli', 'xnli', 'de'):.4f}"
    assert (one["split"], one["seed"], one["metric"]) == ("test", "0", "accuracy")


def test_results_are_the_same_bytes_in_whatever_order_stages_end(tmp_path):
    straight = finished(tmp_path / "a", seeds=(0, 1))
    names = list(small_graph(seeds=(0, 1)).stages)
    for name in reversed(names):  # one launch a stage, last stages first
        finished(tmp_path / "b", seeds=(0, 1), only=[name])
    finished(tmp_path / "c", seeds=(0, 1), fails=("mnli", "none-xnli-s1"))
    finished(tmp_path / "c", seeds=(0, 1))
    for other in ("b", "c"):
        assert (tmp_path / other / "results.csv").read_bytes() == (straight.path / "results.csv").read_bytes()
    reports = {(tmp_path / x / "report").exists() for x in "abc"}
    assert reports == {False}  # made by the verbs, not by the graph


def test_equal_stages_give_one_row_for_each_of_their_names(tmp_path):
    workdir = finished(tmp_path, seeds=(0, 1))
    rows = [r for r in results.collect(workdir).rows if r.target == "tatoeba" and r.intermediate == "none"]
    assert {(r.stage, r.seed) for r in rows} == {("none-tatoeba", 0), ("none-tatoeba-s1", 1)}
    assert len({r.value for r in rows if r.language == "de"}) == 1


def test_missing_stages_are_named(tmp_path):
    collected = results.collect(finished(tmp_path, fails=("mnli",)))
    assert collected.missing == {"mnli-xnli": "pending", "mnli-xquad+mlqa": "pending", "mnli-tatoeba": "pending"}
    assert table(collected).cells["mnli"][:2] == [None, None] and table(collected).missing == collected.missing


def results_of(values):
    """Results from {(intermediate, language, seed): value} of one target."""
    rows = [
        Row(label, "xnli", language, "test", seed, "accuracy", f"{value:.4f}", f"{label}-xnli")
        for (label, language, seed), value in values.items()
    ]
    return Results(rows, list(dict.fromkeys(r.intermediate for r in rows)), {"xnli": "accuracy"})


def test_columns_are_english_and_the_average_of_the_others():
    result = table(results_of({("none", "en", 0): 80, ("none", "de", 0): 60, ("none", "sw", 0): 40}))
    assert [c.group for c in result.columns] == ["en", "2 others"]
    assert [cell.mean for cell in result.cells["none"]] == [80, 50]
    assert all(cell.gain is None and cell.spread is None for cell in result.cells["none"])


def test_seeds_are_averaged_with_their_standard_deviation():
    (cell,) = table(results_of({("none", "en", s): v for s, v in enumerate((70, 72, 77))})).cells["none"]
    assert cell.mean == pytest.approx(73) and cell.spread == pytest.approx(13**0.5) and cell.seeds == 3


def test_gains_pair_the_seeds_both_rows_have():
    values = {("none", "en", 0): 70, ("none", "en", 1): 60, ("mnli", "en", 1): 65, ("mnli", "en", 2): 90}
    (cell,) = table(results_of(values)).cells["mnli"]
    assert cell.gain == pytest.approx(5)  # not 77.5 - 65


def test_a_seed_that_lacks_a_language_does_not_enter_the_average():
    values = {("none", x, s): 50 for x in ("de", "sw") for s in (0, 1)} | {("none", "de", 2): 90}
    (cell,) = table(results_of(values)).cells["none"]
    assert cell.mean == 50 and cell.seeds == 2


def test_a_language_without_labels_keeps_its_row_and_leaves_the_average_empty():
    entry = {"intermediate": "none", "seed": 0, "name": "none-tydiqa"}
    report = {
        "task": "tydiqa",
        "split": "test",
        "metric": "f1",
        "languages": {"en": {"f1": 50.0, "n": 3}, "sw": {"n": 3}},
    }
    rows = sorted(results._rows(entry, report))
    assert [(r.language, r.value) for r in rows] == [("en", "50.0000"), ("sw", "")]
    cells = table(Results(rows, ["none"], {"tydiqa": "f1"})).cells["none"]
    assert cells[0].mean == 50 and cells[1] is None


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_width_and_loses_no_column(tmp_path, width):
    result = table(results.collect(finished(tmp_path, seeds=(0, 1))))
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    for block in results_tables(result, width=width):
        console.print(block)
    text = console.file.getvalue()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    for target in ("xnli", "xquad", "mlqa", "tatoeba"):
        assert f"{target} accuracy" in text
    assert text.count("±") == 2 * len(result.columns)


def test_json_has_rows_and_cells(tmp_path):
    value = results.to_json(results.collect(finished(tmp_path)))
    assert value["rows"][0].keys() >= {"intermediate", "target", "language", "value"}
    assert {cell["target"] for cell in value["table"]["mnli"]} == {"xnli", "xquad", "mlqa", "tatoeba"}
