"""Which ports a broker of services leaves unread while it holds as many requests as it may.

A port at which only clients are is left unread: requests wait in the queues of the sockets then, and hold up the
clients in the end. A port at which workers are has to be read, since it brings the replies, which make room. And so has
the port to which workers would have to come: before the first of them is there, nobody knows which that is.
"""

from collections.abc import Callable


class Backpressure:
    """The ports of a broker of services.

    Arguments:
        close, open_: leave a port unread, and read it again.
    """

    def __init__(self, close: Callable[[str], None], open_: Callable[[str], None]) -> None:
        self._close = close
        self._open = open_
        self._seen: set[str] = set()
        self._workers_at: dict[str, int] = {}
        """How many workers are at each port at which there ever was one."""
        self.closed: set[str] = set()
        """The ports that are left unread."""

    def see_request(self, port: str) -> None:
        """A request has come from this port."""
        self._seen.add(port)

    def add_worker(self, port: str) -> None:
        """One worker more is at this port."""
        self._workers_at[port] = self._workers_at.get(port, 0) + 1

    def remove_worker(self, port: str) -> None:
        """One worker less is at this port."""
        self._workers_at[port] -= 1

    def close(self) -> None:
        """Leave the ports unread at which only clients are."""
        for port in self._seen - self.closed:
            if not self._workers_at.get(port) and self._workers_at.keys() - {port}:
                self._close(port)
                self.closed.add(port)

    def open(self) -> None:
        """Read all ports again."""
        for port in self.closed:
            self._open(port)
        self.closed.clear()
