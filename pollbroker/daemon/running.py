"""A daemon at work: the brokers of a configuration are started, changed by a reload, and ended together.

- A start is whole or not at all: every address is bound before the first broker begins, and after an error everything
  is closed.
- A reload reads and checks the whole configuration first. A wrong one changes nothing.
- A broker whose configuration is equal is not touched by a reload. One that differs is ended in order, and another
  begins in its place; meanwhile the kernel keeps the connections to its addresses (`listeners.py`).
- Reloads happen one after the other, in a thread of their own, so that traffic goes on while files are read and brokers
  are drained.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from msgspec import UnsetType
from msgspec.structs import asdict

from pollbroker.broker import Broker
from pollbroker.control import ControlServer, attach
from pollbroker.daemon.checking import check
from pollbroker.daemon.configuration import BrokerConfiguration, Configuration
from pollbroker.daemon.listeners import Listeners
from pollbroker.daemon.live import AddedBrokers, LiveChanges, present
from pollbroker.daemon.problems import ConfigurationError, Problem
from pollbroker.daemon.resolving import problem_of, read_configuration
from pollbroker.ending import Ended, end_brokers
from pollbroker.engine import Engine
from pollbroker.errors import EngineError, PollbrokerError
from pollbroker.metrics import MetricsServer, serve_metrics
from pollbroker.states import FINAL_STATES, BrokerState

_logger = logging.getLogger("pollbroker.daemon")

_OF_ENGINE: Final = ("burst_messages", "burst_bytes", "spin_s", "pump", "waiter")
"""The keys of `[engine]` that are arguments of `Engine`."""

_UNTIL_RESTART: Final = (*_OF_ENGINE, "control", "http", "tap_bodies")
"""The keys of `[engine]` that a reload cannot change."""


@dataclass(frozen=True)
class Reloaded:
    """What a reload has changed: the names of brokers."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    ended: Mapping[str, Ended] | None = None
    """How those ended that were removed or changed."""
    problems: tuple[Problem, ...] = ()
    """Why a broker could not begin, or why nothing has changed."""

    def __str__(self) -> str:
        kinds = ("added", "changed", "removed", "unchanged")
        return ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in kinds)


def read_checked(path: Path, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read a configuration, and check its brokers together. Raises `ConfigurationError`."""
    configuration = read_configuration(path, environment)
    problems = check(configuration)
    if problems:
        raise ConfigurationError(problems)
    return configuration


class Daemon:
    """The brokers of a file, in one engine.

    `start` opens everything, `run` serves until `stop`, and `end` ends the brokers in order. `stop` and
    `request_reload` may be called from signal handlers.
    """

    def __init__(self, path: Path, environment: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._environment = environment
        self._listeners = Listeners()
        self._engine: Engine | None = None
        self._configuration: Configuration | None = None
        self._control: ControlServer | None = None
        self._metrics: MetricsServer | None = None
        self._live = LiveChanges(self)
        self._added = AddedBrokers()
        self._stopped = False
        self._changing = threading.Lock()
        """Held by whoever starts, changes or ends brokers."""
        self._requests: SimpleQueue[bool] = SimpleQueue()
        """True asks for a reload, False ends the thread. A signal handler may put something here at any time."""
        self._reloads: threading.Thread | None = None

    @property
    def engine(self) -> Engine:
        """The engine of a daemon that was started."""
        assert self._engine is not None, "the daemon was not started"
        return self._engine

    @property
    def configuration(self) -> Configuration:
        """The configuration by which the daemon was started, or reloaded last."""
        assert self._configuration is not None, "the daemon was not started"
        return self._configuration

    @property
    def control_endpoints(self) -> tuple[str, ...]:
        """The real addresses of the control socket."""
        return () if self._control is None else tuple(self._control.endpoints)

    @property
    def http_address(self) -> str | None:
        """Where metrics and health are served: the host and the port."""
        return None if self._metrics is None else self._metrics.address

    def start(self) -> None:
        """Read the configuration, and open everything. Raises `ConfigurationError`; then nothing is left open."""
        with self._changing:
            configuration = read_checked(self._path, self._environment)
            asked = asdict(configuration.engine)
            given = {name: asked[name] for name in _OF_ENGINE if not isinstance(asked[name], UnsetType)}
            self._engine = Engine(**given)
            try:
                self._open_all(configuration)
            except BaseException:
                self.close()
                raise
            self._configuration = configuration
        self._reloads = threading.Thread(target=self._serve_requests, name="pollbroker-reload", daemon=True)
        self._reloads.start()
        if self._stopped:
            self.engine.stop()

    def _open_all(self, configuration: Configuration) -> None:
        problems: list[Problem] = []
        for broker in configuration.brokers.values():
            with _noting(broker, problems):
                self._listeners.open_for(broker)
        if configuration.control and not problems:
            try:
                self._control = attach(
                    self.engine,
                    list(map(str, configuration.control)),
                    commands={b"RELOAD": self.request_reload},
                    more_commands=self._live.commands,
                    tap_bodies=configuration.engine.tap_bodies,
                )
            except PollbrokerError as error:
                problems.append(configuration.control_place.problem(str(error).removeprefix("control: ")))
        if configuration.http is not None and not problems:
            try:
                self._metrics = serve_metrics(self.engine, configuration.http, is_ending=lambda: self._stopped)
            except PollbrokerError as error:
                problems.append(configuration.http_place.problem(str(error).removeprefix("http: ")))
        if not problems:
            for broker in configuration.brokers.values():
                with _noting(broker, problems):
                    self._add(broker)
        if problems:
            raise ConfigurationError(problems)

    def _add(self, configuration: BrokerConfiguration) -> Broker:
        arguments = configuration.arguments()
        for port, descriptor in self._listeners.lend(configuration).items():
            arguments["options"][port]["use_fd"] = descriptor
        broker = self.engine.add(**arguments)
        broker.removed.add_done_callback(partial(_log_failure, broker))
        return broker

    def run(self) -> None:
        """Serve in the calling thread until `stop`, a TERMINATE command, or until every broker has failed."""
        self.engine.run()

    def stop(self) -> None:
        """Make `run` return. Signal handlers may call this, even before the start."""
        self._stopped = True
        if self._engine is not None:
            self._engine.stop()

    def request_reload(self) -> None:
        """Ask for a reload, and return at once. Signal handlers may call this, even before the start."""
        self._requests.put(True)

    def _serve_requests(self) -> None:
        while self._requests.get():
            try:
                self.reload()
            except EngineError as error:  # the daemon ends
                _logger.warning("reload: given up: %s", error)
            except Exception:
                _logger.exception("reload: failed")

    def reload(self) -> Reloaded:
        """Read the configuration again, and change what differs. Return when that is done.

        A wrong configuration changes nothing. What is wrong is logged, and returned.
        """
        with self._changing:
            if self._stopped:
                return Reloaded()
            try:
                new = read_checked(self._path, self._environment)
                done = self._change_to(self._added.stay(new, self.engine))
                self._added.forget(new.brokers)
            except ConfigurationError as error:
                for problem in error.problems:
                    _logger.error("reload: %s", problem)
                _logger.error("reload: nothing was changed")
                return Reloaded(problems=tuple(error.problems))
            for one in (done.ended or {}).values():
                if one.loss is not None:
                    _logger.warning("reload: %s", one.loss)
            for problem in done.problems:
                _logger.error("reload: %s", problem)
            _logger.info("reloaded  %s", done)
            return done

    def add(self, toml: bytes) -> tuple[str, ...]:
        """Add brokers that are not of the file: tables `[brokers.NAME]`, which are checked as those of the file are.
        They stay over reloads, until one finds their name in the file. Return their names.

        Raises `ConfigurationError` with everything that is wrong, and `EngineError` if the daemon is ending. Nothing
        has changed then.
        """
        with self._changing:
            self._check_not_ending()
            added = self._added.read(toml, self.configuration, self.engine)
            self._open_listeners(list(added.values()), [])
            problems: list[Problem] = []
            for broker in added.values():
                with _noting(broker, problems):
                    self._add(broker)
            if problems:
                for name in added.keys() & self.engine.brokers.keys():
                    self.engine.remove(name, timeout_s=0)
                self._listeners.keep_only(self.configuration.brokers.values())
                raise ConfigurationError(problems)
            self._configuration = self._added.include(added, self.configuration)
            _logger.info("added  %s", ", ".join(added))
            return tuple(added)

    def remove(self, name: str) -> Ended:
        """End a broker in order, within `drain_timeout_s`. A reload starts it again if it is the file's.

        Raises `EngineError` if there is no such broker, or if the daemon is ending.
        """
        with self._changing:
            self._check_not_ending()
            broker = self.engine.brokers.get(name)
            if broker is None:
                raise EngineError(f"no broker is named {name!r}; it has ended a moment ago")
            ended = end_brokers(self.engine, [broker], self.configuration.engine.drain_timeout_s)[name]
            self._listeners.keep_only(present(self.configuration, self.engine).values())
            if ended.loss is not None:
                _logger.warning("remove: %s", ended.loss)
            _logger.info("removed  %s", name)
            return ended

    def _check_not_ending(self) -> None:
        if self._stopped:
            raise EngineError("the daemon is ending")

    def _change_to(self, new: Configuration) -> Reloaded:
        old = self.configuration
        alive = {name: one for name, one in self.engine.brokers.items() if one.state not in FINAL_STATES}
        added = tuple(name for name in new.brokers if name not in self.engine.brokers)
        unchanged = tuple(n for n in new.brokers if n in alive and old.brokers.get(n) == new.brokers[n])
        changed = tuple(name for name in new.brokers if name not in {*added, *unchanged})
        removed = tuple(name for name in self.engine.brokers if name not in new.brokers)
        begin = [new.brokers[name] for name in (*changed, *added)]
        ending = [one for name, one in old.brokers.items() if name in {*changed, *removed}]
        self._open_listeners(begin, ending)
        self._warn_of_engine(old, new)

        leaving = [broker for name, broker in self.engine.brokers.items() if name in {*changed, *removed}]
        ended = end_brokers(self.engine, leaving, new.engine.drain_timeout_s)
        self._listeners.keep_only(new.brokers.values())
        problems: list[Problem] = []
        serving = dict(new.brokers)
        for broker in begin:
            before = len(problems)
            with _noting(broker, problems):
                self._listeners.open_for(broker, wait=True)
                self._add(broker)
            if len(problems) > before and broker.name in old.brokers and self._put_back(old.brokers[broker.name]):
                serving[broker.name] = old.brokers[broker.name]  # so that the next reload tries again
        self._configuration = replace(new, brokers=serving)
        return Reloaded(added, changed, removed, unchanged, ended, tuple(problems))

    def _open_listeners(self, begin: list[BrokerConfiguration], ending: list[BrokerConfiguration]) -> None:
        """Bind what the new brokers need, before anything is changed. Raises `ConfigurationError` if that fails.

        An address of a broker that is about to end is bound later, when it is free.
        """
        problems: list[Problem] = []
        for broker in begin:
            with _noting(broker, problems):
                self._listeners.open_for(broker, leaving=ending)
        if problems:
            self._listeners.keep_only(self.configuration.brokers.values())
            raise ConfigurationError(problems)

    def _put_back(self, broker: BrokerConfiguration) -> bool:
        """Begin a broker again as it was, since it could not begin as it should be. Return True if that is possible."""
        try:
            self._listeners.open_for(broker, wait=True)
            self._add(broker)
        except PollbrokerError as error:
            _logger.error("reload: brokers.%s: it cannot go on as it was: %s", broker.name, error)
            return False
        _logger.error("reload: brokers.%s: it goes on as it was", broker.name)
        return True

    @staticmethod
    def _warn_of_engine(old: Configuration, new: Configuration) -> None:
        for name in _UNTIL_RESTART:
            if getattr(old.engine, name) != getattr(new.engine, name):
                _logger.warning("reload: engine.%s: the new value takes effect at the next start", name)

    def end(self) -> dict[str, Ended]:
        """End all brokers in order, within `drain_timeout_s`, and return how each ended. A reload that has begun is
        waited for."""
        self._stopped = True
        self._requests.put(False)
        with self._changing:
            return end_brokers(self.engine, self.engine.brokers.values(), self.configuration.engine.drain_timeout_s)

    def close(self) -> None:
        """Close everything, without waiting for messages. Closing again does nothing."""
        self._stopped = True
        self._requests.put(False)
        self._live.close()
        if self._metrics is not None:
            self._metrics.close()
        if self._engine is not None and not self._engine.closed:
            self._engine.close(timeout_s=0)
        self._listeners.keep_only(())


@contextmanager
def _noting(broker: BrokerConfiguration, problems: list[Problem]) -> Iterator[None]:
    """As a context: an error of a broker that cannot begin becomes a problem at its place."""
    try:
        yield
    except PollbrokerError as error:
        problems.append(problem_of(broker, str(error)))


def _log_failure(broker: Broker, removed: object) -> None:  # noqa: ARG001 - as futures call it
    if broker.state is BrokerState.FAILED:
        _logger.error("brokers.%s: failed: %s; a reload starts it again", broker.name, broker.error)
