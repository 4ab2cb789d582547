"""One command for each device in `DEVICES`: it runs a daemon of one broker until it is told to end.

A file can say more of a broker than such a command (`pollbroker run`). What is true of both is in `serving.py`.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import click
import zmq

from pollbroker.cli.arguments import gathered, seconds, socket_option
from pollbroker.cli.commands import EXIT_MISUSED
from pollbroker.cli.describing import peers_of, type_at
from pollbroker.cli.serving import LOG_OPTIONS, serve
from pollbroker.cli.settings import setting_options, with_given_settings
from pollbroker.cli.signals import EndingSignals
from pollbroker.daemon import Daemon
from pollbroker.daemon.single import single
from pollbroker.device import CAPTURE, Device
from pollbroker.standard_devices import DEVICES
from pollbroker.transports import AUTO, LIBZMQ, WIRE

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
    peers = "; ".join(f"{port} {type_at(device, port).name}, for {peers_of(device, port)}" for port in ports)
    return click.Command(
        device.name.replace("_", "-"),
        params=[click.Argument([port], metavar=port.upper()) for port in ports] + list(_options(device, ports)),
        callback=partial(run_device, device),
        help=f"Run a {device.name}: {peers}.",
        short_help=f"Run a {device.name} ({' to '.join(type_at(device, port).name for port in ports)}).",
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
        ["--http"],
        metavar="HOST:PORT",
        help="Where metrics and health are served, such as 127.0.0.1:9464. It needs pip install 'pollbroker[daemon]'.",
    )
    yield click.Option(
        ["--transport"],
        type=click.Choice([AUTO, WIRE, LIBZMQ]),
        help="What serves the ports: libzmq, or the wire, for tcp:// and ipc:// (docs/explanation/wire.md). By default "
        "the variable POLLBROKER_TRANSPORT decides, and otherwise auto: the wire for each port that it can serve.",
    )
    yield click.Option(["--hwm"], type=marks, help="The high-water mark of both sockets, in messages; 0 is no limit.")
    yield click.Option(["--sndhwm"], type=marks, help="The high-water mark for sending only.")
    yield click.Option(
        ["--rcvhwm"],
        type=marks,
        help="The high-water mark for receiving only. Ports of the wire have no use for it.",
    )
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
    yield from LOG_OPTIONS


def _has_slow_peers(device: Device) -> bool:
    """Return True if a sink is a ROUTER that refuses a message for a full peer (ROUTER_MANDATORY). Without that option
    a ROUTER drops such a message in silence."""
    sinks = device.ports if device.behaviour else {sink for route in device.routes for sink in route.sinks}
    return any(
        type_at(device, sink) is zmq.ROUTER and device.options_of(sink).get("router_mandatory") for sink in sinks
    )


def run_device(
    device: Device,
    *,
    name: str,
    capture: str | None,
    control: str | None,
    http: str | None,
    transport: str | None,
    hwm: int | None,
    sndhwm: int | None,
    rcvhwm: int | None,
    topic: tuple[str, ...] = (),
    slow_peer: Literal["drop", "wait"] = "drop",
    drain_s: float,
    log_format: str,
    log_level: str,
    **given: Any,
) -> int:
    """Run one broker until it is told to end. Return the exit code.

    `given` has the endpoint of each port by the port's name, its socket options by that name with `_option` after it,
    and the settings of the device's behaviour by their names.
    """
    marks = {"sndhwm": hwm if sndhwm is None else sndhwm, "rcvhwm": hwm if rcvhwm is None else rcvhwm}
    shared = {key: value for key, value in marks.items() if value is not None}
    # For the system an argument is bytes, so a topic need not be UTF-8.
    topics = tuple(("subscribe", os.fsencode(one)) for one in topic)
    configuration = single(
        name,
        with_given_settings(replace(device, slow_peer=slow_peer), given),
        {port: given[port] for port in device.ports} | ({} if capture is None else {CAPTURE: capture}),
        options={
            port: shared | gathered((topics if zmq.SUB in device.types_of(port) else ()) + given[f"{port}_option"])
            for port in device.ports
        },
        transport=transport,
        control=control,
        http=http,
        drain_timeout_s=drain_s,
    )
    daemon = Daemon(configuration)
    return serve(daemon, EndingSignals(daemon), log_format=log_format, log_level=log_level, exit_refused=EXIT_MISUSED)
