"""The hub spoken to over HTTP: every repository of the catalog, checkpoints by id, and a server that fails.

The loading code runs unmodified in a process of its own, against a server on the loopback interface.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from tests.support import hub_repositories as repositories
from tests.support.hub_server import Hub, parquet
from tests.support.small_tokenizer import rust_tokenizer, small_tokenizer
from xtl.data.sources.formats.tables import JoinedTables
from xtl.models.encoder import Encoder, EncoderConfig
from xtl.models.hf.save import save_hf
from xtl.task import NLI, PANX_TAGS, UPOS
from xtl.tasks import catalog

CONFIG = EncoderConfig(vocab_size=64, hidden=32, layers=2, heads=4, mlp=64, max_positions=34)
pytestmark = pytest.mark.procs


class Client:
    """A process with a cache of its own that is told what to load."""

    def __init__(self, hub: Hub, cache: Path, **environment: str):
        self.hub, self.cache = hub, cache
        left_out = {"HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN"}
        env = {k: v for k, v in os.environ.items() if k not in left_out}
        env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "NO_PROXY": "*"}
        env |= {"HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_ETAG_TIMEOUT": "2"}
        env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "JAX_NUM_CPU_DEVICES": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.hub_client"],
            env=env | environment,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, do, **what):
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def load(self, task, language, split, **options):
        """What loading gives; the test fails if that is an error."""
        answer = self.ask("load", task=task, language=language, split=split, options={task: options})
        assert "made" in answer, answer.get("crash") or answer
        return answer["made"]

    def error(self, task, language, split, **options):
        """The one line that loading ends with."""
        answer = self.ask("load", task=task, language=language, split=split, options={task: options})
        assert "error" in answer, answer.get("crash") or answer
        assert "\n" not in answer["error"]
        return answer["error"]

    def assert_cache_is_sound(self):
        """Large files have the content of their name, and nothing half-done has a final name."""
        for blob in (self.cache / "hub").glob("*/blobs/*"):
            if len(blob.name) == 64:
                assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        for link in (self.cache / "hub").glob("*/snapshots/**/*.parquet"):
            assert link.resolve().is_file()

    def stop(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def hub():
    with Hub() as server:
        repositories.add_all(server)
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    process = Client(hub, tmp_path_factory.mktemp("cache"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def table():
    """Enough rows that half of the file is not the whole."""
    return repositories.rows(repositories.PAIR, *((f"premise {i}", f"hypothesis {i * i}", i % 3) for i in range(2000)))


@pytest.fixture
def xnli(hub, client, table):
    """facebook/xnli under a new commit, so that nothing of it is in the cache: (fail on a file, load)."""
    hub.faults.clear()
    salt = repositories.rows(repositories.PAIR, (os.urandom(8).hex(), "b", 0))
    from datasets import concatenate_datasets

    fresh = concatenate_datasets([table, salt])
    hub.repositories.pop(("datasets", "facebook/xnli"))
    hub.add_tables("facebook/xnli", {"sw": {"validation": fresh, "test": fresh}})
    assert client.ask("forget") == {"made": None}
    yield fresh
    hub.faults.clear()
    client.assert_cache_is_sound()


def texts(loaded):
    return [e[1] for e in loaded["examples"]]


# ---------------------------------------------------------------- repositories

LOADED = [  # task, language, split, options; then fields of the first example
    ("mnli", "en", "train", {}, ["0", "It is lit.", "It is dark.", NLI.index("contradiction")]),
    ("mnli", "en", "dev", {"domain": "mismatched"}, ["0", "mismatched", "b", NLI.index("neutral")]),
    ("mnli", "en", "test", {}, ["0", "a", "b", None]),
    ("mnli", "de", "train", {}, ["0", "de", "translated", NLI.index("neutral")]),
    ("mnli", "en", "train", {"repo": "nyu-mll/multi_nli"}, ["0", "It is lit.", "It is dark.", 0]),
    ("qqp", "en", "train", {}, ["0", "Why?", "How come?", 1]),
    ("snli", "en", "train", {}, ["0", "a", "b", NLI.index("entailment")]),
    ("anli", "en", "dev", {}, ["dev1", "p", "h", NLI.index("contradiction")]),
    ("anli_plus", "en", "train", {}, ["snli:0", "a", "b", NLI.index("entailment")]),
    ("xnli", "sw", "test", {}, ["0", "sw", "t", NLI.index("contradiction")]),
    ("xnli", "sw", "dev", {"repo": "google/xtreme"}, ["0", "a", "b", NLI.index("entailment")]),
    ("pawsx", "de", "dev", {}, ["1", 'Der "Brief" kam.', "Er kam.", 1]),
    ("pawsx", "de", "dev", {"repo": "google/xtreme"}, ["0", "Ein Satz.", "Kein Satz.", 0]),
    ("squad_v1", "en", "dev", {}, ["q1", "Wer?", "Ada fährt nach Holm. 🛶 Gut.", [["Holm", 15]]]),
    ("squad_v1", "de", "train", {}, ["q1", "Wer?", "Ada fährt nach Holm. 🛶 Gut.", [["Holm", 15]]]),
    ("squad_v2", "en", "dev", {}, ["q1", "Wer?", "Ada fährt nach Holm. 🛶 Gut.", [["Holm", 15]]]),
    ("tydiqa", "sw", "test", {}, ["swahili-1-0", "Wer?", "Gati 1901.", [["1901", 5]]]),
    ("tydiqa", "en", "train", {"repo": "google/xtreme"}, ["english-2-0", "Wer?", "Pier 1901.", [["1901", 5]]]),
    ("mlqa", "de", "test", {}, ["q1", "Wer?", "Ada fährt nach Holm. 🛶 Gut.", [["Holm", 15]]]),
    ("mlqa", "de", "dev", {"repo": "google/xtreme"}, ["q1", "Wer?", "Ada fährt nach Holm.", [["Holm", 15]]]),
    ("xquad", "de", "test", {}, ["q1", "Wer?", "Ada fährt nach Holm. 🛶 Gut.", [["Holm", 15]]]),
    ("xquad", "de", "test", {"repo": "google/xtreme"}, ["q1", "Wer?", "Ada fährt nach Holm.", [["Holm", 15]]]),
    ("covidqa", "en", "train", {}, ["262", "How?", "Fever spreads by river.", [["by river", 14]]]),
    ("covidqa", "en", "train", {"passage": 8}, ["262", "How?", "spreads by river.", [["by river", 8]]]),
    ("hellaswag", "en", "train", {}, ["0", "A man.", ["he a", "he b", "he c", "he d"], 2]),
    ("commonsenseqa", "en", "dev", {}, ["q", "Where?", ["v", "w", "x", "y", "z"], 0]),
    ("cosmosqa", "en", "train", {}, ["train", "It rained. Why?", ["a", "b", "c", "d"], 2]),
    ("cosmosqa", "en", "dev", {}, ["validation", "It rained. Why?", ["a", "b", "c", "d"], 3]),
    ("cosmosqa", "en", "test", {}, ["test", "It rained. Why?", ["a", "b", "c", "d"], None]),
    ("medmcqa", "en", "train", {}, ["train", "Why?", ["a", "b", "c", "d"], 0]),
    ("medmcqa", "en", "dev", {}, ["validation", "Why?", ["a", "b", "c", "d"], 3]),
    ("medmcqa", "en", "test", {}, ["test", "Why?", ["a", "b", "c", "d"], None]),
    ("socialiqa", "en", "dev", {}, ["0", "Ada left. Why?", ["a", "b", "c"], 1]),
    ("copa", "en", "dev", {}, ["7", "p What was the cause?", ["a", "b"], 1]),
    ("xcopa", "sw", "test", {}, ["3", "p What was the effect?", ["a", "b"], 1]),
    ("panx", "sw", "dev", {}, ["0", ["Ada", "huko"], [PANX_TAGS.index("B-PER"), PANX_TAGS.index("O")]]),
    ("panx", "sw", "test", {"repo": "google/xtreme"}, ["0", ["Ada", "huko"], [PANX_TAGS.index("B-PER"), 6]]),
    ("udpos", "de", "test", {"fusion": False}, ["0", ["in", "dem"], [UPOS.index("ADP"), UPOS.index("DET")]]),
    ("udpos", "af", "test", {"fusion": False}, ["0", ["in", "dem"], [UPOS.index("ADP"), UPOS.index("DET")]]),
    ("tatoeba", "de", "test", {}, ["eng-1", "anchor", "query"]),
    ("bucc2018", "de", "test", {}, ["de-000000001", "Boot", "query"]),
    ("mlm", "fi", "train", {"articles": 100}, None),
]


@pytest.mark.parametrize("task, language, split, options, first", LOADED)
def test_tables_of_the_real_layouts_load(hub, client, task, language, split, options, first):
    loaded = client.load(task, language, split, **options)
    assert first is None or loaded["examples"][0] == first


def test_every_repository_of_the_catalog_is_served_and_loaded(hub):
    specs = [task.hub for task in catalog().values() if task.hub is not None]
    tables = [t for spec in specs if not isinstance(spec, JoinedTables) for t in spec.at]
    assert {t.name for t in tables} <= {name for _, name in hub.repositories}
    assert {task.name for task in catalog().values() if task.hub is not None} == {case[0] for case in LOADED}


def test_only_the_split_asked_for_is_downloaded(hub, client, xnli):
    before = len(hub.requests)
    client.load("xnli", "sw", "test")
    assert not [r for _, r in hub.requests[before:] if "validation" in r]


def test_of_a_large_table_only_as_many_files_as_hold_the_rows_are_fetched(hub, client):
    assert len(client.load("mlm", "fi", "train", articles=100)["examples"]) in range(180, 201)
    files = {}
    for n in range(3):
        texts = [f"A sentence that is long enough to count as text {n} {i}." for i in range(60)]
        part = repositories.rows(repositories.ARTICLE, *((str(i), "u", "t", text) for i, text in enumerate(texts)))
        files[f"20231101.wo/train-0000{n}-of-00003.parquet"] = parquet(part)
    card = "---\nconfigs:\n- config_name: 20231101.wo\n  data_files:\n  - split: train\n"
    card += "    path: 20231101.wo/train-*\n---\n"
    before = dict(hub.repositories["datasets", "wikimedia/wikipedia"].branches["main"])
    hub.add("wikimedia/wikipedia", {**files, "README.md": card})
    client.ask("forget")
    splits = [client.load("mlm", "wo", s, articles=100)["examples"] for s in ("train", "dev")]
    assert sum(map(len, splits)) == 100
    assert hub.asked("train-00001-of-00003") and not hub.asked("train-00002-of-00003")
    splits = [client.load("mlm", "wo", s, articles=1000)["examples"] for s in ("train", "dev")]  # more than there are
    assert sum(map(len, splits)) == 180
    hub.repositories["datasets", "wikimedia/wikipedia"].branches["main"] = before
    client.ask("forget")


def test_tables_that_no_card_names_are_found_by_the_library(hub, client):
    main = hub.repositories["datasets", "Rowan/hellaswag"].branches["main"]
    card, main["README.md"] = main["README.md"], b"# HellaSwag\n"
    client.ask("forget")
    assert client.load("hellaswag", "en", "train")["examples"][0][3] == 2
    assert hub.asked("GET /api/datasets/Rowan/hellaswag/tree/")
    main["README.md"] = card
    client.ask("forget")


def test_trap_15_2_conversion_is_read_although_the_script_was_refused_before(client):
    first, second = (client.load("cosmosqa", "en", split)["examples"] for split in ("dev", "train"))
    assert (first[0][0], second[0][0]) == ("validation", "train")


def test_a_new_commit_is_noticed_and_read(hub, client, xnli):
    before = client.ask("revision", task="xnli", language="sw", split="test")
    assert texts(client.load("xnli", "sw", "test"))[0] == "premise 0"
    changed = repositories.rows(repositories.PAIR, ("other", "b", 0))
    hub.add_tables("facebook/xnli", {"sw": {"validation": changed, "test": changed}})
    assert client.ask("revision", task="xnli", language="sw", split="test") != before
    assert texts(client.load("xnli", "sw", "test")) == ["other"]


def test_what_was_fetched_is_read_offline_and_what_was_not_is_named(hub, client, xnli):
    online = client.load("xnli", "sw", "test")
    revision = client.ask("revision", task="xnli", language="sw", split="test")
    before = len(hub.requests)
    offline = Client(hub, client.cache, HF_HUB_OFFLINE="1")
    try:
        assert offline.load("xnli", "sw", "test") == online
        assert offline.ask("revision", task="xnli", language="sw", split="test") == revision
        assert "facebook/xnli sw/validation-00000-of-00001.parquet" in offline.error("xnli", "sw", "dev")
        assert len(hub.requests) == before
    finally:
        offline.stop()


def test_packed_copies_are_read_without_a_server(hub, client, xnli, tmp_path):
    online = client.load("xnli", "sw", "test")
    assert client.ask("pack", task="xnli", language="sw", split="test", folder=str(tmp_path))["made"]
    before = len(hub.requests)
    answer = client.ask("load", task="xnli", language="sw", split="test", root=str(tmp_path))
    assert answer["made"]["examples"] == online["examples"]
    assert len(hub.requests) == before


# ---------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def checkpoint(hub, tmp_path_factory):
    """A small XLM-R as a model repository; the sum of its weights."""
    params = nnx.state(Encoder(CONFIG, rngs=nnx.Rngs(params=3)), nnx.Param)
    folder = save_hf(tmp_path_factory.mktemp("model") / "hf", CONFIG, params)
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    files["tokenizer.json"] = rust_tokenizer().to_str().encode()
    repositories.add_checkpoint(hub, "FacebookAI/xlm-roberta-tiny", files)
    return sum(float(np.abs(leaf).sum()) for leaf in jax.tree.leaves(params))


def test_encoder_is_imported_by_its_id_from_a_hub_that_hesitates(hub, client, checkpoint):
    faults = [hub.fail("GET /api/models/FacebookAI/xlm-roberta-tiny", 503), hub.fail("safetensors", "drop")]
    encoder = client.ask("encoder", name="FacebookAI/xlm-roberta-tiny")["made"]
    assert (encoder["hidden"], encoder["layers"]) == (32, 2)
    assert encoder["sum"] == pytest.approx(checkpoint, rel=1e-5)
    assert not hub.asked("pytorch_model.bin")
    assert not any(fault.times for fault in faults), "each befell the import"


def test_tokenizer_is_loaded_by_its_id(client, checkpoint):
    tokenizer = client.ask("tokenizer", name="FacebookAI/xlm-roberta-tiny", text="the cat sat")
    assert tokenizer["made"] == small_tokenizer().encode_ids_batch(["the cat sat"])[0].tolist()


def test_unknown_checkpoints_are_one_line(client, checkpoint):
    assert "FacebookAI/xlm-roberta-tny" in client.ask("encoder", name="FacebookAI/xlm-roberta-tny")["error"]
    error = client.ask("tokenizer", name="FacebookAI/xlm-roberta-tny", text="x")["error"]
    assert "FacebookAI/xlm-roberta-tny tokenizer.json: not on the hub" in error


# ---------------------------------------------------------------- a server that fails


def test_connection_dropped_in_the_middle_is_resumed(hub, client, xnli):
    fault = hub.fail("GET /cdn/", "drop")
    assert texts(client.load("xnli", "sw", "test")) == xnli["premise"]
    assert fault.times == 0


def test_download_that_ends_early_is_tried_again(hub, client, xnli):
    fault = hub.fail("GET /cdn/", "cut")
    assert texts(client.load("xnli", "sw", "test")) == xnli["premise"]
    assert fault.times == 0


def test_content_with_a_wrong_checksum_is_fetched_again(hub, client, xnli):
    fault = hub.fail("GET /cdn/", "garble")
    assert texts(client.load("xnli", "sw", "test")) == xnli["premise"]
    assert fault.times == 0


def test_server_that_hangs_is_given_up_on_and_tried_again(hub, client, xnli):
    fault = hub.fail("HEAD .*parquet", "hang")
    assert texts(client.load("xnli", "sw", "test")) == xnli["premise"]
    assert fault.times == 0


@pytest.mark.parametrize("where", ["GET /api/datasets/facebook", "HEAD .*README", "HEAD .*parquet", "GET /cdn/"])
def test_429_is_waited_out_as_long_as_asked(hub, client, xnli, where):
    times = 2 if where.startswith("HEAD") else 1  # the library asks for heads twice without waiting
    hub.fail(where, 429, times=times, Retry_After="1")
    assert texts(client.load("xnli", "sw", "test")) == xnli["premise"]
    first, second = hub.asked(where)[-2:]
    assert second - first >= 1


def test_503_passes(hub, client, xnli):
    hub.fail("HEAD .*parquet", 503, times=2)
    assert texts(client.load("xnli", "sw", "test")) == xnli["premise"]


def test_end_of_patience_names_repository_and_file_and_a_second_try_succeeds(hub, client, xnli):
    hub.fail("GET /cdn/", "cut", times=5)
    error = client.error("xnli", "sw", "test")
    assert error.startswith(
        "facebook/xnli sw/test-00000-of-00001.parquet: the hub cannot be read (5 attempts): Consist"
    )
    client.assert_cache_is_sound()
    assert texts(client.load("xnli", "sw", "test")) == xnli["premise"]


def test_missing_repository_config_and_split_are_told_apart(hub, client, xnli):
    error = client.error("xnli", "fr", "test", repo="facebook/xnli")
    assert error == "task xnli: no data set found for 'fr', 'test'; looked for facebook/xnli fr"
    held = hub.repositories.pop(("datasets", "Rowan/hellaswag"))
    client.ask("forget")
    error = client.error("hellaswag", "en", "dev")
    assert error.endswith("looked for Rowan/hellaswag: not on the hub, or not open to you (HF_TOKEN)")
    hub.repositories["datasets", "Rowan/hellaswag"] = held
    del hub.repositories["datasets", "facebook/xnli"].branches["main"]["sw/test-00000-of-00001.parquet"]
    client.ask("forget")
    assert client.error("xnli", "sw", "test") == "facebook/xnli sw: no split 'test'; it has: validation"


def test_gated_repository_says_what_to_do(hub, client, xnli):
    hub.fail("/api/datasets/facebook/xnli", 403, times=9, X_Error_Code="GatedRepo")
    client.ask("forget")
    error = client.error("xnli", "sw", "test")
    assert error == "facebook/xnli: accept the terms on its page of the hub, and set HF_TOKEN to your token"


def test_script_without_conversion_is_one_line(hub, client):
    held = hub.repositories.pop(("datasets", "lighteval/siqa"))
    client.ask("forget")
    error = client.error("socialiqa", "en", "dev")
    assert "allenai/social_i_qa: only a loading script, and no parquet conversion of it" in error
    assert "lighteval/siqa: not on the hub" in error
    hub.repositories["datasets", "lighteval/siqa"] = held


def test_server_that_is_down_is_one_line(tmp_path):
    with Hub() as server:
        pass
    client = Client(server, tmp_path)
    try:
        error = client.error("xnli", "sw", "test")
    finally:
        client.stop()
    assert error.startswith("facebook/xnli: the hub cannot be read (5 attempts): ")
    assert "refused" in error
