"""The situations that a relay is put into: small schedules, each for one thing that brokers are known to do wrong.

What varies with the seed is what the messages are made of, and which sockets the peers of the first have. The rest is
fixed: a schedule is made so that its outcome does not depend on when the relay does what.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zmq import SocketType

from pollbroker.device import Device
from pollbroker.errors import DeviceError
from pollbroker.testing.peers import Peer
from pollbroker.testing.relay.stand import Stand

_SMALL: Final = 2
"""A high-water mark that is soon reached: twice as many messages lie at most between the relay and a peer."""

_A_WHILE_S: Final = 0.3
"""How long a slow peer lets the others wait who have to wait for it; if they need not, it waits for them instead."""

_SOURCES: Final = (SocketType.ROUTER, SocketType.DEALER, SocketType.PULL, SocketType.XSUB)
_SINKS: Final = (SocketType.ROUTER, SocketType.DEALER, SocketType.PUSH, SocketType.XPUB)

_T: Final = SocketType


@dataclass(frozen=True)
class Situation:
    """One situation.

    Attributes:
        name: what tables call it.
        play: the schedule.
        applies: whether it can be at a device.
        mark: the high-water marks of the relay's sockets.
        no_drop: whether a publishing backend is told to refuse rather than drop (XPUB_NODROP).
    """

    name: str
    play: Callable[[Stand], None]
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
    """Whether replies find their requesters by routing id."""
    return _front(device) is _T.ROUTER and _goes_back(device)


def _goes_back(device: Device) -> bool:
    """Whether anything travels from the backend to the frontend: replies, or subscriptions."""
    goes = any(route.source == "backend" for route in device.routes)
    return goes and _front(device) in (_T.ROUTER, _T.XSUB) and _is_plain(device)


def check_supported(device: Device) -> None:
    """Raise `DeviceError` if the peers of such a device are not known here."""
    front, back = device.types_of("frontend"), device.types_of("backend")
    forth = any(route.source == "frontend" and route.sink == "backend" for route in device.routes)
    if not forth or front[0] not in _SOURCES or back[0] not in _SINKS:
        raise DeviceError(
            f"device {device.name}: expected a frontend of {', '.join(one.name for one in _SOURCES)} and a backend of "
            f"{', '.join(one.name for one in _SINKS)}, with a route from the one to the other"
        )


# -- the situations ----------------------------------------------------------------------------------------------------


def _plain_traffic(stand: Stand) -> None:
    """Several peers at each side, messages of several frames, everybody takes what comes."""
    client, worker = None, None
    if stand.replies_are_addressed:
        client, worker = stand.draw.choice((_T.DEALER, _T.REQ)), stand.draw.choice((_T.DEALER, _T.REP))
    for _ in range(2):
        stand.join("backend", kind=worker)
    clients = [stand.join("frontend", kind=client), stand.join("frontend"), stand.join("frontend")]
    if stand.await_subscriptions():
        for one in clients:
            stand.send(one, 15)
        stand.finish()


def _slow_consumer(stand: Stand) -> None:
    """Small high-water marks everywhere, and a consumer that takes one message at a time: nothing may be lost."""
    consumer = stand.join("backend", mark=_SMALL, reads=False)
    publishes = stand.paths["frontend"].to_many
    # A publisher's own high-water mark is where libzmq drops. Replies are to have room: they are not the matter here.
    clients = [stand.join("frontend", sending_mark=0 if publishes else _SMALL) for _ in range(2)]
    if stand.await_subscriptions():
        for one in clients:
            stand.send(one, 20)
        stand.finish(lambda: stand.take(consumer, 1))


def _slow_client(stand: Stand) -> None:
    """A client that takes its replies late: they wait, or are counted as dropped; they are not lost in silence."""
    stand.join("backend")
    late, other = stand.join("frontend", mark=_SMALL, reads=False), stand.join("frontend")
    stand.send(late, 30)
    stand.until(lambda: stand.replies_to(late) == 30, most_s=_A_WHILE_S)
    stand.send(other, 1)  # when that is back, all that was for the late one was dealt with, if nobody waits for it
    stand.until(lambda: stand.taken(other) == 1, most_s=_A_WHILE_S)
    stand.reading.add(late)
    stand.finish()


def _stalled_consumer(stand: Stand) -> None:
    """One consumer takes nothing, another takes what comes: that one is served."""
    stand.join("backend", mark=_SMALL, reads=False)
    reader = stand.join("backend")
    client = stand.join("frontend")
    if stand.await_subscriptions():
        count = 40
        stand.send(client, count)
        least = count if stand.paths["frontend"].to_many else count - 2 * _SMALL
        stand.serve(reader, least, "what the other has no room for", "another consumer took nothing")


def _stalled_client(stand: Stand) -> None:
    """One client never takes its replies: the others are served."""
    stand.join("backend")
    stalled = stand.join("frontend", mark=_SMALL, reads=False)
    other = stand.join("frontend")
    stand.send(stalled, 30)
    for number in range(1, 13):  # one after the other, so that meanwhile more replies are due to the stalled one
        stand.send(other, 1)
        if not stand.serve(other, number, "its replies", f"{stalled.name} took none of its own"):
            break


def _stalled_direction(stand: Stand) -> None:
    """What goes forth stands still, because its only consumer takes nothing: what goes back goes on."""
    client = stand.join("frontend")
    if stand.paths["frontend"].to_many:
        stalled = stand.join("backend", mark=_SMALL, reads=False)
        reader = stand.join("backend")
        if not stand.await_subscriptions():
            return
        stand.send(client, 20)
        # As many as the other has room for; the relay is at the next one when the subscription comes.
        if not stand.serve(reader, 2 * _SMALL, "what was published", "another subscriber took nothing"):
            return
        stand.join("backend", topic=b"late")
        served = stand.hear(client, b"late", "a subscriber took nothing")
    else:
        stand.send(client, 40)  # before anybody is there, so that the relay has them all to send at once
        stalled = stand.join("backend", mark=_SMALL, reads=False)
        stand.until(lambda: stand.taken(stalled) == 1, deed=lambda: stand.take(stalled, 1 - stand.taken(stalled)))
        # More than can pass before the requests fill the worker's pipe, even if the relay takes from both in turn.
        count = 20
        stand.send(stalled, count, to=client)
        served = stand.serve(client, count, "what a worker sent it", "that worker took no requests")
    if served:
        stand.reading.add(stalled)
        stand.finish()


def _leaver(stand: Stand) -> None:
    """A consumer leaves with messages on their way to it; the relay and the others do not mind."""
    if stand.replies_are_addressed:
        _leaving_client(stand)
        return
    leaver = stand.join("backend", mark=_SMALL, reads=False)
    other = stand.join("backend")
    client = stand.join("frontend")
    if stand.await_subscriptions():
        stand.send(client, 20)
        stand.serve(other, 1, "a message", "another consumer took nothing")
        stand.leave(leaver)
        leaver.look()
        stand.send(client, 20)
        stand.finish()


def _leaving_client(stand: Stand) -> None:
    """A client leaves with replies pending: they are its loss, and nobody else's."""
    worker = stand.join("backend")
    stand.silent.add(worker)
    leaver, other = stand.join("frontend"), stand.join("frontend")
    stand.send(leaver, 10)
    if not stand.serve(worker, 10, "the requests", "nobody stood still"):
        return
    stand.leave(leaver)
    # The relay's socket has two commands to process for that, and does so at the latest when it next receives after
    # each of them; libzmq's own thread has no part in it.
    for number in (1, 2):
        stand.send(other, 1)
        if not stand.serve(worker, 10 + number, "a request", "nobody stood still"):
            return
        leaver.look()
    stand.silent.discard(worker)
    stand.send(other, 10)
    stand.finish()


def _consumer_away(stand: Stand) -> None:
    """Messages wait and nobody is there to take them: the relay sleeps. When somebody comes, all of them arrive."""
    client = stand.join("frontend")
    consumer: Peer | None = None
    if stand.paths["frontend"].to_many:  # without a subscriber nothing would wait
        consumer = stand.join("backend", mark=_SMALL, reads=False)
        if not stand.await_subscriptions():
            return
    stand.send(client, 100)
    stand.measure()
    stand.reading.add(consumer or stand.join("backend"))
    stand.finish()


def _end_in_traffic(stand: Stand) -> None:
    """The context ends while messages are on their way, and one consumer is stalled: the relay returns."""
    stand.join("backend", mark=_SMALL, reads=False)
    reader = stand.join("backend")
    clients = [stand.join("frontend", mark=_SMALL, sending_mark=_SMALL) for _ in range(2)]
    if stand.await_subscriptions():
        for one in clients:
            stand.send(one, 500)
        stand.until(lambda: stand.taken(reader) >= 50, most_s=1.0)


def _bare_between_routers(stand: Stand) -> None:
    """Between two ROUTERs, which swap the routing ids: a message that has nothing behind them, and one that has."""
    receiver = stand.join("backend")
    senders = [stand.join("frontend") for _ in range(2)]
    stand.send(senders[0], 3, to=receiver)
    if stand.serve(receiver, 3, "what was sent to it", "nobody stood still"):
        stand.send(senders[0], 1, to=receiver, bare=True)
        stand.send(senders[0], 2, to=receiver)
        stand.finish()


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
    """The names of those that can be at a device. Raises `DeviceError` if its peers are not known here."""
    check_supported(device)
    return tuple(name for name, one in SITUATIONS.items() if one.applies(device))
