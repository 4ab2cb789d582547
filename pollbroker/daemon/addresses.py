"""Whether two addresses are one: `*` and 0.0.0.0 are every address of a machine, and 127.0.0.1 is one of them."""

import ipaddress
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_EVERY: Final = frozenset({"*", "0.0.0.0", "[::]"})
_EVERY_IPV4: Final = frozenset({"*", "0.0.0.0"})


@dataclass(frozen=True)
class Bound:
    """An address that is bound, in parts that can be compared."""

    transport: str
    rest: str
    """The port of tcp; the path of ipc; the name of inproc."""
    host: str = ""
    ipv6: bool = False
    """True if `*` is every address of IPv6, too."""

    @property
    def key(self) -> tuple[str, str]:
        """What two addresses have in common that are one."""
        return self.transport, self.rest

    def takes(self, other: "Bound") -> bool:
        """Return True if the two cannot be bound at the same time, or one leads to the other."""
        if self.key != other.key or self.transport != "tcp":
            return self.key == other.key
        hosts = {self.host, other.host}
        if len(hosts) == 1:
            return True
        either = self if self.host in _EVERY else other
        rest = other if either is self else self
        if either.host not in _EVERY:
            return False
        if rest.host in _EVERY:
            return True
        if rest.host.startswith("["):  # an address of IPv6
            return either.host == "[::]" or either.ipv6
        return either.host in _EVERY_IPV4 or either.ipv6 or either.host == "[::]"


def parse(address: str, *, ipv6: bool = False) -> Bound | None:
    """An address in parts; None if it is chosen when it is bound, so that it is no other's."""
    transport, _, rest = address.partition("://")
    if transport == "tcp":
        host, _, port = rest.rpartition(";")[2].rpartition(":")
        if port in ("*", "0"):
            return None
        return Bound("tcp", str(int(port)), _plain(host), ipv6)
    if transport == "ipc":
        return None if rest == "*" else Bound("ipc", rest if rest.startswith("@") else os.path.abspath(rest))  # noqa: PTH100
    return Bound(transport, rest)


@lru_cache
def _plain(host: str) -> str:
    """One way to write a host."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower()
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return f"[{ip}]" if ip.version == 6 else str(ip)
