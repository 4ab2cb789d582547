"""ParanoidPirate without an engine: who gets a request, when a worker has expired, and what becomes of its request."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pollbroker import BehaviourError
from pollbroker.patterns.paranoid_pirate import ParanoidPirate
from pollbroker.patterns.ppp import HEARTBEAT, READY, split_envelope
from pollbroker.testing import Send, drive
from pollbroker.testing.driving import Driver
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
        ({"heartbeat_s": 0}, "heartbeat_s is 0: expected a number of seconds above 0"),
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


# -- whatever happens, in whatever order -------------------------------------------------------------------------------

WORKERS = (b"w1", b"w2", b"w3")
CLIENTS = (b"c1", b"c2")
HEARTBEAT_S, LIVENESS = 1.0, 3
GARBAGE: list[list[bytes]] = [[], [b""], [b"\x03"], [b"\x03", b""], [b"\x03", b"\x03"]]


class PirateMachine(RuleBasedStateMachine):
    """Three workers, two clients, and a model that knows who was heard of when, and who has which request."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = drive(ParanoidPirate(heartbeat_s=HEARTBEAT_S, liveness=LIVENESS, max_workers=2))
        self.heard_s: dict[bytes, float] = {}
        self.doing: dict[bytes, list[bytes]] = {}
        self.times_given: dict[bytes, int] = {}
        self.answered: set[bytes] = set()
        self.number = 0

    def _note(self, sends: list[Send]) -> None:
        """What was sent to workers are heartbeats and requests; the latter only to workers that are free and alive."""
        for port, frames in sends:
            if port == "frontend" or frames[1:] == [HEARTBEAT]:
                continue
            worker, *request = frames
            assert worker in self.heard_s, "given to a worker that is not known"
            assert self.driver.now_s() - self.heard_s[worker] < HEARTBEAT_S * LIVENESS
            assert worker not in self.doing, "given to a worker that is busy"
            self.doing[worker] = request
            self.times_given[request[-1]] = self.times_given.get(request[-1], 0) + 1
            assert self.times_given[request[-1]] <= 2
            assert request[-1] not in self.answered

    def _expire(self) -> None:
        for worker, heard_s in list(self.heard_s.items()):
            if self.driver.now_s() - heard_s >= HEARTBEAT_S * LIVENESS:
                del self.heard_s[worker]
                self.doing.pop(worker, None)

    @rule(worker=st.sampled_from(WORKERS))
    def worker_is_ready(self, worker: bytes) -> None:
        before = self.driver.counters.get("refused", 0)
        sends = self.driver.message("backend", worker, READY)
        if self.driver.counters.get("refused", 0) > before:
            assert worker not in self.heard_s
            return
        self.doing.pop(worker, None)
        self.heard_s[worker] = self.driver.now_s()
        self._note(sends)

    @rule(worker=st.sampled_from(WORKERS))
    def worker_sends_a_heartbeat(self, worker: bytes) -> None:
        assert self.driver.message("backend", worker, HEARTBEAT) == []
        if worker in self.heard_s:
            self.heard_s[worker] = self.driver.now_s()

    @rule(worker=st.sampled_from(WORKERS), client=st.sampled_from(CLIENTS))
    def worker_replies(self, worker: bytes, client: bytes) -> None:
        request = self.doing.get(worker, [client, b"", b"nothing"])
        sends = self.driver.message("backend", worker, *request[:-1], b"reply")
        if worker in self.heard_s:
            self.heard_s[worker] = self.driver.now_s()
        replies = [send for send in sends if send.port == "frontend"]
        if self.doing.pop(worker, None) is None:
            assert replies == []
        else:
            assert replies == [Send("frontend", [request[0], b"", b"reply"])]
            assert request[-1] not in self.answered
            self.answered.add(request[-1])
        self._note(sends)

    @precondition(lambda self: self.driver.is_open("frontend"))
    @rule(client=st.sampled_from(CLIENTS))
    def client_asks(self, client: bytes) -> None:
        self.number += 1
        self._expire()
        self._note(self.driver.message("frontend", client, b"", b"%d" % self.number))

    @rule(port=st.sampled_from(["frontend", "backend"]), frames=st.sampled_from(GARBAGE))
    def garbage_comes(self, port: str, frames: list[bytes]) -> None:
        if self.driver.is_open(port):
            assert self.driver.message(port, b"stranger", *frames) == []
            assert self.driver.account.failed == 0

    @rule(eighths=st.integers(1, 32))
    def time_passes(self, eighths: int) -> None:
        for _ in range(eighths):
            sends = self.driver.advance(0.125)
            if self.driver.now_s() % HEARTBEAT_S == 0:
                self._expire()
            self._note(sends)

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        assert balanced(self.driver.account)
        assert self.driver.account.held <= 2

    @invariant()
    def requests_are_read_while_a_worker_is_free(self) -> None:
        free = set(self.heard_s) - set(self.doing)
        assert self.driver.is_open("frontend") == bool(free)


TestPirateMachine = PirateMachine.TestCase
TestPirateMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
