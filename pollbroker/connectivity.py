"""Who may connect to a broker that is at work, and connecting it again: `Engine.disable`, `enable` and `reconnect`.

Only ports of the wire can do this without losing messages that nobody counts. libzmq ends the connections of a socket
that is unbound. When it is disconnected, it drops what it has received and nobody has read, and, after `linger`, what
it has yet to send; `docs/howto/steer.md` has the figures. Endpoints of `inproc://` lead to no other process, and are
left alone.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

import zmq

from pollbroker.errors import EndpointError, EngineError
from pollbroker.port import WorkingPort
from pollbroker.socket_files import binding_alone, is_taken_path, path_of

_UNBOUND: Final = (
    "libzmq would end its connections, too, and lose what was to be sent to them; expected transport='wire'"
)
_DISCONNECTED: Final = (
    "libzmq would lose what it has received and what it has yet to send; expected transport='wire' (libzmq looks names "
    "up again whenever a connection has ended)"
)


def listening_ports(where: str, ports: Iterable[WorkingPort]) -> tuple[WorkingPort, ...]:
    """The ports of a broker that listen at an address of tcp or ipc. Raises `EngineError` if they cannot stop."""
    return _ports_with(where, ports, "@", "binds an address", _UNBOUND)


def connecting_ports(where: str, ports: Iterable[WorkingPort]) -> tuple[WorkingPort, ...]:
    """The ports of a broker that connect to an address of tcp or ipc. Raises `EngineError` if they cannot connect
    again."""
    return _ports_with(where, ports, ">", "connects to an address", _DISCONNECTED)


def _ports_with(
    where: str, ports: Iterable[WorkingPort], mark: str, does: str, why_not: str
) -> tuple[WorkingPort, ...]:
    several = tuple(ports)
    for port in several:
        if not port.owned:
            raise EngineError(
                f"{where}.{port.name}: its socket was registered, and whoever opened it knows its addresses; expected "
                "ports that the engine has opened (Engine.add)"
            )
    found = tuple(port for port in several if any(_is_meant(endpoint, mark) for endpoint in port.asked_for))
    if not found:
        raise EngineError(f"{where}: none of its ports {does} of tcp:// or ipc://; expected one that does")
    for port in found:
        if port.wire is None:
            raise EngineError(f"{where}.{port.name}: {why_not}")
    return found


def _is_meant(endpoint: str, mark: str) -> bool:
    return endpoint.startswith(mark) and not endpoint.startswith(f"{mark}inproc:")


def listen_again(where: str, ports: Iterable[WorkingPort], descriptors: Mapping[str, int]) -> None:
    """Let ports listen again where they listened before. After an error none of them does.

    `descriptors` are sockets that are bound there already, by the port's name. Raises `EndpointError`.
    """
    several = tuple(ports)
    try:
        for port in several:
            _listen_again(f"{where}.{port.name}", port, descriptors.get(port.name))
    except EndpointError:
        for port in several:
            port.stop_listening()
        raise


def _listen_again(where: str, port: WorkingPort, descriptor: int | None) -> None:
    bound = [
        address for address, asked_for in zip(port.endpoints, port.asked_for, strict=True) if asked_for.startswith("@")
    ]
    try:
        port.wire_socket.listen_again(descriptor, partial(_binding, port) if descriptor is None else _leaving_as_it_is)
    except zmq.ZMQError as error:
        raise EndpointError(f"{where}: cannot listen again at {' '.join(bound)}: {error.strerror}") from error


@contextmanager
def _binding(port: WorkingPort, address: str) -> Iterator[None]:
    """As a context in which a port binds an address: nobody else has its path, or takes it meanwhile. The file is the
    port's then. Raises `OSError`."""
    with binding_alone(address):
        if is_taken_path(address):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        yield
        path = path_of(address)
        if path is not None:
            with suppress(OSError):  # another program has removed the file at once
                port.own_file(path)


@contextmanager
def _leaving_as_it_is(address: str) -> Iterator[None]:  # noqa: ARG001 - it is bound already
    yield
