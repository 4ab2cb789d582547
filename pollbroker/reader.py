"""Readers: callbacks for sockets and descriptors that are no broker's, such as control."""

import logging
from collections.abc import Callable
from typing import Any

import zmq

from pollbroker.errors import EngineError
from pollbroker.pump import Pumping, Socket

_logger = logging.getLogger("pollbroker")


class Reader:
    """A callback that is called, once a turn, as long as its socket or descriptor has something to read."""

    def __init__(self, target: Socket | int, callback: Callable[[], Any], pumping: Pumping) -> None:
        if not isinstance(target, int) and not hasattr(target, "getsockopt"):
            raise EngineError(f"{target!r} cannot be read; expected a ZeroMQ socket or a descriptor")
        if not isinstance(target, int) and target.closed:
            raise EngineError(f"{target!r} cannot be read; expected an open socket")
        self.target = target
        self._callback = callback
        self._read_events = None if isinstance(target, int) else pumping.make_event_reader(target)

    def has_input(self) -> bool:
        """Settle the socket, and say whether the callback is due. A descriptor is asked by the waiter alone."""
        if self._read_events is None or isinstance(self.target, int):
            return False
        if self.target.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        return bool(self._read_events() & zmq.POLLIN)

    def run(self) -> None:
        """Call back. What it raises is logged; the reader stays."""
        try:
            self._callback()
        except Exception:
            _logger.exception("the reader of %r raised", self.target)
