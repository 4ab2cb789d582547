"""What do the heartbeats of a thousand workers cost that have nothing to do?

Each worker sends a heartbeat and is sent one, of MAJORDOMO every 2.5 seconds, of PARANOID_PIRATE every second: the
defaults, which are those of the ZeroMQ guide. The workers take turns evenly, as those would that were started one after
the other, so the broker is woken for almost every one of them. Most of that is libzmq's, as the guide's brokers show.
"""

from __future__ import annotations

from bench.child import ChildError
from bench.peers.table import GUIDE_IN_C, GUIDE_IN_PYTHON, NATIVE, WIRE, Peer, installed, left_out
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.work import MDP_HEARTBEAT_S, PPP_HEARTBEAT_S, Work

WORKERS = 1000
BOUND_PERCENT = 1.0
GUIDES = (GUIDE_IN_PYTHON, GUIDE_IN_C)
# In the warm-up every worker has sent a heartbeat, and was sent one.
FULL = Plan(rounds=5, warm_up_s=1.5 * MDP_HEARTBEAT_S, window_s=2 * MDP_HEARTBEAT_S, start_s=1.2)
QUICK = Plan(rounds=1, warm_up_s=1.5 * PPP_HEARTBEAT_S, window_s=PPP_HEARTBEAT_S, start_s=1.2)


def measure(case: Case, plan: Plan) -> Sample:
    """CPU of the broker's process in percent of a core, and the heartbeats that the workers were sent.

    A worker that the broker no longer knows fails the sample, since it is sent a DISCONNECT.
    """
    with Rig(case.peer, case.work) as rig:
        rig.start_broker()
        rig.start_load("backend")
        window = rig.window(plan.warm_up_s, plan.window_s)
    if not window.rate_per_s:
        raise ChildError(f"{case.peer.name}: no heartbeat of the broker in {plan.window_s} s")
    return {"cpu_percent": 100 * window.cpu_share, "heartbeats_per_s": window.rate_per_s}


def cells(quick: bool) -> tuple[Cell, ...]:
    """MAJORDOMO over tcp beside the guide's brokers, and PARANOID_PIRATE. Quick: PARANOID_PIRATE, which is asked more
    often."""
    if quick:
        return (_cell("pirate heartbeats", "paranoid pirate", (NATIVE,), QUICK),)
    return (
        _cell("majordomo heartbeats", "majordomo", installed((NATIVE, WIRE, *GUIDES)), FULL),
        _cell("pirate heartbeats", "paranoid pirate", (NATIVE, WIRE), FULL),
    )


def _cell(traffic: str, broker: str, peers: tuple[Peer, ...], plan: Plan) -> Cell:
    ours = [peer for peer in (NATIVE, WIRE) if peer in peers]
    goals = tuple(Goal("cpu_percent", peer.name, None, BOUND_PERCENT, at_least=False) for peer in ours)
    cases = tuple(Case.of(peer, Work(traffic, workers=WORKERS)) for peer in peers)
    return Cell(f"{broker}, {WORKERS:,} workers", cases, plan, goals)


QUESTION = Question(
    name="heartbeats",
    title=f"The heartbeats of {WORKERS:,} workers without requests, tcp",
    figures=("cpu_percent", "heartbeats_per_s"),
    cells=cells,
    measure=measure,
    note=" ".join(left_out(GUIDES)),
)
