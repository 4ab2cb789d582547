"""How many requests a second do the brokers that decide carry, beside the brokers of the ZeroMQ guide?

BALANCER and MAJORDOMO get the same clients and workers as the guide's `lbbroker` and `mdbroker`, in Python and in C.
Each worker has one request at a time and answers it at once, and there are always more requests than workers that are
free. So with few workers a broker finds few messages at a time, and with many it finds many. "No broker" is the same
clients, connected to a worker that takes any number of requests.
"""

from __future__ import annotations

from bench.peers.table import GUIDE_IN_C, GUIDE_IN_PYTHON, NATIVE, NONE, WIRE, installed, left_out
from bench.question import Case, Cell, Goal, Plan, Question
from bench.questions import rates
from bench.work import Work

CLIENTS, WINDOW = 10, 50
WORKERS = (10, 100)
BROKERS = {"balancer": "balanced", "majordomo": "majordomo"}  # each with the traffic through it
GUIDES = (GUIDE_IN_PYTHON, GUIDE_IN_C)
BOUNDS = {GUIDE_IN_PYTHON.name: 5.0, GUIDE_IN_C.name: 0.5}
FULL = Plan(rounds=5, warm_up_s=0.4, window_s=1.0, start_s=0.6)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.4, start_s=0.6)
NOTE = "The guide's brokers in C run on the system's libzmq, another build than pyzmq's."


def cells(quick: bool) -> tuple[Cell, ...]:
    """Both brokers over tcp, with few workers and with many. Quick: one broker, with many."""
    ours = (NATIVE,) if quick else (NATIVE, WIRE)
    peers = installed((*ours, *GUIDES))
    goals = tuple(
        Goal("rate_per_s", peer.name, guide.name, BOUNDS[guide.name], at_least=True)
        for peer in ours
        for guide in installed(GUIDES)
    )
    unbrokered = Case.of(NONE, Work("queue", peers=CLIENTS, window=WINDOW))
    return tuple(
        Cell(
            f"{broker}, {workers} workers, tcp 64 B",
            (*(Case.of(peer, _work(broker, workers)) for peer in peers), *(() if quick else (unbrokered,))),
            QUICK if quick else FULL,
            goals,
        )
        for broker in tuple(BROKERS)[: 1 if quick else None]
        for workers in (WORKERS[-1:] if quick else WORKERS)
    )


def _work(broker: str, workers: int) -> Work:
    return Work(BROKERS[broker], peers=CLIENTS, window=WINDOW, workers=workers)


QUESTION = Question(
    name="guide-brokers",
    title="BALANCER and MAJORDOMO, and the brokers of the ZeroMQ guide; a message is a request and its reply",
    figures=("rate_per_s", "cpu_ns"),
    cells=cells,
    measure=rates.measure,
    note=" ".join([NOTE, *left_out(GUIDES)]),
)
