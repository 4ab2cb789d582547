"""A broker that takes the place of another one in the same engine, with its listeners and live connections.

The other broker is suspended, the new one is made of its connections, and then it ends. All that happens in a single
call in the loop's thread, so that no message can be on its way in between. If anything fails, the other one goes on.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Final

from pollbroker.broker import Broker
from pollbroker.descriptors import duplicate
from pollbroker.device import Device
from pollbroker.errors import ConfigError, HandOverError
from pollbroker.handing_over.description import OfferedBroker, difference_to
from pollbroker.handing_over.moving import (
    close_ports,
    come_between_messages,
    describe,
    go_on,
    receive_again,
    restore,
    why_not_moved,
)
from pollbroker.loop_access import LoopAccess
from pollbroker.opening import Plan
from pollbroker.states import BrokerState
from pollbroker.table import Table
from pollbroker.timers import Handle
from pollbroker.working import WorkingBroker

_ASKED_AGAIN_S: Final = 0.1
"""A broker whose handler is amid a message receives no other for so long after each call of `replace`, since it will be
called again as a rule. Otherwise a busy broker would nearly always be found amid a message."""


class AmidMessageError(ConfigError):
    """A handler of the broker that is to be replaced is amid a message. It may be waited for."""


class Replacing:
    """Puts brokers of an engine in the place of others."""

    def __init__(self, table: Table, loop_access: LoopAccess) -> None:
        self._table = table
        self._clock = loop_access.clock
        self._call_later = loop_access.call_later
        self._events = loop_access.events
        self._held: dict[WorkingBroker, Handle] = {}
        """Brokers that receive nothing, and the timers with which they do so again."""

    def replace(
        self, which: str | Broker, name: str, device: Device, plan: Plan, prefixes: Mapping[str, bytes]
    ) -> WorkingBroker:
        """Start a broker in the place of another one.

        Raises `EngineError` (there is no such broker, or the name is taken), `ConfigError` if the connections cannot be
        kept, `AmidMessageError` if they cannot be for now, or `HandOverError` if that fails.
        """
        self._table.check_takes_others()
        old = self._table.steerable(which)
        if name != old.name:
            self._table.check_free(name)
        _check(old, name, device, plan)
        if not self._comes_between_messages(old, name):
            raise AmidMessageError(
                f"{_of_connections(old, name)}: its handler has yet to say what else is made of a message"
            )
        was_paused = old.state is BrokerState.PAUSED
        old.suspend()
        try:
            new = self._make_of(old, name, device, plan, prefixes)
        except BaseException:
            old.go_on()
            raise
        with self._events.told_afterwards():
            close_ports(old)
            self._table.exchange(old, new)
            go_on(new, paused=was_paused)
        return new

    def _comes_between_messages(self, old: WorkingBroker, name: str) -> bool:
        if old in self._held:
            self._held.pop(old).cancel()
        elif old.interrupt is not None:
            raise ConfigError(f"{_of_connections(old, name)}: it is being moved already")
        release = old.interrupt = partial(self._release, old)
        try:
            if come_between_messages(old, self._clock()):
                old.interrupt = None
                return True
        except BaseException:
            release()
            raise
        self._held[old] = self._call_later(_ASKED_AGAIN_S, release)
        return False

    def _release(self, old: WorkingBroker) -> None:
        old.interrupt = None
        timer = self._held.pop(old, None)
        if timer is not None:
            timer.cancel()
        receive_again(old)

    def _make_of(
        self, old: WorkingBroker, name: str, device: Device, plan: Plan, prefixes: Mapping[str, bytes]
    ) -> WorkingBroker:
        """Make a broker of the connections of one that is suspended."""
        descriptors: list[int] = []
        duplicates: list[int] = []
        new: WorkingBroker | None = None
        try:
            moved = describe(old, descriptors, self._clock())
            for descriptor in descriptors:
                duplicates.append(duplicate(descriptor))
            new = self._table.prepare(name, device, plan.without_endpoints(), prefixes)
            OfferedBroker.of(old).name_endpoints(new)
            _check_options(old, new)
            restore(new, moved, duplicates)
        except BaseException as error:
            if new is not None:
                with self._events.told_afterwards():
                    close_ports(new)
                    self._table.abandon(new)
            if isinstance(error, (ValueError, OverflowError, OSError, MemoryError)):
                raise HandOverError(
                    f"brokers.{name}: the connections of {old.name!r} cannot be kept: {error}"
                ) from error
            raise
        finally:
            for descriptor in duplicates:
                os.close(descriptor)
        return new


def _check(old: WorkingBroker, name: str, device: Device, plan: Plan) -> None:
    """Raise `ConfigError` if the connections of a broker cannot become those of another one."""
    why_not = why_not_moved(old)
    if why_not is not None:
        raise ConfigError(f"{_of_connections(old, name)}: {why_not}")
    difference = difference_to(OfferedBroker.of(old), device, plan)
    if difference is not None:
        raise ConfigError(f"brokers.{name}{difference}")


def _of_connections(old: WorkingBroker, name: str) -> str:
    return f"brokers.{name}: the connections of {old.name!r} cannot be kept"


def _check_options(old: WorkingBroker, new: WorkingBroker) -> None:
    """Raise `ConfigError` if an option differs that a connection has from its beginning."""
    for before, after in zip(old.ports, new.ports, strict=True):
        was, wanted = before.wire_socket.fixed_options, after.wire_socket.fixed_options
        for option in sorted({*was, *wanted}):
            if was.get(option) != wanted.get(option):
                raise ConfigError(
                    f"brokers.{new.name}.{after.name}: {option}: a connection has this option from its beginning; "
                    f"expected the same as {old.name!r} has, to keep its connections"
                )
