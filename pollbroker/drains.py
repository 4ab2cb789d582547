"""Drains: waiting until brokers hold nothing and have nothing to read.

Only a broker without work can be idle, so the idle ones are counted at the end of a turn that leaves none with work.
Everything here happens in the engine's thread; `Engine.drain` carries the call over and waits for the future.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import TypeAlias

from pollbroker.broker import Broker
from pollbroker.loop import Loop
from pollbroker.table import Table
from pollbroker.timers import check_delay
from pollbroker.working import WorkingBroker

Drained: TypeAlias = Future[tuple[str, ...]]
"""Resolved at the end of a drain, with the names of the brokers that still had something."""


class Drains:
    """The drains of an engine that somebody waits for."""

    def __init__(self, table: Table, loop: Loop) -> None:
        self._table = table
        self._loop = loop
        self._waiting: dict[Drained, WorkingBroker | None] = {}
        """Each drain, with the one broker that it is for; None if it is for all of them."""

    def begin(self, timeout_s: float, which: str | Broker | None) -> Drained:
        """Begin to drain one broker, or all; it ends when they are idle, and after `timeout_s` in any case.

        Raises `EngineError` if there is no such broker, and `ConfigError` if `timeout_s` is not a number.
        """
        check_delay(timeout_s)
        one = None if which is None else self._table.known(which)
        drained: Drained = Future()
        if not self._waiting:
            self._loop.at_rest.append(self._end_those_that_are_done)
        self._waiting[drained] = one
        for broker in self._brokers(one):
            broker.look_again()
        self._loop.timers.add(timeout_s, partial(self._end, drained))
        return drained

    def _brokers(self, one: WorkingBroker | None) -> Iterable[WorkingBroker]:
        return self._table if one is None else (one,)

    def _end_those_that_are_done(self) -> None:
        for drained, one in list(self._waiting.items()):
            if all(broker.idle for broker in self._brokers(one)):
                self._end(drained)

    def _end(self, drained: Drained) -> None:
        if drained in self._waiting:
            brokers = self._brokers(self._waiting.pop(drained))
            if not self._waiting:
                self._loop.at_rest.remove(self._end_those_that_are_done)
            drained.set_result(tuple(broker.name for broker in brokers if not broker.idle))
