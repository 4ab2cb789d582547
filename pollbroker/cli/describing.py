"""What a command says of the brokers that it runs: one line for each fact.

A line begins with a word and the name or address that it is about, then come two spaces and an explanation. The line
`ready` comes when the sockets of all brokers are open. A script that has read this line has read every address.
"""

import socket as net
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

import zmq

from pollbroker.broker import Broker, Port
from pollbroker.device import Device
from pollbroker.endpoint import Endpoint, is_loopback
from pollbroker.statistics import DROPS, FlowStatistics
from pollbroker.transports import WIRE

if TYPE_CHECKING:
    from pollbroker.daemon import Daemon

PEERS: Final = {
    zmq.ROUTER: "REQ or DEALER clients",
    zmq.DEALER: "REP or ROUTER workers",
    zmq.XSUB: "PUB or XPUB publishers",
    zmq.SUB: "PUB or XPUB publishers",
    zmq.XPUB: "SUB or XSUB subscribers",
    zmq.PUB: "SUB or XSUB subscribers",
    zmq.PULL: "PUSH pushers",
    zmq.PUSH: "PULL pullers",
    zmq.PAIR: "one PAIR peer",
}
"""The peers that connect to a port, by the type of its socket. A behaviour may say so of its own ports."""

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""The addresses that mean every interface of a machine, each with the address by which the machine itself connects."""


def describe_daemon(daemon: "Daemon", *, reloads: bool) -> Iterator[str]:
    """Yield what is said when all brokers have begun. `reloads` is True if SIGHUP has the daemon read its file
    again."""
    statistics = daemon.engine.statistics(())  # those of many brokers would take long
    brokers = daemon.engine.brokers
    yield from _describe_brokers(daemon, brokers)
    for address in daemon.servers.control_endpoints:
        yield f"control {address}  pollbroker ctl {address_from(address, 'here')} STATS"
    if daemon.servers.http_address is not None:
        address = daemon.servers.http_address
        yield f"http {address}  http://{address}/ is the status page; /metrics /livez /readyz /statz"
    hangup = "SIGHUP reloads, " if reloads else ""
    late = len(daemon.brokers.names - brokers.keys())
    more = f" ({late} more when the process has ended whose place was taken)" if late else ""
    yield (
        f"ready  {_count(len(brokers))}{more}, {statistics.pump} pump, {statistics.waiter} waiter; {hangup}Ctrl-C or "
        f"SIGTERM ends {'it' if len(brokers) == 1 else 'them'} in order, a second one at once"
    )


def describe_begun_late(daemon: "Daemon", names: Sequence[str]) -> Iterator[str]:
    """Yield what is said of these brokers, which have begun after the others: when the process had ended whose place
    was taken."""
    if names:
        yield from _describe_brokers(daemon, names)
        yield f"ready  {_count(len(daemon.engine.brokers))}"


def _describe_brokers(daemon: "Daemon", names: Collection[str]) -> Iterator[str]:
    brokers = daemon.engine.brokers
    for name, configured in daemon.configuration.brokers.items():
        if name in names and name in brokers:
            wire = describe_wire_ports({port.name: port.transport for port in configured.plan.ports})
            yield f"broker {name}  {configured.device_name}{wire}"
            given = {port: one.endpoints for port, one in configured.ports.items()}
            yield from describe_ports(configured.device, brokers[name], given)


def _count(brokers: int) -> str:
    return f"{brokers} {'broker' if brokers == 1 else 'brokers'}"


def warn_of_other_machines(addresses: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each address of a control socket that is not on the loopback interface."""
    for address in addresses:
        if not is_loopback(address):
            yield (
                f"control: whoever reaches {address} can stop the brokers; use ipc://path or tcp://127.0.0.1:port "
                "instead"
            )


def describe_wire_ports(transports: Mapping[str, str]) -> str:
    """The end of the line about a broker: which of its ports are the wire's, by what serves each of them. Empty if none
    is."""
    wire = [name for name, transport in transports.items() if transport == WIRE]
    if not wire:
        return ""
    return ", wire ports" if len(wire) == len(transports) else f", wire ports: {', '.join(wire)}"


def describe_ports(device: Device, broker: Broker, given: Mapping[str, Sequence[Endpoint]]) -> Iterator[str]:
    """Yield a line for each address of a broker: who connects there. `given` has the endpoints by the port's name, as
    they were asked for."""
    for port in broker.ports.values():
        for address, endpoint in zip(port.endpoints, given[port.name], strict=True):
            peers = peers_of(device, port.name) if port.name in device.ports else PEERS[port.type]
            yield f"{port.name} {address}  {_describe_port(port, address, peers, bound=endpoint.bind)}"


def _describe_port(port: Port, address: str, peers: str, *, bound: bool) -> str:
    purpose = ", for a copy of every message that is sent on" if port.name == "capture" else ""
    if not bound:
        return f"connects to {peers} that are bound there{purpose}"
    here, elsewhere = address_from(address, "here"), address_from(address, "elsewhere")
    where = "" if here == address else f": {here} from this machine, {elsewhere} from others"
    return f"{peers} connect here{purpose}{where}"


def address_from(address: str, place: Literal["here", "elsewhere"]) -> str:
    """The address to which a peer here or elsewhere connects. Peers cannot connect to the address of every
    interface."""
    for everywhere, loopback in _EVERYWHERE.items():
        prefix = f"tcp://{everywhere}:"
        if address.startswith(prefix):
            host = loopback if place == "here" else net.gethostname()
            return f"tcp://{host}:{address.removeprefix(prefix)}"
    return address


def peers_of(device: Device, port: str) -> str:
    """Who connects to a port: what the class of the device's behaviour says, or else what follows from its type."""
    said: Mapping[str, str] = getattr(getattr(device.behaviour, "make", device.behaviour), "peers", {})
    return said.get(port) or PEERS[type_at(device, port)]


def type_at(device: Device, port: str) -> zmq.SocketType:
    """Return the type of the socket that the engine opens at a port."""
    return device.types_of(port)[0]


def describe_flow(flow: FlowStatistics) -> str:
    """Describe the counters of one direction in one line. Those that are usually 0 are left out when they are."""
    parts = [f"{flow.received} received", f"{flow.sent} sent", f"{flow.sent_bytes} bytes"]
    if flow.added:
        parts.append(f"{flow.added} added")
    if flow.held:
        parts.append(f"{flow.held} held")
    if flow.unread:
        parts.append(f"{flow.unread} unread")
    if flow.dropped:
        named = ", ".join(f"{getattr(flow, name)} {name}" for name in DROPS if getattr(flow, name))
        parts.append(f"{flow.dropped} dropped ({named})")
    if flow.captured or flow.capture_dropped:
        parts.append(f"{flow.captured} captured")
    if flow.capture_dropped:
        parts.append(f"{flow.capture_dropped} copies dropped")
    if flow.stalls:
        times = "once" if flow.stalls == 1 else f"{flow.stalls} times"
        parts.append(f"stalled {times}, for {flow.stalled_s:.1f} s")
    return f"{flow.source} -> {', '.join(flow.sinks)}  {', '.join(parts)}"
