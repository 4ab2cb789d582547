"""The situations in which a relay is tested: small schedules, each for one thing that brokers are known to do wrong.

The seed decides what the messages carry, and which socket types the peers in "plain traffic" have. Everything else is
fixed, and the outcome of a schedule does not depend on the order in which the relay serves its sockets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zmq import SocketType

from pollbroker.device import Device
from pollbroker.errors import DeviceError
from pollbroker.testing.peers import Peer
from pollbroker.testing.relay.harness import RelayHarness

_SMALL: Final = 2
"""A high-water mark that is soon reached. At most twice as many messages wait between the relay and a peer."""

_A_WHILE_S: Final = 0.3
"""How long a slow peer does not read, if the relay makes the others wait for it. If the relay does not, the slow peer
begins to read as soon as the others have been served."""

_SOURCES: Final = (SocketType.ROUTER, SocketType.DEALER, SocketType.PULL, SocketType.XSUB)
_SINKS: Final = (SocketType.ROUTER, SocketType.DEALER, SocketType.PUSH, SocketType.XPUB)

_T: Final = SocketType


@dataclass(frozen=True)
class Situation:
    """One situation.

    Attributes:
        name: the name by which it is chosen, and which tables show.
        play: carries out the schedule.
        applies: returns True if the situation is possible with a device.
        mark: the high-water marks of the relay's sockets; 0 is no limit.
        no_drop: True if a publishing backend refuses a message rather than drop it (XPUB_NODROP).
    """

    name: str
    play: Callable[[RelayHarness], None]
    applies: Callable[[Device], bool]
    mark: int = 0
    no_drop: bool = False


# -- what applies where ------------------------------------------------------------------------------------------------


def _front(device: Device) -> SocketType:
    return device.types_of("frontend")[0]


def _back(device: Device) -> SocketType:
    return device.types_of("backend")[0]


def _is_switch(device: Device) -> bool:
    return _front(device) is _T.ROUTER and _back(device) is _T.ROUTER


def _is_plain(device: Device) -> bool:
    return not _is_switch(device)


def _replies(device: Device) -> bool:
    """Return True if replies find their requesters by routing id."""
    return _front(device) is _T.ROUTER and _goes_back(device)


def _goes_back(device: Device) -> bool:
    """Return True if anything travels from the backend to the frontend: replies, or subscriptions."""
    goes = any(route.source == "backend" for route in device.routes)
    return goes and _front(device) in (_T.ROUTER, _T.XSUB) and _is_plain(device)


def check_supported(device: Device) -> None:
    """Raise `DeviceError` if the situations cannot be played with the socket types of a device."""
    front, back = device.types_of("frontend"), device.types_of("backend")
    forth = any(route.source == "frontend" and route.sinks == ("backend",) for route in device.routes)
    if not forth or len(device.ports) > 2 or front[0] not in _SOURCES or back[0] not in _SINKS:
        raise DeviceError(
            f"device {device.name}: expected a frontend of {', '.join(one.name for one in _SOURCES)} and a backend of "
            f"{', '.join(one.name for one in _SINKS)}, no other port, and a route from the one to the other"
        )


# -- the situations ----------------------------------------------------------------------------------------------------


def _plain_traffic(harness: RelayHarness) -> None:
    """Several peers at each side exchange messages of several frames, and all of them read what comes."""
    client, worker = None, None
    if harness.replies_are_addressed:
        client, worker = harness.draw.choice((_T.DEALER, _T.REQ)), harness.draw.choice((_T.DEALER, _T.REP))
    for _ in range(2):
        harness.join("backend", kind=worker)
    clients = [harness.join("frontend", kind=client), harness.join("frontend"), harness.join("frontend")]
    if harness.await_subscriptions():
        for one in clients:
            harness.send(one, 15)
        harness.finish()


def _slow_consumer(harness: RelayHarness) -> None:
    """All high-water marks are small, and a consumer takes one message at a time. Nothing may be lost."""
    consumer = harness.join("backend", mark=_SMALL, reads=False)
    publishes = harness.paths["frontend"].only_sink.to_many
    # libzmq drops messages at a publisher's own high-water mark, so that has no limit. Replies have room too, because
    # this situation is about requests.
    clients = [harness.join("frontend", sending_mark=0 if publishes else _SMALL) for _ in range(2)]
    if harness.await_subscriptions():
        for one in clients:
            harness.send(one, 20)
        harness.finish(lambda: harness.take(consumer, 1))


def _slow_client(harness: RelayHarness) -> None:
    """A client takes its replies late. They wait, or are counted as dropped; they are not lost in silence."""
    harness.join("backend")
    late, other = harness.join("frontend", mark=_SMALL, reads=False), harness.join("frontend")
    harness.send(late, 30)
    harness.wait_until(lambda: harness.replies_sent_to(late) == 30, most_s=_A_WHILE_S)
    # When the reply to this request comes, the relay has dealt with every reply for the late client, unless it waits.
    harness.send(other, 1)
    harness.wait_until(lambda: harness.received_by(other) == 1, most_s=_A_WHILE_S)
    harness.reading.add(late)
    harness.finish()


def _stalled_consumer(harness: RelayHarness) -> None:
    """One consumer takes nothing. Another consumer reads what comes, and is served."""
    harness.join("backend", mark=_SMALL, reads=False)
    reader = harness.join("backend")
    client = harness.join("frontend")
    if harness.await_subscriptions():
        count = 40
        harness.send(client, count)
        least = count if harness.paths["frontend"].only_sink.to_many else count - 2 * _SMALL
        harness.expect_messages(reader, least, "what the other has no room for", "another consumer took nothing")


def _stalled_client(harness: RelayHarness) -> None:
    """One client never takes its replies. The other client is served."""
    harness.join("backend")
    stalled = harness.join("frontend", mark=_SMALL, reads=False)
    other = harness.join("frontend")
    harness.send(stalled, 30)
    for number in range(1, 13):  # one after the other, so that in between more replies are due to the stalled client
        harness.send(other, 1)
        if not harness.expect_messages(other, number, "its replies", f"{stalled.name} took none of its own"):
            break


def _stalled_direction(harness: RelayHarness) -> None:
    """Messages from the frontend stand still, because their only consumer takes nothing. The way back goes on."""
    client = harness.join("frontend")
    if harness.paths["frontend"].only_sink.to_many:
        stalled = harness.join("backend", mark=_SMALL, reads=False)
        reader = harness.join("backend")
        if not harness.await_subscriptions():
            return
        harness.send(client, 20)
        # This is as many messages as the stalled subscriber has room for. The relay tries to send the next one when the
        # subscription comes.
        if not harness.expect_messages(reader, 2 * _SMALL, "what was published", "another subscriber took nothing"):
            return
        harness.join("backend", topic=b"late")
        served = harness.expect_subscription(client, b"late", "a subscriber took nothing")
    else:
        harness.send(client, 40)  # before a worker is there, so that the relay can send all of them at once
        stalled = harness.join("backend", mark=_SMALL, reads=False)
        harness.wait_until(
            lambda: harness.received_by(stalled) == 1,
            each_turn=lambda: harness.take(stalled, 1 - harness.received_by(stalled)),
        )
        # More messages than can pass before the requests fill the worker's pipe, even if the relay alternates between
        # the directions.
        count = 20
        harness.send(stalled, count, to=client)
        served = harness.expect_messages(client, count, "what a worker sent it", "that worker took no requests")
    if served:
        harness.reading.add(stalled)
        harness.finish()


def _leaver(harness: RelayHarness) -> None:
    """A consumer leaves while messages are on their way to it. The relay goes on and serves the others."""
    if harness.replies_are_addressed:
        _leaving_client(harness)
        return
    leaver = harness.join("backend", mark=_SMALL, reads=False)
    other = harness.join("backend")
    client = harness.join("frontend")
    if harness.await_subscriptions():
        harness.send(client, 20)
        harness.expect_messages(other, 1, "a message", "another consumer took nothing")
        harness.leave(leaver)
        leaver.process_commands()
        harness.send(client, 20)
        harness.finish()


def _leaving_client(harness: RelayHarness) -> None:
    """A client leaves before its replies have come. Only those replies are lost."""
    worker = harness.join("backend")
    harness.not_answering.add(worker)
    leaver, other = harness.join("frontend"), harness.join("frontend")
    harness.send(leaver, 10)
    if not harness.expect_messages(worker, 10, "the requests", "every other peer read what came"):
        return
    harness.leave(leaver)
    # The relay's socket has two commands to process for that. It processes each of them at the latest when it next
    # receives a message; libzmq's own thread does nothing here.
    for number in (1, 2):
        harness.send(other, 1)
        if not harness.expect_messages(worker, 10 + number, "a request", "every other peer read what came"):
            return
        leaver.process_commands()
    harness.not_answering.discard(worker)
    harness.send(other, 10)
    harness.finish()


def _consumer_away(harness: RelayHarness) -> None:
    """Messages wait while no peer takes them, and the relay sleeps. When a peer takes them, all of them arrive."""
    client = harness.join("frontend")
    consumer: Peer | None = None
    if harness.paths["frontend"].only_sink.to_many:  # without a subscriber no message would wait
        consumer = harness.join("backend", mark=_SMALL, reads=False)
        if not harness.await_subscriptions():
            return
    harness.send(client, 100)
    harness.measure_activity()
    harness.reading.add(consumer or harness.join("backend"))
    harness.finish()


def _end_in_traffic(harness: RelayHarness) -> None:
    """The context ends while messages are on their way and one consumer takes nothing. The relay returns."""
    harness.join("backend", mark=_SMALL, reads=False)
    reader = harness.join("backend")
    clients = [harness.join("frontend", mark=_SMALL, sending_mark=_SMALL) for _ in range(2)]
    if harness.await_subscriptions():
        for one in clients:
            harness.send(one, 500)
        harness.wait_until(lambda: harness.received_by(reader) >= 50, most_s=1.0)


def _bare_between_routers(harness: RelayHarness) -> None:
    """A relay between two ROUTERs swaps the routing ids, both of a message that has no other frames and of one that
    has."""
    receiver = harness.join("backend")
    senders = [harness.join("frontend") for _ in range(2)]
    harness.send(senders[0], 3, to=receiver)
    if harness.expect_messages(receiver, 3, "what was sent to it", "every other peer read what came"):
        harness.send(senders[0], 1, to=receiver, bare=True)
        harness.send(senders[0], 2, to=receiver)
        harness.finish()


SITUATIONS: Final[dict[str, Situation]] = {
    one.name: one
    for one in (
        Situation("plain traffic", _plain_traffic, _is_plain),
        Situation("slow consumer", _slow_consumer, _is_plain, mark=_SMALL, no_drop=True),
        Situation("slow client", _slow_client, _replies, mark=_SMALL),
        Situation("stalled consumer", _stalled_consumer, _is_plain, mark=_SMALL),
        Situation("stalled client", _stalled_client, _replies, mark=_SMALL),
        Situation("stalled direction", _stalled_direction, _goes_back, mark=_SMALL, no_drop=True),
        Situation("peer leaves", _leaver, _is_plain, mark=_SMALL),
        Situation("consumer away", _consumer_away, _is_plain, mark=_SMALL, no_drop=True),
        Situation("end in traffic", _end_in_traffic, _is_plain, mark=_SMALL),
        Situation("bare between routers", _bare_between_routers, _is_switch),
    )
}
"""All situations by name."""


def situations_of(device: Device) -> tuple[str, ...]:
    """The names of the situations that are possible with a device.

    Raises `DeviceError` if no situation can be played with its socket types.
    """
    check_supported(device)
    return tuple(name for name, one in SITUATIONS.items() if one.applies(device))
