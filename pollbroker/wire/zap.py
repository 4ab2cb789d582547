"""ZAP (RFC 27): asking an authenticator who may be a peer of a wire port.

An authenticator belongs to the program: a socket in the engine's context that is bound at `inproc://zeromq.zap.01`,
such as that of pyzmq's `ThreadAuthenticator`. It is asked about every client of a server of PLAIN, and about every peer
of a port of NULL that has a `zap_domain`. What is said is in `Question` and `parse_answer`, without I/O;
`Authentication` has the sockets. The rules:

- Nothing waits. If an answer never comes, the deadline of the handshake ends the connection.
- An answer has the request id of its question, which names the port and the peer. An answer for a peer that has left,
  or a second one, changes nothing. One that is malformed ends the connection of that peer, and no other.
- A peer that nobody can be asked about is not let in. There is one exception, which is libzmq's: without an
  authenticator, a port of NULL lets everybody in, unless `zap_enforce_domain` is set.
"""

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import zmq

from pollbroker.descriptors import check_descriptors
from pollbroker.wire import native
from pollbroker.wire.addresses import zap_address

ADDRESS: Final = "inproc://zeromq.zap.01"
VERSION: Final = b"1.0"

NO_VERDICT: Final = 0
ACCEPTED: Final = 200
NOT_NOW: Final = 300
STATUS_CODES: Final = {b"200": ACCEPTED, b"300": NOT_NOW, b"400": 400, b"500": 500}

UNANSWERED_MAX: Final = 10_000
"""How many questions may wait for an authenticator, beside those that its `rcvhwm` allows. Otherwise peers that come
and go while it hangs would fill the memory. The connections of those beyond are ended, as after the status 300."""

ANSWERS_MAX: Final = 1_000
"""How many answers are read in a turn of the loop."""


@dataclass(frozen=True)
class Question:
    """What an authenticator is asked about one peer."""

    request_id: bytes
    domain: bytes
    address: bytes
    """Where the peer is, as libzmq says it: `192.0.2.7`; at `ipc://`, `localhost:<user>:<group>:<process>`."""
    routing_id: bytes
    """The port's own."""
    mechanism: bytes
    credentials: tuple[bytes, ...]
    """With PLAIN the user's name and the password."""

    def frames(self) -> list[bytes]:
        """The message, with the empty frame of a REQ in front."""
        about = [self.request_id, self.domain, self.address, self.routing_id, self.mechanism]
        return [b"", VERSION, *about, *self.credentials]


@dataclass(frozen=True)
class Answer:
    """What an authenticator has said about one peer."""

    request_id: bytes
    verdict: int
    """A status code, or `NO_VERDICT` if the answer is malformed."""
    user_id: bytes = b""


def parse_answer(frames: Sequence[bytes]) -> Answer | None:
    """What a message of an authenticator says; None if it has no request id."""
    if len(frames) < 3 or frames[0]:
        return None
    if len(frames) != 7 or frames[1] != VERSION or frames[3] not in STATUS_CODES or not _is_metadata(frames[6]):
        return Answer(frames[2], NO_VERDICT)
    return Answer(frames[2], STATUS_CODES[frames[3]], frames[5])


def _is_metadata(frame: bytes) -> bool:
    """Properties as in READY: a name with its size in one byte, and a value with its size in four."""
    at = 0
    while at < len(frame):
        value = at + 1 + frame[at] + 4
        at = value + int.from_bytes(frame[value - 4 : value])
        if value > len(frame) or at > len(frame):
            return False
    return True


@dataclass
class Domain:
    """What a port has set for its authenticator."""

    name: bytes = b""
    enforced: bool = False
    routing_id: bytes = b""


class Authentication:
    """The authenticator of an engine's wire ports. Only the engine's thread may use it.

    Arguments:
        context: returns the context in which the authenticator is.
        watch, unwatch: have a function called when something has happened at a socket, as `Waiter.add` and `remove` do.
        call_soon: makes a call in a later turn of the loop.
    """

    def __init__(
        self,
        context: Callable[[], zmq.Context[Any]],
        watch: Callable[[Any, Callable[[], None]], None],
        unwatch: Callable[[Any], None],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._context = context
        self._watch = watch
        self._unwatch = unwatch
        self._call_soon = call_soon
        self._ports: dict[bytes, tuple[native.Port, Domain]] = {}
        self._names: dict[native.Port, bytes] = {}
        self._named = 0
        self._socket: zmq.Socket[bytes] | None = None
        self._probe: zmq.Socket[bytes] | None = None
        self._was_bound = False

    # -- ports --------------------------------------------------------------------------------------------------------

    def add(self, port: native.Port, domain: Domain) -> None:
        """A port that may have to ask."""
        if port not in self._names:
            self._named += 1
            self._names[port] = b"%d" % self._named
            self._ports[self._names[port]] = port, domain

    def remove(self, port: native.Port) -> None:
        """The port is closed. With the last one the sockets are closed, so that the context can be terminated."""
        name = self._names.pop(port, None)
        if name is not None:
            del self._ports[name]
            if not self._ports:
                self.close()

    def ask(
        self, port: native.Port, question: int, descriptor: int, mechanism: bytes, credentials: tuple[bytes, ...]
    ) -> None:
        """Ask about a peer of a port, or answer at once if that is not possible."""
        try:
            self._ask(port, question, descriptor, mechanism, credentials)
        except MemoryError:
            port.answer(question, NO_VERDICT, b"")
        except (zmq.ZMQError, OSError):  # the context has ended, or no socket can be opened
            self.close()
            port.answer(question, NO_VERDICT, b"")

    def _ask(
        self, port: native.Port, question: int, descriptor: int, mechanism: bytes, credentials: tuple[bytes, ...]
    ) -> None:
        name = self._names[port]
        domain = self._ports[name][1]
        request_id = b"%s-%d" % (name, question)
        address = zap_address(descriptor).encode()
        about = Question(request_id, domain.name, address, domain.routing_id, mechanism, credentials)
        if not self._is_there():
            lets_in = mechanism == b"NULL" and not domain.enforced
            port.answer(question, ACCEPTED if lets_in else NO_VERDICT, b"")
        elif self._send(about.frames()):
            self._receive()  # sending has taken the sign that there is something to read
        else:
            port.answer(question, NOT_NOW, b"")

    # -- sockets ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the sockets. What has not been answered never will be."""
        self._was_bound = False
        for one in (self._socket, self._probe):
            if one is not None:
                self._unwatch(one)
                one.close(linger=0)
        self._socket = self._probe = None

    def _is_there(self) -> bool:
        """Return True if an authenticator is bound. Raises `zmq.ZMQError`, or `OSError` if no descriptors are left.

        A socket that is connected to nobody can be written to all the same, until somebody is bound. So there is a
        second one, a ROUTER with `router_mandatory`, which has room if and only if it knows somebody. When that one has
        gone, both sockets are of no use any more, and are opened again.
        """
        self._look()
        if self._probe is None:
            self._open()
            self._look()
        return self._was_bound

    def _look(self) -> None:
        """Find out whether somebody has been bound, or has gone."""
        if self._probe is None:
            return
        try:
            has_room = self._probe_has_room()
        except zmq.ZMQError:
            self.close()  # the context has ended, and waits for its sockets
            return
        if self._was_bound and not has_room:
            self.close()
        else:
            self._was_bound = has_room

    def _probe_has_room(self) -> bool:
        assert self._probe is not None
        events = self._probe.getsockopt(zmq.EVENTS)
        assert isinstance(events, int)
        return bool(events & zmq.POLLOUT)

    def _open(self) -> None:
        check_descriptors()
        context = self._context()
        try:
            self._socket = context.socket(zmq.DEALER, socket_class=zmq.Socket)
            self._socket.linger = 0
            self._socket.sndhwm = UNANSWERED_MAX
            self._probe = context.socket(zmq.ROUTER, socket_class=zmq.Socket)
            self._probe.linger = 0
            self._probe.router_mandatory = 1
            self._socket.connect(ADDRESS)
            self._probe.connect(ADDRESS)
            self._watch(self._socket, self._receive)
            self._watch(self._probe, self._look)
        except BaseException:
            self.close()  # both are opened anew for the next question
            raise

    def _send(self, frames: list[bytes]) -> bool:
        """Return False if too many questions have not been answered."""
        assert self._socket is not None
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _receive(self) -> None:
        """Read answers until there is none, or tell the loop to go on later."""
        try:
            for _ in range(ANSWERS_MAX):
                if self._socket is None:
                    return
                self._carry_out(parse_answer(self._socket.recv_multipart(zmq.NOBLOCK)))
            self._call_soon(self._receive)
        except zmq.ZMQError as error:
            if error.errno != errno.EAGAIN:
                self.close()  # the context has ended, and waits for its sockets

    def _carry_out(self, answer: Answer | None) -> None:
        if answer is None:
            return
        name, _, question = answer.request_id.partition(b"-")
        port, _ = self._ports.get(name, (None, None))
        if port is not None and question.isdigit():
            with suppress(OverflowError, ValueError):  # a number that no question has
                port.answer(int(question), answer.verdict, answer.user_id)
