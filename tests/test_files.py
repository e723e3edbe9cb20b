"""Small files are whole or absent, JSON that cannot be read is named, and paths in object stores are told apart."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xtl import files
from xtl.errors import XtlError


def test_a_write_that_is_cut_off_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "new folder" / "a.txt"
    files.atomic_write(target, "old ü")

    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        files.atomic_write(target, "new")
    assert files.read_text(target) == "old ü" and list(target.parent.iterdir()) == [target]


def test_unreadable_json_is_one_line_that_names_the_file(tmp_path):
    path = files.join(tmp_path, "a", "b.json")
    assert not files.exists(path)
    with pytest.raises(XtlError, match=r"a/b.json: no such file"):
        files.read_json(path)
    files.write_json(path, {"b": 1, "a": [2]})
    assert files.exists(path) and files.read_json(path) == {"b": 1, "a": [2]}
    files.atomic_write(path, "{")
    with pytest.raises(XtlError, match=r"b.json: not valid JSON"):
        files.read_json(path)


def test_paths_in_object_stores_have_the_interface_of_local_ones():
    assert files.is_remote("gs://bucket/x") and not files.is_remote("/bucket/x")
    assert files.join("gs://bucket/run", "a", "b.json") == "gs://bucket/run/a/b.json"
    assert os.fspath(files.located("gs://bucket/run") / "a") == "gs://bucket/run/a"
    assert isinstance(files.located("run"), Path)


def test_local_files_wait_for_no_object_store():
    code = "import sys; from xtl import files; files.exists('.'); sys.exit('etils' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
