"""Endpoints are parsed and checked here, before libzmq is given them.

libzmq accepts more than it should: `tcp://127.0.0.1:70000` binds port 4464. The notation is czmq's (zsock_attach):
`@tcp://...` binds and `>tcp://...` connects; several endpoints are separated by commas. An endpoint without a mark is
bound, since a broker is usually the side that stays while its peers come and go.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from pollbroker.errors import EndpointError

Endpoints: TypeAlias = str | Iterable[str]

_IPC_PATH_MAX_BYTES: Final = 107
"""`sockaddr_un.sun_path` holds 108 bytes with the NUL that ends it (unix(7))."""

_INPROC_NAME_MAX_BYTES: Final = 256
"""The limit that zmq_inproc(7) names."""

_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*(?<!-)\.?\Z")
"""A DNS name or an interface name. One with a part that is empty, or longer than 63 characters (RFC 1035, 2.3.4),
cannot be looked up: Python's resolver raises UnicodeError."""


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: its address in libzmq's form, and whether it is bound or connected."""

    address: str
    bind: bool

    def __str__(self) -> str:
        return f"{'@' if self.bind else '>'}{self.address}"

    @property
    def host_name(self) -> str | None:
        """The host name that has to be resolved before a connection can be made; None if there is no such name."""
        if self.bind or not self.address.startswith("tcp://"):
            return None
        host = self.address.removeprefix("tcp://").rpartition(";")[2].rpartition(":")[0]
        return None if _is_ip(host) else host


def parse_endpoints(where: str, endpoints: Endpoints | Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints of a port, from one string (several are separated by commas) or from several strings. Endpoints
    that were parsed before are taken as they are.

    Raises `EndpointError`, which names the place `where`, the endpoint and what was expected.
    """
    if isinstance(endpoints, str):
        endpoints = endpoints.split(",")
    try:
        texts: list[str | Endpoint] = list(endpoints)
    except TypeError:
        raise EndpointError(f"{where}: {endpoints!r}: expected an endpoint or several, as strings") from None
    parsed = tuple(_parse(where, text) for text in texts)
    if not parsed:
        raise EndpointError(f"{where}: no endpoint is given; expected one such as tcp://127.0.0.1:5559")
    return parsed


def _parse(where: str, text: str | Endpoint) -> Endpoint:
    if isinstance(text, Endpoint):
        return text
    if not isinstance(text, str):
        raise EndpointError(f"{where}: {text!r}: expected an endpoint as a string, such as tcp://127.0.0.1:5559")
    text = text.strip()
    bind = not text.startswith(">")
    address = text[1:] if text[:1] in ("@", ">") else text
    endpoint_where = f"{where}: {text}"
    if "\0" in address:
        raise EndpointError(f"{where}: {text!r}: an endpoint cannot hold a NUL")
    try:
        address.encode()
    except UnicodeEncodeError:
        raise EndpointError(f"{where}: {text!a}: expected text in UTF-8") from None
    transport, separator, rest = address.partition("://")
    if not separator:
        raise EndpointError(f"{endpoint_where}: expected transport://address, such as tcp://127.0.0.1:5559")
    check = _CHECKS.get(transport)
    if check is None:
        raise EndpointError(f"{endpoint_where}: transport {transport!r} is not known; expected {', '.join(_CHECKS)}")
    check(endpoint_where, rest, bind)
    return Endpoint(address, bind)


def _check_tcp(endpoint_where: str, rest: str, bind: bool) -> None:
    source, semicolon, rest = rest.rpartition(";")
    if semicolon:
        if bind:
            raise EndpointError(
                f"{endpoint_where}: a source address (before the semicolon) goes with connecting (>) only"
            )
        _check_host_and_port(endpoint_where, source, local=True)
    _check_host_and_port(endpoint_where, rest, local=bind)


def _check_host_and_port(endpoint_where: str, text: str, *, local: bool) -> None:
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise EndpointError(f"{endpoint_where}: expected tcp://host:port")
    if local and port == "*":
        pass
    elif not (re.fullmatch("[0-9]{1,5}", port) and (0 if local else 1) <= int(port) <= 65535):
        raise EndpointError(f"{endpoint_where}: port must be {'0 to 65535 or *' if local else '1 to 65535'}")
    if host == "*":
        if not local:
            raise EndpointError(f"{endpoint_where}: a host to connect to is needed; * can only be bound")
    elif not (_is_ip(host) or _HOST_NAME.match(host)):
        raise EndpointError(f"{endpoint_where}: {host!r} is neither an address nor a name; write IPv6 as [::1]")


def _check_ipc(endpoint_where: str, rest: str, bind: bool) -> None:
    if not rest:
        raise EndpointError(f"{endpoint_where}: expected ipc://path")
    if rest == "*" and not bind:
        raise EndpointError(f"{endpoint_where}: a path to connect to is needed; * can only be bound")
    if len(rest.encode()) > _IPC_PATH_MAX_BYTES:
        raise EndpointError(f"{endpoint_where}: the path is longer than {_IPC_PATH_MAX_BYTES} bytes")


def _check_inproc(endpoint_where: str, rest: str, bind: bool) -> None:  # noqa: ARG001 - all three checks are called alike
    if not 1 <= len(rest.encode()) <= _INPROC_NAME_MAX_BYTES:
        raise EndpointError(f"{endpoint_where}: expected inproc://name, the name 1 to {_INPROC_NAME_MAX_BYTES} bytes")


_CHECKS: Final = {"tcp": _check_tcp, "ipc": _check_ipc, "inproc": _check_inproc}

TRANSPORTS: Final = tuple(_CHECKS)
"""The transports that an endpoint may begin with."""


@lru_cache
def _is_ip(host: str) -> bool:
    """Return True if `host` is an IPv4 address, or an IPv6 address in brackets."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        version = ipaddress.ip_address(bare).version
    except ValueError:
        return False
    return bare is not host or version == 4


def is_loopback(address: str) -> bool:
    """Return True if no other machine reaches an address: it is not tcp, or it belongs to the loopback interface."""
    if not address.startswith("tcp://"):
        return True
    host = address.removeprefix("tcp://").rpartition(":")[0].rpartition(";")[2].strip("[]")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() in ("localhost", "lo")
    return ((ip.version == 6 and ip.ipv4_mapped) or ip).is_loopback
