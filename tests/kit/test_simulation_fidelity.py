"""The simulation against the real library, operation by operation.

Each test draws a handful of sockets and a list of operations, runs both on libzmq's inproc and on the simulation, and
compares every result, every errno, and which ZMQ_FDs are readable after it.

Two things are not drawn, since their outcome depends on time in the real library. It processes commands in a send at
most once a millisecond: so before each send both worlds process them, by reading ZMQ_EVENTS or by a disconnect that
fails. And a closed socket lets go of its peers in another thread: so peers leave by a disconnect. Where libzmq would
abort the process, as the simulation says (`WouldAbort`), and where chance decides (`was_in_no_certain_order`), an
example ends.
"""

import os
import select
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from zmq import SocketType

from pollbroker.testing.simulation import SimNetwork, SimSocket, WouldAbort
from pollbroker.testing.simulation.pubsub import XPubSocket

EXAMPLES = int(os.environ.get("POLLBROKER_FIDELITY_EXAMPLES", "150"))
"""Of each family."""
ADDRESSES = 3
NOWHERE = "inproc://nowhere"

check = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

Operation = tuple[Any, ...]


@dataclass
class World:
    """One side of the comparison."""

    sockets: list[Any]
    given_names: list[bytes] = field(default_factory=list)
    """Routing ids that a ROUTER made up, in the order in which they were seen: they differ between the worlds."""

    def perform(self, operation: Operation) -> object:
        """The result of one operation, in terms that both worlds share."""
        try:
            return self._perform(*operation)
        except zmq.ZMQError as error:
            return f"errno {error.errno}"

    def _perform(self, verb: str, number: int, *arguments: Any) -> object:
        socket = self.sockets[number]
        if verb in ("bind", "connect", "disconnect"):
            getattr(socket, verb)(f"inproc://{arguments[0]}")
            return None
        if verb == "send":
            return self._send(socket, *arguments)
        if verb == "recv":
            body = self._shared(socket.recv(zmq.DONTWAIT))
            return body, socket.getsockopt(zmq.RCVMORE)
        if verb == "events":
            return socket.getsockopt(zmq.EVENTS)
        assert verb == "set"
        return socket.setsockopt(*arguments)

    def _send(self, socket: Any, body: bytes | int, more: bool, by_events: bool) -> object:
        if by_events:
            socket.getsockopt(zmq.EVENTS)
        else:
            with suppress(zmq.ZMQError):
                socket.disconnect(NOWHERE)
        if isinstance(body, int):
            body = self.given_names[body % len(self.given_names)] if self.given_names else b"nobody"
        return socket.send(body, zmq.DONTWAIT | (zmq.SNDMORE if more else 0))

    def _shared(self, body: bytes) -> bytes | int:
        if len(body) != 5 or body[0]:
            return body
        if body not in self.given_names:
            self.given_names.append(body)
        return self.given_names.index(body)

    def readable(self) -> list[int]:
        poller = select.poll()
        numbers = {}
        for number, socket in enumerate(self.sockets):
            descriptor = socket.getsockopt(zmq.FD)
            numbers[descriptor] = number
            poller.register(descriptor, select.POLLIN)
        return sorted(numbers[descriptor] for descriptor, _ in poller.poll(0))


@contextmanager
def worlds(types: Sequence[SocketType]) -> Iterator[tuple[World, World]]:
    """The real one and the simulated one, with a socket of each type."""
    context: zmq.Context[Any] = zmq.Context()
    sockets = [context.socket(socket_type) for socket_type in types]
    try:
        with SimNetwork() as network:
            network.processes_in_send = 0.0
            network.tears_messages = True
            simulated = network.context()
            yield World(sockets), World([simulated.socket(socket_type) for socket_type in types])
    finally:
        for socket in sockets:
            socket.close(linger=0)
        await_reaper(context)
        context.term()


REAPER_TURNS = 5
"""The commands with which two closed sockets let go of each other make a chain that is no longer."""


def await_reaper(context: zmq.Context[Any]) -> None:
    """Wait until libzmq's reaper thread is done with what was closed.

    A context's end joins the connections that nobody was bound for, without asking whether the reaper is at work on the
    same sockets: once in ten thousand times it crashes.
    """
    with context.socket(zmq.PAIR) as peer:
        peer.bind("inproc://reaped")
        for _ in range(REAPER_TURNS):
            with context.socket(zmq.PAIR) as last:
                last.connect("inproc://reaped")
                peer.getsockopt(zmq.EVENTS)
            assert select.select([peer.fd], [], [], 10)[0]  # the reaper has come to it, and so past all before it
            while peer.getsockopt(zmq.FD) in select.select([peer.fd], [], [], 0)[0]:
                peer.getsockopt(zmq.EVENTS)


def compare(types: Sequence[SocketType], setup: Sequence[Operation], operations: Sequence[Operation]) -> None:
    """Run all operations in both worlds; each must end in the same way in both."""
    with worlds(types) as (real, simulated):
        history: list[tuple[Operation, object]] = []
        for operation in [*setup, *operations]:
            verb, number = operation[:2]
            socket = simulated.sockets[number]
            truth = socket.can_receive(), socket.can_send()
            try:
                found = simulated.perform(operation)
            except WouldAbort:
                return
            if verb == "send" and was_in_no_certain_order(socket, operation[2]):
                return
            expected = real.perform(operation)
            history.append((operation, expected))
            assert found == expected, told(history)
            assert simulated.readable() == real.readable(), told(history)
            if verb == "events":
                check_truth(socket, truth, expected, told(history))
        for number in range(len(types)):
            try:
                left = drained(simulated, number)
            except WouldAbort:
                return
            assert left == drained(real, number), told(history)


def was_in_no_certain_order(socket: SimSocket, body: object) -> bool:
    """Return True if a publisher sent this to one subscriber by two connections.

    libzmq sends to them in the order of their addresses in memory (mtrie.hpp), so that chance decides which of the two
    the subscriber reads first.
    """
    if not isinstance(socket, XPubSocket) or not isinstance(body, bytes):
        return False
    subscribers = [id(pipe.peer.owner) for pipe in socket._subscribers_to(body)]
    return len(set(subscribers)) < len(subscribers)


def told(history: list[tuple[Operation, object]]) -> str:
    return "\n".join(f"{operation} -> {result}" for operation, result in history)


def check_truth(socket: SimSocket, truth: tuple[bool, bool], events: object, history: str) -> None:
    """What was said to be true before must be what the library says."""
    assert isinstance(events, int)
    can_receive, can_send = truth
    if socket.type in (SocketType.REQ, SocketType.REP):
        assert events & zmq.POLLIN or not can_receive  # libzmq looks at the envelope only when it is received
    else:
        assert can_receive == bool(events & zmq.POLLIN), history
    if socket.type in (SocketType.PUSH, SocketType.DEALER, SocketType.PAIR):
        assert can_send == bool(events & zmq.POLLOUT), history


def drained(world: World, number: int) -> list[object]:
    results: list[object] = []
    for _ in range(300):
        results.append(world.perform(("recv", number)))
        if isinstance(results[-1], str):
            break
    return results


def hwm(count: int) -> st.SearchStrategy[list[Operation]]:
    marks = st.sampled_from([1, 2, 3, 0])
    return st.lists(st.tuples(marks, marks), min_size=count, max_size=count).map(
        lambda all_marks: [
            ("set", number, option, mark)
            for number, pair in enumerate(all_marks)
            for option, mark in zip((zmq.SNDHWM, zmq.RCVHWM), pair, strict=True)
        ]
    )


def attach(sides: Sequence[int | None]) -> st.SearchStrategy[Operation]:
    """Bind or connect; a socket of side 0 binds even addresses and connects to odd ones, one of side 1 vice versa."""

    def make(number: int, address: int) -> Operation:
        side = sides[number]
        binds = address == number % ADDRESSES if side is None else address % 2 == side
        return "bind" if binds else "connect", number, address

    return st.builds(make, st.integers(0, len(sides) - 1), st.integers(0, ADDRESSES - 1))


def flat(parts: Iterable[Sequence[Operation]]) -> list[Operation]:
    return [operation for part in parts for operation in part]


@st.composite
def works(draw: st.DrawFn, count: int, bodies: st.SearchStrategy[bytes | int]) -> list[Operation]:
    """A few operations that belong together: single ones, drawn alone, seldom fill a pipe or break a message."""
    number = draw(st.integers(0, count - 1))
    by_events = draw(st.booleans())
    kind = draw(st.sampled_from(["frame", "message", "burst", "receive", "receive", "events", "leave", "break"]))
    if kind == "frame":
        return [("send", number, draw(bodies), draw(st.booleans()), by_events)]
    if kind == "message":
        frames = draw(st.lists(bodies, min_size=1, max_size=4))
        return [("send", number, frame, place < len(frames) - 1, by_events) for place, frame in enumerate(frames)]
    if kind == "burst":
        body = draw(bodies)
        return [("send", number, body, False, by_events)] * draw(st.integers(2, 7))
    if kind == "receive":
        return [("recv", number)] * draw(st.integers(1, 5))
    if kind == "events":
        return [("events", number)]
    peer, address = draw(st.integers(0, count - 1)), draw(st.integers(0, ADDRESSES - 1))
    leave: list[Operation] = [("disconnect", peer, address)]
    if kind == "leave":
        return leave
    begun: Operation = ("send", number, draw(bodies), True, by_events)
    seen: list[Operation] = [("events", draw(st.sampled_from([number, peer])))] * draw(st.integers(0, 2))
    rest: list[Operation] = [("send", number, draw(bodies), more, by_events) for more in (True, True, False)]
    return [begun, *leave, *seen, *rest]


def scenario(
    sides: Sequence[int | None],
    bodies: st.SearchStrategy[bytes | int],
    *others: st.SearchStrategy[Operation],
) -> st.SearchStrategy[tuple[list[Operation], list[Operation]]]:
    """Water marks, and operations: who binds and connects at first, and then anything."""
    count = len(sides)
    marks = st.tuples(
        st.just("set"), st.integers(0, count - 1), st.sampled_from([zmq.SNDHWM, zmq.RCVHWM]), st.integers(0, 4)
    )
    work = works(count, bodies)
    begin = st.lists(attach(sides), min_size=6, max_size=10)
    alone = [one.map(lambda operation: [operation]) for one in (attach(sides), marks, *others)]
    then = st.lists(st.one_of(work, work, work, *alone), min_size=8, max_size=30).map(flat)
    return st.tuples(hwm(count), begin, then).map(lambda parts: (parts[0], [*parts[1], *parts[2]]))


bodies = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"])


# PUSH and PULL agree with libzmq, whoever binds, comes and leaves.
@pytest.mark.slow
@check
@given(scenario([0, 0, 1, 1], bodies))
def test_push_and_pull_agree(drawn: tuple[list[Operation], list[Operation]]) -> None:
    compare([SocketType.PUSH, SocketType.PUSH, SocketType.PULL, SocketType.PULL], *drawn)


ROUTING = [SocketType.ROUTER, SocketType.ROUTER, SocketType.DEALER, SocketType.DEALER]
names = st.sampled_from([b"A", b"B", b"nobody", 0, 1, 2])


def routing_options() -> st.SearchStrategy[list[Operation]]:
    def make(mandatory: bool, handover: bool, first: bytes | None, second: bytes | None) -> list[Operation]:
        return [
            ("set", 0, zmq.ROUTER_MANDATORY, int(mandatory)),
            ("set", 0, zmq.ROUTER_HANDOVER, int(handover)),
            *[("set", n, zmq.ROUTING_ID, name) for n, name in ((2, first), (3, second)) if name is not None],
        ]

    name = st.sampled_from([None, b"A", b"B"])
    return st.builds(make, st.booleans(), st.booleans(), name, name)


# ROUTER and DEALER agree with libzmq: names, mandatory routing, handover.
@pytest.mark.slow
@check
@given(routing_options(), scenario([None] * 4, st.one_of(bodies, names, names)))
def test_router_and_dealer_agree(options: list[Operation], drawn: tuple[list[Operation], list[Operation]]) -> None:
    compare(ROUTING, [*drawn[0], *options], drawn[1])


# The peer that it has goes, after another has come and before a third one does: only the third is its peer then.
PEERS_OF_A_PAIR: list[Operation] = [
    *(("set", number, option, 1) for number in range(3) for option in (zmq.SNDHWM, zmq.RCVHWM)),
    *(("connect", 0, 1), ("connect", 1, 2), ("connect", 2, 1), ("bind", 1, 1)),
]


# PAIRs agree with libzmq, also when there is a third one.
@pytest.mark.slow
@check
@given(scenario([None] * 3, bodies))
@example(
    (PEERS_OF_A_PAIR, [("bind", 2, 2), ("send", 1, b"a", False, True), ("connect", 2, 1), ("events", 1), ("recv", 0)])
)
def test_pairs_agree(drawn: tuple[list[Operation], list[Operation]]) -> None:
    compare([SocketType.PAIR] * 3, *drawn)


topics = st.sampled_from([b"", b"a", b"ab", b"b"])


def subscriptions() -> st.SearchStrategy[Operation]:
    by_option = st.tuples(st.just("set"), st.just(3), st.sampled_from([zmq.SUBSCRIBE, zmq.UNSUBSCRIBE]), topics)
    by_message = st.tuples(
        st.just("send"),
        st.just(4),
        st.tuples(st.sampled_from([b"\0", b"\1", b""]), topics).map(b"".join),
        st.sampled_from([False, False, False, True]),
        st.booleans(),
    )
    return st.one_of(by_option, by_message)


def publishing_options() -> st.SearchStrategy[list[Operation]]:
    def make(no_drop: list[bool], verbose: int) -> list[Operation]:
        return [
            *[("set", number, zmq.XPUB_NODROP, int(value)) for number, value in enumerate(no_drop)],
            *([("set", 1, verbose, 1)] if verbose else []),
        ]

    return st.builds(
        make, st.lists(st.booleans(), min_size=3, max_size=3), st.sampled_from([0, zmq.XPUB_VERBOSE, zmq.XPUB_VERBOSER])
    )


# PUB, XPUB, SUB and XSUB agree with libzmq: subscriptions, full subscribers, XPUB_NODROP.
@pytest.mark.slow
@check
@given(
    publishing_options(),
    scenario(
        [0, 0, 0, 1, 1], st.sampled_from([b"a", b"ab", b"abc", b"b", b"c", b""]), subscriptions(), subscriptions()
    ),
)
def test_publishers_and_subscribers_agree(
    options: list[Operation], drawn: tuple[list[Operation], list[Operation]]
) -> None:
    compare(
        [SocketType.PUB, SocketType.XPUB, SocketType.XPUB, SocketType.SUB, SocketType.XSUB],
        [*drawn[0], *options],
        drawn[1],
    )


# REQ and REP agree with libzmq, among themselves and with ROUTER and DEALER.
@pytest.mark.slow
@check
@given(scenario([0, 0, 1, 1, 0, 1], st.one_of(st.just(b""), bodies, st.sampled_from([0, 1, 2]))))
def test_requests_and_replies_agree(drawn: tuple[list[Operation], list[Operation]]) -> None:
    compare(
        [SocketType.REQ, SocketType.REQ, SocketType.REP, SocketType.REP, SocketType.DEALER, SocketType.ROUTER], *drawn
    )


def send(number: int, *frames: bytes, by_events: bool = True) -> list[Operation]:
    """The operations that send one message."""
    return [("send", number, frame, place < len(frames) - 1, by_events) for place, frame in enumerate(frames)]


SMALL: list[Operation] = [("set", number, option, 1) for number in (0, 1) for option in (zmq.SNDHWM, zmq.RCVHWM)]

RARE: dict[str, tuple[list[SocketType], list[Operation]]] = {
    "the turns go on when one of the peers has left": (
        [SocketType.PULL, *[SocketType.PUSH] * 4],
        [
            ("bind", 0, 0),
            *[("connect", number, 0) for number in (1, 2, 3, 4)],
            ("events", 0),
            ("disconnect", 1, 0),
            *[("events", number) for number in (0, 1, 0)],
            *flat([send(number, b"%d" % number) for number in (2, 3, 4) * 2]),
            *[("recv", 0)] * 6,
        ],
    ),
    "a mandatory ROUTER says EHOSTUNREACH for a peer that is leaving, but EAGAIN if that is full too": (
        [SocketType.ROUTER, SocketType.DEALER, SocketType.DEALER],
        [
            *SMALL,
            ("set", 2, zmq.RCVHWM, 1),
            ("set", 0, zmq.ROUTER_MANDATORY, 1),
            ("bind", 0, 0),
            *flat(
                [
                    ("set", number, zmq.ROUTING_ID, name),
                    ("connect", number, 0),
                    *send(number, b"x"),
                    *send(number, b"y"),
                    *flat([send(0, name, b"z")] * already),
                    ("disconnect", number, 0),
                    *send(0, name, b"late"),
                ]
                for number, name, already in ((1, b"A", 1), (2, b"B", 2))
            ),
        ],
    ),
    "a peer of a taken name is never heard, and never told": (
        [SocketType.ROUTER, SocketType.DEALER, SocketType.DEALER],
        [
            ("set", 1, zmq.ROUTING_ID, b"A"),
            ("set", 2, zmq.ROUTING_ID, b"A"),
            ("bind", 0, 0),
            ("connect", 1, 0),
            ("connect", 2, 0),
            ("events", 0),
            *send(2, b"x", b"y"),
            ("events", 0),
            ("recv", 0),
            *send(0, b"x", b"z"),
            ("recv", 2),
        ],
    ),
    "an XPUB passes on the end of a subscription that was dropped at the high-water mark": (
        [SocketType.XSUB, SocketType.XPUB],
        [
            *SMALL,
            ("bind", 1, 0),
            ("connect", 0, 0),
            *flat([send(0, b"\1" + topic) for topic in (b"a", b"b", b"c")]),
            ("events", 1),
            *send(0, b"\0c"),
            *[("recv", 1)] * 4,
        ],
    ),
    "a REQ throws away what has come before its request": (
        [SocketType.REQ, SocketType.DEALER],
        [
            ("bind", 1, 0),
            ("connect", 0, 0),
            *send(1, b"", b"stale"),
            *send(0, b"request"),
            ("events", 0),
            ("recv", 0),
            *send(1, b"", b"reply"),
            ("recv", 0),
        ],
    ),
    "a pipe that was full before the bind is told of the room that the bind makes": (
        [SocketType.PUSH, SocketType.PULL],
        [*SMALL, ("connect", 0, 0), *send(0, b"a"), *send(0, b"b"), ("bind", 1, 0), *send(0, b"c"), *send(0, b"d")],
    ),
    "the frames of the first message each tell the writer that nothing was read": (
        [SocketType.PUSH, SocketType.PULL],
        [
            ("bind", 1, 0),
            ("connect", 0, 0),
            ("events", 0),
            *send(0, b"a", b"b", b"c"),
            *[("recv", 1), ("events", 0)] * 3,
        ],
    ),
    "a PAIR that comes second loses what it has sent, and is refused from then on": (
        [SocketType.PAIR, SocketType.PAIR, SocketType.PAIR],
        [
            ("bind", 0, 0),
            ("connect", 1, 0),
            ("connect", 2, 0),
            *send(2, b"x"),
            ("recv", 0),
            ("events", 2),
            *send(2, b"y"),
            *send(0, b"z"),
            ("recv", 1),
        ],
    ),
}


@pytest.mark.parametrize("claim", RARE)
def test_rare_cases_agree(claim: str) -> None:
    types, operations = RARE[claim]
    compare(types, [], operations)
