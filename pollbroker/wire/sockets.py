"""The sockets of the wire, with those methods of `zmq.Socket` that the engine uses.

They are opened, read and written like sockets of libzmq, so that whatever moves single messages needs to know no more.
What moves many at a time uses the port beneath (`native.Port`).
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import zmq

from pollbroker.statistics import PeerStatistics
from pollbroker.wire import native
from pollbroker.wire.addresses import describe_peer
from pollbroker.wire.connecting import Connection
from pollbroker.wire.opening import Streams
from pollbroker.wire.served import (
    ALIASES,
    FIXED_OPTIONS,
    PORT_OPTIONS,
    STREAM_OPTIONS,
    WITHOUT_EFFECT,
    ZAP_OPTIONS,
)
from pollbroker.wire.streams import CONNECTING, LISTENING, Listening, MovedStream, Timing, raise_zmq_error
from pollbroker.wire.zap import Authentication, Domain

DOMAIN_MAX_BYTES: Final = 255
"""The greatest size of a `zap_domain` (zmq_setsockopt(3))."""

Value: TypeAlias = int | bytes

_NAMES: Final = {int(one): ALIASES.get(one.name.lower(), one.name.lower()) for one in zmq.SocketOption}
"""What options are called here, by libzmq's numbers."""

_NONE: Final[Mapping[str, Value]] = MappingProxyType({})

_logger = logging.getLogger("pollbroker")


class Context(Protocol):
    """What sockets have in common; see `context.py`."""

    net: native.Net
    authentication: Authentication
    streams: Streams

    def get(self, option: int, /) -> int: ...

    def note_close(self) -> None: ...


@dataclass(frozen=True)
class MovedSocket:
    """A socket on its way to another process. The descriptors travel beside it: first those of streams that have one,
    then those of peers."""

    record: bytes
    """See record.h."""
    streams: tuple[MovedStream, ...]
    too_long: int
    """Messages that had too many frames and were dropped, and that no flow has counted yet."""
    missed: int
    """Messages that its peers have missed; see `PortStatistics.missed`."""


class WireSocket:
    """A socket of the wire. Only the engine's thread may use it."""

    def __init__(self, context: Context, socket_type: zmq.SocketType, timing: Timing) -> None:
        self.context = context
        self.type = socket_type
        self.wire_port = native.Port(context.net, socket_type)
        self.underlying = id(self.wire_port)
        """Like libzmq's address of a socket: no other open socket has the same."""
        self._timing = timing
        self._options = dict(STREAM_OPTIONS)
        self._at_greeting: Mapping[str, Value] = _NONE
        """Those of `FIXED_OPTIONS` that were set and are not in `_options`."""
        self._domain = Domain()
        self._streams: list[Listening | Connection] = []
        self._last_endpoint = ""
        self._wanted: set[bytes] | None = None
        """What the options of a SUB say that was restored."""

    # -- options ------------------------------------------------------------------------------------------------------

    def setsockopt(self, option: int, value: int | bytes) -> None:
        """Set an option. Raises `zmq.ZMQError` (EINVAL) for one that the wire does not serve."""
        name = _NAMES[int(option)]
        if name in FIXED_OPTIONS and name not in STREAM_OPTIONS:
            self._at_greeting = {**self._at_greeting, name: value}
        if name in STREAM_OPTIONS:
            assert isinstance(value, int)
            self._options[name] = value
        elif name in PORT_OPTIONS:
            self.wire_port.set(name, value)
            if name == "routing_id":
                assert isinstance(value, bytes)
                self._domain.routing_id = value
            if name == "plain_server":
                self.context.authentication.add(self.wire_port, self._domain)
        elif name in ZAP_OPTIONS:
            self._set_domain(name, value)
        elif name not in WITHOUT_EFFECT:
            raise zmq.ZMQError(zmq.EINVAL)

    @property
    def fixed_options(self) -> Mapping[str, Value]:
        """Those of `FIXED_OPTIONS` that have another value than their default."""
        opened = {name: value for name, value in self._options.items() if value != STREAM_OPTIONS[name]}
        return {name: value for name, value in opened.items() if name in FIXED_OPTIONS} | {**self._at_greeting}

    def _set_domain(self, name: str, value: int | bytes) -> None:
        if isinstance(value, int):
            assert name == "zap_enforce_domain"
            self._domain.enforced = bool(value)
            return
        if not 1 <= len(value) <= DOMAIN_MAX_BYTES:
            raise zmq.ZMQError(zmq.EINVAL)
        self._domain.name = value
        self.wire_port.set("has_zap_domain", True)
        self.context.authentication.add(self.wire_port, self._domain)

    def getsockopt(self, option: int) -> Any:
        """TYPE, EVENTS or LAST_ENDPOINT."""
        if option == zmq.EVENTS:
            return self.wire_port.events
        if option == zmq.TYPE:
            return int(self.type)
        assert option == zmq.LAST_ENDPOINT
        return self._last_endpoint.encode()

    # -- streams ------------------------------------------------------------------------------------------------------

    def bind(self, address: str) -> None:
        """Listen at an address of tcp or ipc. Raises `zmq.ZMQError`."""
        try:
            listening = self.context.streams.listen(self.wire_port, address, self._options)
        except OSError as error:
            raise_zmq_error(error)
        self._streams.append(listening)
        self._last_endpoint = listening.address

    def connect(self, address: str) -> None:
        """Connect to an address, again and again until the socket is closed. Raises `zmq.ZMQError`."""
        try:
            self._streams.append(self.context.streams.connect(self.wire_port, address, self._options, self._timing))
        except OSError as error:
            raise_zmq_error(error)
        self._last_endpoint = address

    def stop_listening(self) -> None:
        """Accept no more connections. Those that were accepted go on."""
        for stream in self._streams:
            if isinstance(stream, Listening):
                stream.close()

    def listen_again(self, descriptor: int | None, binding: Callable[[str], AbstractContextManager[None]]) -> None:
        """Listen again where it listened before. Each address is bound in the context `binding(address)`.

        `descriptor` is a socket that is bound there, which is copied; None if there is none.

        Raises `zmq.ZMQError`. It may listen at some of its addresses then, until `stop_listening`.
        """
        options = self._options if descriptor is None else self._options | {"use_fd": descriptor}
        try:
            for number, stream in enumerate(self._streams):
                if isinstance(stream, Listening):
                    address = stream.address_now()
                    with binding(address):
                        self._streams[number] = Listening(self.wire_port, address, options, stream.asked_for)
        except OSError as error:
            raise_zmq_error(error)

    def reconnect(self) -> None:
        """End every connection that this socket has made, and make it again at once."""
        for stream in self._streams:
            if isinstance(stream, Connection):
                stream.reconnect()

    def peers(self, port: str) -> tuple[PeerStatistics, ...]:
        """The peers that are connected now; `port` is the name of the port that this socket is."""
        return tuple(
            PeerStatistics(port, describe_peer(told[0]), *told[1:10], told[10].decode(errors="backslashreplace"))
            for told in self.wire_port.peers()
        )

    def ask_peers_to_leave(self) -> None:
        """Accept and make no more connections, and tell every peer by the end of the stream (shutdown(2), SHUT_WR) that
        it is sent nothing more. What it has sent is read. A peer of libzmq leaves then, after all that it had written.
        """
        for stream in self._streams:
            stream.close()
        native.end_output(self.wire_port)

    # -- moving to another port, or to another process -----------------------------------------------------------------

    def suspend(self) -> None:
        """Neither read, write, accept nor connect until `resume`. No flow may use the socket meanwhile."""
        for stream in self._streams:
            stream.suspend()
        native.suspend(self.wire_port)

    def give_away(self) -> None:
        """Close, after `suspend`, what goes on elsewhere: nobody is told that connections have ended."""
        if not self.closed:
            native.give_away(self.wire_port)
        self.close()

    def resume(self) -> None:
        """Go on, since the other process has not taken over. What cannot be watched any more, for lack of memory,
        ends."""
        for stream in tuple(self._streams):
            try:
                stream.resume()
            except OSError as error:  # it was closed, and there is nothing to move of it any more
                self._streams.remove(stream)
                _logger.error("%r: it listens no more at %s: %s", self, stream.address, error)
        try:
            native.resume(self.wire_port, shared=True)
        except OSError as error:
            _logger.error("%r: a connection has ended when it was to go on: %s", self, error)

    def moved(self, parts: list[Any]) -> "tuple[MovedSocket, list[int]]":
        """What another process needs to go on with this socket, which is suspended, and the descriptors. `parts` are
        those of all flows of the broker (`parts_of`). Raises `ValueError` if the socket cannot be moved."""
        connectors = [stream.connector for stream in self._streams]
        places = dict.fromkeys(range(len(connectors)), -1)
        existing = [number for number, connector in enumerate(connectors) if connector is not None]
        record, peers, found = native.write_record(self.wire_port, parts, [connectors[number] for number in existing])
        places |= zip(existing, found, strict=True)
        streams = [stream.moved(places[number]) for number, stream in enumerate(self._streams)]
        descriptors = [descriptor for _, descriptor in streams if descriptor >= 0]
        return (
            MovedSocket(
                record, tuple(moved for moved, _ in streams), self.wire_port.too_long_messages, self.wire_port.missed
            ),
            [*descriptors, *peers],
        )

    def restore(self, moved: "MovedSocket", parts: list[Any], descriptors: list[int]) -> None:
        """Become the socket that another process has moved. It stays suspended, but for its streams, until `resume`.
        Descriptors that belong to it now are removed from the list. Raises `ValueError` or `OSError`; the socket can
        only be closed then."""
        own = [moved.kind in (LISTENING, CONNECTING) for moved in moved.streams]
        if len(descriptors) < sum(own):
            raise ValueError("there are more streams than descriptors")
        of_streams = [descriptors.pop(0) for _ in range(sum(own))]
        wanted = set(native.subscribed(self.wire_port))
        try:
            native.read_record(self.wire_port, moved.record, parts, descriptors)
            for stream in moved.streams:
                number = of_streams[0] if stream.kind in (LISTENING, CONNECTING) else -1
                if stream.kind == LISTENING:
                    self._streams.append(Listening.restored(self.wire_port, stream, number))
                else:
                    restored = Connection.restored(self.wire_port, self._options, self._timing, stream, number)
                    self._streams.append(restored)
                if number >= 0:
                    del of_streams[0]
        finally:
            descriptors.extend(of_streams)
        self.wire_port.too_long_messages = moved.too_long
        self.wire_port.missed = moved.missed
        self._last_endpoint = moved.streams[-1].address if moved.streams else ""
        self._wanted = wanted if self.type == zmq.SUB else None

    def subscribe_anew(self) -> None:
        """Tell the peers of a SUB that was restored what its options say, if it had subscribed to something else."""
        if self._wanted is not None:
            known = native.subscribed(self.wire_port)
            for topic in self._wanted - known.keys():
                self.wire_port.set("subscribe", topic)
            for topic in known.keys() - self._wanted:
                for _ in range(known[topic]):
                    self.wire_port.set("unsubscribe", topic)

    def watch(self, on_ready: Callable[[], None] | None) -> None:
        """Call this when something has happened."""
        self.wire_port.on_ready = on_ready

    @property
    def closed(self) -> bool:
        return self.wire_port.closed

    def close(self, linger: int | None = None) -> None:  # noqa: ARG002 - see WITHOUT_EFFECT
        """Close all streams."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()
        self.context.authentication.remove(self.wire_port)
        self.wire_port.close()
        self.context.note_close()

    def __repr__(self) -> str:
        return f"<WireSocket {self.type.name} {self._last_endpoint}>"
