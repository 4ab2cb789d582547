"""What does each setting that a user can change improve, and what does it cost?

The engine's settings are how much a direction moves in one turn (`burst_messages`, `burst_bytes`), and how long it
looks for more work before it falls asleep (`spin_s`). ZeroMQ's are the high-water marks of the broker's sockets, and
the I/O threads of its context. A cell is one setting, of which several values alternate with the default. The load
always has the default settings, so that every broker gets the same traffic.
"""

from __future__ import annotations

from dataclasses import replace

from bench.peers.table import NATIVE, PROXY, Peer
from bench.question import Case, Cell, Plan, Question, Sample
from bench.questions.busy_pairs import SETTLED
from bench.questions.rates import figures_of
from bench.rig import Rig
from bench.work import TRAFFIC, Work

BURST_MESSAGES = (1, 10, 100, 1000, 10_000)
BURST_KIB = (64, 1024, 16_384)
SPINS_US = (0, 20, 100, 500)
MARKS = (10, 100, 1000, 10_000)
IO_THREADS = (1, 2)
BUSY_PAIRS = 10
DEFAULT_BURST_MESSAGES, DEFAULT_BURST_KIB, DEFAULT_SPIN_US, DEFAULT_MARK, DEFAULT_IO_THREADS = 1000, 1024, 0, 1000, 1

FULL = Plan(rounds=5, warm_up_s=0.3, window_s=0.7)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.4)
COMMANDED_START_S = 0.6  # there is one process more


def measure(case: Case, plan: Plan) -> Sample:
    """Rate and CPU per message; also the round trips, if there are any, and how long a control command took."""
    with Rig(case.peer, case.work) as rig:
        rig.start()
        rig.wait_for_messages(TRAFFIC[case.work.traffic].counter, SETTLED * case.work.pairs)
        if case.work.controlled:
            rig.start_commander()
        window = rig.window(plan.warm_up_s, plan.window_s)
    sample = {**figures_of(window, case.work), **window.counted.round_trips_us}
    if window.control is not None and window.control.round_trips_us:
        sample["p99_ms"] = window.control.round_trips_us["p99_us"] / 1000
    return sample


def cells(quick: bool) -> tuple[Cell, ...]:
    """A cell for each setting, and one more for the I/O threads with several pairs. Quick: only spinning."""
    if quick:
        return (_spins(QUICK),)
    return (_bursts(), _marks(), *_io_threads(), _spins(FULL), _burst_bytes())


def _bursts() -> Cell:
    flooded = Work("streamer", controlled=True)
    cases = [
        _case(replace(flooded, engine={"burst_messages": count}), f"{count:,}", count == DEFAULT_BURST_MESSAGES)
        for count in BURST_MESSAGES
    ]
    return Cell("burst_messages, streamer, tcp 64 B", tuple(cases), replace(FULL, start_s=COMMANDED_START_S))


def _marks() -> Cell:
    cases = [_case(Work("streamer", mark=mark), f"{mark:,}", mark == DEFAULT_MARK) for mark in MARKS]
    return Cell("high-water mark, streamer, tcp 64 B", tuple(cases), FULL)


def _io_threads() -> tuple[Cell, ...]:
    """These cells include `zmq.proxy`, which is served by libzmq's I/O threads in the same way."""
    kinds = {
        "streamer": Work("streamer"),
        f"streamer, {BUSY_PAIRS} pairs": Work("streamer", pairs=BUSY_PAIRS, shared=True),
    }
    return tuple(
        Cell(
            f"io_threads, {kind}, tcp 64 B",
            tuple(
                _case(replace(work, io_threads=count), f"{count}", count == DEFAULT_IO_THREADS, peer)
                for peer in (NATIVE, PROXY)
                for count in IO_THREADS
            ),
            FULL,
        )
        for kind, work in kinds.items()
    )


def _spins(plan: Plan) -> Cell:
    cases = [
        _case(Work("round trip", engine={"spin_s": spin_us / 1e6}), f"{spin_us} us", spin_us == DEFAULT_SPIN_US)
        for spin_us in SPINS_US
    ]
    return Cell("spin_s, round trip through a queue, tcp 64 B", tuple(cases), plan)


def _burst_bytes() -> Cell:
    large = Work("streamer", size=1 << 16)
    cases = [
        _case(replace(large, engine={"burst_bytes": kib << 10}), f"{kib:,} KiB", kib == DEFAULT_BURST_KIB)
        for kib in BURST_KIB
    ]
    return Cell("burst_bytes, streamer, tcp 64 KiB", tuple(cases), FULL)


def _case(work: Work, value: str, default: bool, peer: Peer = NATIVE) -> Case:
    return Case(peer, work, f"{peer.name}, {value}{' (default)' if default else ''}")


QUESTION = Question(
    name="knobs",
    title="What a user may set, one knob at a time",
    figures=("rate_per_s", "cpu_ns", "p50_us", "p99_us", "p99_ms"),
    cells=cells,
    measure=measure,
    note="Of a round trip, a message is a request and its reply. p99 ms is of STATISTICS at the control socket "
    "under full load.",
)
