"""The connections of the HTTP server: how many there may be, how long each request may take, and what becomes of a
connection for which the process has no descriptor left.

- Each connection has a thread. One that is one too many is closed at once.
- A request has a deadline as a whole, from the end of the one before it to the end of its answer. Whoever sends or
  takes a byte now and then has it, too. The server looks for such connections between two requests, and at least twice
  a second.
- Descriptors may run out, because of the peers of brokers or of this server. The last ones are libzmq's, which ends the
  process if it cannot accept whoever connects to the control socket (`descriptors.py`). So while few are left, each
  connection takes the place of a descriptor that is kept for it, and gives that back at its end: health is told all
  the same, and no fewer are left. While none is kept, connections wait in the kernel. The server rests for a moment
  then, since a connection that waits would wake it again at once.
"""

import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from pollbroker.descriptors import are_descriptors_few
from pollbroker.waker import Waker

CONNECTIONS_MOST: Final = 50

REQUEST_S: Final = 15.0
"""How long a request may take. Prometheus waits for 10 s unless it is told otherwise."""

FEW_CONNECTIONS: Final = 4
"""How many connections take the place of a descriptor that is kept. Another thread may be quicker to take one that was
given up; then one fewer is left. Even if that comes about each time, the dozen is left that libzmq needs."""

_REST_S: Final = 0.1

LOOKS_EVERY_S: Final = 0.5
"""How often it is looked at what is late, if nobody asks for anything."""


class BoundedServer(ThreadingHTTPServer):
    """An HTTP server whose connections are bounded in number and in time.

    Arguments:
        clock: seconds that never go back.
    """

    daemon_threads = True
    request_queue_size = 128
    """How many may wait to be accepted. One that is one too many would be told nothing, and try again after a second
    (listen(2))."""

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._clock = clock
        self._free = threading.Semaphore(CONNECTIONS_MOST)
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        """When the request of each connection has to be done."""
        self._kept: list[int] = []
        """Descriptors that are kept. `_lock` is held by whoever uses them."""
        self._resting = threading.Event()
        self._end = Waker()
        super().__init__(address, handler)
        self._keep_descriptors()

    def server_bind(self) -> None:
        """Bind the socket that listens. Raises `OSError`, also for a name that no host can have."""
        try:
            super().server_bind()
        except (TypeError, UnicodeError) as error:  # it cannot be encoded
            raise OSError(str(error)) from error

    def server_close(self) -> None:
        """Close the socket that listens, and all other descriptors."""
        super().server_close()
        self._end.close()
        with self._lock:
            while self._kept:
                os.close(self._kept.pop())

    # -- serving ------------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer requests until `end` is called. `serve_forever` would see that it is to end only when it next looks
        for late requests."""
        self.timeout = 0.0  # `handle_request` does not wait
        with selectors.PollSelector() as selector:  # which needs no descriptor
            for one in (self, self._end):
                selector.register(one, selectors.EVENT_READ)
            while self._end not in (key.fileobj for key, _ in selector.select(LOOKS_EVERY_S)):
                self.handle_request()
                self.service_actions()

    def end(self) -> None:
        """Have `serve` return."""
        self._end.wake()

    # -- accepting ----------------------------------------------------------------------------------------------------

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises `OSError`, after a rest if no descriptor is left for it."""
        try:
            if are_descriptors_few():
                self._give_up_one()
            return self.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._resting.wait(_REST_S)
            raise

    def close_request(self, request: Any) -> None:
        """Close a connection, and keep its descriptor if one is missing."""
        with self._lock:
            if 0 < len(self._kept) <= FEW_CONNECTIONS:
                with suppress(OSError):  # the connection is closed below then
                    # In one step, so that nobody else can take it in between.
                    os.dup2(self._kept[0], request.fileno(), inheritable=False)
                    self._kept.append(request.detach())
        super().close_request(request)

    def _keep_descriptors(self) -> None:
        with self._lock, suppress(OSError):  # none is left; it is tried again
            while len(self._kept) <= FEW_CONNECTIONS and not are_descriptors_few():
                self._kept.append(os.open(os.devnull, os.O_RDONLY))

    def _give_up_one(self) -> None:
        """Close one of the descriptors that are kept, but the last, of which others are made. Raises `OSError` if it is
        the only one."""
        with self._lock:
            if len(self._kept) < 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            os.close(self._kept.pop())

    def process_request(self, request: Any, client_address: Any) -> None:
        """Have a thread answer, unless there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread that could give the place back, and the connection is closed
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, in a thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._deadlines.pop(request, None)
            self._free.release()

    # -- deadlines ----------------------------------------------------------------------------------------------------

    def begin_request(self, connection: socket.socket) -> None:
        """The next request of a connection is waited for from now on."""
        with self._lock:
            self._deadlines[connection] = self._clock() + REQUEST_S

    def end_connections(self) -> None:
        """End all connections, also those that clients keep for further requests, and wait for none."""
        with self._lock:
            _end(list(self._deadlines))

    def service_actions(self) -> None:
        """Called between two requests, and while there are none."""
        self._keep_descriptors()
        now_s = self._clock()
        with self._lock:
            late = [connection for connection, deadline_s in self._deadlines.items() if deadline_s <= now_s]
        _end(late)


def _end(connections: list[socket.socket]) -> None:
    for connection in connections:
        with suppress(OSError):  # it has ended already
            connection.shutdown(socket.SHUT_RDWR)  # which wakes its thread


class BoundedRequest(BaseHTTPRequestHandler):
    """Answers the requests of one connection, each of which has a deadline."""

    server: BoundedServer

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        self.server.begin_request(self.connection)
        super().handle_one_request()
