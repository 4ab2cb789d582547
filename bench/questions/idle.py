"""What does a queue cost while nothing happens: memory for each, threads, wake-ups and CPU of the whole process?

Memory per pair is the difference between a process with many queues and one with a single queue, both in the same
sample, so that the interpreter and the libraries are not counted. Wake-ups and CPU time are those of all threads of the
broker's process, including libzmq's, except the one that answers the bench. They are read from outside
(`bench/threads.py`).
"""

from __future__ import annotations

import time
from dataclasses import replace

from bench.peers.table import NATIVE, POLLER, PROXY
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.threads import thread_times
from bench.work import Work

COUNTS, QUICK_COUNTS = (1, 1000, 4000), (100,)
SINGLE = Plan(rounds=5, warm_up_s=0.3, window_s=2.0, start_s=0.4)
FULL = Plan(rounds=5, warm_up_s=0.3, window_s=2.0, start_s=1.8)
THOUSANDS = Plan(rounds=3, warm_up_s=0.4, window_s=2.0, start_s=5.5)
QUICK = Plan(rounds=1, warm_up_s=0.1, window_s=0.3, start_s=0.9)


def measure(case: Case, plan: Plan) -> Sample:
    """Memory per queue beyond the first, and the wake-ups and CPU time of the process in a window without traffic."""
    pairs = case.work.pairs
    with Rig(case.peer, case.work) as rig:
        rig.start_broker()
        time.sleep(plan.warm_up_s)
        sample = silence(rig.broker_pid(), plan.window_s)
        broker = rig.sample_broker()
    sample["resident_mib"] = broker.resident_kib / 1024
    if broker.threads:
        sample["threads"] = broker.threads
    if pairs > 1:
        with Rig(case.peer, replace(case.work, pairs=1)) as rig:
            rig.start_broker()
            time.sleep(plan.warm_up_s)
            single = rig.sample_broker()
        sample["kib_per_pair"] = (broker.resident_kib - single.resident_kib) / (pairs - 1)
    return sample


def silence(pid: int, window_s: float) -> Sample:
    """The wake-ups and CPU time of a process in a window, or nothing where the system does not tell them."""
    begun_s, before = time.monotonic(), thread_times(pid)
    time.sleep(window_s)
    passed_s, after = time.monotonic() - begun_s, thread_times(pid)
    if before is None or after is None:
        return {}
    return {
        "wake_ups_per_s": (after.wakeups - before.wakeups) / passed_s,
        "loop_wake_ups_per_s": (after.loop_wakeups - before.loop_wakeups) / passed_s,
        "cpu_percent": 100 * (after.cpu_s - before.cpu_s) / passed_s,
    }


def cells(quick: bool) -> tuple[Cell, ...]:
    """Cells with different numbers of queues, which are bound and have no peers."""
    return tuple(
        Cell(
            f"{count:,} idle queue{'s' if count > 1 else ''}",
            tuple(
                Case.of(peer, Work("queue", pairs=count))
                for peer in (NATIVE, PROXY, *(() if count > 1000 else (POLLER,)))
            ),
            QUICK if quick else THOUSANDS if count > 1000 else FULL if count > 1 else SINGLE,
            _goals(count),
        )
        for count in (QUICK_COUNTS if quick else COUNTS)
    )


def _goals(count: int) -> tuple[Goal, ...]:
    silent = (Goal("wake_ups_per_s", NATIVE.name, None, 0.0, at_least=False),)
    if count == 1:
        return silent
    return (*silent, Goal("kib_per_pair", NATIVE.name, PROXY.name, 0.5, at_least=False))


QUESTION = Question(
    name="idle",
    title="Idle queues, tcp, no peers and no traffic",
    figures=("kib_per_pair", "resident_mib", "threads", "wake_ups_per_s", "loop_wake_ups_per_s", "cpu_percent"),
    cells=cells,
    measure=measure,
)
