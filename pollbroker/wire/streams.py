"""Opening streams: sockets that listen, and connections that are made again when they end."""

import errno
import logging
import os
import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import zmq

from pollbroker.wire import native
from pollbroker.wire.addresses import Address, format_bound, is_numeric, parse_bound, parse_connected

_logger = logging.getLogger("pollbroker")

NOT_SENT_MAX_BYTES: Final = 128 << 10
"""What the kernel may keep of a stream that it has not yet sent (TCP_NOTSENT_LOWAT, tcp(7)). With the kernel's own
limit of megabytes, a high-water mark would mean little, and a slow peer would be known late."""

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


class Listening:
    """A socket that listens, and the connections that are accepted from it."""

    def __init__(self, port: native.Port, address: str, options: dict[str, int]) -> None:
        inherited = options.get("use_fd", -1)
        listener = socket.socket(fileno=os.dup(inherited)) if inherited >= 0 else _bound(address, options)
        try:
            listener.listen(options["backlog"])
            listener.setblocking(False)
            self.address = format_bound(listener)
            self.asked_for = address
            self._listener = native.Listener(port, listener.fileno())
            listener.detach()
        finally:
            listener.close()

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
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._timer = None
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
        if connector.was_connected:
            self._interval_s = self._options["reconnect_ivl"] / 1000
        connector.close()
        self._try_later()

    def _try_later(self) -> None:
        if self._closed or self._options["reconnect_ivl"] < 0:
            return
        delay_s = self._interval_s * random.uniform(1.0, 1.25)  # so that many peers do not come back at once
        most_s = self._options["reconnect_ivl_max"] / 1000
        if most_s > self._interval_s:
            self._interval_s = min(2 * self._interval_s, most_s)
        self._timer = self._timing.call_later(delay_s, self._begin)

    def close(self) -> None:
        """End the attempts. A connection that was made goes on until its port is closed."""
        self._closed = True
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
