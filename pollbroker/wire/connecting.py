"""Connections that are made again when they end."""

import errno
import os
import random
import socket
import threading
import time
from functools import partial
from typing import Final

from pollbroker.descriptors import are_descriptors_few
from pollbroker.wire import native
from pollbroker.wire.addresses import Address, is_numeric, parse_connected
from pollbroker.wire.streams import CONNECTED, CONNECTING, OVER, WAITING, Handle, MovedStream, Timing, new_socket

END_S: Final = 5.0
"""How long the other side may take to end a connection that is to be made again. What it has sent is read meanwhile."""

_SOON_S: Final = 0.001
"""How long a connection that should have ended by now may still take, if its port has moved meanwhile."""

REST_S: Final = 0.1
"""How long an attempt waits for descriptors, as a listener does (`net_beginning.c`). The last ones are libzmq's."""

WITHOUT_PAUSE_MS: Final = 10
"""What `reconnect_ivl` is if it is set to 0. Without any pause, an address that refuses would be tried ten thousand
times a second."""


class Connection:
    """A connection to an address, which is made again whenever it ends, after `reconnect_ivl` milliseconds, or after
    longer and longer times up to `reconnect_ivl_max`. They are short again when hands were shaken, so that a peer that
    accepts connections and then refuses them is not asked ever as often. Names are looked up again at each try, in a
    thread."""

    def __init__(self, port: native.Port, address: str, options: dict[str, int], timing: Timing) -> None:
        """Begin. Raises `OSError` for an address of a network interface that there is not now."""
        self.address = self.asked_for = address
        self._port = port
        self._options = options
        self._timing = timing
        self._connector: native.Connector | None = None
        self._timer: Handle | None = None
        self._interval_s = self._shortest_s
        self._next_s: float | None = None
        """When the next attempt is due, by `time.monotonic`; None if none is."""
        self._suspended = False
        self._ending: Handle | None = None
        """The timer of a connection that is about to end and be made again."""
        self._end_s: float | None = None
        """When that connection is ended at the latest, by `time.monotonic`; None if none is about to end."""
        self._over = False
        """True if it has ended, and `reconnect_ivl` is -1."""
        self._closed = False
        if is_numeric(address):
            parse_connected(address, ipv6=bool(options["ipv6"]))
        self._begin()

    @classmethod
    def restored(
        cls, port: native.Port, options: dict[str, int], timing: Timing, moved: MovedStream, descriptor: int
    ) -> "Connection":
        """Go on with a connection of another process. The descriptor belongs to it from now on."""
        made = cls.__new__(cls)
        made.address, made.asked_for = moved.address, moved.asked_for
        made._port, made._options, made._timing = port, options, timing
        made._connector = made._timer = made._next_s = made._ending = made._end_s = None
        made._interval_s = max(moved.interval_s, made._shortest_s)
        made._suspended = made._closed = False
        made._over = moved.kind == OVER
        if moved.kind == CONNECTED:
            made._connector = native.Connector(port, -1, made._on_end, recorded=moved.place)
            if moved.wait_s > 0:
                made._await_end(moved.wait_s)
        elif moved.kind == CONNECTING:
            made._connector = native.Connector(port, descriptor, made._on_end)
        elif moved.kind == WAITING:
            made._wait(moved.wait_s)
        return made

    def suspend(self) -> None:
        """Do nothing until `resume`. What had ended by now is done with first."""
        self._suspended = True
        if self._connector is not None:
            if self._connector.is_over:
                self._on_end()
            else:
                self._connector.suspend()
        for timer in (self._ending, self._timer):
            if timer is not None:
                timer.cancel()
        self._ending = self._timer = None

    def resume(self) -> None:
        """Go on. What cannot be watched any more, for lack of memory, is made again."""
        self._suspended = False
        if self._connector is not None:
            if self._end_s is not None:
                self._await_end(_left_s(self._end_s))
            try:
                self._connector.resume()
            except OSError:
                self._connector.close()
                self._connector = None
                self._cancel_ending()
                self._try_later()
        elif self._next_s is not None:
            self._wait(_left_s(self._next_s))

    @property
    def _shortest_s(self) -> float:
        return (self._options["reconnect_ivl"] or WITHOUT_PAUSE_MS) / 1000

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
        due_s = self._end_s if kind == CONNECTED else self._next_s
        wait_s = 0.0 if due_s is None else _left_s(due_s)
        if kind == CONNECTED and due_s is not None:
            wait_s = max(wait_s, _SOON_S)
        return MovedStream(kind, self.address, self.asked_for, place, wait_s, interval_s), descriptor

    def _begin(self) -> None:
        self._timer = self._next_s = None
        if self._closed:
            return
        if self._suspended:
            self._next_s = time.monotonic()
            return
        if are_descriptors_few():
            self._wait(REST_S)
            return
        try:
            if is_numeric(self.address):
                self._connect(parse_connected(self.address, ipv6=bool(self._options["ipv6"])))
            else:
                threading.Thread(target=self._look_up, name="pollbroker-resolve", daemon=True).start()
        except (OSError, RuntimeError, MemoryError):
            # its network interface is away, or the process may have no more threads
            self._try_later()

    def _look_up(self) -> None:
        try:
            found: Address | None = parse_connected(self.address, ipv6=bool(self._options["ipv6"]))
        except (OSError, MemoryError):
            found = None  # the engine has logged a warning when the port was opened
        self._timing.call_soon(lambda: self._connect(found) if found else self._try_later())

    def _connect(self, address: Address) -> None:
        if self._closed:
            return
        if self._suspended:  # the name was looked up meanwhile
            self._next_s = time.monotonic()
            return
        if are_descriptors_few():  # so many names were looked up at once
            self._wait(REST_S)
            return
        try:
            made = new_socket(address, self._options)
        except (OSError, MemoryError):
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
        except (OSError, MemoryError):
            self._try_later()
        finally:
            made.close()

    def _on_end(self) -> None:
        connector = self._connector
        if connector is None:
            return
        if self._cancel_ending():
            self._connector = None
            connector.close()
            self._begin_anew()
            return
        if connector.was_connected:
            self._interval_s = self._shortest_s
        self._try_later()  # first, so that this can be done again if there is no memory for it
        self._connector = None
        connector.close()

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
        if self._closed or self._end_s is not None:
            return
        if self._connector is None:
            if self._timer is not None or self._over:  # otherwise the name is being looked up
                self._begin_anew()
        elif self._connector.descriptor >= 0:  # it is being made
            self._connector.close()
            self._connector = None
            self._begin_anew()
        else:
            self._await_end(END_S)
            self._connector.end()

    def _await_end(self, limit_s: float) -> None:
        """Wait until the connection has ended. It is ended at once when the time is over."""
        assert self._connector is not None
        self._end_s = time.monotonic() + limit_s
        if not self._suspended:
            self._ending = self._timing.call_later(limit_s, partial(self._connector.end, at_once=True))

    def _begin_anew(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._over = False
        self._interval_s = self._shortest_s
        self._begin()

    def _cancel_ending(self) -> bool:
        """Return True if the connection was about to end."""
        was_ending, self._end_s = self._end_s is not None, None
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        return was_ending

    def close(self) -> None:
        """End the attempts. A connection that was made goes on until its port is closed."""
        self._closed = True
        self._cancel_ending()
        if self._timer is not None:
            self._timer.cancel()
        if self._connector is not None:
            self._connector.close()
            self._connector = None


def _left_s(due_s: float) -> float:
    """How long it is until a time by `time.monotonic`."""
    return max(0.0, due_s - time.monotonic())
