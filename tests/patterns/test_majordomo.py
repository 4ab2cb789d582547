"""Majordomo, driven by hand: what RFC 7, RFC 18 and RFC 8 say of requests, what is bounded, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from pollbroker import MAJORDOMO, BehaviourError, Device
from pollbroker.patterns.majordomo import Majordomo
from pollbroker.patterns.majordomo.mdp import FINAL, PARTIAL, Version
from pollbroker.testing import Send, check_behaviour_seed, check_device, drive, never_raises
from pollbroker.testing.behaviours.in_memory import TITANIC_IN_MEMORY
from tests.patterns.majordomo_peers import VERSIONS, start, start_apart
from tests.support.accounts import balanced
from tests.support.mdp_peers import Peers

# -- requests and replies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_version", VERSIONS)
@pytest.mark.parametrize("worker_version", VERSIONS)
def test_request_goes_to_a_worker_and_the_answer_comes_back(client_version: Version, worker_version: Version) -> None:
    peers = start()
    assert peers.ready(b"w", version=worker_version) == []
    asked = peers.ask(b"c", b"echo", b"a", b"", version=client_version)
    assert asked == [peers.given(b"w", b"c", b"a", b"", version=worker_version)]
    answered = peers.answer(b"w", b"c", b"b", b"", version=worker_version)
    assert answered == [peers.answered(b"c", b"echo", b"b", b"", version=client_version)]
    assert peers.driver.counters == {"ready": 1}
    assert peers.driver.account.held == 0


def test_wire_is_that_of_the_rfcs() -> None:
    driver = drive(Majordomo(), ["frontend"])
    driver.message("frontend", b"w1", b"", b"MDPW01", b"\1", b"echo")
    driver.message("frontend", b"w2", b"MDPW02", b"\1", b"echo")
    assert driver.message("frontend", b"c1", b"", b"MDPC01", b"echo", b"x") == [
        Send("frontend", [b"w1", b"", b"MDPW01", b"\2", b"c1", b"", b"x"])
    ]
    assert driver.message("frontend", b"c2", b"MDPC02", b"\1", b"echo", b"y") == [
        Send("frontend", [b"w2", b"MDPW02", b"\2", b"c2", b"", b"y"])
    ]
    assert driver.message("frontend", b"w1", b"", b"MDPW01", b"\3", b"c1", b"", b"X") == [
        Send("frontend", [b"c1", b"", b"MDPC01", b"echo", b"X"])
    ]
    assert driver.message("frontend", b"w2", b"MDPW02", b"\3", b"c2", b"", b"part") == [
        Send("frontend", [b"c2", b"MDPC02", b"\2", b"echo", b"part"])
    ]
    assert driver.message("frontend", b"w2", b"MDPW02", b"\4", b"c2", b"", b"Y") == [
        Send("frontend", [b"c2", b"MDPC02", b"\3", b"echo", b"Y"])
    ]


def test_requests_go_to_the_worker_that_has_been_free_for_longest() -> None:
    peers = start()
    for worker in (b"w1", b"w2", b"w3"):
        peers.ready(worker)
    assert peers.ask(b"a", b"echo") == [peers.given(b"w1", b"a")]
    assert peers.ask(b"b", b"echo") == [peers.given(b"w2", b"b")]
    peers.answer(b"w2", b"b")
    peers.answer(b"w1", b"a")
    given = [send.frames[0] for _ in range(3) for send in peers.ask(b"a", b"echo")]
    assert given == [b"w3", b"w2", b"w1"]


def test_requests_wait_for_a_worker_of_their_service_in_order() -> None:
    peers = start()
    assert peers.ask(b"a", b"echo") == peers.ask(b"b", b"echo") == peers.ask(b"c", b"other") == []
    assert peers.driver.account.held == 3
    assert peers.ready(b"w") == [peers.given(b"w", b"a")]
    assert peers.answer(b"w", b"a") == [peers.answered(b"a"), peers.given(b"w", b"b")]
    assert peers.answer(b"w", b"b") == [peers.answered(b"b")]
    assert peers.driver.account.held == 1


def test_parts_of_an_answer_go_to_a_client_that_knows_them() -> None:
    peers = start()
    peers.ready(b"w", version=2)
    peers.ask(b"c", b"echo", version=2)
    parts = [peers.answer(b"w", b"c", b"%d" % number, version=2, command=PARTIAL) for number in range(2)]
    assert parts == [[peers.answered(b"c", b"echo", b"%d" % n, version=2, command=PARTIAL)] for n in range(2)]
    assert peers.ask(b"d", b"echo", version=2) == []  # the worker is still at work
    assert peers.answer(b"w", b"c", version=2)[0] == peers.answered(b"c", version=2, command=FINAL)


def test_parts_of_an_answer_are_dropped_for_a_client_that_does_not_know_them() -> None:
    peers = start()
    peers.ready(b"w", version=2)
    peers.ask(b"c", b"echo")
    assert peers.answer(b"w", b"c", version=2, command=PARTIAL) == []
    assert peers.answer(b"w", b"c", version=2) == [peers.answered(b"c")]
    assert peers.driver.counters == {"ready": 1, "partials_dropped": 1}


def test_peer_may_be_a_worker_and_a_client() -> None:
    peers = start()
    peers.ready(b"w", b"front")
    peers.ready(b"v", b"back")
    peers.ask(b"c", b"front")
    assert peers.ask(b"w", b"back") == [peers.given(b"v", b"w")]
    assert peers.answer(b"v", b"w") == [peers.answered(b"w", b"back")]
    assert peers.answer(b"w", b"c") == [peers.answered(b"c", b"front")]


# -- time --------------------------------------------------------------------------------------------------------------


def test_request_that_waits_too_long_expires() -> None:
    peers = start(request_expiry_s=5.0)
    peers.ask(b"a", b"echo")
    peers.driver.advance(3.0)
    peers.ask(b"b", b"echo")
    peers.driver.advance(2.6)
    assert peers.driver.counters == {"expired": 1}
    assert peers.ready(b"w") == [peers.given(b"w", b"b")]


def test_request_in_the_hands_of_a_worker_does_not_expire_by_itself() -> None:
    peers = start(heartbeat_s=100.0, request_expiry_s=5.0)
    peers.ready(b"w")
    peers.ask(b"a", b"echo")
    peers.driver.advance(50.0)
    assert peers.answer(b"w", b"a") == [peers.answered(b"a")]


def test_requests_wait_for_ever_if_that_is_wanted() -> None:
    peers = start(heartbeat_s=1000.0, request_expiry_s=None)
    peers.ask(b"a", b"echo")
    peers.driver.advance(1e4)
    assert peers.ready(b"w") == [peers.given(b"w", b"a")]


def test_answer_that_takes_too_long_is_dropped() -> None:
    peers = start(heartbeat_s=100.0, reply_expiry_s=5.0)
    peers.ready(b"w")
    peers.ask(b"a", b"echo")
    peers.ask(b"b", b"echo")
    peers.driver.advance(6.0)
    assert peers.driver.account.held == 1
    assert peers.answer(b"w", b"a") == [peers.given(b"w", b"b")]
    assert peers.driver.counters == {"ready": 1, "expired": 1, "late": 1}


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_request_beyond_the_bound_is_refused_where_workers_are() -> None:
    peers = start(max_requests=2)
    peers.ready(b"w")
    for client in (b"a", b"b", b"c"):
        peers.ask(client, b"echo")
    assert peers.driver.is_open("frontend")
    assert peers.driver.counters == {"ready": 1, "refused": 1}
    peers.answer(b"w", b"a")
    peers.ask(b"c", b"echo")
    assert peers.driver.counters["refused"] == 1


def test_source_of_clients_alone_is_left_unread_at_the_bound() -> None:
    peers = start_apart(max_requests=2)
    peers.ready(b"w", b"other")
    peers.ask(b"a", b"echo")
    assert peers.driver.is_open("frontend")
    peers.ask(b"b", b"echo")
    assert not peers.driver.is_open("frontend")
    assert peers.driver.is_open("backend")
    assert peers.ready(b"v") == [peers.given(b"v", b"a")]
    assert not peers.driver.is_open("frontend")
    peers.answer(b"v", b"a")
    assert peers.driver.is_open("frontend")


def test_source_at_which_workers_are_is_read_at_the_bound() -> None:
    peers = start_apart(max_requests=1)
    peers.ready(b"v")
    peers.workers_at = "frontend"
    peers.ready(b"w", b"other")
    peers.ask(b"a", b"echo")
    assert peers.driver.is_open("frontend")


def test_source_is_read_again_when_a_request_is_abandoned() -> None:
    peers = start_apart(max_requests=1, give_again=False)
    peers.ready(b"w")
    peers.ask(b"a", b"echo")
    assert not peers.driver.is_open("frontend")
    peers.leave(b"w")
    assert peers.driver.is_open("frontend")


def test_source_is_read_again_when_requests_expire() -> None:
    peers = start_apart(max_requests=1, request_expiry_s=1.0)
    peers.ready(b"w", b"other")
    peers.ask(b"a", b"echo")
    assert not peers.driver.is_open("frontend")
    peers.driver.advance(1.2)
    assert peers.driver.is_open("frontend")


def test_source_is_read_while_nobody_knows_where_workers_will_come() -> None:
    peers = start_apart(max_requests=1)
    peers.ask(b"a", b"echo")
    peers.ask(b"b", b"echo")
    assert peers.driver.counters == {"refused": 1}
    assert peers.driver.is_open("frontend")


def test_same_id_at_another_port_is_another_peer() -> None:
    peers = start_apart()
    peers.ready(b"x")
    assert peers.ask(b"x", b"echo") == [peers.given(b"x", b"x")]
    assert peers.answer(b"x", b"x") == [peers.answered(b"x")]


def test_flood_of_names_is_refused_and_hinders_no_worker() -> None:
    peers = start(max_services=2, request_expiry_s=1.0)
    for number in range(5):
        peers.ask(b"c", b"name %d" % number)
    assert peers.driver.counters == {"refused": 3}
    peers.ready(b"w")
    assert peers.ask(b"c", b"echo") != []
    peers.driver.advance(1.2)
    assert peers.driver.counters["expired"] == 2
    assert peers.ask(b"c", b"name 7") == []
    assert peers.driver.counters["refused"] == 3


def test_names_are_forgotten_when_nobody_needs_them() -> None:
    behaviour = Majordomo(request_expiry_s=1.0)
    peers = Peers(drive(behaviour, ["frontend"]))
    for number in range(20):
        peers.ready(b"w", b"name %d" % number)
        peers.leave(b"w")
        peers.ask(b"c", b"other %d" % number)
    peers.driver.advance(1.2)
    assert len(behaviour._services) == 0
    assert behaviour._services.unserved == 0


def test_worker_beyond_the_bound_is_refused() -> None:
    peers = start(max_workers=1)
    peers.ready(b"w1")
    assert peers.ready(b"w2") == [peers.broken_off(b"w2")]
    peers.leave(b"w1")
    assert peers.ready(b"w2") == []
    assert peers.driver.counters == {"ready": 2, "refused": 1, "disconnected": 1}


@pytest.mark.parametrize("name", [b"", b"\xff", b"a" * 256, b"a\0b"])
def test_name_that_is_not_a_printable_string_is_malformed(name: bytes) -> None:
    peers = start()
    assert peers.ask(b"c", name) == []
    assert peers.ready(b"w", name) == [peers.broken_off(b"w")]
    assert peers.driver.counters == {"malformed": 2}


@profile(max_examples=50)
@given(st.lists(st.one_of(st.binary(max_size=3), st.sampled_from([b"MDPC01", b"MDPW01", b"MDPW02"])), max_size=6))
def test_garbage_is_counted_and_never_raises(frames: list[bytes]) -> None:
    """A peer may send what it likes."""
    peers = start()
    peers.ready(b"w")
    peers.driver.message("frontend", b"x", *frames)
    assert peers.driver.account.failed == 0
    assert balanced(peers.driver.account)


# -- management --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_broker_tells_whether_a_service_has_workers(version: Version) -> None:
    peers = start()

    def status(service: bytes) -> bytes:
        (reply,) = peers.ask(b"c", b"mmi.service", service, version=version)
        assert reply == peers.answered(b"c", b"mmi.service", reply.frames[-1], version=version)
        return reply.frames[-1]

    assert status(b"echo") == b"404"
    peers.ask(b"c", b"echo")
    assert status(b"echo") == b"404"
    peers.ready(b"w")
    assert status(b"echo") == b"200"  # it is busy, but it is there
    peers.leave(b"w")
    assert status(b"echo") == b"404"


def test_what_the_management_does_not_have_is_not_implemented() -> None:
    peers = start()
    assert peers.ask(b"c", b"mmi.workers") == [peers.answered(b"c", b"mmi.workers", b"501")]
    assert peers.ask(b"c", b"mmi.") == [peers.answered(b"c", b"mmi.", b"501")]
    assert peers.ask(b"c", b"mmi") == []  # a name as any other


def test_no_worker_may_take_the_name_of_the_management() -> None:
    peers = start()
    assert peers.ready(b"w", b"mmi.mine") == [peers.broken_off(b"w")]
    assert peers.driver.counters == {"refused": 1}


# -- by the kit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [MAJORDOMO, TITANIC_IN_MEMORY], ids=lambda device: device.name)
def test_kit_finds_no_fault(device: Device) -> None:
    for seed in range(15):
        check_behaviour_seed(seed, device)
    check_device(device, examples=3, columns=["python"], invariants=[never_raises])


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"heartbeat_s": 0}, "Majordomo: heartbeat_s is 0: expected a number of seconds from 0.01 on"),
        ({"heartbeat_s": None}, "Majordomo: heartbeat_s is None: expected a number of seconds from 0.01 on"),
        ({"heartbeat_s": float("nan")}, "Majordomo: heartbeat_s is nan: expected a number of seconds from 0.01 on"),
        ({"liveness": True}, "Majordomo: liveness is True: expected a whole number from 1 on"),
        ({"give_again": 1}, "Majordomo: give_again is 1: expected True or False"),
        (
            {"request_expiry_s": "1"},
            "Majordomo: request_expiry_s is '1': expected a number of seconds from 0.01 on, or None (inf in a file)",
        ),
        ({"max_workers": 0}, "Majordomo: max_workers is 0: expected a whole number from 1 on"),
    ],
)
def test_wrong_setting_is_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(BehaviourError) as raised:
        Majordomo(**settings)
    assert str(raised.value) == expected
