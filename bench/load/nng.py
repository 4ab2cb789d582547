"""The load that speaks nng: the same source and sink as ZeroMQ's, on nng's push and pull, in `nng.c`.

nng and ZeroMQ have different protocols, so a broker of nng needs nng at both ends. Besides the load, this module has
the parts of nng's C interface that the broker (`bench/peers/nng_device.py`) needs, too.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import functools
import sys
import threading
from typing import Any

from bench.load.native import library_path
from bench.load.role import Progress
from bench.work import Load, LoadSample

# The order of `nng_t` in nng.c.
FUNCTIONS = (
    "nng_msg_alloc",
    "nng_msg_body",
    "nng_msg_len",
    "nng_msg_free",
    "nng_aio_alloc",
    "nng_aio_result",
    "nng_aio_get_msg",
    "nng_aio_set_msg",
    "nng_send_aio",
    "nng_recv_aio",
    "nng_msleep",
)
OPENERS = {"source": "nng_push0_open", "sink": "nng_pull0_open"}


class Socket(ctypes.Structure):
    """`nng_socket`: a number, passed by value. nng's sockets may be used from any thread."""

    _fields_ = [("id", ctypes.c_uint32)]


class _Listener(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint32)]


class NngError(Exception):
    """A call of nng failed."""


@functools.cache
def library() -> ctypes.CDLL:
    """The system's libnng."""
    nng = ctypes.CDLL(ctypes.util.find_library("nng"))
    nng.nng_strerror.restype = ctypes.c_char_p
    return nng


def opened(opener: str, high_water_mark: int) -> Socket:
    """Return a new socket. In nng only a sending socket has a buffer; it is made as long as ZeroMQ's."""
    socket = Socket()
    _check(opener, getattr(library(), opener)(ctypes.byref(socket)))
    if "push" in opener:
        _check("send-buffer", library().nng_socket_set_int(socket, b"send-buffer", high_water_mark))
    return socket


def listen(socket: Socket, endpoint: str) -> str:
    """Bind a socket and return the real address."""
    listener, port = _Listener(), ctypes.c_int()
    wildcard = endpoint.endswith(":*")
    address = endpoint.removesuffix("*") + "0" if wildcard else endpoint
    _check(address, library().nng_listen(socket, address.encode(), ctypes.byref(listener), 0))
    if not wildcard:
        return endpoint
    _check(address, library().nng_listener_get_int(listener, b"tcp-bound-port", ctypes.byref(port)))
    return f"{endpoint.removesuffix('*')}{port.value}"


class RunningLoad:
    """A source or a sink at work until the process ends, on one socket at all of its endpoints."""

    def __init__(self, _context: object, load: Load) -> None:
        if load.role not in OPENERS or load.frames != 1 or load.limit:
            raise NngError(
                f"the load {load.role} of {load.frames} frames, {load.limit} messages: there is none for nng"
            )
        socket = opened(OPENERS[load.role], load.high_water_mark)
        if load.bind:
            self.endpoints = tuple(listen(socket, endpoint) for endpoint in load.endpoints)
        else:
            self.endpoints = load.endpoints
            for endpoint in load.endpoints:
                _check(endpoint, library().nng_dial(socket, endpoint.encode(), None, 0))
        self._progress = Progress()
        self._failure = 0
        run: Any = getattr(_bound_load(), f"nng_load_{load.role}")

        def loop() -> None:
            code = run(ctypes.byref(self._progress), socket, ctypes.c_size_t(load.size))
            print(f"{load.role}: {_describe(code)}", file=sys.stderr)
            self._failure = errno.EIO  # nng's own numbers mean something else to the bench

        threading.Thread(target=loop, name=load.role, daemon=True).start()

    def count(self) -> int:
        """The number of messages so far, by one read of memory."""
        return self._progress.messages

    def sample(self, messages: int) -> LoadSample:
        """A sample of the load; `messages` is what `count` has returned."""
        return LoadSample(messages, self._progress.malformed, self._failure)


@functools.cache
def _bound_load() -> ctypes.CDLL:
    load = ctypes.CDLL(str(library_path()))
    addresses = [ctypes.cast(getattr(library(), name), ctypes.c_void_p) for name in FUNCTIONS]
    load.nng_load_bind.restype = None
    load.nng_load_bind((ctypes.c_void_p * len(addresses))(*addresses))
    return load


def _check(where: str, code: int) -> None:
    if code:
        raise NngError(f"{where}: {_describe(code)}")


def _describe(code: int) -> str:
    text: bytes = library().nng_strerror(code)
    return text.decode()
