"""Scenarios: everything that decides a run, as plain data that can be printed, compared, shrunk and run again.

A scenario is a topology (the devices, how they are chained, and their limits) and a schedule (which peer acts when, and
how much). It says nothing about the environment in which it runs: simulated or real sockets, one pump or the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from zmq import SocketType

from pollbroker.device import Device
from pollbroker.errors import DeviceError, did_you_mean
from pollbroker.frozen import FrozenDict
from pollbroker.testing.devices import as_python
from pollbroker.testing.peer_types import check_can_be_judged, has_usual_ports, peer_types

Side: TypeAlias = str
"""A side of a line, at which peers connect: the name of a port of its device."""


class PrintedAsPython:
    """A base class: an instance is printed as the Python expression that makes it."""

    def __repr__(self) -> str:
        return as_python(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - hypothesis and IPython pass both
        """Print the same for hypothesis, which would print an enum in a form that is not valid Python."""
        for number, line in enumerate(str(self).splitlines()):
            if number:
                printer.break_()
            printer.text(line)


class Action(StrEnum):
    """What a step does."""

    JOIN = "join"
    """A peer connects, perhaps late. A peer that is to send, answer or subscribe connects first, if it has not yet."""
    LEAVE = "leave"
    """A peer disconnects, even if messages are on their way to it."""
    REJOIN = "rejoin"
    """A peer leaves and joins again at once. It has the same routing id if its broker has noticed that it left."""
    SEND = "send"
    """A peer sends up to `count` messages, as far as its socket takes them."""
    TAKE = "take"
    """A peer receives up to `count` messages. A peer that is never told to is a stalled reader."""
    ANSWER = "answer"
    """A worker receives up to `count` messages and answers each with a message that has a mark of its own."""
    SUBSCRIBE = "subscribe"
    """A subscriber subscribes to the topic with the number `count`."""
    UNSUBSCRIBE = "unsubscribe"
    """A subscriber unsubscribes from the topic with the number `count`."""
    COPY = "copy"
    """The reader of the capture socket takes up to `count` copies."""
    PAUSE = "pause"
    """The brokers of a line are paused."""
    RESUME = "resume"
    """The brokers of a line are resumed."""
    REPLACE = "replace"
    """A line of brokers is removed, and another added in its place."""
    TURN = "turn"
    """The engine makes `count` turns."""
    REST = "rest"
    """The engine runs until it sleeps."""
    WAIT = "wait"
    """`count` milliseconds pass."""
    SHUT_DOWN = "shut down"
    """The context is terminated. The steps after this one have no effect."""


@dataclass(frozen=True, repr=False)
class Step(PrintedAsPython):
    """One step of a schedule. An action uses only the fields that it needs."""

    action: Action
    line: int = 0
    """The number of the line, counted from 0."""
    side: Side = "frontend"
    """The side of the line at which the peer is: the name of a port. Any other name means the device's first port."""
    who: int = 0
    """The number of the peer at its side, counted from 0."""
    count: int = 1
    """How many messages or turns; see `Action`."""
    meanwhile: "tuple[Meanwhile, ...]" = ()
    """The steps that peers take while the engine makes this turn or rests."""


@dataclass(frozen=True, repr=False)
class Meanwhile(PrintedAsPython):
    """A step that is taken while the engine is at work."""

    after: int
    """After how many operations of the engine on sockets the step is taken."""
    step: Step


@dataclass(frozen=True, repr=False)
class LinePlan(PrintedAsPython):
    """A line: one broker, or a chain of several brokers of one device, and the types of the peers at its ends.

    Raises `DeviceError` if the kit cannot judge the device (see `check_device`), if `peers` names a port that it does
    not have, or if it cannot be chained: a chain needs the ports `frontend` and `backend` and no other.
    """

    device: Device
    hops: int = 1
    """The number of brokers in the chain."""
    client: SocketType = SocketType.DEALER
    """The type of the sockets that connect to the first frontend. This is short for an entry of `peers`, and counts
    only where the device has the ports `frontend` and `backend`, or `frontend` alone."""
    worker: SocketType = SocketType.DEALER
    """The type of the sockets that connect to the last backend; as `client`."""
    delimited: bool = False
    """Whether clients begin their messages with an empty frame, which a REP needs."""
    high_water_mark: int = 0
    """The high-water marks of the brokers' sockets; 0 is no limit."""
    peers_high_water_mark: int = 0
    """The high-water marks of the peers' sockets; 0 is no limit."""
    no_drop: bool = False
    """Whether each XPUB that is a sink has XPUB_NODROP: it refuses a message rather than drop it."""
    capture: Literal["none", "plain", "prefixed"] = "none"
    """Whether the brokers have a capture socket, and whether the copies have a prefix that says their direction."""
    capture_high_water_mark: int = 0
    """The high-water marks of the capture sockets; 0 is no limit."""
    behaviour: tuple[int | str, ...] = ()
    """What a handler does with its first message, its second and so on, over and over. A number: it yields so many
    messages. "one": it returns one message. "raise": it raises. "nonsense": it returns something that is not a message.
    If this is empty, the handlers are those of the device, if it has any."""
    peers: Mapping[str, SocketType] = field(default_factory=FrozenDict, hash=False)
    """The type of the sockets that connect to each port, by the port's name. At a port that is not named here, they are
    `client` and `worker`, or, if the device has other ports, of the plainest type that may connect there."""

    def __post_init__(self) -> None:
        check_can_be_judged(self.device)
        where = f"device {self.device.name}"
        if self.hops > 1 and set(self.device.ports) != {"frontend", "backend"}:
            found = ", ".join(self.device.ports)
            raise DeviceError(f"{where}: a chain needs the ports frontend and backend and no other; found {found}")
        for port in self.peers:
            if port not in self.device.ports:
                near = did_you_mean(port, self.device.ports) or f"; its ports are: {', '.join(self.device.ports)}"
                raise DeviceError(f"{where}: peers: the device has no {port}{near}")
        object.__setattr__(self, "peers", FrozenDict(self.peers))

    def peer_type(self, port: str) -> SocketType:
        """The type of the sockets that connect to a port."""
        if port in self.peers:
            return self.peers[port]
        if has_usual_ports(self.device):
            return self.client if port == "frontend" else self.worker
        return peer_types(self.device, port)[0]


@dataclass(frozen=True, repr=False)
class Topology(PrintedAsPython):
    """Several lines of brokers in one engine."""

    lines: tuple[LinePlan, ...]
    bodies: tuple[tuple[bytes, ...], ...] = ((b"body",),)
    """The frames behind the marks of messages: those of the first message, the second and so on, over and over."""
    waiter: Literal["nested", "flat"] = "nested"
    """The engine's waiter."""
    burst_messages: int = 1000
    """The engine's limit of messages for one flow in one turn."""
    burst_bytes: int = 1 << 20
    """The engine's limit of bytes for one flow in one turn."""
    processes_in_send: float = 0.5
    """In a simulation: how likely a send is to process the socket's commands first, from 0 to 1."""
    operation_s: float = 0.0
    """In a simulation: how long one operation on a socket takes."""


@dataclass(frozen=True, repr=False)
class Scenario(PrintedAsPython):
    """A topology, and the steps that are taken in it."""

    topology: Topology
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """The Python expression that makes this scenario, with each line of brokers and each step on a line of text."""
        lines = "".join(f"            {line!r},\n" for line in self.topology.lines)
        topology = repr(replace(self.topology, lines=())).replace("(()", f"(\n        (\n{lines}        )", 1)
        steps = "".join(f"        {step!r},\n" for step in self.steps)
        return f"Scenario(\n    {topology},\n    (\n{steps}    ),\n)"
