"""Serving: run a daemon until it is told to end, and say what it does, and what was lost."""

import gc
import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from signal import Signals
from typing import Final

import click

from pollbroker.cli.describing import describe_begun_late, describe_daemon, describe_flow, warn_of_other_machines
from pollbroker.cli.log_formats import JsonFormat, TextFormat
from pollbroker.cli.logs import logging_to
from pollbroker.cli.signals import EndingSignals
from pollbroker.daemon import ConfigurationError, Daemon
from pollbroker.ending import Ended
from pollbroker.errors import HandOverError

EXIT_FAILED: Final = 1
"""The exit code if a broker failed, or if messages were lost."""

LOG_OPTIONS: Final = (
    click.Option(
        ["--log-format"],
        type=click.Choice(["text", "timed", "json"]),
        default="text",
        help="text: facts on stdout, and what is wrong on stderr; timed: the same with the time and the level before "
        "each line; json: one JSON object a line, all on stdout.",
        show_default=True,
    ),
    click.Option(
        ["--log-level"],
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        help="The least level that is logged.",
        show_default=True,
    ),
)
"""The options of a command that serves."""

_logger = logging.getLogger("pollbroker.daemon")


def serve(
    daemon: Daemon,
    signals: EndingSignals,
    *,
    log_format: str,
    log_level: str,
    exit_refused: int,
    reloads: bool = False,
    predecessor: Callable[[], socket.socket | None] = lambda: None,
) -> int:
    """Run a daemon until a signal comes, a TERMINATE command comes, or every broker has ended.

    Arguments:
        daemon: the daemon, not yet started.
        signals: those that end it.
        log_format, log_level: see `LOG_OPTIONS`.
        exit_refused: the exit code if its configuration is wrong, or if it cannot begin.
        reloads: True if SIGHUP has it read its file again.
        predecessor: called before the start; returns the socket to the daemon whose place is taken, or None.

    Returns the exit code: 1 if a broker failed, or if messages were lost.
    """
    lines = JsonFormat(lambda: daemon.port_names) if log_format == "json" else TextFormat(timed=log_format == "timed")
    with logging_to(lines, logging.getLevelNamesMapping()[log_level.upper()]), signals:
        try:
            with making_what_stays():
                daemon.start(predecessor())
                with daemon.changing:
                    for warning in warn_of_other_machines(daemon.servers.control_endpoints):
                        _logger.warning("%s", warning)
                    _log_facts(describe_daemon(daemon, reloads=reloads))
                    daemon.on_begun_late = lambda names: _log_facts(describe_begun_late(daemon, names))
            daemon.run()
            _logger.info("ending  %s", _reason(daemon, signals.first))
            code = _report_end(daemon.end())
            return exit_refused if daemon.was_refused else code
        except ConfigurationError as error:
            for problem in error.problems:
                _logger.error("%s", problem, extra={"plain": bool(problem.file), **vars(problem)})
            return exit_refused
        except HandOverError as error:
            _logger.error("takeover: %s", error)
            return exit_refused
        finally:
            daemon.close()


@contextmanager
def making_what_stays() -> Iterator[None]:
    """As a context: the garbage collector looks at nothing that is made here, neither now nor later. It stays as long
    as the daemon, and to go through the objects of a thousand brokers holds up the engine for many milliseconds."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _log_facts(lines: Iterable[str]) -> None:
    for line in lines:
        _logger.info("%s", line)


def _reason(daemon: Daemon, signal: Signals | None) -> str:
    if daemon.successor is not None:
        return f"process {daemon.successor.process} has taken over"
    if signal is not None:
        return signal.name
    if daemon.was_refused:
        return "the takeover was refused"
    if not daemon.has_no_brokers_left:
        return "TERMINATE"
    return "every broker has ended"


def _report_end(ended: Mapping[str, Ended]) -> int:
    """Say which brokers failed, what was lost with each, and what all have moved. Return the exit code."""
    code = 0
    for name, one in ended.items():
        if one.failed and len(ended) > 1:  # otherwise that has ended the daemon, and was said a moment ago
            _logger.error("brokers.%s: failed: %s", name, one.final.error, extra={"broker": name})
        if one.loss is not None:
            _logger.error("%s", one.loss, extra={"broker": name})
        if one.failed or one.loss is not None:
            code = EXIT_FAILED
    flows = [flow for one in ended.values() for flow in one.final.flows.values()]
    if len(ended) == 1:
        for flow in flows:
            _logger.info("%s", describe_flow(flow))
    left = sum(one.left for one in ended.values())
    _logger.info(
        "ended  %d %s, %d received, %d sent, %d left",
        len(ended), "broker" if len(ended) == 1 else "brokers", sum(flow.received for flow in flows),
        sum(flow.sent for flow in flows), left,
    )  # fmt: skip
    return code
