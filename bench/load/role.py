"""One running role of the load: its sockets, made in Python, and its loop, which runs in C in a thread.

The Python side only reads counters. It never touches a socket once the thread has started.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Mapping, Sequence

import zmq

from bench.load.native import load_library
from bench.work import Load, LoadSample

# Round trips kept for percentiles: 8 MiB, some minutes of lockstep on loopback.
ROUND_TRIPS = 1 << 20
PERCENTILES: Mapping[str, float] = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}


class Progress(ctypes.Structure):
    """`progress_t` of load.c."""

    _fields_ = [
        ("before", ctypes.c_ubyte * 128),
        ("messages", ctypes.c_uint64),
        ("malformed", ctypes.c_uint64),
        ("after", ctypes.c_ubyte * 128),
    ]
    messages: int
    malformed: int


class Order(ctypes.Structure):
    """`order_t` of load.c."""

    _fields_ = [
        ("sockets", ctypes.POINTER(ctypes.c_void_p)),
        ("count", ctypes.c_int32),
        ("frames", ctypes.c_int32),
        ("size", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("window", ctypes.c_uint64),
        ("times_ns", ctypes.POINTER(ctypes.c_uint64)),
        ("capacity", ctypes.c_uint64),
    ]


class RunningLoad:
    """A role at work until the process ends; `endpoints` are the real addresses of its sockets."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], load: Load) -> None:
        self._sockets = [_open(context, load, endpoint) for endpoint in load.endpoints]
        self.endpoints = tuple(socket.get_string(zmq.LAST_ENDPOINT) for socket in self._sockets)
        self._progress = Progress()
        self._failure = 0
        self._times_ns = (ctypes.c_uint64 * (ROUND_TRIPS if load.role == "lockstep" else 1))()
        self._sampled = 0
        pointers = (ctypes.c_void_p * len(self._sockets))(*(socket.underlying for socket in self._sockets))
        order = Order(
            sockets=ctypes.cast(pointers, ctypes.POINTER(ctypes.c_void_p)),
            count=len(self._sockets),
            frames=load.frames,
            size=load.size,
            limit=load.limit,
            window=load.window,
            times_ns=ctypes.cast(self._times_ns, ctypes.POINTER(ctypes.c_uint64)),
            capacity=len(self._times_ns),
        )
        run = getattr(load_library(), f"load_{load.role}")

        def loop() -> None:
            self._failure = run(ctypes.byref(self._progress), ctypes.byref(order))

        threading.Thread(target=loop, name=load.role, daemon=True).start()

    def count(self) -> int:
        """Messages so far: one read of memory."""
        return self._progress.messages

    def sample(self, messages: int) -> LoadSample:
        """The load as it stood when `count` gave `messages`."""
        return LoadSample(messages, self._progress.malformed, self._failure, self._round_trips(messages))

    def _round_trips(self, messages: int) -> dict[str, float]:
        kept = len(self._times_ns)
        first = max(self._sampled, messages - kept)
        self._sampled = messages
        if kept == 1 or first == messages:
            return {}
        times_ns = sorted(self._times_ns[index % kept] for index in range(first, messages))
        return {name: _percentile(times_ns, share) / 1000 for name, share in PERCENTILES.items()}


def _percentile(ordered: Sequence[int], share: float) -> int:
    """The nearest-rank percentile of a sorted sequence."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _open(context: zmq.Context[zmq.Socket[bytes]], load: Load, endpoint: str) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(getattr(zmq, load.socket))
    socket.set_hwm(load.high_water_mark)
    socket.setsockopt(zmq.LINGER, 0)
    if load.socket == "SUB":
        socket.setsockopt(zmq.SUBSCRIBE, b"")
    if load.bind:
        socket.bind(endpoint)
    else:
        socket.connect(endpoint)
    return socket
