"""Streamers at work, with their producers and consumers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import zmq

from pollbroker import STREAMER, Broker, Device, Engine, Route
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.turns import rest
from tests.support.types import Connect, Socket


class Peers:
    """A producer and a consumer of a streamer."""

    def __init__(self, connect: Connect, broker: Broker) -> None:
        self.push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
        self.pull = connect(zmq.PULL, endpoint(broker.backend), rcvhwm=0)

    def check(self, *messages: bytes) -> None:
        for message in messages or (b"passes",):
            self.push.send(message)
        assert [self.pull.recv() for _ in messages or (b"passes",)] == list(messages or (b"passes",))


def streamer(engine: Engine, connect: Connect, *, hwm: int = 1000, name: str = "s") -> tuple[Socket, str]:
    """A streamer on inproc sockets in the test's own context: its producer, and where consumers connect."""
    producer = connect(zmq.PUSH, linger=0)
    producer.set_hwm(0)
    frontend, backend = producer.context.socket(zmq.PULL), producer.context.socket(zmq.PUSH)
    frontend.set_hwm(0)
    backend.set_hwm(hwm)
    frontend.bind(f"inproc://{name}-frontend")
    backend.bind(f"inproc://{name}-backend")
    producer.connect(f"inproc://{name}-frontend")
    engine.register(frontend, backend, STREAMER, name=name)
    return producer, f"inproc://{name}-backend"


def streamers(engine: Engine, connect: Connect, number: int, device: Device = STREAMER) -> list[tuple[Socket, Socket]]:
    """So many brokers at rest, each with its producer and consumer."""
    peers = []
    for i in range(number):
        producer, consumer = connect(zmq.PUSH), connect(zmq.PULL)
        frontend, backend = producer.context.socket(zmq.PULL), producer.context.socket(zmq.PUSH)
        for socket, peer, side in ((frontend, producer, "in"), (backend, consumer, "out")):
            socket.bind(f"inproc://{side}-{i}")
            peer.connect(f"inproc://{side}-{i}")
        engine.register(frontend, backend, device, name=f"s{i}")
        peers.append((producer, consumer))
    rest(engine)
    return peers


def lent(connect: Connect) -> tuple[Socket, Socket, Socket]:
    """A producer, and the sockets of a streamer, which consumers reach at `inproc://backend`; all without limits."""
    producer = connect(zmq.PUSH, linger=0)
    frontend, backend = producer.context.socket(zmq.PULL), producer.context.socket(zmq.PUSH)
    for socket in (producer, frontend, backend):
        socket.set_hwm(0)
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    producer.connect("inproc://frontend")
    return producer, frontend, backend


def streamer_with(handler: Callable[[list[bytes]], Any]) -> Device:
    """A streamer whose messages go through a handler."""
    return replace(STREAMER, name="handled", routes=[Route("frontend", "backend", via=handler)])


def add_handled(engine: Engine, connect: Connect, handler: Callable[[list[bytes]], Any]) -> tuple[Broker, Socket]:
    """A broker with a handler, and a pusher to it."""
    broker = engine.add("handled", streamer_with(handler), frontend=ANY_PORT, backend=ANY_PORT)
    return broker, connect(zmq.PUSH, broker.frontend.endpoints[0])
