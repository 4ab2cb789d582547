"""Readers: callbacks for sockets and descriptors that no broker uses, such as the control socket."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

import zmq

from pollbroker.claims import CLAIMS
from pollbroker.errors import EngineError
from pollbroker.pump import Implementation, Socket
from pollbroker.waiting import Waiter

_logger = logging.getLogger("pollbroker")

_NO_DESCRIPTOR: Final = -1
"""What `fileno` of a closed socket or file returns."""


class HasFileno(Protocol):
    """Such as a socket of the standard library, or a pipe."""

    def fileno(self) -> int: ...


class Reader:
    """A callback that is called, once a turn, as long as its socket or descriptor has something to read."""

    def __init__(
        self,
        target: Socket | int,
        callback: Callable[[], Any],
        implementation: Implementation,
        *,
        engine_id: object = None,
    ) -> None:
        if not isinstance(target, int) and target.closed:
            raise EngineError(f"{target!r} cannot be read; expected an open socket")
        self.target = target
        self.key = None if isinstance(target, int) else int(target.underlying)
        """libzmq's address of the socket, which identifies it while it is open; None for a descriptor."""
        self.engine_id = engine_id
        """See `pollbroker.claims`."""
        self._callback = callback
        self._read_events = None if isinstance(target, int) else implementation.make_event_reader(target)

    def describe_use(self, key: int) -> str | None:
        """See `pollbroker.claims`."""
        return None if key != self.key or isinstance(self.target, int) or self.target.closed else "a reader's"

    def has_input(self) -> bool:
        """Settle the socket. Return True if it has input. Always False for a descriptor: only the waiter can tell."""
        if self._read_events is None or isinstance(self.target, int):
            return False
        if self.target.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        return bool(self._read_events() & zmq.POLLIN)

    def run(self) -> None:
        """Call the callback. An exception is logged, and the reader stays."""
        try:
            self._callback()
        except Exception:
            _logger.exception("the reader of %r raised", self.target)


class Readers:
    """The readers of a loop: which sockets and descriptors are watched, and which callbacks are due."""

    def __init__(self, waiter: Waiter, implementation: Implementation, *, engine_id: object) -> None:
        self.ready: dict[Reader, None] = {}
        """The readers whose callbacks are due, in the order in which they became ready."""
        self._waiter = waiter
        self._implementation = implementation
        self._engine_id = engine_id
        self._readers: dict[Socket | int, Reader] = {}

    def add(self, watched: Socket | HasFileno | int, callback: Callable[[], Any]) -> None:
        """Watch a target. A second callback for one target takes the place of the first."""
        target = _target_of(watched)
        if not (isinstance(target, int) or hasattr(target, "underlying")):
            raise EngineError(
                f"{target!r} cannot be read; expected a ZeroMQ socket, a descriptor, or an object with one"
            )
        if target == _NO_DESCRIPTOR:
            raise EngineError(f"{watched!r} cannot be read; expected one that is open")
        self.remove(target)
        reader = Reader(target, callback, self._implementation, engine_id=self._engine_id)
        if reader.key is not None:
            CLAIMS.take(reader.key, reader, "add_reader")
        try:
            self._waiter.add(target, partial(self._on_wake, reader))
        except OSError as error:
            self._give_back(reader)
            raise EngineError(f"{watched!r} cannot be read: {error.strerror or error}") from error
        except BaseException:
            self._give_back(reader)
            raise
        self._readers[target] = reader
        self._check_input(reader)

    def remove(self, watched: Socket | HasFileno | int) -> bool:
        """Stop watching a target. Return True if it was being watched."""
        target = _target_of(watched)
        reader = self._readers.pop(target, None)
        if reader is None:
            return False
        self.ready.pop(reader, None)
        self._waiter.remove(target)
        self._give_back(reader)
        return True

    def __len__(self) -> int:
        return len(self._readers)

    @staticmethod
    def _give_back(reader: Reader) -> None:
        if reader.key is not None:
            CLAIMS.give_back(reader.key, reader)

    def remove_all(self) -> None:
        """Stop watching every target."""
        for target in list(self._readers):
            self.remove(target)

    def serve(self) -> None:
        """Call the callback of each ready reader once."""
        due, self.ready = self.ready, {}
        try:
            while due:
                reader = next(iter(due))
                del due[reader]
                if self._is_registered(reader):
                    self._serve(reader)
        finally:
            # After a KeyboardInterrupt, for example, another run of the loop calls those that are left.
            self.ready |= {reader: None for reader in due if self._is_registered(reader)}

    def _serve(self, reader: Reader) -> None:
        try:
            reader.run()
        finally:
            if self._is_registered(reader):
                self._check_input(reader)

    def _is_registered(self, reader: Reader) -> bool:
        return self._readers.get(reader.target) is reader

    def _on_wake(self, reader: Reader) -> None:
        if not self._is_registered(reader):
            return  # it was removed in this turn, after the waiter had collected what is ready
        if isinstance(reader.target, int):
            self.ready[reader] = None
        else:
            self._check_input(reader)

    def _check_input(self, reader: Reader) -> None:
        try:
            if reader.has_input():
                self.ready[reader] = None
        except zmq.ZMQError as error:
            self.remove(reader.target)
            if error.errno == zmq.ETERM:
                reader.run()  # its callback finds this out and can close the socket, for which the context waits
            else:
                _logger.warning("the reader of %r was removed, since its socket is unusable: %s", reader.target, error)


def _target_of(watched: Socket | HasFileno | int) -> Socket | int:
    """What the waiter is to watch: a descriptor, or a socket of libzmq itself, since its descriptor tells only that
    its events may have changed."""
    if hasattr(watched, "fileno") and not hasattr(watched, "underlying"):
        return watched.fileno()
    return cast(Socket | int, watched)
