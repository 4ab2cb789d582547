"""Makes the hub of a broker, with its flows, from a device and the broker's open ports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final, Protocol, cast

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.device import CAPTURE, RECEIVES, SENDS, Device, Route
from pollbroker.errors import DeviceError
from pollbroker.port import WorkingPort
from pollbroker.pump import (
    NO_SOURCE,
    PYTHON,
    SENT,
    BehaviourRun,
    CoroutinePump,
    Flow,
    FlowState,
    Hub,
    HubOwner,
    Implementation,
    OutgoingPump,
    Pump,
    Receiver,
    RoutingPump,
    Sender,
    SourcePump,
    StartTask,
    let_flows_go_on,
    send_copies,
)
from pollbroker.timers import Handle


@dataclass(frozen=True)
class PumpMaking:
    """What the pumps of a broker are made with."""

    implementation: Implementation
    prefixes: Mapping[str, bytes]
    """The frame that precedes each captured message, by the name of the port that it came from."""
    start_task: StartTask | None
    """Runs coroutine handlers; None where no device may have one."""
    call_soon: Callable[[Callable[[], None]], object]
    """Makes a call in a turn of the loop. Any thread may use this."""
    call_later: Callable[[float, Callable[[], None]], Handle]
    clock: Callable[[], float]


class WireClasses(Protocol):
    """The classes of `pollbroker.wire.native` that keep the contract of pumps."""

    Pump: Callable[..., Pump]
    Receiver: Callable[..., Receiver]
    Sender: Callable[..., Sender]


class Lifecycle(Protocol):
    """What begins and ends with a broker, beside its flows: its behaviour, or its coroutine handlers."""

    @property
    def kept(self) -> int:
        """Messages that the behaviour keeps. The flows do not know them."""

    @property
    def counters(self) -> Mapping[str, int] | None:
        """The behaviour's own counters; None where there is no behaviour."""

    def start(self) -> None:
        """Begin. Whatever the behaviour raises is raised here."""

    def stop(self) -> None:
        """The broker is about to be removed, and reads nothing any more."""

    def end(self) -> None:
        """The broker has ended: nothing may be sent any more."""


def make_hub(
    owner: HubOwner,
    device: Device,
    ports: Mapping[str, WorkingPort],
    making: PumpMaking,
    ready: list[Any],
) -> tuple[Hub, Lifecycle]:
    """A hub with a flow for each route of a device, or for its behaviour, and what begins and ends with the broker. A
    port's index is its position in `device.ports`.

    Arguments:
        owner: the broker that the hub belongs to.
        ports: the open ports by name, with the capture port if there is one.
        ready: the loop's list of hubs that have work.
    """
    if device.behaviour is not None:
        return _make_behaviour_hub(owner, device, ports, making, ready, device.behaviour)
    # Native flows take native pumps only, and these take sockets of libzmq.
    native = all(is_direct(route) for route in device.routes) and all(port.wire is None for port in ports.values())
    implementation = making.implementation if native else PYTHON
    sockets = tuple(ports[name].sync_socket for name in device.ports)
    checked_sockets = tuple(port.socket for port in ports.values())
    checked_sockets = (
        sockets if checked_sockets == sockets else checked_sockets
    )  # a thousand brokers need not keep both
    indices = {name: index for index, name in enumerate(device.ports)}
    flows = []
    for route in device.routes:
        pump = _make_pump(device, route, ports, making)
        flow = implementation.make_flow(pump, indices[route.source], tuple(indices[sink] for sink in route.sinks))
        has_router = any(ports[sink].type == zmq.ROUTER for sink in route.sinks)
        flow.probe_when_full = has_router and device.slow_peer == "wait"
        flows.append(flow)
    hub = implementation.make_hub(owner, ready, sockets, checked_sockets, tuple(flows))
    coroutines = []
    for flow in flows:
        if isinstance(flow.pump, CoroutinePump):
            flow.pump.belong_to(hub, partial(making.call_soon, partial(_try_again, hub, flow)))
            coroutines.append(flow.pump)
    return hub, _Handlers(tuple(coroutines)) if coroutines else _NO_HANDLERS


@dataclass(frozen=True)
class _Handlers:
    """The coroutine handlers of a broker with routes."""

    pumps: tuple[CoroutinePump, ...]
    kept: int = 0  # the flows count what a handler has
    counters: Mapping[str, int] | None = None

    def start(self) -> None:
        """Nothing is to be done: a handler begins with its first message."""

    def stop(self) -> None:
        """Nothing is to be done: the flows wait for what the handlers have."""

    def end(self) -> None:
        for pump in self.pumps:
            pump.cancel()


_NO_HANDLERS: Final = _Handlers(())
"""One for all brokers without coroutine handlers saves memory."""


def _make_behaviour_hub(
    owner: HubOwner,
    device: Device,
    ports: Mapping[str, WorkingPort],
    making: PumpMaking,
    ready: list[Any],
    make_behaviour: Callable[[], Behaviour],
) -> tuple[Hub, Lifecycle]:
    names = tuple(device.ports)
    drop = device.slow_peer == "drop"
    senders = {
        name: _make_sender(making, ports[name], ports.get(CAPTURE), None, drop)
        for name in names
        if ports[name].type in SENDS
    }
    behaviour = make_behaviour()
    if not isinstance(behaviour, Behaviour):
        raise DeviceError(f"device {device.name}: behaviour made {behaviour!r}: expected a Behaviour")
    run = BehaviourRun(
        behaviour,
        sources=[name for name in names if ports[name].type in RECEIVES],
        outlets=senders,
        call_later=making.call_later,
        clock=making.clock,
    )
    sinks = tuple(names.index(name) for name in senders)
    outgoing = PYTHON.make_flow(OutgoingPump(run, senders), NO_SOURCE, sinks)
    outgoing.probe_when_full = not drop and any(ports[name].type == zmq.ROUTER for name in senders)
    flows = [outgoing]  # it comes first, so that the sources are settled after what it sends
    for name in run.sources:
        receiver = _make_receiver(making, ports[name], device.maxframes)
        flows.append(PYTHON.make_flow(SourcePump(run, name, receiver, len(sinks)), names.index(name), sinks))
    sockets = tuple(ports[name].sync_socket for name in names)
    hub = PYTHON.make_hub(owner, ready, sockets, tuple(port.socket for port in ports.values()), tuple(flows))
    let_flows_go_on(run, hub)
    return hub, run


def _try_again(hub: Hub, flow: Flow) -> None:
    """Let a flow go on: its handler is done with the message whose turn it is."""
    if flow.state in (FlowState.WAITING, FlowState.BUSY):
        flow.state = FlowState.READY
        hub.schedule()


def is_direct(route: Route) -> bool:
    """Return True if each message goes unchanged from one socket to one other."""
    return route.via is None and len(route.sinks) == 1


def _make_pump(device: Device, route: Route, ports: Mapping[str, WorkingPort], making: PumpMaking) -> Pump:
    prefix, source, capture = making.prefixes.get(route.source), ports[route.source], ports.get(CAPTURE)
    drop = device.slow_peer == "drop"
    wires = [port.wire is not None for port in (source, *(ports[sink] for sink in route.sinks))]
    if is_direct(route) and not any(wires):
        (sink,) = route.sinks
        return making.implementation.make_pump(
            source.sync_socket,
            ports[sink].sync_socket,
            capture=None if capture is None else capture.sync_socket,
            prefix=prefix,
            drop_slow_peer=drop,
            maxframes=device.maxframes,
        )
    if is_direct(route) and all(wires) and capture is None:
        (sink,) = route.sinks
        return wire_classes().Pump(source.wire, ports[sink].wire, drop_slow_peer=drop, maxframes=device.maxframes)
    receiver = _make_receiver(making, source, device.maxframes)
    senders = {sink: _make_sender(making, ports[sink], capture, prefix, drop) for sink in route.sinks}
    if route.via is None or making.start_task is None or not route.awaits:
        return RoutingPump(receiver, route.via, senders)
    return CoroutinePump(
        receiver, route.via, senders, max_concurrency=route.max_concurrency, start_task=making.start_task
    )


def _make_receiver(making: PumpMaking, source: WorkingPort, maxframes: int) -> Receiver:
    if source.wire is not None:
        return wire_classes().Receiver(source.wire, maxframes)
    return making.implementation.make_receiver(source.sync_socket, maxframes)


def _make_sender(
    making: PumpMaking, sink: WorkingPort, capture: WorkingPort | None, prefix: bytes | None, drop_slow_peer: bool
) -> Sender:
    if sink.wire is not None:
        copy = None if capture is None else _make_copy(capture)
        return wire_classes().Sender(sink.wire, copy, prefix, drop_slow_peer)
    socket = None if capture is None else capture.sync_socket
    return making.implementation.make_sender(sink.sync_socket, socket, prefix, drop_slow_peer)


def _make_copy(capture: WorkingPort) -> Callable[[list[bytes]], bool]:
    """A function that sends a copy of a message to a capture port, and returns True if it was accepted."""
    if capture.wire is None:
        return partial(send_copies, capture.sync_socket)
    sender = wire_classes().Sender(capture.wire, None, None, True)
    return lambda frames: sender.send(frames) == SENT


def wire_classes() -> WireClasses:
    """The classes of `pollbroker.wire.native`, which may not have been built."""
    return cast(WireClasses, import_module("pollbroker.wire.native"))
