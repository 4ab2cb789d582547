"""What does a program gain that takes its hundred ThreadDevices from `pollbroker.devices` in place of `zmq.devices`?

The load is that of `busy_pairs`: one source and one sink, each a single socket that is connected to every pair.
"""

from __future__ import annotations

from bench.peers.table import OUR_THREAD_DEVICE, THREAD_DEVICE
from bench.question import Case, Cell, Goal, Plan, Question
from bench.questions.busy_pairs import DEVICES, measure
from bench.work import Work

PAIRS = 100
FULL = Plan(rounds=5, warm_up_s=0.3, window_s=0.9)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.4)


def cells(quick: bool) -> tuple[Cell, ...]:
    """A STREAMER and a QUEUE over tcp. Quick: the STREAMER."""
    ours, theirs = OUR_THREAD_DEVICE, THREAD_DEVICE
    return tuple(
        Cell(
            f"{PAIRS} {device}s, tcp 64 B",
            tuple(Case.of(peer, Work(traffic, pairs=PAIRS, shared=True)) for peer in (ours, theirs)),
            QUICK if quick else FULL,
            (Goal("rate_per_s", ours.name, theirs.name, 1.0, at_least=True),),
        )
        for device, traffic in DEVICES[: 1 if quick else None]
    )


QUESTION = Question(
    name="thread-devices",
    title="A hundred ThreadDevices, all busy, of pollbroker and of pyzmq",
    figures=("rate_per_s", "cpu_ns", "resident_mib", "threads"),
    cells=cells,
    measure=measure,
    start_s=0.7,
)
