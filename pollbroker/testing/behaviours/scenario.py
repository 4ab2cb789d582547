"""Scenarios for a device with a behaviour, as plain data, and how they are drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final, Literal

from zmq import SocketType

from pollbroker.device import Device
from pollbroker.errors import DeviceError
from pollbroker.testing.drawing import Draw, draw_body
from pollbroker.testing.peer_types import INITIATORS, type_of
from pollbroker.testing.scenario import PrintedAsPython

_MOST_PEERS: Final = 3

_WAITS_S: Final = (0.001, 0.05, 1.0, 2.6, 10.0, 60.0)


class BehaviourAction(StrEnum):
    """What a step does."""

    SEND = "send"
    """A peer sends `frames`. A peer that is to act connects first, if it has not yet."""
    ANSWER = "answer"
    """A peer receives up to `count` messages and answers each; see `Talk.answer`."""
    TAKE = "take"
    """A peer receives up to `count` messages."""
    JOIN = "join"
    """A peer connects."""
    LEAVE = "leave"
    """A peer disconnects."""
    TURN = "turn"
    """The engine makes `count` turns."""
    REST = "rest"
    """The engine runs until it sleeps."""
    WAIT = "wait"
    """`seconds` pass, and the engine runs until it sleeps."""
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, repr=False)
class BehaviourStep(PrintedAsPython):
    """One step. An action uses only the fields that it needs."""

    action: BehaviourAction
    port: str = ""
    who: int = 0
    """The number of the peer at its port, counted from 0."""
    frames: tuple[bytes, ...] = ()
    count: int = 1
    seconds: float = 0.0


@dataclass(frozen=True, repr=False)
class BehaviourScenario(PrintedAsPython):
    """A broker of a device with a behaviour, and the steps that are taken."""

    device: Device
    steps: tuple[BehaviourStep, ...]
    high_water_mark: int = 0
    """Of the broker's sockets and of its peers; 0 is no limit."""
    burst_messages: int = 1000
    waiter: Literal["nested", "flat"] = "nested"

    def __str__(self) -> str:
        """The Python expression that makes this scenario, with each step on a line of text."""
        steps = "".join(f"        {step!r},\n" for step in self.steps)
        text = repr(BehaviourScenario(self.device, (), self.high_water_mark, self.burst_messages, self.waiter))
        return text.replace(", ()", f",\n    (\n{steps}    )", 1)


def echo(port: str, frames: list[bytes]) -> list[bytes]:  # noqa: ARG001 - other answers depend on the port
    """The same frames: what a worker behind a ROUTER sends back to its client."""
    return frames


@dataclass(frozen=True)
class Talk:
    """What the peers of a behaviour say to it, beside garbage.

    Arguments:
        messages: for each port the messages that a peer may send there, without a routing id. Each message is a list of
            one or more frames: `{"backend": [[b"", b"READY"]]}`.
        answer: what a peer answers to a message that it has received from a port; None for nothing.

    Raises `DeviceError` if `messages` has another shape.
    """

    messages: Mapping[str, Sequence[Sequence[bytes]]] = field(default_factory=dict)
    answer: Callable[[str, list[bytes]], list[bytes] | None] = echo

    def __post_init__(self) -> None:
        if not isinstance(self.messages, Mapping):
            raise DeviceError(f"talk: {self.messages!r}: expected a mapping of lists of messages by the ports' names")
        for port, messages in self.messages.items():
            if not _is_list(messages):
                raise DeviceError(f"talk: {port}: {messages!r}: expected a list of messages")
            for frames in messages:
                if not _is_list(frames) or not frames or not all(isinstance(frame, bytes) for frame in frames):
                    raise DeviceError(
                        f"talk: {port}: {frames!r}: expected a message, which is a list of one or more frames of bytes"
                    )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def sends(kind: SocketType) -> bool:
    """Return True if peers at a port of this type can send."""
    return INITIATORS[kind][0] not in (SocketType.PULL, SocketType.SUB)


def receives(kind: SocketType) -> bool:
    """Return True if peers at a port of this type can receive."""
    return INITIATORS[kind][0] not in (SocketType.PUSH, SocketType.PUB)


def draw_behaviour_scenario(draw: Draw, device: Device, talk: Talk, most_steps: int) -> BehaviourScenario:
    """Draw a scenario for a device."""
    return BehaviourScenario(
        device,
        draw.several(partial(_draw_step, device=device, talk=talk), 0, most_steps),
        draw.choice((0, 0, 1, 2, 5)),
        draw.choice((1000, 1, 3)),
        draw.choice(("nested", "flat")),
    )


_COMMON: Final = (
    *(BehaviourAction.SEND,) * 10,
    *(BehaviourAction.ANSWER,) * 6,
    *(BehaviourAction.TURN,) * 4,
    *(BehaviourAction.TAKE,) * 3,
    *(BehaviourAction.REST,) * 2,
    BehaviourAction.WAIT,
    BehaviourAction.JOIN,
    BehaviourAction.LEAVE,
    BehaviourAction.PAUSE,
    BehaviourAction.RESUME,
    BehaviourAction.RESUME,
)


def _draw_step(draw: Draw, device: Device, talk: Talk) -> BehaviourStep:
    action = draw.choice(_COMMON)
    port = draw.choice(tuple(device.ports))
    who = draw.integer(0, _MOST_PEERS - 1)
    if action is BehaviourAction.SEND:
        return BehaviourStep(action, port, who, frames=_draw_message(draw, talk.messages.get(port, ())))
    if action in (BehaviourAction.TURN, BehaviourAction.TAKE, BehaviourAction.ANSWER):
        return BehaviourStep(action, port, who, count=draw.integer(1, 4))
    if action is BehaviourAction.WAIT:
        return BehaviourStep(action, seconds=draw.choice(_WAITS_S))
    return BehaviourStep(action, port, who)


def _draw_message(draw: Draw, said: Sequence[Sequence[bytes]]) -> tuple[bytes, ...]:
    if said and draw.integer(0, 9) < 8:
        return tuple(draw.choice(said))
    return draw_body(draw) or (b"",)


def port_kinds(device: Device) -> dict[str, SocketType]:
    """The type of the socket at each port."""
    return {port: type_of(device, port) for port in device.ports}
