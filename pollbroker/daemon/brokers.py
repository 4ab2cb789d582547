"""The brokers of a configuration in an engine: begun together, changed by a reload, and ended.

- A broker whose configuration is equal is not touched by a reload. One that differs is replaced, and its counters go
  on. Where the new one can have its connections (`Engine.add`, `replaces`), nobody notices. Otherwise it is ended in
  order, and then the new one begins; meanwhile the kernel queues connections to its addresses (`listeners.py`).
- What another process still has, which is about to end, begins later (`begin_late`).
"""

import errno
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pollbroker.broker import Broker
from pollbroker.daemon.configuration import BrokerConfiguration, Configuration
from pollbroker.daemon.descriptor_watch import DescriptorWatch
from pollbroker.daemon.drop_watch import DropWatch
from pollbroker.daemon.listeners import Listeners
from pollbroker.daemon.listening import not_tried
from pollbroker.daemon.problems import ConfigurationError, Problem
from pollbroker.daemon.resolving import problem_of
from pollbroker.ending import Ended, end_brokers
from pollbroker.engine import Engine
from pollbroker.errors import ConfigError, EndpointError, EngineError, PollbrokerError, describe_error
from pollbroker.handing_over import Adoption
from pollbroker.states import FINAL_STATES
from pollbroker.statistics import BrokerStatistics

_logger = logging.getLogger("pollbroker.daemon")


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


class Brokers:
    """The brokers of a configuration, in an engine, and their listeners."""

    def __init__(self, engine: Engine, listeners: Listeners, on_end: Callable[[Broker], None]) -> None:
        """Without beginning any. `on_end` is called with each broker that has ended, whatever has ended it."""
        self.engine = engine
        self.listeners = listeners
        self.drops = DropWatch(engine)
        self.descriptors = DescriptorWatch(engine)
        self._on_end = on_end
        self._late: dict[str, BrokerConfiguration] = {}
        """Those that begin when another process has ended."""
        self._too_late: frozenset[str] = frozenset()
        """The names of those that could not begin then, and have not begun since."""
        self._begun: dict[str, Broker] = {}
        """Those that were begun here, and not ended here: also those that a command has removed, until the end tells of
        them."""

    @property
    def names(self) -> set[str]:
        """The names that brokers have, or will have when they begin late."""
        return {*self.engine.brokers, *self._late}

    def present(self, configuration: Configuration) -> dict[str, BrokerConfiguration]:
        """The brokers of a configuration that are there, or begin late."""
        names = self.names
        return {name: one for name, one in configuration.brokers.items() if name in names}

    def why_not_ready(self) -> Iterator[str]:
        """Each reason why the daemon is not ready, but for the states of brokers. Any thread may call this."""
        yield from self.descriptors.why_not_ready()
        for name in list(self._late):
            yield f"brokers.{name}: it begins when the daemon whose place was taken has ended"
        for name in sorted(self._too_late):
            yield f"brokers.{name}: it could not begin when the daemon whose place was taken had ended"

    # -- beginning ----------------------------------------------------------------------------------------------------

    def open_listeners(self, configuration: Configuration) -> list[Problem]:
        """Bind what all brokers of a configuration need. Return what is wrong.

        After the first address that cannot be bound the others are only looked at: if several daemons begin at once
        with the same file, one of them has to have all.
        """
        problems: list[Problem] = []
        for broker in configuration.brokers.values():
            with _noting(broker, problems):
                self.listeners.open_for(broker)
            if problems:
                return [*problems, *self.look_at_addresses(configuration)]
        return []

    def look_at_addresses(self, configuration: Configuration) -> Iterator[Problem]:
        """What is wrong with the addresses that brokers of a configuration bind and that are not open here."""
        for broker in configuration.brokers.values():
            for error in self.listeners.look_at((*broker.listeners, *broker.bound_by_ports)):
                yield problem_of(broker, str(error))

    def begin(self, configuration: Configuration) -> list[Problem]:
        """Begin all brokers of a configuration, whose listeners are open. Return what is wrong."""
        problems: list[Problem] = []
        for broker in configuration.brokers.values():
            with _noting(broker, problems):
                try:
                    self._add(broker)
                except EndpointError as error:  # ports are opened in their order
                    later = not_tried(broker.bound_by_ports, error.address)
                    problems += [problem_of(broker, str(one)) for one in self.listeners.look_at(later)]
                    raise
        return problems

    def adopt(self, configuration: Configuration, adoption: Adoption) -> list[Problem]:
        """Begin all brokers of a configuration beside a process that hands over its own. Return what is wrong.

        What cannot begin as long as the other process lives is left to `begin_late`: brokers whose addresses it has
        without handing over their listeners; those that differ from the ones that it hands over; and behaviours, which
        may use a file that only one process can have.
        """
        problems: list[Problem] = []
        for broker in configuration.brokers.values():
            late = broker.device.behaviour is not None
            if not late:
                with _noting(broker, problems):
                    late = not self._adopt(broker, adoption)
            if late:
                self._late[broker.name] = broker
        return problems

    def _adopt(self, broker: BrokerConfiguration, adoption: Adoption) -> bool:
        """Begin one broker. Return False if that is possible only when the other process has ended."""
        try:
            self.listeners.open_for(broker)
            self._add(broker)
        except ConfigError:
            if broker.name in adoption.offered:
                return False
            raise
        except PollbrokerError as error:
            if _is_in_use(error):
                return False
            raise
        return True

    def begin_late(self, configuration: Configuration) -> list[Problem]:
        """Begin the brokers of a configuration that another process has kept from beginning. Return what is wrong."""
        problems: list[Problem] = []
        for name, broker in list(self._late.items()):
            before = len(problems)
            with _noting(broker, problems):
                self.listeners.open_for(broker, wait=True)
                self._add(broker)
            if len(problems) > before:
                self._too_late |= {name}
            del self._late[name]  # until here it is one that may begin yet
        self.keep_listeners_of_present(configuration)
        return problems

    def _add(self, configuration: BrokerConfiguration, earlier: BrokerStatistics | None = None) -> Broker:
        arguments = configuration.arguments()
        for port, descriptor in self.listeners.lend(configuration).items():
            arguments["options"][port]["use_fd"] = descriptor
        return self._note_begun(self.engine.add(**arguments, earlier=earlier))

    def _note_begun(self, broker: Broker) -> Broker:
        self._begun[broker.name] = broker
        self._too_late -= {broker.name}
        broker.removed.add_done_callback(lambda _: self._on_end(broker))
        return broker

    def add(self, added: Collection[BrokerConfiguration]) -> None:
        """Begin brokers beside those that are there. Raises `ConfigurationError`, after which none has begun."""
        problems: list[Problem] = []
        begun: list[Broker] = []
        too_late = self._too_late
        with self.listeners.closed_again_on_error():
            self._open_what_is_new(added, ())
            for broker in added:
                with _noting(broker, problems):
                    begun.append(self._add(broker))
            if problems:
                for one in begun:
                    one.remove(timeout_s=0)
                self.forget(one.name for one in begun)
                self._too_late = too_late
                raise ConfigurationError(problems)

    def remove(self, name: str, configuration: Configuration) -> Ended:
        """End a broker in order. Raises `EngineError` if there is none of this name."""
        broker = self.engine.brokers.get(name)
        if broker is None:
            raise EngineError(f"no broker is named {name!r}; it has ended a moment ago")
        ended = self._end([broker], configuration.engine.drain_timeout_s)[name]
        self.keep_listeners_of_present(configuration)
        return ended

    def keep_listeners_of_present(self, configuration: Configuration) -> None:
        """Close the listeners of all brokers but those of a configuration that are there, or begin late."""
        self.listeners.keep_only(self.present(configuration).values())

    # -- changing -----------------------------------------------------------------------------------------------------

    def change(self, old: Configuration, new: Configuration) -> tuple[Reloaded, Configuration]:
        """Change what differs between two configurations. Return what has become of it, and by which configuration the
        brokers serve now.

        A broker that begins late is left to `begin_late`, as it should be now.

        Raises `ConfigurationError`, after which nothing has changed, if an address cannot be bound.
        """
        names = self.names
        well = {*self._late, *(name for name, one in self.engine.brokers.items() if one.state not in FINAL_STATES)}
        added = tuple(name for name in new.brokers if name not in names)
        unchanged = tuple(n for n in new.brokers if n in well and old.brokers.get(n) == new.brokers[n])
        changed = tuple(name for name in new.brokers if name not in {*added, *unchanged})
        removed = tuple(sorted(names - new.brokers.keys()))
        beginning = [new.brokers[name] for name in (*changed, *added) if name not in self._late]
        ending = [one for name, one in old.brokers.items() if name in {*changed, *removed}]
        with self.listeners.closed_again_on_error():
            self._open_what_is_new(beginning, ending)

        self._late = {name: new.brokers[name] for name in self._late if name in new.brokers}
        self._too_late = self._too_late.intersection(new.brokers)
        replaced = {one.name for one in beginning if one.name not in added and self._replace(one)}
        still_there = {name: one for name, one in self.engine.brokers.items() if name not in replaced}
        leaving = [broker for name, broker in still_there.items() if name in {*changed, *removed}]
        ended = self._end(leaving, new.engine.drain_timeout_s)
        self.listeners.keep_only(new.brokers.values())
        problems: list[Problem] = []
        serving = dict(new.brokers)
        beginning = [broker for broker in beginning if broker.name not in replaced]
        self.listeners.wait_until_left(beginning)
        for broker in beginning:
            before = len(problems)
            earlier = ended[broker.name].final if broker.name in ended else None
            with _noting(broker, problems):
                self.listeners.open_for(broker, wait=True)
                self._add(broker, earlier)
            if len(problems) == before or broker.name not in old.brokers:
                continue
            if self._put_back(old.brokers[broker.name], earlier):
                serving[broker.name] = old.brokers[broker.name]  # so that the next reload tries again
        served = replace(new, brokers=serving)
        self.keep_listeners_of_present(served)
        return Reloaded(added, changed, removed, unchanged, ended, tuple(problems)), served

    def _replace(self, configuration: BrokerConfiguration) -> bool:
        """Put a broker in the place of the one of its name, with its connections. Return False if that is not possible;
        the old one goes on then."""
        name = configuration.name
        old = self.engine.brokers.get(name)
        if old is None:  # a command has ended it meanwhile
            return False
        try:
            new = self.engine.add(**configuration.arguments(), replaces=old)
        except Exception as error:  # noqa: BLE001 - what can be done in the ordinary way is done so
            _logger.info("reload: it is closed and opened again: %s", _text_of(error), extra={"broker": name})
            return False
        self.drops.go_on_with(new)
        self._note_begun(new)
        return True

    def _open_what_is_new(
        self, beginning: Iterable[BrokerConfiguration], ending: Iterable[BrokerConfiguration]
    ) -> None:
        """Bind what the new brokers need, before anything is changed. Raises `ConfigurationError` if that fails.

        An address of a broker that is about to end is bound later, when it is free.
        """
        problems: list[Problem] = []
        for broker in beginning:
            with _noting(broker, problems):
                try:
                    self.listeners.open_for(broker, leaving=ending)
                except EndpointError:
                    errors = self.listeners.look_at(broker.listeners, leaving=ending)
                    problems += [problem_of(broker, str(one)) for one in errors]
                    raise
        if problems:
            raise ConfigurationError(problems)

    def _put_back(self, broker: BrokerConfiguration, earlier: BrokerStatistics | None) -> bool:
        """Begin a broker again as it was, since it could not begin as it should be. Return True if that is possible."""
        try:
            self.listeners.open_for(broker, wait=True)
            self.listeners.wait_until_left([broker])
            self._add(broker, earlier)
        except Exception as error:  # noqa: BLE001 - the other brokers are changed all the same
            _logger.error("reload: brokers.%s: it cannot go on as it was: %s", broker.name, _text_of(error))
            return False
        _logger.error("reload: brokers.%s: it goes on as it was", broker.name)
        return True

    # -- ending -------------------------------------------------------------------------------------------------------

    def end(self, drain_timeout_s: float) -> dict[str, Ended]:
        """End all brokers in order, and return how each ended. Their listeners are closed first."""
        self.listeners.keep_only(())
        return self._end({**self._begun, **self.engine.brokers}.values(), drain_timeout_s)

    def forget(self, names: Iterable[str]) -> None:
        """The end is to tell nothing of these brokers."""
        for name in names:
            self._begun.pop(name, None)

    def forget_moved(self, names: Iterable[str]) -> None:
        """These brokers are another process's now, which tells what they drop from now on."""
        for name in names:
            broker = self._begun.pop(name, None)
            if broker is not None and broker.removed.done():
                self.drops.tell_rest(broker, broker.removed.result())

    def _end(self, brokers: Iterable[Broker], drain_timeout_s: float) -> dict[str, Ended]:
        several = {broker.name: broker for broker in brokers}
        self.forget(several)
        ended = end_brokers(self.engine, several.values(), drain_timeout_s)
        for name, one in ended.items():
            self.drops.tell_rest(several[name], one.final)
        return ended


@contextmanager
def _noting(broker: BrokerConfiguration, problems: list[Problem]) -> Iterator[None]:
    """As a context: an error of a broker that cannot begin becomes a problem at its place.

    A behaviour may raise anything when it begins. The traceback of what is no error of pollbroker's is logged.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, PollbrokerError):
            _logger.exception("brokers.%s: it cannot begin", broker.name, extra={"broker": broker.name})
        problems.append(problem_of(broker, _text_of(error)))


def _text_of(error: Exception) -> str:
    return str(error) if isinstance(error, PollbrokerError) else describe_error(error)


def _is_in_use(error: PollbrokerError) -> bool:
    return getattr(error.__cause__, "errno", None) == errno.EADDRINUSE
