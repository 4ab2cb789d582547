"""The state of a broker as it travels: whatever is changed in it, it is refused whole or read, and nothing is left."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pollbroker import FORWARDER, QUEUE, STREAMER, Broker, Engine, HandOverError
from pollbroker.broker import working_broker
from pollbroker.handing_over.moving import describe
from pollbroker.handing_over.state import read_state, write_state
from pollbroker.wire import native
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.support.wire_ports import in_engine, peer_count
from tests.wire.zmtp import greeting, message

Edit = tuple[int, int, bytes]
"""At a place, so many bytes are replaced by others."""


class Recorded(NamedTuple):
    """A port as it was recorded."""

    type: int
    record: bytes
    peers: int


def recorded(engine: Engine, broker: Broker) -> tuple[bytes, list[Recorded]]:
    """What would be sent of a broker, which goes on then; and its ports."""

    def look() -> tuple[bytes, list[Recorded]]:
        working = working_broker(broker)
        working.suspend()
        descriptors: list[int] = []
        try:
            moved = describe(working, descriptors, 0.0)
        finally:
            working.go_on()
        assert len(descriptors) == sum(port.descriptors for port in moved.ports)
        ports = zip(working.ports, moved.ports, strict=True)
        return write_state([moved]), [
            Recorded(int(port.type), arrived.socket.record, arrived.descriptors - len(arrived.socket.streams))
            for port, arrived in ports
        ]

    return in_engine(engine, look)


@pytest.fixture
def busy(engine: Engine, connect: Connect, raw: Any) -> list[Broker]:
    """Brokers with something in each field of their records."""
    streamer = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, backend_options={"heartbeat_ivl": 500})
    raw(endpoint(streamer.backend)).shake_hands("PULL")
    sender = raw(endpoint(streamer.frontend)).shake_hands("PUSH")
    for number in range(40):
        sender.send_message(b"%d" % number, bytes(20_000 + 100 * number))
    sender.send(message(b"half", b"of it")[:-3])
    raw(endpoint(streamer.frontend)).send(greeting()[:33])
    queue = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    for name in (b"one", b"two"):
        connect(zmq.DEALER, endpoint(queue.frontend), routing_id=name).send_multipart([b"", b"a question"])
    forwarder = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT, earlier=queue.statistics())
    subscriber = connect(zmq.SUB, endpoint(forwarder.backend))
    for topic in (b"", b"a", b"ab", b"long" * 100):
        subscriber.subscribe(topic)
    publisher = connect(zmq.XPUB, endpoint(forwarder.frontend))
    assert len({publisher.recv() for _ in range(4)}) == 4
    wait_until(lambda: flow_of(engine, "s").held and peer_count(engine, queue) == 2)
    return [streamer, queue, forwarder]


EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.integers(0, 16), st.binary(max_size=9) | st.just(b"\xff" * 8)),
    min_size=1,
    max_size=4,
)


def edited(whole: bytes, edits: list[Edit]) -> bytes:
    for at, count, others in edits:
        at %= len(whole) + 1
        whole = whole[:at] + others + whole[at + count :]
    return whole


def read(port: Recorded, record: bytes, peers: int) -> bool:
    """Read a record, with descriptors of some sockets; True if it was not refused. Nothing may be left in any case."""
    with socket.socket() as one:
        net = native.Net()
        other = native.Port(net, zmq.PUSH if port.type != zmq.PUSH else zmq.PULL)
        made = native.Port(net, port.type)
        source, sink = (made, other) if port.type != zmq.PUSH else (other, made)
        pumps = [native.Pump(source, sink), native.Pump(sink, source)]
        descriptors = [os.dup(one.fileno()) for _ in range(peers)]
        all_of_them = list(descriptors)
        try:
            native.read_record(made, record, pumps, descriptors)
            refusal = None
        except ValueError as error:
            refusal = str(error)
        made.close()
        other.close()
        for descriptor in descriptors:  # the others were the port's, which has closed them
            os.close(descriptor)
        assert not [one for one in all_of_them if Path(f"/proc/self/fd/{one}").exists()]
        del pumps
        net.serve()
        assert net.alive == (0, 0, 0, 0)
        net.close()
        assert refusal is None or refusal.startswith("byte ")
        return refusal is None


def test_records_are_read_as_they_were_written(engine: Engine, busy: list[Broker]) -> None:
    for broker in busy:
        state, ports = recorded(engine, broker)
        assert [port.socket.record for port in read_state(state)[0].ports] == [port.record for port in ports]
        for port in ports:
            assert read(port, port.record, port.peers)
            assert not read(port, port.record, port.peers + 1)
            assert not port.peers or not read(port, port.record, port.peers - 1)


def test_record_that_is_cut_anywhere_is_refused(engine: Engine, busy: list[Broker]) -> None:
    for broker in busy[1:]:
        for port in recorded(engine, broker)[1]:
            for size in range(len(port.record)):
                assert not read(port, port.record[:size], port.peers), size
            assert not read(port, port.record + b"\0", port.peers)


def test_record_of_a_future_version_or_another_type_is_refused(engine: Engine, busy: list[Broker]) -> None:
    _, (port, other) = recorded(engine, busy[0])
    assert not read(port, port.record[:4] + b"\2\0\0\0" + port.record[8:], port.peers)
    assert not read(Recorded(other.type, port.record, port.peers), port.record, port.peers)


def test_record_that_is_changed_is_refused_or_read(engine: Engine, busy: list[Broker]) -> None:
    ports = [port for broker in busy for port in recorded(engine, broker)[1]]

    @settings(max_examples=300, suppress_health_check=list(HealthCheck))
    @given(which=st.integers(0, len(ports) - 1), edits=EDITS)
    @example(which=0, edits=[(0, 0, b"\0")])
    def check(which: int, edits: list[Edit]) -> None:
        read(ports[which], edited(ports[which].record, edits), ports[which].peers)

    check()


def test_state_that_is_changed_is_refused_or_read(engine: Engine, busy: list[Broker]) -> None:
    states = [recorded(engine, broker)[0] for broker in busy]
    head = 3000  # what is behind it are records

    @settings(max_examples=300, suppress_health_check=list(HealthCheck))
    @given(which=st.integers(0, len(states) - 1), edits=EDITS)
    def check(which: int, edits: list[Edit]) -> None:
        whole = states[which]
        with suppress(HandOverError):
            read_state(edited(whole[:head], edits) + whole[head:])

    check()
