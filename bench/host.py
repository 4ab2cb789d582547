"""The program of every child process: it runs brokers, loads, or (for inproc) both, and reports what they have done.

`python -m bench.host` reads a `bench.work.Assignment` from its standard input, as one line of JSON; with thousands of
endpoints it would be too long for an argument. It prints one line of JSON when everything is bound (`Started`), and
one for each further line of input (`ProcessSample`). It exits at the end of the input, so it never outlives its parent.

It imports only what the assignment needs, so that the memory of a broker process does not include that of the bench.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from bench.work import Assignment, ProcessSample, Started

if TYPE_CHECKING:
    from bench.load.role import RunningLoad
    from bench.ticks import Ticks

# Added to the limit of sockets, for those that a peer opens in addition to two for each broker and one for each load.
SPARE_SOCKETS = 1023


def main() -> None:
    """Run the assignment that the first line of the standard input names, until that input ends."""
    # Ctrl-C is for the parent, which ends its children by closing their input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assignment = Assignment.from_json(json.loads(sys.stdin.readline()))
    _raise_descriptor_limit()
    io_threads = 1 if assignment.brokers is None else assignment.brokers.io_threads
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads)
    context.set(zmq.MAX_SOCKETS, _sockets(assignment) + SPARE_SOCKETS)
    ticks: Ticks | None = None
    frontends: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    if assignment.brokers is not None:
        peer = importlib.import_module(assignment.brokers.module)
        frontends, backends = peer.start(context, assignment.brokers)
        ticks = getattr(peer, "TICKS", None)
    loads = _start_loads(context, assignment)
    added_ms, removed_ms = _grow(context, assignment)
    _tell(Started(frontends, backends, tuple(load.endpoints for load in loads), added_ms, removed_ms))
    for _ in sys.stdin:
        _tell(_sample(loads, ticks))
    # There is no orderly end, because a proxy that blocks in a send cannot be told to end, and nothing here must be
    # saved.
    os._exit(0)


def _start_loads(context: zmq.Context[zmq.Socket[bytes]], assignment: Assignment) -> list[RunningLoad]:
    return [importlib.import_module(load.module).RunningLoad(context, load) for load in assignment.loads]


def _grow(
    context: zmq.Context[zmq.Socket[bytes]], assignment: Assignment
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if assignment.brokers is None or not assignment.growth:
        return (), ()
    from bench.growth import grow

    return grow(context, assignment.brokers, assignment.growth)


def _sample(loads: list[RunningLoad], ticks: Ticks | None) -> ProcessSample:
    # The clock, the CPU time and the counters are read one right after the other. What takes longer comes after that.
    time_s, cpu_s, counts = time.monotonic(), time.process_time(), [load.count() for load in loads]
    samples = tuple(load.sample(count) for load, count in zip(loads, counts, strict=True))
    resident_kib, threads = _memory_and_threads()
    late_ms = ticks.late_ms() if ticks is not None else {}
    return ProcessSample(time_s, cpu_s, resident_kib, threads, samples, late_ms)


def _memory_and_threads() -> tuple[int, int]:
    """Return the resident memory in KiB and the number of threads; without /proc the peak memory so far, and 0
    threads."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmRSS"].split()[0]), int(fields["Threads"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, 0  # macOS counts bytes


def _sockets(assignment: Assignment) -> int:
    brokers = 0 if assignment.brokers is None else 2 * len(assignment.brokers.frontends)
    return brokers + 2 * assignment.growth + sum(len(load.endpoints) for load in assignment.loads)


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell(line: Started | ProcessSample) -> None:
    print(json.dumps(dataclasses.asdict(line)), flush=True)


if __name__ == "__main__":
    main()
