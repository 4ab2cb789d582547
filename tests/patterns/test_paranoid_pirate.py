"""ParanoidPirate without an engine: who gets a request, when a worker has expired, and what becomes of its request."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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


# -- whatever happens, in whatever order -------------------------------------------------------------------------------

WORKERS = (b"w1", b"w2", b"w3")
CLIENTS = (b"c1", b"c2")
HEARTBEAT_S, LIVENESS = 1.0, 3
GARBAGE: list[list[bytes]] = [[], [b""], [b"\x03"], [b"\x03", b""], [b"\x03", b"\x03"]]


class Model:
    """What the broker does, with lists that are searched from end to end."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.heard: list[tuple[bytes, float]] = []
        """Each worker that is known, and when it was heard of, those first that were not heard of for longest."""
        self.free: list[bytes] = []
        self.doing: dict[bytes, tuple[list[bytes], bool]] = {}
        """The request of each busy worker, and whether another had it before."""
        self.waiting: list[tuple[list[bytes], bool]] = []
        self.left: set[bytes] = set()
        self._sends: list[Send] = []

    @property
    def known(self) -> list[bytes]:
        return [worker for worker, _ in self.heard]

    def ready(self, worker: bytes) -> list[Send]:
        self.left.discard(worker)
        if worker not in self.known and len(self.heard) == 2:
            return []
        self._forget(worker)
        self.heard.append((worker, self.now_s))
        self.free.append(worker)
        return self._sent()

    def heartbeat(self, worker: bytes) -> None:
        if worker in self.known:
            self.heard = [one for one in self.heard if one[0] != worker] + [(worker, self.now_s)]

    def reply(self, worker: bytes, frames: list[bytes]) -> list[Send]:
        self.heartbeat(worker)
        if worker in self.doing and self.doing[worker][0][0] == frames[0]:
            del self.doing[worker]
            self.free.append(worker)
            self._sends.append(Send("frontend", frames))
        return self._sent()

    def request(self, frames: list[bytes]) -> list[Send]:
        self._expire()
        self.waiting.append((frames, False))
        return self._sent()

    def tick(self) -> list[Send]:
        self._expire()
        self._give()
        self._sends += [Send("backend", [worker, HEARTBEAT]) for worker in self.known]
        return self._sent()

    def _expire(self) -> None:
        for worker, heard_s in self.heard.copy():
            if self.now_s - heard_s >= HEARTBEAT_S * LIVENESS:
                self._forget(worker)

    def _forget(self, worker: bytes) -> None:
        self.heard = [one for one in self.heard if one[0] != worker]
        self.free = [one for one in self.free if one != worker]
        request, was_given = self.doing.pop(worker, ([], True))
        if not was_given:
            self.waiting.append((request, True))

    def _give(self) -> None:
        while self.waiting and self.free:
            worker, request = self.free.pop(0), self.waiting.pop(0)
            self.doing[worker] = request
            self._sends.append(Send("backend", [worker, *request[0]]))

    def _sent(self) -> list[Send]:
        """What is sent and arrives. What was for a worker that has left is given to another."""
        arrived = []
        self._give()
        while self._sends:
            sends, self._sends = self._sends, []
            for send in sends:
                worker, *frames = send.frames
                if send.port == "frontend" or worker not in self.left:
                    arrived.append(send)
                elif worker in self.known:
                    if worker in self.doing and self.doing[worker][0] == frames:
                        self.waiting.insert(0, self.doing.pop(worker))
                    self._forget(worker)
                    self._give()
        return arrived


class PirateMachine(RuleBasedStateMachine):
    """The broker and the model are told the same, and send the same."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = drive(ParanoidPirate(heartbeat_s=HEARTBEAT_S, liveness=LIVENESS, max_workers=2))
        self.model = Model()
        self.number = 0

    @rule(worker=st.sampled_from(WORKERS))
    def worker_is_ready(self, worker: bytes) -> None:
        self.driver.come_back("backend", worker)
        assert self.driver.message("backend", worker, READY) == self.model.ready(worker)

    @rule(worker=st.sampled_from(WORKERS))
    def worker_sends_a_heartbeat(self, worker: bytes) -> None:
        assert self.driver.message("backend", worker, HEARTBEAT) == []
        self.model.heartbeat(worker)

    @rule(worker=st.sampled_from(WORKERS), client=st.sampled_from(CLIENTS))
    def worker_replies(self, worker: bytes, client: bytes) -> None:
        if worker in self.model.doing:
            client = self.model.doing[worker][0][0]
        reply = [client, b"", b"reply"]
        assert self.driver.message("backend", worker, *reply) == self.model.reply(worker, reply)

    @rule(worker=st.sampled_from(WORKERS))
    def worker_leaves(self, worker: bytes) -> None:
        self.driver.leave("backend", worker)
        self.model.left.add(worker)

    @precondition(lambda self: self.driver.is_open("frontend"))
    @rule(client=st.sampled_from(CLIENTS))
    def client_asks(self, client: bytes) -> None:
        self.number += 1
        request = [client, b"", b"%d" % self.number]
        assert self.driver.message("frontend", *request) == self.model.request(request)

    @rule(port=st.sampled_from(["frontend", "backend"]), frames=st.sampled_from(GARBAGE))
    def garbage_comes(self, port: str, frames: list[bytes]) -> None:
        if self.driver.is_open(port):
            assert self.driver.message(port, b"stranger", *frames) == []

    @rule(quarters=st.integers(1, 14))
    def time_passes(self, quarters: int) -> None:
        for _ in range(quarters):
            self.model.now_s += 0.25
            sends = self.driver.advance(0.25)
            assert sends == (self.model.tick() if self.model.now_s % HEARTBEAT_S == 0 else [])

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        assert balanced(self.driver.account)
        assert self.driver.account.failed == 0
        assert self.driver.account.held == len(self.model.waiting) + sum(
            not was_given for _, was_given in self.model.doing.values()
        )
        assert self.driver.account.held <= 2

    @invariant()
    def requests_are_read_while_a_worker_is_free(self) -> None:
        assert self.driver.is_open("frontend") == bool(self.model.free)


TestPirateMachine = PirateMachine.TestCase
TestPirateMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
