"""A behaviour: a device that decides for itself what becomes of each message, as a state machine without I/O.

A handler is given one message and answers at once. A behaviour may keep a message, wait for a worker, act at a time, or
leave a source unread for now. There is no socket, no thread and no clock in it: it is told what has happened, and asks
for what is to be done. So the same class works in an engine and, with `pollbroker.testing.drive`, in a plain test.

    class Balancer(Behaviour):
        def __init__(self):
            self.free = deque()

        def on_start(self):
            self.close("frontend")  # until a worker is free

        def on_message(self, port, frames):
            if port == "backend":
                worker, _, *reply = frames
                self.free.append(worker)
                self.open("frontend")
                if reply != [b"READY"]:
                    self.send("frontend", reply)
            else:
                self.send("backend", [self.free.popleft(), b"", *frames])
                if not self.free:
                    self.close("frontend")

    Device("balancer", ports={"frontend": zmq.ROUTER, "backend": zmq.ROUTER}, behaviour=Balancer)
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar, Literal, Protocol, TypeAlias

from pollbroker.errors import BehaviourError

IfFull: TypeAlias = Literal["hold", "tell"]


class Actions(Protocol):
    """What a behaviour asks for; its own methods of the same names say more."""

    def send(self, port: str, frames: Sequence[bytes], if_full: IfFull) -> None: ...

    def open(self, port: str) -> None: ...

    def close(self, port: str) -> None: ...

    def set_timer(self, key: Hashable, delay_s: float) -> None: ...

    def cancel_timer(self, key: Hashable) -> None: ...

    def count(self, name: str, by: int) -> None: ...

    def now_s(self) -> float: ...


class Behaviour(ABC):
    """What a device does, where routes are not enough. Each broker of the device has one of its own.

    A subclass has `on_message`, and whatever else it needs of the methods that begin with `on_`. The engine calls them
    one at a time, in its own thread; all brokers wait meanwhile. What they ask for is done when they have returned;
    messages are sent in the order in which that was asked.

    **Exceptions.** If one of these methods raises, nothing that it asked for in that call is done, the message is
    dropped and counted as `failed`, and the error is logged once a second. The broker goes on. So that its own
    attributes are whole then, a method checks a message first and changes attributes last.

    **The account.** For the broker as a whole, received + added = sent + held + dropped, as for every flow. `held` is
    what the behaviour says that it keeps, and what waits for a port that is full. A message of which a call has neither
    sent nor kept anything counts as `filtered`; messages beyond the first as `added`.
    """

    max_held: int = 0
    """The most messages that it ever keeps. A behaviour that keeps any has to say so, and to close its sources in time.
    A broker whose behaviour keeps more fails with `BehaviourError`."""

    request_ports: ClassVar[Sequence[str]] = ()
    """The ports from which requests come that are answered later. A broker that is to end takes none of them while it
    waits for answers; see `outstanding`."""

    peers: ClassVar[Mapping[str, str]] = {}
    """Who connects to each port, in words, such as `{"backend": "REQ workers"}`; the command line shows it."""

    actions: Actions | None = None
    """Set by whoever runs the behaviour, before `on_start`."""

    @property
    def held(self) -> int:
        """How many messages it keeps now. To be overridden by a behaviour that keeps any."""
        return 0

    @property
    def outstanding(self) -> int:
        """How many requests it has passed on that may yet be answered. A broker that is drained and removed
        (`Engine.remove`) waits for the answers, as it does for `held` messages. To be overridden by a behaviour that
        passes on requests without keeping them."""
        return 0

    # -- what happens: to be overridden -------------------------------------------------------------------------------

    def on_start(self) -> None:  # noqa: B027 - most have nothing to do
        """The broker begins. All sources are open."""

    @abstractmethod
    def on_message(self, port: str, frames: list[bytes]) -> None:
        """A message has come from a port. From a ROUTER the routing id is the first frame."""

    def on_timer(self, key: Hashable) -> None:  # noqa: B027
        """The time of a timer has come."""

    def on_refused(self, port: str, frames: list[bytes]) -> None:  # noqa: B027
        """A port that is full has refused a message that was sent with `if_full="tell"`. If nothing is done with it, it
        is dropped, and counted as `filtered`. When there is room again, `on_room` is called."""

    def on_room(self, port: str) -> None:  # noqa: B027
        """A port that had refused a message, as `on_refused` said, may have room again. It may refuse again, and then
        this is called again when there may be room. So no timer is needed to try again; one of 0 s would keep the loop
        awake."""

    def on_dropped(self, port: str, frames: list[bytes]) -> None:  # noqa: B027
        """A message that was sent has been dropped, and counted by the port: a ROUTER has no peer of this routing id
        any more (`unroutable`), or the peer is full (`slow_peer`). libzmq's ROUTER tells this if it has the option
        `router_mandatory`. A message that is sent in its place counts as `added`."""

    def on_stop(self) -> None:  # noqa: B027
        """The broker is about to be removed. What is sent now still goes out, if there is room in time. No message is
        read any more."""

    def on_end(self) -> None:  # noqa: B027
        """The broker has ended, for whatever reason: it was removed, it has failed, or its context was terminated.
        Nothing can be asked for any more. This is the place to release what the behaviour has, such as a file."""

    def is_lost(self, port: str, frames: list[bytes]) -> bool:  # noqa: ARG002
        """A message has come that nobody reads any more, since the broker ends. Return False if nothing is lost with
        it, because it is a heartbeat, say; then it does not count as `unread`. This is called after `on_stop`, and
        nothing can be asked for. Of very many messages only the first are looked at, and the others count."""
        return True

    # -- what it may ask for ------------------------------------------------------------------------------------------

    def send(self, port: str, frames: Sequence[bytes], *, if_full: IfFull = "hold") -> None:
        """Send a message to a port.

        Arguments:
            frames: one or more frames. To a ROUTER, the routing id of the peer comes first.
            if_full: what happens if the port is full. With "hold" the message waits for room, in order; as long as it
                does, no other port is read, so that nothing piles up. With "tell" the behaviour is given it back by
                `on_refused`, and so are those behind it that were sent in the same call: none overtakes another.

        Raises `BehaviourError` if there is no such port, if it cannot send, or if `frames` is not a message.
        """
        (self.actions or self._act()).send(port, frames, if_full)

    def open(self, port: str) -> None:
        """Read this port again. Does nothing if it is open. Raises `BehaviourError` if there is no such source."""
        self._act().open(port)

    def close(self, port: str) -> None:
        """Do not read this port until `open`. Its messages wait in the queues of the sockets, and hold up the peers in
        the end. Raises as `open`."""
        self._act().close(port)

    def set_timer(self, key: Hashable, delay_s: float) -> None:
        """Have `on_timer(key)` called after `delay_s` seconds. A timer of the same key is set anew."""
        self._act().set_timer(key, delay_s)

    def cancel_timer(self, key: Hashable) -> None:
        """Cancel a timer. Does nothing if there is none of this key."""
        self._act().cancel_timer(key)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter of the behaviour's own, such as `expired`. `BrokerStatistics.counters` has them all."""
        self._act().count(name, by)

    @property
    def log(self) -> logging.Logger:
        """A logger for what an operator should know; its name is `pollbroker.` and the name of the class. A line for
        each message would cost more than the message."""
        return logging.getLogger(f"pollbroker.{type(self).__name__}")

    @property
    def now_s(self) -> float:
        """The time in seconds, of a clock that never goes back."""
        return self._act().now_s()

    def _act(self) -> Actions:
        if self.actions is None:
            raise BehaviourError(f"{type(self).__name__} is at work in no broker; expected an engine or `drive`")
        return self.actions
