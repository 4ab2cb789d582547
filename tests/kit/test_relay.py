"""The kit for other people's relays: it accepts pollbroker, catches what is bad on purpose, and knows zmq.proxy."""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import zmq

from pollbroker import QUEUE, REFLECTOR, DeviceError
from pollbroker.testing.relay import SITUATIONS, Relay, check_relay, examine_relay, situations_of
from pollbroker.testing.relay.checking import judge, play
from pollbroker.testing.violation import InvariantViolation
from tests.support import relays
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Socket

Change = Callable[[int, list[bytes]], list[list[bytes]]]
"""What a toy makes of its how manieth message."""

SOON_S = 2.0
"""The deadline where it is known to pass: what is waited for never comes. On a busy machine a relay may have to wait
for a core for a second."""


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """Every relay's thread, and the one that ends its context, has ended by the end of a test."""
    yield
    wait_until(lambda: not any(one.name.startswith("relay") for one in threading.enumerate()))


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What a toy waits for that would else wait for ever: the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def toy(change: Change) -> Relay:
    """A relay in one thread that makes of each message what `change` does."""

    def relay(frontend: Socket, backend: Socket) -> None:
        numbers = count(1)
        poller = zmq.Poller()
        sinks = {frontend: backend, backend: frontend}
        for source in sinks:
            poller.register(source, zmq.POLLIN)
        while True:
            for source, _ in poller.poll():
                for message in change(next(numbers), source.recv_multipart()):
                    sinks[source].send_multipart(message)

    return relay


def broken(relay: Relay, device: str = "queue", *situations: str, deadline_s: float = SOON_S, seed: int = 0) -> str:
    """Which promise a relay breaks first."""
    with pytest.raises(InvariantViolation) as caught:
        check_relay(relay, device, situations=situations or None, deadline_s=deadline_s, seed=seed)
    return caught.value.invariant


# pollbroker keeps everything


@pytest.mark.parametrize("device", ["queue", "forwarder", "streamer"])
@pytest.mark.parametrize("pump", ["native", "python"])
def test_pollbroker_keeps_its_promises_in_every_situation(pump: str, device: str) -> None:
    check_relay(relays.Pollbroker(pump), device, deadline_s=DEADLINE_MS / 1000)


@pytest.mark.parametrize("seed", range(1, 5))
def test_pollbroker_keeps_its_promises_with_peers_of_every_type(seed: int) -> None:
    check_relay(relays.pollbroker_native, situations=["plain traffic"], seed=seed, deadline_s=DEADLINE_MS / 1000)


def test_what_a_relay_counts_as_dropped_is_not_lost_in_silence() -> None:
    def silent(frontend: Socket, backend: Socket) -> None:
        relays.Pollbroker("native")(frontend, backend)

    assert broken(silent, "queue", "slow client") == "no loss in silence"


class HalfHonest:
    """Drops the third message of each direction, and counts it in one of them."""

    def __init__(self) -> None:
        self.counted = 0

    def dropped(self) -> int:
        return self.counted

    def __call__(self, frontend: Socket, backend: Socket) -> None:
        numbers = {frontend: count(1), backend: count(1)}
        poller = zmq.Poller()
        for source in numbers:
            poller.register(source, zmq.POLLIN)
        while True:
            for source, _ in poller.poll():
                message = source.recv_multipart()
                if next(numbers[source]) != 3:
                    (backend if source is frontend else frontend).send_multipart(message)
                elif source is frontend:
                    self.counted += 1


def test_what_a_relay_counts_is_counted_once_for_all_directions() -> None:
    assert broken(HalfHonest(), "queue", "plain traffic") == "no loss in silence"


# Relays that are bad on purpose


def test_swapped_frames_are_noticed() -> None:
    assert broken(toy(lambda _, message: [[*message[:-2], *message[:-3:-1]]])) == "whole and unchanged"


def test_lost_messages_are_noticed() -> None:
    assert broken(toy(lambda number, message: [message] if number % 7 else [])) == "no loss in silence"
    assert broken(toy(lambda number, message: [message] if number % 7 else []), "streamer") == "no loss in silence"


def test_doubled_messages_are_noticed() -> None:
    assert broken(toy(lambda _, message: [message, message])) == "no duplicate"


@pytest.mark.slow
def test_messages_that_overtake_are_noticed() -> None:
    held: list[list[bytes]] = []

    def change(number: int, message: list[bytes]) -> list[list[bytes]]:
        held.append(message)
        if number % 5 == 0:
            return []
        ready = held[::-1]
        held.clear()
        return ready

    assert broken(toy(change), "streamer") == "order"


def test_messages_that_go_back_where_they_came_from_are_noticed() -> None:
    def relay(frontend: Socket, backend: Socket) -> None:
        while True:
            frontend.send_multipart(frontend.recv_multipart())

    assert broken(relay) == "nothing crosses"


def test_replies_to_the_wrong_client_are_noticed() -> None:
    seen: dict[bytes, None] = {}

    def change(_: int, message: list[bytes]) -> list[list[bytes]]:
        seen.setdefault(message[0])
        if b"in reply to" in message and len(seen) > 1:
            message[0] = next(one for one in seen if one != message[0])
        return [message]

    assert broken(toy(change)) == "reply to its requester"


def test_relay_that_ends_when_a_client_has_left_is_noticed() -> None:
    assert broken(toy(lambda _, message: [message]), "queue", "peer leaves") == "survives"


@pytest.mark.slow
def test_relay_that_does_not_sleep_is_noticed() -> None:
    def relay(frontend: Socket, backend: Socket) -> None:
        while True:
            for source, sink in ((frontend, backend), (backend, frontend)):
                if source.poll(0) and sink.poll(0, zmq.POLLOUT):
                    sink.send_multipart(source.recv_multipart())

    assert broken(relay, "queue", "consumer away") == "does not spin"


# On a busy machine a thread that wants a core waits for most of the time, whether it spins or has just woken up.
@pytest.mark.parametrize(("ran", "verdict"), [(0.001, "kept"), (0.05, "does not spin")])
def test_waiting_for_a_core_is_neither_spinning_nor_sleep(
    monkeypatch: pytest.MonkeyPatch, ran: float, verdict: str
) -> None:
    def read_threads() -> dict[str, tuple[float, float]]:
        now_s = time.monotonic()
        return {"relay": (ran * now_s, 0.95 * now_s)}

    monkeypatch.setattr("pollbroker.testing.relay.harness.read_threads", read_threads)
    trace = play(relays.poller_loop, QUEUE, "consumer away", deadline_s=DEADLINE_MS / 1000)
    try:
        judge(trace)
        found = "kept"
    except InvariantViolation as violation:
        found = violation.invariant
    assert found == verdict


@pytest.mark.slow
def test_relay_that_does_not_end_is_noticed(released: threading.Event) -> None:
    def relay(frontend: Socket, backend: Socket) -> None:
        try:
            relays.poller_loop(frontend, backend)
        except zmq.ContextTerminated:
            released.wait()

    assert broken(relay) == "ends with its context"


def test_relay_that_ends_in_an_error_of_its_own_is_noticed() -> None:
    def relay(frontend: Socket, backend: Socket) -> None:
        try:
            relays.poller_loop(frontend, backend)
        except zmq.ContextTerminated:
            raise ValueError from None

    assert broken(relay) == "ends with its context"


@pytest.mark.slow
@pytest.mark.parametrize("device", ["queue", "forwarder", "streamer"])
def test_relay_that_blocks_is_noticed(released: threading.Event, device: str) -> None:
    def change(number: int, message: list[bytes]) -> list[list[bytes]]:
        if number == 20:
            released.wait()
        return [message]

    def relay(frontend: Socket, backend: Socket) -> None:
        toy(change)(frontend, backend)

    stopped: Any = relay
    assert broken(stopped, device, "plain traffic") == "does not block for ever"


@pytest.mark.slow
def test_relay_that_waits_for_one_client_is_noticed() -> None:
    assert broken(toy(lambda _, message: [message]), "queue", "stalled client") == "progress"


# In processes of their own


def holds_the_gil(frontend: Socket, backend: Socket) -> None:
    """Lets no other thread of its process run any more."""
    ctypes.PyDLL(None).pause()


def aborts(frontend: Socket, backend: Socket) -> None:
    """Ends its process."""
    os.abort()


@pytest.mark.slow
def test_relay_that_hangs_its_process_is_reported_by_the_deadline() -> None:
    verdicts = examine_relay("tests.kit.test_relay:holds_the_gil", situations=["plain traffic"], process_deadline_s=2)
    assert verdicts == {"plain traffic": "hung: its process was killed after 2 s"}


def test_relay_that_aborts_its_process_is_reported() -> None:
    verdicts = examine_relay("tests.kit.test_relay:aborts", situations=["plain traffic"])
    assert verdicts["plain traffic"].startswith("died (SIGABRT)")


@pytest.mark.slow
def test_verdicts_of_a_process_are_those_of_the_invariants() -> None:
    chosen = ["slow consumer", "stalled direction"]
    verdicts = examine_relay("tests.support.relays:poller_loop", situations=chosen, deadline_s=SOON_S)
    assert list(verdicts) == chosen
    assert verdicts["slow consumer"] == "kept"
    assert verdicts["stalled direction"].startswith("progress: frontend-0 waited 2 s in vain")


# zmq.proxy and monitored_queue


@pytest.mark.parametrize("situation", ["plain traffic", "slow consumer", "stalled consumer", "end in traffic"])
def test_zmq_proxy_keeps_promises_in_these_situations(situation: str) -> None:
    for device in ("queue", "forwarder", "streamer"):
        check_relay(relays.zmq_proxy, device, situations=[situation], deadline_s=DEADLINE_MS / 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("relay", "situation", "invariant"),
    [
        (relays.zmq_proxy, "slow client", "no loss in silence"),
        (relays.zmq_proxy, "stalled direction", "progress"),
        (relays.zmq_proxy, "consumer away", "does not spin"),
        (relays.zmq_proxy_mandatory, "stalled client", "progress"),
        (relays.zmq_proxy_mandatory, "peer leaves", "survives"),
    ],
)
def test_zmq_proxy_breaks_promises_in_these_situations(relay: Relay, situation: str, invariant: str) -> None:
    assert broken(relay, "queue", situation) == invariant


def test_compiled_monitored_queue_merges_a_bare_message_with_the_next_and_the_pure_one_does_not() -> None:
    check_relay(relays.pure_monitored_queue, relays.SWITCH, deadline_s=DEADLINE_MS / 1000)
    with pytest.raises(InvariantViolation, match="whole and unchanged"):
        check_relay(relays.monitored_queue, relays.SWITCH, deadline_s=SOON_S)


# What it is told


def test_unfit_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="situation 'rain': expected one of plain traffic"):
        check_relay(relays.zmq_proxy, situations=["rain"])
    with pytest.raises(DeviceError, match="reflector: expected a frontend of ROUTER"):
        check_relay(relays.zmq_proxy, REFLECTOR)
    with pytest.raises(RuntimeError, match=r"'tests\.support\.relays:nobody' cannot be imported"):
        examine_relay("tests.support.relays:nobody")
    assert set(situations_of(QUEUE)) < set(SITUATIONS)
