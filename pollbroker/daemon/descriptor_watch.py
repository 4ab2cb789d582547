"""Notices that the process may open no more descriptors, which each connection needs.

Connections that exist go on then, and new ones wait until a descriptor is left again. A port of the wire tries to
accept them ten times a second. The thread of libzmq 4.3.5 tries again at once, and so takes a whole core for as long as
one waits at a port of libzmq, and each descriptor that becomes free.

Once a second the watch opens a descriptor and closes it, in the engine's thread.
"""

import logging
import os
import resource
from collections.abc import Iterator
from typing import Final

from pollbroker.descriptors import SPARE_DESCRIPTORS, check_descriptors
from pollbroker.engine import Engine

_logger = logging.getLogger("pollbroker.daemon")

EVERY_S: Final = 1.0
"""How much time lies between two looks."""


class DescriptorWatch:
    """Looks once a second whether a descriptor is left, until the engine is closed. It says when none is, and when
    there are some again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._why_not_ready: str | None = None

    def start(self) -> None:
        """Look from now on."""
        self._engine.call_later(EVERY_S, self._look_and_go_on)

    def why_not_ready(self) -> Iterator[str]:
        """The reason why nobody can connect, unless there is none. Any thread may call this."""
        reason = self._why_not_ready
        if reason is not None:
            yield reason

    def _look_and_go_on(self) -> None:
        self.look()
        self.start()

    def look(self) -> None:
        """Find out whether a descriptor is left. Once none was, it takes as many as libzmq needs for a socket before
        that is over, so that it is not said again and again."""
        try:
            if self._why_not_ready is None:
                os.close(os.open(os.devnull, os.O_RDONLY))
            else:
                check_descriptors()
        except OSError as error:
            if self._why_not_ready is None:
                limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                self._why_not_ready = (
                    f"no descriptor is left ({error.strerror}): this process may open {limit} (ulimit -n)"
                )
                _logger.error("%s; nobody can connect until others leave", self._why_not_ready)
            return
        if self._why_not_ready is not None:
            self._why_not_ready = None
            _logger.warning("%d descriptors or more are left again, so that peers can connect", SPARE_DESCRIPTORS)
