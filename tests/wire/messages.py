"""Messages of every size, of 1 to 100 frames, and how tests receive and compare them."""

from collections.abc import Sequence
from typing import Final

from tests.support.types import Socket

SIZES: Final = (0, 1, 255, 256, 4095, 4096, 4097, 64 << 10, 1 << 20)
"""Around each length at which a frame is encoded, copied, or read in another way."""


def _body(size: int, seed: int) -> bytes:
    """Bytes that are not the same anywhere nearby."""
    pattern = bytes((seed + 7 * i + (i >> 8)) & 255 for i in range(min(size, 4096)))
    return (pattern * (size // 4096 + 1))[:size] if pattern else b""


MESSAGES: Final[list[list[bytes]]] = [
    *([_body(size, size & 255)] for size in SIZES),
    *([b"head", _body(size, 3), b"tail"] for size in SIZES),
    [b"", b""],
    [b"%d" % i for i in range(100)],
    [_body(SIZES[i % 7], i) for i in range(100)],
    [b""] * 100,
    [_body(1 << 20, 1), _body(1 << 20, 2)],
]
"""Messages of every size, of 1 to 100 frames."""


def receive_many(socket: Socket, count: int) -> list[list[bytes]]:
    return [socket.recv_multipart() for _ in range(count)]


def same(found: Sequence[list[bytes]], expected: Sequence[list[bytes]]) -> bool:
    """True if both are the same. An assertion would print megabytes."""
    return list(found) == list(expected)
