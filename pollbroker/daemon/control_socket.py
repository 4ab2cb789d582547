"""The control socket of a daemon: where the file says, or at the default endpoint."""

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from msgspec import UnsetType

from pollbroker.control import Command, ControlServer, attach
from pollbroker.control.default_endpoint import (
    make_private_directory,
    path_to_serve,
    private_files,
    process_listening_at,
)
from pollbroker.control.server import MoreCommands
from pollbroker.daemon.addresses import parse
from pollbroker.daemon.configuration import Configuration
from pollbroker.daemon.listening import describe_refusal, not_tried, why_not
from pollbroker.endpoint import Endpoint
from pollbroker.engine import Engine
from pollbroker.errors import EndpointError
from pollbroker.socket_files import is_taken_path

_logger = logging.getLogger("pollbroker.daemon")


def open_control(
    engine: Engine,
    configuration: Configuration,
    environment: Mapping[str, str],
    commands: Mapping[bytes, Callable[[], object] | Command],
    more_commands: MoreCommands,
) -> ControlServer | None:
    """Open the control socket of a configuration; None if it has none.

    A default endpoint that cannot be had for lack of rights is warned of, and left out. Raises a `PollbrokerError` if
    an address is in use, or cannot be had that the file names.
    """
    serve = partial(
        attach,
        engine,
        commands=commands,
        more_commands=more_commands,
        tap_bodies=configuration.engine.tap_bodies,
        from_network=configuration.engine.control_from_network,
    )
    if configuration.control:
        try:
            return serve(list(map(str, configuration.control)))
        except EndpointError as error:  # they are bound in their order
            later = not_tried(configuration.control, error.address)
            raise EndpointError("; ".join([str(error), *_look_at(later)])) from error
    path = _default_path(configuration, environment)
    if path is None:
        return None
    try:
        make_private_directory(path)
        _check_ours(path.parent)
    except OSError as error:
        _logger.warning("control: %s: no commands are taken: %s", path, error.strerror or error)
        return None
    try:
        with private_files():
            return serve(f"ipc://{path}")
    except EndpointError as error:
        if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
            raise
        raise EndpointError(_describe_taken(path)) from error


def look_at_control(configuration: Configuration, environment: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with each address of the control socket of a configuration. Nothing is opened."""
    yield from _look_at(configuration.control)
    path = _default_path(configuration, environment)
    if path is not None and is_taken_path(f"ipc://{path}"):
        yield _describe_taken(path)


def _look_at(endpoints: Iterable[Endpoint]) -> Iterator[str]:
    for address in [one.address for one in endpoints if one.bind and parse(one.address) is not None]:
        why = why_not(address, ipv6="://[" in address)
        if why is not None:
            yield f"@{address}: cannot bind: {why}"


def _default_path(configuration: Configuration, environment: Mapping[str, str]) -> Path | None:
    """Where the control socket is if the configuration says nothing of it; None if it does, or if nobody knows."""
    return path_to_serve(environment) if isinstance(configuration.engine.control, UnsetType) else None


def _describe_taken(path: Path) -> str:
    process = process_listening_at(path)
    if process is None:
        why = describe_refusal(f"ipc://{path}", OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))
        return f"@ipc://{path}: cannot bind: {why}; another endpoint can be set: control = 'ipc://...' in [engine]"
    return (
        f"ipc://{path}: another daemon (process {process}) has the default endpoint; expected none, or "
        "control = 'ipc://...' or control = [] in [engine]"
    )


def _check_ours(directory: Path) -> None:
    """Raise `OSError` if others may put files into a directory."""
    found = directory.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise OSError(f"{directory} is not ours, or others may write there; expected mode 0700")
