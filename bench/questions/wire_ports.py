"""What do ports that speak ZMTP themselves cost, beside ports of libzmq and `zmq.proxy`?

The goals are those of the wire: docs/explanation/wire.md.
"""

from __future__ import annotations

from bench.peers.table import HANDLER, HANDLER_WIRE, NATIVE, NONE, PROXY, PYOMQ_PROXY, WIRE, Peer, installed, left_out
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions import busy_pairs, rates
from bench.rig import Rig
from bench.work import Work

BUSY_PAIRS = 1000


def measure(case: Case, plan: Plan) -> Sample:
    """The figures of the rate questions, with the percentiles of round trips where there are any."""
    if case.work.pairs > 1:
        return busy_pairs.measure(case, plan)
    with Rig(case.peer, case.work) as rig:
        rig.start()
        window = rig.window(plan.warm_up_s, plan.window_s)
    return {**rates.figures_of(window, case.work), **window.counted.round_trips_us}


def cells(quick: bool) -> tuple[Cell, ...]:
    """A cell for each goal. Quick: those of the first two."""
    plan = rates.QUICK if quick else rates.HEADLINE
    streamer: tuple[Goal, ...] = (
        _to_proxy("cpu_ns", 0.12),
        Goal("rate_per_s", WIRE.name, NONE.name, 0.9, at_least=True),
    )
    if not quick and PYOMQ_PROXY in installed(PEERS):
        streamer = (*streamer, Goal("cpu_ns", WIRE.name, PYOMQ_PROXY.name, 0.3, at_least=False))
    queue = (_to_proxy("cpu_ns", 0.22), _to_proxy("rate_per_s", 1.5, at_least=True))
    peers = QUICK_PEERS if quick else PEERS
    first = (
        _cell("STREAMER, tcp 64 B", Work("streamer"), plan, streamer, peers),
        _cell("QUEUE, tcp 64 B", Work("queue"), plan, queue, peers),
    )
    if quick:
        return first
    forwarder = (_to_proxy("cpu_ns", 0.25),)
    trip = (_to_proxy("p50_us", 0.75), _to_proxy("cpu_ns", 0.5))
    handler = Goal("rate_per_s", HANDLER_WIRE.name, HANDLER.name, 1.2, at_least=True)
    busy = Work("streamer", pairs=BUSY_PAIRS, shared=True)
    return (
        *first,
        _cell("STREAMER, ipc 64 B", Work("streamer", transport="ipc"), plan, streamer),
        _cell("STREAMER, cheap load, tcp 64 B", Work("wire"), plan, (_to_proxy("rate_per_s", 5.0, at_least=True),)),
        _cell("STREAMER, tcp 1 KiB", Work("streamer", size=1 << 10), plan, ()),
        _cell("STREAMER, tcp 64 KiB", Work("streamer", size=1 << 16), plan, ()),
        _cell("STREAMER, tcp 1 MiB", Work("streamer", size=1 << 20), plan, ()),
        _cell("FORWARDER, tcp 64 B", Work("forwarder"), plan, forwarder),
        _cell("FORWARDER, 10 subscribers, tcp 64 B", Work("forwarder", subscribers=10), plan, forwarder, NO_DIRECT),
        _cell("FORWARDER, 1 topic of 10, tcp 64 B", Work("forwarder", topics=10), plan, forwarder),
        _cell("round trip, tcp 64 B", Work("round trip"), plan, trip),
        _cell("a handler, tcp 64 B", Work("streamer"), plan, (handler,), (HANDLER_WIRE, HANDLER)),
        _cell("1,000 busy STREAMERs, tcp 64 B", busy, busy_pairs.THOUSAND, (_to_proxy("cpu_ns", 0.3),), NO_DIRECT),
    )


PEERS = (WIRE, NATIVE, PROXY, PYOMQ_PROXY, NONE)
QUICK_PEERS = (WIRE, PROXY, NONE)
NO_DIRECT = (WIRE, NATIVE, PROXY)
"""Without a broker, one socket would have to be connected to many in another way."""


def _to_proxy(figure: str, bound: float, *, at_least: bool = False) -> Goal:
    return Goal(figure, WIRE.name, PROXY.name, bound, at_least=at_least)


def _cell(label: str, work: Work, plan: Plan, goals: tuple[Goal, ...], peers: tuple[Peer, ...] = PEERS) -> Cell:
    return Cell(label, tuple(Case.of(peer, work) for peer in installed(peers)), plan, goals)


QUESTION = Question(
    name="wire-ports",
    title="Ports that speak ZMTP themselves, ports of libzmq, and zmq.proxy",
    figures=("rate_per_s", "megabytes_per_s", "cpu_ns", "p50_us", "p99_us"),
    cells=cells,
    measure=measure,
    note=" ".join(left_out(PEERS)),
)
