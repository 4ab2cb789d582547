"""How much memory of the C library's is in use: leaks of native code show in it."""

import ctypes
from collections.abc import Callable
from typing import Any


class Mallinfo2(ctypes.Structure):
    """mallinfo(3): ten numbers, of which the bytes that malloc has mapped, and those given out, are the ones wanted."""

    _fields_ = (
        ("first", ctypes.c_size_t * 4),
        ("mapped", ctypes.c_size_t),
        ("middle", ctypes.c_size_t * 2),
        ("given_out", ctypes.c_size_t),
        ("last", ctypes.c_size_t * 2),
    )


def bytes_in_use() -> int:
    """What is in use now: not how large the process once was, which other tests decide."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo2
    info = libc.mallinfo2()
    return int(info.mapped + info.given_out)


def growth_bytes(once: Callable[[], Any]) -> int:
    """How much more is in use after 100 calls, which begin when the first have taken what all of them need."""
    for _ in range(10):
        once()
    before = bytes_in_use()
    for _ in range(100):
        once()
    return bytes_in_use() - before
