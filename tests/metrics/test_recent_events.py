"""The last events, over HTTP: they are listened to only while somebody asks."""

import json
from collections.abc import Iterator

import pytest
import zmq

from pollbroker import QUEUE, Engine, EngineError
from pollbroker.metrics import serve_metrics
from pollbroker.metrics.recent_events import KEPT, LEASE_S, RecentEvents
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.http import ask
from tests.support.types import Connect


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One is enough: the pump and the waiter make no difference here."""
    with Engine() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(engine: Engine, clock: Clock) -> RecentEvents:
    return RecentEvents(engine, clock)


def begin(recent: RecentEvents) -> None:
    recent.after(0)
    wait_until(lambda: recent.listening)


def kinds(answer: dict[str, object]) -> list[object]:
    events = answer["events"]
    assert isinstance(events, list)
    return [event["kind"] for event in events]


def test_events_have_numbers_by_which_later_ones_are_asked_for(engine: Engine, recent: RecentEvents) -> None:
    begin(recent)
    engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    engine.pause("a")
    engine.resume("a")
    first = recent.after(0)
    assert kinds(first) == ["broker_added", "broker_paused", "broker_resumed"]
    assert (first["last"], first["missed"], first["listening"]) == (3, 0, True)
    assert kinds(recent.after(2)) == ["broker_resumed"]
    assert kinds(recent.after(3)) == []


def test_nobody_listens_before_somebody_asks(engine: Engine, recent: RecentEvents) -> None:
    engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    assert not recent.listening
    begin(recent)
    assert kinds(recent.after(0)) == []


def test_listening_ends_when_nobody_asks_any_more(engine: Engine, recent: RecentEvents, clock: Clock) -> None:
    begin(recent)
    clock.now_s += LEASE_S - 1
    recent.after(0)
    clock.now_s += LEASE_S - 1
    recent.end_if_unwanted()
    engine.statistics()  # what was put in the engine's thread is done
    assert recent.listening
    clock.now_s += 2
    recent.end_if_unwanted()
    wait_until(lambda: not recent.listening)
    engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    begin(recent)
    engine.remove("a")
    assert kinds(recent.after(0)) == ["broker_removed"]


def test_more_events_than_are_kept_are_said_to_be_missing(engine: Engine, recent: RecentEvents) -> None:
    begin(recent)
    engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    for _ in range(KEPT // 2):
        engine.pause("a")
        engine.resume("a")
    answer = recent.after(0)
    assert len(kinds(answer)) == KEPT
    assert (answer["last"], answer["missed"]) == (KEPT + 1, 1)
    assert recent.after(KEPT)["missed"] == 0


def test_closed_engine_has_no_events(engine: Engine, recent: RecentEvents, clock: Clock) -> None:
    begin(recent)
    engine.close(timeout_s=0)
    assert not recent.listening
    with pytest.raises(EngineError):
        recent.after(0)
    recent.end_if_unwanted()
    recent.close()


def test_end_of_the_server_ends_the_listening(engine: Engine) -> None:
    with serve_metrics(engine, "127.0.0.1:0") as server:
        begin(server.events)
    wait_until(lambda: not server.events.listening)


def test_request_that_is_not_answered_yet_does_not_pile_up_calls(engine: Engine, recent: RecentEvents) -> None:
    engine.stop()
    wait_until(lambda: not engine.running)
    for _ in range(100):
        recent.after(0)
    assert not recent.listening
    engine.start()
    wait_until(lambda: recent.listening)


def test_events_come_over_http(engine: Engine, connect: Connect) -> None:
    with serve_metrics(engine, "127.0.0.1:0") as server:
        status, text = ask(server.address, "/eventz")
        assert status == 200
        assert json.loads(text)["events"] == []
        wait_until(lambda: server.events.listening)
        broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
        connect(zmq.REQ, endpoint(broker.frontend))

        def connected() -> list[str]:
            events = json.loads(ask(server.address, "/eventz?after=0")[1])["events"]
            return [event["port"] for event in events if event["kind"] == "peer_connected"]

        wait_until(lambda: connected() == ["frontend"])


@pytest.mark.parametrize("after", ["-1", "x", "1.0", "9" * 19, "%00", "1e3"])
def test_what_is_no_number_is_refused(engine: Engine, after: str) -> None:
    with serve_metrics(engine, "127.0.0.1:0") as server:
        assert ask(server.address, f"/eventz?after={after}")[0] == 400
