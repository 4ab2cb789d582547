"""Scenarios: what a run is made of, as plain data that can be printed, compared, shrunk and run again.

A scenario is a topology (which devices stand where, with which limits) and a schedule (who acts when, and how much). It
says nothing of the environment that it runs in: simulated or real sockets, one pump or the other.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from zmq import SocketType

from pollbroker.device import Device
from pollbroker.testing.devices import as_python

Side = Literal["frontend", "backend"]


class PrintedAsPython:
    """Whatever is printed as the Python expression that makes it."""

    def __repr__(self) -> str:
        return as_python(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - what hypothesis and IPython call
        """hypothesis would print a dataclass field by field, and enums as what is no Python."""
        for number, line in enumerate(str(self).splitlines()):
            if number:
                printer.break_()
            printer.text(line)


class Action(StrEnum):
    """What a step does."""

    JOIN = "join"
    """A peer comes; it may be late. Who sends or takes joins first, if it has to."""
    LEAVE = "leave"
    """A peer goes, whatever is on its way to it."""
    REJOIN = "rejoin"
    """A peer goes and comes again at once; with the same routing id, if its broker can have noticed by then."""
    SEND = "send"
    """A peer sends `count` messages, as far as its socket takes them."""
    TAKE = "take"
    """A peer receives up to `count` messages. Who is never told to is a stalled reader."""
    ANSWER = "answer"
    """A peer receives up to `count` messages and sends each back with a mark of its own: a worker."""
    SUBSCRIBE = "subscribe"
    """A subscriber subscribes to the topic of that number, or unsubscribes."""
    UNSUBSCRIBE = "unsubscribe"
    COPY = "copy"
    """The reader of the capture socket takes up to `count` copies."""
    PAUSE = "pause"
    RESUME = "resume"
    REPLACE = "replace"
    """A line of brokers is removed, and another added in its place."""
    TURN = "turn"
    """The engine makes `count` turns."""
    REST = "rest"
    """The engine runs until it sleeps."""
    WAIT = "wait"
    """So many milliseconds pass."""
    SHUT_DOWN = "shut down"
    """The context is terminated; nothing comes after that."""


@dataclass(frozen=True, repr=False)
class Step(PrintedAsPython):
    """One step of a schedule. What a field means depends on the action; what is not asked for is left out."""

    action: Action
    line: int = 0
    side: Side = "frontend"
    who: int = 0
    count: int = 1
    meanwhile: "tuple[Meanwhile, ...]" = ()


@dataclass(frozen=True, repr=False)
class Meanwhile(PrintedAsPython):
    """A step that another takes while the engine is at work: at the engine's next operation but so many on a socket."""

    after: int
    step: Step


@dataclass(frozen=True, repr=False)
class LinePlan(PrintedAsPython):
    """One broker, or a chain of several of one device, and who stands at its ends."""

    device: Device
    hops: int = 1
    client: SocketType = SocketType.DEALER
    """What connects to the first frontend."""
    worker: SocketType = SocketType.DEALER
    """What connects to the last backend."""
    delimited: bool = False
    """Whether clients put an empty frame before what they say, as a REP wants it."""
    high_water_mark: int = 0
    """Of the broker's sockets; 0: without limit."""
    peers_high_water_mark: int = 0
    no_drop: bool = False
    """XPUB_NODROP at the backend: refuse rather than drop."""
    capture: Literal["none", "plain", "prefixed"] = "none"
    capture_high_water_mark: int = 0
    behaviour: tuple[int | str, ...] = ()
    """What a handler makes of its first message, its second and so on, over and over: so many messages ("one" of them
    returned rather than yielded), or "raise", or "nonsense". Empty: no handler, or the device's own."""


@dataclass(frozen=True, repr=False)
class Topology(PrintedAsPython):
    """Several lines in one engine."""

    lines: tuple[LinePlan, ...]
    bodies: tuple[tuple[bytes, ...], ...] = ((b"body",),)
    """What messages carry behind their marks, one after the other, over and over."""
    waiter: Literal["nested", "flat"] = "nested"
    burst_messages: int = 1000
    burst_bytes: int = 1 << 20
    processes_in_send: float = 0.5
    """In a simulation: how often libzmq looks at its commands in a send, from 0 to 1."""
    operation_s: float = 0.0
    """In a simulation: how long one operation on a socket takes."""


@dataclass(frozen=True, repr=False)
class Scenario(PrintedAsPython):
    """A topology, and what happens in it."""

    topology: Topology
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """The same expression with a line for each line of brokers and each step."""
        lines = "".join(f"            {line!r},\n" for line in self.topology.lines)
        topology = repr(replace(self.topology, lines=())).replace("(()", f"(\n        (\n{lines}        )", 1)
        steps = "".join(f"        {step!r},\n" for step in self.steps)
        return f"Scenario(\n    {topology},\n    (\n{steps}    ),\n)"
