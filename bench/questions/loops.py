"""What does it cost to run an engine in the loop of a program, compared with `Engine.run` in a thread of its own?

The loops are asyncio's own, uvloop's, gevent's hub and trio's. Each runs nothing but the engine.
"""

from __future__ import annotations

from bench.peers.table import NATIVE, ON_ASYNCIO, ON_GEVENT, ON_TRIO, ON_UVLOOP, Peer, installed, left_out
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions.rates import figures_of
from bench.rig import Rig
from bench.work import Work

FULL = Plan(rounds=5, warm_up_s=0.3, window_s=0.7)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.3)
LOOPS = (ON_ASYNCIO, ON_UVLOOP, ON_GEVENT, ON_TRIO)
WITH_GOALS = (ON_ASYNCIO, ON_GEVENT)


def measure(case: Case, plan: Plan) -> Sample:
    """Rate and CPU per message, and the percentiles of the round trips, if there are any."""
    with Rig(case.peer, case.work) as rig:
        rig.start()
        window = rig.window(plan.warm_up_s, plan.window_s)
    return {**figures_of(window, case.work), **window.counted.round_trips_us}


def cells(quick: bool) -> tuple[Cell, ...]:
    """A STREAMER, and a round trip through a QUEUE, over tcp. Quick: the STREAMER, with the loops that have goals."""
    loops = installed(WITH_GOALS if quick else LOOPS)
    with_goals = installed(WITH_GOALS)
    streamer = Cell(
        "streamer, tcp 64 B",
        _cases("streamer", loops),
        QUICK if quick else FULL,
        tuple(Goal("rate_per_s", peer.name, NATIVE.name, 0.9, at_least=True) for peer in with_goals),
    )
    if quick:
        return (streamer,)
    queue = Cell(
        "round trip through a queue, tcp 64 B",
        _cases("round trip", loops),
        FULL,
        tuple(Goal("p50_us", peer.name, NATIVE.name, 1.15, at_least=False) for peer in with_goals),
    )
    return streamer, queue


def _cases(traffic: str, loops: tuple[Peer, ...]) -> tuple[Case, ...]:
    return tuple(Case.of(peer, Work(traffic)) for peer in (NATIVE, *loops))


QUESTION = Question(
    name="loops",
    title="An engine in its own thread, and in the loops of other libraries",
    figures=("rate_per_s", "cpu_ns", "p50_us", "p99_us"),
    cells=cells,
    measure=measure,
    start_s=0.6,
    note=" ".join(["Of a round trip, a message is a request and its reply.", *left_out(LOOPS)]),
)
