"""`pollbroker ctl add` and `reload`: the brokers of a daemon are changed, or everything that is wrong is printed."""

import sys
from typing import Any, Final

import click
import zmq

from pollbroker.control import ask
from pollbroker.control.replies import Frames
from pollbroker.errors import CommandRefusedError

EXIT_REFUSED: Final = 3

_MOST_BYTES: Final = 1 << 20
"""What a control socket takes."""


def add_brokers(endpoint: str, broker: str | None, *, timeout_s: float) -> int:
    """Send the brokers on standard input to a daemon, and print the names of those that were added, or everything that
    is wrong with them."""
    if broker is not None:
        raise click.UsageError(f"ADD: {broker!r}: brokers are named on standard input; expected no name of a broker")
    toml = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(toml) > _MOST_BYTES:
        raise click.UsageError(f"standard input: expected at most {_MOST_BYTES >> 20} MiB")
    return _ask(endpoint, [b"ADD", toml], "added", timeout_s)


def reload_file(endpoint: str, broker: str | None, *, timeout_s: float) -> int:
    """Let a daemon read its file again, and print how many brokers have changed, or everything that is wrong."""
    if broker is not None:
        raise click.UsageError(f"RELOAD: {broker!r}: a file is read whole; expected no name of a broker")
    return _ask(endpoint, [b"RELOAD"], "reloaded", timeout_s)


def _ask(endpoint: str, command: Frames, done: str, timeout_s: float) -> int:
    try:
        with zmq.Context[Any]() as context:
            reply = ask(endpoint, command, timeout_s=timeout_s, context=context)
    except CommandRefusedError as error:
        for line in error.lines:
            click.echo(line, err=True)
        return EXIT_REFUSED
    for frame in reply[1:]:
        click.echo(f"{done}  {frame.decode(errors='backslashreplace')}")
    return 0
