"""What happens while nobody takes messages, or takes them slowly, or dies: nothing is lost, doubled, or read too early."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Device, Engine, Route
from pollbroker.statistics import FlowStatistics
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.types import Connect, Socket
from tests.support.wire_ports import ended_by, in_engine, peer_count, wire_port
from tests.wire.zmtp import RawPeer, command, message

Raw = Callable[[str], RawPeer]


def stands_still(engine: Engine, name: str = "a", source: str = "frontend") -> FlowStatistics:
    """Wait until a flow moves nothing any more, and the engine makes no turns but those in which it is asked."""
    seen = [(-1, -1, 0)] * 8

    def same_for_long() -> bool:
        # A turn is made for each question, and one for each call that wakes the engine.
        before = engine.statistics()
        threading.Event().wait(0.005)
        after = engine.statistics()
        flow = after.brokers[name].flows[source]
        seen.append((flow.received, flow.sent, after.turns - before.turns))
        return len(set(seen[-8:])) == 1 and after.turns - before.turns <= 2

    wait_until(same_for_long)
    return flow_of(engine, name, source)


def makes_no_turns(engine: Engine) -> bool:
    """True if nothing but the two questions has brought about a turn within 50 ms."""
    before = engine.statistics().turns
    threading.Event().wait(0.05)
    return engine.statistics().turns - before <= 2


def fill(push: Socket, size: int, prefix: bytes = b"") -> int:
    """Send until a socket of libzmq's has no room, and stays so; how many messages."""
    sent = 0
    while push.poll(200, zmq.POLLOUT):
        push.send_multipart([prefix, b"%d" % sent, bytes(size)], zmq.NOBLOCK)
        sent += 1
    return sent


@contextmanager
def accounts_are_watched(engine: Engine) -> Iterator[None]:
    """Look at every flow again and again: each snapshot has to balance."""
    over = threading.Event()
    wrong: list[FlowStatistics] = []
    looked = 0

    def look() -> None:
        nonlocal looked
        while not over.is_set():
            for broker in engine.statistics().brokers.values():
                wrong.extend(flow for flow in broker.flows.values() if not balanced(flow))
            looked += 1

    with Threads() as threads:
        threads.submit(look)
        try:
            yield
        finally:
            over.set()
    assert looked
    assert not wrong


# -- nobody takes anything -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100_000])
def test_nothing_is_received_without_a_consumer(engine: Engine, connect: Connect, size: int) -> None:
    """The messages stay with the peers that sent them, who are held up in the end."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
    sent = fill(push, size) if size > 1000 else 5
    if size < 1000:
        for number in range(sent):
            push.send_multipart([b"", b"%d" % number, bytes(size)])
    flow = stands_still(engine)
    assert (flow.received, flow.held) == (0, 0)
    assert flow.state == "stalled"
    assert makes_no_turns(engine)
    pull = connect(zmq.PULL, endpoint(broker.backend))
    assert [int(pull.recv_multipart()[1]) for _ in range(sent)] == list(range(sent))
    assert push.poll(DEADLINE_MS, zmq.POLLOUT)
    assert flow_of(engine, "a").received == sent


def test_requests_wait_at_the_clients_without_a_worker(engine: Engine, connect: Connect) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    clients = [connect(zmq.REQ, endpoint(broker.frontend)) for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    wait_until(lambda: peer_count(engine, broker) == 5)
    assert stands_still(engine, "q").received == 0
    assert makes_no_turns(engine)
    worker = connect(zmq.REP, endpoint(broker.backend))
    for _ in clients:
        worker.send(worker.recv())
    for number, client in enumerate(clients):
        assert client.recv() == b"%d" % number


def test_consumer_that_does_not_read_stops_the_source(engine: Engine, connect: Connect, raw: Raw) -> None:
    """What is under way is limited by the buffers of the kernel, and not by the memory of this process."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
    with accounts_are_watched(engine):
        sent = fill(push, 10_000)
        flow = stands_still(engine)
    assert flow.received < sent
    assert flow.held == flow.received - flow.sent
    assert flow.held * 10_000 < 400_000  # 256 KiB in the queue, and the message that was the last
    assert flow.state == "stalled"
    assert makes_no_turns(engine)
    for number in range(sent):
        assert consumer.read_message()[1] == b"%d" % number
    assert push.poll(DEADLINE_MS, zmq.POLLOUT)
    wait_until(lambda: flow_of(engine, "a").sent == sent)


def test_kernel_is_given_no_more_than_can_soon_be_sent(engine: Engine, connect: Connect, raw: Raw) -> None:
    """With the kernel's own limit, megabytes would be on their way to a peer that reads nothing."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    consumer = raw(endpoint(broker.backend))
    consumer.socket.setsockopt(zmq_so(), 4096)
    consumer.shake_hands("PULL")
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
    fill(push, 10_000)
    flow = stands_still(engine)
    # What was "sent" is in the buffers of both ends: the receiver's, and 128 KiB that are not yet sent.
    assert flow.sent * 10_000 < 8 << 20
    queued = unsent(engine, broker)
    assert queued <= 300_000, queued


def zmq_so() -> Any:
    raise NotImplementedError
