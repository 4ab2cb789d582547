"""DISABLE, ENABLE and TERMINATE of a daemon, which has the sockets that listen.

A broker that is disabled stops listening. But the daemon has a copy of its listeners (`listeners.py`), and the kernel
would go on queueing connections for it. So the daemon closes its own as well, and a health check is refused at once,
unless the service manager listens there, too. ENABLE opens them again. A reload leaves a disabled broker disabled,
unless its configuration has changed.

A broker that TERMINATE has ended is gone, and the daemon closes its own listeners of it for good.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from pollbroker.control import Command, Steered
from pollbroker.control.replies import DONE, Frames
from pollbroker.daemon.brokers import Brokers
from pollbroker.daemon.configuration import BrokerConfiguration, Configuration
from pollbroker.errors import EngineError, PollbrokerError


class Enabled(Protocol):
    """What is used of a daemon."""

    changing: threading.Lock

    @property
    def brokers(self) -> Brokers: ...

    @property
    def configuration(self) -> Configuration: ...

    def request(self, call: Callable[[], object], /) -> None:
        """Have a call made in the thread of requests."""


class Enabling:
    """Carries out the three commands."""

    def __init__(self, daemon: Enabled) -> None:
        self._daemon = daemon

    def commands(self) -> dict[bytes, Command]:
        """The three commands for a control socket."""
        return {
            b"DISABLE": Command.for_one_broker(self.disable),
            b"ENABLE": Command.for_one_broker(self.enable),
            b"TERMINATE": Command(self.terminate),
        }

    def disable(self, steered: Steered, name: str) -> None:
        """Let a broker stop listening, and close the daemon's listeners of it."""
        with self._unchanged(name) as configuration:
            steered.disable(name)
            if configuration is not None:
                self._daemon.brokers.listeners.close_for(configuration)

    def enable(self, steered: Steered, name: str) -> None:
        """Open the daemon's listeners of a broker again, and let it listen."""
        with self._unchanged(name) as configuration:
            if configuration is None or not steered.brokers[name].disabled:
                steered.enable(name)
                return
            listeners = self._daemon.brokers.listeners
            try:
                listeners.open_for(configuration)
                steered.enable(name, descriptors=listeners.lend(configuration))
            except PollbrokerError:
                listeners.close_for(configuration)
                raise

    def terminate(self, steered: Steered, name: str | None) -> Frames:
        """End the engine; or one broker, and close the daemon's listeners of it.

        That is not refused while the daemon changes its brokers, which may wait for this very one. The listeners are
        closed after the change then.
        """
        if name is None:
            steered.stop()
            return DONE
        steered.remove(name, timeout_s=0.0)
        if self._daemon.changing.acquire(blocking=False):
            try:
                self._close_unused()
            finally:
                self._daemon.changing.release()
        else:
            self._daemon.request(self._close_unused_later)
        return DONE

    def _close_unused(self) -> None:
        self._daemon.brokers.keep_listeners_of_present(self._daemon.configuration)

    def _close_unused_later(self) -> None:
        with self._daemon.changing:
            self._close_unused()

    @contextmanager
    def _unchanged(self, name: str) -> Iterator[BrokerConfiguration | None]:
        """As a context: the configuration of a broker, which is not changed meanwhile.

        The engine's thread, which carries out commands, must not wait for a reload or a takeover.
        """
        if not self._daemon.changing.acquire(blocking=False):
            raise EngineError(
                f"brokers.{name}: the daemon changes its brokers, hands them over or ends; try again when that is done"
            )
        try:
            yield self._daemon.configuration.brokers.get(name)
        finally:
            self._daemon.changing.release()
