"""Ending brokers in order, and saying what was lost: what the commands and the daemon do when they end a broker.

A broker first moves the messages that it has yet to read and to send, for as long as the time allows
(`Engine.remove(drain=True)`). Then it reads nothing more, and offers the messages that it holds for the rest of the
time. Messages that are left after that are lost.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pollbroker.broker import Broker
from pollbroker.engine import Engine
from pollbroker.errors import EngineError
from pollbroker.remaining import UNREAD_MOST
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, FlowStatistics

_LOOK_S: Final = 0.05
"""How often it is looked whether another thread still runs the engine. Futures that are resolved are seen at once."""


@dataclass(frozen=True)
class Ended:
    """How a broker ended."""

    before: BrokerStatistics | None
    """Its statistics before it was drained; None if it had been removed or had ended before."""
    final: BrokerStatistics
    """Its statistics after the removal."""
    drain_s: float
    """How long the end was allowed to take."""
    took_s: float
    """How long it took."""

    @property
    def failed(self) -> bool:
        """True if an error had ended the broker."""
        return self.final.state == BrokerState.FAILED

    @property
    def left(self) -> int:
        """How many messages were lost, as far as they were counted."""
        return sum(flow.unread + flow.held for flow in self.final.flows.values())

    @property
    def loss(self) -> str | None:
        """How many messages were lost and why; None if none were."""
        return describe_loss(self.before, self.final, self.drain_s, self.took_s)


def end_brokers(engine: Engine, brokers: Iterable[Broker], drain_s: float) -> dict[str, Ended]:
    """Drain and remove brokers, all at the same time, within `drain_s` seconds. Return how each of them ended.

    Brokers that have ended are taken from the table, too. While no thread runs the engine, the calling thread makes its
    turns.
    """
    several = tuple(brokers)
    before: dict[str, BrokerStatistics] = {}
    begun_s = time.monotonic()
    took_s: dict[str, float] = {}
    for broker in several:
        broker.removed.add_done_callback(partial(_note_end, took_s, broker.name, begun_s))
    for broker in several:
        with suppress(EngineError):  # it was removed a moment ago
            if not broker.removed.done():
                before[broker.name] = engine.broker_statistics(broker)
            engine.begin_removal(broker, timeout_s=drain_s, drain=True)
    _wait_for(engine, [broker.removed for broker in several])
    return {
        broker.name: Ended(
            before.get(broker.name),
            broker.removed.result(),
            drain_s,
            took_s.get(broker.name, time.monotonic() - begun_s),  # the others' callbacks may be made a moment later
        )
        for broker in several
    }


def _note_end(took_s: dict[str, float], name: str, begun_s: float, _: Future[BrokerStatistics]) -> None:
    took_s[name] = time.monotonic() - begun_s


def _wait_for(engine: Engine, several: Iterable[Future[Any]]) -> None:
    """Wait until all are resolved. Every one of them has a time limit."""
    pending = {future for future in several if not future.done()}
    while pending:
        if engine.running:
            pending = futures.wait(pending, timeout=_LOOK_S).not_done
        else:
            with suppress(EngineError):  # another thread has begun to run it
                engine.step(_LOOK_S)
            pending = {future for future in pending if not future.done()}


def describe_loss(
    before: BrokerStatistics | None, final: BrokerStatistics, drain_s: float, took_s: float
) -> str | None:
    """Describe how many messages were lost and why. Return None if none were lost.

    Arguments:
        before: the statistics before draining; None if the broker had ended before it could be drained.
        final: the statistics after the removal.
        drain_s: how long draining was allowed to take.
        took_s: how long it took, with the removal.
    """
    losing = {source: flow for source, flow in final.flows.items() if flow.unread + flow.held}
    if not losing:
        return None
    lost = sum(flow.unread + flow.held for flow in losing.values())
    at_least = "at least " if any(flow.unread >= UNREAD_MOST for flow in losing.values()) else ""
    number = f"{at_least}{lost} {'message' if lost == 1 else 'messages'} lost"
    return f"brokers.{final.name}: {number}: {_explain_loss(before, losing, final.state, drain_s, took_s)}"


def _explain_loss(
    before: BrokerStatistics | None, losing: Mapping[str, FlowStatistics], state: str, drain_s: float, took_s: float
) -> str:
    if before is None:
        return "the broker was removed without draining" if state == BrokerState.REMOVED else f"the broker is {state}"
    if before.state == BrokerState.PAUSED:
        return "the broker was paused, and so it was not drained"
    time_limit = f"within the {drain_s:.1f} s that draining may take"
    if took_s < drain_s and not any(flow.held for flow in losing.values()):
        return "they came when the broker had begun to end"
    if not all(_is_stuck(flow, before.flows.get(source)) for source, flow in losing.items()):
        return f"more came than could be moved {time_limit}"
    if not any(flow.sent for flow in losing.values()):
        return f"no consumer connected {time_limit}"
    return f"the consumers did not take them {time_limit}"


def _is_stuck(flow: FlowStatistics, before: FlowStatistics | None) -> bool:
    """Return True if a sink was full until the end. A port of the wire is asked for room before a message is read, so
    that none is held."""
    if flow.held or before is None:
        return bool(flow.held)
    return flow.sent == before.sent and flow.stalled_s > before.stalled_s
