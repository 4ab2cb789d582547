"""Events: what happens in an engine, and to the connections of its brokers, over libzmq and over the wire."""

import os
import socket as net
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, ConfigError, Engine, Event, EventKind, EventReader, Limits
from pollbroker.events import EventSource
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, bind, free_address
from tests.support.clocks import Passing
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.descriptors import descriptors, opened_since
from tests.support.streamers import streamer_with
from tests.support.threads import in_thread
from tests.support.types import Connect


@pytest.fixture(params=["libzmq", "wire"])
def transport(request: pytest.FixtureRequest) -> str:
    """What serves the ports."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def plain_engine() -> Iterator[Engine]:
    """An engine in a thread of its own, with any pump."""
    with Engine() as engine:
        yield engine


def next_of(events: EventReader, kind: EventKind) -> Event:
    """The next event of a kind. Others before it are passed over."""
    while (event := events.read(DEADLINE_S)) is not None:
        if event.kind is kind:
            return event
    raise AssertionError(f"no {kind} came before the deadline")


def raw(endpoint: str) -> net.socket:
    """A connection to an address of tcp, which says nothing yet."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    return net.create_connection((host, int(port)), timeout=DEADLINE_S)


def reset(connection: net.socket) -> None:
    """End a connection so that the other side is told of an error."""
    connection.setsockopt(net.SOL_SOCKET, net.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# -- the end of the context --------------------------------------------------------------------------------------------


def test_context_that_is_terminated_while_somebody_listens_ends_the_brokers(transport: str) -> None:
    engine = Engine()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    with engine, engine.events() as events:
        ended = in_thread(engine.context.term)
        assert next_of(events, EventKind.BROKER_ENDED).broker == "a"
        ended.result(DEADLINE_S)


# -- brokers -----------------------------------------------------------------------------------------------------------


def test_brokers_come_and_go(plain_engine: Engine, transport: str) -> None:
    with plain_engine.events() as events:
        broker = plain_engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
        broker.pause()
        broker.pause()
        broker.resume()
        broker.resume()
        broker.remove()
        told = [events.read(DEADLINE_S) for _ in range(4)]
        assert [(event.kind, event.broker) for event in told if event is not None] == [
            ("broker_added", "a"),
            ("broker_paused", "a"),
            ("broker_resumed", "a"),
            ("broker_removed", "a"),
        ]
        assert events.read(0) is None


def test_broker_that_fails_says_why(plain_engine: Engine, connect: Connect) -> None:
    own = connect(zmq.PULL)
    bind(own)
    with plain_engine.events() as events:
        plain_engine.register(own, connect(zmq.PUSH), name="mine")
        plain_engine.call_soon_threadsafe(own.close)  # in a turn, since a socket must not be used by two at once
        wait_until(lambda: plain_engine.statistics().brokers["mine"].state == "failed")
        failed = next_of(events, EventKind.BROKER_FAILED)
        assert (failed.broker, failed.port) == ("mine", "")
        assert "closed under the engine" in failed.reason
        plain_engine.remove("mine")
        assert next_of(events, EventKind.BROKER_REMOVED).broker == "mine"


# -- peers -------------------------------------------------------------------------------------------------------------


def test_peers_that_connect_and_leave_are_told_with_their_addresses(
    plain_engine: Engine, transport: str, connect: Connect
) -> None:
    with plain_engine.events() as events:
        broker = plain_engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
        client = connect(zmq.REQ, broker.frontend.endpoint)
        connected = next_of(events, EventKind.PEER_CONNECTED)
        assert (connected.broker, connected.port) == ("a", "frontend")
        assert connected.address.startswith("tcp://127.0.0.1:")
        assert connected.address != broker.frontend.endpoint
        client.send(b"x")  # a handshake that is cut off would be told as one that has failed
        wait_until(lambda: flow_of(plain_engine, "a").received or plain_engine.peers("a"))
        client.close(linger=0)
        left = next_of(events, EventKind.PEER_LEFT)
        assert (left.broker, left.port, left.address, left.reason) == ("a", "frontend", connected.address, "left")


def test_peers_of_ipc_are_told_by_their_process(
    plain_engine: Engine, transport: str, connect: Connect, tmp_path: Path
) -> None:
    with plain_engine.events() as events:
        address = f"ipc://{tmp_path}/frontend"
        plain_engine.add("a", QUEUE, frontend=address, backend=ANY_PORT, transport=transport)
        client = connect(zmq.REQ, address)
        assert next_of(events, EventKind.PEER_CONNECTED).address == f"ipc, process {os.getpid()}"
        client.send(b"x")
        wait_until(lambda: flow_of(plain_engine, "a").received or plain_engine.peers("a"))
        client.close(linger=0)
        assert next_of(events, EventKind.PEER_LEFT).address == f"ipc, process {os.getpid()}"


def test_connections_that_a_broker_makes_are_told(plain_engine: Engine, transport: str, connect: Connect) -> None:
    peer = connect(zmq.PULL)
    address = free_address()
    with plain_engine.events() as events:
        plain_engine.add("a", STREAMER, frontend=ANY_PORT, backend=f">{address}", transport=transport)
        peer.bind(address)
        connected = next_of(events, EventKind.PEER_CONNECTED)
        assert (connected.port, connected.address) == ("backend", address)


def test_handshake_that_fails_is_told_and_is_no_peer_that_left(plain_engine: Engine, transport: str) -> None:
    with plain_engine.events() as events:
        broker = plain_engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
        with raw(broker.frontend.endpoint) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: somewhere\r\n" + b"x: y\r\n" * 20 + b"\r\n")
            own = f"tcp://127.0.0.1:{stranger.getsockname()[1]}"
            if transport == "libzmq":
                next_of(events, EventKind.PEER_CONNECTED)
        failed = next_of(events, EventKind.HANDSHAKE_FAILED)  # libzmq may wait until the stranger has left
        assert (failed.broker, failed.port, failed.address) == ("a", "frontend", own)
        assert failed.reason
        broker.remove()
        rest = []
        while (event := events.read(0)) is not None:
            rest.append(event.kind)
        assert EventKind.PEER_LEFT not in rest


def test_address_of_a_connection_that_was_reset_is_known(plain_engine: Engine) -> None:
    """The kernel does not tell it any more then."""
    with plain_engine.events() as events:
        broker = plain_engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
        stranger = raw(broker.frontend.endpoint)
        own = f"tcp://127.0.0.1:{stranger.getsockname()[1]}"
        wait_until(lambda: plain_engine.statistics().brokers["a"].state == "running" and stranger.recv(1))
        reset(stranger)
        failed = next_of(events, EventKind.HANDSHAKE_FAILED)
        assert (failed.address, failed.reason) == (own, "broken")


def test_connection_beyond_a_limit_is_told(plain_engine: Engine, connect: Connect) -> None:
    with plain_engine.events() as events:
        broker = plain_engine.add(
            "a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire", limits=Limits(connections=1)
        )
        connect(zmq.DEALER, broker.frontend.endpoint)
        assert next_of(events, EventKind.PEER_CONNECTED).port == "frontend"
        with raw(broker.frontend.endpoint) as second:
            refused = next_of(events, EventKind.CONNECTION_REFUSED)
            own = f"tcp://127.0.0.1:{second.getsockname()[1]}"
        assert (refused.broker, refused.port, refused.address, refused.reason) == ("a", "frontend", own, "connections")


def test_peers_that_were_there_before_are_told_when_they_leave(plain_engine: Engine, connect: Connect) -> None:
    broker = plain_engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    client = connect(zmq.DEALER, broker.frontend.endpoint)
    wait_until(broker.peers)
    (peer,) = broker.peers()
    with plain_engine.events() as events:
        client.close(linger=0)
        assert next_of(events, EventKind.PEER_LEFT).address == peer.address


def test_broker_that_is_removed_takes_leave_of_its_peers_first(plain_engine: Engine, connect: Connect) -> None:
    with plain_engine.events() as events:
        broker = plain_engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
        connect(zmq.DEALER, broker.frontend.endpoint)
        next_of(events, EventKind.PEER_CONNECTED)
        broker.remove()
        left = next_of(events, EventKind.PEER_LEFT)
        assert (left.port, left.reason) == ("frontend", "closed")
        assert next_of(events, EventKind.BROKER_REMOVED).broker == "a"


# -- those who listen --------------------------------------------------------------------------------------------------


def test_nothing_is_open_while_nobody_listens(plain_engine: Engine, connect: Connect) -> None:
    broker = plain_engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="libzmq")
    client = connect(zmq.DEALER, broker.frontend.endpoint)
    client.send(b"x")
    wait_until(lambda: plain_engine.statistics().brokers["a"].flows["frontend"].received == 1)
    before = descriptors()
    events = plain_engine.events()
    assert opened_since(before)
    events.close()
    events.close()
    wait_until(lambda: not opened_since(before))  # libzmq closes sockets in its own thread
    with plain_engine.events() as again:
        client.close(linger=0)
        assert next_of(again, EventKind.PEER_LEFT).port == "frontend"


def test_monitors_of_many_brokers_begin_and_end_in_several_turns() -> None:
    """Each look at this clock ends a portion, so that there is one broker in a turn."""
    with closing(Engine(clock=Passing())) as engine:
        for number in range(4):
            engine.add(f"{number}", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="libzmq")
        before = descriptors()
        events = engine.events()
        counts = [len(opened_since(before))]
        for _ in range(4):
            engine.step()
            counts.append(len(opened_since(before)))
        each = counts[0]
        assert each > 0
        assert counts == [each * number for number in (1, 2, 3, 4, 4)]
        with raw(engine.brokers["3"].frontend.endpoint):
            wait_until(lambda: has_connected(events.read(0)), engine=engine)
        events.close()
        with engine.events():  # the monitors of three have yet to end, and none begins a second time
            for _ in range(8):
                engine.step()
            wait_until(lambda: len(opened_since(before)) == counts[-1], engine=engine)
        wait_until(lambda: not opened_since(before), engine=engine)


def has_connected(event: Event | None) -> bool:
    return event is not None and event.kind is EventKind.PEER_CONNECTED


def test_monitor_of_a_registered_socket_is_left_to_the_caller(plain_engine: Engine, connect: Connect) -> None:
    own = connect(zmq.PULL)
    address = bind(own)
    monitor: Any = own.get_monitor_socket(zmq.EVENT_ACCEPTED)
    try:
        with plain_engine.events():
            plain_engine.register(own, connect(zmq.PUSH), name="mine")
            connect(zmq.PUSH, address)
            assert monitor.poll(DEADLINE_S * 1000)
    finally:
        plain_engine.remove("mine")
        own.disable_monitor()


def test_reader_that_does_not_read_loses_the_oldest_and_is_told(plain_engine: Engine) -> None:
    broker = plain_engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with plain_engine.events(most=3) as events:
        for _ in range(4):
            broker.pause()
            broker.resume()
        lost = events.read(0)
        assert lost is not None
        assert (lost.kind, lost.count, events.lost) == (EventKind.EVENTS_LOST, 5, 5)
        kinds = [event.kind for event in iter(lambda: events.read(0), None) if event is not None]
        assert kinds == ["broker_resumed", "broker_paused", "broker_resumed"]


def test_reader_ends_with_the_engine() -> None:
    engine = Engine()
    engine.start()
    events = engine.events()
    read: list[EventKind] = []
    reader = threading.Thread(target=lambda: read.extend(event.kind for event in events))
    reader.start()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.close()
    reader.join(DEADLINE_S)
    assert not reader.is_alive()
    assert read == ["broker_added", "broker_removed"]
    events.close()


def test_listener_that_raises_is_logged_and_harms_nobody(
    plain_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    end = plain_engine.on_event(lambda event: 1 / 0)
    with plain_engine.events() as events:
        plain_engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        assert next_of(events, EventKind.BROKER_ADDED).broker == "a"
    end()
    plain_engine.remove("a")
    (record,) = caplog.records
    assert "a listener of events raised" in record.getMessage()


def test_listener_may_leave_amid_an_event() -> None:
    source, told = EventSource(), list[str]()

    def once(event: Event) -> None:
        told.append(event.broker)
        source.remove(listener)

    listener = source.add(once)
    source.emit(EventKind.BROKER_ADDED, "a")
    source.emit(EventKind.BROKER_ADDED, "b")
    assert told == ["a"]
    assert not source.wanted


def test_callback_that_listens_twice_is_ended_once_at_a_time() -> None:
    told, ended = list[str](), list[str]()

    def listen(event: Event) -> None:
        told.append(event.broker)

    with closing(Engine()) as engine:
        first = engine.on_event(listen, at_end=lambda: ended.append("first"))
        engine.on_event(listen, at_end=lambda: ended.append("second"))
        engine.on_event(listen, at_end=lambda: ended.append("third"))
        engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        assert told == ["a"] * 3
        told.clear()
        first()
        first()
        engine.pause("a")
        assert told == ["a"] * 2
    assert ended == ["second", "third"]


def test_listener_that_another_one_ends_at_the_close_is_not_told_of_it() -> None:
    source, ended = EventSource(), list[str]()

    def end_others() -> None:
        ended.append("first")
        source.remove(other)

    source.add(print, end_others)
    other = source.add(print, lambda: ended.append("other"))
    source.close()
    assert ended == ["first"]
    assert not source.wanted


def test_reader_that_could_keep_nothing_is_refused(plain_engine: Engine) -> None:
    with pytest.raises(ConfigError, match=r"most: 0: expected 1 event or more"):
        plain_engine.events(most=0)


def test_event_of_a_handler_is_told_in_its_own_turn(plain_engine: Engine, connect: Connect) -> None:
    def add_another(frames: list[bytes]) -> list[bytes]:
        plain_engine.call_soon_threadsafe(plain_engine.pause, "handled")
        return frames

    with plain_engine.events() as events:
        broker = plain_engine.add("handled", streamer_with(add_another), frontend=ANY_PORT, backend=ANY_PORT)
        connect(zmq.PUSH, broker.frontend.endpoint).send(b"x")
        assert next_of(events, EventKind.BROKER_PAUSED).broker == "handled"
