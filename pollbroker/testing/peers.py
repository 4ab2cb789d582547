"""Peers: the sockets at the ends of a line, and what their messages look like from within a broker.

A peer never waits, and looks for what has happened (ZMQ_EVENTS) before it sends, so that what it does depends on what
was done before and not on when.
"""

import re
from typing import Final

import zmq

from pollbroker.pump import Socket
from pollbroker.testing.trace import Frames

MARK: Final = re.compile(rb"#[^/]+/\d+\Z")
"""What tells a message from every other: who sent it, and the how manieth of his it is."""

_DONTWAIT: Final = int(zmq.DONTWAIT)


def mark_of(frames: Frames) -> bytes | None:
    """The mark in a message, if there is one."""
    for frame in frames:
        if frame[:1] == b"#" and MARK.match(frame):
            return frame
    return None


def envelope_of(frames: Frames) -> Frames:
    """The frames up to the first empty one, and that one; none if there is no empty one."""
    return frames[: frames.index(b"") + 1] if b"" in frames else ()


class Peer:
    """One life of a socket at a port of a line."""

    def __init__(self, name: str, socket: Socket, endpoint: str, port_type: int, routing_id: bytes | None) -> None:
        self.name = name
        self.kind = zmq.SocketType(int(socket.type))
        self.routing_id = routing_id if port_type == zmq.ROUTER else None
        """The frame that the port puts before what comes from it."""
        self.endpoint = endpoint
        self.is_known = False
        """Whether its broker has noticed that it is there."""
        self.topics: set[bytes] = set()
        """What it has subscribed to."""
        self.known_topics: set[bytes] = set()
        """What of that everybody has been told."""
        self.unsent_replies: list[tuple[list[bytes], bytes, Frames, bytes | None]] = []
        """Answers that its socket has not taken yet: frames to send, mark, canonical frames, the request's mark."""
        self.numbers = 0
        self._socket = socket
        self._head: Frames = ()
        if self.routing_id is not None:
            self._head = (self.routing_id, b"") if self.kind is zmq.REQ else (self.routing_id,)

    def connect(self) -> None:
        """Connect to its port."""
        if self.routing_id is not None:
            self._socket.setsockopt(zmq.ROUTING_ID, self.routing_id)
        self._socket.connect(self.endpoint)

    def next_mark(self) -> bytes:
        """The mark of its next message."""
        self.numbers += 1
        return b"#%s/%d" % (self.name.encode(), self.numbers)

    def canonical(self, frames: Frames) -> Frames:
        """What a broker sees of a message that this peer sends or is sent."""
        return self._head + frames

    def send(self, frames: list[bytes]) -> bool:
        """Send without waiting; whether the socket took it."""
        try:
            self.process_commands()
            self._socket.send_multipart(frames, _DONTWAIT)
        except (zmq.Again, zmq.ZMQError) as error:
            if error.errno not in (zmq.EAGAIN, zmq.EFSM):
                raise
            return False
        return True

    def receive(self) -> list[bytes] | None:
        """One message, if there is one."""
        try:
            return self._socket.recv_multipart(_DONTWAIT)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EFSM):
                raise
            return None

    def process_commands(self) -> None:
        """Have the socket process what has happened."""
        self._socket.getsockopt(zmq.EVENTS)

    def subscribe(self, topic: bytes) -> None:
        """Subscribe to a topic."""
        self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self.topics.add(topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Unsubscribe from a topic."""
        self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)
        self.topics.discard(topic)
        self.known_topics.discard(topic)

    def leave(self) -> None:
        """Leave. The socket is closed when the other side has had its time to notice (`close`): libzmq's own thread
        would do its part of that whenever it likes."""
        self._socket.disconnect(self.endpoint)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)
