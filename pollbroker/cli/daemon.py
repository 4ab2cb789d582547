"""The commands about brokers from a file: `run`, `check`, `show`, `schema` and `init`.

They need what `pip install 'pollbroker[daemon]'` installs, which is imported when one of them is called.
"""

import gc
import importlib
import importlib.util
import json
import logging
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Final

import click

from pollbroker.cli.devices import address_from, describe_ports, describe_wire_ports
from pollbroker.cli.log_formats import JsonFormat, TextFormat
from pollbroker.cli.logs import logging_to
from pollbroker.cli.signals import EndingSignals
from pollbroker.ending import Ended
from pollbroker.errors import HandOverError

if TYPE_CHECKING:
    from pollbroker.daemon import ConfigurationError, Daemon

EXIT_WRONG: Final = 1

_logger = logging.getLogger("pollbroker.daemon")

_FILE: Final = click.Argument(["file"], type=click.Path(exists=True, dir_okay=False, path_type=Path))


def _check_libraries() -> None:
    """Raise an error that says how to install what is missing."""
    try:
        importlib.import_module("msgspec")
        importlib.import_module("tomli_w")
        missing = None if importlib.util.find_spec("prometheus_client") else "prometheus_client"  # imported if needed
    except ModuleNotFoundError as error:
        missing = error.name
    if missing:
        raise click.UsageError(f"{missing} is missing; pip install 'pollbroker[daemon]' installs it")


def _report(error: "ConfigurationError", *, err: bool) -> int:
    for problem in error.problems:
        click.echo(str(problem), err=err)
    return EXIT_WRONG


@click.command(short_help="Run the brokers of a configuration file.", params=[_FILE])
@click.option(
    "--log-format",
    type=click.Choice(["text", "timed", "json"]),
    default="text",
    help="text: facts on stdout, and what is wrong on stderr; timed: the same with the time and the level before each "
    "line; json: one JSON object a line, all on stdout.",
    show_default=True,
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least level that is logged.",
    show_default=True,
)
@click.option("--takeover", is_flag=True, help="Take the place of the daemon that runs.")
@click.option("--takeover-fd", type=int, hidden=True, help="A socket to the daemon whose place is taken.")
def run(file: Path, log_format: str, log_level: str, takeover: bool, takeover_fd: int | None) -> int:
    """Run all brokers of a configuration FILE in one thread.

    SIGHUP, and the command RELOAD of `pollbroker ctl`, read the file again: brokers that have not changed are not
    touched, and a file that is wrong changes nothing. Ctrl-C and SIGTERM end the brokers in order: the messages that
    they still have are delivered first, for as long as `drain_timeout_s` allows. A second signal ends them at once.

    With --takeover, the daemon that waits at the path `takeover` of the file hands over its addresses, and its live
    connections where ports are the wire's, and ends. SIGUSR2 starts the program anew in that way.

    Exit codes: 0 everything was delivered; 1 messages were lost, a broker failed, or the file is wrong; 2 the arguments
    were wrong; 130, 143 it was ended at once.
    """
    _check_libraries()
    from pollbroker.daemon import ConfigurationError, Daemon

    daemon = Daemon(file, restart_command=_restart_command(file, log_format, log_level))
    signals = EndingSignals(daemon, on_hangup=daemon.request_reload, on_user_signal=daemon.request_restart)
    lines = JsonFormat(lambda: daemon.port_names) if log_format == "json" else TextFormat(timed=log_format == "timed")
    with logging_to(lines, logging.getLevelNamesMapping()[log_level.upper()]), signals:
        try:
            with _making_what_stays():
                daemon.start(_predecessor(daemon, takeover, takeover_fd))
                for line in _describe(daemon):
                    _logger.info("%s", line)
            daemon.run()
            _logger.info("ending  %s", _reason(daemon, signals.first))
            return _report_end(daemon.end())
        except ConfigurationError as error:
            for problem in error.problems:
                _logger.error("%s", problem, extra={"plain": True, **vars(problem)})
            return EXIT_WRONG
        except HandOverError as error:
            _logger.error("takeover: %s", error)
            return EXIT_WRONG
        finally:
            daemon.close()


@contextmanager
def _making_what_stays() -> Iterator[None]:
    """As a context: the garbage collector looks at nothing that is made here, neither now nor later. It stays as long
    as the daemon, and to go through the objects of a thousand brokers holds up the engine for many milliseconds."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _restart_command(file: Path, log_format: str, log_level: str) -> list[str]:
    """What starts this program anew. The file has its absolute path, and a descriptor is appended."""
    logs = ("--log-format", log_format, "--log-level", log_level)
    return [sys.executable, "-m", "pollbroker", "run", *logs, str(file.absolute()), "--takeover-fd"]


def _predecessor(daemon: "Daemon", takeover: bool, descriptor: int | None) -> socket.socket | None:
    """The socket to the daemon whose place is taken; None if there is none."""
    if descriptor is not None:
        return socket.socket(fileno=descriptor)
    if not takeover:
        return None
    found = daemon.connect_to_predecessor()
    if found is None:
        _logger.info("takeover  no other daemon runs")
    return found


def _describe(daemon: "Daemon") -> Iterator[str]:
    statistics = daemon.engine.statistics(())  # those of many brokers would take long
    brokers = daemon.engine.brokers
    for name, configured in daemon.configuration.brokers.items():
        if name in brokers:
            wire = describe_wire_ports({port.name: port.transport for port in configured.plan.ports})
            yield f"broker {name}  {configured.device_name}{wire}"
            given = {port: list(map(str, one.endpoints)) for port, one in configured.ports.items()}
            yield from describe_ports(configured.device, brokers[name], given)
    for address in daemon.servers.control_endpoints:
        yield f"control {address}  pollbroker ctl {address_from(address, 'here')} STATS"
    if daemon.servers.http_address is not None:
        yield f"http {daemon.servers.http_address}  /metrics /livez /readyz /statz"
    number = len(brokers)
    yield (
        f"ready  {number} {'broker' if number == 1 else 'brokers'}, {statistics.pump} pump, {statistics.waiter} "
        "waiter; SIGHUP reloads, Ctrl-C or SIGTERM ends them in order, a second one at once"
    )


def _reason(daemon: "Daemon", signal: Signals | None) -> str:
    if daemon.successor is not None:
        return f"process {daemon.successor.process} has taken over"
    if signal is not None:
        return signal.name
    brokers = daemon.engine.brokers.values()
    return "every broker has ended" if brokers and all(one.removed.done() for one in brokers) else "TERMINATE"


def _report_end(ended: Mapping[str, Ended]) -> int:
    code = 0
    for name, one in ended.items():
        if one.failed:
            _logger.error("brokers.%s: failed: %s", name, one.final.error, extra={"broker": name})
        if one.loss is not None:
            _logger.error("%s", one.loss, extra={"broker": name})
        if one.failed or one.loss is not None:
            code = EXIT_WRONG
    flows = [flow for one in ended.values() for flow in one.final.flows.values()]
    left = sum(one.left for one in ended.values())
    _logger.info(
        "ended  %d %s, %d received, %d sent, %d left",
        len(ended), "broker" if len(ended) == 1 else "brokers", sum(flow.received for flow in flows),
        sum(flow.sent for flow in flows), left,
    )  # fmt: skip
    return code


@click.command(short_help="Say what is wrong with a configuration file.", params=[_FILE])
@click.option("--json", "as_json", is_flag=True, help="Print the problems as a list in JSON.")
def check(file: Path, as_json: bool) -> int:
    """Say what is wrong with a configuration FILE, and with its brokers together: each problem with its file, its line,
    its key, what was found and what was expected. No address is bound and nothing stays open; devices of your own are
    imported.

    Exit codes: 0 nothing is wrong; 1 something is; 2 the arguments were wrong.
    """
    _check_libraries()
    from pollbroker.daemon import ConfigurationError, read_checked

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
    _check_libraries()
    from pollbroker.daemon import ConfigurationError, effective, read_configuration

    try:
        click.echo(effective(read_configuration(file)), nl=False)
    except ConfigurationError as error:
        return _report(error, err=True)
    return 0


@click.command(short_help="Print the JSON Schema of configuration files.")
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors that complete and check TOML by one."""
    _check_libraries()
    from pollbroker import daemon

    click.echo(json.dumps(daemon.schema(), indent=2))


@click.command(short_help="Print an example of a configuration file.")
def init() -> None:
    """Print a configuration file with comments, to begin with: `pollbroker init > brokers.toml`."""
    _check_libraries()
    from pollbroker.daemon import EXAMPLE

    click.echo(EXAMPLE, nl=False)


COMMANDS: Final[tuple[click.Command, ...]] = (run, check, show, schema, init)
