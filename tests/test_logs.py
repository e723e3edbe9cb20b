"""Promises: metrics.jsonl holds every step at most once over any number of restarts, and is always valid JSON."""

import json

import pytest

from xtl import logs
from xtl.files import atomic_write
from xtl.logs import JsonLines


def record(step: int, **more):
    return {"step": step, "loss": 1.5, **more}


def test_lines_after_the_restored_step_are_dropped_on_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, resume_after=0)
    for step in (10, 20, 30):
        lines.write(record(step))
    lines.close()
    lines = JsonLines(path, resume_after=20)
    lines.write(record(30, again=True))
    lines.close()
    assert [r["step"] for r in logs.read_lines(path)] == [10, 20, 30]
    assert logs.read_lines(path)[-1]["again"]


def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record(10)) + "\n" + json.dumps(record(20))[:9])
    assert [r["step"] for r in logs.read_lines(path)] == [10]
    lines = JsonLines(path, resume_after=20)
    lines.write(record(20))
    lines.close()
    assert [r["step"] for r in logs.read_lines(path)] == [10, 20]


def test_a_new_stage_starts_with_an_empty_file(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    JsonLines(path, resume_after=0).close()
    assert path.read_text() == ""


def test_numbers_that_json_has_not_become_null_or_plain(tmp_path):
    np = pytest.importorskip("numpy")
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, resume_after=0)
    lines.write({"step": np.int32(1), "loss": float("nan"), "rate": np.float32(0.5), "losses": {"mnli": float("inf")}})
    lines.close()
    assert json.loads(path.read_text()) == {"step": 1, "loss": None, "rate": 0.5, "losses": {"mnli": None}}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (187, "3m07s"), (7500, "2h05m"), (360000, "100h00m")]
)
def test_durations_read_like_durations(seconds, text):
    assert logs.duration(seconds) == text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    atomic_write(path, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["status.json"]
