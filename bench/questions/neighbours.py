"""How long does a round trip take beside a flood: at the same broker, and at another one of the same process?

One REQ sends a request, waits for its reply, and sends the next. Beside it a client sends requests as fast as it is
let, with hundreds of them on the way: through a QUEUE of its own, which is served by the same thread, or through the
same one. The worker that answers them is the same process for both clients of one QUEUE.

On two cores the processes that make the load compete with the broker, and with the one that is timed. What is compared
is the same load on ports of the wire and on libzmq's.
"""

from __future__ import annotations

from bench.peers.table import NATIVE, PROXY, WIRE
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.work import Work

FLOOD = Work("queue", window=500)
TIMED = Work("neighbour")
BESIDE_ANOTHER = "a QUEUE beside a flooded QUEUE, tcp 64 B"
BESIDE_A_CLIENT = "a REQ beside a client that floods its QUEUE, tcp 64 B"
PEERS = (NATIVE, WIRE, PROXY)
BOUND = 1.5
FULL = Plan(rounds=5, warm_up_s=0.5, window_s=2.0, start_s=0.9)
QUICK = Plan(rounds=1, warm_up_s=0.05, window_s=0.1, start_s=0.4)


def measure(case: Case, plan: Plan) -> Sample:
    """Percentiles of the round trips beside the flood. The CPU time is that of the broker, for all of the traffic."""
    with Rig(case.peer, case.work) as rig:
        rig.start()
        rig.start_beside(FLOOD)
        window = rig.window(plan.warm_up_s, plan.window_s)
    return {"rate_per_s": window.rate_per_s, **window.counted.round_trips_us}


def cells(quick: bool) -> tuple[Cell, ...]:
    """With a QUEUE for each of the two clients, and with one for both. Quick: the first, without `zmq.proxy`."""
    own = Work(TIMED.traffic, idle_pairs=1)  # the flood is at the pair that is idle otherwise
    works = ((BESIDE_ANOTHER, own), (BESIDE_A_CLIENT, TIMED))
    goals = (Goal("p99_us", WIRE.name, NATIVE.name, BOUND, at_least=False),)
    return tuple(
        Cell(label, tuple(Case.of(peer, work) for peer in (PEERS[:2] if quick else PEERS)), _plan(quick), goals)
        for label, work in works[: 1 if quick else None]
    )


def _plan(quick: bool) -> Plan:
    return QUICK if quick else FULL


QUESTION = Question(
    name="neighbours",
    title="A REQ in lockstep beside a client that floods",
    figures=("p50_us", "p99_us", "p999_us", "rate_per_s"),
    cells=cells,
    measure=measure,
)
