"""`Broker.peers`: who is connected to a broker's wire ports, and what has passed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, Engine, EngineError
from tests.support.deadline import wait_until
from tests.support.types import Connect


@pytest.fixture
def plain_engine() -> Iterator[Engine]:
    """An engine in a thread of its own. Wire ports have one pump, so that there is no choice of it."""
    with Engine() as engine:
        yield engine


def test_clients_and_workers_are_told_apart(plain_engine: Engine, connect: Connect, tmp_path: Path) -> None:
    queue = plain_engine.add(
        "queue", QUEUE, frontend="tcp://127.0.0.1:*", backend=f"ipc://{tmp_path}/backend", transport="wire"
    )
    worker = connect(zmq.REP, queue.backend.endpoint)
    client = connect(zmq.REQ, queue.frontend.endpoint, routing_id=b"client")
    for _ in range(3):
        client.send(b"request")
        worker.send(worker.recv())
        client.recv()
    told = {peer.port: peer for peer in queue.peers()}
    assert sorted(told) == ["backend", "frontend"]
    assert told["frontend"].routing_id == b"client"
    assert told["frontend"].address.startswith("tcp://127.0.0.1:")
    assert told["backend"].address.startswith("ipc, process ")
    assert all((peer.received, peer.sent, peer.queued, peer.queued_bytes) == (3, 3, 0, 0) for peer in told.values())
    assert all(0 <= peer.silent_s <= peer.connected_s for peer in told.values())


def test_peer_that_has_left_is_not_told(plain_engine: Engine, connect: Connect) -> None:
    queue = plain_engine.add(
        "queue", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", transport="wire"
    )
    client = connect(zmq.DEALER, queue.frontend.endpoint)
    wait_until(lambda: len(queue.peers()) == 1)
    client.close(linger=0)
    wait_until(lambda: queue.peers() == ())


def test_subscriptions_of_a_peer_are_counted(plain_engine: Engine, connect: Connect) -> None:
    forwarder = plain_engine.add(
        "forwarder", FORWARDER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", transport="wire"
    )
    subscriber = connect(zmq.SUB, forwarder.backend.endpoint)
    for topic in (b"a", b"b", b"b"):
        subscriber.subscribe(topic)
    wait_until(lambda: [peer.subscriptions for peer in forwarder.peers()] == [2])
    subscriber.unsubscribe(b"a")
    wait_until(lambda: [peer.subscriptions for peer in forwarder.peers()] == [1])


def test_ports_of_libzmq_tell_nothing(plain_engine: Engine, connect: Connect) -> None:
    queue = plain_engine.add(
        "queue", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", transport="libzmq"
    )
    worker = connect(zmq.REP, queue.backend.endpoint)
    client = connect(zmq.REQ, queue.frontend.endpoint)
    client.send(b"request")
    worker.send(worker.recv())
    client.recv()
    assert queue.peers() == ()


def test_broker_that_was_removed_has_no_peers_to_tell(plain_engine: Engine) -> None:
    queue = plain_engine.add(
        "queue", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", transport="wire"
    )
    queue.remove()
    with pytest.raises(EngineError, match=r"brokers\.queue: it is removed"):
        queue.peers()
