"""One daemon takes the place of another: what each of them does, by what they say to each other (`takeover.py`)."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Final, Protocol

from pollbroker.daemon.brokers import Brokers
from pollbroker.daemon.configuration import Configuration
from pollbroker.daemon.problems import ConfigurationError, Problem
from pollbroker.daemon.servers import Servers
from pollbroker.daemon.spawning import Orphan
from pollbroker.daemon.systemd import ServiceManager
from pollbroker.daemon.takeover import (
    ANSWER_S,
    START_S,
    Predecessor,
    Refused,
    Successor,
    describe_left,
    hand_over,
    why_irreplaceable,
)
from pollbroker.engine import Engine
from pollbroker.errors import HandOverError
from pollbroker.opening import ADDRESS_RELEASE_S

_logger = logging.getLogger("pollbroker.daemon")

OF_ONE_PROCESS: Final = frozenset({"WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
"""Variables by which a service manager tells one process something; see sd_notify(3) and sd_listen_fds(3)."""

END_S: Final = 5.0
"""How long a process that was started and has not taken over may take to end by itself."""

_AGAIN_S: Final = 0.1
"""How soon it is tried again to open what could not be opened, or looked again whether the daemon is to end."""


class Replaceable(Protocol):
    """What is used of a daemon."""

    changing: threading.Lock
    servers: Servers
    manager: ServiceManager

    @property
    def engine(self) -> Engine: ...

    @property
    def brokers(self) -> Brokers: ...

    @property
    def configuration(self) -> Configuration: ...

    @property
    def is_stopped(self) -> bool: ...

    def request(self, call: Callable[[], object], /) -> None:
        """Have a call made in the thread of requests."""

    def stop(self) -> None: ...

    def end_if_none_is_left(self) -> None: ...

    def note_begun_late(self, names: Sequence[str], problems: Sequence[Problem], /) -> None:
        """Tell operators what has become of the brokers that begin late."""


class Succession:
    """How one daemon takes the place of another, and lets another take its own. All but `accept`, `take_over` and
    `give_up` is done in the daemon's thread of requests."""

    def __init__(self, daemon: Replaceable, restart_command: Sequence[str]) -> None:
        """`restart_command` is what `restart` runs; a descriptor is appended."""
        self._daemon = daemon
        self._restart_command = tuple(restart_command)
        self.successor: Successor | None = None
        """The daemon that has taken the place of this one."""
        self.refused = False
        """True if the daemon whose place was to be taken goes on, so that this one ends."""
        self._handing_over = threading.Lock()
        """Held from the first word with a successor until it is certain whether it has taken over. Whoever needs the
        daemon's `changing`, too, has taken that first."""
        self._talking = threading.Lock()
        self._talks: tuple[socket.socket, ...] = ()
        """The sockets at which the successor is waited for. `_talking` is held by whoever uses them."""
        self._files_are_settled = threading.Event()
        """Set unless a predecessor may have the files of the listeners still."""
        self._files_are_settled.set()

    # -- taking the place of another daemon ---------------------------------------------------------------------------

    def take_over(self, configuration: Configuration, predecessor: Predecessor) -> None:
        """Take the listeners and the connections of another daemon, and begin the brokers of a configuration.

        Raises `ConfigurationError` or `HandOverError`, after which the other daemon goes on.
        """
        brokers = self._daemon.brokers
        predecessor.listeners.move_to(brokers.listeners)
        assert predecessor.engine_socket is not None
        with self._daemon.engine.adopt(predecessor.engine_socket) as adoption:
            problems = brokers.adopt(configuration, adoption)
            if problems:
                raise ConfigurationError(problems)
        brokers.listeners.keep_only(configuration.brokers.values())
        for broker in self._daemon.engine.brokers.values():
            if broker.name in adoption.moved:
                brokers.drops.take_as_told(broker)
        moved = len(adoption.moved)
        _logger.info("taken over from process %d: %d with their connections", predecessor.process, moved)
        self._files_are_settled.clear()
        self._daemon.request(partial(self._complete, predecessor))

    def _complete(self, predecessor: Predecessor) -> None:
        """Do what has to wait for the old daemon: open what it had for operators, and begin the brokers that could not
        begin beside it."""
        daemon = self._daemon
        try:
            if not self._settle(predecessor):
                predecessor.close()
                self.refused = True
                daemon.stop()
                return
        finally:
            self._files_are_settled.set()
        problems = self._open_servers()
        ended = predecessor.wait_for_end()
        predecessor.close()
        if ended:
            _logger.info("takeover: process %d has ended", predecessor.process)
        else:
            _logger.warning("takeover: process %d has not ended yet", predecessor.process)
        with daemon.changing:
            if not daemon.is_stopped:
                before = set(daemon.engine.brokers)
                late_problems = daemon.brokers.begin_late(daemon.configuration)
                for problem in late_problems:
                    _logger.error("takeover: %s", problem)
                begun = [name for name in daemon.engine.brokers if name not in before]
                daemon.note_begun_late(begun, late_problems)
        daemon.end_if_none_is_left()
        if problems:
            problems = self._open_servers()
        for problem in problems:
            _logger.error("takeover: %s", problem)

    def _settle(self, predecessor: Predecessor) -> bool:
        """Tell the old daemon that this one serves, and own the files of the listeners from then on. Return False if
        the old one goes on, so that this one has to end."""
        daemon = self._daemon
        try:
            predecessor.announce_serving()
        except Refused as error:
            _logger.error("takeover: %s; this process ends", error)
            return False
        except HandOverError as error:
            _logger.warning("takeover: %s", error)
        with daemon.changing:
            daemon.brokers.listeners.own(daemon.configuration.brokers.values())
        return True

    def wait_until_settled(self) -> None:
        """Wait until it is certain whether a predecessor goes on, so that the files of the listeners are its own, or
        are this daemon's to remove."""
        self._files_are_settled.wait()

    def _open_servers(self) -> list[Problem]:
        """Open what the old daemon had for operators. Return what is wrong.

        That is tried again while it may help: libzmq may close the old daemon's sockets some time after that has said
        that they are closed.
        """
        daemon = self._daemon
        give_up_s = time.monotonic() + ADDRESS_RELEASE_S
        while not daemon.is_stopped:
            problems = daemon.servers.open(daemon.engine, daemon.configuration)
            if not problems or time.monotonic() >= give_up_s:
                return problems
            time.sleep(_AGAIN_S)
        return []

    # -- letting another daemon take the place of this one ------------------------------------------------------------

    def accept(self) -> None:
        """Accept a successor that has come to the socket for successors. Called in the engine's thread."""
        successors = self._daemon.servers.successors
        if successors is not None and successors.accept():
            self._daemon.request(self._hand_over_to_next)

    def _hand_over_to_next(self) -> None:
        successors = self._daemon.servers.successors
        connected = None if successors is None else successors.next()
        if connected is not None:
            self._hand_over(connected)

    def restart(self) -> None:
        """Start the program anew, and let it take the place of this process."""
        if not self._restart_command:
            raise HandOverError("this daemon was given no command that starts it anew")
        if self._daemon.is_stopped:
            _logger.warning("restarting: given up, since the daemon ends")
            return
        why_not = why_irreplaceable()
        if why_not is not None:
            _logger.error("restarting: refused, and everything is served here still: %s", why_not)
            return
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            command = [*self._restart_command, str(there.fileno())]
            environment = {name: value for name, value in os.environ.items() if name not in OF_ONE_PROCESS}
            try:
                started = Orphan(command, there.fileno(), environment)
            except OSError as error:
                here.close()
                raise HandOverError(f"{error}") from error
        _logger.info("restarting: process %d was started", started.pid)
        with closing(started):
            if not self._hand_over(here, START_S):
                self._end(started)

    def _end(self, started: Orphan) -> None:
        """Let a process end that has not taken over: as a rule it has failed, and has yet to say why. It is killed if
        it does not end by itself soon, or if this daemon is about to end, which cannot see to it any more."""
        give_up_s = time.monotonic() + END_S
        while not self._daemon.is_stopped and time.monotonic() < give_up_s:
            if started.wait_for_end(_AGAIN_S):
                _logger.error("restarting: process %d has ended", started.pid)
                return
        started.kill(ANSWER_S)
        _logger.error("restarting: process %d had not ended by itself, and was killed", started.pid)

    def _hand_over(self, connected: socket.socket, hello_s: float = ANSWER_S) -> bool:
        """Let the daemon at the other end of a socket take the place of this one. Return True if it has.

        `changing` is held meanwhile, so that nothing else changes or uses the listeners. The other daemon cannot put
        off the end of this one all the same: see `give_up`.
        """
        daemon = self._daemon
        engine_sockets = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with daemon.changing, self._handing_over, engine_sockets[0], engine_sockets[1]:
            try:
                if not self._begin_talk(connected, engine_sockets[0]):
                    return False
                engine, listeners = daemon.engine, daemon.brokers.listeners
                timeout_s = daemon.configuration.engine.drain_timeout_s
                self.successor = hand_over(connected, engine, listeners, timeout_s, hello_s, engine_sockets)
            except HandOverError as error:
                _logger.warning("takeover: nothing is handed over, and everything is served here still: %s", error)
                return False
            finally:
                with self._talking:
                    self._talks = ()
                if self.successor is None:
                    connected.close()
            listeners.give_away()
            daemon.servers.close(engine)
            daemon.manager.main_pid(self.successor.process)
            self.successor.release()
            handed_over = self.successor.handed_over
            if handed_over.left:
                _logger.info("takeover: without its connections: %s", describe_left(handed_over.left))
            daemon.stop()
            return True

    def _begin_talk(self, *talks: socket.socket) -> bool:
        """Have these sockets shut down by `give_up`. Return False if the daemon is about to end."""
        with self._talking:
            if not self._daemon.is_stopped:
                self._talks = talks
        return bool(self._talks)

    def give_up(self) -> None:
        """Let no other daemon take over any more, since this one ends. Return when it is certain whether one has.

        What has not been agreed with the other daemon by now does not happen. Both must not use the listeners, whose
        files this daemon removes at its end unless the other one has taken over. The daemon `is_stopped` already.
        """
        with self._talking:
            for talk in self._talks:
                with suppress(OSError):  # the other daemon has closed its end
                    talk.shutdown(socket.SHUT_RD)
        with self._handing_over:
            pass
