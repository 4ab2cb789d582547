"""The sockets that listen, which outlive the brokers that accept from them.

The daemon opens the listening socket of a port itself, and lends its descriptor to each broker (the socket option
`use_fd`), which listens by a copy. As long as the daemon has it, the kernel queues connections, so that none is refused
while one broker ends and the next begins.

- A port has a listener of the daemon's if it binds one address of tcp or ipc. `use_fd` is for the whole socket, so that
  a port that binds several cannot have it.
- An address of the file is one listener, whichever broker has it. A wildcard (`tcp://127.0.0.1:*`) is one for each
  port of each broker, and keeps the address that it was given.
- A socket at which the service manager listens (`activation.py`) is used for the port whose address it has. Its file is
  not the daemon's to remove.
- What libzmq would set on the socket that listens (`sndbuf`, `tos`, ...) is not set on one of the daemon's, so that a
  port with such an option has none. A broker that came from another daemon with its connections may listen where that
  had a listener all the same; the file is kept for it then.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pollbroker.binding import COPIES_AT_LIBZMQ
from pollbroker.daemon.activation import InheritedSockets
from pollbroker.daemon.addresses import Bound, parse
from pollbroker.daemon.configuration import BrokerConfiguration
from pollbroker.daemon.copies import wait_until_closed
from pollbroker.daemon.listening import bound_socket, describe_refusal, why_not
from pollbroker.daemon.wanted import Key, WantedListener
from pollbroker.errors import EndpointError, HandOverError
from pollbroker.opening import ADDRESS_RELEASE_S
from pollbroker.socket_files import SocketFile, binding_alone, is_taken_path, path_of
from pollbroker.wire.addresses import format_bound

_logger = logging.getLogger("pollbroker")


@dataclass
class _Listener:
    socket: socket.socket
    file: SocketFile | None
    bound: Bound | None
    """Its address, unless that is a wildcard."""
    is_shared: bool = False
    """True while the daemon that has described it listens there, too: its file is that daemon's."""


class Listeners:
    """The listening sockets of a daemon."""

    def __init__(self, inherited: InheritedSockets | None = None) -> None:
        self._open: dict[Key, _Listener] = {}
        self.inherited = inherited or InheritedSockets()
        self._addresses: dict[Key, str] = {}
        """What wildcards were bound to whose listeners are closed for now."""
        self._released: list[tuple[Bound, float]] = []
        """Addresses of listeners that were closed, and when. libzmq closes its copy of a listener some time after its
        socket."""
        self._files_left: list[SocketFile] = []
        """The files of listeners that were closed here while another daemon listened there, too. They are that
        daemon's."""
        self._files_kept: list[SocketFile] = []
        """Those at whose paths brokers listen that have come from another daemon. The listeners are closed here, since
        the ports are to have none."""

    def __len__(self) -> int:
        return len(self._open)

    def open_for(
        self, broker: BrokerConfiguration, *, leaving: Iterable[BrokerConfiguration] = (), wait: bool = False
    ) -> None:
        """Open the listeners of a broker that are not open yet. Raises `EndpointError`.

        Arguments:
            leaving: brokers that are about to end. Addresses that are in use by them, or by a listener here, are left
                out.
            wait: try again, for up to 5 seconds, to have an address that is in use. That is done in any case with an
                address that was released here a moment ago.
        """
        now_s = time.monotonic()
        self._released = [(bound, at_s) for bound, at_s in self._released if at_s > now_s - ADDRESS_RELEASE_S]
        for wanted in broker.listeners:
            give_up_s = now_s + (ADDRESS_RELEASE_S if wait or self._was_released(wanted) else 0.0)
            while wanted.key not in self._open:
                try:
                    had = self._addresses.get(wanted.key)
                    self._open[wanted.key] = _open(
                        wanted if had is None else replace(wanted, address=had), self.inherited
                    )
                except EndpointError as error:
                    in_use = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
                    if in_use and self._is_held(wanted, leaving):
                        break
                    if not in_use or time.monotonic() >= give_up_s:
                        raise
                    time.sleep(0.001)

    def wait_until_left(self, brokers: Iterable[BrokerConfiguration]) -> None:
        """Wait until nobody accepts from the listeners of brokers that have yet to begin. libzmq does so for some time
        after an earlier broker has ended, and those who connect would lose what they send."""
        keys = [wanted.key for broker in brokers for wanted in broker.listeners]
        sockets = [self._open[key].socket for key in keys if key in self._open]
        own = {*(one.socket.fileno() for one in self._open.values()), *self.inherited.descriptors()}
        if not wait_until_closed(COPIES_AT_LIBZMQ - own, [one.fileno() for one in sockets], ADDRESS_RELEASE_S):
            _logger.warning("libzmq has not yet closed a socket of a broker that has ended, and may accept connections")

    def look_at(
        self, wanted: Iterable[WantedListener], *, leaving: Iterable[BrokerConfiguration] = ()
    ) -> Iterator[EndpointError]:
        """An error for each address at which nobody could listen, but for those that `open_for` has opened, or would
        leave out. Nothing is opened."""
        for one in wanted:
            if one.key in self._open or self._is_held(one, leaving):
                continue
            why = why_not(one.address, ipv6=one.ipv6)
            if why is not None:
                yield _failure(one, why)

    def _is_held(self, wanted: WantedListener, leaving: Iterable[BrokerConfiguration]) -> bool:
        """Return True if one of these brokers, or of the listeners that they leave, has the address."""
        bound = wanted.bound
        plans = [plan for broker in leaving for plan in broker.plan.ports]
        if bound is None or not plans:
            return False
        held = [parse(endpoint.address) for plan in plans for endpoint in plan.endpoints if endpoint.bind]
        others = [one.bound for one in self._open.values()]
        return any(other is not None and bound.takes(other) for other in (*held, *others))

    def _was_released(self, wanted: WantedListener) -> bool:
        bound = wanted.bound if self._released else None
        return bound is not None and any(bound.takes(released) for released, _ in self._released)

    def lend(self, broker: BrokerConfiguration) -> dict[str, int]:
        """What `use_fd` is to be, for each port of a broker that has a listener here. They are to be used at once, and
        stay the listeners'."""
        return {
            wanted.port: self._open[wanted.key].socket.fileno()
            for wanted in broker.listeners
            if wanted.key in self._open
        }

    @contextmanager
    def closed_again_on_error(self) -> Iterator[None]:
        """As a context: if it raises, the listeners that were opened in it are closed."""
        before = set(self._open)
        try:
            yield
        except BaseException:
            self._release(self._open.keys() - before)
            raise

    def close_for(self, broker: BrokerConfiguration) -> None:
        """Close the listeners of a broker for now. No other broker has them. They are opened again at their addresses,
        also those of wildcards."""
        for wanted in broker.listeners:
            listener = self._open.pop(wanted.key, None)
            if listener is not None:
                if listener.bound is None:
                    self._addresses[wanted.key] = format_bound(listener.socket)
                self._close(listener)

    def keep_only(self, brokers: Iterable[BrokerConfiguration]) -> None:
        """Close the listeners that none of these brokers has, and remove the files at whose paths none listens."""
        brokers = tuple(brokers)
        wanted = {one.key for broker in brokers for one in broker.listeners}
        self._release(self._open.keys() - wanted)
        for key in self._addresses.keys() - wanted:
            del self._addresses[key]
        self._remove_files_but_of(brokers)

    def _release(self, keys: Iterable[Key]) -> None:
        for key in keys:
            listener = self._open.pop(key)
            self._close(listener)
            if listener.bound is not None:
                self._released.append((listener.bound, time.monotonic()))

    def _remove_files_but_of(self, brokers: Iterable[BrokerConfiguration]) -> None:
        if self._files_kept:
            ends = [end for broker in brokers for port in broker.ports.values() for end in port.endpoints]
            paths = {path_of(end.address) for end in ends if end.bind}
            for file in self._files_kept:
                if file.path not in paths:
                    file.remove()
            self._files_kept = [file for file in self._files_kept if file.path in paths]

    def _close(self, listener: _Listener) -> None:
        if listener.file is not None:
            if listener.is_shared:
                self._files_left.append(listener.file)
            else:
                listener.file.remove()
        listener.socket.close()

    # -- to another daemon ---------------------------------------------------------------------------------------------

    def describe(self) -> list[tuple[dict[str, object], int]]:
        """Each listener as another daemon needs it: an object of JSON, and its descriptor, which stays open here."""
        return [
            (
                {
                    "key": key,
                    "file": None if one.file is None else _describe_file(one.file),
                    "bound": None if one.bound is None else vars(one.bound),
                },
                one.socket.fileno(),
            )
            for key, one in self._open.items()
        ]

    def describe_files(self) -> list[dict[str, object]]:
        """The files of these listeners at whose paths only brokers listen."""
        return [_describe_file(file) for file in self._files_kept]

    def take(self, described: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Take a listener that another daemon has described. Its descriptor belongs to these listeners from now on. Its
        file is the other daemon's until `own`.

        Raises `HandOverError`.
        """
        if len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise HandOverError(f"a listener came with {len(descriptors)} descriptors; expected 1")
        taken = socket.socket(fileno=descriptors[0])
        try:
            file, bound = described["file"], described["bound"]
            file = None if file is None else _read_file(file)
            listener = _Listener(taken, file, None if bound is None else Bound(**bound), is_shared=True)
            self._open[tuple(described["key"])] = listener
        except (KeyError, TypeError) as error:
            taken.close()
            raise HandOverError(f"a listener is described in another way than expected: {error!r}") from error

    def take_file(self, described: Mapping[str, Any]) -> None:
        """Take a file that another daemon has described. It is that daemon's until `own`. Raises `HandOverError`."""
        try:
            self._files_left.append(_read_file(described))
        except (KeyError, TypeError) as error:
            raise HandOverError(f"a file is described in another way than expected: {error!r}") from error

    def own(self, brokers: Iterable[BrokerConfiguration]) -> None:
        """The daemon from which listeners were taken listens at them no more: their files belong to these from now on.

        Those of listeners that were closed meanwhile are removed, unless one of these brokers has the path: it may have
        come with its connections, and listens there still.
        """
        for one in self._open.values():
            one.is_shared = False
        self._files_kept += self._files_left
        self._files_left.clear()
        self._remove_files_but_of(brokers)

    def give_away(self) -> None:
        """Close all listeners here, and leave the files where they are: another daemon listens there now."""
        for one in self._open.values():
            one.socket.close()
        self._open.clear()
        self._files_kept.clear()

    def move_to(self, others: "Listeners") -> None:
        """Give all listeners of these, and the sockets of the service manager, to others."""
        others._open |= self._open
        others._files_left += self._files_left
        self.inherited.move_to(others.inherited)
        self._open.clear()
        self._files_left.clear()


def _describe_file(file: SocketFile) -> dict[str, object]:
    return {"path": os.fspath(file.path), "identity": file.identity}


def _read_file(described: Mapping[str, Any]) -> SocketFile:
    return SocketFile(Path(described["path"]), tuple(described["identity"]))


def _open(wanted: WantedListener, inherited: InheritedSockets) -> _Listener:
    try:
        made = inherited.take(wanted.address, ipv6=wanted.ipv6)
        if made is not None:
            return _Listener(made, None, wanted.bound)
        with binding_alone(wanted.address):
            return _open_alone(wanted)
    except OSError as error:
        raise _failure(wanted, describe_refusal(wanted.address, error)) from error


def _open_alone(wanted: WantedListener) -> _Listener:
    if is_taken_path(wanted.address):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path = path_of(wanted.address)
    if path is not None:
        with suppress(FileNotFoundError):
            path.unlink()  # of a socket at which nobody listens
    made = bound_socket(wanted.address, ipv6=wanted.ipv6)
    try:
        file = None if path is None else SocketFile.at(path)
        # Two brokers may accept from one listener for a moment. The one that comes too late must not wait.
        made.setblocking(False)
        made.listen(wanted.backlog)
        return _Listener(made, file, wanted.bound)
    except BaseException:
        made.close()
        raise


def _failure(wanted: WantedListener, why: str) -> EndpointError:
    failure = EndpointError(f"{wanted.where}: @{wanted.address}: cannot bind: {why}")
    failure.address = wanted.address
    return failure
