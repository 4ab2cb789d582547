"""Notices that the process may open few more descriptors, of which each connection needs one.

- Ports of the wire accept nobody then, so that the last descriptors are left to the control socket, health over HTTP
  and files. Connections wait in the kernel, and a port looks ten times a second whether it may accept them.
- libzmq 4.3.5 accepts until none is left. Then its thread takes a whole core as long as a connection waits at a port
  over tcp, and ends the process when one comes to a port over ipc (ipc_listener.cpp).

Connections that exist go on. Once a second the watch opens a descriptor and closes it, in the engine's thread.
"""

import logging
import resource
from collections.abc import Iterator
from typing import Final

from pollbroker.descriptors import SPARE_DESCRIPTORS, are_descriptors_few
from pollbroker.engine import Engine

_logger = logging.getLogger("pollbroker.daemon")

EVERY_S: Final = 1.0
"""How much time lies between two looks."""

ENOUGH: Final = 2 * SPARE_DESCRIPTORS
"""So many have to be left before a shortage is over, so that it is not told again and again."""


class DescriptorWatch:
    """Looks once a second whether descriptors are few, until the engine is closed. It says when they are, and when
    there are enough again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._why_not_ready: str | None = None

    def start(self) -> None:
        """Look from now on."""
        self._engine.call_later(EVERY_S, self._look_and_go_on)

    def why_not_ready(self) -> Iterator[str]:
        """The reason why peers cannot connect, unless there is none. Any thread may call this."""
        reason = self._why_not_ready
        if reason is not None:
            yield reason

    def _look_and_go_on(self) -> None:
        self.start()  # first, so that it goes on whatever the look raises
        self.look()

    def look(self) -> None:
        """Find out whether descriptors are few."""
        if self._why_not_ready is None:
            if are_descriptors_few():
                limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                self._why_not_ready = (
                    f"{SPARE_DESCRIPTORS} descriptors or fewer are left: this process may open {limit} (ulimit -n)"
                )
                _logger.error("%s; ports of the wire accept no connection until others end", self._why_not_ready)
        elif not are_descriptors_few(ENOUGH - SPARE_DESCRIPTORS):
            self._why_not_ready = None
            _logger.warning("more than %d descriptors are left again", ENOUGH)
