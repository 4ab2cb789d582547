"""What does a daemon of many brokers cost: its start, its end, and its longest turn while all of them are asked about?

The daemon runs the QUEUEs of one file, in a process of its own (`bench/many_brokers.py`). It is ready when its sockets
are open and its control socket takes commands. The turns are those of its engine while another process asks STATS at
the control socket, and scrapes its metrics: the CPU time of the longest, in which no broker is served. A look at what
brokers have dropped, once a second, may take a millisecond of a turn by itself: so the longest turn while nobody asks
anything stands beside them.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.child import CHECKOUT, ChildError
from bench.peers.table import NATIVE, WIRE
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.work import Work
from pollbroker.control import request

COUNTS, QUICK_COUNTS = (100, 1000), (100,)
READY_S = {100: 0.5, 1000: 2.0}
LONGEST_TURN_MS = 1.0
TIMES = 3
"""How often all brokers are asked about in a sample."""
UNASKED_S = 2.0
"""How long the daemon is left alone."""
DEADLINE_S = 120.0
"""How long an answer of the daemon's may take."""
FULL = Plan(rounds=5, warm_up_s=0.0, window_s=0.0, start_s=4.5)
THOUSAND = Plan(rounds=5, warm_up_s=0.0, window_s=0.0, start_s=16.0)
QUICK = Plan(rounds=1, warm_up_s=0.0, window_s=0.0, start_s=4.5)


def measure(case: Case, _plan: Plan) -> Sample:
    """How long the start and the end take, and the longest turn of all that are asked about."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory) / "brokers.toml"
        path.write_text(_file(case.work, Path(directory)))
        begun_s = time.perf_counter()
        with _running(path, case) as daemon:
            ready = _told(daemon)
            sample = {"ready_s": time.perf_counter() - begun_s, "ready_cpu_s": ready["ready_cpu_s"]}
            _longest_turn_ms(daemon)  # that of the start
            time.sleep(UNASKED_S)
            sample["unasked_turn_ms"] = _longest_turn_ms(daemon)
            for _ in range(TIMES):
                request(ready["control"], "STATS", timeout_s=DEADLINE_S)
            sample["stats_turn_ms"] = _longest_turn_ms(daemon)
            for _ in range(TIMES):
                urllib.request.urlopen(f"http://{ready['http']}/metrics", timeout=DEADLINE_S).read()
            sample["scrape_turn_ms"] = _longest_turn_ms(daemon)
            daemon.stdin.close()
            sample["end_cpu_s"] = _told(daemon)["end_cpu_s"]
    return sample


def _file(work: Work, directory: Path) -> str:
    """The configuration: a QUEUE for each pair of the work, on its transport."""
    lines = ["[engine]", f'control = "ipc://{directory / "control"}"', 'http = "127.0.0.1:0"']
    for number in range(work.pairs):
        lines += [f"[brokers.queue-{number}]", 'device = "queue"']
        for port in ("frontend", "backend"):
            address = "tcp://127.0.0.1:*" if work.transport == "tcp" else f"ipc://{directory}/{number}-{port}"
            lines.append(f'{port} = "{address}"')
    return "\n".join(lines)


@contextmanager
def _running(path: Path, case: Case) -> Iterator[Any]:
    """The process of the daemon. It is killed if it has not ended in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.many_brokers", str(path)],
        cwd=CHECKOUT,
        env={**os.environ, **case.peer.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _told(daemon: Any) -> dict[str, Any]:
    """What the daemon says next. Raises `ChildError` if it has ended, or says nothing in time."""
    if not select.select([daemon.stdout], [], [], DEADLINE_S)[0]:
        raise ChildError(f"the daemon said nothing for {DEADLINE_S:.0f} s")
    line = daemon.stdout.readline()
    if not line:
        raise ChildError(f"the daemon has ended, with {daemon.wait()}")
    facts: dict[str, Any] = json.loads(line)
    return facts


def _longest_turn_ms(daemon: Any) -> float:
    """The longest turn since this was asked for last."""
    daemon.stdin.write("\n")
    daemon.stdin.flush()
    return float(_told(daemon)["longest_turn_ms"])


def cells(quick: bool) -> tuple[Cell, ...]:
    """Ports of libzmq and of the wire alternate, on tcp and on ipc."""
    return tuple(
        Cell(
            f"{transport}, {count:,} queues",
            tuple(Case.of(peer, Work("queue", transport=transport, pairs=count)) for peer in (NATIVE, WIRE)),
            QUICK if quick else THOUSAND if count == 1000 else FULL,
            _goals(count),
        )
        for count in (QUICK_COUNTS if quick else COUNTS)
        for transport in (("tcp",) if quick else ("tcp", "ipc"))
    )


def _goals(count: int) -> tuple[Goal, ...]:
    bounds = {"ready_s": READY_S[count], "stats_turn_ms": LONGEST_TURN_MS, "scrape_turn_ms": LONGEST_TURN_MS}
    return tuple(
        Goal(figure, peer.name, None, bound, at_least=False)
        for figure, bound in bounds.items()
        for peer in (NATIVE, WIRE)
    )


QUESTION = Question(
    name="many-brokers",
    title="A daemon of many queues from one file, which have no peers",
    figures=("ready_s", "ready_cpu_s", "end_cpu_s", "unasked_turn_ms", "stats_turn_ms", "scrape_turn_ms"),
    cells=cells,
    measure=measure,
    in_whole_quick_run=False,
)
