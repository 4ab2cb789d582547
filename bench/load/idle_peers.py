"""`python -m bench.load.idle_peers HOST PORT TYPE COUNT`: connections that shake hands and then say nothing.

It prints a line when all have shaken hands, and ends at the end of its input. Each is a bare TCP connection that speaks
ZMTP 3.1 (RFC 37) with the mechanism NULL, so that thousands of them need little memory themselves.
"""

from __future__ import annotations

import socket
import sys

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
AT_ONCE = 100  # fewer than the backlog of any listener
DEADLINE_S = 30


def main() -> None:
    """Connect, say so, and wait."""
    host, port, kind, count = sys.argv[1:]
    connections: list[socket.socket] = []
    while len(connections) < int(count):
        some = [_connected(host, int(port), kind) for _ in range(min(AT_ONCE, int(count) - len(connections)))]
        for connection in some:
            _read_ready(connection)
        connections += some
    print("connected", flush=True)
    sys.stdin.read()


def _connected(host: str, port: int, kind: str) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=DEADLINE_S)
    name, value = b"Socket-Type", kind.encode()
    body = b"\x05READY" + bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
    connection.sendall(GREETING + bytes([4, len(body)]) + body)
    return connection


def _read_ready(connection: socket.socket) -> None:
    """Read the greeting of the other side and its READY, a command with a short length. Raises `OSError`."""
    received = b""
    while len(received) < len(GREETING) + 2 or len(received) < len(GREETING) + 2 + received[len(GREETING) + 1]:
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionError(f"the broker has closed the connection after {received!r}")
        received += chunk


if __name__ == "__main__":
    main()
