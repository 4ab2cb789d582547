"""The sockets of clients and workers: opened anew for each try or conversation, with the endpoints in turn."""

import threading
from collections.abc import Mapping
from typing import Any, Final

import zmq

from pollbroker.binding import open_port
from pollbroker.endpoint import Endpoint, Endpoints, parse_endpoints
from pollbroker.options import check_complete, parse_options
from pollbroker.pump import Socket

_MOST_IDLE: Final = 16
"""How many sockets a client keeps that are not in use; beyond that they are closed."""


class Opener:
    """Opens sockets that are all alike.

    Arguments:
        where: what an error message begins with.
        socket_type: the type of the sockets.
        endpoints: where they are connected; of several, each socket gets the next, so that a client or a worker
            finds another broker when one is gone.
        options: socket options by name.
        context: where they are opened. `zmq.asyncio` makes a context whose sockets are awaited.

    Raises `EndpointError` or `ConfigError`.
    """

    def __init__(
        self,
        where: str,
        socket_type: int,
        endpoints: Endpoints,
        options: Mapping[str, Any] | None,
        context: zmq.Context[Any],
    ) -> None:
        parsed = parse_endpoints(where, _to_connect(endpoints))
        self.where = f"{where}: {', '.join(one.address for one in parsed)}"
        self._endpoints: tuple[Endpoint, ...] = parsed
        self._options = [(zmq.SocketOption.LINGER, 0), *parse_options(where, options or {})]
        check_complete(where, self._options)
        self._socket_type = socket_type
        self._context = context
        self._opened = 0

    def open(self) -> Any:
        """A new socket. Raises `EndpointError` or `EngineError`."""
        endpoint = self._endpoints[self._opened % len(self._endpoints)]
        self._opened += 1
        port = open_port(
            self._context,
            where=self.where,
            name="socket",
            socket_type=self._socket_type,
            endpoints=(endpoint,),
            options=self._options,
            when_ended="the context was terminated; expected an open one",
        )
        return port.socket  # of zmq.asyncio, if the context is


class IdleSockets:
    """A client's sockets. Each is used for one request at a time, and again if the whole reply has come.

    Any number of threads may have one each.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._idle: list[Socket] = []
        self._lock = threading.Lock()
        self.is_closed = False

    def take(self) -> Any:
        """A socket on which nothing can come but what is asked next."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self.open()

    def open(self) -> Any:
        """A new socket, to be given back like any other."""
        return self._opener.open()

    def give_back(self, socket: Socket, *, clean: bool) -> None:
        """Take a socket back. Unless it is clean it is closed: a reply may still come on it."""
        with self._lock:
            if clean and not self.is_closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(socket)
                return
        socket.close()

    def close(self) -> None:
        """Close those that are not in use now, and the others when they are given back."""
        with self._lock:
            self.is_closed = True
        self.close_idle()

    def close_idle(self) -> None:
        """Close those that are not in use now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for socket in idle:
            socket.close()


def _to_connect(endpoints: Endpoints) -> list[str]:
    """The endpoints, with czmq's mark for one that is connected to, unless they say that they are to be bound."""
    texts = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
    return [
        text if not isinstance(text, str) or text.strip()[:1] in ("@", ">") else f">{text.strip()}" for text in texts
    ]
