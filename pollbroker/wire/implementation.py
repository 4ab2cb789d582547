"""The implementation of the contract of pumps (`pollbroker.pump.contract`) whose sockets are those of the wire."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from pollbroker.pump import (
    SENT,
    Classes,
    Hub,
    HubOwner,
    Implementation,
    Pump,
    Receiver,
    RoutingPump,
    Sender,
    send_copies,
)
from pollbroker.pump.limits import MAXFRAMES
from pollbroker.wire import native


@cache
def wire_implementation() -> Implementation:
    """The wire's pumps, flows and hubs. A flow has one sink and no capture, and takes the wire's pumps only."""
    return Classes(
        "wire",
        make_pump=_make_pump,
        make_receiver=_make_receiver,
        make_sender=_make_sender,
        make_event_reader=lambda socket: lambda: int(socket.wire_port.events),
        make_flow=native.Flow,
        make_hub=_make_hub,
        make_collector=lambda epoll, wakes: None,  # noqa: ARG005 - ports are not in the waiter's set
    )


def _make_pump(
    source: Any,
    sink: Any,
    *,
    capture: Any = None,
    prefix: bytes | None = None,  # noqa: ARG001 - it precedes what is captured
    drop_slow_peer: bool = True,
    maxframes: int = MAXFRAMES,
) -> Pump:
    assert capture is None
    return native.Pump(source.wire_port, sink.wire_port, drop_slow_peer=drop_slow_peer, maxframes=maxframes)


def _make_receiver(source: Any, maxframes: int = MAXFRAMES) -> Receiver:
    return native.Receiver(source.wire_port, maxframes)


def _make_sender(sink: Any, capture: Any, prefix: bytes | None, drop_slow_peer: bool) -> Sender:
    copy = None if capture is None else _copies_to(capture)
    return native.Sender(sink.wire_port, copy, prefix, drop_slow_peer)


def _copies_to(capture: Any) -> Callable[[list[bytes]], bool]:
    """A function that sends a copy of a message to a capture socket, and returns True if it was accepted."""
    if not hasattr(capture, "wire_port"):
        return partial(send_copies, capture)
    capture.wire_port.set("takes_copies", True)
    return _Copying(native.Sender(capture.wire_port, None, None, True))


@dataclass(frozen=True)
class _Copying:
    """Sends copies to a capture port of the wire."""

    sender: native.Sender

    def __call__(self, frames: list[bytes]) -> bool:
        return self.sender.send(frames) == SENT


def parts_of(pump: Any) -> list[Any] | None:
    """Those parts of a pump that have accounts (`native.account_numbers`); None if it is not made of the wire's."""
    if type(pump) is native.Pump:
        return [pump]
    if type(pump) is not RoutingPump or not all(isinstance(part, _PARTS) for part in pump.parts):
        return None
    captures = [part.capture for part in pump.parts if isinstance(part, native.Sender)]
    return [*pump.parts, *(capture.sender for capture in captures if isinstance(capture, _Copying))]


_PARTS = (native.Receiver, native.Sender)


def as_by_handler(numbers: Sequence[int]) -> tuple[list[int], list[int]]:
    """What a pump between two ports has counted (`native.account_numbers`), as what a receiver and a sender have."""
    received, sent, dropped, captured = numbers[:3], numbers[3:6], numbers[6:12], numbers[12:]
    if len(captured) != 4:
        raise ValueError(f"{len(numbers)} numbers; expected 16")
    unroutable, slow_peer, interrupted, too_many_frames, long_subscription, filtered = dropped
    none = [0, 0, 0]
    return (
        [*received, *none, 0, 0, 0, too_many_frames, 0, 0, 0, *none],
        [*none, *sent, unroutable, slow_peer, interrupted, 0, long_subscription, filtered, *captured],
    )


def _make_hub(
    owner: HubOwner,
    ready: list[Any],
    sockets: tuple[Any, ...],
    checked_sockets: tuple[Any, ...],  # noqa: ARG001 - nobody but the engine can close a port of the wire
    flows: Sequence[Any],
) -> Hub:
    return native.Hub(owner, ready, tuple(socket.wire_port for socket in sockets), tuple(flows))
