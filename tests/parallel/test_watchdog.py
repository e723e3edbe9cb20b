"""Promises: a host that falls silent or gives up is named to all others; one that has finished is not missed."""

import pytest

from xtl.parallel import watchdog
from xtl.parallel.watchdog import Watchdog


class Store(dict):
    """The coordinator's store, in memory."""

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self
        self[key] = value

    def key_value_dir_get(self, key):
        return [(name, value) for name, value in self.items() if name.startswith(f"{key}/")]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    return now


def watchers(count, **options):
    store = Store()
    options = {"deadline_s": 10.0, **options}
    return [Watchdog(store, process=p, processes=count, name=f"node{p}", **options) for p in range(count)]


def test_a_silent_host_is_named_to_all_once_the_deadline_is_over(clock):
    first, second, third = watchers(3)
    for clock[0] in range(0, 30, 2):
        assert second.look() is None
        if clock[0] <= 4:
            assert third.look() is None
        word = first.look()
        if word is not None:
            break
    assert clock[0] == 16  # last heard of at 4
    assert "host 2 of 3 (node2) has been silent for 12 s" in word and second.look() == word


def test_a_host_that_never_gave_a_sign_is_missed_too(clock):
    first, _ = watchers(2)
    for clock[0] in (0, 5, 11):
        word = first.look()
    assert "host 1 of 2 has been silent" in word


def test_a_host_that_has_finished_is_not_missed(clock):
    first, second = watchers(2)
    second.start()
    second.stop()
    for clock[0] in (0, 10, 20, 30):
        assert first.look() is None


def test_giving_up_tells_the_others_why_and_ends_oneself(clock):
    ended = []
    first, second = watchers(2, deadline_s=0.05, end=ended.append)
    second.start()
    second.give_up("OSError: no space left")
    second._thread.join(timeout=5)
    assert ended == ["host 1 of 2 (node1) leaves without the others: OSError: no space left"]
    assert "host 1 of 2 (node1): OSError: no space left; leaving" in first.look()


def test_a_store_that_cannot_be_reached_is_left_to_jax():
    class Gone(Store):
        def key_value_set(self, *_, **__):
            raise RuntimeError("UNAVAILABLE")

    one = Watchdog(Gone(), process=1, processes=2, name="", deadline_s=0.01, end=pytest.fail).start()
    one.stop()
