"""How busy the threads of this process are.

The time that a thread waits for a core is counted apart from the time that it runs, so a busy machine changes little.
"""

import contextlib
import threading
import time
from pathlib import Path


def read_threads() -> dict[str, tuple[float, float]]:
    """For each thread of this process: how many seconds it has run, and how many it has waited for a core.

    Linux says this for each thread. On other systems there is one entry, for the process as a whole.
    """
    seconds: dict[str, tuple[float, float]] = {}
    for file in Path("/proc/self/task").glob("*/schedstat"):  # proc_pid_schedstat(5): ran, waited, how often
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended meanwhile
            ran, waited, *_ = file.read_text().split()
            seconds[file.parent.name] = int(ran) / 1e9, int(waited) / 1e9
    return seconds or {"all": (time.process_time(), 0.0)}


def is_another_thread_runnable() -> bool:
    """Return True if a thread of this process, other than the calling one, runs or wants a core at this moment."""
    this = str(threading.get_native_id())
    for file in Path("/proc/self/task").glob("*/stat"):  # proc_pid_stat(5): number, (name), state
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            if file.parent.name != this and file.read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


def activity_of(ran_s: float, waited_s: float, window_s: float) -> float:
    """The time that a thread ran as a share, 0 to 1, of the time in a window in which it did not wait for a core."""
    own_s = max(window_s - waited_s, ran_s)
    return ran_s / own_s if own_s > 0 else 0.0
