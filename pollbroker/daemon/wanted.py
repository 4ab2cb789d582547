"""Which listeners the ports of a broker are to have: see `listeners.py`, which opens them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from pollbroker.daemon.addresses import Bound, parse
from pollbroker.opening import Plan

Key: TypeAlias = tuple[object, ...]
"""What tells a listener from others."""

_SET_BY_LIBZMQ: Final = frozenset(
    {
        "USE_FD", "SNDBUF", "RCVBUF", "TOS", "BINDTODEVICE", "PRIORITY", "TCP_ACCEPT_FILTER", "IPC_FILTER_UID",
        "IPC_FILTER_GID", "IPC_FILTER_PID", "SOCKS_PROXY",
    }
)  # fmt: skip
"""Options that are set on the socket that listens, or that say what it is."""

_SHARED: Final = frozenset({"USE_FD", "BINDTODEVICE"})
"""Options with which a port may listen where another socket listens, too."""

_BACKLOG: Final = 100
"""libzmq's default (zmq_setsockopt(3), ZMQ_BACKLOG)."""


@dataclass(frozen=True)
class WantedListener:
    """The listener that a port is to have."""

    where: str
    port: str
    key: Key
    address: str
    ipv6: bool
    backlog: int

    @property
    def bound(self) -> Bound | None:
        """The address in parts; None for a wildcard."""
        return parse(self.address, ipv6=self.ipv6)


def listeners_of(broker: str, plan: Plan) -> Iterator[WantedListener]:
    """The listeners of a broker, by its name and the plan of its ports. A port that cannot have one is left out."""
    for port in plan.ports:
        bound = [endpoint.address for endpoint in port.endpoints if endpoint.bind]
        if len(bound) == 1:
            (address,) = bound
            options = {option.name: value for option, value in port.options}
            if not _can_be_lent(address) or not _SET_BY_LIBZMQ.isdisjoint(options):
                continue
            ipv6 = bool(options.get("IPV6")) or "://[" in address
            backlog = options.get("BACKLOG", _BACKLOG)
            wildcard = (broker, port.name) if address.endswith((":*", ":0")) else ()
            assert isinstance(backlog, int)
            key = (address, ipv6, backlog, *wildcard)
            yield WantedListener(port.where, port.name, key, address, ipv6, backlog)


def bound_by_ports(broker: str, plan: Plan) -> Iterator[WantedListener]:
    """What the ports of a broker bind themselves, since they can have no listener, in the order in which they do so.

    Wildcards are left out, and what may be bound although another socket listens there.
    """
    lent = {one.port for one in listeners_of(broker, plan)}
    for port in plan.ports:
        options = {option.name: value for option, value in port.options}
        if port.name in lent or not _SHARED.isdisjoint(options):
            continue
        for endpoint in port.endpoints:
            ipv6 = bool(options.get("IPV6")) or "://[" in endpoint.address
            one = WantedListener(port.where, port.name, (), endpoint.address, ipv6, 0)
            if endpoint.bind and _can_be_lent(one.address) and one.bound is not None:
                yield one


def _can_be_lent(address: str) -> bool:
    transport, _, rest = address.partition("://")
    return transport == "tcp" or (transport == "ipc" and rest != "*")
