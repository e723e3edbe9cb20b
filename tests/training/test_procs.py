"""Promises: one run is the same on one, two or four hosts; no host waits for ever for one that is gone, or without
saying for whom; a run goes on with another number of hosts where it stopped.

Every host is a process of `xtl run` with its share of four CPU devices; they find each other on loopback.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support import hosts
from xtl import logs

pytestmark = pytest.mark.procs
SILENCE = {"XTL_SILENCE_SECONDS": "5"}


@dataclass
class Place:
    """One work directory, and what the hosts of one launch in it left behind."""

    base: Path
    name: str
    cache: Path

    @property
    def workdir(self) -> Path:
        return self.base / self.name

    def launch(self, count, launch="first", **options):
        words = ["run", f"--config=tests/fixtures/one_stage.py:cache={self.cache}", f"--workdir={self.workdir}"]
        return hosts.start(count, words, record=self.record(launch), **options)

    def record(self, launch="first") -> Path:
        return self.base / f"{self.name}-{launch}"

    def printed(self, host, launch="first") -> str:
        return hosts.printed(self.record(launch), host)

    def batches(self, count, launch="first"):
        return hosts.batches(self.record(launch), count)

    def metrics(self):
        """metrics.jsonl without its clock."""
        keys = ("step", "task", "loss", "learning_rate", "grad_norm", "examples", "tokens")
        records = logs.read_lines(hosts.stage_folder(self.workdir) / "metrics.jsonl")
        return [{key: record[key] for key in keys} for record in records]

    def results(self):
        """Scores and predictions, byte by byte."""
        folder = hosts.stage_folder(self.workdir)
        outputs = [*(folder / "eval").rglob("*.json"), *(folder / "predictions").rglob("*.tsv")]
        return {path.name: path.read_bytes() for path in sorted(outputs)}

    def assert_same_as(self, other):
        assert len(self.metrics()) == len(other.metrics()) == 6
        for mine, theirs in zip(self.metrics(), other.metrics(), strict=True):
            assert mine == {key: pytest.approx(value, abs=1e-6) for key, value in theirs.items()}
        assert self.results() == other.results()


def assert_same_batches(mine, theirs):
    assert mine and all(np.array_equal(ids_rt, theirs[step]) for step, ids_rt in mine.items())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    base = tmp_path_factory.mktemp("hosts")
    return lambda name: Place(base, name, base / "cache")


@pytest.fixture(scope="module")
def alone(place):
    """A run on one host."""
    one = place("alone")
    assert hosts.finish(one.launch(1)) == [0], one.printed(0)
    assert list(one.batches(1)) == [1, 2, 3, 4, 5, 6] and len(one.results()) == 3
    return one


def test_two_hosts_one_of_them_late_do_what_one_does(place, alone):
    two = place("two")
    assert hosts.finish(two.launch(2, late=2.0)) == [0, 0], two.printed(0) + two.printed(1)
    assert_same_batches(two.batches(2), alone.batches(1))
    two.assert_same_as(alone)
    scores = json.loads(two.results()["xnli.json"])["languages"]  # 19 examples in batches of 4 rows: the last is padded
    assert {scores[language]["n"] for language in ("en", "qna")} == {19}
    assert {record["examples"] for record in two.metrics()} == {8}


def test_a_killed_host_is_named_and_the_run_goes_on_with_another_number_of_hosts(place, alone):
    one = place("killed")
    statuses = hosts.finish(one.launch(2, doom={1: "kill:5"}, settings=SILENCE), timeout=150)
    assert statuses == [1, -9], one.printed(0)
    assert "xtl: host 1 of 2" in one.printed(0) and "has been silent for" in one.printed(0)
    assert hosts.status(one.workdir)["state"] != "failed"
    assert hosts.finish(one.launch(1, "again")) == [0], one.printed(0, "again")
    assert list(one.batches(1, "again")) in ([3, 4, 5, 6], [5, 6])  # step 4 may not have been whole when the host died
    assert_same_batches(one.batches(1, "again"), alone.batches(1))
    one.assert_same_as(alone)
    goodput = json.loads((hosts.stage_folder(one.workdir) / "goodput.json").read_text())
    assert goodput["starts"] == 2 and goodput["seconds"]["lost"] > 4


def test_an_error_on_one_host_ends_all_with_its_reason_and_is_no_result_of_the_stage(place):
    one = place("failing")
    assert hosts.finish(one.launch(2, doom={1: "fail:1"}, settings=SILENCE), timeout=150) == [1, 1]
    for host in (0, 1):
        assert "host 1 of 2" in one.printed(host) and "OSError: disk on fire" in one.printed(host)
    assert hosts.status(one.workdir)["state"] != "failed"


def test_hosts_that_never_come_are_not_waited_for_beyond_the_deadline(place):
    one = place("lonely")
    (first, second) = one.launch(2, late=60.0, settings={"XTL_JOIN_SECONDS": "1.5"})
    try:
        assert first.wait(timeout=60) == 1
    finally:
        second.kill()
    assert "host 0 of 2 waited 2 s for the other hosts at 127.0.0.1" in one.printed(0)


@pytest.mark.slow
def test_four_hosts_leave_together_when_one_is_told_to_and_two_finish(place, alone):
    four = place("four")
    launched = four.launch(4, doom={2: "term:2"}, pause=1.5)
    assert hosts.finish(launched) == [143] * 4, "".join(map(four.printed, range(4)))
    assert_same_batches(four.batches(4), alone.batches(1))
    done = max(four.batches(4))
    assert done < 6
    assert hosts.finish(four.launch(2, "again")) == [0, 0], four.printed(0, "again")
    assert list(four.batches(2, "again")) == list(range(done + 1, 7))
    assert_same_batches(four.batches(2, "again"), alone.batches(1))
    four.assert_same_as(alone)


@pytest.mark.slow
def test_without_the_first_host_the_others_end_too_and_four_go_on(place, alone):
    one = place("headless")
    statuses = hosts.finish(one.launch(2, doom={0: "kill:4"}, settings=SILENCE), timeout=150)
    assert statuses[0] == -9 and statuses[1] != 0
    assert "leader" in one.printed(1)  # JAX's own words
    assert hosts.finish(one.launch(4, "again")) == [0] * 4, one.printed(0, "again")
    assert_same_batches(one.batches(4, "again"), alone.batches(1))
    one.assert_same_as(alone)
