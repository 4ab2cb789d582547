"""The same schedules on ports of libzmq and on ports of the wire, against one model of what has to arrive.

A schedule says who comes, sends, receives and leaves. Nobody is killed, and a receiver leaves only when nothing is on
its way. So nothing may be lost, doubled or torn, what one sender sent through one receiver has to be in order, and a
subscriber is given what it has subscribed to and no more.
"""

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pollbroker import FORWARDER, QUEUE, STREAMER, Broker, Engine
from tests.support.accounts import balanced
from tests.support.addresses import endpoint
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import MakeEngine, Socket
from tests.support.wire_ports import peer_count
from tests.wire.places import PLACES

SIZES: Final = (0, 1, 2, 255, 256, 3000, 4095, 4096, 20_000, 70_000)

_PATIENT_QUEUE: Final = replace(QUEUE, name="patient", slow_peer="wait")
"""Nothing may be lost here; a QUEUE drops replies to clients that are slow."""

Body: TypeAlias = tuple[int, ...]
"""The sizes of the frames of a message, behind the frame that says whose it is."""


@dataclass(frozen=True)
class Join:
    """A peer comes to the frontend (a sender) or to the backend (a receiver)."""

    receives: bool


@dataclass(frozen=True)
class Leave:
    """A peer closes its socket. Which one is the number modulo those that are there."""

    receives: bool
    who: int


@dataclass(frozen=True)
class Say:
    """A sender sends messages, one behind the other."""

    who: int
    bodies: tuple[Body, ...]


@dataclass(frozen=True)
class Take:
    """A receiver takes what is there, up to so many messages."""

    who: int
    most: int


Step: TypeAlias = Join | Leave | Say | Take

_numbers = st.integers(0, 7)
_bodies = st.lists(st.sampled_from(SIZES), max_size=5).map(tuple)
_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Join, st.booleans()),
    st.builds(Say, _numbers, st.lists(_bodies, min_size=1, max_size=20).map(tuple)),
    st.builds(Take, _numbers, st.integers(1, 30)),
    st.builds(Leave, st.booleans(), _numbers),
)


@dataclass(frozen=True)
class Schedule:
    """What happens, and between what kind of ports."""

    steps: tuple[Step, ...]
    place: str
    hwm: int
    burst: int
    worker_type: int


_schedules = st.builds(
    Schedule,
    st.lists(_steps, min_size=3, max_size=25).map(tuple),
    st.sampled_from(["tcp", "ipc"]),
    st.sampled_from([0, 1, 3, 1000]),
    st.sampled_from([2, 1000]),
    st.sampled_from([zmq.REP, zmq.DEALER]),
)


def frames_of(mark: bytes, body: Body) -> list[bytes]:
    """A message whose frames tell whose they are."""
    return [mark, *((mark * (size // len(mark) + 1))[:size] for size in body)]


@dataclass
class Peers:
    """The peers at both sides of a broker, and what each has sent and been given."""

    context: zmq.Context[Socket]
    broker: Broker
    ends: ExitStack
    sender_type: int
    receiver_type: int
    senders: dict[int, Socket] = field(default_factory=dict)
    receivers: dict[int, Socket] = field(default_factory=dict)
    sent: dict[bytes, list[bytes]] = field(default_factory=dict)
    """What was sent, by its mark: the sender's number and that of the message."""
    taken: list[tuple[int, bytes]] = field(default_factory=list)
    """What was taken: by whom, and its mark."""
    came: int = 0

    def socket(self, kind: int, **options: Any) -> Socket:
        made = self.context.socket(kind)
        self.ends.callback(made.close, linger=0)
        made.set_hwm(0)
        made.linger = DEADLINE_MS
        made.sndtimeo = made.rcvtimeo = DEADLINE_MS
        for name, value in options.items():
            setattr(made, name, value)
        return made

    def join(self, receives: bool) -> int:
        number, self.came = self.came, self.came + 1
        made = self.socket(self.receiver_type if receives else self.sender_type)
        made.connect(endpoint(self.broker.backend if receives else self.broker.frontend))
        (self.receivers if receives else self.senders)[number] = made
        return number

    def say(self, who: int, body: Body) -> None:
        mark = b"%d/%d;" % (who, len(self.sent))
        frames = frames_of(mark, body)
        self.sent[mark] = frames
        self.senders[who].send_multipart(frames if self.sender_type == zmq.PUSH else [b"", *frames])

    def take(self, who: int) -> bool:
        """Take a message, if there is one; a worker answers."""
        receiver = self.receivers[who]
        if not receiver.poll(0):
            return False
        frames = receiver.recv_multipart()
        if self.receiver_type != zmq.PULL:
            receiver.send_multipart(frames)
        body = frames[2:] if self.receiver_type == zmq.DEALER else frames
        assert self.sent[body[0]] == body, "a message is torn"
        self.taken.append((who, body[0]))
        return True

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
        assert sorted(marks) == sorted(self.sent)
        ways = defaultdict(list)
        for who, mark in self.taken:
            sender, number = mark.rstrip(b";").split(b"/")
            ways[who, sender].append(int(number))
        for way in ways.values():
            assert way == sorted(way)


def answers_arrive(peers: Peers, who: int) -> None:
    """Each request of this client is answered, once, in the order of the worker that it went to, and whole."""
    client = peers.senders[who]
    expected = {mark for mark in peers.sent if mark.startswith(b"%d/" % who)}
    given: list[bytes] = []
    while len(given) < len(expected):
        delimiter, *frames = client.recv_multipart()
        assert delimiter == b""
        assert frames == peers.sent[frames[0]]
        given.append(frames[0])
    assert set(given) == expected
    for worker in {who for who, _ in peers.taken}:
        of_worker = [mark for taker, mark in peers.taken if taker == worker and mark in expected]
        assert [mark for mark in given if mark in set(of_worker)] == of_worker


def leave(engine: Engine, peers: Peers, step: Leave, transport: str) -> None:
    """A peer leaves. What is sent to a receiver before the broker knows that it has gone is lost, so the broker has
    to be asked; at a port of libzmq it cannot be, and its receivers stay."""
    here = peers.receivers if step.receives else peers.senders
    if not here or (step.receives and transport == "libzmq"):
        return
    who = sorted(here)[step.who % len(here)]
    if step.receives:
        wait_until(lambda: peer_count(engine, peers.broker, "backend") == len(here))
    if step.receives or peers.sender_type != zmq.PUSH:
        peers.settle()
    if not step.receives and peers.sender_type != zmq.PUSH:
        answers_arrive(peers, who)
    here.pop(who).close()
    if step.receives:
        wait_until(lambda: peer_count(engine, peers.broker, "backend") == len(here))


def run(engine: Engine, context: zmq.Context[Socket], transport: str, schedule: Schedule, queue: bool) -> None:
    """Run a schedule, and compare what has come with what has to."""
    hwm = {"sndhwm": schedule.hwm}
    broker = engine.add(
        "a", _PATIENT_QUEUE if queue else STREAMER,
        frontend=PLACES[schedule.place], backend=PLACES[schedule.place], transport=transport,
        frontend_options={} if queue else hwm, backend_options=hwm,
    )  # fmt: skip
    types = (zmq.DEALER, schedule.worker_type) if queue else (zmq.PUSH, zmq.PULL)
    with ExitStack() as ends:
        ends.callback(broker.remove, timeout_s=0)
        peers = Peers(context, broker, ends, *types)
        peers.join(False)
        for step in schedule.steps:
            match step:
                case Join(receives):
                    peers.join(receives)
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
        if queue:
            for who in peers.senders:
                answers_arrive(peers, who)
        count = len(peers.sent)
        for flow in broker.statistics().flows.values():
            wait_until(lambda f=flow.source: broker.statistics().flows[f].sent == count)  # type: ignore[misc]
            assert balanced(flow)


_few: Final = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def engines(make_engine: MakeEngine) -> Callable[[int], Engine]:
    """Engines by how many messages they move at a time, which go on through all examples."""
    made: dict[int, Engine] = {}

    def get(burst: int) -> Engine:
        if burst not in made:
            made[burst] = make_engine(burst_messages=burst)
            made[burst].start()
        return made[burst]

    return get


@pytest.mark.slow
@pytest.mark.parametrize("queue", [False, True], ids=["STREAMER", "QUEUE"])
def test_both_transports_keep_the_model(
    engines: Callable[[int], Engine], context: zmq.Context[Socket], queue: bool
) -> None:
    @_few
    @given(_schedules)
    def check(schedule: Schedule) -> None:
        for transport in ("wire", "libzmq"):
            run(engines(schedule.burst), context, transport, schedule, queue)

    check()


# -- subscriptions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subscribe:
    """A subscriber subscribes, or cancels."""

    who: int
    topic: bytes
    cancels: bool


@dataclass(frozen=True)
class Publish:
    """A publisher publishes a message under each of these topics."""

    who: int
    topics: tuple[bytes, ...]


_topics = st.text("ab", max_size=3).map(str.encode)
_news = st.lists(
    st.one_of(
        st.builds(Subscribe, _numbers, _topics, st.booleans()),
        st.builds(Publish, _numbers, st.lists(_topics, min_size=1, max_size=10).map(tuple)),
        st.builds(Leave, st.just(True), _numbers),
    ),
    min_size=5,
    max_size=20,
)


class Subscriber:
    """A subscriber, what it has subscribed to, and what it has to be given."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.topics: list[bytes] = []
        self.expected: list[list[bytes]] = []

    def change(self, topic: bytes, *, cancels: bool) -> None:
        if not cancels:
            self.topics.append(topic)
            self.socket.subscribe(topic)
        elif topic in self.topics:
            self.topics.remove(topic)
            self.socket.unsubscribe(topic)

    def wants(self, topic: bytes) -> bool:
        return any(topic.startswith(prefix) for prefix in self.topics)

    def check(self) -> None:
        """It is given what it has to be, in order, and nothing else."""
        for expected in self.expected:
            assert self.socket.recv_multipart() == expected
        self.expected.clear()
        assert not self.socket.poll(0)


class Newsroom:
    """A FORWARDER with publishers and subscribers."""

    def __init__(self, context: zmq.Context[Socket], broker: Broker, ends: ExitStack) -> None:
        self._peers = Peers(context, broker, ends, zmq.PUB, zmq.SUB)
        self.publishers = [self._peers.socket(zmq.XPUB, xpub_verboser=1) for _ in range(2)]
        for publisher in self.publishers:
            publisher.connect(endpoint(broker.frontend))
        self._broker = broker
        self.subscribers: list[Subscriber] = []
        self._steps = 0
        self._witness = self._new_subscriber()
        self._witness.change(b"~", cancels=False)
        self.synchronise(self._witness)
        for _ in range(2):
            self.join()

    def _new_subscriber(self) -> Subscriber:
        socket = self._peers.socket(zmq.SUB)
        socket.connect(endpoint(self._broker.backend))
        return Subscriber(socket)

    def join(self) -> None:
        self.subscribers.append(self._new_subscriber())
        self.synchronise(self.subscribers[-1])

    def synchronise(self, subscriber: Subscriber) -> None:
        """Wait until every publisher knows what this subscriber has subscribed to: it knows of the last subscription
        then, too, which is to a topic of its own."""
        self._steps += 1
        topic = b"!%d" % self._steps
        subscriber.socket.subscribe(topic)
        for publisher in self.publishers:
            while publisher.recv() != b"\x01" + topic:
                pass
        # The broker knew it before the publishers.
        subscriber.socket.unsubscribe(topic)

    def publish(self, step: Publish, number: int) -> None:
        publisher = self.publishers[step.who % len(self.publishers)]
        for topic in step.topics:
            message = [topic, b"%d" % number, topic * 50]
            publisher.send_multipart(message)
            for subscriber in self.subscribers:
                if subscriber.wants(topic):
                    subscriber.expected.append(message)
        # Where nobody wants a message, nothing else tells when it has passed the broker.
        publisher.send(b"~")
        self._witness.expected.append([b"~"])
        for subscriber in (self._witness, *self.subscribers):
            if subscriber is not self._witness and subscriber.wants(b"~"):
                subscriber.expected.append([b"~"])
            subscriber.check()


@pytest.mark.slow
def test_both_transports_keep_to_the_subscriptions(
    engines: Callable[[int], Engine], context: zmq.Context[Socket]
) -> None:
    @_few
    @given(_news, st.sampled_from(["tcp", "ipc"]))
    def check(news: list[Any], place: str) -> None:
        for transport in ("wire", "libzmq"):
            engine = engines(1000)
            broker = engine.add("f", FORWARDER, frontend=PLACES[place], backend=PLACES[place], transport=transport)
            with ExitStack() as ends:
                ends.callback(broker.remove, timeout_s=0)
                room = Newsroom(context, broker, ends)
                for number, step in enumerate(news):
                    match step:
                        case Subscribe(who, topic, cancels):
                            subscriber = room.subscribers[who % len(room.subscribers)]
                            subscriber.change(topic, cancels=cancels)
                            room.synchronise(subscriber)
                        case Publish():
                            room.publish(step, number)
                        case Leave(_, who):
                            room.subscribers.pop(who % len(room.subscribers)).socket.close(linger=0)
                            room.join()

    check()
