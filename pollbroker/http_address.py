"""Addresses of HTTP servers: a host and a port."""

from pollbroker.errors import ConfigError


def parse_address(address: str) -> tuple[str, int]:
    """The host and the port of an address. Raises `ConfigError`."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF or not host.strip("[]"):
        raise ConfigError(f"http: {address!r}: expected a host and a port, such as '127.0.0.1:9464'")
    return host.strip("[]"), int(port)
