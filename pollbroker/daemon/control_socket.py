"""The control socket of a daemon: where the file says, or at the default endpoint."""

import errno
import logging
import os
from collections.abc import Callable, Mapping
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
from pollbroker.daemon.configuration import Configuration
from pollbroker.engine import Engine
from pollbroker.errors import EndpointError

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
        return serve(list(map(str, configuration.control)))
    if not isinstance(configuration.engine.control, UnsetType):
        return None
    path = path_to_serve(environment)
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
        process = process_listening_at(path)
        if process is None:
            raise EndpointError(f"{error}; another endpoint can be set: control = 'ipc://...' in [engine]") from error
        raise EndpointError(
            f"ipc://{path}: another daemon (process {process}) has the default endpoint; expected none, or "
            "control = 'ipc://...' or control = [] in [engine]"
        ) from error


def _check_ours(directory: Path) -> None:
    """Raise `OSError` if others may put files into a directory."""
    found = directory.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise OSError(f"{directory} is not ours, or others may write there; expected mode 0700")
