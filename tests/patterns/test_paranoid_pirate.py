"""ParanoidPirate without an engine: who gets a request, when a worker has expired, and what becomes of its request."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from pollbroker import BehaviourError
from pollbroker.patterns.paranoid_pirate.paranoid_pirate import ParanoidPirate
from pollbroker.patterns.paranoid_pirate.ppp import HEARTBEAT, READY, split_envelope
from pollbroker.testing import Send, drive
from pollbroker.testing.driving import Driver
from tests.patterns.turns import stand_still, turn
from tests.support.accounts import balanced


def ready(*workers: bytes, **settings: Any) -> Driver:
    """A broker that has heard READY from these workers."""
    driver = drive(ParanoidPirate(**settings))
    for worker in workers:
        assert driver.message("backend", worker, READY) == []
    return driver


def ask(driver: Driver, client: bytes = b"c", question: bytes = b"q") -> list[Send]:
    return driver.message("frontend", client, b"", question)


def given(worker: bytes, client: bytes = b"c", question: bytes = b"q") -> Send:
    return Send("backend", [worker, client, b"", question])


# -- requests and replies ----------------------------------------------------------------------------------------------


def test_request_goes_to_the_worker_that_is_free_for_longest_and_the_reply_to_its_client() -> None:
    driver = ready(b"w1", b"w2")
    assert ask(driver, b"c1") == [given(b"w1", b"c1")]
    assert ask(driver, b"c2") == [given(b"w2", b"c2")]
    assert driver.message("backend", b"w2", b"c2", b"", b"reply") == [Send("frontend", [b"c2", b"", b"reply"])]
    driver.message("backend", b"w1", b"c1", b"", b"reply")
    assert ask(driver) == [given(b"w2")]
    assert driver.counters == {"ready": 2}
    assert balanced(driver.account)


def test_heartbeat_does_not_change_whose_turn_it_is() -> None:
    driver = ready(b"w1", b"w2")
    driver.message("backend", b"w1", HEARTBEAT)
    assert ask(driver) == [given(b"w1")]


def test_no_request_is_read_while_no_worker_is_free() -> None:
    driver = ready()
    assert not driver.is_open("frontend")
    driver.message("backend", b"w", READY)
    assert driver.is_open("frontend")
    ask(driver)
    assert not driver.is_open("frontend")
    driver.message("backend", b"w", b"c", b"", b"reply")
    assert driver.is_open("frontend")


def test_request_with_several_addresses_and_frames_keeps_them_all() -> None:
    driver = ready(b"w")
    frames = [b"outer", b"inner", b"", b"1", b"", b"2"]
    assert driver.message("frontend", *frames) == [Send("backend", [b"w", *frames])]
    assert driver.message("backend", b"w", *frames) == [Send("frontend", frames)]


def test_empty_question_is_a_question() -> None:
    driver = ready(b"w")
    assert driver.message("frontend", b"c", b"", b"") == [Send("backend", [b"w", b"c", b"", b""])]


# -- heartbeats and expiry ---------------------------------------------------------------------------------------------


def test_each_worker_is_sent_heartbeats_also_while_it_has_a_request() -> None:
    driver = ready(b"w1", b"w2")
    ask(driver)
    assert driver.advance(0.9) == []
    assert driver.advance(0.1) == [Send("backend", [b"w1", HEARTBEAT]), Send("backend", [b"w2", HEARTBEAT])]
    assert len(driver.advance(1.0)) == 2


@pytest.mark.parametrize("sign", [[HEARTBEAT], [b"another", b"", b"reply"], [b"garbage", b"garbage"]])
def test_worker_lives_as_long_as_something_is_heard_of_it(sign: list[bytes]) -> None:
    driver = ready(b"w")
    for _ in range(5):
        driver.advance(2.9)
        driver.message("backend", b"w", *sign)
    assert driver.is_open("frontend")
    driver.advance(3.9)
    assert driver.counters["expired"] == 1
    assert not driver.is_open("frontend")


def test_many_workers_are_sent_their_heartbeats_in_several_turns() -> None:
    workers = [b"%03d" % number for number in range(250)]
    driver = ready(*workers)
    stand_still(driver, 1.0)
    turns = [[send.frames for send in turn(driver)] for _ in range(4)]
    assert [len(sends) for sends in turns] == [100, 100, 50, 0]
    assert list(chain(*turns)) == [[worker, HEARTBEAT] for worker in workers]


def test_worker_that_is_lost_amid_the_heartbeats_is_sent_none() -> None:
    driver = ready(*(b"%03d" % number for number in range(150)))
    driver.message("backend", b"000", HEARTBEAT)  # it was heard last, and comes last
    stand_still(driver, 1.0)
    turn(driver)
    driver.leave("backend", b"000")
    assert ask(driver) == [given(b"001")]
    driver.come_back("backend", b"000")
    assert [send.frames for send in turn(driver)] == [[b"%03d" % number, HEARTBEAT] for number in range(101, 150)]


def test_worker_expires_also_if_one_that_came_before_it_lives() -> None:
    driver = ready(b"w1", b"w2")
    for _ in range(3):
        driver.advance(1.0)
        driver.message("backend", b"w1", HEARTBEAT)
    assert driver.counters == {"ready": 2, "expired": 1}


def test_worker_that_has_expired_is_sent_nothing_and_begins_again() -> None:
    driver = ready(b"w")
    driver.advance(3.0)
    assert driver.counters == {"ready": 1, "expired": 1}
    assert driver.advance(1.0) == []
    assert driver.message("backend", b"w", HEARTBEAT) == []
    assert driver.advance(1.0) == []
    assert driver.counters["unknown"] == 1
    driver.message("backend", b"w", READY)
    assert ask(driver) == [given(b"w")]


def test_no_request_is_given_to_a_worker_whose_time_is_over_before_the_next_heartbeat() -> None:
    driver = ready()
    driver.advance(0.5)
    driver.message("backend", b"old", READY)
    driver.advance(2.0)
    driver.message("backend", b"new", READY)
    driver.advance(1.2)  # 0.2 s after the time of the first
    assert ask(driver) == [given(b"new")]
    assert driver.counters["expired"] == 1


def test_request_that_finds_all_workers_expired_waits_for_another() -> None:
    driver = ready()
    driver.advance(0.5)
    driver.message("backend", b"old", READY)
    driver.advance(3.2)
    assert driver.is_open("frontend")
    assert ask(driver) == []
    assert (driver.account.held, driver.is_open("frontend")) == (1, False)
    assert driver.message("backend", b"new", READY) == [given(b"new")]
    assert not driver.is_open("frontend")
    assert balanced(driver.account)


def test_worker_does_not_expire_while_the_engine_stands_still_and_its_heartbeats_wait() -> None:
    driver = ready(b"w")
    stand_still(driver, 100.0)
    assert ask(driver) == [given(b"w")]  # which is read before the workers' heartbeats
    driver.message("backend", b"w", HEARTBEAT)
    driver.advance(0.0)
    assert driver.counters == {"ready": 1}


def test_stand_still_counts_as_one_heartbeat() -> None:
    driver = ready(b"w")
    driver.advance(1.0)
    stand_still(driver, 100.0)
    driver.advance(0.9)
    assert driver.counters == {"ready": 1}
    driver.advance(0.1)
    assert driver.counters == {"ready": 1, "expired": 1}


def test_settings_say_how_often_and_how_long() -> None:
    driver = ready(b"w", heartbeat_s=0.5, liveness=5)
    assert driver.advance(0.5) == [Send("backend", [b"w", HEARTBEAT])]
    driver.advance(1.9)
    assert driver.is_open("frontend")
    driver.advance(0.1)
    assert not driver.is_open("frontend")


# -- a worker with a request in its hands ------------------------------------------------------------------------------


def expires(driver: Driver) -> list[Send]:
    driver.advance(2.9)
    driver.message("backend", b"other", HEARTBEAT)
    return [send for send in driver.advance(0.1) if send.frames[1:] != [HEARTBEAT]]


def begins_again(driver: Driver) -> list[Send]:
    return driver.message("backend", b"w", READY)


@pytest.mark.parametrize("end", [expires, begins_again])
def test_its_request_is_given_to_another_once(end: Callable[[Driver], list[Send]]) -> None:
    driver = ready(b"w", b"other")
    ask(driver)
    assert driver.account.held == 1
    assert end(driver) == [given(b"other")]
    assert driver.counters["given_again"] == 1
    assert driver.message("backend", b"other", READY) == []  # and this one has lost it, too
    assert driver.counters["lost"] == 1
    assert driver.account.held == 0
    assert balanced(driver.account)


@pytest.mark.parametrize("end", [expires, begins_again])
def test_its_request_is_lost_if_it_is_not_to_be_given_again(end: Callable[[Driver], list[Send]]) -> None:
    driver = ready(b"w", b"other", give_again=False)
    ask(driver)
    assert driver.account.held == 0
    assert end(driver) == []
    assert driver.counters["lost"] == 1
    assert balanced(driver.account)


def test_request_that_is_given_again_goes_before_all_that_are_not_read_yet() -> None:
    driver = ready(b"w")
    ask(driver, question=b"1")
    driver.advance(3.0)
    assert (driver.account.held, driver.is_open("frontend")) == (1, False)
    assert driver.message("backend", b"new", READY) == [given(b"new", question=b"1")]
    assert not driver.is_open("frontend")


def test_late_reply_is_dropped() -> None:
    driver = ready(b"w", b"other")
    ask(driver)
    assert expires(driver) == [given(b"other")]
    assert driver.message("backend", b"w", b"c", b"", b"late") == []
    assert driver.message("backend", b"other", b"c", b"", b"reply") == [Send("frontend", [b"c", b"", b"reply"])]
    assert driver.message("backend", b"other", b"c", b"", b"reply again") == []
    assert driver.counters["late"] == 2
    assert balanced(driver.account)


def test_reply_for_another_client_leaves_the_worker_busy() -> None:
    driver = ready(b"w")
    ask(driver)
    assert driver.message("backend", b"w", b"another", b"", b"reply") == []
    assert driver.counters["late"] == 1
    assert not driver.is_open("frontend")
    assert driver.message("backend", b"w", b"c", b"", b"reply") == [Send("frontend", [b"c", b"", b"reply"])]


def test_ready_twice_is_one_worker() -> None:
    driver = ready(b"w", b"w")
    assert driver.counters == {"ready": 1, "ready_again": 1}
    ask(driver)
    assert not driver.is_open("frontend")


@pytest.mark.parametrize("give_again", [True, False])
def test_request_for_a_worker_that_has_left_goes_to_another(give_again: bool) -> None:
    driver = ready(b"w1", b"w2", b"w3", give_again=give_again)
    driver.leave("backend", b"w1")
    driver.leave("backend", b"w2")
    assert ask(driver) == [given(b"w3")]
    assert driver.counters == {"ready": 3, "gone": 2}
    assert (driver.account.unroutable, driver.account.added) == (2, 2 + give_again)
    assert balanced(driver.account)


def test_request_waits_if_all_workers_have_left() -> None:
    driver = ready(b"w1", give_again=False)
    driver.leave("backend", b"w1")
    assert ask(driver) == []
    assert (driver.account.held, driver.is_open("frontend")) == (1, False)
    assert driver.message("backend", b"w2", READY) == [given(b"w2")]
    assert driver.account.held == 0
    assert balanced(driver.account)


def test_worker_that_leaves_with_a_request_is_noticed_at_the_next_heartbeat() -> None:
    driver = ready(b"w1", b"w2")
    ask(driver)
    driver.leave("backend", b"w1")
    assert driver.advance(1.0) == [Send("backend", [b"w2", HEARTBEAT]), given(b"w2")]
    assert driver.counters == {"ready": 2, "gone": 1, "given_again": 1}
    assert balanced(driver.account)


def test_request_that_was_never_received_goes_before_others_that_wait() -> None:
    driver = ready(b"w1", b"w2")
    ask(driver, question=b"1")
    ask(driver, question=b"2")
    driver.advance(3.0)
    driver.leave("backend", b"w3")
    assert driver.message("backend", b"w3", READY) == []
    assert driver.message("backend", b"w4", READY) == [given(b"w4", question=b"1")]


@pytest.mark.parametrize("client", [b"c", HEARTBEAT])
def test_request_that_is_not_to_be_given_again_is_lost_with_its_worker(client: bytes) -> None:
    driver = ready(b"w1", b"w2", give_again=False)
    ask(driver, client)
    driver.leave("backend", b"w1")
    assert driver.advance(1.0) == [Send("backend", [b"w2", HEARTBEAT])]
    assert driver.counters == {"ready": 2, "gone": 1, "lost": 1}


def test_reply_for_a_client_that_has_left_is_dropped_and_its_worker_is_free() -> None:
    driver = ready(b"w")
    ask(driver)
    driver.leave("frontend", b"c")
    assert driver.message("backend", b"w", b"c", b"", b"reply") == []
    assert driver.is_open("frontend")
    assert driver.account.unroutable == 1
    assert balanced(driver.account)


# -- garbage, and what is bounded --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "frames"),
    [
        ("backend", [b"w"]),
        ("backend", [b"w", b""]),
        ("backend", [b"w", b"\x03"]),
        ("backend", [b"w", b"READY"]),
        ("backend", [b"w", b"c", b"reply"]),
        ("backend", [b"w", b"c", b""]),
        ("backend", [b"", b"", b""]),
        ("frontend", [b"c"]),
        ("frontend", [b"c", b""]),
        ("frontend", [b"c", b"question"]),
        ("frontend", [b"c", b"question", b""]),
    ],
)
def test_garbage_is_counted(port: str, frames: list[bytes]) -> None:
    driver = ready(b"w1")
    assert driver.message(port, *frames) == []
    assert driver.counters == {"ready": 1, "malformed": 1}
    assert driver.account.failed == 0
    assert balanced(driver.account)


def test_workers_are_bounded() -> None:
    driver = ready(b"w1", b"w2", max_workers=2)
    assert driver.message("backend", b"w3", READY) == []
    assert driver.counters == {"ready": 2, "refused": 1}
    driver.message("backend", b"w2", READY)
    assert driver.counters["ready_again"] == 1
    driver.advance(3.0)
    driver.message("backend", b"w3", READY)
    assert driver.counters["ready"] == 3


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"heartbeat_s": 0}, "heartbeat_s is 0: expected a number of seconds from 0.01 on"),
        ({"heartbeat_s": float("nan")}, "heartbeat_s is nan: expected"),
        ({"heartbeat_s": "1"}, "heartbeat_s is '1': expected"),
        ({"liveness": 0}, "liveness is 0: expected a whole number from 1 on"),
        ({"liveness": 1.5}, "liveness is 1.5: expected"),
        ({"max_workers": True}, "max_workers is True: expected"),
        ({"give_again": 1}, "give_again is 1: expected True or False"),
    ],
)
def test_wrong_setting_is_refused(wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(BehaviourError, match=f"^ParanoidPirate: {expected}"):
        ParanoidPirate(**wrong)


@pytest.mark.parametrize(
    ("frames", "parts"),
    [
        ([b"a", b"", b"x"], ([b"a"], [b"x"])),
        ([b"a", b"b", b"", b"", b"x"], ([b"a", b"b"], [b"", b"x"])),
        ([b"", b"", b"x"], ([b""], [b"x"])),
        ([b"a", b""], None),
        ([b"a", b"x"], None),
        ([b"", b"x"], None),
        ([], None),
    ],
)
def test_envelope_ends_at_the_first_empty_frame_after_an_address(
    frames: list[bytes], parts: tuple[list[bytes], list[bytes]] | None
) -> None:
    assert split_envelope(frames) == parts


def test_what_workers_say_at_the_end_is_no_loss_but_for_replies() -> None:
    pirate = ParanoidPirate()
    assert not pirate.is_lost("backend", [b"w", READY])
    assert not pirate.is_lost("backend", [b"w", HEARTBEAT])
    assert pirate.is_lost("backend", [b"w", b"c", b"", b"answer"])
    assert pirate.is_lost("frontend", [b"c", READY])
