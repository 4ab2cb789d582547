"""What a schedule asks of the sockets of its peers, and the library that is at hand: pyzmq, in this process."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import zmq

from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Socket


class PeerSocket(Protocol):
    """A socket of a peer. It has no high water marks. All messages are lists of frames."""

    def connect(self, endpoint: str) -> None: ...

    def subscribe(self, topic: bytes) -> None:
        """Subscribe a SUB."""

    def unsubscribe(self, topic: bytes) -> None:
        """Cancel one subscription of a SUB."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message. A ROUTER waits for the peer that it is for. Raises `AssertionError` after the deadline."""

    def receive(self, timeout_s: float = 0) -> list[bytes] | None:
        """The next message, or None if none has come within the time."""

    def close(self, linger_s: float) -> None:
        """Close it. What it has sent may still be written for this time."""


class Library(Protocol):
    """What makes sockets of peers."""

    def socket(self, kind: int) -> PeerSocket:
        """A new socket of this type, one of libzmq's numbers."""


def receive_in_time(socket: PeerSocket) -> list[bytes]:
    """The next message. Raises `AssertionError` after the deadline."""
    frames = socket.receive(DEADLINE_S)
    assert frames is not None, "no message came before the deadline"
    return frames


class PyzmqSocket:
    """A socket of pyzmq in this process."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        socket.set_hwm(0)
        socket.sndtimeo = DEADLINE_MS
        if socket.type == zmq.ROUTER:
            socket.router_mandatory = 1

    def connect(self, endpoint: str) -> None:
        self._socket.connect(endpoint)

    def subscribe(self, topic: bytes) -> None:
        self._socket.subscribe(topic)

    def unsubscribe(self, topic: bytes) -> None:
        self._socket.unsubscribe(topic)

    def send(self, frames: Sequence[bytes]) -> None:
        wait_until(lambda: self._try_to_send(frames))

    def _try_to_send(self, frames: Sequence[bytes]) -> bool:
        try:
            self._socket.send_multipart(frames)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def receive(self, timeout_s: float = 0) -> list[bytes] | None:
        return self._socket.recv_multipart() if self._socket.poll(round(timeout_s * 1000)) else None

    def close(self, linger_s: float) -> None:
        self._socket.close(linger=round(linger_s * 1000))


class Pyzmq:
    """The library of this process."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._context = context

    def socket(self, kind: int) -> PyzmqSocket:
        return PyzmqSocket(self._context.socket(kind))


BROKER_ID: Final = b"the broker"
"""The routing id of a broker's frontend, by which a ROUTER finds it."""
