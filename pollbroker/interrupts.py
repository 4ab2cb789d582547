"""Signals while the loop runs in the main thread: each one wakes the loop, and Ctrl-C ends its run between two turns.

Python runs a signal's handler when the main thread next runs Python code. If a signal arrives just before the loop
falls asleep, its handler would wait until something else wakes the loop. So `signal.set_wakeup_fd` is told to write to
the waker.

Python's own handler of SIGINT raises KeyboardInterrupt anywhere, even between a receive and the send that belongs to
it. So, as in `asyncio.Runner`, the first Ctrl-C only stops the loop, and KeyboardInterrupt is raised after its last
turn. A second Ctrl-C raises KeyboardInterrupt at once. A handler of SIGINT that the program has set stays in place.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pollbroker.waker import Waker


@contextmanager
def signal_handling(waker: Waker, stop: Callable[[], None]) -> Iterator[None]:
    """While the loop runs, let signals wake it, and have Ctrl-C call `stop`. Does nothing outside the main thread.

    The process's signal settings are restored at the end. Then KeyboardInterrupt is raised if Ctrl-C came meanwhile.
    """
    try:
        previous_fd = signal.set_wakeup_fd(waker.signal_fileno(), warn_on_full_buffer=False)
    except ValueError:  # not the main thread: `threading` would be wrong about that where gevent has patched it
        previous_fd = None
    if previous_fd is None:
        yield
        return
    interrupts, process = 0, os.getpid()

    def interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signal module calls it so
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1 or os.getpid() != process:  # in one that was forked meanwhile, it is Python's own handler
            raise KeyboardInterrupt
        stop()

    if previous_fd != -1:
        signal.set_wakeup_fd(previous_fd)  # another loop of this thread, such as asyncio's, uses it already
    handles_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handles_interrupt:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        try:
            if handles_interrupt:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        finally:  # even if a second Ctrl-C comes just here
            if previous_fd == -1:
                signal.set_wakeup_fd(-1)
    if interrupts:
        raise KeyboardInterrupt
