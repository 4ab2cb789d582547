"""What a daemon opens for operators: the control socket, the status page, metrics and health over HTTP, and the socket
at which it waits for its successor."""

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pollbroker.control import Command, ControlServer
from pollbroker.control.server import MoreCommands
from pollbroker.daemon.configuration import Configuration
from pollbroker.daemon.control_socket import look_at_control, open_control
from pollbroker.daemon.listening import why_not
from pollbroker.daemon.problems import Problem
from pollbroker.daemon.reload_outcome import ReloadOutcome
from pollbroker.daemon.successors import SuccessorSocket
from pollbroker.endpoint import is_loopback
from pollbroker.engine import Engine
from pollbroker.errors import ConfigError, PollbrokerError, describe_error
from pollbroker.socket_files import is_taken_path

if TYPE_CHECKING:
    from pollbroker.metrics import MetricsServer

_logger = logging.getLogger("pollbroker.daemon")


class Servers:
    """The servers of one daemon.

    Arguments:
        environment: where the default control endpoint is looked up.
        commands: the commands of the control socket that not every engine has.
        more_commands: those of them with frames of their own; see `pollbroker.control.attach`.
        reloads: what becomes of the daemon's reloads.
        is_ending: returns True when the daemon is about to end, so that it is not ready any more.
        more_reasons: returns more reasons not to be ready; see `serve_metrics`.
        on_successor: called in the engine's thread when somebody has come to `successors`.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        commands: Mapping[bytes, Callable[[], object] | Command],
        more_commands: MoreCommands,
        reloads: ReloadOutcome,
        is_ending: Callable[[], bool],
        more_reasons: Callable[[], Iterable[str]],
        on_successor: Callable[[], object],
    ) -> None:
        self._environment = environment
        self._commands = commands
        self._more_commands = more_commands
        self._reloads = reloads
        self._is_ending = is_ending
        self._more_reasons = more_reasons
        self._on_successor = on_successor
        self._changing = threading.Lock()  # one thread may end the daemon while another one opens
        self._closed = False
        self._opened: set[Callable[[Engine, Configuration], None]] = set()
        """The methods that need not be called any more: what they open is open, or the configuration has none."""
        self._control: ControlServer | None = None
        self._metrics: MetricsServer | None = None
        self.successors: SuccessorSocket | None = None
        """Where the daemon waits for its successor; None if it does not."""

    @property
    def takes_commands(self) -> bool:
        """True if there is a control socket."""
        return self._control is not None

    @property
    def control_endpoints(self) -> tuple[str, ...]:
        """The real addresses of the control socket."""
        return () if self._control is None else tuple(self._control.endpoints)

    @property
    def http_address(self) -> str | None:
        """Where metrics and health are served: the host and the port."""
        return None if self._metrics is None else self._metrics.address

    def open(self, engine: Engine, configuration: Configuration) -> list[Problem]:
        """Open what a configuration asks for and what is not open yet, unless all is closed already. Return what is
        wrong."""
        problems: list[Problem] = []
        with self._changing:
            for open_one, place, prefix in (
                (self._open_control, configuration.control_place, "control: "),
                (self._open_metrics, configuration.http_place, "http: "),
                (self._open_successors, configuration.takeover_place, ""),
            ):
                if self._closed or open_one in self._opened:
                    continue
                try:
                    open_one(engine, configuration)
                except PollbrokerError as error:
                    problems.append(place.problem(str(error).removeprefix(prefix)))
                except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep brokers from beginning
                    problems.append(place.problem(describe_error(error)))
                else:
                    self._opened.add(open_one)
        return problems

    def look_at_addresses(self, configuration: Configuration) -> Iterator[Problem]:
        """What is wrong with the addresses that a configuration asks for. Nothing is opened."""
        for text in look_at_control(configuration, self._environment):
            yield configuration.control_place.problem(text)
        if configuration.http is not None:
            address = f"tcp://{configuration.http}"
            why = why_not(address, ipv6="[" in address)
            if why is not None:
                yield configuration.http_place.problem(f"{configuration.http}: cannot listen: {why}")
        if configuration.takeover is not None and is_taken_path(f"ipc://{configuration.takeover}"):
            yield configuration.takeover_place.problem(
                f"{configuration.takeover}: cannot listen: {os.strerror(errno.EADDRINUSE)}"
            )

    def _open_control(self, engine: Engine, configuration: Configuration) -> None:
        self._control = open_control(engine, configuration, self._environment, self._commands, self._more_commands)

    def _open_metrics(self, engine: Engine, configuration: Configuration) -> None:
        if configuration.http is not None:
            self._metrics = self._serve_metrics(engine, configuration.http, configuration.http_token)
            if not is_loopback(f"tcp://{configuration.http}"):
                _logger.info(  # and no warning: a server of metrics on another machine is what it is for
                    "http: %s: other machines can reach this address, and read which brokers there are and how much "
                    "passes through them; use 127.0.0.1:port, or let only those reach it who may",
                    configuration.http,
                )

    def _open_successors(self, engine: Engine, configuration: Configuration) -> None:
        if configuration.takeover is not None:
            self.successors = SuccessorSocket(configuration.takeover)
            engine.add_reader(self.successors.fileno(), self._on_successor)

    def _serve_metrics(self, engine: Engine, address: str, token: str | None) -> "MetricsServer":
        try:
            from pollbroker.daemon.reload_metrics import ReloadCollector
            from pollbroker.metrics import serve_metrics
        except ModuleNotFoundError as error:
            raise ConfigError(f"{error.name} is missing; pip install 'pollbroker[daemon]' installs it") from None
        server = serve_metrics(engine, address, is_ending=self._is_ending, more_reasons=self._more_reasons, token=token)
        server.registry.register(ReloadCollector(self._reloads))
        return server

    def close(self, engine: Engine) -> None:
        """Close all of them, and open none from now on. Closing again does nothing."""
        with self._changing:
            self._closed = True
            if self.successors is not None:
                if not engine.closed:
                    engine.remove_reader(self.successors.fileno())
                self.successors.close()
                self.successors = None
            if self._control is not None:
                self._control.close()
            if self._metrics is not None:
                self._metrics.close()
                self._metrics = None
