"""Calls from other threads: a queue, and a waker that ends the loop's sleep."""

import socket
from collections import deque

from pollbroker.timers import Handle


class Calls:
    """Calls handed over to the engine's thread. `put` and `wake` may be used by any thread, and by signal handlers."""

    def __init__(self) -> None:
        self._queue: deque[Handle] = deque()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Readable after `wake`, until `hush`."""
        return self._reader.fileno()

    def put(self, handle: Handle) -> None:
        """Queue a call and wake the loop."""
        self._queue.append(handle)
        self.wake()

    def wake(self) -> None:
        """End the loop's sleep, or keep it from falling asleep."""
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # as many wake-ups as a socket buffer holds are on their way already

    def hush(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while len(self._reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def take(self) -> list[Handle]:
        """The calls that are queued now; those that they bring about are left for the next time."""
        return [self._queue.popleft() for _ in range(len(self._queue))]

    def close(self) -> None:
        """Give the descriptors back."""
        self._reader.close()
        self._writer.close()
