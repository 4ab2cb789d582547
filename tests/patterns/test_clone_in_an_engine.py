"""The server of RFC 12/CHP on real sockets, with clients that send the frames of the guide's."""

import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import zmq

from pollbroker import CLONE, Broker, Device, Engine
from tests.patterns.chp_client import ChpClient
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT
from tests.support.deadline import wait_until
from tests.support.types import Connect, Socket

HEARTBEAT_S = 0.05


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


def add(engine: Engine, device: Device = CLONE, **endpoints: Any) -> Broker:
    device = device.with_settings(hugz_s=HEARTBEAT_S)
    return engine.add("map", device, **(dict.fromkeys(device.ports, ANY_PORT) | endpoints))


@pytest.fixture
def server(engine: Engine) -> Broker:
    return add(engine)


def address(server: Broker, port: str) -> str:
    return server.ports[port].endpoint


def counter(server: Broker, name: str) -> int:
    return server.statistics().counters.get(name, 0)


def publisher_to(server: Broker, connect: Connect) -> Socket:
    """What sends updates, when the server has subscribed."""
    publisher = connect(zmq.XPUB, address(server, "collector"), sndhwm=0)
    assert publisher.recv() == b"\1"
    return publisher


def put(publisher: Socket, key: bytes, value: bytes, **properties: object) -> None:
    """Send an update as the guide's `kvmsg` does."""
    lines = b"".join(b"%s=%s\n" % (name.encode(), str(value).encode()) for name, value in properties.items())
    publisher.send_multipart([key, struct.pack("!q", 0), uuid4().bytes, lines, value])


class Client:
    """The guide's client, on sockets. It asks for the snapshot when it knows that it is subscribed."""

    def __init__(self, server: Broker, connect: Connect, subtree: bytes = b"") -> None:
        self.state = ChpClient(subtree)
        self.snapshot = connect(zmq.DEALER, address(server, "snapshot"))
        self.subscriber = connect(zmq.SUB, rcvhwm=0)
        self.subscriber.subscribe(subtree)
        self.subscriber.subscribe(b"HUGZ")
        self.subscriber.connect(address(server, "publisher"))
        self.state.on_published(self.subscriber.recv_multipart())
        self.snapshot.send_multipart([b"ICANHAZ?", subtree])

    def join(self) -> None:
        while self.state.number is None:
            self.state.on_snapshot(self.snapshot.recv_multipart())

    def take(self, key: bytes, value: bytes) -> None:
        """Apply updates until this one has come."""
        while self.state.map.get(key, b"") != value:
            self.state.on_published(self.subscriber.recv_multipart())


def test_clients_share_a_map(server: Broker, engine: Engine, connect: Connect) -> None:
    publisher = publisher_to(server, connect)
    put(publisher, b"/a/1", b"one")
    put(publisher, b"/b/1", b"uno")
    wait_until(lambda: counter(server, "updates") == 2)
    everything, part = Client(server, connect), Client(server, connect, b"/a/")
    everything.join()
    part.join()
    assert part.state.map == {b"/a/1": b"one"}
    put(publisher, b"/a/2", b"two", ttl="0.1")
    put(publisher, b"/b/1", b"")
    put(publisher, b"/a/end", b"x")
    for client in (everything, part):
        client.take(b"/a/end", b"x")
        client.take(b"/a/2", b"")
        assert client.state.map == {b"/a/1": b"one", b"/a/end": b"x"}
        assert client.state.heartbeats >= 1
    assert counter(server, "expired") == 1
    assert balanced(flow_of(engine, "map", "behaviour"))


def test_clients_of_the_guide_that_push_their_updates_are_served_by_a_pull_socket(
    engine: Engine, connect: Connect
) -> None:
    device = replace(
        CLONE,
        ports={**CLONE.ports, "collector": (zmq.PULL,)},
        options={port: options for port, options in CLONE.options.items() if port != "collector"},
    )
    server = add(engine, device)
    put(connect(zmq.PUSH, address(server, "collector")), b"/client/5", b"8", ttl=30)
    wait_until(lambda: counter(server, "updates") == 1)
    client = Client(server, connect, b"/client/")
    client.join()
    assert client.state.map == {b"/client/5": b"8"}


# The snapshot is many times as long as the queue to its client, and updates go on meanwhile.
def test_client_that_joins_a_large_map_while_it_changes_ends_with_the_same_map(
    server: Broker, engine: Engine, connect: Connect
) -> None:
    publisher = publisher_to(server, connect)
    model = {b"%05d" % number: bytes(2000) for number in range(3000)}
    for key, value in model.items():
        put(publisher, key, value)
    wait_until(lambda: counter(server, "updates") == 3000)
    client = Client(server, connect)
    chance = random.Random(1)
    while client.state.number is None:
        key, value = b"%05d" % chance.randrange(4000), chance.choice([b"", b"new", b"newer"])
        put(publisher, key, value)
        model[key] = value
        for _ in range(20):
            if client.state.number is None:
                client.state.on_snapshot(client.snapshot.recv_multipart())
    put(publisher, b"end", b"x")
    client.take(b"end", b"x")
    assert client.state.map == {key: value for key, value in model.items() if value} | {b"end": b"x"}
    assert balanced(flow_of(engine, "map", "behaviour"))


def test_client_that_reads_late_is_sent_the_whole_snapshot(server: Broker, engine: Engine, connect: Connect) -> None:
    publisher = publisher_to(server, connect)
    for number in range(2000):
        put(publisher, b"%d" % number, bytes(10_000))
    wait_until(lambda: counter(server, "updates") == 2000)
    client = connect(zmq.DEALER, address(server, "snapshot"), rcvhwm=1)
    client.send_multipart([b"ICANHAZ?", b""])
    wait_until(lambda: flow_of(engine, "map", "behaviour").slow_peer > 0)
    keys: list[bytes] = []
    while not keys or keys[-1] != b"KTHXBAI":
        keys.append(client.recv_multipart()[0])
    assert set(keys) == {b"%d" % number for number in range(2000)} | {b"KTHXBAI"}
    wait_until(lambda: counter(server, "snapshots") == 1)
    assert balanced(flow_of(engine, "map", "behaviour"))


def test_client_that_leaves_in_the_middle_is_given_up(engine: Engine, connect: Connect) -> None:
    server = add(engine, CLONE.with_settings(stalled_s=0.1))
    publisher = publisher_to(server, connect)
    for number in range(2000):
        put(publisher, b"%d" % number, bytes(10_000))
    wait_until(lambda: counter(server, "updates") == 2000)
    client = connect(zmq.DEALER, address(server, "snapshot"), rcvhwm=1)
    client.send_multipart([b"ICANHAZ?", b""])
    client.recv_multipart()
    client.close()
    wait_until(lambda: counter(server, "abandoned") == 1)
    assert flow_of(engine, "map", "behaviour").held == 0
    assert balanced(flow_of(engine, "map", "behaviour"))
    other = Client(server, connect, b"19")
    other.join()
    assert len(other.state.map) == 111


def test_garbage_is_counted_and_harms_nobody(server: Broker, engine: Engine, connect: Connect) -> None:
    publisher = publisher_to(server, connect)
    asking = connect(zmq.DEALER, address(server, "snapshot"))
    good = [b"k", bytes(8), bytes(16), b"ttl=1\n", b"v"]
    for position in range(5):
        for wrong in (b"", b"\xff" * 7, b"KTHXBAI", bytes(5000)):
            publisher.send_multipart([*good[:position], wrong, *good[position + 1 :]])
        publisher.send_multipart(good[:position] or [b""])
        asking.send_multipart([b"\0" * position] * (position + 1))
    asking.send_multipart([b"ICANHAZ?", b"\xff/no subtree"])
    assert asking.recv_multipart()[0] == b"KTHXBAI"
    put(publisher, b"good", b"1")
    client = Client(server, connect)
    client.join()
    client.take(b"good", b"1")
    assert counter(server, "malformed") == 22
    assert flow_of(engine, "map", "behaviour").failed == 0
    assert balanced(flow_of(engine, "map", "behaviour"))


def test_server_that_is_started_again_has_an_empty_map_and_is_believed_if_its_numbers_are_greater(
    server: Broker, engine: Engine, connect: Connect
) -> None:
    publisher = publisher_to(server, connect)
    put(publisher, b"a", b"1")
    client = Client(server, connect)
    client.join()
    client.take(b"a", b"1")
    endpoints = {port: address(server, port) for port in CLONE.ports}
    server.remove()
    again = add(engine, CLONE.with_settings(first_number=1000), **endpoints)

    def has_taken() -> bool:
        put(publisher, b"b", b"1")  # it is lost as long as the publisher is not connected again
        if client.subscriber.poll(10):
            client.state.on_published(client.subscriber.recv_multipart())
        return client.state.map.get(b"b") == b"1"

    wait_until(has_taken)
    assert client.state.map == {b"a": b"1", b"b": b"1"}  # nobody has told it that `a` is gone
    fresh = Client(again, connect)
    fresh.join()
    assert fresh.state.map == {b"b": b"1"}
    assert fresh.state.number is not None
    assert fresh.state.number > 1000
