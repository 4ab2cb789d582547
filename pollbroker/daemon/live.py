"""Brokers that are added to a daemon and removed from it while it runs: the commands ADD and REMOVE.

Both take time, so that a thread carries them out, one after the other. Their replies are sent in the engine's thread.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

from pollbroker.control.removing import broker_named
from pollbroker.control.replies import ERROR, OK, Frames
from pollbroker.daemon.checking import check
from pollbroker.daemon.configuration import BrokerConfiguration, Configuration
from pollbroker.daemon.problems import ConfigurationError
from pollbroker.daemon.resolving import read_added
from pollbroker.ending import Ended
from pollbroker.engine import Engine
from pollbroker.errors import ControlError, EngineError


def present(configuration: Configuration, engine: Engine) -> dict[str, BrokerConfiguration]:
    """The brokers of a configuration that are there now."""
    there = engine.brokers
    return {name: one for name, one in configuration.brokers.items() if name in there}


class AddedBrokers:
    """Which brokers of a daemon are not of its file."""

    def __init__(self) -> None:
        self._added: dict[str, BrokerConfiguration] = {}

    def read(self, toml: bytes, configuration: Configuration, engine: Engine) -> dict[str, BrokerConfiguration]:
        """Read brokers that are to be added, and check them together with those that are there.

        Raises `ConfigurationError`.
        """
        added = read_added(toml, configuration)
        taken = engine.brokers
        problems = [
            one.place.problem("a broker of this name is there already; expected another name")
            for name, one in added.items()
            if name in taken
        ]
        problems += check(replace(configuration, brokers={**present(configuration, engine), **added}))
        if problems:
            raise ConfigurationError(problems)
        return added

    def include(self, added: Mapping[str, BrokerConfiguration], configuration: Configuration) -> Configuration:
        """The configuration with these brokers, which have been added."""
        self._added |= added
        return replace(configuration, brokers={**configuration.brokers, **added})

    def stay(self, new: Configuration, engine: Engine) -> Configuration:
        """The configuration of a file, with the added brokers that are there still and whose names it does not have.

        Raises `ConfigurationError` if the two do not go together.
        """
        there = engine.brokers
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


class Changeable(Protocol):
    """What is used of a daemon."""

    @property
    def engine(self) -> Engine: ...

    def add(self, toml: bytes) -> tuple[str, ...]: ...

    def remove(self, name: str) -> Ended: ...


class LiveChanges:
    """Carries out ADD and REMOVE."""

    def __init__(self, daemon: Changeable) -> None:
        self._daemon = daemon
        self._worker = ThreadPoolExecutor(1, "pollbroker-changes")
        self.commands: Mapping[bytes, Callable[[Frames], Future[Frames]]] = {b"ADD": self._add, b"REMOVE": self._remove}

    def close(self) -> None:
        """Carry out nothing more. What has begun is finished, and nobody waits for that."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _add(self, arguments: Frames) -> "Future[Frames]":
        if len(arguments) != 1:
            raise ControlError(f"ADD: {len(arguments) + 1} frames; expected the command and brokers in TOML")
        return self._later(partial(self._added, arguments[0]))

    def _added(self, toml: bytes) -> Frames:
        try:
            return [OK, *(name.encode() for name in self._daemon.add(toml))]
        except ConfigurationError as error:
            return [ERROR, *(str(problem).encode(errors="backslashreplace") for problem in error.problems)]

    def _remove(self, arguments: Frames) -> "Future[Frames]":
        return self._later(partial(self._removed, broker_named(self._daemon.engine, "REMOVE", arguments)))

    def _removed(self, name: str) -> Frames:
        return [OK, (self._daemon.remove(name).loss or "").encode()]

    def _later(self, make_reply: Callable[[], Frames]) -> "Future[Frames]":
        answer: Future[Frames] = Future()

        def tell(job: "Future[Frames]") -> None:
            error = job.exception()
            if error is None:
                answer.set_result(job.result())
            else:
                answer.set_exception(error)

        def done(job: "Future[Frames]") -> None:
            if not job.cancelled():
                with suppress(EngineError):  # the daemon has ended meanwhile
                    self._daemon.engine.call_soon_threadsafe(tell, job)

        try:
            self._worker.submit(make_reply).add_done_callback(done)
        except RuntimeError:
            raise ControlError("the daemon is ending") from None
        return answer
