"""What a daemon opens for operators: the control socket, metrics and health over HTTP, and the socket at which it waits
for its successor.

A daemon that serves no metrics does not import what that needs, which would take a fifth of the time of its start.
"""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from pollbroker.control import Command, ControlServer
from pollbroker.control.server import MoreCommands
from pollbroker.daemon.configuration import Configuration
from pollbroker.daemon.control_socket import open_control
from pollbroker.daemon.problems import Problem
from pollbroker.daemon.reload_metrics import ReloadCollector
from pollbroker.daemon.successors import SuccessorSocket
from pollbroker.engine import Engine
from pollbroker.errors import PollbrokerError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from pollbroker.metrics import MetricsServer


class Servers:
    """The servers of one daemon.

    Arguments:
        environment: where the default control endpoint is looked up.
        commands: the commands of the control socket that not every engine has.
        more_commands: those of them with frames of their own; see `pollbroker.control.attach`.
        collector: metrics of the daemon itself.
        is_ending: returns True when the daemon is about to end, so that it is not ready any more.
        on_successor: called in the engine's thread when somebody has come to `successors`.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        commands: Mapping[bytes, Callable[[], object] | Command],
        more_commands: MoreCommands,
        collector: ReloadCollector,
        is_ending: Callable[[], bool],
        on_successor: Callable[[], object],
    ) -> None:
        self._environment = environment
        self._commands = commands
        self._more_commands = more_commands
        self._collector = collector
        self._is_ending = is_ending
        self._on_successor = on_successor
        self._changing = threading.Lock()  # one thread may end the daemon while another one opens
        self._closed = False
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
        """Open what a configuration asks for, unless all is closed already. Return what is wrong."""
        with self._changing:
            return [] if self._closed else self._open(engine, configuration)

    def _open(self, engine: Engine, configuration: Configuration) -> list[Problem]:
        problems: list[Problem] = []
        try:
            self._control = open_control(engine, configuration, self._environment, self._commands, self._more_commands)
        except PollbrokerError as error:
            problems.append(configuration.control_place.problem(str(error).removeprefix("control: ")))
        if configuration.http is not None:
            from pollbroker.metrics import serve_metrics

            try:
                self._metrics = serve_metrics(engine, configuration.http, is_ending=self._is_ending)
                self._metrics.registry.register(cast("Collector", self._collector))  # it has the methods of one
            except PollbrokerError as error:
                problems.append(configuration.http_place.problem(str(error).removeprefix("http: ")))
        if configuration.takeover is not None:
            try:
                self.successors = SuccessorSocket(configuration.takeover)
                engine.add_reader(self.successors.fileno(), self._on_successor)
            except PollbrokerError as error:
                problems.append(configuration.takeover_place.problem(str(error)))
        return problems

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
