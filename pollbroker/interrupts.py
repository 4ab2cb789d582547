"""Signals while the loop runs in the main thread: each one wakes the loop, and Ctrl-C ends its run between two turns.

Python runs the handler of a signal when the main thread next runs Python. One that arrives just before the loop falls
asleep would wait for whatever wakes the loop next: so `signal.set_wakeup_fd` is told to write to the waker.

Python's own handler of SIGINT raises KeyboardInterrupt anywhere, even between a receive and the send that belongs to
it. So, as in `asyncio.Runner`, the first Ctrl-C only stops the loop, and KeyboardInterrupt is raised after its last
turn. The second is raised at once. A handler that somebody else has set is left in place.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pollbroker.waker import Waker


@contextmanager
def signal_handling(waker: Waker, stop: Callable[[], None]) -> Iterator[None]:
    """While the loop runs: let signals wake it, and have Ctrl-C call `stop`. Does nothing outside the main thread.

    What was changed in the process is put back at the end. Raises KeyboardInterrupt there if Ctrl-C came meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts = 0

    def interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - what the signal module calls
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1:
            raise KeyboardInterrupt
        stop()

    others = signal.set_wakeup_fd(waker.signal_fileno(), warn_on_full_buffer=False)
    if others != -1:
        signal.set_wakeup_fd(others)  # another loop of this thread, such as asyncio's, has its own already
    handles_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handles_interrupt:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        try:
            if handles_interrupt:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        finally:  # the second Ctrl-C may come just here
            if others == -1:
                signal.set_wakeup_fd(-1)
    if interrupts:
        raise KeyboardInterrupt
