"""Ports of the wire that stop listening, listen again, and connect again, while their broker is at work."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from pollbroker import QUEUE, STREAMER, Broker, ConfigError, EndpointError, Engine, EngineError
from pollbroker.broker import working_broker
from pollbroker.control import Control
from pollbroker.wire import connecting, native
from pollbroker.wire.addresses import parse_connected
from pollbroker.wire.connecting import Connection
from pollbroker.wire.streams import CONNECTED, WAITING
from tests.support.addresses import ANY_PORT, bind, refused
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect, Socket
from tests.support.wire_ports import ended_by, in_engine, peer_count, wire_port
from tests.wire.tries import Waits, options_with, serve
from tests.wire.zmtp import RawListener, greeting, ready


def add(engine: Engine, frontend: str = ANY_PORT, **options: object) -> Broker:
    return engine.add("a", STREAMER, frontend=frontend, backend=ANY_PORT, transport="wire", **options)  # type: ignore[arg-type]


# -- disable and enable ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "ipc", "abstract", "ipc wildcard", "several"])
def test_disabled_broker_refuses_connections_and_goes_on_with_those_it_has(
    engine: Engine, connect: Connect, tmp_path: Path, kind: str
) -> None:
    frontends = {
        "tcp": ANY_PORT,
        "ipc": f"ipc://{tmp_path}/f",
        "abstract": f"ipc://@pollbroker-{os.getpid()}-f",
        "ipc wildcard": "ipc://*",
        "several": f"{ANY_PORT},ipc://{tmp_path}/f",
    }
    broker = add(engine, frontends[kind])
    producer = connect(zmq.PUSH, broker.frontend.endpoint)
    consumer = connect(zmq.PULL, broker.backend.endpoint)
    producer.send(b"before")
    assert consumer.recv() == b"before"
    endpoints = [*broker.frontend.endpoints, *broker.backend.endpoints]
    for _ in range(3):
        broker.disable()
        broker.disable()  # which changes nothing
        assert (broker.disabled, broker.statistics().disabled, broker.state) == (True, True, "running")
        assert all(map(refused, endpoints))
        producer.send(b"meanwhile")
        assert consumer.recv() == b"meanwhile"
        broker.enable()
        broker.enable()
        assert (broker.disabled, broker.statistics().disabled) == (False, False)
        assert [*broker.frontend.endpoints, *broker.backend.endpoints] == endpoints
        assert not any(map(refused, endpoints))
    late = connect(zmq.PUSH, broker.frontend.endpoints[-1])
    late.send(b"after")
    assert consumer.recv() == b"after"
    path = Path(endpoints[0].removeprefix("ipc://"))
    engine.remove("a")
    assert not path.exists()
    assert ended_when_closed(kind, path)


def ended_when_closed(kind: str, path: Path) -> bool:
    return kind != "ipc wildcard" or not path.parent.exists()


def test_address_that_is_taken_meanwhile_keeps_the_broker_disabled(
    engine: Engine, connect: Connect, tmp_path: Path
) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=f"ipc://{tmp_path}/b", transport="wire")
    broker.disable()
    other = connect(zmq.PULL)
    other.bind(broker.backend.endpoint)
    with pytest.raises(EndpointError, match=r"^brokers\.a\.backend: cannot listen again at ipc://.*: Address already"):
        broker.enable()
    assert broker.disabled
    assert refused(broker.frontend.endpoint)
    connect(zmq.PUSH, broker.backend.endpoint).send(b"x")
    assert other.recv() == b"x"
    other.close(linger=0)
    wait_until(lambda: refused(broker.backend.endpoint))
    broker.enable()
    assert not refused(broker.backend.endpoint)


def test_listener_that_is_given_again_is_copied(engine: Engine, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        broker = add(engine, endpoint, frontend_options={"use_fd": listener.fileno()})
        broker.disable()
        assert not refused(endpoint)  # the kernel queues for the one that has it open
        engine.enable(broker, descriptors={"frontend": listener.fileno()})
    connect(zmq.PUSH, endpoint).send(b"x")
    assert connect(zmq.PULL, broker.backend.endpoint).recv() == b"x"


def test_ports_that_cannot_stop_listening_are_refused_with_a_reason(engine: Engine, connect: Connect) -> None:
    engine.add("libzmq", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="libzmq")
    engine.add("connects", STREAMER, frontend=">tcp://127.0.0.1:9", backend=">tcp://127.0.0.1:9", transport="wire")
    engine.add("within", STREAMER, frontend="inproc://a", backend="inproc://b")
    engine.register(connect(zmq.PULL), connect(zmq.PUSH), name="registered")
    reasons = {
        "libzmq": r"^brokers\.libzmq\.frontend: libzmq would end its connections, too",
        "connects": r"^brokers\.connects: none of its ports binds an address of tcp:// or ipc://",
        "within": r"^brokers\.within: none of its ports binds an address of tcp:// or ipc://",
        "registered": r"^brokers\.registered\.frontend: its socket was registered",
    }
    for name, reason in reasons.items():
        for call in (engine.disable, engine.enable):
            with pytest.raises(EngineError, match=reason):
                call(name)
        assert not engine.brokers[name].disabled
    for name, reason in {**reasons, "connects": "", "libzmq": r"none of its ports connects to an address"}.items():
        if name != "connects":
            with pytest.raises(EngineError, match=reason.replace("binds", "connects to")):
                engine.reconnect(name)
    engine.add("out", STREAMER, frontend=">tcp://127.0.0.1:9", backend=ANY_PORT, transport="libzmq")
    with pytest.raises(EngineError, match=r"^brokers\.out\.frontend: libzmq would lose what it has received"):
        engine.reconnect("out")


def test_a_disabled_broker_is_not_handed_over(engine: Engine) -> None:
    broker = add(engine)
    broker.disable()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ConfigError, match=r"^brokers\.a: it cannot be handed over: it is disabled$"):
        engine.hand_over(ours, [broker])


# Whatever the commands, in whatever order: a broker listens exactly while it is not disabled, and nothing else changes.
@given(st.lists(st.sampled_from([b"DISABLE", b"ENABLE", b"PAUSE", b"RESUME"]), max_size=10))
@settings(max_examples=30, deadline=None)
def test_broker_listens_exactly_while_it_is_enabled(commands: list[bytes]) -> None:
    with Engine() as engine:
        broker = add(engine)
        control = Control(engine)
        disabled, state = False, "running"
        for command in commands:
            assert control.handle([command, b"a"]) == [b""]
            disabled = {b"DISABLE": True, b"ENABLE": False}.get(command, disabled)
            state = {b"PAUSE": "paused", b"RESUME": "running"}.get(command, state)
            assert (broker.disabled, broker.state) == (disabled, state)
            assert refused(broker.frontend.endpoint) == refused(broker.backend.endpoint) == disabled


# -- reconnect ---------------------------------------------------------------------------------------------------------


def connected(engine: Engine, broker: Broker, name: str, times: int) -> bool:
    """Return True if a port is connected, and as many connections have ended before."""
    return peer_count(engine, broker, name) == 1 and sum(ended_by(engine, broker, name).values()) == times


@pytest.mark.parametrize("peer_type", [zmq.DEALER, zmq.ROUTER])
def test_broker_connects_again_and_loses_nothing(engine: Engine, connect: Connect, peer_type: int) -> None:
    """What goes through while it is told to, twenty times, is counted to the last message."""
    worker = connect(peer_type, sndhwm=0, rcvhwm=0)
    options = {"reconnect_ivl": -1}  # it is made again since it is asked for, and at once
    broker = engine.add(
        "a", QUEUE, frontend=ANY_PORT, backend=f">{bind(worker)}", transport="wire", backend_options=options
    )
    client = connect(zmq.DEALER, broker.frontend.endpoint, sndhwm=0, rcvhwm=0)
    sent = 0
    for _ in range(20):
        wait_until(lambda: peer_count(engine, broker, "backend") == 1)
        for _ in range(50):
            client.send(b"%d" % sent)
            sent += 1
        before = sum(ended_by(engine, broker, "backend").values())
        broker.reconnect()
        wait_until(lambda: connected(engine, broker, "backend", before + 1))  # noqa: B023
    bodies = {int(worker.recv_multipart()[-1]) for _ in range(sent)}
    assert bodies == set(range(sent))
    flow = broker.statistics().flows["frontend"]
    assert (flow.received, flow.sent, flow.held, flow.dropped) == (sent, sent, 0, 0)
    assert set(ended_by(engine, broker, "backend")) == {"left"}


def test_what_a_peer_has_sent_before_it_sees_the_end_is_read(engine: Engine, connect: Connect) -> None:
    """It has arrived, and nobody has read it: the broker is paused."""
    producer = connect(zmq.PUSH, sndhwm=0)
    broker = engine.add("a", STREAMER, frontend=f">{bind(producer)}", backend=ANY_PORT, transport="wire")
    wait_until(lambda: peer_count(engine, broker) == 1)
    broker.pause()
    for number in range(100):
        producer.send(b"%d" % number)
    consumer = connect(zmq.PULL, broker.backend.endpoint)
    wait_until(lambda: peer_count(engine, broker, "backend") == 1)
    broker.reconnect()
    wait_until(lambda: connected(engine, broker, "frontend", 1))
    broker.resume()
    received = {int(consumer.recv())}
    while consumer.poll(200):
        received.add(int(consumer.recv()))
    # libzmq's PUSH drops what it has not written when its peer leaves; what it has written is here, in order.
    assert received == set(range(len(received)))
    assert received


def test_peer_that_does_not_end_its_side_is_left_after_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    monkeypatch.setattr(connecting, "END_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        broker = engine.add("a", STREAMER, frontend=f">{endpoint}", backend=ANY_PORT, transport="wire")
        first, _ = listener.accept()
        with first:
            shake_hands(first)
            wait_until(lambda: peer_count(engine, broker) == 1)
            broker.reconnect()
            broker.reconnect()  # it does so already
            second, _ = listener.accept()
            with second:
                shake_hands(second)
                wait_until(lambda: connected(engine, broker, "frontend", 1))
    assert set(ended_by(engine, broker)) >= {"closed"}


@pytest.mark.parametrize("how", ["replaced", "suspended"])
def test_time_of_a_peer_that_does_not_end_its_side_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The broker is replaced, or a hand over of it comes to nothing, in the meantime."""
    monkeypatch.setattr(connecting, "END_S", 0.5)
    with RawListener() as listener:
        more: Any = {"frontend": f">{listener.address}", "backend": ANY_PORT, "transport": "wire"}
        broker = engine.add("a", STREAMER, **more)
        with listener.accept() as first:
            first.shake_hands("PUSH")
            wait_until(lambda: peer_count(engine, broker) == 1)
            broker.reconnect()
            if how == "replaced":
                broker = engine.add("a", STREAMER, **more, replaces=broker)
            else:
                in_engine(engine, working_broker(broker).suspend)
                in_engine(engine, working_broker(broker).go_on)
            with listener.accept() as second:
                second.shake_hands("PUSH")
                wait_until(lambda: peer_count(engine, broker) == 1)
                assert set(ended_by(engine, broker)) == {"closed"}


def test_connection_that_is_over_when_its_port_is_suspended_waits(port: tuple[native.Net, native.Port]) -> None:
    """It was to be made again, and is not made before it is known where: here, or in another process."""
    net, pull = port
    waits = Waits()
    with RawListener() as listener:
        connection = Connection(pull, listener.address, options_with(), waits)
        with listener.accept() as first:
            first.send(greeting() + ready("PUSH"))
            wait_until(lambda: serve(net) or pull.peer_count == 1)  # type: ignore[func-returns-value]
            connection.reconnect()
        connector = connection.connector
        assert connector is not None
        wait_until(lambda: net.serve() is not None and connector.is_over)  # nobody has been told
        connection.suspend()
        assert connection.connector is None
        moved, descriptor = connection.moved(-1)
        assert (moved.kind, moved.wait_s, descriptor) == (WAITING, 0.0, -1)
        connection.resume()
        waits.come()
        with listener.accept():
            connection.close()
    serve(net)


def test_connection_that_should_have_ended_by_now_is_ended_where_it_moves_to(
    port: tuple[native.Net, native.Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, pull = port
    monkeypatch.setattr(connecting, "END_S", 0.0)
    with RawListener() as listener:
        connection = Connection(pull, listener.address, options_with(), Waits())
        with listener.accept() as peer:
            peer.send(greeting() + ready("PUSH"))
            wait_until(lambda: serve(net) or pull.peer_count == 1)  # type: ignore[func-returns-value]
            connection.reconnect()
            connection.suspend()
            moved, _ = connection.moved(0)
            assert moved.kind == CONNECTED
            assert moved.wait_s > 0
            connection.close()


def shake_hands(stream: socket.socket) -> None:
    """Be a PUSH that speaks ZMTP 3.0 with the mechanism NULL."""
    stream.settimeout(DEADLINE_S)
    stream.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
    stream.sendall(b"\x04" + bytes([len(ready)]) + ready)


def test_connection_that_waits_for_its_next_attempt_is_made_at_once(engine: Engine, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    broker = engine.add(
        "a", STREAMER, frontend=f">tcp://127.0.0.1:{port}", backend=ANY_PORT, transport="wire",
        frontend_options={"reconnect_ivl": 1_000_000},
    )  # fmt: skip
    producer = connect(zmq.PUSH)
    producer.bind(f"tcp://127.0.0.1:{port}")
    wait_until(lambda: reconnected(engine, broker))


def reconnected(engine: Engine, broker: Broker) -> bool:
    if peer_count(engine, broker):
        return True
    broker.reconnect()
    return False


def test_connection_that_was_not_to_be_made_again_is_made_when_it_is_asked_for(
    engine: Engine, connect: Connect
) -> None:
    first: Socket = connect(zmq.PUSH)
    endpoint = bind(first)
    options = {"reconnect_ivl": -1}
    broker = engine.add("a", STREAMER, frontend=f">{endpoint}", backend=ANY_PORT, transport="wire",
                        frontend_options=options)  # fmt: skip
    wait_until(lambda: peer_count(engine, broker) == 1)
    first.close(linger=0)
    wait_until(lambda: peer_count(engine, broker) == 0)
    second = connect(zmq.PUSH)
    wait_until(lambda: refused(endpoint))
    second.bind(endpoint)
    broker.reconnect()
    wait_until(lambda: reconnected(engine, broker))


def test_names_are_looked_up_again(engine: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to another address now is connected there."""
    old, new = connect(zmq.PUSH), connect(zmq.PUSH)
    addresses = [bind(old), bind(new)]
    look_up = parse_connected
    found = addresses[:1]
    monkeypatch.setattr(connecting, "parse_connected", lambda address, ipv6: look_up(found[-1], ipv6=ipv6))
    broker = engine.add("a", STREAMER, frontend=">tcp://localhost:1", backend=ANY_PORT, transport="wire")
    consumer = connect(zmq.PULL, broker.backend.endpoint)
    old.send(b"old")
    assert consumer.recv() == b"old"
    found.append(addresses[1])
    broker.reconnect()
    new.send(b"new")
    assert consumer.recv() == b"new"


def test_broker_may_be_removed_while_it_connects_again(engine: Engine, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        broker = engine.add("a", STREAMER, frontend=f">{endpoint}", backend=ANY_PORT, transport="wire")
        stream, _ = listener.accept()
        with stream:
            shake_hands(stream)
            wait_until(lambda: peer_count(engine, broker) == 1)
            port = wire_port(broker, "frontend")
            broker.reconnect()
            broker.remove()
            assert in_engine(engine, lambda: port.closed)
