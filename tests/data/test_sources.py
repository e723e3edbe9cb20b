"""The one door to all sources: what is there, what is missing, and digests of content."""

import os
import shutil
from pathlib import Path

import pytest

from xtl.data import sources
from xtl.data.settings import Data
from xtl.errors import XtlError
from xtl.tasks import get_task

FIXTURES = Path(__file__).parents[1] / "fixtures" / "original"


def data(root=FIXTURES, **more):
    return Data(**{"source": "files", "root": str(root), **more})


@pytest.fixture
def copy(tmp_path):
    def make(*names):
        for name in names:
            shutil.copytree(FIXTURES / name, tmp_path / name)
        return tmp_path

    return make


def test_languages_and_splits_are_those_on_disk_in_the_tasks_order():
    assert sources.languages(get_task("mlqa"), data()) == ("de", "zh")
    assert sources.languages(get_task("tydiqa"), data(), split="train") == ("en", "fi", "sw")
    assert sources.splits_present(get_task("panx"), "sw", data()) == ("dev", "test")
    assert sources.splits_present(get_task("panx"), "en", data()) == ("train", "dev", "test")
    assert sources.splits_present(get_task("xnli"), "fr", data()) == ()


def test_missing_root_is_named(tmp_path):
    with pytest.raises(XtlError, match=r"data root .*/nowhere does not exist"):
        sources.load(get_task("mnli"), "en", "train", data(tmp_path / "nowhere"))
    with pytest.raises(XtlError, match=r"data\.root is not set"):
        sources.load(get_task("mnli"), "en", "train", data(""))


def test_missing_files_say_where_was_looked_and_what_to_download(tmp_path):
    with pytest.raises(XtlError) as error:
        sources.load(get_task("hellaswag"), "en", "dev", data(tmp_path))
    assert "hellaswag_val.jsonl" in str(error.value) and "github.com/rowanz/hellaswag" in str(error.value)
    assert "\n" not in str(error.value)


def test_language_that_a_mixed_file_lacks_is_named():
    with pytest.raises(XtlError, match=r"xnli\.test\.tsv has nothing for 'fr', only de, en, sw"):
        sources.load(get_task("xnli"), "fr", "test", data())


def test_file_without_examples_is_an_error(copy):
    root = copy("hellaswag")
    (root / "hellaswag" / "hellaswag_val.jsonl").write_text("\n")
    with pytest.raises(XtlError, match=r"no examples for language 'en', split 'dev' in .*hellaswag_val\.jsonl"):
        sources.load(get_task("hellaswag"), "en", "dev", data(root))


def test_wrong_names_suggest_the_nearest():
    with pytest.raises(XtlError, match=r"no split 'tset'\. Did you mean 'test'"):
        sources.load(get_task("xnli"), "en", "tset", data())
    with pytest.raises(XtlError, match=r"data\.source 'file' is unknown\. Did you mean 'files'"):
        sources.load(get_task("xnli"), "en", "test", data(source="file"))
    with pytest.raises(XtlError, match=r"task udpos has no data option 'fuse'\."):
        sources.load(get_task("udpos"), "de", "test", data(options={"udpos": {"fuse": True}}))


def test_largest_of_a_files_variants_is_read(copy):
    root = copy("mnli")
    folder = root / "mnli" / "MNLI"
    header, *rows = (folder / "train.tsv").read_text().splitlines(keepends=True)
    (folder / "train_9k.tsv").write_text(header + "".join(rows) * 3)
    loaded = sources.load(get_task("mnli"), "en", "train", data(root))
    assert loaded.files == (str(folder / "train_9k.tsv"),)
    (folder / "train_9k.tsv").write_text(header + rows[0])
    assert sources.load(get_task("mnli"), "en", "train", data(root)).files == (str(folder / "train.tsv"),)


def test_revision_is_of_content_not_of_place(copy):
    task, root = get_task("mlqa"), copy("mlqa")
    assert sources.revision(task, data(root)) == sources.revision(task, data())


def test_revision_changes_with_content_and_with_options(copy):
    task, root = get_task("mlqa"), copy("mlqa")
    file = root / "mlqa/MLQA_V1/test/test-context-de-question-de.json"
    before = sources.revision(task, data(root), language="de", split="test")
    other = sources.revision(task, data(root), language="zh", split="test")
    file.write_text(file.read_text().replace("1901", "1902"))
    os.utime(file, ns=(1, 1))
    assert sources.revision(task, data(root), language="de", split="test") != before
    assert sources.revision(task, data(root), language="zh", split="test") == other
    udpos = get_task("udpos")
    plain = {"udpos": {"fusion": False}}
    assert sources.revision(udpos, data(options=plain)) != sources.revision(udpos, data())


def test_revision_of_a_join_covers_its_parts(copy):
    root = copy("snli", "mnli", "anli")
    before = sources.revision(get_task("anli_plus"), data(root))
    file = root / "anli/anli_v1.0/R3/train.jsonl"
    file.write_text(file.read_text() * 2)
    assert sources.revision(get_task("anli_plus"), data(root)) != before
