"""Telling the service manager how the daemon is: the protocol of sd_notify(3), datagrams to the socket NOTIFY_SOCKET.

- READY=1 is sent by the loop in its first turn, so that it means that brokers are served.
- WATCHDOG=1 is sent by a timer of the loop, twice in the time that the service manager allows (WATCHDOG_USEC). If the
  loop hangs, in a handler for example, nothing is sent, and the service manager acts.
- The socket by which it is told stays open, so that it is told of a loop that lives when no descriptor is left, too.
- Without a service manager nothing is sent. A message that cannot be sent is logged; the daemon goes on.
"""

import logging
import os
import socket
import time
import weakref
from collections.abc import Mapping
from typing import Final

from pollbroker.engine import Engine
from pollbroker.seldom import SeldomLog

_logger = logging.getLogger("pollbroker.daemon")

_SEND_S: Final = 1.0
"""How long a message may wait for room in the service manager's socket."""

_GRACE_S: Final = 5.0
"""How much longer than the draining of brokers the end of the daemon may take."""


class ServiceManager:
    """The service manager that has started this process, if one has, by its environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        if name and name[0] not in "/@":
            _logger.warning("NOTIFY_SOCKET is %r; expected a path, or an abstract name that begins with @", name)
            self._address = ""
        self.watchdog_s = _watchdog_s(environment) if self._address else None
        """Within how many seconds the next WATCHDOG=1 is expected; None if none is."""
        self._sockets: dict[float, socket.socket] = {}
        """Those by which messages are sent that may wait so long."""
        self._warn = SeldomLog(_logger.warning)
        self._engine: Engine | None = None

    def attach(self, engine: Engine, status: str) -> None:
        """Say READY as soon as the loop runs, and from then on that it does. The engine's timers are used."""
        if self._address:
            self._engine = engine
            engine.call_soon_threadsafe(self.ready, status)
            if self.watchdog_s is not None:
                engine.call_soon_threadsafe(self._feed_watchdog)

    def _feed_watchdog(self) -> None:
        assert self._engine is not None
        assert self.watchdog_s is not None
        self._engine.call_later(self.watchdog_s / 2, self._feed_watchdog)
        self._tell("WATCHDOG=1", wait_s=0.0)

    def ready(self, status: str) -> None:
        """Say that the daemon serves: after the start, and after each reload."""
        self._tell(f"READY=1\n{_status(status)}")

    def status(self, status: str) -> None:
        """Say in one line how it goes."""
        self._tell(_status(status), wait_s=0.0)

    def reloading(self) -> None:
        """Say that a reload has begun. `ready` says that it is over."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now_us}\n{_status('reloading')}")

    def stopping(self, drain_s: float) -> None:
        """Say that the daemon ends, and how long that may take."""
        allowed_us = int((drain_s + _GRACE_S) * 1e6)
        status = _status(f"ending: messages are delivered for up to {drain_s:g} s")
        self._tell(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={allowed_us}\n{status}")

    def main_pid(self, pid: int) -> None:
        """Say that another process is the main one from now on, after it has taken over."""
        self._tell(f"MAINPID={pid}")

    def _tell(self, text: str, *, wait_s: float = _SEND_S) -> None:
        if not self._address:
            return
        try:
            self._socket(wait_s).sendto(text.encode(errors="backslashreplace"), self._address)
        except OSError as error:
            self._warn("the service manager cannot be told %r: %s", text.partition("\n")[0], error.strerror or error)

    def _socket(self, wait_s: float) -> socket.socket:
        kept = self._sockets.get(wait_s)
        if kept is None:
            kept = self._sockets[wait_s] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            kept.settimeout(wait_s)
            weakref.finalize(self, kept.close)
        return kept


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is meant for another process, from which this one has its environment
    text = environment.get("WATCHDOG_USEC", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        _logger.warning("WATCHDOG_USEC is %r; expected a number of microseconds", text)
        return None
    return int(text) / 1e6
