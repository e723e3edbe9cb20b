"""The token cache: built once, whole or absent, and never believed without a check."""

import json
import multiprocessing
import os
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

import xtl
from xtl.data import cache, sources
from xtl.data.rows import Encoded
from xtl.data.settings import Data
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.task import with_options
from xtl.tasks import catalog, get_task

FIXTURES = Path(__file__).parents[1] / "fixtures" / "original"
TASKS = (
    ("mnli", "en", "train"),
    ("hellaswag", "en", "train"),
    ("mlqa", "de", "test"),
    ("udpos", "de", "test"),
    ("mlm", "de", "train"),
    ("tatoeba", "de", "test"),
)


def small_tokenizer(words="a b c boats Vers erzählt von the is 1901 Steg"):
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *words.split(), "<mask>"]
    rust = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    return Tokenizer(rust)


def encoded(folder, task="mnli", language="en", split="train", *, root=FIXTURES, tokenizer=None, options=None, **more):
    settings = {"max_length": 32, "train": split == "train"} | more
    data = Data(source="files", root=str(root), cache=str(folder))
    task, tokenizer = with_options(get_task(task), options or {}), tokenizer or small_tokenizer()
    encode = family(task).encode
    return cache.encoded(task, language, split, encode=encode, data=data, tokenizer=tokenizer, **settings)


def arrays(e: Encoded):
    return cache._arrays(e)


def same(a: Encoded, b: Encoded):
    a, b = arrays(a), arrays(b)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def entries(folder):
    return sorted(p.name for p in Path(folder).iterdir() if not p.name.startswith("."))


def only_entry(folder):
    (name,) = entries(folder)
    return Path(folder) / name


@pytest.fixture
def counted(monkeypatch):
    """How often examples were loaded, which is how often an entry was built."""
    calls = []
    load = sources.load
    monkeypatch.setattr(sources, "load", lambda *a: calls.append(a[0].name) or load(*a))
    return calls


# ---------------------------------------------------------------- the same arrays, however they come


@pytest.mark.parametrize(("task", "language", "split"), TASKS)
def test_stored_arrays_equal_those_made_in_memory(tmp_path, task, language, split):
    stored = encoded(tmp_path / "c", task, language, split)
    same(stored, encoded("", task, language, split))
    same(stored, encoded(tmp_path / "c", task, language, split))


@pytest.mark.parametrize(
    ("task", "language", "split", "train"),
    [(*row, train) for row in TASKS for train in (True, False) if not (train and row[0] == "tatoeba")],  # never trained
)
def test_encoding_in_chunks_changes_nothing(tmp_path, monkeypatch, task, language, split, train):
    whole = encoded(tmp_path / "whole", task, language, split, train=train)
    monkeypatch.setattr(cache, "CHUNK", 1)
    same(whole, encoded(tmp_path / "parts", task, language, split, train=train))
    same(whole, encoded("", task, language, split, train=train))


def test_arrays_are_memory_maps_and_read_only(tmp_path):
    part = encoded(tmp_path)
    assert isinstance(part.ids.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        part.ids[0] = 1


def test_progress_counts_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 3)
    seen = []
    encoded(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 4), (4, 4)]


# ---------------------------------------------------------------- what an entry stands for


def test_entry_is_built_once(tmp_path, counted):
    for _ in range(3):
        encoded(tmp_path)
    assert counted == ["mnli"]


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 16},
        {"train": False},
        {"options": {"stride": 3}},
        {"tokenizer": small_tokenizer("other words")},
        {"split": "dev", "train": True},
    ],
)
def test_whatever_changes_tokens_makes_another_entry(tmp_path, change):
    encoded(tmp_path)
    encoded(tmp_path, **change)
    assert len(entries(tmp_path)) == 2


def test_changed_content_makes_another_entry_and_the_same_content_elsewhere_does_not(tmp_path):
    root = tmp_path / "root"
    shutil.copytree(FIXTURES / "mnli", root / "mnli")
    encoded(tmp_path / "c")
    encoded(tmp_path / "c", root=root)
    assert len(entries(tmp_path / "c")) == 1
    file = root / "mnli" / "MNLI" / "train.tsv"
    file.write_text(file.read_text().replace("mended", "sold"))
    os.utime(file, ns=(1, 1))
    encoded(tmp_path / "c", root=root)
    assert len(entries(tmp_path / "c")) == 2


def test_changed_code_makes_another_entry(tmp_path, monkeypatch):
    encoded(tmp_path)
    monkeypatch.setattr(cache, "code_version", lambda task, family: "another")
    encoded(tmp_path)
    assert len(entries(tmp_path)) == 2


PACKAGE = Path(xtl.__file__).parent


@pytest.fixture
def package(tmp_path):
    """A copy of what reads and encodes, to be edited."""
    for folder in ("tasks", "families", "data"):
        shutil.copytree(PACKAGE / folder, tmp_path / "xtl" / folder)
    return tmp_path / "xtl"


def versions(package):
    """The code version of every task of the catalog."""
    return {name: cache.code_version.__wrapped__(name, f"xtl.families.{t.family}", package) for name, t in CODE.items()}


CODE = {name: get_task(name) for name in ("mnli", "xnli", "panx", "mlm", "udpos", "squad_v1", "mlqa", "anli_plus")}


@pytest.mark.parametrize(
    ("edited", "concerned"),
    [
        ("tasks/mnli.py", {"mnli", "anli_plus"}),  # anli_plus joins mnli with others
        ("tasks/panx.py", {"panx", "mlm"}),  # MLM text is that of panx where there is no other
        ("tasks/new.py", set()),
        ("tasks/__init__.py", set()),
        ("data/sources/formats/conllu.py", {"udpos"}),
        ("data/sources/formats/squad.py", {"squad_v1", "mlqa"}),
        ("data/sources/formats/base.py", set(CODE)),
        ("data/sequences.py", set(CODE)),
        ("data/order.py", set()),
        ("families/interface.py", set(CODE)),
        ("families/span.py", {"squad_v1", "mlqa"}),
    ],
)
def test_editing_or_adding_code_concerns_only_the_tasks_that_use_it(package, edited, concerned):
    before = versions(package)
    with open(package / edited, "a") as file:
        file.write("# edited\n")
    after = versions(package)
    assert {name for name in CODE if before[name] != after[name]} == concerned


def test_every_task_of_the_catalog_is_read_by_the_file_of_its_name():
    for name, task in catalog().items():
        files = cache.code_files(name, family(task).encode.__module__)
        assert PACKAGE / "tasks" / f"{name}.py" in files and PACKAGE / "families" / f"{task.family}.py" in files


# ---------------------------------------------------------------- damage


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: flip(entry / "ids.npy"),
        lambda entry: (entry / "ids.npy").write_bytes((entry / "ids.npy").read_bytes()[:-4]),
        lambda entry: (entry / "example_offsets.npy").unlink(),
        lambda entry: (entry / "entry.json").unlink(),
        lambda entry: (entry / "entry.json").write_text('{"fingerprint": '),
        lambda entry: (entry / "entry.json").write_text("[]"),
    ],
    ids=["a flipped bit", "cut off", "a file gone", "no manifest", "broken manifest", "another manifest"],
)
def test_damaged_entry_is_noticed_named_and_built_again(tmp_path, caplog, counted, damage):
    whole = encoded("")
    encoded(tmp_path)
    damage(only_entry(tmp_path))
    same(whole, encoded(tmp_path))
    assert "is unusable" in caplog.text and only_entry(tmp_path).name in caplog.text
    assert len(counted) == 3


def test_foreign_entry_under_the_right_name_is_built_again(tmp_path, caplog):
    encoded(tmp_path)
    entry = only_entry(tmp_path)
    manifest = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps({**manifest, "fingerprint": "f" * 64}))
    encoded(tmp_path)
    assert "made of something else" in caplog.text
    assert json.loads((entry / "entry.json").read_text())["fingerprint"] == manifest["fingerprint"]


def test_failed_build_leaves_nothing_that_looks_done(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 2)

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path, progress=stop)
    assert entries(tmp_path) == []
    assert not list(tmp_path.glob(".*.tmp"))


def test_left_overs_of_a_killed_build_are_removed(tmp_path):
    encoded(tmp_path)
    entry = only_entry(tmp_path)
    left_over = tmp_path / f".{entry.name}.99999.tmp"
    left_over.mkdir()
    (left_over / "ids.npy").write_bytes(b"half")
    shutil.rmtree(entry)
    encoded(tmp_path)
    assert not left_over.exists()


def test_remote_cache_is_refused():
    with pytest.raises(XtlError, match=r"data\.cache gs://bucket/cache is remote"):
        encoded("gs://bucket/cache")


# ---------------------------------------------------------------- several processes


def _build(folder, barrier, results):
    built = []
    barrier.wait(60)
    part = encoded(folder, "mlm", "de", progress=lambda done, total: built.append(done))
    results.put((bool(built), int(part.ids.sum()), len(part)))


@pytest.mark.procs
def test_two_processes_at_once_build_one_entry_and_read_the_same(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_build, args=(str(tmp_path), barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    got = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert sorted(built for built, _, _ in got) == [False, True]
    assert got[0][1:] == got[1][1:]
    assert len(entries(tmp_path)) == 1


def test_waiting_for_another_builder_has_an_end(tmp_path):
    from filelock import FileLock

    encoded(tmp_path)
    entry = only_entry(tmp_path)
    shutil.rmtree(entry)
    with FileLock(tmp_path / f".{entry.name}.lock"), pytest.raises(XtlError, match=r"waited 0 s for another process"):
        encoded(tmp_path, wait_s=0.1)


def test_encoded_has_no_parts_the_cache_does_not_store():
    assert {f.name for f in fields(Encoded)} == {
        "ids",
        "segment_offsets",
        "example_offsets",
        "token_columns",
        "segment_columns",
        "example_columns",
    }
