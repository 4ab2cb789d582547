"""What is asked of a broker in the block of `adopt` holds when the broker has its connections."""

from pathlib import Path

import pytest
import zmq

from pollbroker import STREAMER, Broker, Engine
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint, refused
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.support.wire_ports import peer_count
from tests.wire.moving import adds, hand_over


@pytest.mark.parametrize("was_paused", [False, True])
def test_broker_that_was_paused_before_its_connections_came_moves_nothing(
    engine: Engine, new: Engine, connect: Connect, was_paused: bool
) -> None:
    old = adds(STREAMER)(engine)
    push, pull = connect(zmq.PUSH, endpoint(old.frontend)), connect(zmq.PULL, endpoint(old.backend))
    wait_until(lambda: peer_count(engine, old) == peer_count(engine, old, "backend") == 1)
    if was_paused:
        old.pause()

    def add(there: Engine) -> Broker:
        broker = adds(STREAMER)(there)
        broker.pause()
        return broker

    hand_over(engine, new, add)
    broker = new.brokers["a"]
    push.send(b"x")
    assert not pull.poll(50)
    assert (broker.state, flow_of(new, "a").received) == ("paused", 0)
    broker.resume()
    assert pull.recv() == b"x"
    assert broker.state == "running"


def test_broker_that_was_disabled_before_its_connections_came_does_not_listen(
    engine: Engine, new: Engine, connect: Connect, tmp_path: Path
) -> None:
    address = f"ipc://{tmp_path}/f"
    old = adds(STREAMER, frontend=f"{address},{ANY_PORT}")(engine)
    push, pull = connect(zmq.PUSH, address), connect(zmq.PULL, endpoint(old.backend))
    wait_until(lambda: peer_count(engine, old) == peer_count(engine, old, "backend") == 1)

    def add(there: Engine) -> Broker:
        broker = adds(STREAMER, frontend=f"{address},{ANY_PORT}")(there)
        broker.disable()
        return broker

    hand_over(engine, new, add)
    broker = new.brokers["a"]
    endpoints = [*broker.frontend.endpoints, *broker.backend.endpoints]
    assert broker.disabled
    wait_until(lambda: all(map(refused, endpoints)))  # the other engine closes its copies
    assert not list(tmp_path.iterdir())
    push.send(b"x")
    assert pull.recv() == b"x"
    broker.enable()
    assert not any(map(refused, endpoints))
