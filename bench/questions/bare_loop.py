"""How near is the native pump to a bare C loop of zmq_msg_recv and zmq_msg_send (`load/bare.c`)?

First the pump alone is measured: messages that wait in an inproc PULL are moved to an inproc PUSH that has room for all
of them, in one call and one thread. Nothing else is in the time. Then both run as a STREAMER, and are compared with
`zmq.proxy`.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from importlib import import_module

import zmq

from bench.child import ChildError
from bench.load.native import load_library
from bench.load.role import Order, Progress
from bench.peers.table import BARE, NATIVE, PROXY
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions import rates
from bench.work import Work
from pollbroker.pump import LIMIT

MESSAGES = 100_000
SIZE = 64
FULL = Plan(rounds=9, warm_up_s=0.1, window_s=0.5)
QUICK = Plan(rounds=2, warm_up_s=0.05, window_s=0.2)
GOALS = (Goal("message_ns", NATIVE.name, BARE.name, 1.1, at_least=False),)


def measure(case: Case, plan: Plan) -> Sample:
    """For work with a limit: nanoseconds for each message, as the median of several runs. For other work: the rate."""
    if not case.work.limit:
        return rates.measure(case, plan)
    # Repeated until the time is over, because the first calls are slower: caches are cold and the heap still grows.
    measured: list[float] = []
    begun_s = time.monotonic()
    while not measured or time.monotonic() - begun_s < plan.warm_up_s + plan.window_s:
        took = _move_once(case)
        if time.monotonic() - begun_s > plan.warm_up_s:
            measured.append(took)
    return {"message_ns": statistics.median(measured)}


def _move_once(case: Case) -> float:
    """Move all messages, and return the nanoseconds for each. Raises `ChildError` if one of them did not arrive
    whole."""
    work = case.work
    library = load_library()
    library.bare_move.restype = library.bare_count.restype = ctypes.c_int64
    library.bare_move.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64
    library.bare_count.argtypes = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint64
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        feeder, source = _connected(context, "inproc://source")
        sink, drain = _connected(context, "inproc://sink")
        _fill(library, feeder, work)
        if case.peer is BARE:
            begun_ns = time.perf_counter_ns()
            moved = library.bare_move(source.underlying, sink.underlying, work.limit)
        else:
            pump = import_module("pollbroker.pump.native").Pump(source, sink)
            begun_ns = time.perf_counter_ns()
            while pump.sent < work.limit and pump.move(work.limit, 1 << 62) == LIMIT:
                pass  # a pump also returns after a number of frames
            moved = pump.sent
        took_ns = time.perf_counter_ns() - begun_ns
        arrived = library.bare_count(drain.underlying, work.frames, work.size)
    finally:
        context.destroy(linger=0)
    if (moved, arrived) != (work.limit, work.limit):
        raise ChildError(f"{case.peer.name}: {moved} of {work.limit} messages were moved, {arrived} arrived whole")
    return took_ns / work.limit


def _connected(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """Return a PUSH and a PULL that are connected, with room for any number of messages between them."""
    push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    for socket in push, pull:
        socket.set_hwm(0)
    pull.bind(endpoint)
    push.connect(endpoint)
    return push, pull


def _fill(library: ctypes.CDLL, feeder: zmq.Socket[bytes], work: Work) -> None:
    socket = ctypes.c_void_p(feeder.underlying)
    order = Order(sockets=ctypes.pointer(socket), count=1, frames=work.frames, size=work.size, limit=work.limit)
    code = library.load_source(ctypes.byref(Progress()), ctypes.byref(order))
    if code:
        raise ChildError(f"the source ended with errno {code}")


def cells(quick: bool) -> tuple[Cell, ...]:
    """Cells for the pump with messages of one frame and of three, and for a STREAMER over tcp and inproc."""
    pump = tuple(
        Cell(
            f"pump, inproc {SIZE} B, {frames} frame{'s' if frames > 1 else ''}",
            tuple(Case.of(peer, Work("streamer", "inproc", SIZE, frames, limit=MESSAGES)) for peer in (NATIVE, BARE)),
            QUICK if quick else FULL,
            GOALS,
        )
        for frames in (1, 3)
    )
    if quick:
        return pump[:1]
    streamer = tuple(
        Cell(
            f"STREAMER, {transport} {SIZE} B",
            tuple(Case.of(peer, Work("streamer", transport, SIZE)) for peer in (NATIVE, PROXY, BARE)),
            rates.GRID,
        )
        for transport in ("tcp", "inproc")
    )
    return pump + streamer


QUESTION = Question(
    name="bare-loop",
    title="The native pump and a bare C loop of zmq_msg_recv and zmq_msg_send",
    figures=("message_ns", "rate_per_s", "cpu_ns"),
    cells=cells,
    measure=measure,
    note=rates.NOTE,
)
