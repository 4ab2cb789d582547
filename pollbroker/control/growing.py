"""A frame that grows until it is sent, in memory that libzmq takes over as it is.

The statistics of a thousand brokers are one frame of two megabytes. To copy it into a message of libzmq's keeps the
engine from its brokers for longer than a turn may take. So the frame grows in memory of the C library, a broker at a
time, and libzmq is given the memory itself, with the function that frees it: `free`, which its I/O thread may call,
since it is no function of Python (zmq_msg_init_data(3)).
"""

import ctypes
import errno
from typing import Any, Final

import zmq

_FIRST_ROOM: Final = 64 << 10
"""Bytes. Whenever the room is not enough it is doubled. Large memory is moved by changing the tables of pages, and what
was never written takes no memory (mremap(2), malloc(3))."""

_MESSAGE_BYTES: Final = 64
"""The size of a `zmq_msg_t`, which zmq.h promises."""


class GrowingFrame:
    """A frame that grows, and is sent once, with `send_last`."""

    def __init__(self) -> None:
        self._address: int | None = None
        """Where the bytes are; None before the first, and when they are libzmq's."""
        self._room: memoryview | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, more: bytes) -> None:
        """Add bytes at the end. Raises `MemoryError`."""
        end = self._size + len(more)
        if self._room is None or end > len(self._room):
            self._make_room(end)
        assert self._room is not None
        self._room[self._size : end] = more
        self._size = end

    def _make_room(self, least: int) -> None:
        room = _FIRST_ROOM if self._room is None else 2 * len(self._room)
        while room < least:
            room *= 2
        if self._room is not None:
            self._room.release()
        address = _libc.realloc(self._address, room)
        if address is None:
            raise MemoryError
        self._address = address
        self._room = memoryview((ctypes.c_char * room).from_address(address)).cast("B")

    def send_last(self, socket: Any) -> None:
        """Send this as the last frame of a message, without waiting. Raises `zmq.ZMQError`. The bytes are gone then, in
        any case."""
        message = (ctypes.c_uint64 * (_MESSAGE_BYTES // 8))()
        if self._room is None:
            self._make_room(1)
        assert self._room is not None
        self._room.release()
        self._room = None
        if _libzmq.zmq_msg_init_data(message, self._address, self._size, _free, None) != 0:
            raise zmq.ZMQError(_libzmq.zmq_errno())
        self._address = None  # it is the message's
        while _libzmq.zmq_msg_send(message, socket.underlying, zmq.DONTWAIT) < 0:
            number = _libzmq.zmq_errno()
            if number != errno.EINTR:
                _libzmq.zmq_msg_close(message)
                raise zmq.ZMQError(number)

    def __del__(self) -> None:
        """Free the bytes of a frame that was not sent."""
        if self._address is not None:
            if self._room is not None:
                self._room.release()
            _libc.free(self._address)
            self._address = None


def can_send_as_it_is(socket: object) -> bool:
    """Return True if a `GrowingFrame` can be sent at a socket: it is pyzmq's, and the functions of libzmq are found."""
    return _libzmq is not None and isinstance(socket, zmq.Socket)


def _find_libzmq() -> Any:
    """libzmq, as pyzmq uses it; None if pyzmq was built so that its functions cannot be found."""
    try:
        from zmq.backend.cython import _zmq  # pyzmq has another backend for PyPy

        found = ctypes.CDLL(_zmq.__file__)
        found.zmq_msg_init_data.argtypes = (
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p,
        )  # fmt: skip
        found.zmq_msg_send.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
        found.zmq_msg_close.argtypes = (ctypes.c_void_p,)
        found.zmq_errno.argtypes = ()
    except (ImportError, OSError, AttributeError):
        return None
    return found


_libzmq: Final = _find_libzmq()

_libc: Final = ctypes.CDLL(None)
_libc.realloc.argtypes, _libc.realloc.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_void_p
_libc.free.argtypes, _libc.free.restype = (ctypes.c_void_p,), None
_free: Final = ctypes.cast(_libc.free, ctypes.c_void_p)
