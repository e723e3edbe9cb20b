"""Promise: a work directory in gs:// is like any other: written by several hosts, resumed, reported on.

An emulator of the store runs on loopback. Needs the `gcs` extra.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.support import hosts

pytestmark = [pytest.mark.gcs, pytest.mark.procs]


@pytest.fixture(scope="module")
def store():
    """The variables that lead gcsfs and TensorStore to an emulator with an empty bucket `bucket`."""
    pytest.importorskip("gcsfs", reason="needs requirements-gcs.lock")
    pytest.importorskip("gcp_storage_emulator", reason="needs requirements-dev.lock")
    port = hosts.free_port()
    where = ["--host=127.0.0.1", f"--port={port}", "--default-bucket=bucket", "--in-memory"]
    emulator = subprocess.Popen(
        [sys.executable, "-m", "gcp_storage_emulator", "start", *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert emulator.poll() is None, "the emulator has ended"
                time.sleep(0.1)
        yield {
            "STORAGE_EMULATOR_HOST": address,
            "TENSORSTORE_GCS_HTTP_URL": address,
            "FSSPEC_GS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks for the kind of bucket over gRPC, with TLS
        }
    finally:
        emulator.kill()
        emulator.wait()


READER = """
import json, sys
from xtl import files, logs
from xtl.training import checkpoint, goodput
from xtl.runs.workdir import Workdir
workdir = Workdir("gs://bucket/runs/demo")
(folder,) = workdir.folders().values()
encoder = checkpoint.find_encoder(folder)
print(json.dumps({
    "states": [entry["state"] for entry in workdir.read_plan()],
    "steps": [record["step"] for record in logs.read_lines(folder / "metrics.jsonl")],
    "languages": files.read_json(folder / "eval" / "xnli.json")["languages"],
    "predictions": sorted(path.name for path in (folder / "predictions" / "xnli").iterdir()),
    "starts": files.read_json(folder / goodput.FILE)["starts"],
    "encoder": encoder,
    "finished": checkpoint.describe(encoder)["progress"]["finished"],
    "checkpoints": sorted(path.name for path in (folder / "checkpoints").iterdir()),
    "results": len(files.read_text(workdir.path / "results.csv").splitlines()),
    "trace": files.exists(folder / "profile" / "plugins"),
}))
"""


def test_two_hosts_write_a_run_to_the_store_and_one_goes_on_with_it(store, tmp_path):
    settings = store | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ["run", "--config=tests/fixtures/one_stage.py", "--workdir=gs://bucket/runs/demo"]
    first, again = tmp_path / "first", tmp_path / "again"
    launched = hosts.start(2, words, record=first, settings=settings, doom={1: "term:2"}, pause=1.5)
    assert hosts.finish(launched) == [143, 143], hosts.printed(first, 0) + hosts.printed(first, 1)
    done = max(hosts.batches(first, 2))
    assert done < 6
    words = [*words, "--profile=6"]
    assert hosts.finish(hosts.start(1, words, record=again, settings=settings)) == [0], hosts.printed(again, 0)
    assert list(hosts.batches(again, 1)) == list(range(done + 1, 7))
    read = subprocess.run(
        [sys.executable, "-c", READER], cwd=hosts.ROOT, env=os.environ | settings, capture_output=True, text=True
    )
    assert read.returncode == 0, read.stderr
    record = json.loads(read.stdout.splitlines()[-1])
    assert record["states"] == ["done"] and record["steps"] == [1, 2, 3, 4, 5, 6] and record["starts"] == 2
    assert {language: scores["n"] for language, scores in record["languages"].items()} == {"en": 19, "qna": 19}
    assert record["predictions"] == ["test-en.tsv", "test-qna.tsv"] and record["results"] == 3 and record["trace"]
    assert record["checkpoints"] == ["6"] and record["encoder"].endswith("/checkpoints/6") and record["finished"]
