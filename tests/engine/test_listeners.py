"""What those may do who are told what happens: listeners of events, and behaviours at their end. They may remove
brokers, end the run, and raise errors."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing

import pytest
import zmq

from pollbroker import (
    QUEUE,
    STREAMER,
    Behaviour,
    Broker,
    BrokerStatistics,
    Device,
    Engine,
    EngineError,
    Event,
    EventKind,
)
from pollbroker.broker import working_broker
from pollbroker.engine import engine_loop
from tests.support.addresses import ANY_PORT, bind, free_address
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads, in_thread
from tests.support.types import Connect, MakeEngine


@pytest.fixture
def plain_engine() -> Iterator[Engine]:
    """An engine in a thread of its own, with any pump."""
    with Engine() as engine:
        yield engine


def remove_at(engine: Engine, kind: EventKind, broker: Broker) -> "Future[BrokerStatistics]":
    """Remove a broker in a listener, at the first event of a kind. The future has what that gave."""
    removed: Future[BrokerStatistics] = Future()

    def listen(event: Event) -> None:
        if event.kind is kind and not removed.done():
            removed.set_result(broker.remove())

    engine.on_event(listen)
    return removed


def queue_with_a_peer(engine: Engine, connect: Connect) -> Broker:
    """A broker at the wire, to which a peer is connected."""
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    connect(zmq.DEALER, broker.frontend.endpoint)
    wait_until(broker.peers, engine=None if engine.running else engine)
    return broker


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_broker_that_has_failed_can_be_removed_by_who_is_told(
    plain_engine: Engine, connect: Connect, is_waited_for: bool
) -> None:
    own = connect(zmq.PULL)
    bind(own)
    broker = plain_engine.register(own, connect(zmq.PUSH), name="a")
    waited_for = [broker.removed] if is_waited_for else []
    removed = remove_at(plain_engine, EventKind.BROKER_FAILED, broker)
    plain_engine.call_soon_threadsafe(own.close)
    wait_until(lambda: plain_engine.statistics() and removed.done())  # asking makes the engine look at the socket
    assert removed.result(DEADLINE_S).state == "failed"
    for future in waited_for:
        assert future.result(DEADLINE_S).state == "failed"
    assert not plain_engine.brokers


def test_broker_that_fails_can_be_removed_by_who_is_told_that_its_peer_leaves(
    plain_engine: Engine, connect: Connect
) -> None:
    broker = queue_with_a_peer(plain_engine, connect)
    removed = remove_at(plain_engine, EventKind.PEER_LEFT, broker)
    with plain_engine.events() as events:
        plain_engine.context.term()
        assert removed.result(DEADLINE_S).state == "ended"
        assert broker.removed.result(DEADLINE_S).state == "ended"
        kinds = [event.kind for event in iter(lambda: events.read(0), None) if event is not None]
    assert kinds == ["peer_left", "broker_ended", "broker_removed"]


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_broker_that_is_being_removed_is_gone_when_somebody_is_told_that_its_peer_leaves(
    plain_engine: Engine, connect: Connect, is_waited_for: bool
) -> None:
    broker = queue_with_a_peer(plain_engine, connect)
    waited_for = [broker.removed] if is_waited_for else []
    removed = remove_at(plain_engine, EventKind.PEER_LEFT, broker)
    plain_engine.begin_removal("a")
    assert removed.result(DEADLINE_S).state == "removed"
    for future in waited_for:
        assert future.result(DEADLINE_S).state == "removed"
    assert not plain_engine.brokers
    plain_engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    assert not plain_engine.stopping  # it counts its brokers right


def test_broker_ends_whole_though_who_is_told_of_it_ends_the_run(connect: Connect) -> None:
    with closing(Engine()) as engine:
        broker = queue_with_a_peer(engine, connect)
        removed = broker.removed
        end = engine.on_event(lambda event: sys.exit())
        events = engine.events()
        with pytest.raises(SystemExit):
            engine.remove("a")
        assert removed.result(DEADLINE_S).state == "removed"
        assert not engine.brokers
        end()
    assert [event.kind for event in events] == ["broker_removed"]  # of that the others are told all the same


def test_each_listener_is_told_of_one_thing_after_the_other(plain_engine: Engine) -> None:
    """Also of what a listener before it does because of an event."""
    broker = plain_engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    remove_at(plain_engine, EventKind.BROKER_PAUSED, broker)
    with plain_engine.events() as events:
        broker.pause()
        told = [event.kind for event in iter(lambda: events.read(0), None) if event is not None]
    assert told == ["broker_paused", "broker_removed"]


def test_broker_that_has_taken_the_place_of_another_can_be_removed_by_who_is_told(
    plain_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    address = free_address()
    plain_engine.add("a", STREAMER, frontend=address, backend=ANY_PORT, transport="wire")
    seen: list[str] = []

    def remove(event: Event) -> None:
        seen.append(event.kind)
        if event.kind is EventKind.BROKER_REMOVED and len(seen) == 1:
            plain_engine.remove("a")

    plain_engine.on_event(remove)
    broker = plain_engine.add("a", STREAMER, frontend=address, backend=ANY_PORT, transport="wire", replaces="a")
    assert seen == ["broker_removed", "broker_added", "broker_removed"]
    assert broker.state == "removed"
    assert not plain_engine.brokers
    assert not caplog.records


class EndsWith(Behaviour):
    """A behaviour that makes a call when its broker ends."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def on_message(self, port: str, frames: list[bytes]) -> None:
        """Drop it."""

    def on_end(self) -> None:
        self._call()


def test_behaviour_cannot_remove_its_own_broker_when_that_ends(
    plain_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device("own", zmq.PULL, zmq.PUSH, behaviour=lambda: EndsWith(lambda: plain_engine.remove("a")))
    broker = plain_engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT)
    removed = broker.removed
    plain_engine.begin_removal("a")
    assert removed.result(DEADLINE_S).state == "removed"
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "its own handler cannot steer it" in str(record.exc_info[1])


def test_broker_ends_whole_though_its_behaviour_ends_the_run() -> None:
    with closing(Engine()) as engine:
        device = Device("own", zmq.PULL, zmq.PUSH, behaviour=lambda: EndsWith(sys.exit))
        broker = engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT)
        with pytest.raises(SystemExit):
            engine.remove("a")
        assert broker.state == "removed"
        assert all(port.socket.closed for port in working_broker(broker).ports)


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_broker_can_be_removed_by_who_is_told_that_a_peer_connects(
    plain_engine: Engine, connect: Connect, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = plain_engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    removed = remove_at(plain_engine, EventKind.PEER_CONNECTED, broker)
    connect(zmq.DEALER, broker.frontend.endpoint)
    assert removed.result(DEADLINE_S).state == "removed"
    plain_engine.statistics()  # the turn has ended
    assert not plain_engine.brokers
    assert not caplog.records


# -- where nobody makes turns ------------------------------------------------------------------------------------------
#
# The thread that adds or removes a broker calls the listeners itself then, amid what it does.


def in_a_listener(engine: Engine, call: Callable[[], object]) -> object:
    """What a call gives, or the `EngineError` that it raises, in a listener that the calling thread calls."""
    told: list[object] = []

    def listen(_: Event) -> None:
        try:
            told.append(call())
        except EngineError as error:
            told.append(error)

    end = engine.on_event(listen)
    engine.add("told", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    end()
    return told[0]


@pytest.mark.parametrize("call", [Engine.run, Engine.step, Engine.drain, Engine.pause_and_flush, Engine.close])
def test_listener_cannot_make_turns_amid_a_call(make_engine: MakeEngine, call: Callable[[Engine], object]) -> None:
    engine = make_engine()
    error = in_a_listener(engine, lambda: call(engine))
    assert isinstance(error, EngineError)
    assert "from within a turn of the loop" in str(error)
    assert engine.statistics().turns == 0
    assert list(engine.brokers) == ["told"]


def test_listener_can_remove_a_broker_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add("other", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    removed = in_a_listener(engine, lambda: engine.remove("other"))
    assert isinstance(removed, BrokerStatistics)
    assert removed.state == "removed"
    assert engine.statistics().turns == 0


def test_listener_is_refused_a_start_that_would_wait_for_a_close(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with Threads() as threads:

        def start_while_it_closes() -> None:
            threads.submit(engine.close)
            wait_until(engine_loop(engine).calls.pending)  # it waits for the thread that calls this
            engine.start()

        error = in_a_listener(engine, start_while_it_closes)
    assert isinstance(error, EngineError)
    assert str(error) == "the engine is being started or closed already"
    assert engine.closed


def test_broker_that_a_listener_adds_makes_an_engine_run_again_that_had_nothing_to_do(
    plain_engine: Engine, connect: Connect
) -> None:
    own = connect(zmq.PULL)
    bind(own)
    broker = plain_engine.register(own, connect(zmq.PUSH), name="a")
    plain_engine.call_soon_threadsafe(own.close)
    wait_until(lambda: plain_engine.statistics() and not plain_engine.running)  # asking makes it look at the socket
    plain_engine.on_event(
        lambda event: (
            event.kind is EventKind.BROKER_REMOVED
            and plain_engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        )
    )
    broker.remove()
    wait_until(lambda: plain_engine.running)


# -- what is called when the engine closes -----------------------------------------------------------------------------


def test_error_of_a_call_at_the_end_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    engine.on_event(print, at_end=lambda: 1 / 0)
    events = engine.events()
    engine.close()
    assert in_thread(events.read).result(DEADLINE_S) is None
    (record,) = caplog.records
    assert "a listener of events raised at the end of the engine" in record.getMessage()


def test_call_at_the_end_that_ends_the_program_keeps_no_other_from_being_made() -> None:
    engine = Engine()
    engine.on_event(print, at_end=sys.exit)
    events = engine.events()
    with pytest.raises(SystemExit):
        engine.close()
    assert engine.closed
    assert in_thread(events.read).result(DEADLINE_S) is None
