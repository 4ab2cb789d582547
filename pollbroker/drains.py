"""Waiting until brokers hold nothing: drains, removals that drain first, and pauses that flush.

A drain waits until brokers hold nothing and have nothing to read, which they go on doing meanwhile. Brokers that are to
be removed then are removed together, since one may feed another. A pause that flushes waits until paused brokers have
delivered what they held; they read nothing meanwhile.

Whoever waits for a broker whose place another one takes (`Engine.add`, `replaces`) waits for that one from then on,
since it has all that was held and unread. If a broker ends before it is done, the wait ends with an error.

A broker that has work is not idle. So whether it is time to end is looked at only at the end of a turn that leaves no
broker with work. Everything here happens in the engine's thread; `Engine` passes its calls on to that thread, and waits
for the future.
"""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from pollbroker.broker import Broker
from pollbroker.errors import EngineError
from pollbroker.loop import Loop
from pollbroker.states import FINAL_STATES, BrokerState
from pollbroker.table import Table
from pollbroker.timers import Handle, check_delay
from pollbroker.working import WorkingBroker

_logger = logging.getLogger("pollbroker")

_LOOK_S: Final = 0.05
"""How often brokers that are to leave, and always have work, are asked whether they wait for replies."""

Drained: TypeAlias = Future[tuple[str, ...]]
"""Resolved at the end, with the names of the brokers that still held a message, or, after a drain, had one to read. It
has an `EngineError` if the one broker has ended meanwhile, with messages that were not delivered."""


@dataclass
class _Waiting:
    """Somebody who waits for brokers."""

    target: WorkingBroker | None
    """The one broker; None for all brokers."""
    is_done: Callable[[WorkingBroker], bool]
    """Whether a broker need not be waited for any more."""
    is_left: Callable[[WorkingBroker], bool]
    """Whether a broker is to be named at the end."""
    flushes: bool
    had_ended: bool
    """True if the one broker had ended before."""
    give_up: Handle
    """The timer that ends the wait."""
    not_done: WorkingBroker | None = None
    """One that had to be waited for at the last look. It is looked at first, so that a look at many brokers costs no
    more than one at a few."""


class Drains:
    """The drains and flushes of an engine that have not ended."""

    def __init__(self, table: Table, loop: Loop) -> None:
        self._table = table
        self._loop = loop
        self._waiting: dict[Drained, _Waiting] = {}
        self._leaving: dict[WorkingBroker, tuple[float, Handle]] = {}
        """The brokers that are drained and then removed, with the time at which they are given up, and its timer."""
        self._untold: list[WorkingBroker] = []
        """Those of them of which the log has yet to say that they wait for replies, if they do."""
        self._busiest: WorkingBroker | None = None
        """One of those that leave, which was not idle at the last look; see `_Waiting.not_done`."""
        self._looks_again: Handle | None = None
        """The timer that has brokers that leave asked for replies, while there are any."""
        self._looks = False
        """True while the loop calls `_look`."""
        table.on_exchange = self._go_on_with

    def begin(self, timeout_s: float, broker: str | Broker | None) -> Drained:
        """Begin to drain one broker, or all. The drain ends when they are idle, or after `timeout_s`.

        Raises `EngineError` if there is no such broker, and `ConfigError` if `timeout_s` is not a number.
        """
        check_delay(timeout_s)
        target = None if broker is None else self._table.find(broker)
        drained = self._wait(target, _is_idle, lambda one: not one.idle, timeout_s)
        for each in self._brokers(target):
            each.recheck_sources()
        return drained

    def begin_removal(self, which: str | Broker, timeout_s: float) -> WorkingBroker:
        """Begin to drain a broker that takes no new peers, and to remove it as soon as it is idle, all within
        `timeout_s`. Brokers that are drained at the same time are removed together, since one may feed another."""
        check_delay(timeout_s)
        broker = self._table.begin_draining(which)
        if self._table.get(broker.name) is not broker:
            return broker  # it was handed over
        if broker.state is not BrokerState.DRAINING:
            return self._table.begin_removal(broker.name, timeout_s)
        now_s = self._loop.access.clock()
        give_up_s, known = now_s + timeout_s, self._leaving.get(broker)
        if known is not None:
            give_up_s = min(give_up_s, known[0])
            known[1].cancel()
        give_up = self._loop.timers.add(max(0.0, give_up_s - now_s), partial(self._give_up, broker, timeout_s))
        self._leaving[broker] = give_up_s, give_up
        if known is None:
            self._untold.append(broker)
        if self._looks_again is None:
            self._look_for_replies()
        self._look_from_now_on()
        broker.recheck_sources()
        return broker

    def _give_up(self, broker: WorkingBroker, timeout_s: float) -> None:
        """Remove a broker whose time is over."""
        outstanding = broker.take_no_requests() if broker.state is BrokerState.DRAINING else 0
        if outstanding:
            _logger.warning(
                "brokers.%s: no replies to %s have come within %.1f s", broker.name, _requests(outstanding), timeout_s
            )
        self._remove(broker)

    def _remove(self, broker: WorkingBroker) -> None:
        give_up_s, give_up = self._leaving.pop(broker)
        give_up.cancel()
        if not self._leaving and self._looks_again is not None:
            self._looks_again.cancel()  # a run that has nothing left to do need not wait for it
            self._looks_again = None
        if broker.state is BrokerState.DRAINING:  # and not removed by somebody else
            self._table.begin_removal(broker.name, max(0.0, give_up_s - self._loop.access.clock()))

    def _remove_if_all_are_idle(self) -> None:
        """Remove the brokers that leave, if none of them has anything left to do."""
        if self._busiest is not None and self._is_busy(self._busiest):
            return
        self._busiest = next(filter(self._is_busy, self._leaving), None)
        if self._busiest is None:
            for broker in tuple(self._leaving):
                self._remove(broker)

    def _look_for_replies(self) -> None:
        """Have brokers that wait for replies take no more requests, also if they always have work, so that nothing else
        looks at them."""
        for broker in self._leaving:
            if broker.state is BrokerState.DRAINING:
                broker.take_no_requests()
        self._tell_of_replies()
        self._looks_again = self._loop.timers.add(_LOOK_S, self._look_for_replies) if self._leaving else None

    def _tell_of_replies(self) -> None:
        """Say of each broker that leaves, once, how many replies it waits for: a request that is never answered
        takes all of the time."""
        for broker in self._untold.copy():
            leaves = broker in self._leaving and broker.state is BrokerState.DRAINING
            outstanding = broker.take_no_requests() if leaves else 0
            if outstanding:
                left_s = max(0.0, self._leaving[broker][0] - self._loop.access.clock())
                replies = f"replies to {_requests(outstanding)}"
                _logger.info("brokers.%s: waits up to %.1f s for the %s", broker.name, left_s, replies)
            if outstanding or not leaves:
                self._untold.remove(broker)

    def _is_busy(self, broker: WorkingBroker) -> bool:
        return broker in self._leaving and broker.state is BrokerState.DRAINING and not broker.idle

    def begin_flush(self, timeout_s: float, broker: str | Broker | None) -> Drained:
        """Begin to pause one broker, or all, once what it holds is delivered. It is paused after `timeout_s` in any
        case.

        Raises `EngineError` as `Table.pause`, and `ConfigError` if `timeout_s` is not a number.
        """
        check_delay(timeout_s)
        with self._loop.events.told_afterwards():
            self._table.begin_flush(broker)
            target = None if broker is None else self._table.find(broker)
            return self._wait(target, lambda one: not one.holds_in_pause, _is_unpaused, timeout_s, flushes=True)

    def end_all(self) -> None:
        """End every wait now: the engine closes, and no turn follows that could end them."""
        for drained in list(self._waiting):
            self._end(drained)
        for broker in list(self._leaving):
            self._remove(broker)

    def _wait(
        self,
        target: WorkingBroker | None,
        is_done: Callable[[WorkingBroker], bool],
        is_left: Callable[[WorkingBroker], bool],
        timeout_s: float,
        *,
        flushes: bool = False,
    ) -> Drained:
        drained: Drained = Future()
        had_ended = target is not None and target.state in FINAL_STATES
        give_up = self._loop.timers.add(timeout_s, partial(self._end, drained))
        self._waiting[drained] = _Waiting(target, is_done, is_left, flushes, had_ended, give_up)
        self._look_from_now_on()
        return drained

    def _go_on_with(self, old: WorkingBroker, new: WorkingBroker) -> None:
        """Have whoever waits for a broker wait for the one that has taken its place."""
        for waiting in self._waiting.values():
            if waiting.target is old:
                waiting.target = new

    def _brokers(self, target: WorkingBroker | None) -> Iterable[WorkingBroker]:
        if target is None:
            return self._table
        return (target,)

    def _look_from_now_on(self) -> None:
        """Have the loop call `_look` at the end of each turn that leaves no broker with work."""
        if not self._looks:
            self._loop.on_idle.append(self._look)
            self._looks = True

    def _look(self) -> None:
        """End what has nothing left to wait for."""
        self._remove_if_all_are_idle()
        self._tell_of_replies()
        for drained, waiting in list(self._waiting.items()):
            if waiting.not_done is not None and not waiting.is_done(waiting.not_done):
                continue
            several = self._brokers(waiting.target)
            waiting.not_done = next((one for one in several if not waiting.is_done(one)), None)
            if waiting.not_done is None:
                self._end(drained)
        if not self._waiting and not self._leaving:
            self._loop.on_idle.remove(self._look)
            self._looks = False

    def _end(self, drained: Drained) -> None:
        waiting = self._waiting.pop(drained, None)
        if waiting is None:
            return
        waiting.give_up.cancel()
        brokers = tuple(self._brokers(waiting.target))
        if waiting.flushes:
            for broker in brokers:
                if not self._is_flushed_for_another(broker):
                    broker.end_flush()
        names = tuple(broker.name for broker in brokers if waiting.is_left(broker))
        if not drained.set_running_or_notify_cancel():
            return  # whoever waited for it has cancelled it
        why_not = None if waiting.target is None or waiting.had_ended else _why_never_done(waiting.target)
        if why_not is None:
            drained.set_result(names)
        else:
            drained.set_exception(EngineError(why_not))

    def _is_flushed_for_another(self, broker: WorkingBroker) -> bool:
        return any(other.flushes and other.target in (None, broker) for other in self._waiting.values())


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"


def _is_idle(broker: WorkingBroker) -> bool:
    """True also for a broker that has ended, since what its behaviour keeps is not delivered any more."""
    return broker.idle or broker.final is not None


def _is_unpaused(broker: WorkingBroker) -> bool:
    """True for a broker that holds a message still, or that was resumed or added meanwhile."""
    return broker.holds_in_pause or broker.state is BrokerState.RUNNING


def _why_never_done(broker: WorkingBroker) -> str | None:
    """Why a broker can never be done: it has ended with messages that it has not delivered. None if it was done, or may
    yet be."""
    if broker.final is None:
        return None
    if broker.handed_over:
        return f"brokers.{broker.name}: another process has taken it over meanwhile"
    left = sum(flow.held + flow.unread for flow in broker.final.flows.values())
    if not left:
        return None
    messages = f"{left} {'message was' if left == 1 else 'messages were'} not delivered"
    return f"brokers.{broker.name}: it is {broker.state} meanwhile, and {messages}"
