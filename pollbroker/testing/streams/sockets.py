"""The sockets of peers: what the types of sockets do, with one connection each, and those methods of `zmq.Socket` that
the kit uses."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import zmq
from zmq import SocketType

from pollbroker.testing.streams.peer_connection import PeerConnection
from pollbroker.testing.streams.zmtp import Command, Message, subscription_in

if TYPE_CHECKING:
    from pollbroker.testing.streams.network import StreamNetwork

_T = SocketType

TYPES: Final = frozenset({_T.DEALER, _T.REQ, _T.REP, _T.PUSH, _T.PULL, _T.PUB, _T.XPUB, _T.SUB})
"""The types of peers."""

_PUBLISHERS: Final = frozenset({_T.PUB, _T.XPUB})


class StreamSocket:
    """A socket that connects once.

    Arguments:
        minor: it speaks ZMTP 3 with this minor version: 0 or 1.
    """

    def __init__(self, network: "StreamNetwork", kind: SocketType, minor: int) -> None:
        self.type = kind
        self.closed = False
        self.lost_on_the_way: list[Message] = []
        """The messages that this socket has accepted, and that will never arrive, because its stream was broken when it
        left."""
        self._network = network
        self._minor = minor
        self._marks: dict[int, int] = {zmq.SNDHWM: 1000, zmq.RCVHWM: 1000}
        self._identity = b""
        self._topics: set[bytes] = set()
        """Those that a SUB has subscribed to, or that a publisher was told of."""
        self._received: deque[Message] = deque()
        self._connection: PeerConnection | None = None
        self._awaits_reply = False
        self._envelope: Message | None = None

    # -- options and connections ------------------------------------------------------------------------------------

    def setsockopt(self, option: int, value: int | bytes) -> None:
        """Set SNDHWM, RCVHWM, ROUTING_ID, SUBSCRIBE or UNSUBSCRIBE."""
        if isinstance(value, int):
            self._marks[option] = value
        elif option == zmq.ROUTING_ID:
            self._identity = value
        else:
            self._want(value, option == zmq.SUBSCRIBE)

    def getsockopt(self, option: int) -> int:
        """EVENTS, which is asked for so that a socket of libzmq processes its commands. There are none here."""
        assert option == zmq.EVENTS
        return 0

    def connect(self, address: str) -> None:
        """Connect to an address, where a port listens or will listen."""
        self._connection = PeerConnection(
            self.type,
            self._identity,
            self._minor,
            on_ready=self._on_ready,
            on_message=self._on_message,
            on_command=self._on_command,
            wants_more=self._wants_more,
        )
        self._network.connect_peer(address, self._connection)

    def disconnect(self, address: str) -> None:  # noqa: ARG002 - it has one connection
        """Leave. The seed decides whether the stream ends in order."""
        if self._connection is not None and not self._connection.left:
            self._received.clear()
            self.lost_on_the_way = self._network.leave(self._connection)

    def close(self, linger: int | None = None) -> None:
        """Leave, unless it has left."""
        assert linger == 0
        self.closed = True
        self.disconnect("")

    # -- messages -----------------------------------------------------------------------------------------------------

    def send_multipart(self, frames: Sequence[bytes], flags: int = 0) -> None:
        """Send a message. Raises `zmq.Again` if there is no room, and `zmq.ZMQError` (EFSM) as libzmq does."""
        assert flags == zmq.DONTWAIT
        assert self._connection is not None
        message = list(frames)
        if self.type in _PUBLISHERS:
            # It has no high-water mark: what a publisher of libzmq drops there never comes to a broker.
            if any(message[0].startswith(topic) for topic in self._topics):
                self._connection.unsent.append(message)
            return
        if (self.type == _T.REQ and self._awaits_reply) or (self.type == _T.REP and self._envelope is None):
            raise zmq.ZMQError(zmq.EFSM)
        if not self._has_room():
            raise zmq.Again
        if self.type == _T.REQ:
            message.insert(0, b"")
            self._awaits_reply = True
        elif self._envelope is not None:
            message[:0] = self._envelope
            self._envelope = None
        self._connection.unsent.append(message)

    def recv_multipart(self, flags: int = 0) -> Message:
        """Receive a message. Raises `zmq.Again` if there is none, and `zmq.ZMQError` (EFSM) as libzmq does."""
        assert flags == zmq.DONTWAIT
        assert self._connection is not None
        if (self.type == _T.REQ and not self._awaits_reply) or self._envelope is not None:
            raise zmq.ZMQError(zmq.EFSM)
        while self._received:
            message = self._received.popleft()
            self._connection.handed_on += 1
            if self.type == _T.REQ:
                if message[0] != b"":
                    continue
                self._awaits_reply = False
                return message[1:]
            if self.type == _T.REP:
                if b"" not in message:
                    continue
                body = message.index(b"") + 1
                self._envelope = message[:body]
                return message[body:]
            return message
        raise zmq.Again

    def _has_room(self) -> bool:
        assert self._connection is not None
        mark = self._marks[zmq.SNDHWM]
        return not mark or len(self._connection.unsent) < mark

    # -- what comes ---------------------------------------------------------------------------------------------------

    def _wants_more(self) -> bool:
        mark = self._marks[zmq.RCVHWM]
        return self.type in _PUBLISHERS or not mark or len(self._received) < mark

    def _on_ready(self) -> None:
        assert self._connection is not None
        if self.type == _T.SUB:
            self._connection.unsent.extendleft((topic, True) for topic in sorted(self._topics))

    def _on_message(self, message: Message) -> None:
        assert self._connection is not None
        if self.type in _PUBLISHERS and message[0][:1] in (b"\0", b"\1"):
            self._on_subscription(message[0][1:], message[0][:1] == b"\1")
        elif self.type == _T.SUB and not any(message[0].startswith(topic) for topic in self._topics):
            self._connection.handed_on += 1
        else:
            self._received.append(message)

    def _on_command(self, command: Command) -> None:
        found = subscription_in(command)
        if found is not None and self.type in _PUBLISHERS:
            self._on_subscription(*found)

    def _on_subscription(self, topic: bytes, wanted: bool) -> None:
        if wanted == (topic in self._topics):
            return
        (self._topics.add if wanted else self._topics.discard)(topic)
        if self.type == _T.XPUB:
            self._received.append([(b"\1" if wanted else b"\0") + topic])

    def _want(self, topic: bytes, wanted: bool) -> None:
        (self._topics.add if wanted else self._topics.discard)(topic)
        if self._connection is not None and self._connection.is_ready:
            self._connection.unsent.append((topic, wanted))
