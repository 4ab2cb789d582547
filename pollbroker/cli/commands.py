"""The command `pollbroker`, and how the errors of its subcommands are reported.

- An error is one line on stderr that says where it is, what was found, and what was expected. It is never a traceback
  or a usage text.
- Exit codes: 0 everything went well; 1 what was run failed (a broker, a check, an old libzmq); 2 the arguments were
  wrong, or the command could not begin; 3, 4 and 5 what became of a command of `ctl` (`failures.py`); 130 it was ended
  by Ctrl-C, where Ctrl-C does not ask for an orderly end (143 SIGTERM, 129 SIGHUP); 141 the process that read its
  output has ended, which is not reported as an error.
- A command returns its exit code, or None for 0.
- A command is imported when it is called (`listing.py`), and this module imports nothing that needs pyzmq. So help and
  completion come at once.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from pollbroker.cli.listing import LISTING, load
from pollbroker.version import __version__

EXIT_MISUSED = 2
EXIT_INTERRUPTED = 130
"""The exit code that shells report for a process that SIGINT has ended: 128 + 2."""
EXIT_CUT_OFF = 141
"""The exit code that shells report for a process that SIGPIPE has ended, as it ends most commands whose output is piped
into `head`: 128 + 13."""

COMPLETION_VARIABLE = "_POLLBROKER_COMPLETE"
"""By this variable a shell asks for completions (`completion.py`), however the command was called."""


class OneLineErrors(click.Group):
    """A group of commands whose errors are one line on stderr, and an exit code."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run a command and exit; with `standalone_mode=False` return or raise what it returns or raises."""
        if COMPLETION_VARIABLE in os.environ:
            import_module("pollbroker.cli.completion")  # click then knows how our script for bash asks
        kwargs.setdefault("complete_var", COMPLETION_VARIABLE)
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
        except UnicodeEncodeError as error:
            _fail(EXIT_MISUSED, f"{error.object!a}: expected text in UTF-8")
        except Exception as error:
            from pollbroker.cli.failures import exit_code_of

            failed = exit_code_of(error)
            if failed is None:
                raise
            _fail(failed, str(error))
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
            from pollbroker.errors import did_you_mean

            near = did_you_mean(args[0], known) or f"; expected {', '.join(known)}"
            ctx.fail(f"{args[0]!r} is not a command{near}")
        return super().resolve_command(ctx, args)


class ListedCommands(OneLineErrors):
    """The group of all commands in `LISTING`, each of which is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Return the names of all commands."""
        return sorted(LISTING)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as click calls it
        """Import a command. Returns None if there is none of this name."""
        return load(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, LISTING[name].text) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, and the options."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        items = [CompletionItem(name, help=LISTING[name].text) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)


def _describe(error: click.ClickException, context: click.Context | None) -> str:
    if not isinstance(error, click.NoSuchOption) or context is None:
        return error.format_message()
    from pollbroker.errors import did_you_mean

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


@click.group("pollbroker", cls=ListedCommands, invoke_without_command=True)
@click.version_option(__version__, prog_name="pollbroker")
@click.pass_context
def main(context: click.Context) -> None:
    """Run ZeroMQ brokers, steer them, and see how they do."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
