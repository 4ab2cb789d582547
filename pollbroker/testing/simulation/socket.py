"""A simulated socket as its user sees it: like a `zmq.Socket`.

Rules, which are libzmq's (socket_base.cpp) unless a rule says otherwise:

- Commands are processed by each bind, connect, disconnect and reading of ZMQ_EVENTS; by a receive that finds nothing,
  and by every 100th receive; by some sends (in libzmq if a millisecond has passed since the last time, here by chance).
- No operation waits. One that would have to raises `WouldBlockForever`, because in one thread nothing could end the
  wait.
- The `_send` of a socket type returns TAKEN, NO_ROOM or BROKEN; `_receive` returns an item or None. Other errors are
  raised.
"""

from collections.abc import Sequence
from errno import ENOENT
from typing import TYPE_CHECKING, Any, Final

import zmq

from pollbroker.testing.simulation.core import SocketCore
from pollbroker.testing.simulation.frame import LAST, MORE, WouldAbort, frame_of
from pollbroker.testing.simulation.options import Option, check_option
from pollbroker.testing.simulation.pipe import ACKNOWLEDGED, LET_GO_BOTH, Pipe
from pollbroker.testing.simulation.routing import BROKEN, TAKEN

if TYPE_CHECKING:
    from pollbroker.testing.simulation.context import SimContext

RECEIVES_BETWEEN_COMMANDS: Final = 100

_DONTWAIT: Final = int(zmq.DONTWAIT)
_SNDMORE: Final = int(zmq.SNDMORE)
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)


class WouldBlockForever(AssertionError):
    """An operation would have waited. There is only one thread, so nothing could have ended the wait."""


class SimSocket(SocketCore):
    """Looks like a `zmq.Socket`."""

    __slots__ = ()

    sndhwm = Option(zmq.SNDHWM)
    rcvhwm = Option(zmq.RCVHWM)
    sndtimeo = Option(zmq.SNDTIMEO)
    rcvtimeo = Option(zmq.RCVTIMEO)
    linger = Option(zmq.LINGER)
    routing_id = Option(zmq.ROUTING_ID)
    identity = Option(zmq.ROUTING_ID)
    router_mandatory = Option(zmq.ROUTER_MANDATORY)
    router_handover = Option(zmq.ROUTER_HANDOVER)
    xpub_nodrop = Option(zmq.XPUB_NODROP)
    xpub_verbose = Option(zmq.XPUB_VERBOSE)
    xpub_verboser = Option(zmq.XPUB_VERBOSER)
    maxmsgsize = Option(zmq.MAXMSGSIZE)
    immediate = Option(zmq.IMMEDIATE)
    ipv6 = Option(zmq.IPV6)
    last_endpoint = Option(zmq.LAST_ENDPOINT)
    rcvmore = Option(zmq.RCVMORE)
    events = Option(zmq.EVENTS)
    fd = Option(zmq.FD)

    @property
    def socket_type(self) -> zmq.SocketType:
        return self.type

    @property
    def context(self) -> "SimContext":
        return self._context

    # Messages

    def send(self, data: Any, flags: int = 0, copy: bool = True, track: bool = False) -> None:  # noqa: ARG002
        """Send one frame, like `zmq.Socket.send`. Raises `zmq.Again`, `zmq.ZMQError`, `WouldBlockForever`."""
        if self.watched:
            self._network.before(self, "send")
        if self._dead:
            self._refuse()
        if self._commands and self._network.processes_now():
            self._process_commands()
        body = data if type(data) is bytes else _bytes_of(data)
        outcome = self._send(body, MORE if flags & _SNDMORE else LAST)
        if outcome != TAKEN:
            self._send_again(body, flags, outcome)

    def _send_again(self, body: bytes, flags: int, outcome: int) -> None:
        timeout_ms = self._number(zmq.SNDTIMEO)
        if flags & _DONTWAIT or timeout_ms == 0:
            raise zmq.Again
        if outcome == BROKEN:
            return  # libzmq drops this frame too, without an error, if the send may wait
        self._process_commands()
        if self._send(body, MORE if flags & _SNDMORE else LAST) != TAKEN:
            self._wait("send", timeout_ms)

    def recv(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:  # noqa: ARG002
        """Receive one frame, like `zmq.Socket.recv`: bytes, or without `copy` a `SimFrame`. Raises as `send` does."""
        if self.watched:
            self._network.before(self, "recv")
        if self._dead:
            self._refuse()
        self._receives += 1
        if self._receives == RECEIVES_BETWEEN_COMMANDS:
            self._process_commands()
            self._receives = 0
        item = self._receive()
        if item is None:
            self._process_commands()
            self._receives = 0
            item = self._receive()
            if item is None:
                timeout_ms = self._number(zmq.RCVTIMEO)
                if flags & _DONTWAIT or timeout_ms == 0:
                    raise zmq.Again
                self._wait("recv", timeout_ms)
                raise AssertionError
        self._rcvmore = item[1] == MORE
        return item[0] if copy else frame_of(item)

    def _wait(self, operation: str, timeout_ms: int) -> None:
        if timeout_ms < 0:
            raise WouldBlockForever(f"{self.name}: this {operation} would wait, and nothing could ever end the wait")
        self._network.clock.advance(timeout_ms / 1000)
        raise zmq.Again

    def send_multipart(self, msg_parts: Sequence[Any], flags: int = 0, copy: bool = True, track: bool = False) -> None:
        for part in msg_parts[:-1]:
            self.send(part, flags | _SNDMORE, copy, track)
        self.send(msg_parts[-1], flags, copy, track)

    def recv_multipart(self, flags: int = 0, copy: bool = True, track: bool = False) -> list[Any]:
        parts = [self.recv(flags, copy, track)]
        while self._rcvmore:
            parts.append(self.recv(flags, copy, track))
        return parts

    def poll(self, timeout: int | None = None, flags: int = _POLLIN) -> int:  # noqa: ARG002
        """Return those events of `flags` that are set now. This never sleeps, whatever the timeout."""
        return self._events() & flags

    # Options

    def getsockopt(self, option: int) -> int | bytes:
        if option == zmq.EVENTS:
            return self._events()
        if self._dead:
            self._refuse()
        if option == zmq.FD:
            return self.mailbox.fileno()
        if option == zmq.TYPE:
            return int(self.type)
        if option == zmq.RCVMORE:
            return int(self._rcvmore)
        if option == zmq.LAST_ENDPOINT:
            return self._last_endpoint
        return self.option(option)

    def setsockopt(self, option: int, value: int | bytes | str) -> None:
        if self._dead:
            self._refuse()
        if isinstance(value, str):
            value = value.encode()
        check_option(self.type, option, value)
        self._options[option] = value
        self._set(option, value)
        if option in (zmq.SNDHWM, zmq.RCVHWM):
            send, receive = self._number(zmq.SNDHWM), self._number(zmq.RCVHWM)
            for pipe in self._pipes:
                if pipe.state in (ACKNOWLEDGED, LET_GO_BOTH):
                    raise WouldAbort("socket_base.cpp: a high-water mark was set for a pipe whose far end may be gone")
                pipe.set_water_marks(receive, send)
                pipe.peer.owner.mailbox.post(Pipe.on_water_marks, pipe.peer, send << 32 | receive)

    get = getsockopt
    set = setsockopt

    def set_hwm(self, value: int) -> None:
        self.setsockopt(zmq.SNDHWM, value)
        self.setsockopt(zmq.RCVHWM, value)

    def _number(self, option: int) -> int:
        return int(self.option(option))

    def _events(self) -> int:
        if self.watched:
            self._network.before(self, "events")
        if self._dead:
            self._refuse()
        self._process_commands()
        events = _POLLOUT if self._has_out() else 0
        return events | _POLLIN if self._has_in() else events

    # Endpoints

    def bind(self, addr: str) -> None:
        """Bind to an address `inproc://...`. Raises `zmq.ZMQError`."""
        self._prepare(addr)
        self._context.bind(self, addr)
        self._last_endpoint = addr.encode()

    def connect(self, addr: str) -> None:
        """Connect to the socket that has bound to an address or will do so later. Raises `zmq.ZMQError`."""
        self._prepare(addr)
        pipe = self._context.connect(self, addr)
        self.attach(pipe)
        self._last_endpoint = addr.encode()
        self._connected.setdefault(addr, []).append(pipe)

    def disconnect(self, addr: str) -> None:
        """Take back a bind, which leaves its connections open, or else all connections to an address."""
        self._prepare(addr)
        if self._context.unbind(self, addr):
            return
        if addr not in self._connected:
            raise zmq.ZMQError(ENOENT)
        for pipe in self._connected.pop(addr):
            pipe.terminate(delays=True)

    unbind = disconnect

    def _prepare(self, addr: str) -> None:
        if self._dead:
            self._refuse()
        self._process_commands()
        if not addr.startswith("inproc://") or addr == "inproc://":
            raise zmq.ZMQError(zmq.EINVAL if "://" not in addr or addr.endswith("://") else zmq.EPROTONOSUPPORT)

    # The end

    def close(self, linger: int | None = None) -> None:  # noqa: ARG002 -- over inproc nothing is left to send
        """End all pipes at once. (libzmq's reaper thread does so a moment later.)"""
        if self.closed:
            return
        self.closed = self._dead = True
        self._context.forget(self)
        for pipe in list(self._pipes):
            pipe.terminate(delays=False)
        self.mailbox.close(self._network.reaper)

    def __enter__(self) -> "SimSocket":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SimSocket {self.name}{' closed' if self.closed else ''}>"


def _bytes_of(data: Any) -> bytes:
    if isinstance(data, str):
        raise TypeError(f"{data!r}: expected bytes")
    return bytes(data)
