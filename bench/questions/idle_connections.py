"""What does a connection cost that says nothing: memory of the broker's process for each, wake-ups and CPU?

The connections are those of 10,000 PUSH sockets at the frontend of one STREAMER. Memory for each is the difference
before and after they have come. The kernel's own memory for them is not counted; it is the same for every broker.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

from bench.child import CHECKOUT, ChildError
from bench.peers.table import NATIVE, PROXY, WIRE
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions.idle import silence
from bench.rig import Rig
from bench.work import Work

COUNT, QUICK_COUNT = 10_000, 500
FULL = Plan(rounds=5, warm_up_s=0.5, window_s=2.0, start_s=4.0)
QUICK = Plan(rounds=1, warm_up_s=0.1, window_s=0.2, start_s=0.3)
END_DEADLINE_S = 10.0


def measure(case: Case, plan: Plan) -> Sample:
    """Memory per connection, and the wake-ups and CPU time of the process in a window without traffic."""
    count = case.work.peers
    _allow_descriptors()
    with Rig(case.peer, case.work) as rig:
        address = rig.start_broker().frontends[0]
        time.sleep(plan.warm_up_s)
        before = rig.sample_broker()
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        command = [sys.executable, "-m", "bench.load.idle_peers", host, port, "PUSH", str(count)]
        with subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as connecting:
            try:
                assert connecting.stdout is not None
                if connecting.stdout.readline() != "connected\n":
                    raise ChildError(f"{case.peer.name}: not all of {count} peers could connect")
                time.sleep(plan.warm_up_s)
                after = rig.sample_broker()
                sample = silence(rig.broker_pid(), plan.window_s)
            finally:
                connecting.kill()
    return {
        **sample,
        "kib_per_connection": (after.resident_kib - before.resident_kib) / count,
        "resident_mib": after.resident_kib / 1024,
    }


def _allow_descriptors() -> None:
    """Let the processes that are started from now on have as many descriptors as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cells(quick: bool) -> tuple[Cell, ...]:
    """One cell."""
    count = QUICK_COUNT if quick else COUNT
    work = Work("streamer", peers=count)
    goals = (
        Goal("kib_per_connection", WIRE.name, None, 0.5, at_least=False),
        Goal("cpu_percent", WIRE.name, None, 0.0, at_least=False),
    )
    peers = (WIRE,) if quick else (WIRE, NATIVE, PROXY)
    cases = tuple(Case.of(peer, work) for peer in peers)
    return (Cell(f"{count:,} idle connections", cases, QUICK if quick else FULL, goals),)


QUESTION = Question(
    name="idle-connections",
    title="Connections of one STREAMER that say nothing, tcp",
    figures=("kib_per_connection", "resident_mib", "wake_ups_per_s", "loop_wake_ups_per_s", "cpu_percent"),
    cells=cells,
    measure=measure,
)
