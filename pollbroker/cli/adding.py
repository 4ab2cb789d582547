"""`pollbroker ctl add`: brokers on standard input are added to a daemon."""

import sys
from typing import Any, Final

import click
import zmq

from pollbroker.control import ask
from pollbroker.errors import CommandRefusedError

EXIT_REFUSED: Final = 3

_MOST_BYTES: Final = 1 << 20
"""What a control socket takes."""


def add_brokers(endpoint: str, *, timeout_s: float) -> int:
    """Send the brokers on standard input to a daemon, and print the names of those that were added, or everything that
    is wrong with them."""
    toml = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(toml) > _MOST_BYTES:
        raise click.UsageError(f"standard input: expected at most {_MOST_BYTES >> 20} MiB")
    try:
        with zmq.Context[Any]() as context:
            added = ask(endpoint, [b"ADD", toml], timeout_s=timeout_s, context=context)[1:]
    except CommandRefusedError as error:
        for line in error.lines:
            click.echo(line, err=True)
        return EXIT_REFUSED
    for name in added:
        click.echo(f"added  {name.decode(errors='backslashreplace')}")
    return 0
