"""Schedules of messages that are sent once and taken once, with or without an answer, and the model of them."""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import zmq

from pollbroker import QUEUE, STREAMER, Broker, Device, Engine, Route
from tests.support.accounts import balanced
from tests.support.addresses import endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.schedules.peers import BROKER_ID, Library, PeerSocket, receive_in_time
from tests.support.schedules.steps import Body, Join, Leave, Say, Schedule, Take
from tests.support.wire_ports import peer_count
from tests.wire.places import PLACES


@dataclass(frozen=True)
class Exchange:
    """A device, and which types of sockets its peers may have.

    Attributes:
        senders, receivers: what connects to the frontend, and to the backend.
        answers: each message is sent back by its receiver.
    """

    device: Device
    senders: tuple[int, ...]
    receivers: tuple[int, ...]
    answers: bool
    frontend_options: Mapping[str, Any] = field(default_factory=dict)


EXCHANGES: Final = {
    "STREAMER": Exchange(STREAMER, (zmq.PUSH,), (zmq.PULL,), answers=False),
    "QUEUE": Exchange(
        # Nothing may be lost here; a QUEUE drops replies to clients that are slow.
        replace(QUEUE, name="patient", slow_peer="wait"),
        (zmq.DEALER, zmq.REQ, zmq.ROUTER),
        (zmq.REP, zmq.DEALER, zmq.ROUTER),
        answers=True,
        frontend_options={"routing_id": BROKER_ID},
    ),
    "REP and REQ": Exchange(
        Device("turns", zmq.REP, zmq.REQ, (Route("frontend", "backend"), Route("backend", "frontend"))),
        (zmq.REQ, zmq.DEALER),
        (zmq.REP, zmq.ROUTER),
        answers=True,
    ),
}

_ENVELOPES: Final[dict[int, list[bytes]]] = {zmq.DEALER: [b""], zmq.ROUTER: [BROKER_ID, b""]}
"""What stands before the body, in what a sender of this type sends and is answered; nothing at the others."""

_HAVE_AN_ENVELOPE: Final = (zmq.DEALER, zmq.ROUTER)
"""The receivers that see the envelope: up to the first empty frame."""


def frames_of(mark: bytes, body: Body) -> list[bytes]:
    """A message whose frames tell whose they are."""
    return [mark, *((mark * (size // len(mark) + 1))[:size] for size in body)]


@dataclass
class Peer:
    """A peer: its socket, and the marks of the messages that it has sent (a sender), and was answered or has taken."""

    kind: int
    socket: PeerSocket
    sent: list[bytes] = field(default_factory=list)
    given: list[bytes] = field(default_factory=list)


class Peers:
    """The peers at both sides of a broker, and what each has sent and been given."""

    def __init__(self, library: Library, broker: Broker, exchange: Exchange, ends: ExitStack) -> None:
        self.broker = broker
        self.exchange = exchange
        self.senders: dict[int, Peer] = {}
        self.receivers: dict[int, Peer] = {}
        self.sent: dict[bytes, list[bytes]] = {}
        """What was sent, by its mark: the sender's number and that of the message."""
        self.taken: list[tuple[int, bytes]] = []
        """What was taken: by whom, and its mark."""
        self._library = library
        self._ends = ends
        self._came = 0

    def join(self, receives: bool, number: int = 0) -> None:
        kinds = self.exchange.receivers if receives else self.exchange.senders
        made = Peer(kinds[number % len(kinds)], self._library.socket(kinds[number % len(kinds)]))
        self._ends.callback(made.socket.close, linger_s=0)
        made.socket.connect(endpoint(self.broker.backend if receives else self.broker.frontend))
        (self.receivers if receives else self.senders)[self._came] = made
        self._came += 1

    def say(self, who: int, body: Body) -> None:
        sender = self.senders[who]
        if sender.kind == zmq.REQ and len(sender.given) < len(sender.sent):  # it cannot send before it was answered
            self.settle()
            self.collect(sender)
        mark = b"%d/%d;" % (who, len(self.sent))
        frames = frames_of(mark, body)
        self.sent[mark] = frames
        sender.sent.append(mark)
        sender.socket.send([*_ENVELOPES.get(sender.kind, []), *frames])

    def take(self, who: int) -> bool:
        """Take a message, if there is one, and answer it if it is to be answered."""
        receiver = self.receivers[who]
        frames = receiver.socket.receive()
        if frames is None:
            return False
        if self.exchange.answers:
            receiver.socket.send(frames)
        body = frames[frames.index(b"") + 1 :] if receiver.kind in _HAVE_AN_ENVELOPE else frames
        assert body, "a message has nothing but an envelope"
        assert self.sent[body[0]] == body, "a message is torn"
        receiver.given.append(body[0])
        self.taken.append((who, body[0]))
        return True

    def collect(self, sender: Peer) -> None:
        """Receive the answers that this sender has not yet been given. Each of them has to be whole."""
        envelope = _ENVELOPES.get(sender.kind, [])
        while len(sender.given) < len(sender.sent):
            frames = receive_in_time(sender.socket)
            assert frames[: len(envelope)] == envelope, "an answer has another envelope"
            body = frames[len(envelope) :]
            assert self.sent[body[0]] == body, "an answer is torn"
            sender.given.append(body[0])

    def settle(self) -> None:
        """Wait until everything that was sent was taken."""
        if not self.receivers:
            self.join(True)
        wait_until(lambda: self._take_all() or len(self.taken) >= len(self.sent))

    def _take_all(self) -> bool:
        while sum(self.take(who) for who in self.receivers):  # each of them has its turn
            pass
        return False

    def check(self) -> None:
        """Nothing is lost or doubled, and what went one way is in order."""
        marks = [mark for _, mark in self.taken]
        assert sorted(marks) == sorted(self.sent), "messages are lost, or came twice"
        ways = defaultdict(list)
        for who, mark in self.taken:
            sender, number = mark.rstrip(b";").split(b"/")
            ways[who, sender].append(int(number))
        for way in ways.values():
            assert way == sorted(way), "messages of one sender to one receiver are out of order"

    def check_answers(self, sender: Peer) -> None:
        """Each request of this sender is answered, once, and in the order of the worker that it went to."""
        self.collect(sender)
        assert sorted(sender.given) == sorted(sender.sent), "answers are lost, or came twice"
        asked = set(sender.sent)
        for worker in {who for who, _ in self.taken}:
            of_worker = [mark for taker, mark in self.taken if taker == worker and mark in asked]
            answers = [mark for mark in sender.given if mark in set(of_worker)]
            assert answers == of_worker, "answers of one worker are out of order"


def leave(engine: Engine, peers: Peers, step: Leave, transport: str) -> None:
    """A peer leaves. What is sent to a receiver before the broker knows that it has gone is lost, so the broker has
    to be asked; at a port of libzmq it cannot be, and its receivers stay."""
    here = peers.receivers if step.receives else peers.senders
    if not here or (step.receives and transport == "libzmq"):
        return
    who = sorted(here)[step.who % len(here)]
    if step.receives:
        wait_until(lambda: peer_count(engine, peers.broker, "backend") == len(here))
    if step.receives or peers.exchange.answers:
        peers.settle()
    if not step.receives and peers.exchange.answers:
        peers.check_answers(here[who])
    here.pop(who).socket.close(linger_s=DEADLINE_S)
    if step.receives:
        wait_until(lambda: peer_count(engine, peers.broker, "backend") == len(here))


def run(engine: Engine, library: Library, transport: str, schedule: Schedule, exchange: Exchange) -> int:
    """Run a schedule, and compare what has come with what has to. Returns how many messages were sent."""
    hwm = {"sndhwm": schedule.hwm}
    broker = engine.add(
        "a", exchange.device,
        frontend=PLACES[schedule.place], backend=PLACES[schedule.place], transport=transport,
        frontend_options=exchange.frontend_options if exchange.answers else hwm, backend_options=hwm,
    )  # fmt: skip
    with ExitStack() as ends:
        ends.callback(broker.remove, timeout_s=0)
        peers = Peers(library, broker, exchange, ends)
        peers.join(False)
        for step in schedule.steps:
            match step:
                case Join(receives, kind):
                    peers.join(receives, kind)
                case Say(number, bodies) if peers.senders:
                    who = sorted(peers.senders)[number % len(peers.senders)]
                    for body in bodies:
                        peers.say(who, body)
                case Take(number, most) if peers.receivers:
                    who = sorted(peers.receivers)[number % len(peers.receivers)]
                    for _ in range(most):
                        peers.take(who)
                case Leave():
                    leave(engine, peers, step, transport)
        peers.settle()
        peers.check()
        if exchange.answers:
            for sender in peers.senders.values():
                peers.check_answers(sender)
        for flow in broker.statistics().flows.values():
            wait_until(partial(_has_sent, broker, flow.source, len(peers.sent)))
            assert balanced(flow), f"the account of a flow is not balanced: {flow}"
    return len(peers.sent)


def _has_sent(broker: Broker, source: str, count: int) -> bool:
    return broker.statistics().flows[source].sent == count
