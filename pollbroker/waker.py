"""The waker, which ends the sleep of the loop when another thread has queued a call.

That thread writes a byte into one end of a socket pair. The loop watches the other end, so that `zmq.Poller.poll`
returns. `signal.set_wakeup_fd` writes into the same end.
"""

import socket


class Waker:
    """A socket pair. `wake` makes one end readable, and `drain_waker` reads it until it is empty."""

    def __init__(self) -> None:
        self._closed = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """The descriptor that the loop watches. It is readable after `wake`, until `drain_waker` is called."""
        return self._reader.fileno()

    def signal_fileno(self) -> int:
        """The descriptor for `signal.set_wakeup_fd`, so that a signal wakes the loop."""
        return self._writer.fileno()

    def wake(self) -> None:
        """End the sleep of the loop, or keep it from falling asleep. Any thread and any signal handler may call this.

        After `close` it does nothing.
        """
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # the buffer is full of bytes that the loop has not read yet, so the loop wakes anyway
        except OSError:
            if not self._closed:
                raise

    def drain_waker(self) -> None:
        """Read all bytes that were written so far; together they are one wake-up."""
        try:
            while len(self._reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends."""
        self._closed = True
        self._reader.close()
        self._writer.close()
