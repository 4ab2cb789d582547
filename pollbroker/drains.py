"""Drains: waiting until brokers hold nothing and have nothing to read.

A broker that has work is not idle. So whether a drain is over is looked at only at the end of a turn that leaves no
broker with work. Everything here happens in the engine's thread; `Engine.drain` passes its call on to that thread, and
waits for the future.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import TypeAlias

from pollbroker.broker import Broker
from pollbroker.loop import Loop
from pollbroker.states import BrokerState
from pollbroker.table import Table
from pollbroker.timers import check_delay
from pollbroker.working import WorkingBroker

Drained: TypeAlias = Future[tuple[str, ...]]
"""Resolved at the end of a drain, with the names of the brokers that still held a message or had one to read."""


class Drains:
    """The drains of an engine that have not ended."""

    def __init__(self, table: Table, loop: Loop) -> None:
        self._table = table
        self._loop = loop
        self._waiting: dict[Drained, WorkingBroker | None] = {}
        """Each drain, with the one broker that it is for; None if it is for all brokers."""

    def begin(self, timeout_s: float, broker: str | Broker | None) -> Drained:
        """Begin to drain one broker, or all. The drain ends when they are idle, or after `timeout_s`.

        Raises `EngineError` if there is no such broker, and `ConfigError` if `timeout_s` is not a number.
        """
        check_delay(timeout_s)
        target = None if broker is None else self._table.find(broker)
        drained: Drained = Future()
        if not self._waiting:
            self._loop.on_idle.append(self._end_finished_drains)
        self._waiting[drained] = target
        for each in self._brokers(target):
            each.recheck_sources()
        self._loop.timers.add(timeout_s, partial(self._end, drained))
        return drained

    def begin_removal(self, which: str | Broker, timeout_s: float) -> WorkingBroker:
        """Begin to drain a broker that takes no new peers, and to remove it as soon as it is idle, all within
        `timeout_s`. Brokers that are drained at the same time are removed together, since one may feed another."""
        check_delay(timeout_s)
        broker = self._table.begin_draining(which)
        if broker.state is not BrokerState.DRAINING:
            return self._table.begin_removal(broker.name, timeout_s)
        give_up_s = self._loop.access.clock() + timeout_s

        def remove(_: Drained) -> None:
            if broker.state is BrokerState.DRAINING:  # and not removed by somebody else
                self._table.begin_removal(broker.name, max(0.0, give_up_s - self._loop.access.clock()))

        self.begin(timeout_s, broker.name).add_done_callback(remove)
        return broker

    def end_all(self) -> None:
        """End every drain now: the engine closes, and no turn follows that could end them."""
        for drained in list(self._waiting):
            self._end(drained)

    def _brokers(self, target: WorkingBroker | None) -> Iterable[WorkingBroker]:
        if target is None:
            return self._table
        if target.state is BrokerState.DRAINING:
            return [broker for broker in self._table if broker.state is BrokerState.DRAINING]
        return (target,)

    def _end_finished_drains(self) -> None:
        for drained, target in list(self._waiting.items()):
            if all(broker.idle for broker in self._brokers(target)):
                self._end(drained)

    def _end(self, drained: Drained) -> None:
        if drained in self._waiting:
            brokers = self._brokers(self._waiting.pop(drained))
            if not self._waiting:
                self._loop.on_idle.remove(self._end_finished_drains)
            names = tuple(broker.name for broker in brokers if not broker.idle)
            if drained.set_running_or_notify_cancel():  # False if whoever waited for it has cancelled it
                drained.set_result(names)
