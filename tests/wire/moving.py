"""Brokers that are handed over from one engine to another, in one process, while traffic flows."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Broker, BrokerState, Device, Engine, HandedOver, HandOverError
from pollbroker.handing_over.channel import CLAIM, DESCRIPTORS, HELLO, OFFER, STATE, Channel, Refused
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S
from tests.support.threads import in_thread
from tests.support.types import MakeEngine, Socket
from tests.support.wire_ports import alive

Add = Callable[..., Broker]
"""Adds a broker to an engine. Further arguments are those of `Engine.add`."""

MOVES = int(os.environ.get("POLLBROKER_MOVES", "8"))
"""How often a broker moves in most tests."""


def adds(device: Device | str, name: str = "a", **more: Any) -> Add:
    """A function that adds a broker to an engine, always the same one."""
    endpoints = {"frontend": ANY_PORT, "backend": ANY_PORT} | more
    return lambda engine, **replacing: engine.add(name, device, **endpoints, **replacing)


OTHERS = {
    "types": (adds(QUEUE), r"brokers\.a\.frontend: a PULL is handed over; expected that in the place of ROUTER"),
    "endpoints": (
        adds(STREAMER, backend="tcp://127.0.0.1:1"),
        r"brokers\.a\.backend: @tcp://127.0.0.1:\* is handed over",
    ),
    "transport": (adds(STREAMER, transport="libzmq"), r"here libzmq serves it; expected transport='wire'"),
    "ports": (adds(STREAMER, capture=ANY_PORT), r"brokers\.a\.capture: it is not handed over with the others"),
}
"""Brokers that cannot have the connections of a STREAMER, and what the error says."""


@contextmanager
def socket_pair(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection between an old and a new process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        yield ours, theirs


def hand_over(old: Engine, new: Engine, *adds: Add, kind: int = socket.SOCK_STREAM, **options: Any) -> HandedOver:
    """Hand over from one engine to another, which adds brokers by these functions."""
    with socket_pair(kind) as (ours, theirs):
        # On a busy machine two threads of one process may have to wait long for each other.
        handed_over = in_thread(lambda: old.hand_over(ours, **({"freeze_s": DEADLINE_S} | options)))
        with new.adopt(theirs) as adoption:
            for add in adds:
                add(new)
        result = handed_over.result(DEADLINE_S)
        assert isinstance(result, HandedOver)
        assert sorted(result.moved) == sorted(adoption.moved)
        return result


class Side:
    """The side of a hand over that a test plays by itself."""

    def __init__(self, ours: socket.socket) -> None:
        self.socket = ours
        self._channel = Channel(ours)
        self._deadline = float("inf")

    def close(self) -> None:
        self._channel.close()
        self.socket.close()

    def tell(self, kind: int, **what: Any) -> None:
        self._channel.tell(kind, what, deadline_s=self._end_s())

    def send(self, kind: int, body: bytes = b"") -> None:
        self._channel.send(kind, body, deadline_s=self._end_s())

    def receive(self, *kinds: int) -> bytes:
        return self._channel.receive(*kinds, deadline_s=self._end_s())[1]

    def receive_state(self) -> bytes:
        while True:
            kind, body = self._channel.receive(DESCRIPTORS, STATE, deadline_s=self._end_s())
            if kind == STATE:
                return body

    def claim(self, *names: str) -> None:
        """Do what a new process does until the old one is to stop its brokers."""
        self.tell(HELLO, versions=[1])
        self.receive(OFFER)
        self.tell(CLAIM, brokers=names)

    def refusal(self) -> str:
        """Why the other side refuses."""
        try:
            self.receive()
        except Refused as refused:
            return str(refused)
        raise AssertionError

    @staticmethod
    def _end_s() -> float:
        return time.monotonic() + DEADLINE_S


Leave = Callable[..., tuple[Side, "Future[Any]"]]
"""Begins to hand a broker over to a side that the test plays."""


def hand_over_and_close(engine: Engine, ours: socket.socket, options: dict[str, Any]) -> object:
    with ours:
        return engine.hand_over(ours, **({"freeze_s": DEADLINE_S} | options))


def check_refused(future: "Future[Any]", match: str) -> None:
    with pytest.raises(HandOverError, match=match):
        future.result(DEADLINE_S)


class Relay:
    """A broker that moves from engine to engine. Nothing of the wire may be left in an engine that it has left."""

    def __init__(self, make_engine: MakeEngine, add: Add) -> None:
        self._make_engine = make_engine
        self._add = add
        self.engine = make_engine()
        self.engine.start()
        self.broker = add(self.engine)

    def move(self, **options: Any) -> None:
        """Hand the broker over to a new engine."""
        old, new = self.engine, self._make_engine()
        new.start()
        left = self.broker
        assert hand_over(old, new, self._add, **options).moved == (left.name,)
        self.engine, self.broker = new, new.brokers[left.name]
        assert left.removed.done()
        assert alive(old) == (0, 0, 0, 0)
        old.close(timeout_s=0)


class ReplacedRelay(Relay):
    """A broker that another one takes the place of, again and again, in one engine. Nothing of the wire may be left
    that was the old one's."""

    def move(self, **options: Any) -> None:
        """Put another broker of the same kind into the place of the broker."""
        left = self.broker
        ports_before = alive(self.engine)[2]
        self.broker = self._add(self.engine, replaces=left)
        assert left.state is BrokerState.REMOVED
        assert left.removed.done()
        assert self.engine.brokers[left.name] == self.broker != left
        assert alive(self.engine)[2] == ports_before


MakeRelay = Callable[[Add], Relay]

AHEAD: Final = 2000
"""How many messages a sender may be ahead of what has come. What the kernel keeps would take seconds to be received."""


class Sending:
    """A thread that sends numbered messages until it is told to stop. Its socket is used by no one else meanwhile."""

    def __init__(
        self, sender: Socket, name: bytes = b"", *, size: int = 0, receiving: "Receiving | None" = None
    ) -> None:
        self._socket = sender
        self._name = name
        self._receiving = receiving
        self._rest = bytes(size)
        self._stopping = threading.Event()
        self._done = in_thread(self._run)

    def _run(self) -> int:
        number = 0
        while not self._stopping.is_set():
            if self._receiving is not None and number > len(self._receiving.messages.get(self._name, ())) + AHEAD:
                self._stopping.wait(0.001)
                continue
            self._socket.send_multipart([self._name, b"%d" % number, self._rest])
            number += 1
        return number

    def stop(self) -> int:
        """How many messages were sent."""
        self._stopping.set()
        count = self._done.result(DEADLINE_S)
        assert isinstance(count, int)
        return count


class Receiving:
    """A thread that receives what `Sending` sends: from each sender in order."""

    def __init__(self, receiver: Socket) -> None:
        self.messages: dict[bytes, list[int]] = {}
        self._socket = receiver
        self._stopping = threading.Event()
        self._done = in_thread(self._run)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._socket.poll(10, zmq.POLLIN):
                name, number, *_ = self._socket.recv_multipart()
                self.messages.setdefault(name, []).append(int(number))

    @property
    def count(self) -> int:
        return sum(map(len, list(self.messages.values())))

    def stop(self) -> dict[bytes, list[int]]:
        """What has come from each sender."""
        self._stopping.set()
        self._done.result(DEADLINE_S)
        return self.messages

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
