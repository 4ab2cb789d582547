"""The sharder without sockets: which shard is given what, and what a shard that is full holds up."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pollbroker import SHARDER, BehaviourError, DeviceError, Sharder, sharder
from pollbroker.patterns.sharder.ring import HashRing
from pollbroker.testing import Driver, Send, drive
from tests.support.accounts import balanced

SHARDS = ("shard0", "shard1", "shard2")
CLIENTS = tuple(b"c%d" % number for number in range(12))
RING = HashRing(SHARDS)


def sharder_with(**changed: Any) -> Driver:
    return drive(Sharder(**changed), ("frontend", *changed.get("shards", SHARDS)))


def by_last_frame(frames: list[bytes]) -> str:
    return frames[-1].decode()


def of(shard: str, number: int = 0) -> bytes:
    """A client of this shard."""
    return [client for client in CLIENTS if RING.find(client) == shard][number]


# -- what is yet to be answered ----------------------------------------------------------------------------------------


def test_requests_that_a_shard_has_taken_are_outstanding_until_they_are_answered() -> None:
    behaviour = Sharder(shards=("a", "b"), function=by_last_frame)
    driver = drive(behaviour, ("frontend", "a", "b"))
    driver.fill("b")
    driver.message("frontend", b"c", b"a")
    driver.message("frontend", b"c", b"b")
    driver.message("frontend", b"c", b"b")
    assert (behaviour.outstanding, behaviour.held) == (1, 2)
    driver.empty("b")
    driver.advance(0)
    assert (behaviour.outstanding, behaviour.held) == (3, 0)
    for shard in (b"a", b"b", b"b"):
        driver.message(shard.decode(), b"c", shard)
    assert behaviour.outstanding == 0


# -- which shard -------------------------------------------------------------------------------------------------------


def test_each_client_keeps_its_shard_by_default() -> None:
    driver = sharder_with()
    for client in CLIENTS:
        for question in (b"1", b"2"):
            frames = [client, b"", question]
            assert driver.message("frontend", *frames) == [Send(RING.find(client), frames)]
    assert {RING.find(client) for client in CLIENTS} == set(SHARDS)


def test_key_may_be_in_another_frame() -> None:
    driver = sharder_with(key_frame=2)
    taken = {driver.message("frontend", client, b"", b"customer 7", b"x")[0].port for client in CLIENTS}
    assert taken == {RING.find(b"customer 7")}


def test_request_without_the_frame_that_has_the_key_is_counted() -> None:
    driver = sharder_with(key_frame=2)
    assert driver.message("frontend", b"c", b"") == []
    assert driver.counters == {"malformed": 1}
    assert balanced(driver.account)


def test_function_chooses_the_shard() -> None:
    driver = sharder_with(shards=("a", "b"), function=by_last_frame)
    assert driver.message("frontend", b"c", b"", b"b") == [Send("b", [b"c", b"", b"b"])]
    assert driver.message("frontend", b"c", b"", b"nowhere") == []
    assert driver.counters == {"no_shard": 1}
    with pytest.raises(UnicodeDecodeError):  # the function's
        driver.message("frontend", b"c", b"", b"\xff")
    assert driver.account.failed == 1
    assert balanced(driver.account)


def test_replies_go_back_to_the_clients() -> None:
    driver = sharder_with()
    for shard in SHARDS:
        assert driver.message(shard, b"c", b"", b"reply") == [Send("frontend", [b"c", b"", b"reply"])]
    assert driver.message("shard0", b"reply without a client") == []
    assert driver.counters == {"malformed": 1}


def test_places_on_the_ring_are_the_same_everywhere() -> None:
    found = [HashRing(SHARDS).find(key) for key in (b"", b"a", b"b", b"c", b"customer 7", bytes(1000))]
    assert found == ["shard0", "shard0", "shard2", "shard2", "shard2", "shard1"]


names = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


# A key keeps its shard when another is added, or goes to the new one.
@settings(max_examples=10)
@given(names, st.lists(st.binary(max_size=8), max_size=40))
def test_new_shard_takes_keys_and_moves_no_other(shards: list[str], keys: list[bytes]) -> None:
    before, after = HashRing(shards), HashRing([*shards, "new"])
    for key in keys:
        assert after.find(key) in (before.find(key), "new")


# Each of N shards has about one key of N, and so does one that is added.
@settings(max_examples=8)
@given(names)
def test_shards_have_about_the_same_number_of_keys(shards: list[str]) -> None:
    ring = HashRing([*shards, "new"])
    found = Counter(ring.find(b"key %d" % number) for number in range(2000))
    mean = 2000 / (len(shards) + 1)
    assert all(0.6 * mean < found[shard] < 1.5 * mean for shard in (*shards, "new"))


@settings(max_examples=8)
@given(names, st.randoms(use_true_random=False), st.binary())
def test_order_in_which_shards_are_named_does_not_matter(shards: list[str], chance: Any, key: bytes) -> None:
    assert HashRing(chance.sample(shards, len(shards))).find(key) == HashRing(shards).find(key)


# -- shards that are full ----------------------------------------------------------------------------------------------


def ask(driver: Driver, client: bytes, question: bytes) -> list[Send]:
    return driver.message("frontend", client, b"", question)


def questions(sends: Sequence[Send]) -> list[bytes]:
    return [send.frames[-1] for send in sends]


def test_full_shard_holds_up_its_own_requests_only() -> None:
    driver = sharder_with()
    driver.fill("shard0")
    for number in range(3):
        assert ask(driver, of("shard0"), b"%d" % number) == []
    assert driver.account.held == 3
    assert questions(ask(driver, of("shard1"), b"other")) == [b"other"]
    assert driver.message("shard0", b"c", b"reply")  # its replies are read all the while
    assert questions(driver.empty("shard0") + driver.advance(0)) == [b"0", b"1", b"2"]
    assert questions(ask(driver, of("shard0"), b"3")) == [b"3"]
    assert balanced(driver.account)


def test_requests_that_come_while_others_wait_do_not_overtake_them() -> None:
    driver = sharder_with()
    driver.fill("shard0")
    for number in range(300):
        ask(driver, of("shard0"), b"%d" % number)
    came = questions(driver.empty("shard0"))
    came += questions(ask(driver, of("shard0"), b"300"))
    assert came == [b"0", b"1", b"2"]  # one, then two: a shard seldom has room for all
    came += questions(driver.advance(0.0))
    assert came == [b"%d" % number for number in range(301)]
    assert driver.account.held == 0


def test_shard_that_refuses_again_has_its_requests_in_order() -> None:
    driver = sharder_with()
    driver.fill("shard0")
    for number in range(5):
        ask(driver, of("shard0"), b"%d" % number)
    driver.empty("shard1")  # room elsewhere: the shard is asked in vain
    driver.advance(1.0)
    ask(driver, of("shard0"), b"5")
    assert questions(driver.empty("shard0") + driver.advance(0)) == [b"%d" % number for number in range(6)]
    assert balanced(driver.account)


def test_more_requests_than_may_wait_for_a_shard_are_dropped_by_name() -> None:
    driver = sharder_with(max_waiting=2)
    driver.fill("shard0")
    for number in range(4):
        ask(driver, of("shard0"), b"%d" % number)
    assert driver.counters == {"shard_full": 2}
    assert questions(ask(driver, of("shard1"), b"other")) == [b"other"]
    assert questions(driver.empty("shard0") + driver.advance(0)) == [b"0", b"1"]
    assert balanced(driver.account)


def test_no_request_is_read_while_so_many_wait_if_that_was_asked_for() -> None:
    driver = sharder_with(max_waiting=2, when_full="wait")
    driver.fill("shard0")
    ask(driver, of("shard0"), b"0")
    assert driver.is_open("frontend")
    ask(driver, of("shard0"), b"1")
    assert not driver.is_open("frontend")
    driver.empty("shard1")
    driver.advance(1.0)
    assert not driver.is_open("frontend")
    assert questions(driver.empty("shard0")) == [b"0"]
    assert questions(driver.advance(0)) == [b"1"]
    assert driver.is_open("frontend")
    assert driver.counters == {}


def test_stop_sends_what_waits() -> None:
    driver = sharder_with()
    driver.fill("shard0")
    ask(driver, of("shard0"), b"0")
    driver.stop()
    assert driver.account.held == 1
    assert questions(driver.empty("shard0")) == [b"0"]
    assert balanced(driver.account)


class SharderMachine(RuleBasedStateMachine):
    """Clients of three shards, some of which are full now and then."""

    driver: Driver

    @initialize(max_waiting=st.integers(1, 4), when_full=st.sampled_from(["drop", "wait"]))
    def begin(self, max_waiting: int, when_full: Any) -> None:
        self.behaviour = Sharder(max_waiting=max_waiting, when_full=when_full)
        self.driver = drive(self.behaviour, ("frontend", *SHARDS))
        self.max_waiting = max_waiting
        self.when_full = when_full
        self.full: set[str] = set()
        self.asked: dict[str, list[bytes]] = {shard: [] for shard in SHARDS}
        self.sent: dict[str, list[bytes]] = {shard: [] for shard in SHARDS}
        self.number = 0

    def _note(self, sends: list[Send]) -> None:
        for send in sends:
            assert send.port not in self.full
            self.sent[send.port] += send.frames[-1:]

    @precondition(lambda self: self.driver.is_open("frontend"))
    @rule(client=st.sampled_from(CLIENTS))
    def request(self, client: bytes) -> None:
        self.number += 1
        self.asked[RING.find(client)].append(b"%d" % self.number)
        self._note(ask(self.driver, client, b"%d" % self.number))

    @rule(shard=st.sampled_from(SHARDS))
    def fill(self, shard: str) -> None:
        self.driver.fill(shard)
        self.full.add(shard)

    @rule(shard=st.sampled_from(SHARDS))
    def empty(self, shard: str) -> None:
        self.full.discard(shard)
        self._note(self.driver.empty(shard))

    @rule()
    def pass_time(self) -> None:
        self._note(self.driver.advance(0.001))

    # Each shard is sent what was asked of it, in order, but for what was dropped by name.
    @invariant()
    def order_is_kept_and_nothing_is_lost(self) -> None:
        assert balanced(self.driver.account)
        held = self.driver.account.held
        assert held <= self.behaviour.max_held
        dropped = self.driver.counters.get("shard_full", 0)
        assert self.number == sum(map(len, self.sent.values())) + held + dropped
        for shard in SHARDS:
            rest = iter(self.asked[shard])
            assert all(number in rest for number in self.sent[shard])
        if self.when_full == "wait":
            assert dropped == 0

    # A shard that has room owes nothing once a moment has passed.
    @invariant()
    def full_shard_holds_up_no_other(self) -> None:
        if self.when_full == "drop":
            assert self.driver.is_open("frontend")
        assert all(self.driver.is_open(shard) for shard in SHARDS)
        self._note(self.driver.advance(0.0))
        waiting = {shard for shard, numbers in self.asked.items() if numbers[-1:] != self.sent[shard][-1:]}
        if not self.full and not self.driver.counters:
            assert not waiting
            assert self.driver.is_open("frontend")


TestSharderMachine = SharderMachine.TestCase
TestSharderMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


# -- settings, and the device ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"shards": ()}, r"shards is \(\): expected one or more names of ports, each once"),
        ({"shards": ("a", "a")}, r"shards is \('a', 'a'\): expected one or more names of ports, each once"),
        ({"shards": (1,)}, r"shards is \(1,\): expected one or more names of ports, each once"),
        ({"key_frame": None}, "key_frame is None: expected a whole number"),
        ({"function": "crc32"}, "function is 'crc32': expected a function, or None"),
        ({"max_waiting": 0}, "max_waiting is 0: expected a whole number from 1 on"),
        ({"when_full": "hold"}, "when_full is 'hold': expected one of drop, wait"),
    ],
)
def test_unfit_setting_is_refused(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(BehaviourError, match=f"^Sharder: {expected}$"):
        Sharder(**changed)


def test_device_has_a_port_for_each_shard() -> None:
    device = sharder(("a", "b"), key_frame=2, when_full="wait")
    assert {port: types[0] for port, types in device.ports.items()} == {
        "frontend": zmq.ROUTER,
        "a": zmq.DEALER,
        "b": zmq.DEALER,
    }
    assert list(SHARDER.ports) == ["frontend", *SHARDS]
    with pytest.raises(DeviceError, match="capture: no port can have this name"):
        sharder(("capture",))


def test_device_whose_ports_are_not_the_shards_does_not_begin() -> None:
    with pytest.raises(BehaviourError, match="Sharder: a: it cannot be read; expected one of frontend, shard0"):
        drive(Sharder(shards=("a",)), ("frontend", *SHARDS))
