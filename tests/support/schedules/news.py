"""Schedules of subscribers and publishers, and the model of what each subscriber has to be given."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import zmq

from pollbroker import FILTER, FORWARDER, Broker, Device, Engine
from tests.support.addresses import endpoint
from tests.support.deadline import wait_until
from tests.support.schedules.peers import Library, PeerSocket, receive_in_time
from tests.support.schedules.steps import NewsSchedule, Publish, Replace, Subscribe
from tests.wire.places import PLACES


@dataclass(frozen=True)
class Distribution:
    """A device that passes on what publishers send.

    Attributes:
        forwards_subscriptions: an XPUB at the frontend is told what the subscribers have subscribed to.
        publishers, subscribers: the types of the sockets that connect to the frontend, and to the backend.
    """

    device: Device
    forwards_subscriptions: bool
    publishers: tuple[int, ...] = (zmq.XPUB, zmq.PUB)
    subscribers: tuple[int, ...] = (zmq.SUB, zmq.XSUB)


DISTRIBUTIONS: Final = {
    "FORWARDER": Distribution(FORWARDER, forwards_subscriptions=True),
    "FILTER": Distribution(FILTER, forwards_subscriptions=False),
}

_PROBE: Final = b"!"
"""What the topics of probes begin with. No other topic does."""


class Subscriber:
    """A subscriber, what it has subscribed to, and what it has to be given."""

    def __init__(self, kind: int, socket: PeerSocket) -> None:
        self.socket = socket
        self.topics: list[bytes] = []
        self.expected: list[list[bytes]] = []
        self._kind = kind

    def subscribe(self, topic: bytes) -> None:
        if self._kind == zmq.XSUB:
            self.socket.send([b"\x01" + topic])
        else:
            self.socket.subscribe(topic)

    def unsubscribe(self, topic: bytes) -> None:
        if self._kind == zmq.XSUB:
            self.socket.send([b"\x00" + topic])
        else:
            self.socket.unsubscribe(topic)

    def change(self, topic: bytes, *, cancels: bool) -> None:
        if not cancels:
            self.topics.append(topic)
            self.subscribe(topic)
        elif topic in self.topics:
            self.topics.remove(topic)
            self.unsubscribe(topic)

    def wants(self, topic: bytes) -> bool:
        return any(topic.startswith(prefix) for prefix in self.topics)

    def receive(self) -> list[bytes]:
        """The next message that is not a probe."""
        while (frames := receive_in_time(self.socket))[0].startswith(_PROBE):
            pass
        return frames

    def check(self) -> None:
        """It is given what it has to be, in order, and nothing else."""
        for expected in self.expected:
            assert self.receive() == expected, "another message came than the next one that was subscribed to"
        self.expected.clear()
        while (frames := self.socket.receive()) is not None:
            assert frames[0].startswith(_PROBE), "a message came that was not subscribed to, or came twice"


class Newsroom:
    """A broker with publishers and subscribers."""

    def __init__(self, library: Library, broker: Broker, distribution: Distribution, ends: ExitStack) -> None:
        self._library = library
        self._broker = broker
        self._distribution = distribution
        self._ends = ends
        kinds = [distribution.publishers[number % len(distribution.publishers)] for number in range(2)]
        self.publishers = [(kind, self._socket(kind, endpoint(broker.frontend))) for kind in kinds]
        self.subscribers: list[Subscriber] = []
        self._steps = 0
        self._witness = self._new_subscriber(distribution.subscribers[0])
        self._witness.change(b"~", cancels=False)
        self.synchronise(self._witness)
        for number in range(2):
            self.join(number)

    def _socket(self, kind: int, address: str) -> PeerSocket:
        made = self._library.socket(kind)
        self._ends.callback(made.close, linger_s=0)
        made.connect(address)
        return made

    def _new_subscriber(self, kind: int) -> Subscriber:
        return Subscriber(kind, self._socket(kind, endpoint(self._broker.backend)))

    def join(self, number: int) -> None:
        kinds = self._distribution.subscribers
        self.subscribers.append(self._new_subscriber(kinds[number % len(kinds)]))
        self.synchronise(self.subscribers[-1])

    def replace(self, who: int, number: int) -> None:
        self.subscribers.pop(who % len(self.subscribers)).socket.close(linger_s=0)
        self.join(number)

    def synchronise(self, subscriber: Subscriber) -> None:
        """Wait until every publisher knows what this subscriber has subscribed to: it knows of the last subscription
        then, too, which is to a topic of its own. A publisher that is not told sends probes until one arrives."""
        self._steps += 1
        topic = b"%s%d" % (_PROBE, self._steps)
        subscriber.subscribe(topic)
        for number, (kind, publisher) in enumerate(self.publishers):
            if kind == zmq.XPUB and self._distribution.forwards_subscriptions:
                while receive_in_time(publisher) != [b"\x01" + topic]:
                    pass
            else:
                wait_until(partial(self._arrives, publisher, subscriber, [topic, b"%d" % number]))
        # The broker knew it before the publishers.
        subscriber.unsubscribe(topic)

    @staticmethod
    def _arrives(publisher: PeerSocket, subscriber: Subscriber, probe: list[bytes]) -> bool:
        """Send a probe, and return True if it, or an equal one before it, has come."""
        publisher.send(probe)
        while (frames := subscriber.socket.receive(0.01)) is not None:
            assert frames[0].startswith(_PROBE), "a message came that was not subscribed to, or came twice"
            if frames == probe:
                return True
        return False

    def publish(self, step: Publish, number: int) -> int:
        """Publish, and check what every subscriber is given. Returns how many messages were published."""
        _, publisher = self.publishers[step.who % len(self.publishers)]
        for topic in step.topics:
            message = [topic, b"%d" % number, topic * 50]
            publisher.send(message)
            for subscriber in self.subscribers:
                if subscriber.wants(topic):
                    subscriber.expected.append(message)
        # Where nobody wants a message, nothing else tells when it has passed the broker.
        publisher.send([b"~"])
        self._witness.expected.append([b"~"])
        for subscriber in (self._witness, *self.subscribers):
            if subscriber is not self._witness and subscriber.wants(b"~"):
                subscriber.expected.append([b"~"])
            subscriber.check()
        return len(step.topics) + 1


def run(engine: Engine, library: Library, transport: str, schedule: NewsSchedule, distribution: Distribution) -> int:
    """Run a schedule, and compare what every subscriber is given with what it has to be. Returns how many messages were
    published, without the probes."""
    place, published = PLACES[schedule.place], 0
    broker = engine.add("f", distribution.device, frontend=place, backend=place, transport=transport)
    with ExitStack() as ends:
        ends.callback(broker.remove, timeout_s=0)
        room = Newsroom(library, broker, distribution, ends)
        for number, step in enumerate(schedule.steps):
            match step:
                case Subscribe(who, topic, cancels):
                    subscriber = room.subscribers[who % len(room.subscribers)]
                    subscriber.change(topic, cancels=cancels)
                    room.synchronise(subscriber)
                case Publish():
                    published += room.publish(step, number)
                case Replace(who, kind):
                    room.replace(who, kind)
    return published
