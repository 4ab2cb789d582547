"""One running load: its sockets are made in Python, and its loop runs in C, in a thread.

Once the thread has started, Python only reads counters and never uses a socket.
"""

from __future__ import annotations

import ctypes
import errno
import math
import mmap
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import zmq

from bench.load.native import load_library
from bench.load.wire import ROLES as WIRE_ROLES
from bench.load.wire import Link
from bench.work import Load, LoadSample

# How many round trips are kept for percentiles: in 8 MiB, those of some minutes on loopback.
ROUND_TRIPS = 1 << 20
PERCENTILES: Mapping[str, float] = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999, "worst_us": 1.0}
TIMED_ROLES = ("lockstep", "commander", "timed_worker", "timed_mdp_worker")


class Progress(ctypes.Structure):
    """`progress_t` of load.h."""

    _fields_ = [
        ("before", ctypes.c_ubyte * 128),
        ("messages", ctypes.c_uint64),
        ("malformed", ctypes.c_uint64),
        ("missed", ctypes.c_uint64),
        ("after", ctypes.c_ubyte * 128),
    ]
    messages: int
    malformed: int
    missed: int


class Seen(ctypes.Structure):
    """`seen_t` of load.h."""

    _fields_ = [("number", ctypes.c_uint64), ("after", ctypes.c_ubyte * 56)]


class Order(ctypes.Structure):
    """`order_t` of load.h."""

    _fields_ = [
        ("sockets", ctypes.POINTER(ctypes.c_void_p)),
        ("count", ctypes.c_int32),
        ("frames", ctypes.c_int32),
        ("size", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("window", ctypes.c_uint64),
        ("times_ns", ctypes.POINTER(ctypes.c_uint64)),
        ("capacity", ctypes.c_uint64),
        ("seen", ctypes.POINTER(Seen)),
        ("subscribers", ctypes.c_int32),
        ("topics", ctypes.c_int32),
        ("descriptor", ctypes.c_int32),
        ("interval_ns", ctypes.c_uint64),
    ]


class RunningLoad:
    """A load that runs until the process ends; `endpoints` are the real addresses of its sockets."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], load: Load) -> None:
        link = Link(load) if load.role in WIRE_ROLES else None
        opened = [] if link else _open_all(context, load)
        self._sockets = [socket for socket, _ in opened]
        self.endpoints = (link.endpoint,) if link else tuple(real for _, endpoints in opened for real in endpoints)
        self._seen = _map_seen(load)
        self._progress = Progress()
        self._failure = 0
        self._times_ns = (ctypes.c_uint64 * (ROUND_TRIPS if load.role in TIMED_ROLES else 1))()
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
            seen=ctypes.cast(self._seen, ctypes.POINTER(Seen)) if self._seen else None,
            subscribers=load.subscribers,
            topics=load.topics,
            interval_ns=round(load.heartbeat_s * 1e9),
        )
        run = getattr(load_library(), f"load_{load.role}")

        def loop() -> None:
            if link:
                try:
                    order.descriptor = link.connected()
                except OSError as error:
                    self._failure = error.errno or errno.EIO
                    return
            self._failure = run(ctypes.byref(self._progress), ctypes.byref(order))

        threading.Thread(target=loop, name=load.role, daemon=True).start()

    def count(self) -> int:
        """The number of messages so far, by one read of memory."""
        return self._progress.messages

    def sample(self, messages: int) -> LoadSample:
        """A sample of the load; `messages` is what `count` has returned."""
        progress = self._progress
        return LoadSample(messages, progress.malformed, self._failure, self._round_trips(messages), progress.missed)

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


def _open_all(context: zmq.Context[zmq.Socket[bytes]], load: Load) -> list[tuple[zmq.Socket[bytes], list[str]]]:
    shares = [load.endpoints] if load.shared else [(endpoint,) for endpoint in load.endpoints]
    return [_open(context, load, endpoints, _topic(load, index)) for index, endpoints in enumerate(shares)]


def _topic(load: Load, index: int) -> bytes:
    """The topic of a subscriber's socket. publish.c gives the topics of a publisher to its subscribers in turn."""
    if load.role != "subscriber" or load.topics == 1:
        return b""
    publishers = len(load.endpoints) // load.subscribers
    return b"%d" % (index // publishers % load.topics)


def _map_seen(load: Load) -> ctypes.Array[Seen] | None:
    """Map the file in which subscribers tell their publisher the number of the last message that they have seen."""
    if not load.seen:
        return None
    count = len(load.endpoints) * (load.subscribers if load.role == "publisher" else 1)
    with Path(load.seen).open("a+b") as file:
        file.truncate(count * ctypes.sizeof(Seen))
        return (Seen * count).from_buffer(mmap.mmap(file.fileno(), count * ctypes.sizeof(Seen)))


def _open(
    context: zmq.Context[zmq.Socket[bytes]], load: Load, endpoints: tuple[str, ...], topic: bytes
) -> tuple[zmq.Socket[bytes], list[str]]:
    """Open a socket at all of these endpoints. Return it with their real addresses."""
    socket: zmq.Socket[bytes] = context.socket(getattr(zmq, load.socket))
    socket.set_hwm(load.high_water_mark)
    socket.setsockopt(zmq.LINGER, 0)
    if load.socket == "SUB":
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    if load.socket == "PUB":
        socket.setsockopt(zmq.XPUB_NODROP, 1)  # at its own high-water mark it waits
    real = []
    for endpoint in endpoints:
        if load.bind:
            socket.bind(endpoint)
        else:
            socket.connect(endpoint)
        real.append(socket.get_string(zmq.LAST_ENDPOINT))
    return socket, real
