"""How does pollbroker compare with the brokers of other libraries: czmq's zproxy, and nng's device?

czmq has the protocol of ZeroMQ and gets the same load. nng has a protocol of its own, so its load uses nng too. Compare
its rate with that of its load without a broker, as you compare pollbroker's with that of ZeroMQ's load.
"""

from __future__ import annotations

from bench.peers.table import NATIVE, NNG_DEVICE, NNG_NONE, NONE, PROXY, ZPROXY, installed, left_out
from bench.question import Case, Cell, Goal, Plan, Question
from bench.questions import rates
from bench.work import Work

FULL = Plan(rounds=5, warm_up_s=0.3, window_s=0.7)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.3)
SPEAKING_ZEROMQ = (NATIVE, PROXY, ZPROXY, NONE)
SPEAKING_NNG = (NNG_DEVICE, NNG_NONE)
NOTE = "zproxy runs on the system's libzmq, another build than pyzmq's. nng's two rows are of nng's own load."
SIZES = {"64 B": 64, "64 KiB": 1 << 16}


def cells(quick: bool) -> tuple[Cell, ...]:
    """Cells for a STREAMER with small and large messages, and for a QUEUE, without nng. Quick: only the first cell."""
    plan = QUICK if quick else FULL
    streamers = (
        _cell(f"streamer, tcp {label}", Work("streamer", size=size), plan, nng=True) for label, size in SIZES.items()
    )
    every = (*streamers, _cell("queue, tcp 64 B", Work("queue"), plan, nng=False))
    return every[:1] if quick else every


def _cell(label: str, work: Work, plan: Plan, *, nng: bool) -> Cell:
    peers = installed(SPEAKING_ZEROMQ + (SPEAKING_NNG if nng else ()))
    goals = tuple(Goal("rate_per_s", NATIVE.name, peer.name, 1.0, at_least=True) for peer in installed((ZPROXY,)))
    return Cell(label, tuple(Case.of(peer, work) for peer in peers), plan, goals)


QUESTION = Question(
    name="other-libraries",
    title="pollbroker and the brokers of other libraries",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
    note=" ".join([NOTE, *left_out(SPEAKING_ZEROMQ + SPEAKING_NNG)]),
)
