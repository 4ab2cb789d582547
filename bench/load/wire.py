"""The TCP connection of a load that speaks ZMTP itself (`wire.c`): one socket, without libzmq."""

from __future__ import annotations

import socket

from bench.work import Load

ROLES = ("wire_source", "wire_sink")


class Link:
    """A TCP connection at the one endpoint of a load, which listens or connects; `endpoint` is the real address."""

    def __init__(self, load: Load) -> None:
        if len(load.endpoints) != 1 or not load.endpoints[0].startswith("tcp://"):
            raise ValueError(f"{load.role} at {load.endpoints}: expected one tcp endpoint")
        host, port = load.endpoints[0].removeprefix("tcp://").rsplit(":", 1)
        self._listener = socket.create_server((host, 0)) if load.bind else None
        self._address = host, self._listener.getsockname()[1] if self._listener else int(port)
        self._connection: socket.socket | None = None
        self.endpoint = f"tcp://{host}:{self._address[1]}"

    def connected(self) -> int:
        """Wait for the connection and return its descriptor, which is blocking. Raises `OSError`."""
        connection = self._listener.accept()[0] if self._listener else socket.create_connection(self._address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection  # without a reference it would be closed
        return connection.fileno()
