"""Where brokers and sockets of tests are reached."""

import os
import socket
from typing import Any, Final

import zmq

from tests.support.deadline import DEADLINE_S
from tests.support.types import Socket

ANY_PORT = "tcp://127.0.0.1:*"
"""A free port of this machine, which libzmq chooses."""


OWN_HOST: Final = f"127.1.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
"""An address of the loopback interface that no other process of the tests has: nobody there is given a port that was
free a moment ago."""


def free_address() -> str:
    """An address of tcp that is free, and that nobody else is given meanwhile."""
    with socket.create_server((OWN_HOST, 0)) as probe:
        return f"tcp://{OWN_HOST}:{probe.getsockname()[1]}"


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


def refused(endpoint: str) -> bool:
    """Return True if nobody listens at an address."""
    path = endpoint.removeprefix("ipc://")
    family = socket.AF_INET if path == endpoint else socket.AF_UNIX
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    address: str | tuple[str, int] = (host, int(port)) if family == socket.AF_INET else path.replace("@", "\0", 1)
    with socket.socket(family) as probe:
        probe.settimeout(DEADLINE_S)
        try:
            probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except ConnectionResetError:
            return False  # the listener was closed while the connection waited to be accepted
    return False
