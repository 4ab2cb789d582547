"""The waker: what ends the sleep of the loop from outside.

Another thread that queued a call cannot reach into `zmq.Poller.poll`. It writes a byte into one end of a socket pair;
the loop watches the other end as it watches any descriptor. `signal.set_wakeup_fd` writes into the same end.
"""

import socket


class Waker:
    """A socket pair. `wake` makes one end readable, `drain_waker` makes it quiet again."""

    def __init__(self) -> None:
        self._closed = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """The end that the loop watches: readable after `wake`, until `drain_waker`."""
        return self._reader.fileno()

    def signal_fileno(self) -> int:
        """The end that `signal.set_wakeup_fd` may write to, so that a signal wakes the loop."""
        return self._writer.fileno()

    def wake(self) -> None:
        """End the sleep of the loop, or keep it from falling asleep. Any thread may call this, and signal handlers.

        After `close` it does nothing.
        """
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # the buffer is full of bytes that the loop has not read yet, so it is going to wake
        except OSError:
            if not self._closed:
                raise

    def drain_waker(self) -> None:
        """Read the bytes that were written so far: all of them together are one wake-up."""
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
