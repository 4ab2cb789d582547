"""DISABLE and ENABLE of a daemon, which has the sockets that listen.

A broker that is disabled stops listening. But the daemon has a copy of its listeners (`listeners.py`), and the kernel
would go on queueing connections for it. So the daemon closes its own as well, and a health check is refused at once,
unless the service manager listens there, too. ENABLE opens them again. A reload leaves a disabled broker disabled,
unless its configuration has changed.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pollbroker.control import Command, Steered
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


class Enabling:
    """Carries out the two commands."""

    def __init__(self, daemon: Enabled) -> None:
        self._daemon = daemon

    def commands(self) -> dict[bytes, Command]:
        """The two commands for a control socket."""
        return {b"DISABLE": Command.for_one_broker(self.disable), b"ENABLE": Command.for_one_broker(self.enable)}

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
