"""Brokers that are removed, paused, drained or closed while messages wait: each is delivered, or accounted for."""

from contextlib import suppress

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Engine
from tests.support.accounts import balanced, flow_of, stands_still
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.turns import makes_no_turns
from tests.support.types import Connect
from tests.support.wire_ports import peer_count
from tests.wire.stalling import fill
from tests.wire.zmtp import Ended, Raw, RawPeer


def read_all(peer: RawPeer) -> list[list[bytes]]:
    """All whole messages that come until the other side closes the connection."""
    received = []
    with suppress(Ended):
        while True:
            received.append(peer.read_message())
    return received


def held_up(engine: Engine, connect: Connect, raw: Raw) -> tuple[RawPeer, int]:
    """A STREAMER whose one consumer does not read; and how many messages were sent to it."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    sent = fill(connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000), 10_000)
    assert stands_still(engine).held
    return consumer, sent


def test_removal_waits_until_what_was_held_is_written(engine: Engine, connect: Connect, raw: Raw) -> None:
    consumer, sent = held_up(engine, connect, raw)
    received = flow_of(engine, "a").received
    removal = engine.begin_removal("a", timeout_s=DEADLINE_S)
    assert not removal.done()
    read = [consumer.read_message()[1] for _ in range(received)]
    assert read == [b"%d" % number for number in range(received)]
    assert consumer.read_to_the_end() == b""
    flow = removal.result(DEADLINE_S).flows["frontend"]
    assert (flow.received, flow.sent, flow.held, flow.dropped) == (received, received, 0, 0)
    assert 0 < flow.unread <= sent - received


def test_removal_that_may_not_wait_says_what_was_held(engine: Engine, connect: Connect, raw: Raw) -> None:
    consumer, _ = held_up(engine, connect, raw)
    before = flow_of(engine, "a")
    flow = engine.remove("a", timeout_s=0.05).flows["frontend"]
    assert flow.received == before.received
    assert 0 < flow.held <= before.held
    assert flow.interrupted <= 1
    assert balanced(flow)
    for number in range(flow.sent):
        assert consumer.read_message()[1] == b"%d" % number


def test_what_was_held_was_not_written(engine: Engine, connect: Connect, raw: Raw) -> None:
    """Otherwise a program that sends again what was held would send some of it twice."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, backend_options={"sndhwm": 0})
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0, sndbuf=50_000)
    for number in range(50_000):
        push.send_multipart([b"", b"%d" % number, bytes(100)])
    assert stands_still(engine).held
    flow = engine.remove("a", timeout_s=0).flows["frontend"]
    assert len(read_all(consumer)) == flow.sent


def test_removal_in_which_the_consumer_leaves_goes_to_another(engine: Engine, connect: Connect, raw: Raw) -> None:
    consumer, _ = held_up(engine, connect, raw)
    before = flow_of(engine, "a")
    removal = engine.begin_removal("a", timeout_s=DEADLINE_S)
    address = endpoint(engine.brokers["a"].backend)
    consumer.reset()
    other = raw(address).shake_hands("PULL")
    numbers = [int(frames[1]) for frames in read_all(other)]
    flow = removal.result(DEADLINE_S).flows["frontend"]
    assert flow.held == 0
    assert flow.received - before.received <= 1
    assert flow.sent + flow.interrupted == flow.received
    assert len(numbers) >= before.held - 8
    assert numbers == list(range(flow.received - len(numbers), flow.received))


@pytest.mark.parametrize("paused", [False, True])
def test_removal_of_a_broker_at_rest_is_at_once(engine: Engine, connect: Connect, raw: Raw, paused: bool) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    peer = raw(endpoint(broker.frontend)).shake_hands("DEALER")
    if paused:
        broker.pause()
    final = broker.remove(timeout_s=DEADLINE_S)
    assert final.state == "removed"
    assert peer.read_to_the_end() == b""


def test_paused_broker_moves_nothing_until_it_is_resumed(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"before")
    assert pull.recv() == b"before"
    for round_number in range(3):
        broker.pause()
        received = flow_of(engine, "a").received
        for number in range(100):
            push.send(b"%d %d" % (round_number, number))
        late = connect(zmq.PUSH, endpoint(broker.frontend))
        late.send(b"late")
        wait_until(lambda: peer_count(engine, broker) == 2)
        assert not pull.poll(50)
        assert flow_of(engine, "a").received == received
        assert makes_no_turns(engine)
        broker.resume()
        taken = [pull.recv() for _ in range(101)]
        taken.remove(b"late")
        assert taken == [b"%d %d" % (round_number, number) for number in range(100)]
        late.close()
        wait_until(lambda: peer_count(engine, broker) == 1)


def test_drain_waits_until_nothing_is_held_or_unread(engine: Engine, connect: Connect, raw: Raw) -> None:
    consumer, sent = held_up(engine, connect, raw)
    assert engine.drain(timeout_s=0.05) == ("a",)
    with Threads() as threads:
        draining = threads.submit(engine.drain, DEADLINE_S)
        for number in range(sent):
            assert consumer.read_message()[1] == b"%d" % number
        assert draining.result(DEADLINE_S) == ()
    flow = flow_of(engine, "a")
    assert (flow.received, flow.sent, flow.held) == (sent, sent, 0)


def test_engine_that_is_closed_in_full_traffic_leaves_nothing(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    clients = [connect(zmq.DEALER, endpoint(broker.frontend), sndhwm=0) for _ in range(5)]
    workers = [connect(zmq.DEALER, endpoint(broker.backend), sndhwm=0) for _ in range(3)]
    for number in range(500):
        for client in clients:
            client.send_multipart([b"%d" % number, bytes(number * 10)])
    for worker in workers:
        for _ in range(20):
            worker.send_multipart(worker.recv_multipart())
    final = broker.remove(timeout_s=0)
    assert all(balanced(flow) for flow in final.flows.values())
    engine.close(timeout_s=0)
