"""What the sockets of the wire have in common: one epoll set, one way to ask an authenticator, and who is told of their
connections."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import zmq

from pollbroker.events import EventKind, EventSource
from pollbroker.wire import native
from pollbroker.wire.opening import Sockets, Streams
from pollbroker.wire.served import TYPES
from pollbroker.wire.sockets import WireSocket
from pollbroker.wire.streams import Timing
from pollbroker.wire.zap import Authentication

_logger = logging.getLogger("pollbroker")

_AGAIN_S: Final = 0.1
"""After how long a call is made again for which there was no memory."""

FAULTS: Final[Mapping[str, str]] = {
    "not_zmtp": "its greeting is not that of ZMTP 2 or 3",
    "mechanism": "it uses another security mechanism",
    "socket_type": "its socket type does not fit",
    "bad_command": "it sent a malformed command",
    "refused": "it sent ERROR",
    "bad_frame": "it sent a malformed frame",
    "large_frame": "it sent a frame of more than maxmsgsize bytes",
    "slow_handshake": "its handshake took longer than handshake_ivl",
    "silent": "it sent no heartbeat",
    "routing_id": "its routing id is taken, or begins with a zero byte",
    "subscriptions": "its subscriptions are too many or too long, or it does not read ours",
    "connections": "the port has as many connections as it may have, or as many of this address",
    "authentication": "the authenticator has refused it",
    "no_verdict": "there is no authenticator, or its answer is malformed",
    "no_memory": "there was no memory",
}
"""Why a connection ended by what its peer did, by the reasons of `PortStatistics.connections_ended`."""


class WireContext:
    """Makes sockets that share one epoll set, and one way to ask an authenticator. While somebody listens to `events`,
    it tells what happens to their connections.

    `on_sockets` is called with True before a socket is opened, which it may refuse by raising `zmq.ZMQError`, and with
    False when the last one was closed. `streams`
    opens their streams; a test has simulated ones."""

    def __init__(
        self,
        timing: Timing,
        authentication: Authentication,
        events: EventSource,
        on_sockets: Callable[[bool], object],
        streams: Streams | None = None,
    ) -> None:
        self.streams: Streams = Sockets() if streams is None else streams
        self.net = native.Net(self.streams.clock)
        self.net.on_fault = _log_fault
        self._events = events
        events.when_wanted(lambda wanted: self.net.listen(self._note if wanted else None))
        events.collect_from(self.net.tell_notices)
        self.authentication = authentication
        self._timing = timing
        self._on_sockets = on_sockets
        self._calls: deque[Callable[[], object]] = deque()
        """What is to be called since something has happened."""

    def socket(self, socket_type: int) -> WireSocket:
        """A new socket. Raises `zmq.ZMQError`: EINVAL for a type that the wire does not serve, ETERM if the engine's
        context has ended."""
        if socket_type not in TYPES:
            raise zmq.ZMQError(zmq.EINVAL)
        try:
            self._on_sockets(True)
            return WireSocket(self, zmq.SocketType(socket_type), self._timing)
        except BaseException:
            self.note_close()
            raise

    def note_close(self) -> None:
        """A socket was closed."""
        if not self.net.open_ports:
            self._on_sockets(False)

    def serve(self) -> None:
        """Do what can be done at once, and call whom it concerns. If there is no memory for one of the calls, it is
        made again a little later. If one raises something else, such as a SystemExit, the others are made in the next
        turn."""
        self._calls += self.net.serve()
        self.net.tell_notices()
        try:
            while self._calls:
                call = self._calls.popleft()
                try:
                    call()
                except MemoryError:
                    _logger.exception("there was no memory for what follows from a change of a connection")
                    self._timing.call_later(_AGAIN_S, partial(self._call_again, call))
        except BaseException:
            self._timing.call_soon(self.serve)
            raise
        while (question := self.net.next_question()) is not None:
            self.authentication.ask(*question)

    def _call_again(self, call: Callable[[], object]) -> None:
        self._calls.append(call)
        self.serve()

    def _note(self, notices: list[tuple[str, str | None, str, str]], lost: int) -> None:
        for kind, where, address, reason in notices:
            broker, _, port = (where or "").removeprefix("brokers.").rpartition(".")
            told = "" if kind == "connected" else reason
            self._events.note(_KINDS[kind], broker, port=port, address=address, reason=told)
        if lost:
            self._events.note(EventKind.EVENTS_LOST, count=lost)

    def get(self, option: int) -> int:
        """MAX_SOCKETS: the wire has no limit of its own. It is here for messages about limits."""
        assert option == zmq.MAX_SOCKETS
        return -1

    def close(self) -> None:
        """Close the epoll set. All sockets must have been closed."""
        self.authentication.close()
        self.net.close()


_KINDS: Final[Mapping[str, EventKind]] = dict(
    zip(
        native.NOTICES,
        (
            EventKind.PEER_CONNECTED,
            EventKind.PEER_LEFT,
            EventKind.HANDSHAKE_FAILED,
            EventKind.CONNECTION_REFUSED,
        ),
        strict=True,
    )
)


def _log_fault(where: str | None, address: str, reason: str, count: int) -> None:
    others = f" (and {count - 1} more connections since the last message)" if count > 1 else ""
    _logger.warning("%s: the connection of %s has ended: %s%s", where, address, FAULTS.get(reason, reason), others)
