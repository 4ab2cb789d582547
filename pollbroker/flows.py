"""Makes the hub of a broker, with its flows, from a device and the broker's open ports."""

from collections.abc import Mapping
from typing import Any

import zmq

from pollbroker.device import CAPTURE, Device, Route
from pollbroker.port import WorkingPort
from pollbroker.pump import PYTHON, Hub, HubOwner, Implementation, Pump, RoutingPump


def make_hub(
    owner: HubOwner,
    device: Device,
    ports: Mapping[str, WorkingPort],
    implementation: Implementation,
    prefixes: Mapping[str, bytes],
    ready: list[Any],
) -> Hub:
    """A hub with a flow for each route of a device. A port's index is its position in `device.ports`.

    Arguments:
        owner: the broker that the hub belongs to.
        ports: the open ports by name, with the capture port if there is one.
        prefixes: the frame that precedes each captured message, by the name of the port that it came from.
        ready: the loop's list of hubs that have work.
    """
    direct = all(is_direct(route) for route in device.routes)
    hub_implementation = implementation if direct else PYTHON  # native flows take native pumps only, not a RoutingPump
    sockets = tuple(ports[name].sync_socket for name in device.ports)
    checked_sockets = tuple(port.socket for port in ports.values())
    checked_sockets = (
        sockets if checked_sockets == sockets else checked_sockets
    )  # a thousand brokers need not keep both
    indices = {name: index for index, name in enumerate(device.ports)}
    flows = []
    for route in device.routes:
        pump = _make_pump(device, route, ports, implementation, prefixes.get(route.source))
        flow = hub_implementation.make_flow(pump, indices[route.source], tuple(indices[sink] for sink in route.sinks))
        has_router = any(ports[sink].type == zmq.ROUTER for sink in route.sinks)
        flow.probe_when_full = has_router and device.slow_peer == "wait"
        flows.append(flow)
    return hub_implementation.make_hub(owner, ready, sockets, checked_sockets, tuple(flows))


def is_direct(route: Route) -> bool:
    """Return True if each message goes unchanged from one socket to one other."""
    return route.via is None and len(route.sinks) == 1


def _make_pump(
    device: Device,
    route: Route,
    ports: Mapping[str, WorkingPort],
    implementation: Implementation,
    prefix: bytes | None,
) -> Pump:
    source = ports[route.source].sync_socket
    capture = ports[CAPTURE].sync_socket if CAPTURE in ports else None
    drop = device.slow_peer == "drop"
    if is_direct(route):
        (sink,) = route.sinks
        return implementation.make_pump(
            source,
            ports[sink].sync_socket,
            capture=capture,
            prefix=prefix,
            drop_slow_peer=drop,
            maxframes=device.maxframes,
        )
    receiver = implementation.make_receiver(source, device.maxframes)
    senders = {sink: implementation.make_sender(ports[sink].sync_socket, capture, prefix, drop) for sink in route.sinks}
    return RoutingPump(receiver, route.via, senders)
