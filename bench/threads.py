"""The threads of a process seen from outside, so that looking wakes none of them and costs the process nothing.

The main thread of every child only answers the bench and is left out: what remains is the peer's and libzmq's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# libzmq names its I/O threads and its reaper; whatever else runs in a broker's process runs a loop.
LIBZMQ_THREADS = "ZMQbg"


@dataclass(frozen=True)
class ThreadTimes:
    """Of a process so far: how often a thread fell asleep (so was woken), in all and of the loops, and CPU seconds."""

    wakeups: int
    loop_wakeups: int
    cpu_s: float


def thread_times(pid: int) -> ThreadTimes | None:
    """All threads of a process but its main one, added up; None on a system without Linux's /proc."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.is_dir():
        return None
    wakeups = loop_wakeups = cpu_ns = 0
    for task in tasks.iterdir():
        if task.name == str(pid):
            continue
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
        slept = int(status["voluntary_ctxt_switches"])
        wakeups += slept
        if not status["Name"].strip().startswith(LIBZMQ_THREADS):
            loop_wakeups += slept
        cpu_ns += int((task / "schedstat").read_text().split()[0])
    return ThreadTimes(wakeups, loop_wakeups, cpu_ns / 1e9)
