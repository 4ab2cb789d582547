"""One command for each device in `DEVICES`: it runs one broker until it is told to end.

Each line that a command prints is one fact: a word, the name or address that it is about, two spaces, and an
explanation. The line `ready` comes when the broker's sockets are open. A script that has read this line has read every
address.
"""

import os
import socket as net
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import click
import zmq

from pollbroker.broker import Broker, Port
from pollbroker.cli.arguments import gathered, seconds, socket_option
from pollbroker.cli.serving import serve
from pollbroker.cli.settings import setting_options, with_given_settings
from pollbroker.cli.signals import EndingSignals
from pollbroker.control import attach
from pollbroker.device import Device
from pollbroker.endpoint import is_loopback, parse_endpoints
from pollbroker.engine import Engine
from pollbroker.standard_devices import DEVICES
from pollbroker.transports import AUTO, LIBZMQ, WIRE

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

_NOTATION: Final = (
    "An endpoint is bound, or connected if it begins with > (quote it): tcp://127.0.0.1:5559, tcp://*:*, ipc://path, "
    "'>tcp://host:5559'. Several are separated by commas. Ctrl-C, SIGTERM and SIGHUP end the broker in order: the "
    "messages that it still has are delivered first, for as long as --drain allows. A second signal ends it at once. "
    "Exit codes: 0 everything was delivered; 1 messages were lost, or the broker failed; 2 the broker could not begin; "
    "130, 143, 129 it was ended at once."
)


def command_of(name: str) -> click.Command:
    """Return the command that runs a broker of the device of this name, such as "last-value"."""
    return device_command(DEVICES[name.replace("-", "_")])


def device_command(device: Device) -> click.Command:
    """Return the command that runs one broker of a device."""
    ports = tuple(device.ports)
    peers = "; ".join(f"{port} {_type_at(device, port).name}, for {peers_of(device, port)}" for port in ports)
    return click.Command(
        device.name.replace("_", "-"),
        params=[click.Argument([port], metavar=port.upper()) for port in ports] + list(_options(device, ports)),
        callback=partial(run_device, device),
        help=f"Run a {device.name}: {peers}.",
        short_help=f"Run a {device.name} ({' to '.join(_type_at(device, port).name for port in ports)}).",
        epilog=_NOTATION,
    )


def _options(device: Device, ports: tuple[str, ...]) -> Iterator[click.Option]:
    marks = click.IntRange(min=0)
    yield click.Option(["--name"], default=device.name, show_default=True, help="The name of the broker.")
    yield click.Option(
        ["--capture"], metavar="ENDPOINT", help="A PUB socket for copies of every message that is sent on."
    )
    yield click.Option(["--control"], metavar="ENDPOINT", help="A socket for the commands of `pollbroker ctl`.")
    yield click.Option(
        ["--transport"],
        type=click.Choice([AUTO, WIRE, LIBZMQ]),
        help="What serves the ports: libzmq, or the wire, for tcp:// and ipc:// (docs/explanation/wire.md). By default "
        "the variable POLLBROKER_TRANSPORT decides, and otherwise auto, which is libzmq for now.",
    )
    yield click.Option(["--hwm"], type=marks, help="The high-water mark of both sockets, in messages; 0 is no limit.")
    yield click.Option(["--sndhwm"], type=marks, help="The high-water mark for sending only.")
    yield click.Option(["--rcvhwm"], type=marks, help="The high-water mark for receiving only.")
    yield from setting_options(device)
    for port in ports:
        yield click.Option(
            [f"--{port.replace('_', '-')}-option"],
            type=socket_option,
            metavar="NAME=VALUE",
            multiple=True,
            help=f"A socket option of the {port}; repeatable.",
        )
    if any(zmq.SUB in device.types_of(port) for port in ports):
        yield click.Option(
            ["--topic"], multiple=True, help="Pass on messages that begin with this; repeatable. By default all."
        )
    if _has_slow_peers(device):
        yield click.Option(
            ["--slow-peer"],
            type=click.Choice(["drop", "wait"]),
            default=device.slow_peer,
            show_default=True,
            help="If the one receiver of a message is full: drop the message (and count it), or wait.",
        )
    yield click.Option(
        ["--drain", "drain_s"],
        type=seconds,
        metavar="SECONDS",
        default=1.0,
        show_default=True,
        help="How long the end may take, to deliver the messages that the broker still has.",
    )


def peers_of(device: Device, port: str) -> str:
    """Who connects to a port: what the class of the device's behaviour says, or else what follows from its type."""
    said: Mapping[str, str] = getattr(getattr(device.behaviour, "make", device.behaviour), "peers", {})
    return said.get(port) or PEERS[_type_at(device, port)]


def _type_at(device: Device, port: str) -> zmq.SocketType:
    """Return the type of the socket that the engine opens at a port."""
    return device.types_of(port)[0]


def _has_slow_peers(device: Device) -> bool:
    """Return True if a sink is a ROUTER that refuses a message for a full peer (ROUTER_MANDATORY). Without that option
    a ROUTER drops such a message in silence."""
    sinks = device.ports if device.behaviour else {sink for route in device.routes for sink in route.sinks}
    return any(
        _type_at(device, sink) is zmq.ROUTER and device.options_of(sink).get("router_mandatory") for sink in sinks
    )


def run_device(
    device: Device,
    *,
    name: str,
    capture: str | None,
    control: str | None,
    transport: str | None,
    hwm: int | None,
    sndhwm: int | None,
    rcvhwm: int | None,
    topic: tuple[str, ...] = (),
    slow_peer: Literal["drop", "wait"] = "drop",
    drain_s: float,
    **given: Any,
) -> int:
    """Run one broker until it is told to end. Return the exit code.

    `given` has the endpoint of each port by the port's name, its socket options by that name with `_option` after it,
    and the settings of the device's behaviour by their names.
    """
    endpoints: dict[str, Any] = {port: given[port] for port in device.ports}
    marks = {"sndhwm": hwm if sndhwm is None else sndhwm, "rcvhwm": hwm if rcvhwm is None else rcvhwm}
    shared = {key: value for key, value in marks.items() if value is not None}
    # For the system an argument is bytes, so a topic need not be UTF-8.
    topics = tuple(("subscribe", os.fsencode(one)) for one in topic)
    engine = Engine()
    with EndingSignals(engine) as signals:
        try:
            broker = engine.add(
                name,
                with_given_settings(replace(device, slow_peer=slow_peer), given),
                capture=capture,
                options={
                    port: shared
                    | gathered((topics if zmq.SUB in device.types_of(port) else ()) + given[f"{port}_option"])
                    for port in device.ports
                },
                transport=transport,
                **endpoints,
            )
            control_endpoints = () if control is None else attach(engine, control, from_network=True).endpoints
            for warning in warn_of_other_machines(control_endpoints):
                click.echo(warning, err=True)
            statistics = engine.statistics()
            ports = statistics.brokers[name].ports
            wire = describe_wire_ports({port: one.transport for port, one in ports.items()})
            click.echo(f"broker {name}  {device.name}, {statistics.pump} pump, {statistics.waiter} waiter{wire}")
            for line in describe_ports(device, broker, {**endpoints, "capture": capture}):
                click.echo(line)
            for address in control_endpoints:
                click.echo(f"control {address}  pollbroker ctl {address_from(address, 'here')} STATISTICS")
            click.echo("ready  Ctrl-C or SIGTERM ends it in order, a second one at once")
            return serve(engine, broker, signals, drain_s=drain_s)
        finally:
            engine.close(timeout_s=0)


def warn_of_other_machines(addresses: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each address of a control socket that is not on the loopback interface."""
    for address in addresses:
        if not is_loopback(address):
            yield (
                f"pollbroker: warning: control: whoever reaches {address} can stop the broker; "
                "use ipc://path or tcp://127.0.0.1:port instead"
            )


def describe_wire_ports(transports: Mapping[str, str]) -> str:
    """The end of the line about a broker: which of its ports are the wire's, by what serves each of them. Empty if none
    is."""
    wire = [name for name, transport in transports.items() if transport == WIRE]
    if not wire:
        return ""
    return ", wire ports" if len(wire) == len(transports) else f", wire ports: {', '.join(wire)}"


def describe_ports(device: Device, broker: Broker, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each address of a broker: who connects there. `given` has the endpoints by the port's name."""
    for port in broker.ports.values():
        for address, endpoint in zip(port.endpoints, parse_endpoints(port.name, given[port.name]), strict=True):
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
