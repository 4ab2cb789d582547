"""The commands about brokers from a file: `run`, `check`, `show`, `schema` and `init`."""

import json
import logging
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Final

import click

from pollbroker.cli.serving import LOG_OPTIONS, serve
from pollbroker.cli.signals import EndingSignals
from pollbroker.daemon import (
    EXAMPLE,
    ConfigurationError,
    Daemon,
    effective,
    read_checked,
    read_configuration,
)
from pollbroker.daemon import schema as schema_of_files

EXIT_WRONG: Final = 1

_logger = logging.getLogger("pollbroker.daemon")

_FILE: Final = click.Argument(["file"], type=click.Path(exists=True, dir_okay=False, path_type=Path))


def _report(error: ConfigurationError, *, err: bool) -> int:
    for problem in error.problems:
        click.echo(str(problem), err=err)
    return EXIT_WRONG


@click.command(short_help="Run the brokers of a configuration file.", params=[_FILE, *LOG_OPTIONS])
@click.option("--takeover", is_flag=True, help="Take the place of the daemon that runs.")
@click.option("--takeover-fd", type=int, hidden=True, help="A socket to the daemon whose place is taken.")
def run(file: Path, log_format: str, log_level: str, takeover: bool, takeover_fd: int | None) -> int:
    """Run all brokers of a configuration FILE in one thread.

    SIGHUP, and the command RELOAD of `pollbroker ctl`, read the file again: brokers that have not changed are not
    touched, and a file that is wrong changes nothing. Ctrl-C and SIGTERM end the brokers in order: the messages that
    they still have are delivered first, for as long as `drain_timeout_s` allows. A second signal ends them at once.

    With --takeover, the daemon that waits at the path `takeover` of the file hands over its addresses, and its live
    connections where ports are the wire's, and ends. SIGUSR2 starts the program anew in that way.

    Exit codes: 0 the brokers that were there at the end delivered everything; 1 messages were lost then, a broker
    failed, or the file is wrong; 2 the arguments were wrong; 130, 143 it was ended at once.
    """
    daemon = Daemon(file, restart_command=_restart_command(file, log_format, log_level))
    return serve(
        daemon,
        EndingSignals(daemon, on_hangup=daemon.request_reload, on_user_signal=daemon.request_restart),
        log_format=log_format,
        log_level=log_level,
        exit_refused=EXIT_WRONG,
        reloads=True,
        predecessor=partial(_predecessor, daemon, takeover, takeover_fd),
    )


def _restart_command(file: Path, log_format: str, log_level: str) -> list[str]:
    """What starts this program anew. The file has its absolute path, and a descriptor is appended."""
    logs = ("--log-format", log_format, "--log-level", log_level)
    return [sys.executable, "-m", "pollbroker", "run", *logs, str(file.absolute()), "--takeover-fd"]


def _predecessor(daemon: Daemon, takeover: bool, descriptor: int | None) -> socket.socket | None:
    """The socket to the daemon whose place is taken; None if there is none."""
    if descriptor is not None:
        return socket.socket(fileno=descriptor)
    if not takeover:
        return None
    found = daemon.connect_to_predecessor()
    if found is None:
        _logger.info("takeover  no other daemon runs")
    return found


@click.command(short_help="Say what is wrong with a configuration file.", params=[_FILE])
@click.option("--json", "as_json", is_flag=True, help="Print the problems as a list in JSON.")
def check(file: Path, as_json: bool) -> int:
    """Say what is wrong with a configuration FILE, and with its brokers together: each problem with its file, its line,
    its key, what was found and what was expected. No address is bound and nothing stays open; devices of your own are
    imported.

    Exit codes: 0 nothing is wrong; 1 something is; 2 the arguments were wrong.
    """
    try:
        configuration = read_checked(file)
    except ConfigurationError as error:
        if as_json:
            click.echo(json.dumps([vars(problem) for problem in error.problems], indent=2))
            return EXIT_WRONG
        return _report(error, err=False)
    number = len(configuration.brokers)
    click.echo("[]" if as_json else f"ok  {number} {'broker' if number == 1 else 'brokers'}")
    return 0


@click.command(short_help="Print a configuration with all defaults.", params=[_FILE])
def show(file: Path) -> int:
    """Print the effective configuration of a FILE, and of those that it includes, as one: with all defaults applied and
    the environment filled in. Passwords and secret keys are hidden."""
    try:
        click.echo(effective(read_configuration(file)), nl=False)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error.name} is missing; pip install 'pollbroker[daemon]' installs it") from None
    except ConfigurationError as error:
        return _report(error, err=True)
    return 0


@click.command(short_help="Print the JSON Schema of configuration files.")
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors that complete and check TOML by one."""
    click.echo(json.dumps(schema_of_files(), indent=2))


@click.command(short_help="Print an example of a configuration file.")
def init() -> None:
    """Print a configuration file with comments, to begin with: `pollbroker init > brokers.toml`."""
    click.echo(EXAMPLE, nl=False)


COMMANDS: Final[tuple[click.Command, ...]] = (run, check, show, schema, init)
