"""Source hub: tables in the real repositories' layouts, patience with the network. No test here opens a connection."""

import httpx2
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from xtl import network
from xtl.data import sources
from xtl.data.settings import Data
from xtl.data.sources import hub
from xtl.errors import Absent, XtlError
from xtl.task import NLI, PANX_TAGS, UPOS
from xtl.tasks import catalog, get_task

TEXT = Value("string")
NLI_LABEL = ClassLabel(names=["entailment", "neutral", "contradiction"])


@pytest.fixture
def serve(monkeypatch):
    """Stand-ins for repositories: {(repo, config, split): Dataset}; what is asked for is recorded."""
    asked = []

    def with_tables(tables):
        def download(repo, config, split, *, revision=""):
            asked.append((repo, config, split))
            return tables.get((repo, config, split))

        monkeypatch.setattr(hub, "download", download)
        return asked

    return with_tables


def table(features, *rows):
    return Dataset.from_list([dict(zip(features, row, strict=True)) for row in rows], features=Features(features))


def load(task, language, split, root="", **options):
    data = Data(source="hub", root=str(root), options={task: options} if options else {})
    return sources.load(get_task(task), language, split, data)


# ---------------------------------------------------------------- tables


def test_trap_15_1_label_names_of_the_data_set_decide(serve):
    columns = {"premise": TEXT, "hypothesis": TEXT, "label": NLI_LABEL, "idx": Value("int32")}
    other = {**columns, "label": ClassLabel(names=["neutral", "contradiction", "entailment"])}
    rows = [("a", "b", i, i) for i in range(3)]
    serve(
        {
            ("nyu-mll/glue", "mnli", "train"): table(columns, *rows),
            ("nyu-mll/glue", "mnli", "validation_matched"): table(other, *rows),
            ("nyu-mll/glue", "mnli", "test_matched"): table(columns, ("a", "b", -1, 0)),
        }
    )
    assert [NLI[e.label] for e in load("mnli", "en", "train").examples] == ["entailment", "neutral", "contradiction"]
    assert [NLI[e.label] for e in load("mnli", "en", "dev").examples] == ["neutral", "contradiction", "entailment"]
    assert load("mnli", "en", "test").examples[0].label is None


def test_integers_without_names_are_read_in_the_declared_order(serve):
    columns = {"premise": TEXT, "hypothesis": TEXT, "label": Value("int64")}
    serve({("facebook/xnli", "sw", "test"): table(columns, *[("a", "b", i) for i in range(3)])})
    assert [NLI[e.label] for e in load("xnli", "sw", "test").examples] == ["entailment", "neutral", "contradiction"]


@pytest.fixture
def listed(monkeypatch):
    """Stand-ins for what the hub says of branches: {(repo, branch): (commit, files)}."""
    branches = {}

    def repository(repo, revision):
        if (repo, revision) not in branches:
            raise Absent(f"{repo}: not on the hub")
        return branches[repo, revision]

    monkeypatch.setattr(hub, "repository", repository)
    hub.locate.cache_clear()
    yield branches
    hub.locate.cache_clear()


def test_trap_15_2_script_only_repository_is_read_from_the_parquet_conversion(listed):
    parts = ("default/validation/0000.parquet", "default/train/0000.parquet", "default/train/0001.parquet")
    listed["allenai/cosmos_qa", "main"] = ("abc", ("README.md", "cosmos_qa.py"))
    listed["allenai/cosmos_qa", "refs/convert/parquet"] = ("def", parts)
    located = hub.locate("allenai/cosmos_qa", "", "main")
    assert located.sha == "def" and located.files == {"validation": [parts[0]], "train": [*parts[1:]]}


def test_script_without_conversion_is_one_line(listed):
    listed["owner/name", "main"] = ("abc", ("name.py",))
    with pytest.raises(XtlError, match=r"owner/name: only a loading script, and no parquet conversion"):
        hub.download("owner/name", "", "train")


def test_split_that_lacks_a_file_is_not_read_in_part():
    located = hub.Located("owner/name", "", "abc", {"train": ["data/train-00000-of-00002.parquet"]})
    with pytest.raises(XtlError, match=r"owner/name: only 1 of 2 files of split 'train' are there"):
        hub._tables(located, located.files, "train[:10]")


def test_trap_15_3_stripped_contexts_are_repaired(serve):
    columns = {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT}
    columns["answers"] = {"text": List(TEXT), "answer_start": List(Value("int32"))}
    rows = [("swahili-1-0", "", "Gati 1901.", "Lini?", {"text": ["1901"], "answer_start": [7]})]
    rows += [("english-2-0", "", "Pier 1901.", "When?", {"text": ["1901"], "answer_start": [5]})]
    serve({("google-research-datasets/tydiqa", "secondary_task", "validation"): table(columns, *rows)})
    loaded = load("tydiqa", "sw", "test")
    assert [(e.id, e.answers) for e in loaded.examples] == [("swahili-1-0", (("1901", 5),))]
    assert loaded.dropped == {"answer offset repaired": 1}


def test_trap_15_4_bucc_gold_pairs_are_not_offered_as_the_task(serve):
    serve({})
    with pytest.raises(
        XtlError, match=r"no table for language 'de', split 'dev': google/xtreme and TFDS hold the gold"
    ):
        load("bucc2018", "de", "dev")


def test_bucc_corpora_come_with_distractors_and_gold(serve):
    columns = {"sentence1": List(TEXT), "sentence2": List(TEXT), "gold": List(List(Value("int64")))}
    serve({("mteb/BUCC", "de-en", "test"): table(columns, (["Boot", "Lampe"], ["x", "boat", "y"], [[1, 2]]))})
    loaded = load("bucc2018", "de", "test")
    assert len(loaded.examples) == 5 and loaded.gold == [("de-000000001", "en-000000002")]


def test_trap_15_5_syntactic_words_are_taken_only_on_request(serve):
    columns = {"tokens": List(TEXT), "pos_tags": List(ClassLabel(names=list(UPOS)))}
    words = table(columns, (["in", "dem"], ["ADP", "DET"]))
    asked = serve(
        {("google/xtreme", "udpos.German", "test"): words, ("google/xtreme", "udpos.Afrikans", "test"): words}
    )
    with pytest.raises(XtlError, match=r"data\.options\.udpos\.fusion=False takes them"):
        load("udpos", "de", "test")
    assert load("udpos", "de", "test", fusion=False).examples[0].words == ("in", "dem")
    load("udpos", "af", "test", fusion=False)
    assert asked[-2:] == [("google/xtreme", "udpos.Afrikaans", "test"), ("google/xtreme", "udpos.Afrikans", "test")]


def test_trap_15_13_string_labels_of_the_hub(serve):
    columns = {"ind": Value("int32"), "ctx_a": TEXT, "ctx_b": TEXT, "endings": List(TEXT), "label": TEXT}
    rows = [(1, "A man.", "he", ["a", "b", "c", "d"], "2")]
    serve(
        {
            ("Rowan/hellaswag", "", "train"): table(columns, *rows),
            ("Rowan/hellaswag", "", "test"): table(columns, (1, "A man.", "he", ["a", "b", "c", "d"], "")),
        }
    )
    assert load("hellaswag", "en", "train").examples[0].label == 2
    assert load("hellaswag", "en", "test").examples[0].label is None


def test_tag_names_decide_their_order(serve):
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
    columns = {"tokens": List(TEXT), "ner_tags": List(ClassLabel(names=names)), "langs": List(TEXT)}
    serve({("unimelb-nlp/wikiann", "sw", "validation"): table(columns, (["Ada", "ya"], [1, 0], ["sw", "sw"]))})
    assert [PANX_TAGS[t] for t in load("panx", "sw", "dev").examples[0].tags] == ["B-PER", "O"]


def test_tatoeba_sentences_lose_their_line_feed(serve):
    columns = {"source_sentence": TEXT, "target_sentence": TEXT, "source_lang": TEXT, "target_lang": TEXT}
    rows = [("Boot\n", "boat\n", "deu", "eng"), ("Anker\n", "anchor\n", "deu", "eng")]
    serve({("google/xtreme", "tatoeba.deu", "validation"): table(columns, *rows)})
    loaded = load("tatoeba", "de", "test")
    assert [e.text for e in loaded.examples] == ["anchor", "boat", "Boot", "Anker"]
    assert loaded.gold == [("eng-1", "deu-1"), ("eng-0", "deu-0")]


def test_copa_and_commonsense_columns_of_the_hub(serve):
    copa = {"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": TEXT, "idx": Value("int32")}
    copa["label"] = ClassLabel(names=["choice1", "choice2"])
    flat = {"id": TEXT, "question": TEXT, "choices": {"label": List(TEXT), "text": List(TEXT)}, "answerKey": TEXT}
    options = {"label": list("ABCDE"), "text": ["v", "w", "x", "y", "z"]}
    serve(
        {
            ("aps/super_glue", "copa", "validation"): table(copa, ("p", "a", "b", "cause", 7, 1)),
            ("tau/commonsense_qa", "", "validation"): table(flat, ("q", "Where?", options, "C")),
        }
    )
    assert (load("copa", "en", "dev").examples[0].label, load("copa", "en", "dev").examples[0].id) == (1, "7")
    example = load("commonsenseqa", "en", "dev").examples[0]
    assert (example.prompt, example.choices[example.label]) == ("Where?", "x")


def test_another_repository_of_the_same_task_can_be_chosen(serve):
    columns = {"language": TEXT, "sentence1": TEXT, "sentence2": TEXT, "gold_label": TEXT}
    rows = [("sw", "a", "b", "entailment"), ("de", "c", "d", "neutral")]
    asked = serve({("google/xtreme", "XNLI", "test"): table(columns, *rows)})
    assert [e.a for e in load("xnli", "sw", "test", repo="google/xtreme").examples] == ["a"]
    assert asked == [("google/xtreme", "XNLI", "test")]


def test_wikipedia_paragraphs_are_mlm_text_and_articles_are_held_out_whole(serve):
    long = "A sentence that is long enough to count as text."
    rows = [(f"{long} {i}\n\nHead\n{long} {long} {i}",) for i in range(200)]
    serve({("wikimedia/wikipedia", "20231101.fi", "train[:200]"): table({"text": TEXT}, *rows)})
    train, dev = (load("mlm", "fi", s, articles=200).examples for s in ("train", "dev"))
    assert len(train) + len(dev) == 400 and dev
    assert not {e.id.split("-")[0] for e in train} & {e.id.split("-")[0] for e in dev}


def test_missing_repositories_are_listed(serve):
    serve({})
    with pytest.raises(XtlError, match=r"looked for facebook/mlqa mlqa\.de\.de, google/xtreme MLQA\.de\.de"):
        load("mlqa", "de", "test")


def test_missing_column_names_the_row_and_the_columns(serve):
    serve({("facebook/xnli", "sw", "test"): table({"text": TEXT, "label": NLI_LABEL}, ("a", 0))})
    with pytest.raises(XtlError, match=r"facebook/xnli sw test row 0: no column 'premise' \(found: text, label\)"):
        load("xnli", "sw", "test")


def test_saved_copy_below_the_root_is_read_without_a_server(tmp_path, monkeypatch):
    columns = {"premise": TEXT, "hypothesis": TEXT, "label": NLI_LABEL}
    table(columns, ("a", "b", 2)).save_to_disk(str(tmp_path / "hub/facebook--xnli/sw/test"))
    monkeypatch.setattr(hub, "download", lambda *a, **k: pytest.fail("asked a server"))
    monkeypatch.setattr(hub, "locate", lambda *a: pytest.fail("asked a server"))
    assert NLI[load("xnli", "sw", "test", root=tmp_path).examples[0].label] == "contradiction"
    data = Data(source="hub", root=str(tmp_path))
    assert sources.revision(get_task("xnli"), data, language="sw", split="test")


def test_revision_is_the_commit_of_the_first_table_that_is_there(monkeypatch):
    there = {"facebook/xnli": "abc", "google/xtreme": "xyz"}

    def locate(repo, config, revision):
        if repo not in there:
            raise Absent(repo)
        return hub.Located(repo, config, there[repo], {}) if there[repo] else None

    monkeypatch.setattr(hub, "locate", locate)

    def revision():
        return hub.revision(get_task("xnli"), "sw", "test", options={})

    assert revision() == "facebook/xnli@abc"
    there["facebook/xnli"] = ""  # without this config
    assert revision() == "google/xtreme@xyz"
    del there["google/xtreme"]
    assert revision() == ""


def test_tables_declare_only_splits_of_their_task():
    for task in catalog().values():
        if task.hub is not None:
            for language in sources.every_language(task):
                assert set(hub.splits(task, language, options={})) <= set(task.splits)


# ---------------------------------------------------------------- patience


@pytest.fixture
def waits(monkeypatch):
    seen = []
    monkeypatch.setattr("time.sleep", seen.append)
    return seen


def failing(*errors):
    errors = list(errors)

    def action():
        if errors:
            raise errors.pop(0)
        return "done"

    return action


def response(status, **headers):
    from huggingface_hub.errors import HfHubHTTPError

    request = httpx2.Request("GET", "http://127.0.0.1/x")
    answer = httpx2.Response(status, headers=headers, request=request)
    return HfHubHTTPError(f"{status} for x\nsecond line", response=answer)


def test_dropped_connections_and_server_errors_are_tried_again(waits):
    action = failing(
        httpx2.ReadError("cut"), ConnectionError("reset"), response(503), httpx2.RemoteProtocolError("end")
    )
    assert network.patiently(action, what="x") == "done"
    assert waits == [2, 4, 8, 16]


def test_too_many_requests_waits_as_long_as_asked(waits):
    assert network.patiently(failing(response(429, **{"Retry-After": "33"})), what="x") == "done"
    assert waits == [33]


def test_cut_off_download_is_tried_again(waits):
    error = OSError("Consistency check failed: file should be of size 10 but has size 3")
    assert network.patiently(failing(error), what="x") == "done"
    assert len(waits) == 1


def test_end_of_patience_is_one_line_that_names_the_repository(waits):
    with pytest.raises(XtlError, match=r"^owner/name: the hub cannot be read \(5 attempts\): 503 for x$"):
        network.patiently(failing(*[response(503)] * 9), what="owner/name")
    assert len(waits) == 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refusals_are_not_tried_again(waits, status):
    with pytest.raises(XtlError, match=rf"the hub cannot be read: {status}"):
        network.patiently(failing(response(status)), what="x")
    assert waits == []


def test_missing_repository_is_not_tried_again(waits):
    from datasets.exceptions import DatasetNotFoundError

    with pytest.raises(XtlError, match=r"owner/nmae: not on the hub, or not open to you"):
        network.patiently(failing(DatasetNotFoundError("Dataset 'owner/nmae' doesn't exist")), what="owner/nmae")
    assert waits == []


def test_causes_are_looked_through(waits):
    wrapped = RuntimeError("generation failed")
    wrapped.__cause__ = httpx2.ReadTimeout("slow")
    assert network.patiently(failing(wrapped), what="x") == "done"


def test_errors_that_are_not_of_the_network_pass_through(waits):
    with pytest.raises(ZeroDivisionError):
        network.patiently(failing(ZeroDivisionError()), what="x")


def test_offline_mode_is_reported_at_once(waits):
    from huggingface_hub.errors import OfflineModeIsEnabled

    with pytest.raises(XtlError, match="the hub cannot be read: Cannot reach x: offline mode is enabled"):
        network.patiently(failing(OfflineModeIsEnabled("Cannot reach x: offline mode is enabled")), what="x")
    wrapped = ConnectionError("Couldn't reach x (OfflineModeIsEnabled)")
    with pytest.raises(XtlError, match=r"the hub cannot be read: Couldn't reach x \(OfflineModeIsEnabled\)"):
        network.patiently(failing(wrapped), what="x")
    assert waits == []


def test_offline_repository_is_that_of_the_local_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "datasets--facebook--xnli"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc123")
    (folder / "snapshots/abc123/sw").mkdir(parents=True)
    (folder / "snapshots/abc123/sw/test-00000-of-00001.parquet").touch()
    hub.repository.cache_clear()
    assert hub.repository("facebook/xnli", "main") == ("abc123", ("sw/test-00000-of-00001.parquet",))
    with pytest.raises(network.Offline, match="owner/unknown: offline mode is enabled"):
        hub.repository("owner/unknown", "main")
    hub.repository.cache_clear()
