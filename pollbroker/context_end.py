"""The end of an engine's context, for brokers that have no socket in it.

libzmq tells every socket of a context that the context is being terminated (zmq_ctx_term(3)), and waits until they are
closed. So brokers on sockets of libzmq end. Ports of the wire are no such sockets. One socket, which is neither bound
nor connected, stands for all of them. The rules:

- It is open only while there are ports of the wire, and only if somebody else than the engine has the context. Nobody
  else could terminate it, and the first socket of a context starts libzmq's threads.
- It belongs to a shadow of the context, so that `zmq.Context.destroy`, which closes the sockets that the program has
  opened, does not close it under the engine.
- Its descriptor is watched like any other. No message passes it, so that it costs nothing.
- When it was told of the end it is closed, and the context may be gone at any moment. Nothing touches that any more:
  libzmq has freed it, although `zmq.Context.closed` may not be true yet.
"""

import logging
from collections.abc import Callable
from typing import Any

import zmq

from pollbroker.descriptors import check_descriptors

_logger = logging.getLogger("pollbroker")


class ContextEnd:
    """Notices that a context is being terminated. Only the engine's thread may use it.

    Arguments:
        context: returns the context.
        watch, unwatch: have a function called when something has happened at a socket, as `Waiter.add` and `remove` do.
        on_end: called when the context is being terminated. It waits until the ports of the wire are closed.
    """

    def __init__(
        self,
        context: Callable[[], zmq.Context[Any]],
        watch: Callable[[zmq.Socket[bytes], Callable[[], None]], None],
        unwatch: Callable[[zmq.Socket[bytes]], None],
        on_end: Callable[[], object],
    ) -> None:
        self.is_shared = False
        """True if somebody else than the engine has the context."""
        self._context = context
        self._watch = watch
        self._unwatch = unwatch
        self._on_end = on_end
        self._is_needed = False
        self._has_ended = False
        """True once the socket was told of the end."""
        self._socket: zmq.Socket[bytes] | None = None

    @property
    def is_watched(self) -> bool:
        """True while the socket is open."""
        return self._socket is not None

    def share(self) -> None:
        """Somebody else has the context from now on."""
        self.is_shared = True
        self._open_if_needed()

    def need(self, needed: bool, /) -> None:
        """Whether there are ports of the wire, or there is to be one.

        Raises `zmq.ContextTerminated` if there is to be one, and the context has ended.
        """
        self._is_needed = needed
        if not needed:
            self.close()
        elif not self._open_if_needed():
            raise zmq.ContextTerminated

    def close(self) -> None:
        """Close the socket, so that the context can be terminated."""
        if self._socket is not None:
            self._unwatch(self._socket)
            self._socket.close(linger=0)
            self._socket = None

    def _open_if_needed(self) -> bool:
        """Return False if the context has ended."""
        if not (self.is_shared and self._is_needed) or self._socket is not None:
            return True
        if self._has_ended or self._context().closed:
            return False
        try:
            check_descriptors()
            shadow: zmq.Context[zmq.Socket[bytes]] = zmq.Context.shadow(self._context().underlying)
            self._socket = shadow.socket(zmq.PAIR)
        except (zmq.ZMQError, OSError) as error:
            if getattr(error, "errno", None) == zmq.ETERM:
                return False
            _logger.warning("the end of the context will not end brokers of the wire: %s", error)
        else:
            self._watch(self._socket, self._look)
        return True

    def _look(self) -> None:
        if self._socket is None:
            return  # it was closed in this turn
        try:
            self._socket.getsockopt(zmq.EVENTS)
        except zmq.ZMQError:  # ETERM: nobody else can close this socket
            self._has_ended = True
            self.close()
            self._on_end()
