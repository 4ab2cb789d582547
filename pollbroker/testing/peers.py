"""Peers: the sockets at the ends of a line, and the form that their messages have inside a broker.

A peer never waits. Before it sends it has its socket process all commands (ZMQ_EVENTS), so that the result depends on
what was done before and not on the time.
"""

import re
from typing import Final

import zmq

from pollbroker.pump import Socket
from pollbroker.testing.trace import Frames

MARK: Final = re.compile(rb"#[^/]+/\d+#\Z")
"""The mark, a frame that is in no other message: the name of the sender, and the number of the message among the
sender's messages. It can be read among other bytes, and so its number has an end: digits may come behind it."""

_DONTWAIT: Final = int(zmq.DONTWAIT)


def mark_of(frames: Frames) -> bytes | None:
    """Return the mark in a message, or None if there is none."""
    for frame in frames:
        if frame[:1] == b"#" and MARK.match(frame):
            return frame
    return None


def envelope_of(frames: Frames) -> Frames:
    """Return the frames up to and with the first empty one. Without an empty frame there is no envelope."""
    return frames[: frames.index(b"") + 1] if b"" in frames else ()


class Peer:
    """One socket that connects to a port of a line. A peer that leaves and comes again is another `Peer`.

    Arguments:
        name: the name of the peer, which is in the marks of its messages.
        socket: its socket, not connected yet.
        endpoint: the endpoint of the port.
        port_type: the socket type of the port.
        routing_id: the routing id of the peer, which has an effect if the port is a ROUTER.
    """

    def __init__(self, name: str, socket: Socket, endpoint: str, port_type: int, routing_id: bytes | None) -> None:
        self.name = name
        self.kind = zmq.SocketType(int(socket.type))
        self.routing_id = routing_id if port_type == zmq.ROUTER else None
        """The frame that the port, if it is a ROUTER, puts before each message of this peer."""
        self.endpoint = endpoint
        self.is_known = False
        """Whether its broker has noticed that it is there."""
        self.topics: set[bytes] = set()
        """The topics that it has subscribed to. For an XPUB: the topics of which it has been told."""
        self.known_topics: set[bytes] = set()
        """The topics of which every publisher has been told."""
        self.unsent_replies: list[tuple[list[bytes], bytes, Frames, bytes | None]] = []
        """Replies that its socket has not taken yet: frames to send, mark, canonical frames, the request's mark."""
        self.numbers = 0
        """How many marks it has used."""
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
        return self.mark(self.numbers)

    def mark(self, number: int) -> bytes:
        """The mark of its message of this number."""
        return b"#%s/%d#" % (self.name.encode(), number)

    def canonical(self, frames: Frames) -> Frames:
        """Return the frames that a broker sees of a message that this peer sends or receives."""
        return self._head + frames

    def send(self, frames: list[bytes]) -> bool:
        """Send a message without waiting. Return True if the socket has accepted it."""
        try:
            self.process_commands()
            self._socket.send_multipart(frames, _DONTWAIT)
        except (zmq.Again, zmq.ZMQError) as error:
            if error.errno not in (zmq.EAGAIN, zmq.EFSM):
                raise
            return False
        return True

    def receive(self) -> list[bytes] | None:
        """Receive a message without waiting. Return None if there is none."""
        try:
            return self._socket.recv_multipart(_DONTWAIT)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EFSM):
                raise
            return None

    def process_commands(self) -> None:
        """Have the socket process its commands: connections, subscriptions, and the ends of both."""
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
        """Disconnect. Call `close` when the broker has noticed: closing at once would leave a part of the disconnection
        to libzmq's own thread, at a time that cannot be repeated."""
        self._socket.disconnect(self.endpoint)

    def lost_on_the_way(self) -> frozenset[bytes]:
        """The marks of the messages that its socket had accepted, and that will never arrive because its connection was
        broken when it left. Only a simulated stream breaks."""
        lost = getattr(self._socket, "lost_on_the_way", ())
        return frozenset(mark for message in lost if (mark := mark_of(tuple(message))) is not None)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)
