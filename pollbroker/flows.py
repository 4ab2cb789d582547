"""Makes the hub of a broker, with its flows, from a device and the broker's open ports."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, Protocol, cast

import zmq

from pollbroker.device import CAPTURE, RECEIVES, SENDS, Device, Route, make_behaviour
from pollbroker.port import WorkingPort
from pollbroker.pump import (
    NO_SOURCE,
    PYTHON,
    BehaviourRun,
    CoroutinePump,
    Flow,
    FlowState,
    Hub,
    HubOwner,
    Implementation,
    OutgoingPump,
    Pump,
    RoutingPump,
    Sender,
    SourcePump,
    StartTask,
    let_flows_go_on,
)
from pollbroker.timers import Handle
from pollbroker.waits import Waits


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


class Lifecycle(Protocol):
    """What begins and ends with a broker, beside its flows: its behaviour, or its coroutine handlers."""

    @property
    def kept(self) -> int:
        """Messages that the behaviour keeps. The flows do not know them."""

    @property
    def outstanding(self) -> int:
        """Requests that the behaviour has passed on, and that may yet be answered."""

    @property
    def request_ports(self) -> Collection[str]:
        """The ports from which such requests come."""

    @property
    def counters(self) -> Mapping[str, int] | None:
        """The behaviour's own counters; None where there is no behaviour."""

    @property
    def waits(self) -> Waits | None:
        """How long a behaviour's messages waited; None where the flows know that."""

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
        return _make_behaviour_hub(owner, device, ports, making, ready)
    direct = all(is_direct(route) for route in device.routes)
    implementation = (_implementation_for(making, *ports.values()) if direct else None) or PYTHON
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
    outstanding: int = 0  # and whose requests are answered
    request_ports: Collection[str] = ()
    counters: Mapping[str, int] | None = None
    waits: Waits | None = None

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
) -> tuple[Hub, Lifecycle]:
    names = tuple(device.ports)
    drop = device.slow_peer == "drop"
    senders = {
        name: _make_sender(making, ports[name], ports.get(CAPTURE), None, drop)
        for name in names
        if ports[name].type in SENDS
    }
    behaviour = make_behaviour(device)
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
        receiver = _implementation_of(making, ports[name]).make_receiver(ports[name].sync_socket, device.maxframes)
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


def _implementation_for(making: PumpMaking, *ports: WorkingPort) -> Implementation | None:
    """The implementation for flows between these ports, one of which may be the capture port. None if none has a pump
    for them: the ports are of both kinds, or the wire's with a capture port."""
    kinds = {port.wire is not None for port in ports}
    if len(kinds) > 1 or (True in kinds and any(port.name == CAPTURE for port in ports)):
        return None
    return _implementation_of(making, ports[0])


def _implementation_of(making: PumpMaking, port: WorkingPort) -> Implementation:
    """The implementation of what is received from a port, or sent to it."""
    return making.implementation if port.wire is None else _wire_implementation()


@cache
def _wire_implementation() -> Implementation:
    wire = import_module("pollbroker.wire.implementation")  # it may not have been built
    return cast(Implementation, wire.wire_implementation())


def _make_pump(device: Device, route: Route, ports: Mapping[str, WorkingPort], making: PumpMaking) -> Pump:
    prefix, source, capture = making.prefixes.get(route.source), ports[route.source], ports.get(CAPTURE)
    sinks = [ports[sink] for sink in route.sinks]
    drop = device.slow_peer == "drop"
    involved = (source, *sinks) if capture is None else (source, *sinks, capture)
    implementation = _implementation_for(making, *involved) if is_direct(route) else None
    if implementation is not None:
        return implementation.make_pump(
            source.sync_socket,
            sinks[0].sync_socket,
            capture=None if capture is None else capture.sync_socket,
            prefix=prefix,
            drop_slow_peer=drop,
            maxframes=device.maxframes,
        )
    receiver = _implementation_of(making, source).make_receiver(source.sync_socket, device.maxframes)
    senders = {port.name: _make_sender(making, port, capture, prefix, drop) for port in sinks}
    if route.via is None or making.start_task is None or not route.awaits:
        return RoutingPump(receiver, route.via, senders)
    return CoroutinePump(
        receiver, route.via, senders, max_concurrency=route.max_concurrency, start_task=making.start_task
    )


def _make_sender(
    making: PumpMaking, sink: WorkingPort, capture: WorkingPort | None, prefix: bytes | None, drop_slow_peer: bool
) -> Sender:
    copied = None if capture is None else capture.sync_socket
    return _implementation_of(making, sink).make_sender(sink.sync_socket, copied, prefix, drop_slow_peer)
