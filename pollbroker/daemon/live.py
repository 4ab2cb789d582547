"""What changes the brokers of a daemon while it runs: the commands ADD, REMOVE and RELOAD.

They take time, so that a thread carries them out, one after the other. Their replies are sent in the engine's thread.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

from pollbroker.control.removing import broker_named
from pollbroker.control.replies import ERROR, OK, Frames
from pollbroker.control.server import MoreCommands
from pollbroker.daemon.brokers import Brokers, Reloaded
from pollbroker.daemon.checking import check
from pollbroker.daemon.configuration import BrokerConfiguration, Configuration
from pollbroker.daemon.problems import ConfigurationError, Problem
from pollbroker.daemon.resolving import read_added
from pollbroker.ending import Ended
from pollbroker.engine import Engine
from pollbroker.errors import ControlError, EngineError

_logger = logging.getLogger("pollbroker.daemon")


class Changeable(Protocol):
    """What is used of a daemon."""

    changing: threading.Lock
    configuration: Configuration

    @property
    def engine(self) -> Engine: ...

    @property
    def brokers(self) -> Brokers: ...

    @property
    def is_stopped(self) -> bool: ...

    def reload(self) -> Reloaded: ...

    def end_if_none_is_left(self) -> None: ...


class LiveChanges:
    """Carries out ADD, REMOVE and RELOAD, and knows which brokers of a daemon are not of its file.

    Arguments:
        daemon: the daemon that is changed.
        may_begin_others: False if its brokers are given once and for all, so that it has neither ADD nor RELOAD.
    """

    def __init__(self, daemon: Changeable, *, may_begin_others: bool) -> None:
        self._daemon = daemon
        self._added: dict[str, BrokerConfiguration] = {}
        self._worker = ThreadPoolExecutor(1, "pollbroker-changes")
        self._owed_replies = 0
        beginning: MoreCommands = {b"ADD": self._answer_add, b"RELOAD": self._answer_reload}
        self.commands: MoreCommands = {b"REMOVE": self._answer_remove, **(beginning if may_begin_others else {})}

    # -- changes ------------------------------------------------------------------------------------------------------

    def add(self, toml: bytes) -> tuple[str, ...]:
        """Add brokers that are not of the file: tables `[brokers.NAME]`, which are checked as those of the file are.
        They stay over reloads, until one finds their name in the file. Return their names.

        Raises `ConfigurationError` with everything that is wrong, and `EngineError` if the daemon is ending. Nothing
        has changed then.
        """
        daemon = self._daemon
        with daemon.changing:
            self._check_not_ending()
            added = self._read(toml)
            daemon.brokers.add(added.values())
            self._added |= added
            daemon.configuration = replace(daemon.configuration, brokers={**daemon.configuration.brokers, **added})
            _logger.info("added  %s", ", ".join(added))
            return tuple(added)

    def remove(self, name: str) -> Ended:
        """End a broker in order, within `drain_timeout_s`. A reload starts it again if it is the file's.

        Raises `EngineError` if there is no such broker, or if the daemon is ending.
        """
        daemon = self._daemon
        with daemon.changing:
            self._check_not_ending()
            ended = daemon.brokers.remove(name, daemon.configuration)
            if ended.loss is not None:
                _logger.warning("remove: %s", ended.loss)
            _logger.info("removed  %s", name)
            return ended

    def _check_not_ending(self) -> None:
        if self._daemon.is_stopped:
            raise EngineError("the daemon is ending")

    def _read(self, toml: bytes) -> dict[str, BrokerConfiguration]:
        """Read brokers that are to be added, and check them together with those that are there."""
        configuration = self._daemon.configuration
        added, problems = read_added(toml, configuration)
        brokers = self._daemon.brokers
        taken = brokers.names
        is_whole = not problems
        problems += [
            one.place.problem("a broker of this name is there already; expected another name")
            for name, one in added.items()
            if name in taken
        ]
        new = {name: one for name, one in added.items() if name not in taken}
        together = replace(configuration, brokers={**brokers.present(configuration), **new})
        problems += check(together, is_whole=is_whole)
        if problems:
            raise ConfigurationError(problems)
        return added

    # -- reloads ------------------------------------------------------------------------------------------------------

    def with_added(self, new: Configuration) -> Configuration:
        """The configuration of a file, with the added brokers that are there still and whose names it does not have.

        Raises `ConfigurationError` if the two do not go together.
        """
        there = self._daemon.engine.brokers
        self._added = {name: one for name, one in self._added.items() if name in there}
        staying = {name: one for name, one in self._added.items() if name not in new.brokers}
        if not staying:
            return new
        together = replace(new, brokers={**new.brokers, **staying})
        problems = check(together)
        if problems:
            raise ConfigurationError(problems)
        return together

    def forget(self, names: Iterable[str]) -> None:
        """These brokers are the file's now."""
        for name in names:
            self._added.pop(name, None)

    # -- commands -----------------------------------------------------------------------------------------------------

    @property
    def owes_replies(self) -> bool:
        """True while a command is carried out whose reply was not sent yet."""
        return self._owed_replies > 0

    def close(self) -> None:
        """Carry out nothing more. What has begun is finished, and nobody waits for that."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _answer_add(self, arguments: Frames) -> "Future[Frames]":
        if len(arguments) != 1:
            raise ControlError(f"ADD: {len(arguments) + 1} frames; expected the command and brokers in TOML")
        return self._later(partial(self._reply_to_add, arguments[0]))

    def _reply_to_add(self, toml: bytes) -> Frames:
        try:
            return [OK, *(name.encode() for name in self.add(toml))]
        except ConfigurationError as error:
            return _refusal_of(error.problems)

    def _answer_remove(self, arguments: Frames) -> "Future[Frames]":
        return self._later(partial(self._reply_to_remove, broker_named(self._daemon.engine, "REMOVE", arguments)))

    def _reply_to_remove(self, name: str) -> Frames:
        return [OK, (self.remove(name).loss or "").encode()]

    def _answer_reload(self, arguments: Frames) -> "Future[Frames]":
        if arguments:
            raise ControlError(f"RELOAD: {len(arguments) + 1} frames; expected the command alone")
        return self._later(self._reply_to_reload)

    def _reply_to_reload(self) -> Frames:
        self._check_not_ending()
        done = self._daemon.reload()
        if done == Reloaded():  # nothing was read, since the end has come while another change was waited for
            self._check_not_ending()
        return _refusal_of(done.problems) if done.problems else [OK, str(done).encode()]

    def _later(self, make_reply: Callable[[], Frames]) -> "Future[Frames]":
        """The reply that the worker makes. It is sent before the daemon ends for want of brokers, which the command may
        have brought about."""
        answer: Future[Frames] = Future()

        def tell(job: "Future[Frames]") -> None:
            error = job.exception()
            if error is None:
                answer.set_result(job.result())
            else:
                answer.set_exception(error)
            self._owed_replies -= 1
            self._daemon.end_if_none_is_left()

        def done(job: "Future[Frames]") -> None:
            if not job.cancelled():
                with suppress(EngineError):  # the daemon has ended meanwhile
                    self._daemon.engine.call_soon_threadsafe(tell, job)

        try:
            job = self._worker.submit(make_reply)
        except RuntimeError:
            raise ControlError("the daemon is ending") from None
        self._owed_replies += 1
        job.add_done_callback(done)
        return answer


def _refusal_of(problems: Iterable[Problem]) -> Frames:
    return [ERROR, *(str(problem).encode(errors="backslashreplace") for problem in problems)]
