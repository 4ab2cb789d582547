"""Titanic, driven by hand, with a store that fails: what clients are told, and what is done again later."""

import logging
from pathlib import Path

import pytest

from pollbroker.patterns.titanic.frames import CLOSE, REPLY, REQUEST
from pollbroker.patterns.titanic.sqlite import SqliteStore
from pollbroker.testing import drive
from tests.patterns.titanic_peers import start
from tests.support.accounts import balanced
from tests.support.titanic import FailingStore, TitanicInMemory, TitanicPeers


@pytest.mark.parametrize("failing", ["add", "commit"])
def test_client_whose_request_could_not_be_stored_is_told_so(failing: str) -> None:
    store = FailingStore()
    peers = start(store, max_stored=2)
    store.failing.add(failing)
    for _ in range(5):
        assert peers.store(b"c", b"echo") + peers.commit() == [peers.told(b"c", REQUEST, b"500")]
    store.failing.clear()
    peers.stored(b"c", b"echo")
    assert store.count() == 1
    assert peers.driver.counters["store_failed"] == 5
    assert balanced(peers.driver.account)


def test_reply_that_could_not_be_stored_is_asked_for_again() -> None:
    for failing in ("put_reply", "commit"):
        store = FailingStore()
        peers = start(store)
        uuid = peers.stored(b"c", b"echo")
        peers.ready(b"w")
        store.failing.add(failing)
        assert peers.answer(b"w", uuid) == []
        peers.commit()
        assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"300")]
        store.failing.clear()
        assert peers.driver.advance(1.0) == [peers.given(b"w", uuid)]
        peers.answer(b"w", uuid)
        peers.commit()
        assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"200", b"answer")]


def test_what_is_not_committed_is_not_counted() -> None:
    store = FailingStore()
    peers = start(store)
    uuid = peers.stored(b"c", b"echo")
    peers.ready(b"w")
    store.failing.add("commit")
    peers.store(b"c", b"echo")
    peers.answer(b"w", uuid)
    peers.commit()
    counters = peers.driver.counters
    assert (counters["stored"], counters.get("replied", 0), counters["store_failed"]) == (1, 0, 1)
    store.failing.clear()
    peers.driver.advance(1.0)
    peers.answer(b"w", uuid)
    peers.commit()
    assert (peers.driver.counters["stored"], peers.driver.counters["replied"]) == (1, 1)


def test_close_that_fails_leaves_the_request() -> None:
    for failing in ("remove", "commit"):
        store = FailingStore()
        peers = start(store)
        uuid = peers.stored(b"c", b"echo")
        peers.ready(b"w")
        peers.ask(b"a", b"echo")
        store.failing.add(failing)
        assert peers.close(b"c", uuid) + peers.commit() == [peers.told(b"c", CLOSE, b"500")]
        store.failing.clear()
        assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"300")]


def test_client_is_not_told_of_changes_that_were_lost_when_another_was_looked_up() -> None:
    store = FailingStore()
    peers = start(store, max_stored=2)
    known = peers.stored(b"c", b"echo")
    store.loses_changes = True
    peers.store(b"a", b"echo")
    store.failing.add("find")
    assert peers.fetch(b"b", known) == []
    store.failing.clear()
    assert peers.commit() == [peers.told(b"a", REQUEST, b"500"), peers.told(b"b", REPLY, b"500")]
    peers.stored(b"a", b"echo")  # there is room for it
    assert balanced(peers.driver.account)


def test_request_that_is_damaged_does_not_keep_the_others_from_being_done() -> None:
    store = FailingStore()
    peers = start(store)
    uuids = [peers.stored(b"c", b"echo") for _ in range(40)]
    store.damaged.update(uuids[1:20])
    peers.ready(b"w")
    for uuid in (uuids[0], *uuids[20:]):
        peers.answer(b"w", uuid)
        peers.commit()
        assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"200", b"answer")]
    assert peers.driver.counters["store_failed"] == 19
    assert balanced(peers.driver.account)


def test_client_whose_request_the_database_itself_has_taken_back_is_told_so(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "titanic.db"))
    peers = TitanicPeers(drive(TitanicInMemory(store, heartbeat_s=1000.0), ["frontend"]))
    peers.store(b"a", b"echo")
    assert store._connection is not None
    store._connection.execute("ROLLBACK")  # stands for what SQLite does when a statement finds the disk full or broken
    assert peers.commit() == [peers.told(b"a", REQUEST, b"500")]
    peers.stored(b"a", b"echo")
    peers.driver.stop()
    store.close()


def test_reply_that_was_lost_when_the_store_was_read_is_asked_for_again() -> None:
    store = FailingStore()
    peers = start(store)
    uuid = peers.stored(b"c", b"echo")
    peers.ready(b"w")
    store.loses_changes = True
    peers.answer(b"w", uuid)
    store.failing.add("pending")
    peers.ready(b"v", b"other")
    store.failing.clear()
    assert peers.commit() == []
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"300")]
    assert peers.driver.advance(1.0) == [peers.given(b"w", uuid)]
    peers.answer(b"w", uuid)
    peers.commit()
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"200", b"answer")]


def test_store_that_cannot_be_read_is_read_again_later() -> None:
    store = FailingStore()
    peers = start(store)
    uuid = peers.stored(b"c", b"echo")
    store.failing |= {"pending", "find"}
    assert peers.ready(b"w") == []
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"500")]
    store.failing.clear()
    assert peers.driver.advance(1.0) == [peers.given(b"w", uuid)]


def test_old_replies_that_could_not_be_removed_are_removed_later() -> None:
    store = FailingStore(lambda: 1000.0)
    peers = start(store, keep_s=10.0)
    uuid = peers.stored(b"c", b"echo")
    peers.ready(b"w")
    store._clock = lambda: 0.0
    peers.answer(b"w", uuid)
    peers.commit()
    store._clock = lambda: 1000.0
    store.failing.add("remove_old")
    peers.driver.advance(5.0)
    store.failing.clear()
    peers.driver.advance(5.0)
    assert peers.driver.counters["forgotten"] == 1


def test_failure_of_the_store_is_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore()
    peers = start(store)
    store.failing.add("add")
    with caplog.at_level(logging.ERROR):
        for _ in range(10):
            peers.store(b"c", b"echo")
    assert [record.getMessage() for record in caplog.records] == ["the store has failed: add fails"]
