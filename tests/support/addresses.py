"""Where brokers and sockets of tests are reached."""

from typing import Any

import zmq

from tests.support.types import Socket

ANY_PORT = "tcp://127.0.0.1:*"
"""A free port of this machine, which libzmq chooses."""


def endpoint(port: Any) -> str:
    """The one real address of a port."""
    (address,) = port.endpoints
    assert isinstance(address, str)
    return address


def address_of(socket: Socket) -> str:
    """Where a socket is bound, or connected, last."""
    address = socket.get(zmq.LAST_ENDPOINT)
    assert isinstance(address, bytes)
    return address.rstrip(b"\0").decode()


def bind(socket: Socket) -> str:
    """Bind a socket, and return its address."""
    socket.bind(ANY_PORT)
    return address_of(socket)
