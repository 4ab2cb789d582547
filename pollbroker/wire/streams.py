"""Opening streams: sockets that listen, and connections that are made again when they end."""

import errno
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import zmq

from pollbroker.wire import native
from pollbroker.wire.addresses import Address, format_bound, is_numeric, parse_bound, parse_connected

_logger = logging.getLogger("pollbroker")

NOT_SENT_MAX_BYTES: Final = 128 << 10
"""What the kernel may keep of a stream that it has not yet sent (TCP_NOTSENT_LOWAT, tcp(7)). With the kernel's own
limit of megabytes, a high-water mark would mean little, and a slow peer would be known late."""

END_S: Final = 5.0
"""How long the other side may take to end a connection that is to be made again. What it has sent is read meanwhile."""

_TCP_NOTSENT_LOWAT: Final = 25
"""linux/tcp.h; Python 3.11 has no name for it."""


class Handle(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> object: ...


class Timing(Protocol):
    """What connections use of the loop."""

    def call_later(self, delay_s: float, call: Callable[[], None], /) -> Handle: ...

    def call_soon(self, call: Callable[[], None], /) -> object:
        """Make a call in the engine's thread. Any thread may use this."""


LISTENING: Final = "listening"
CONNECTED: Final = "connected"
CONNECTING: Final = "connecting"
WAITING: Final = "waiting"
OVER: Final = "over"


@dataclass(frozen=True)
class MovedStream:
    """A socket that listens, or a connection, on its way to another process. The descriptor travels beside it."""

    kind: str
    """One of the five above. A connection that is WAITING for its next attempt has no descriptor, and neither has one
    that is OVER and is not made again. That of one that is CONNECTED is its peer's."""
    address: str
    asked_for: str
    place: int = -1
    """Of the peer among those of the port, if it is connected."""
    wait_s: float = 0.0
    """How long it still waits."""
    interval_s: float = 0.0
    """How long it will wait after that, if the next attempt fails."""


class Listening:
    """A socket that listens, and the connections that are accepted from it."""

    def __init__(self, port: native.Port, address: str, options: dict[str, int], asked_for: str | None = None) -> None:
        inherited = options.get("use_fd", -1)
        listener = socket.socket(fileno=os.dup(inherited)) if inherited >= 0 else _bound(address, options)
        try:
            listener.listen(options["backlog"])
            listener.setblocking(False)
            self.address = format_bound(listener)
            self.asked_for = address if asked_for is None else asked_for
            self._listener = native.Listener(port, listener.fileno())
            listener.detach()
        finally:
            listener.close()

    @classmethod
    def restored(cls, port: native.Port, moved: "MovedStream", descriptor: int) -> "Listening":
        """Go on accepting at a socket of another process, which belongs to this from now on."""
        made = cls.__new__(cls)
        made.address, made.asked_for = moved.address, moved.asked_for
        made._listener = native.Listener(port, descriptor)
        return made

    def suspend(self) -> None:
        """Accept nothing until `resume`."""
        self._listener.suspend()

    def resume(self) -> None:
        """Accept again. Raises `OSError`."""
        self._listener.resume()

    def moved(self, place: int) -> "tuple[MovedStream, int]":  # noqa: ARG002 - it has no peer of its own
        """What another process needs to go on, and the descriptor."""
        return MovedStream(LISTENING, self.address, self.asked_for), self._listener.descriptor

    @property
    def connector(self) -> native.Connector | None:
        """None: see `Connection`."""
        return None

    def close(self) -> None:
        """Accept no more connections. Those that were accepted go on."""
        self._listener.close()


def _bound(address: str, options: dict[str, int]) -> socket.socket:
    parsed = parse_bound(address, ipv6=bool(options["ipv6"]))
    bound = _new_socket(parsed, options)
    try:
        if parsed.family == socket.AF_UNIX:
            if isinstance(parsed.sockaddr, str):
                with suppress(FileNotFoundError):
                    Path(parsed.sockaddr).unlink()  # of a socket that nobody listens at: see `binding.py`
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if parsed.family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(parsed.sockaddr)
    except BaseException:
        bound.close()
        raise
    return bound


def _new_socket(address: Address, options: dict[str, int]) -> socket.socket:
    """A socket with its options. A connection that is accepted has those of the socket that listens."""
    made = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    for name, option in (("sndbuf", socket.SO_SNDBUF), ("rcvbuf", socket.SO_RCVBUF)):
        if options[name] >= 0:
            made.setsockopt(socket.SOL_SOCKET, option, options[name])
    if address.family != socket.AF_UNIX:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOT_SENT_MAX_BYTES)
        if options["tos"]:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, options["tos"])
        _set_keepalive(made, options)
    return made


def _set_keepalive(made: socket.socket, options: dict[str, int]) -> None:
    if options["tcp_keepalive"] < 0:
        return
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options["tcp_keepalive"])
    for name, option in (
        ("tcp_keepalive_idle", socket.TCP_KEEPIDLE),
        ("tcp_keepalive_cnt", socket.TCP_KEEPCNT),
        ("tcp_keepalive_intvl", socket.TCP_KEEPINTVL),
    ):
        if options[name] > 0:
            made.setsockopt(socket.IPPROTO_TCP, option, options[name])


class Connection:
    """A connection to an address, which is made again whenever it ends, after `reconnect_ivl` milliseconds, or after
    longer and longer times up to `reconnect_ivl_max`. Names are looked up again at each try, in a thread."""

    def __init__(self, port: native.Port, address: str, options: dict[str, int], timing: Timing) -> None:
        self.address = self.asked_for = address
        self._port = port
        self._options = options
        self._timing = timing
        self._connector: native.Connector | None = None
        self._timer: Handle | None = None
        self._interval_s = options["reconnect_ivl"] / 1000
        self._next_s: float | None = None
        """When the next attempt is due, by `time.monotonic`; None if none is."""
        self._suspended = False
        self._ending: Handle | None = None
        """The timer of a connection that is about to end and be made again; None if none is."""
        self._over = False
        """True if it has ended, and `reconnect_ivl` is -1."""
        self._closed = False
        self._begin()

    @classmethod
    def restored(
        cls, port: native.Port, options: dict[str, int], timing: Timing, moved: MovedStream, descriptor: int
    ) -> "Connection":
        """Go on with a connection of another process. The descriptor belongs to it from now on."""
        made = cls.__new__(cls)
        made.address, made.asked_for = moved.address, moved.asked_for
        made._port, made._options, made._timing = port, options, timing
        made._connector = made._timer = made._next_s = made._ending = None
        made._interval_s = moved.interval_s
        made._suspended = made._closed = False
        made._over = moved.kind == OVER
        if moved.kind == CONNECTED:
            made._connector = native.Connector(port, -1, made._on_end, recorded=moved.place)
        elif moved.kind == CONNECTING:
            made._connector = native.Connector(port, descriptor, made._on_end)
        elif moved.kind == WAITING:
            made._wait(moved.wait_s)
        return made

    def suspend(self) -> None:
        """Do nothing until `resume`. What had ended by now is done with first."""
        if self._connector is not None:
            if self._connector.is_over:
                self._on_end()
            else:
                self._connector.suspend()
        self._suspended = True
        self._cancel_ending()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """Go on. Raises `OSError`."""
        self._suspended = False
        if self._connector is not None:
            self._connector.resume()
        elif self._next_s is not None:
            self._wait(self._wait_s)

    @property
    def _wait_s(self) -> float:
        return 0.0 if self._next_s is None else max(0.0, self._next_s - time.monotonic())

    @property
    def connector(self) -> native.Connector | None:
        """The connection that is being made, or is in use; None between two attempts."""
        return self._connector

    def moved(self, place: int) -> tuple[MovedStream, int]:
        """What another process needs to go on, and the descriptor, or -1. `place` is that of its peer in the record of
        the port, or -1 if that is not there."""
        kind = OVER if self._over else WAITING
        if self._connector is not None and (place >= 0 or self._connector.descriptor >= 0):
            kind = CONNECTED if place >= 0 else CONNECTING
        descriptor = self._connector.descriptor if self._connector is not None else -1
        interval_s = max(0.0, self._interval_s)  # -1 ms means never
        return MovedStream(kind, self.address, self.asked_for, place, self._wait_s, interval_s), descriptor

    def _begin(self) -> None:
        self._timer = self._next_s = None
        if self._closed:
            return
        if is_numeric(self.address):
            self._connect(parse_connected(self.address, ipv6=bool(self._options["ipv6"])))
        else:
            threading.Thread(target=self._look_up, name="pollbroker-resolve", daemon=True).start()

    def _look_up(self) -> None:
        try:
            found: Address | None = parse_connected(self.address, ipv6=bool(self._options["ipv6"]))
        except (OSError, UnicodeError):
            found = None  # the engine has logged a warning when the port was opened
        self._timing.call_soon(lambda: self._connect(found) if found else self._try_later())

    def _connect(self, address: Address) -> None:
        if self._closed:
            return
        if self._suspended:  # the name was looked up meanwhile
            self._next_s = time.monotonic()
            return
        try:
            made = _new_socket(address, self._options)
        except OSError:
            self._try_later()
            return
        try:
            if address.source is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(address.source)
            code = made.connect_ex(address.sockaddr)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            self._connector = native.Connector(self._port, made.fileno(), self._on_end)
            made.detach()
        except OSError:
            self._try_later()
        finally:
            made.close()

    def _on_end(self) -> None:
        connector, self._connector = self._connector, None
        if connector is None:
            return
        if self._cancel_ending():
            connector.close()
            self._begin_anew()
            return
        if connector.was_connected:
            self._interval_s = self._options["reconnect_ivl"] / 1000
        connector.close()
        self._try_later()

    def _try_later(self) -> None:
        if self._closed or self._options["reconnect_ivl"] < 0:
            self._over = True
            return
        delay_s = self._interval_s * random.uniform(1.0, 1.25)  # so that many peers do not come back at once
        most_s = self._options["reconnect_ivl_max"] / 1000
        if most_s > self._interval_s:
            self._interval_s = min(2 * self._interval_s, most_s)
        self._wait(delay_s)

    def _wait(self, delay_s: float) -> None:
        self._next_s = time.monotonic() + delay_s
        if not self._suspended:
            self._timer = self._timing.call_later(delay_s, self._begin)

    def reconnect(self) -> None:
        """End the connection, if there is one, and make it again at once: its name is looked up again."""
        if self._closed or self._ending is not None:
            return
        if self._connector is None:
            if self._timer is not None or self._over:  # otherwise the name is being looked up
                self._begin_anew()
        elif self._connector.descriptor >= 0:  # it is being made
            self._connector.close()
            self._connector = None
            self._begin_anew()
        else:
            self._ending = self._timing.call_later(END_S, partial(self._connector.end, at_once=True))
            self._connector.end()

    def _begin_anew(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._over = False
        self._interval_s = self._options["reconnect_ivl"] / 1000
        self._begin()

    def _cancel_ending(self) -> bool:
        """Return True if the connection was about to end."""
        if self._ending is None:
            return False
        self._ending.cancel()
        self._ending = None
        return True

    def close(self) -> None:
        """End the attempts. A connection that was made goes on until its port is closed."""
        self._closed = True
        self._cancel_ending()
        if self._timer is not None:
            self._timer.cancel()
        if self._connector is not None:
            self._connector.close()
            self._connector = None


def raise_zmq_error(error: OSError) -> Any:
    """Raise what libzmq would raise for an error of a socket."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        raise zmq.ZMQError(errno.ENODEV) from error
    raise zmq.ZMQError(error.errno, error.strerror) from error
