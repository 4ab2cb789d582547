"""The engine on simulated sockets."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Engine
from pollbroker.testing.simulation import SimContext, SimNetwork, SimPoller, SimSocket
from tests.support.simulation import fill


# The engine
@pytest.fixture
def poller(network: SimNetwork) -> SimPoller:
    return network.poller()


@pytest.fixture
def engine(network: SimNetwork, world: SimContext, poller: SimPoller, waiter: str) -> Iterator[Engine]:
    made = Engine(cast(Any, world), poller=poller, clock=network.clock, pump="python", waiter=waiter)
    yield made
    made.close()


@pytest.fixture
def settle(engine: Engine, poller: SimPoller) -> Callable[[], None]:
    """Turns until the engine sleeps."""

    def run() -> None:
        for _ in range(100):
            engine.step(None)
            if poller.asleep:
                return
        raise AssertionError("the engine is still awake after 100 turns")

    return run


@pytest.fixture
def connect(world: SimContext) -> Callable[[int, str], SimSocket]:
    def make(socket_type: int, address: str) -> SimSocket:
        socket = world.socket(socket_type)
        socket.connect(address)
        return socket

    return make


Connect = Callable[[int, str], SimSocket]


def test_streamer_runs_on_the_simulation(engine: Engine, settle: Callable[[], None], connect: Connect) -> None:
    broker = engine.add("s", STREAMER, frontend="inproc://in", backend="inproc://out")
    assert broker.frontend.endpoints == ("inproc://in",)
    push, pull = connect(zmq.PUSH, "inproc://in"), connect(zmq.PULL, "inproc://out")
    for number in range(20):
        push.send_multipart([b"%d" % number, b"body"])
    settle()
    assert [pull.recv_multipart(zmq.DONTWAIT)[0] for _ in range(20)] == [b"%d" % number for number in range(20)]


def test_queue_runs_on_the_simulation(engine: Engine, settle: Callable[[], None], connect: Connect) -> None:
    engine.add("q", QUEUE, frontend="inproc://in", backend="inproc://out")
    clients = [connect(zmq.REQ, "inproc://in") for _ in range(3)]
    worker = connect(zmq.REP, "inproc://out")
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    for _ in clients:
        settle()
        worker.send(b"re " + worker.recv(zmq.DONTWAIT))
    settle()
    assert [client.recv(zmq.DONTWAIT) for client in clients] == [b"re 0", b"re 1", b"re 2"]


def test_forwarder_runs_on_the_simulation(engine: Engine, settle: Callable[[], None], connect: Connect) -> None:
    engine.add("f", FORWARDER, frontend="inproc://in", backend="inproc://out")
    publisher, subscriber = connect(zmq.PUB, "inproc://in"), connect(zmq.SUB, "inproc://out")
    subscriber.setsockopt(zmq.SUBSCRIBE, b"a")
    settle()
    assert publisher.events == zmq.POLLOUT  # and so the subscription has come
    for body in (b"a1", b"b1", b"a2"):
        publisher.send(body)
    settle()
    assert [subscriber.recv(zmq.DONTWAIT) for _ in range(2)] == [b"a1", b"a2"]
    assert not subscriber.can_receive()


def test_engine_whose_sink_is_full_sleeps_until_there_is_room(
    engine: Engine, settle: Callable[[], None], connect: Connect
) -> None:
    marks = {"sndhwm": 1, "rcvhwm": 1}
    engine.add(
        "s", STREAMER, frontend="inproc://in", backend="inproc://out", frontend_options=marks, backend_options=marks
    )
    push, pull = connect(zmq.PUSH, "inproc://in"), connect(zmq.PULL, "inproc://out")
    sent = received = 0
    while sent < 3000:
        sent += fill(push)
        settle()
        if not push.can_send():
            break
    while pull.can_receive():
        pull.recv(zmq.DONTWAIT)
        received += 1
        settle()
    assert received == sent
