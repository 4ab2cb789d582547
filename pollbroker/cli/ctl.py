"""`pollbroker ctl`: send one command to a running engine, and print the reply."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import click

from pollbroker.cli.adding import add_brokers
from pollbroker.cli.arguments import one_of, seconds
from pollbroker.cli.following import follow_events, follow_tap
from pollbroker.control import request
from pollbroker.errors import ControlError

_COUNTS: Final = tuple(f"{port} {way}" for port in ("frontend", "backend") for way in ("received", "sent"))


def describe_statistics(frames: Sequence[bytes]) -> list[str]:
    """Describe the reply to STATISTICS, with one line for what each port received and one for what it sent.

    Raises `ControlError` if the reply is not 8 frames of 8 bytes, as in zmq_proxy_steerable(3).
    """
    if len(frames) != 2 * len(_COUNTS) or any(len(frame) != 8 for frame in frames):
        raise ControlError(f"STATISTICS: {list(frames)!r} came back; expected 8 frames of 8 bytes")
    numbers = [struct.unpack("=Q", frame)[0] for frame in frames]
    return [
        f"{name:<17}  {count} {'frame' if count == 1 else 'frames'}, {size} bytes"
        for name, count, size in zip(_COUNTS, numbers[::2], numbers[1::2], strict=True)
    ]


def _describe_nothing(frames: Sequence[bytes]) -> list[str]:  # noqa: ARG001 - as the others in `_COMMANDS`
    return ["done"]


def _describe_list(frames: Sequence[bytes]) -> list[str]:
    return [name.decode(errors="backslashreplace") for name in frames[1:]]


def _describe_json(frames: Sequence[bytes]) -> list[str]:
    return [frame.decode(errors="backslashreplace") for frame in frames[1:]]


_COMMANDS: Final[Mapping[str, Callable[[Sequence[bytes]], list[str]]]] = {
    "PAUSE": _describe_nothing,
    "RESUME": _describe_nothing,
    "TERMINATE": _describe_nothing,
    "STATISTICS": describe_statistics,
    "LIST": _describe_list,
    "STATS": _describe_json,
    "PEERS": _describe_json,
    "RELOAD": _describe_nothing,
    "REMOVE": _describe_list,
}
"""How the reply to each command is printed."""


_OTHERS: Final = ("EVENTS", "TAP", "ADD")
"""The commands that print or read in a way of their own."""


@click.command(short_help="Steer a running engine, or read its statistics.")
@click.argument("endpoint")
@click.argument("command", metavar="COMMAND", type=one_of((*_COMMANDS, *_OTHERS), "a command"))
@click.argument("broker", required=False)
@click.option(
    "--timeout",
    "timeout_s",
    type=seconds,
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="The longest time to wait for the reply.",
)
@click.option("--json", "as_json", is_flag=True, help="EVENTS, TAP: print each as a line of JSON.")
@click.option("--port", metavar="PORT", help="TAP: only what comes from this port, or goes to it.")
@click.option("--bodies", is_flag=True, help="TAP: print the beginning of each frame, if the daemon allows it.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="TAP: end after so many messages.")
def ctl(
    endpoint: str,
    command: str,
    broker: str | None,
    timeout_s: float,
    as_json: bool,
    port: str | None,
    bodies: bool,
    count: int | None,
) -> int | None:
    """Send COMMAND to the engine whose control socket is at ENDPOINT, and print the reply.

    PAUSE, RESUME, TERMINATE, STATISTICS (numbers of frames and bytes), STATS (all statistics, as JSON) and PEERS (who
    is connected to ports of the wire, as JSON) apply to all brokers of the engine, or only to the one named BROKER.
    LIST prints the names of the brokers. RELOAD makes `pollbroker run` read its file again; it logs what has changed.

    REMOVE ends a broker in order: it delivers what it has first. ADD adds the brokers on standard input, tables
    [brokers.NAME] in TOML, to those of `pollbroker run`. EVENTS prints what happens, until Ctrl-C: brokers come and go,
    peers connect and leave, handshakes fail. TAP prints the messages that pass a broker: their sizes, and the routing
    id or the topic.

    Exit codes: 0 it is done; 1 the broker that was followed has ended; 2 the arguments were wrong; 3 the engine has
    refused the command; 4 nobody listens at ENDPOINT; 5 there was no answer in time; 130 it was ended by Ctrl-C.
    """
    if command == "EVENTS":
        return follow_events(endpoint, broker, as_json=as_json, timeout_s=timeout_s)
    if command == "TAP":
        return follow_tap(endpoint, broker, port=port, bodies=bodies, count=count, as_json=as_json, timeout_s=timeout_s)
    if command == "ADD":
        return add_brokers(endpoint, timeout_s=timeout_s)
    for line in _COMMANDS[command](request(endpoint, command, broker, timeout_s=timeout_s)):
        click.echo(line)
    return None
