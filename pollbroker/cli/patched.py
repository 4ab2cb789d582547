"""`pollbroker patched`: run a program whose devices are pollbroker's, though its source says `zmq.devices`.

The program takes the place of this process, so its signals, its exit code and its terminal are its own.
"""

import os
import signal
from typing import NoReturn

import click

from pollbroker.devices import patched_environment


@click.command(
    short_help="Run another program on pollbroker's devices.",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def patched(program: str, arguments: tuple[str, ...]) -> NoReturn:
    """Run PROGRAM with ARGUMENTS, and with pollbroker's devices in the place of pyzmq's, in each Python process that it
    starts.

    PROGRAM is a command, such as python or one that pip has installed. Its Python must have pollbroker installed.
    """
    environment = patched_environment()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the program would inherit that
    try:
        os.execvpe(program, [program, *arguments], environment)
    except OSError as error:
        raise click.UsageError(f"{program}: {error.strerror}; expected a command") from None
