"""How does pollbroker stand beside the brokers of other libraries: czmq's zproxy, and nng's device?

czmq speaks ZeroMQ and is driven by the same load. nng speaks its own protocol, so its load is nng's too, and its rate
is to be read beside its own ceiling without a broker, as pollbroker's beside ZeroMQ's.
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
    """A STREAMER with small and large messages, and a QUEUE, which has no load that speaks nng. Quick: the first."""
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
