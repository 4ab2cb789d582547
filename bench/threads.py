"""How often the threads of a process wake up, read from outside, which wakes none of them and costs the process
nothing.

The main thread of every child only answers the bench, so it is left out. The others are those of the peer and of
libzmq.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The beginning of the names of libzmq's I/O threads and reaper. Every other thread of a broker's process runs a loop.
LIBZMQ_THREADS = "ZMQbg"


@dataclass(frozen=True)
class ThreadTimes:
    """How often the threads of a process fell asleep so far (and so were woken), all of them and those that run a loop;
    and their CPU time."""

    wakeups: int
    loop_wakeups: int
    cpu_s: float


def thread_times(pid: int) -> ThreadTimes | None:
    """The sums over all threads of a process but its main one; None on a system without Linux's /proc."""
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
