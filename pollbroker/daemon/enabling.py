"""DISABLE and ENABLE of a daemon, which has the sockets that listen.

A broker that is disabled stops listening. But the daemon has a copy of its listeners (`listeners.py`), and the kernel
would go on queueing connections for it. So the daemon closes its own as well, and a health check is refused at once.
ENABLE opens them again. A reload leaves a disabled broker disabled, unless its configuration has changed.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pollbroker.control import Command, Steered
from pollbroker.daemon.configuration import BrokerConfiguration
from pollbroker.daemon.listeners import Listeners
from pollbroker.errors import EngineError, PollbrokerError


class Enabling:
    """Carries out the two commands.

    Arguments:
        listeners: those of the daemon.
        changing: held by whoever starts, changes or ends brokers.
        configuration_of: the configuration by which a broker runs; None if no file has it.
    """

    def __init__(
        self,
        listeners: Listeners,
        changing: threading.Lock,
        configuration_of: Callable[[str], BrokerConfiguration | None],
    ) -> None:
        self._listeners = listeners
        self._changing = changing
        self._configuration_of = configuration_of

    def commands(self) -> dict[bytes, Command]:
        """The two commands for a control socket."""
        return {b"DISABLE": Command.for_one_broker(self.disable), b"ENABLE": Command.for_one_broker(self.enable)}

    def disable(self, steered: Steered, name: str) -> None:
        """Let a broker stop listening, and close the daemon's listeners of it."""
        with self._unchanged(name) as configuration:
            steered.disable(name)
            if configuration is not None:
                self._listeners.close_for(configuration)

    def enable(self, steered: Steered, name: str) -> None:
        """Open the daemon's listeners of a broker again, and let it listen."""
        with self._unchanged(name) as configuration:
            if configuration is None or not steered.brokers[name].disabled:
                steered.enable(name)
                return
            self._listeners.open_for(configuration)
            try:
                steered.enable(name, descriptors=self._listeners.lend(configuration))
            except PollbrokerError:
                self._listeners.close_for(configuration)
                raise

    @contextmanager
    def _unchanged(self, name: str) -> Iterator[BrokerConfiguration | None]:
        """As a context: the configuration of a broker, which is not changed meanwhile.

        The engine's thread, which carries out commands, must not wait for a reload.
        """
        if not self._changing.acquire(blocking=False):
            raise EngineError(f"brokers.{name}: the daemon reads its file again or ends; try again when that is done")
        try:
            yield self._configuration_of(name)
        finally:
            self._changing.release()
