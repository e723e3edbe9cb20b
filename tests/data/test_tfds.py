"""Source tfds: data sets in TFDS's own format, read without TensorFlow."""

import socket
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from xtl.data import sources
from xtl.data.settings import Data
from xtl.data.sources import tfds
from xtl.errors import XtlError
from xtl.task import NLI, PANX_TAGS, UPOS
from xtl.tasks import catalog, get_task

ENTAILMENT_FIRST = ["entailment", "neutral", "contradiction"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A TFDS data folder with a few prepared data sets."""
    import tensorflow_datasets as library

    from tests.fixtures.tfds_sets.builder import prepare

    f = library.features
    root = tmp_path_factory.mktemp("tfds")
    label = f.ClassLabel(names=ENTAILMENT_FIRST)
    pair = {"premise": f.Text(), "hypothesis": f.Text(), "label": label}
    prepare(
        root,
        "glue/mnli",
        {**pair, "idx": f.Scalar(dtype=np.int32)},
        {
            "train": [
                {"premise": "The lämp is lit.", "hypothesis": "It is dark.", "label": 2, "idx": 0},
                {"premise": "The lämp is lit.", "hypothesis": "It is lit.", "label": 0, "idx": 1},
            ],
            "validation_matched": [{"premise": "a", "hypothesis": "b", "label": 1, "idx": 0}],
            "test_matched": [{"premise": "a", "hypothesis": "b", "label": -1, "idx": 0}],
        },
    )
    prepare(root, "snli", pair, {"train": [{"premise": "a", "hypothesis": "b", "label": x} for x in (0, -1)]})
    for r in ("r1", "r2", "r3"):
        columns = {"uid": f.Text(), "context": f.Text(), "hypothesis": f.Text(), "label": label}
        row = {"uid": r, "context": "c", "hypothesis": "h", "label": 2}
        prepare(root, f"anli/{r}", columns, {"train": [row], "validation": [row], "test": [row]})
    answers = f.Sequence({"text": f.Text(), "answer_start": f.Scalar(dtype=np.int32)})
    question = {"id": f.Text(), "title": f.Text(), "context": f.Text(), "question": f.Text(), "answers": answers}
    context = "Gati la Holm lilijengwa mwaka 1901. 🛶"

    def asked(id, start=30):
        row = {"id": id, "title": "", "context": context, "question": "Lini?"}
        return {**row, "answers": {"text": ["1901"], "answer_start": [start]}}

    rows = [asked("swahili-1-0"), asked("english-2-0"), asked("swahili-3-0", start=28)]
    prepare(root, "tydi_qa/goldp", question, {"train": rows, "validation": rows})
    tags = f.Sequence(f.ClassLabel(names=["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]))
    sentence = {"tokens": ["Ada", "huko", "Holm"], "tags": [1, 0, 5]}
    prepare(root, "wikiann/sw", {"tokens": f.Sequence(f.Text()), "tags": tags}, {"validation": [sentence]})
    upos = f.Sequence(f.ClassLabel(names=["_", *sorted(UPOS)]))
    row = {"tokens": ["in", "dem", "Regen"], "upos": ["ADP", "DET", "NOUN"]}
    prepare(root, "xtreme_pos/xtreme_pos_de", {"tokens": f.Sequence(f.Text()), "upos": upos}, {"test": [row]})
    nested = {
        "premise": f.FeaturesDict({"de": f.Text(), "sw": f.Text()}),
        "hypothesis": f.Sequence({"language": f.Text(), "translation": f.Text()}),
        "label": label,
    }
    hypothesis = {"language": ["de", "sw"], "translation": ["Es ist da.", "Iko hapa."]}
    row = {"premise": {"de": "Der Brief kam.", "sw": "Barua ilifika."}, "hypothesis": hypothesis, "label": 0}
    prepare(root, "xnli", nested, {"test": [row]})
    text = {"context": f.Text(), "endings": f.Sequence(f.Text()), "label": f.Scalar(dtype=np.int64)}
    row = {"context": "A man throws a rope. he", "endings": ["ties it.", "eats.", "flies.", "waits."], "label": 3}
    prepare(root, "hellaswag", text, {"train": [row]})
    return root


def load(folder, task, language, split, **options):
    data = Data(source="tfds", root=str(folder), options={task: options} if options else {})
    return sources.load(get_task(task), language, split, data)


def test_reading_needs_no_tensorflow(folder):
    load(folder, "mnli", "en", "train")
    assert "tensorflow" not in sys.modules


def test_nli_labels_are_put_in_our_order_by_their_names(folder):
    by_text = {e.b: NLI[e.label] for e in load(folder, "mnli", "en", "train").examples}
    assert by_text == {"It is dark.": "contradiction", "It is lit.": "entailment"}
    assert load(folder, "mnli", "en", "dev").examples[0].label == NLI.index("neutral")


def test_text_comes_decoded(folder):
    assert load(folder, "mnli", "en", "train").examples[0].a == "The lämp is lit."


def test_hidden_and_missing_labels_differ(folder):
    assert load(folder, "mnli", "en", "test").examples[0].label is None
    loaded = load(folder, "snli", "en", "train")
    assert len(loaded.examples) == 1 and loaded.dropped == {"no gold label": 1}


def test_rounds_of_anli_are_joined_and_ids_stay_apart(folder):
    assert [e.id for e in load(folder, "anli", "en", "train").examples] == ["r1", "r2", "r3"]
    ids = [e.id for e in load(folder, "anli_plus", "en", "train").examples]
    assert len(ids) == 1 + 2 + 3 and ids[0].startswith("snli:")


def test_one_language_of_a_mixed_set_is_picked_and_offsets_are_repaired(folder):
    loaded = load(folder, "tydiqa", "sw", "test")
    assert sorted(e.id for e in loaded.examples) == ["swahili-1-0", "swahili-3-0"]
    assert {e.answers for e in loaded.examples} == {(("1901", 30),)}
    assert loaded.dropped == {"answer offset repaired": 1}


def test_tags_are_put_in_our_order_by_their_names(folder):
    example = load(folder, "panx", "sw", "dev").examples[0]
    assert [PANX_TAGS[t] for t in example.tags] == ["B-PER", "O", "B-LOC"]


def test_trap_15_5_syntactic_words_are_taken_only_on_request(folder):
    with pytest.raises(XtlError, match=r"syntactic words.*data\.options\.udpos\.fusion=False"):
        load(folder, "udpos", "de", "test")
    example = load(folder, "udpos", "de", "test", fusion=False).examples[0]
    assert [UPOS[t] for t in example.tags] == ["ADP", "DET", "NOUN"]


def test_languages_nested_in_a_row_are_taken_apart(folder):
    example = load(folder, "xnli", "sw", "test").examples[0]
    assert (example.a, example.b, NLI[example.label]) == ("Barua ilifika.", "Iko hapa.", "entailment")
    with pytest.raises(XtlError, match="no hypothesis in 'fr'"):
        load(folder, "xnli", "fr", "test")


def test_whole_contexts_are_prompts_where_the_split_is_lost(folder):
    example = load(folder, "hellaswag", "en", "train").examples[0]
    assert example.prompt.endswith("rope. he") and example.choices[0] == "ties it." and example.label == 3


def test_what_is_not_prepared_is_named_with_the_command(folder, monkeypatch):
    import tensorflow_datasets as library

    def absent(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(library, "builder", absent)
    with pytest.raises(
        XtlError, match=r"squad/v1\.1 is not prepared .*tfds build squad/v1\.1 --file_format=array_record"
    ):
        load(folder, "squad_v1", "en", "dev")


# ---------------------------------------------------------------- preparing


@pytest.fixture
def closed():
    """The host and port of nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def server():
    """A server that has nothing but errors."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def prepares(monkeypatch):
    """A function (addresses, folder) -> whether TFDS is let prepare a set that is downloaded from them."""
    import tensorflow_datasets as library

    def run(addresses, folder):
        begun = []
        builder = SimpleNamespace(
            name="snli", url_infos=dict.fromkeys(addresses), download_and_prepare=lambda: begun.append(1)
        )
        monkeypatch.setattr(library, "builder", lambda *args, **kwargs: builder)
        with pytest.raises(XtlError, match="snli"):
            load(folder, "snli", "en", "train")
        return bool(begun)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    tfds._fault.cache_clear()
    yield run
    tfds._fault.cache_clear()


def test_without_internet_a_set_that_is_not_prepared_is_named_within_seconds(tmp_path, monkeypatch, closed):
    """The library's own builder; a proxy that is not there stands for the network that is not."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://{closed}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    tfds._fault.cache_clear()
    begin = time.monotonic()
    with pytest.raises(XtlError, match=r"snli is not prepared .*nlp\.stanford\.edu.*; run `tfds build snli") as error:
        load(tmp_path, "snli", "en", "train")
    tfds._fault.cache_clear()
    assert "\n" not in str(error.value)
    assert time.monotonic() - begin < 15  # the library by itself: 200


def test_host_is_looked_for_more_than_once_but_by_a_process_only_once(tmp_path, prepares, closed, monkeypatch):
    import requests

    asked = []

    def fail(address, **kwargs):
        asked.append(address)
        raise requests.ConnectionError("down")

    monkeypatch.setattr(requests, "get", fail)
    for _ in range(2):
        assert not prepares([f"http://{closed}/a", f"http://{closed}/b"], tmp_path)
    assert asked == [f"http://{closed}/b"] * 3


def test_network_that_swallows_everything_is_given_up_on(monkeypatch):
    monkeypatch.setattr(tfds, "REACH_S", 0.2)
    monkeypatch.setattr("requests.get", lambda *args, **kwargs: threading.Event().wait())
    with pytest.raises(XtlError, match=r"no connection to a\.example, b\.example in 0\.2 s"):
        tfds._reach(("https://a.example/x", "https://b.example/x"))


def test_host_that_answers_anything_is_left_to_tfds(tmp_path, prepares, closed, server):
    assert prepares([f"http://{closed}/a", f"http://{server}/a"], tmp_path)


def test_what_needs_no_host_is_left_to_tfds(tmp_path, prepares, closed):
    assert prepares([], tmp_path)
    assert not prepares([f"http://{closed}/a"], tmp_path)
    fetched = tmp_path / "downloads/snli/a.zip.INFO"
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    assert prepares([f"http://{closed}/a"], tmp_path)


# ---------------------------------------------------------------- what there is


def test_missing_split_lists_those_there(folder):
    with pytest.raises(XtlError, match=r"wikiann/sw in .* has no split 'test'; it has: validation"):
        load(folder, "panx", "sw", "test")


def test_newest_version_is_read(tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        (tmp_path / "snli" / version).mkdir(parents=True)
        (tmp_path / "snli" / version / "dataset_info.json").write_text("{}")
    assert tfds.prepared("snli", tmp_path).name == "1.10.0"


def test_revision_follows_the_prepared_data(folder, tmp_path):
    task, data = get_task("mnli"), Data(source="tfds", root=str(folder))
    one = sources.revision(task, data, language="en", split="train")
    assert one == sources.revision(task, data, language="en", split="train")
    assert one != sources.revision(task, replace(data, root=str(tmp_path)), language="en", split="train")


def test_trap_15_4_tfds_bucc_is_not_offered():
    with pytest.raises(XtlError, match=r"task bucc2018 cannot be loaded from source 'tfds'; it can from: files, hub"):
        load("", "bucc2018", "de", "test")


def test_tables_declare_only_splits_and_languages_of_their_task():
    for task in catalog().values():
        if task.tfds is not None:
            for language in (*task.languages, *task.languages_r):
                assert set(tfds.splits(task, language, options={})) <= set(task.splits)
