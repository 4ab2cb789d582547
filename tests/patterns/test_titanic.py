"""Titanic, driven by hand, with a store in memory: what RFC 9 says, what workers are given, and what is bounded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from pollbroker import BehaviourError
from pollbroker.patterns.majordomo.mdp import PARTIAL
from pollbroker.patterns.titanic import frames as titanic_frames
from pollbroker.patterns.titanic.frames import CLOSE, REPLY, REQUEST
from pollbroker.patterns.titanic.titanic import Titanic
from tests.patterns.titanic_peers import start
from tests.support.accounts import balanced
from tests.support.titanic import FailingStore, TitanicPeers

UNKNOWN = b"0" * 32


def in_memory(peers: TitanicPeers) -> int:
    """How many stored requests are in memory."""
    behaviour = peers.driver.behaviour
    assert isinstance(behaviour, Titanic)
    return len(behaviour._lines)


# -- the three services ------------------------------------------------------------------------------------------------


def test_request_is_stored_given_to_a_worker_fetched_and_closed() -> None:
    peers = start()
    assert peers.store(b"c", b"echo", b"a", b"") == []  # nothing is said before the commit
    assert peers.driver.account.held == 1
    (told,) = peers.commit()
    uuid = told.frames[-1]
    assert told == peers.told(b"c", REQUEST, b"200", uuid)
    assert titanic_frames.is_uuid(uuid)
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"300")]
    assert peers.ready(b"w") == [peers.given(b"w", uuid, b"a", b"")]
    assert peers.answer(b"w", uuid, b"b", b"") == []
    assert peers.fetch(b"d", uuid) == []  # what it tells is not committed yet
    assert peers.commit() == [peers.told(b"d", REPLY, b"200", b"b", b"")]
    for _ in range(2):
        assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"200", b"b", b"")]
    assert peers.close(b"c", uuid) == []
    assert peers.commit() == [peers.told(b"c", CLOSE, b"200")]
    assert peers.close(b"c", uuid) == [peers.told(b"c", CLOSE, b"200")]
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"400")]
    assert peers.driver.counters == {"ready": 1, "stored": 1, "replied": 1}
    assert peers.driver.account.held == 0


def test_client_of_the_second_version_is_answered_in_it() -> None:
    peers = start()
    peers.store(b"c", b"echo", version=2)
    (told,) = peers.commit()
    assert told.frames[:-1] == [b"c", b"MDPC02", b"\3", REQUEST, b"200"]


def test_what_comes_together_is_committed_together() -> None:
    store = FailingStore()
    peers = start(store)
    for number in range(5):
        assert peers.store(b"%d" % number, b"echo") == []
    assert [send.frames[0] for send in peers.commit()] == [b"%d" % number for number in range(5)]
    peers.store(b"c", b"echo")
    store.failing.add("commit")
    peers.store(b"d", b"echo")
    assert peers.commit() == [peers.told(client, REQUEST, b"500") for client in (b"c", b"d")]


def test_many_changes_are_committed_without_waiting() -> None:
    peers = start()
    sent = [peers.store(b"c", b"echo") for _ in range(1000)]
    assert [len(sends) for sends in sent] == [0] * 999 + [1000]
    assert peers.driver.account.held == 0


@pytest.mark.parametrize(
    ("service", "body", "status"),
    [
        (REQUEST, [b"echo"], b"400"),
        (REQUEST, [b"", b"x"], b"400"),
        (REQUEST, [b"mmi.service", b"x"], b"400"),
        (REQUEST, [REPLY, b"x"], b"400"),
        (REPLY, [b"x"], b"400"),
        (REPLY, [UNKNOWN, b"x"], b"400"),
        (REPLY, [UNKNOWN], b"400"),
        (CLOSE, [b"x"], b"400"),
        (CLOSE, [UNKNOWN], b"200"),
    ],
)
def test_wrong_request_is_told_so(service: bytes, body: list[bytes], status: bytes) -> None:
    peers = start()
    assert peers.ask(b"c", service, *body) == [peers.told(b"c", service, status)]
    assert peers.driver.counters == ({} if body == [UNKNOWN] else {"malformed": 1})


def test_uuid_may_be_in_upper_case() -> None:
    peers = start(FailingStore())
    for _ in range(10):
        uuid = peers.stored(b"c", b"echo")
    assert uuid.upper() != uuid
    assert peers.fetch(b"c", uuid.upper()) == [peers.told(b"c", REPLY, b"300")]


@profile(max_examples=50)
@given(st.sampled_from(titanic_frames.SERVICES), st.lists(st.binary(max_size=3), min_size=1, max_size=4))
def test_garbage_is_answered_and_never_raises(service: bytes, body: list[bytes]) -> None:
    """Whatever a client asks one of the three services, it is told a status."""
    peers = start()
    sends = peers.ask(b"c", service, *body) + peers.commit()
    assert len(sends) == 1
    assert titanic_frames.parse_titanic_reply(sends[0].frames[4:]) is not None
    assert peers.driver.account.failed == 0


def test_management_knows_the_three_services_and_no_worker_may_take_them() -> None:
    peers = start()
    for service in titanic_frames.SERVICES:
        assert peers.ask(b"c", b"mmi.service", service) == [peers.told(b"c", b"mmi.service", b"200")]
        assert peers.ready(b"w", service) == [peers.broken_off(b"w")]
    assert peers.ask(b"c", b"mmi.service", b"titanic.other") == [peers.told(b"c", b"mmi.service", b"404")]
    assert peers.ask(b"c", b"mmi.other") == [peers.told(b"c", b"mmi.other", b"501")]


# -- workers -----------------------------------------------------------------------------------------------------------


def test_stored_requests_and_others_go_to_the_same_workers_in_turn() -> None:
    peers = start()
    peers.ready(b"w")
    peers.ask(b"a", b"echo")
    uuid = peers.stored(b"c", b"echo")
    peers.ask(b"b", b"echo")
    assert peers.answer(b"w", b"a") == [peers.answered(b"a"), peers.given(b"w", uuid)]
    assert peers.answer(b"w", uuid) == [peers.given(b"w", b"b")]


def test_few_stored_requests_are_in_memory_and_all_are_done() -> None:
    store = FailingStore()
    peers = start(store)
    uuids = [peers.stored(b"c", b"echo", b"%d" % number) for number in range(100)]
    given = peers.ready(b"w")
    assert in_memory(peers) == 16
    for number, uuid in enumerate(uuids):
        assert given == [peers.given(b"w", uuid, b"%d" % number)]
        given = peers.answer(b"w", uuid)
        assert in_memory(peers) <= 16
    assert given == []
    assert store.reads < 20
    peers.commit()
    assert peers.driver.counters["replied"] == 100


def test_memory_for_stored_requests_is_bounded_for_all_services() -> None:
    peers = start(max_workers=2)
    for number in range(60):
        peers.stored(b"c", b"%d" % (number % 3))
    for worker, service in ((b"w0", b"0"), (b"w1", b"1")):
        peers.ready(worker, service)
        assert in_memory(peers) <= 16 * (int(service) + 1)
    peers.leave(b"w0")
    assert in_memory(peers) == 16
    peers.ready(b"w2", b"2")
    assert in_memory(peers) == 32


def test_requests_that_are_too_many_for_the_workers_that_remain_go_back_to_the_store() -> None:
    peers = start()
    for _ in range(100):
        peers.stored(b"c", b"echo")
    for number in range(10):
        peers.ready(b"%d" % number)
    assert 24 <= in_memory(peers) <= 34
    for number in range(9):
        peers.leave(b"%d" % number)
    assert in_memory(peers) == 16
    peers.leave(b"9")
    assert in_memory(peers) == 0
    given, done = peers.ready(b"w"), []
    while given:
        done.append(given[0].frames[-3])  # the UUID
        given = peers.answer(b"w", done[-1])
    assert len(done) == len(set(done)) == 100


def test_requests_that_went_back_to_the_store_are_given_to_the_workers_that_remain() -> None:
    peers = start()
    uuids = [peers.stored(b"c", b"echo") for _ in range(30)]
    peers.ready(b"w")
    peers.ready(b"other")
    done = uuids[1:8]
    for uuid in done:
        peers.answer(b"other", uuid)
    assert in_memory(peers) == 18
    peers.leave(b"other")
    assert in_memory(peers) == 16
    given = [peers.given(b"w", uuids[0])]
    while given:
        done.append(given[0].frames[-3])  # the UUID
        given = peers.answer(b"w", done[-1])
    assert sorted(done) == uuids


def test_stored_request_waits_for_a_worker_for_ever() -> None:
    peers = start(request_expiry_s=1.0)
    uuid = peers.stored(b"c", b"echo")
    peers.driver.advance(1000.0)
    assert peers.ready(b"w") == [peers.given(b"w", uuid)]


def test_stored_requests_wait_for_a_busy_worker_for_ever_and_in_order() -> None:
    peers = start(request_expiry_s=1.0)
    uuids = [peers.stored(b"c", b"echo") for _ in range(3)]
    assert peers.ready(b"w") == [peers.given(b"w", uuids[0])]
    assert peers.ask(b"a", b"echo") == []
    assert peers.driver.advance(5.0) == []
    assert peers.driver.counters == {"stored": 3, "ready": 1, "expired": 1}
    assert peers.answer(b"w", uuids[0]) == [peers.given(b"w", uuids[1])]
    assert peers.answer(b"w", uuids[1]) == [peers.given(b"w", uuids[2])]


def test_request_whose_workers_were_lost_is_given_again_later() -> None:
    peers = start()
    first = peers.stored(b"c", b"echo")
    second = peers.stored(b"c", b"echo")
    assert peers.ready(b"w1") == [peers.given(b"w1", first)]
    assert peers.ready(b"w2") == [peers.given(b"w2", second)]
    assert peers.leave(b"w1") == []
    assert peers.ready(b"w3") == [peers.given(b"w3", first)]
    assert peers.leave(b"w3") == []
    assert peers.driver.counters["put_back"] == 1
    assert peers.ready(b"w4") == []
    assert peers.driver.advance(1.0) == [peers.given(b"w4", first)]
    assert in_memory(peers) == 2  # the second is still in the hands of its worker, and was not read again
    assert peers.answer(b"w4", first) == peers.answer(b"w2", second) == []


def test_answer_that_takes_too_long_is_dropped_and_the_request_is_given_again() -> None:
    peers = start(heartbeat_s=10.0, liveness=100, reply_expiry_s=5.0)
    uuid = peers.stored(b"c", b"echo")
    peers.ready(b"w1")
    peers.ready(b"w2")
    sends = peers.driver.advance(7.0)
    assert peers.given(b"w2", uuid) in sends
    assert peers.answer(b"w1", uuid) == []
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"300")]
    assert peers.driver.counters["late"] == 1


def test_parts_of_an_answer_are_dropped() -> None:
    peers = start()
    uuid = peers.stored(b"c", b"echo")
    peers.ready(b"w", version=2)
    peers.answer(b"w", uuid, b"part", version=2, command=PARTIAL)
    peers.answer(b"w", uuid, b"whole", version=2)
    peers.commit()
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"200", b"whole")]
    assert peers.driver.counters["partials_dropped"] == 1


def test_request_that_is_closed_before_its_turn_is_not_given_to_a_worker() -> None:
    peers = start()
    peers.ready(b"w")
    peers.ask(b"a", b"echo")
    uuid = peers.stored(b"c", b"echo")
    peers.close(b"c", uuid)
    peers.commit()
    assert in_memory(peers) == 0
    assert peers.answer(b"w", b"a") == [peers.answered(b"a")]


def test_request_that_is_closed_is_not_given_to_another_worker_when_the_first_is_lost() -> None:
    for workers in (1, 2):
        peers = start()
        uuid = peers.stored(b"c", b"echo")
        for number in range(workers):
            peers.ready(b"%d" % number)
        peers.close(b"c", uuid)
        assert peers.commit() == [peers.told(b"c", CLOSE, b"200")]
        assert peers.leave(b"0") == []
        assert in_memory(peers) == 0
        assert peers.ready(b"2") == []
        assert peers.driver.advance(1.0) == []
        assert peers.driver.counters == {"stored": 1, "ready": workers + 1, "disconnected": 1}
        assert balanced(peers.driver.account)


def test_request_of_which_the_close_fails_is_given_to_another_worker_when_the_first_is_lost() -> None:
    store = FailingStore()
    peers = start(store)
    uuid = peers.stored(b"c", b"echo")
    peers.ready(b"w1")
    peers.close(b"c", uuid)
    store.failing.add("commit")
    assert peers.commit() == [peers.told(b"c", CLOSE, b"500")]
    store.failing.clear()
    peers.leave(b"w1")
    given = peers.ready(b"w2") + peers.driver.advance(1.0)
    assert given == [peers.given(b"w2", uuid)]


def test_answer_to_a_request_that_was_closed_is_late() -> None:
    peers = start()
    uuid = peers.stored(b"c", b"echo")
    peers.ready(b"w")
    peers.close(b"c", uuid)
    peers.commit()
    peers.answer(b"w", uuid)
    assert peers.driver.counters["late"] == 1
    assert in_memory(peers) == 0


def test_stored_requests_are_not_held_so_that_a_broker_with_many_can_end() -> None:
    peers = start()
    for _ in range(20):
        peers.stored(b"c", b"echo")
    peers.ready(b"w")
    assert in_memory(peers) == 16
    assert peers.driver.account.held == 0
    assert balanced(peers.driver.account)


def test_request_that_is_stored_while_its_first_worker_comes_is_not_forgotten() -> None:
    peers = start()
    peers.store(b"c", b"echo")
    assert peers.ready(b"w") == []  # it is not committed yet
    assert len(peers.commit()) == 2


def test_what_is_stored_is_there_after_a_restart() -> None:
    store = FailingStore()
    peers = start(store)
    done, pending = peers.stored(b"c", b"echo", b"1"), peers.stored(b"c", b"echo", b"2")
    peers.ready(b"w")
    peers.answer(b"w", done)
    sends = peers.driver.stop()
    assert peers.broken_off(b"w") in sends
    again = start(store)
    assert again.fetch(b"c", done) == [again.told(b"c", REPLY, b"200", b"answer")]
    assert again.fetch(b"c", pending) == [again.told(b"c", REPLY, b"300")]
    assert again.ready(b"w") == [again.given(b"w", pending, b"2")]


def test_clients_that_wait_for_a_commit_are_told_before_the_end() -> None:
    peers = start()
    peers.ready(b"w")
    peers.store(b"c", b"echo")
    stop = peers.driver.stop()
    assert [send.frames[0] for send in stop] == [b"w", b"c"]
    assert stop[1].frames[-2] == b"200"
    assert peers.driver.account.held == 0
    assert peers.driver.advance(100.0) == []


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_no_more_is_stored_than_the_bound() -> None:
    store = FailingStore()
    peers = start(store, max_stored=2)
    uuid = peers.stored(b"c", b"a")
    peers.stored(b"c", b"b")
    assert peers.store(b"c", b"c") == [peers.told(b"c", REQUEST, b"500")]
    assert peers.driver.counters["refused"] == 1
    peers.close(b"c", uuid)
    peers.commit()
    peers.stored(b"c", b"c")
    again = start(store, max_stored=2)
    assert again.store(b"c", b"c") == [again.told(b"c", REQUEST, b"500")]


def test_reply_that_nobody_closes_is_forgotten_in_the_end() -> None:
    now = [0.0]
    peers = start(FailingStore(lambda: now[0]), keep_s=100.0, max_stored=2)
    uuid = peers.stored(b"c", b"echo")
    waiting = peers.stored(b"c", b"other")
    peers.ready(b"w")
    peers.answer(b"w", uuid)
    now[0] = 99.0
    peers.driver.advance(50.0)
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"200", b"answer")]
    now[0] = 101.0
    peers.driver.advance(20.0)
    assert peers.fetch(b"c", uuid) == [peers.told(b"c", REPLY, b"400")]
    assert peers.fetch(b"c", waiting) == [peers.told(b"c", REPLY, b"300")]
    assert peers.driver.counters["forgotten"] == 1
    peers.stored(b"c", b"echo")


def test_requests_of_a_service_that_finds_no_room_in_memory_are_read_later() -> None:
    peers = start(max_workers=2)
    for number in range(40):
        peers.stored(b"c", b"%d" % (number % 2))
    behaviour = peers.driver.behaviour
    assert isinstance(behaviour, Titanic)
    behaviour._lines._most = 16  # as if others had it all
    peers.ready(b"w0", b"0")
    assert peers.ready(b"w1", b"1") == []
    peers.leave(b"w0")
    assert len(peers.driver.advance(1.0)) == 1


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"path": ""}, "Titanic: path is '': expected the path of a file"),
        ({"path": ":memory:"}, "Titanic: path is ':memory:': expected the path of a file"),
        ({"max_stored": 0}, "Titanic: max_stored is 0: expected a whole number from 1 on"),
        ({"keep_s": 0}, "Titanic: keep_s is 0: expected a number of seconds from 0.01 on, or None (inf in a file)"),
        ({"commit_s": -1}, "Titanic: commit_s is -1: expected a number of seconds from 0 on"),
        ({"heartbeat_s": 0}, "Titanic: heartbeat_s is 0: expected a number of seconds from 0.01 on"),
    ],
)
def test_wrong_setting_is_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(BehaviourError) as raised:
        Titanic(**settings)
    assert str(raised.value) == expected
