"""A worker's conversation, without I/O: signs of life, heartbeats, and beginning again."""

from typing import Any

import pytest

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.paranoid_pirate import ppp
from pollbroker.rpc.dialects import Dialect, MajordomoDialect, PirateDialect
from pollbroker.rpc.dialog import Dialog, Do, Request, Step

MDP_1, MDP_2 = MajordomoDialect(b"echo", 1), MajordomoDialect(b"echo", 2)
HEARTBEAT = [ppp.HEARTBEAT]
QUESTION = [b"client", b"", b"question"]


def dialog(dialect: Dialect | None = None, **settings: Any) -> Dialog:
    given = {"heartbeat_s": 1.0, "liveness": 3, "reconnect_s": 1.0, "reconnect_max_s": 4.0} | settings
    return Dialog(dialect or PirateDialect(), now_s=0.0, chance=lambda: 0.0, **given)


def all_of(dialog: Dialog) -> list[Do]:
    """What is to be done now."""
    done: list[Do] = []
    while (do := dialog.take()) is not None:
        done.append(do)
    return done


def opened(dialect: Dialect | None = None, **settings: Any) -> Dialog:
    made = dialog(dialect, **settings)
    all_of(made)
    return made


@pytest.mark.parametrize(
    ("dialect", "ready"),
    [
        (PirateDialect(), [b"\x01"]),
        (MDP_1, [b"", b"MDPW01", b"\x01", b"echo"]),
        (MDP_2, [b"MDPW02", b"\x01", b"echo"]),
    ],
)
def test_conversation_begins_with_ready_on_a_new_socket(dialect: Dialect, ready: list[bytes]) -> None:
    assert all_of(dialog(dialect)) == [Step.OPEN, ready]


def test_heartbeats_are_sent_at_regular_intervals() -> None:
    one = opened()
    one.tick(0.9)
    assert all_of(one) == []
    assert one.next_s == 1.0
    one.tick(1.0)
    assert all_of(one) == [HEARTBEAT]
    assert one.next_s == 2.0


@pytest.mark.parametrize(("dialect", "next_s"), [(PirateDialect(), 1.0), (MDP_1, 1.5), (MDP_2, 1.5)])
def test_in_mdp_a_reply_is_a_heartbeat(dialect: Dialect, next_s: float) -> None:
    one = opened(dialect)
    questions = (QUESTION, mdp.worker_request(b"c", [b"q"], 1), mdp.worker_request(b"c", [b"q"], 2))
    for question in questions:
        one.received(question, 0.5)
    one.reply(one.requests.popleft(), [b"reply"], is_last=True, now_s=0.5)
    assert one.next_s == next_s


def test_broker_that_says_nothing_is_dead_and_the_waits_grow() -> None:
    one = opened()
    now_s = 0.0
    waits: list[float] = []
    for _ in range(4):
        one.received(HEARTBEAT, now_s) if not waits else None
        now_s += 3.0
        one.tick(now_s)
        assert all_of(one) == [Step.CLOSE]
        assert not one.is_open
        waits.append(one.next_s - now_s)
        now_s = one.next_s
        one.tick(now_s)
        assert all_of(one) == [Step.OPEN, [ppp.READY]]
    assert waits == [1.0, 2.0, 4.0, 4.0]


def test_waits_are_short_again_once_the_broker_was_heard() -> None:
    one = opened()
    for now_s in (3.0, 4.0, 7.0, 9.0):
        one.tick(now_s)
    one.received(HEARTBEAT, 9.5)
    one.tick(12.5)
    assert one.next_s == 13.5


def test_waits_differ_by_chance_by_half_at_most() -> None:
    for chance, wait_s in ((0.0, 1.0), (0.5, 0.75), (1.0, 0.5)):
        one = Dialog(
            PirateDialect(),
            heartbeat_s=1.0,
            liveness=3,
            reconnect_s=1.0,
            reconnect_max_s=4.0,
            now_s=0.0,
            chance=lambda chance=chance: chance,  # type: ignore[misc]
        )
        one.tick(3.0)
        assert one.next_s == 3.0 + wait_s


@pytest.mark.parametrize("sign", [HEARTBEAT, QUESTION])
def test_whatever_is_valid_is_a_sign_of_life(sign: list[bytes]) -> None:
    one = opened()
    for number in range(5):
        one.received(sign, 2.0 + 2 * number)
        one.tick(2.0 + 2 * number)
    assert one.is_open
    one.tick(13.0)
    assert not one.is_open


@pytest.mark.parametrize(
    ("dialect", "frames"),
    [
        (PirateDialect(), []),
        (PirateDialect(), [b""]),
        (PirateDialect(), [b"\x01"]),
        (PirateDialect(), [b"client", b""]),
        (PirateDialect(), [b"client", b"question"]),
        (MDP_1, []),
        (MDP_1, [b"", b"MDPW01", b"\x03", b"client", b"", b"reply"]),
        (MDP_1, [b"MDPW02", b"\x05"]),
        (MDP_1, [b"", b"MDPW01", b"\x02", b"client", b"question"]),
        (MDP_2, [b"", b"MDPW01", b"\x04"]),
    ],
)
def test_garbage_is_no_sign_of_life(dialect: Dialect, frames: list[bytes]) -> None:
    one = opened(dialect)
    one.received(frames, 2.0)
    assert one.malformed == 1
    assert not one.requests
    one.tick(3.0)
    assert not one.is_open


def test_request_is_answered_to_its_client() -> None:
    one = opened()
    one.received([b"outer", b"inner", b"", b"1", b"2"], 0.5)
    request = one.requests.popleft()
    assert request.frames == [b"1", b"2"]
    assert one.reply(request, [b"reply"], is_last=True, now_s=0.5)
    assert all_of(one) == [[b"outer", b"inner", b"", b"reply"]]


def test_parts_and_the_last_are_not_the_same_message() -> None:
    one = opened(MDP_2)
    one.received(mdp.worker_request(b"client", [b"question"], 2), 0.5)
    request = one.requests.popleft()
    one.reply(request, [b"1"], is_last=False, now_s=0.5)
    one.reply(request, [b"2"], is_last=True, now_s=0.5)
    assert all_of(one) == [
        [b"MDPW02", b"\x03", b"client", b"", b"1"],
        [b"MDPW02", b"\x04", b"client", b"", b"2"],
    ]


def test_reply_of_a_conversation_that_is_over_is_not_sent() -> None:
    one = opened()
    one.received(QUESTION, 0.0)
    request = one.requests.popleft()
    one.tick(3.0)
    assert not one.reply(request, [b"reply"], is_last=True, now_s=3.0)
    one.tick(4.0)
    assert not one.reply(request, [b"reply"], is_last=True, now_s=4.0)
    assert all_of(one) == [Step.CLOSE, Step.OPEN, [ppp.READY]]


def test_requests_that_wait_are_forgotten_with_their_conversation() -> None:
    one = opened()
    one.received(QUESTION, 0.0)
    one.tick(3.0)
    assert not one.requests


def test_requests_that_wait_are_bounded() -> None:
    one = opened()
    for _ in range(150):
        one.received(QUESTION, 0.0)
    assert (len(one.requests), one.malformed) == (100, 50)


@pytest.mark.parametrize("dialect", [MDP_1, MDP_2])
def test_disconnect_begins_another_conversation_at_once(dialect: MajordomoDialect) -> None:
    one = opened(dialect)
    one.received(dialect.heartbeat(), 0.5)
    one.received(dialect.disconnect(), 1.0)
    one.tick(1.0)
    assert all_of(one) == [Step.CLOSE, Step.OPEN, dialect.ready()]


def test_broker_that_says_disconnect_after_every_heartbeat_is_not_asked_without_a_pause() -> None:
    one = opened(MDP_1)
    now_s = 0.0
    for _ in range(3):
        one.received(MDP_1.heartbeat(), now_s)
        one.received(MDP_1.disconnect(), now_s)
        assert one.next_s == now_s + 1.0
        now_s = one.next_s
        one.tick(now_s)


def test_broker_that_says_nothing_but_disconnect_is_asked_more_and_more_rarely() -> None:
    one = opened(MDP_1)
    waits: list[float] = []
    now_s = 0.0
    for _ in range(3):
        one.received(MDP_1.disconnect(), now_s)
        waits.append(one.next_s - now_s)
        now_s = one.next_s
        one.tick(now_s)
    assert waits == [1.0, 2.0, 4.0]


def test_disconnect_in_answer_to_ready_is_a_refusal() -> None:
    waits: list[float] = []
    one = opened(MDP_1, on_refused=waits.append)
    for now_s in (0.1, 2.0):
        one.received(mdp.worker_disconnect(1), now_s)
        one.tick(now_s + 1.0)
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize("heard", [mdp.worker_heartbeat(1), mdp.worker_request(b"c", [b"q"], 1)])
def test_disconnect_of_a_broker_that_knew_the_worker_is_no_refusal(heard: list[bytes]) -> None:
    waits: list[float] = []
    one = opened(MDP_1, on_refused=waits.append)
    one.received(heard, 0.1)
    one.received(mdp.worker_disconnect(1), 0.2)  # the broker ends
    one.tick(10.0)
    one.received(mdp.worker_disconnect(1), 11.0)  # the answer to a heartbeat: another broker has taken its place
    assert waits == []


@pytest.mark.parametrize(
    ("dialect", "goodbye"),
    [(PirateDialect(), []), (MDP_1, [MDP_1.disconnect()]), (MDP_2, [MDP_2.disconnect()])],
)
def test_end_says_goodbye_and_lets_it_leave(dialect: Dialect, goodbye: list[list[bytes]]) -> None:
    one = opened(dialect)
    one.end(0.5)
    assert all_of(one) == [*goodbye, Step.LEAVE]
    one.tick(1e9)
    assert all_of(one) == []


def test_restart_says_goodbye_and_begins_again() -> None:
    one = opened(MDP_1)
    one.restart(0.5)
    one.tick(0.5)
    assert all_of(one) == [MDP_1.disconnect(), Step.LEAVE, Step.OPEN, MDP_1.ready()]
    assert not one.reply(Request([b"q"], (b"c",), 1), [b"r"], is_last=True, now_s=0.5)


def test_time_that_is_long_over_is_no_flood_of_heartbeats() -> None:
    one = opened()
    one.received(HEARTBEAT, 100.0)  # what had come meanwhile is read first
    one.tick(100.0)
    one.tick(100.0)
    assert all_of(one) == [HEARTBEAT]
    assert one.is_open
