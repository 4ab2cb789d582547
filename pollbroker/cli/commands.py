"""The command `pollbroker`, and how the errors of its subcommands are reported.

- An error is one line on stderr that says where it is, what was found, and what was expected. It is never a traceback
  or a usage text.
- Exit codes: 0 everything went well; 1 what was run failed (a broker, a check, an old libzmq); 2 the arguments were
  wrong, or the command could not begin; 3, 4 and 5 what became of a command of `ctl` (`EXITS_OF_CTL`); 130 it was ended
  by Ctrl-C, where Ctrl-C does not ask for an orderly end (143 SIGTERM, 129 SIGHUP); 141 the process that read its
  output has ended, which is not reported as an error.
- A command returns its exit code, or None for 0.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, NoReturn

import click
import zmq

from pollbroker.cli.ctl import ctl
from pollbroker.cli.daemon import COMMANDS as DAEMON_COMMANDS
from pollbroker.cli.demo.command import demo
from pollbroker.cli.devices import device_command
from pollbroker.cli.doctor import doctor
from pollbroker.cli.fuzz import fuzz
from pollbroker.cli.patched import patched
from pollbroker.errors import (
    CommandRefusedError,
    ControlError,
    NoAnswerError,
    NobodyListensError,
    NotInTimeError,
    PollbrokerError,
    did_you_mean,
)
from pollbroker.standard_devices import DEVICES
from pollbroker.version import __version__

EXIT_MISUSED = 2
EXIT_INTERRUPTED = 130
"""The exit code that shells report for a process that SIGINT has ended: 128 + 2."""
EXIT_CUT_OFF = 141
"""The exit code that shells report for a process that SIGPIPE has ended, as it ends most commands whose output is piped
into `head`: 128 + 13."""


EXITS_OF_CTL: Final[Mapping[type[ControlError], int]] = {
    CommandRefusedError: 3,
    NobodyListensError: 4,
    NoAnswerError: 5,
    NotInTimeError: 5,
}


class OneLineErrors(click.Group):
    """A group of commands whose errors are one line on stderr, and an exit code."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run a command and exit; with `standalone_mode=False` return or raise what it returns or raises."""
        run = partial(super().main, *args, standalone_mode=False, **kwargs)
        if not standalone_mode:
            return run()
        try:
            code: Any = run()
        except click.Abort:
            code = EXIT_INTERRUPTED
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            where = "pollbroker" if context is None else context.command_path
            _fail(error.exit_code, _describe(error, context), where)
        except SystemExit as exit_:
            code = exit_.code
        except (PollbrokerError, zmq.ZMQError, OSError) as error:
            _fail(
                next((code for kind, code in EXITS_OF_CTL.items() if isinstance(error, kind)), EXIT_MISUSED), str(error)
            )
        except UnicodeEncodeError as error:
            _fail(EXIT_MISUSED, f"{error.object!a}: expected text in UTF-8")
        _flush_output()
        sys.exit(code or 0)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments, which prints help or the version if they ask for it."""
        with _quiet_when_cut_off():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _quiet_when_cut_off():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names. Raises `click.UsageError`, which suggests a similar
        name."""
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            near = did_you_mean(args[0], known) or f"; expected {', '.join(known)}"
            ctx.fail(f"{args[0]!r} is not a command{near}")
        return super().resolve_command(ctx, args)


def _describe(error: click.ClickException, context: click.Context | None) -> str:
    if not isinstance(error, click.NoSuchOption) or context is None:
        return error.format_message()
    known = [name for parameter in context.command.get_params(context) for name in parameter.opts if name[:1] == "-"]
    near = did_you_mean(error.option_name, known) or f"; expected one that {context.command_path} --help names"
    return f"{error.option_name!r} is not an option{near}"


@contextmanager
def _quiet_when_cut_off() -> Iterator[None]:
    """As a context: exit without an error message when the process that read the output has ended.

    click would exit with 1 then, which here says that a check failed.
    """
    try:
        yield
    except BrokenPipeError:
        sys.exit(EXIT_CUT_OFF)
    except SystemExit as exit_:
        if isinstance(exit_.__context__, BrokenPipeError):  # rich has caught it and exited
            sys.exit(EXIT_CUT_OFF)
        raise


def _fail(code: int, message: str, where: str = "pollbroker") -> NoReturn:
    with suppress(OSError):  # stderr is closed, so the error cannot be reported
        click.echo(f"{where}: {' '.join(message.split())}", err=True)
    _flush_output()
    sys.exit(code)


def _flush_output() -> None:
    """Discard output that cannot be written. Python would try to write it again at its end, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@click.group("pollbroker", cls=OneLineErrors, invoke_without_command=True)
@click.version_option(__version__, prog_name="pollbroker")
@click.pass_context
def main(context: click.Context) -> None:
    """Run ZeroMQ brokers, steer them, and see how they do."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _device in DEVICES.values():
    main.add_command(device_command(_device))
for _command in (*DAEMON_COMMANDS, ctl, doctor, demo, fuzz, patched):
    main.add_command(_command)
