"""What a server of HTTP is told: where it listens, and the token of those who may steer."""

import re
from typing import Final

from pollbroker.errors import ConfigError

TOKEN_LEAST: Final = 16
"""The least characters of a token."""

_TOKEN: Final = re.compile(r"[!-~]*")
"""What can be sent in a header as it is."""


def parse_address(address: str) -> tuple[str, int]:
    """The host and the port of an address. Raises `ConfigError`."""
    host, colon, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and int(port) <= 0xFFFF
    if not colon or not is_port or not host.strip("[]") or "/" in host:
        raise ConfigError(f"http: {address!r}: expected a host and a port, such as '127.0.0.1:9464'")
    if host == "*":
        raise ConfigError(f"http: {address!r}: expected 0.0.0.0 or [::] for every address of this machine")
    return host.strip("[]"), int(port)


def check_token(token: str) -> None:
    """Raise `ConfigError` for a token that is too short, or that no header can have. The error does not repeat it."""
    if len(token) < TOKEN_LEAST or not _TOKEN.fullmatch(token):
        raise ConfigError(f"http_token: expected {TOKEN_LEAST} characters or more, all printable ASCII, without spaces")
