"""A daemon at work: the brokers of a configuration are started, changed by a reload, and ended together.

- A start is whole or not at all: every address is bound before the first broker begins, and after an error everything
  is closed.
- A reload reads and checks the whole configuration first. A wrong one changes nothing.
- Another process may take the place of this one (`succession.py`).
- Reloads and takeovers happen one after the other, in a thread of their own, so that traffic goes on while files are
  read and brokers are drained.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from msgspec import UnsetType
from msgspec.structs import asdict

from pollbroker.broker import Broker
from pollbroker.daemon.activation import InheritedSockets
from pollbroker.daemon.brokers import Brokers, Reloaded
from pollbroker.daemon.checking import checked, read_checked
from pollbroker.daemon.configuration import Configuration
from pollbroker.daemon.enabling import Enabling
from pollbroker.daemon.listeners import Listeners
from pollbroker.daemon.live import LiveChanges
from pollbroker.daemon.problems import ConfigurationError, Problem
from pollbroker.daemon.reload_outcome import ReloadOutcome
from pollbroker.daemon.servers import Servers
from pollbroker.daemon.succession import Succession
from pollbroker.daemon.successors import connect_to
from pollbroker.daemon.systemd import ServiceManager
from pollbroker.daemon.tables import EngineTable
from pollbroker.daemon.takeover import Predecessor, Successor
from pollbroker.ending import Ended
from pollbroker.engine import Engine
from pollbroker.errors import EngineError, HandOverError
from pollbroker.states import FINAL_STATES, BrokerState

_logger = logging.getLogger("pollbroker.daemon")

_OF_ENGINE: Final = ("burst_messages", "burst_bytes", "spin_s", "pump", "waiter")
"""The keys of `[engine]` that are arguments of `Engine`."""

_UNTIL_RESTART: Final = (*_OF_ENGINE, "control", "http", "http_token", "takeover", "tap_bodies")
"""The keys of `[engine]` that a reload cannot change."""


class Daemon:
    """The brokers of a file, in one engine.

    `start` opens everything, `run` serves until `stop`, and `end` ends the brokers in order. `stop`, `request_reload`
    and `request_restart` may be called from signal handlers.
    """

    def __init__(
        self,
        source: Path | Configuration,
        environment: Mapping[str, str] | None = None,
        *,
        restart_command: Sequence[str] = (),
    ) -> None:
        """Without starting anything.

        Arguments:
            source: the file that is read at the start and at each reload, or a configuration that stays.
            environment: the variables that the file may refer to; by default those of this process.
            restart_command: what `request_restart` runs; a descriptor is appended.
        """
        self._source = source
        self._is_fixed = isinstance(source, Configuration)
        self._environment = environment
        self.manager = ServiceManager({})
        self._inherited = InheritedSockets()
        self._engine: Engine | None = None
        self._brokers: Brokers | None = None
        self._configuration: Configuration | None = None
        self._started_as: EngineTable | None = None
        """The table `[engine]` by which the daemon was started."""
        self._stopped = False
        self.has_no_brokers_left = False
        """True if `run` has returned because every broker has ended, and no other may begin."""
        self._reloading = False
        self.changing = threading.Lock()
        """Held by whoever starts, changes, hands over or ends brokers."""
        self.on_begun_late: Callable[[Sequence[str]], object] = lambda _: None
        """Called with the names of the brokers that have begun when the daemon had ended whose place was taken. Whoever
        sets or calls it holds `changing`."""
        self._reloads = ReloadOutcome()
        self._requests: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        """What is to be done in the thread of requests. None ends it. A signal handler may put something here at any
        time."""
        self._requests_thread = threading.Thread(target=self._serve_requests, name="pollbroker-requests", daemon=True)
        self._has_started = False
        self._may_serve = threading.Event()
        """Set when it is certain whether the daemon has started, so that its thread of requests may begin."""
        self.live = LiveChanges(self, may_begin_others=not self._is_fixed)
        """Carries out the commands that change which brokers there are."""
        self._succession = Succession(self, restart_command)
        self.servers = Servers(
            os.environ if environment is None else environment,
            Enabling(self).commands(),
            self.live.commands,
            self._reloads,
            lambda: self._stopped,
            lambda: self.brokers.why_not_ready(),
            self._succession.accept,
        )

    @property
    def successor(self) -> Successor | None:
        """The daemon that has taken the place of this one."""
        return self._succession.successor

    @property
    def was_refused(self) -> bool:
        """True if this daemon ends, because the one whose place it was to take goes on."""
        return self._succession.refused

    @property
    def is_stopped(self) -> bool:
        """True if the daemon is about to end."""
        return self._stopped

    @property
    def engine(self) -> Engine:
        """The engine of a daemon that was started."""
        assert self._engine is not None, "the daemon was not started"
        return self._engine

    @property
    def configuration(self) -> Configuration:
        """The configuration by which the daemon was started, or changed last. Whoever sets it holds `changing`."""
        assert self._configuration is not None, "the daemon was not started"
        return self._configuration

    @configuration.setter
    def configuration(self, configuration: Configuration) -> None:
        self._configuration = configuration

    @property
    def port_names(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the ports of each broker of the configuration; empty before the start."""
        brokers = {} if self._configuration is None else self._configuration.brokers
        return {name: tuple(broker.ports) for name, broker in brokers.items()}

    @property
    def brokers(self) -> Brokers:
        """The brokers of a daemon that was started."""
        assert self._brokers is not None, "the daemon was not started"
        return self._brokers

    def _read(self) -> Configuration:
        """What the brokers should be. Raises `ConfigurationError`."""
        if isinstance(self._source, Configuration):
            return checked(self._source)
        return read_checked(self._source, self._environment)

    # -- start --------------------------------------------------------------------------------------------------------

    def start(self, takeover: socket.socket | None = None) -> None:
        """Read the configuration, and open everything.

        With `takeover`, a connected socket of the family AF_UNIX (`connect_to_predecessor`), the daemon at its other
        end hands over its listeners and connections, and ends.

        Raises `ConfigurationError`, or `HandOverError` if the other daemon does not hand over. Then nothing is left
        open here, and the other daemon goes on.
        """
        with self.changing:
            predecessor = None if takeover is None else Predecessor(takeover)
            try:
                # If there can be no other thread, nothing has been taken over yet.
                self._requests_thread.start()
                configuration = self._read()
                asked = asdict(configuration.engine)
                arguments = {name: asked[name] for name in _OF_ENGINE if not isinstance(asked[name], UnsetType)}
                self._engine = Engine(**arguments)
                environment = os.environ if self._environment is None else dict(self._environment)
                self.manager = ServiceManager(environment)
                self._inherited = InheritedSockets.of_environment(environment)
                self._brokers = Brokers(self._engine, Listeners(self._inherited), self._on_end)
                if predecessor is None:
                    self._open_all(configuration)
                else:
                    self._succession.take_over(configuration, predecessor)
            except BaseException as error:
                self.close()
                if predecessor is not None:
                    predecessor.refuse(str(error))
                    predecessor.close()
                raise
            self._configuration = configuration
            self._started_as = configuration.engine
            self._reloads.note(successful=True)
            self._inherited.close_unwanted()
            self.brokers.drops.start()
            self.brokers.descriptors.start()
            self.manager.attach(self._engine, self._status())
            self._has_started = True
            self._may_serve.set()
        if self._stopped:
            self.engine.stop()

    def _open_all(self, configuration: Configuration) -> None:
        problems = self.brokers.open_listeners(configuration)
        if problems:
            problems += self.servers.look_at_addresses(configuration)
        elif problems := self.servers.open(self.engine, configuration):
            problems += self.brokers.look_at_addresses(configuration)
        else:
            problems = self.brokers.begin(configuration)
        if problems:
            raise ConfigurationError(problems)

    def _status(self) -> str:
        """One line on how the brokers are."""
        brokers = self.engine.brokers.values()
        failed = [broker.name for broker in brokers if broker.state is BrokerState.FAILED]
        status = f"{len(brokers)} {'broker' if len(brokers) == 1 else 'brokers'}"
        return f"{status}, {len(failed)} failed: {', '.join(failed)}" if failed else status

    def _on_end(self, broker: Broker) -> None:
        if broker.state is BrokerState.FAILED:
            if not self._is_fixed:  # the engine has said why
                _logger.info("brokers.%s  a reload starts it again", broker.name)
            self.manager.status(self._status())
        self.end_if_none_is_left()

    def end_if_none_is_left(self) -> None:
        """Let `run` return if every broker has ended, and no other may begin.

        This is asked when a broker has ended, unless a reload is under way or a reply is owed to a command such as
        REMOVE, at the end of each reload, after each such reply, and when those have begun that begin late. So one of
        these finds the last broker ended, whichever thread comes first.
        """
        if self._stopped or self._reloading or self.live.owes_replies:
            return
        if self.servers.takes_commands and not self._is_fixed:
            return  # others may begin yet
        names, brokers = self.brokers.names, self.engine.brokers
        if (names or self._is_fixed) and all(name in brokers and brokers[name].state in FINAL_STATES for name in names):
            self.has_no_brokers_left = True
            self.engine.stop()  # timers keep it from ending by itself

    def note_begun_late(self, names: Sequence[str], problems: Sequence[Problem]) -> None:
        """Tell operators that these brokers have begun, which begin late, or why some could not. `changing` is held."""
        self.on_begun_late(names)
        if problems:
            self._reloads.note(successful=False)
        self.manager.status(f"{self._status()}{f'; the takeover: {problems[0]}' if problems else ''}")

    # -- run ----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve in the calling thread until `stop`, a TERMINATE command, or until every broker has ended."""
        self.engine.run()

    def stop(self) -> None:
        """Make `run` return. Signal handlers may call this, even before the start."""
        self._stopped = True
        if self._engine is not None:
            self._engine.stop()

    def request_reload(self) -> None:
        """Ask for a reload, and return at once. Signal handlers may call this, even before the start."""
        self._requests.put(self.reload)

    def request_restart(self) -> None:
        """Ask for a new process of the program that takes the place of this one, and return at once. Signal handlers
        may call this, even before the start."""
        self._requests.put(self._succession.restart)

    def request(self, call: Callable[[], object]) -> None:
        """Have a call made in the thread of requests, after those that were asked for before."""
        self._requests.put(call)

    def _serve_requests(self) -> None:
        self._may_serve.wait()
        while self._has_started and (request := self._requests.get()) is not None:
            try:
                request()
            except EngineError as error:  # the daemon ends
                _logger.warning("given up, since the daemon ends: %s", error)
            except Exception:
                _logger.exception("a request to the daemon failed")

    # -- reload -------------------------------------------------------------------------------------------------------

    def reload(self) -> Reloaded:
        """Read the configuration again, and change what differs. Return when that is done.

        A wrong configuration changes nothing. What is wrong is logged, and returned.
        """
        with self.changing, self._reloads.noting_failure():
            if self._stopped:
                return Reloaded()
            self.manager.reloading()
            self._reloading = True
            try:
                done = self._reload()
            finally:
                self._reloading = False
                self.manager.ready(self._status())
                self.end_if_none_is_left()
            self._reloads.note(successful=not done.problems)
            if done.problems:
                self.manager.status(f"{self._status()}; the last reload: {done.problems[0]}")
            return done

    def _reload(self) -> Reloaded:
        try:
            new = self._read()
            old = self.configuration
            done, self._configuration = self.brokers.change(old, self.live.with_added(new))
            self.live.forget(new.brokers)
        except ConfigurationError as error:
            for problem in error.problems:
                _logger.error("reload: %s", problem, extra=vars(problem))
            _logger.error("reload: nothing was changed")
            return Reloaded(problems=tuple(error.problems))
        for name in _UNTIL_RESTART:
            if getattr(self._started_as, name) != getattr(new.engine, name):
                _logger.warning("reload: engine.%s: the new value takes effect at the next start", name)
        for one in (done.ended or {}).values():
            if one.loss is not None:
                _logger.warning("reload: %s", one.loss)
        for problem in done.problems:
            _logger.error("reload: %s", problem, extra=vars(problem))
        _logger.info("reloaded  %s", done)
        return done

    # -- taking the place of another daemon ---------------------------------------------------------------------------

    def connect_to_predecessor(self) -> socket.socket | None:
        """Connect to the daemon that waits for its successor at the path `takeover` of `[engine]`. Return None if there
        is none.

        Raises `ConfigurationError`, or `HandOverError` if the file names no such path.
        """
        path = self._read().takeover
        if path is None:
            raise HandOverError(f"{self._source}: engine: the key 'takeover' is missing: the path of a socket file")
        return connect_to(path)

    # -- end ----------------------------------------------------------------------------------------------------------

    def end(self) -> dict[str, Ended]:
        """End all brokers in order, within `drain_timeout_s`, and return how each ended. What has begun before, such as
        a reload, is waited for."""
        self._stopped = True
        self._requests.put(None)
        self._succession.give_up()
        if self.successor is None and self.changing.locked():  # what is under way may take as long as the end itself
            self.manager.stopping(2 * self.configuration.engine.drain_timeout_s)
        with self.changing:
            drain_timeout_s = self.configuration.engine.drain_timeout_s
            if self.successor is None:
                self.manager.stopping(drain_timeout_s)
            else:
                self.brokers.forget_moved(self.successor.handed_over.moved)
            return self.brokers.end(drain_timeout_s)

    def close(self) -> None:
        """Close everything, without waiting for messages. Closing again does nothing."""
        self._stopped = True
        self._requests.put(None)
        self._succession.give_up()
        self.live.close()
        if self._engine is not None:
            self.servers.close(self._engine)
            if not self._engine.closed:
                self._engine.close(timeout_s=0)
        self._may_serve.set()
        if self._has_started:
            self._succession.wait_until_settled()
        elif self._requests_thread.is_alive():  # it has only waited for the start
            self._requests_thread.join()
        if self._brokers is not None:
            self._brokers.listeners.keep_only(())
        self._inherited.close()
        if self.successor is not None:
            self.successor.talk.close()  # by this it knows that everything is free
