"""Brokers that are stalled by peers that do not read: how they are filled, and their accounts watched."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import zmq

from pollbroker import QUEUE, Engine
from pollbroker.statistics import FlowStatistics
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.threads import Threads
from tests.support.types import Connect, Socket
from tests.wire.zmtp import Raw


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


class Office:
    """A QUEUE with a client that asks and does not read, one that reads, and a worker."""

    def __init__(
        self, engine: Engine, connect: Connect, raw: Raw, slow_peer: Any, *, backend: str = ANY_PORT, **options: Any
    ) -> None:
        device = replace(QUEUE, name="office", slow_peer=slow_peer)
        self.broker = engine.add("q", device, frontend=ANY_PORT, backend=backend, frontend_options=options)
        self.engine = engine
        self.slow = raw(endpoint(self.broker.frontend)).shake_hands("DEALER", b"slow")
        self.quick = raw(endpoint(self.broker.frontend)).shake_hands("DEALER", b"quick")
        self.worker = connect(zmq.DEALER, endpoint(self.broker.backend), sndhwm=10, sndbuf=50_000)
        for client in (self.slow, self.quick):
            client.send_message(b"question")
            self.worker.recv_multipart()

    def flow(self) -> FlowStatistics:
        return flow_of(self.engine, "q", "backend")
