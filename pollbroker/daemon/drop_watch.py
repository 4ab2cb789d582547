"""Warns of messages that were dropped, which are otherwise only counted.

Once a second the numbers of all brokers are compared with those of a second before, in the engine's thread, by a timer.
So a message that is dropped costs nothing more. What costs is the look: the number of a broker that has dropped nothing
is all that is read of it, and only a few brokers are looked at in each turn of the loop (`Engine.begin_for_each`).

The first drops by a rule, in one direction of a broker, are told at the next look; those that follow at most once in
`AGAIN_S`, all in one warning. What an earlier broker has dropped, whose counters this one goes on with, was told of
that one. Messages that a handler has filtered out are not warned of: that is what it is for.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pollbroker.broker import Broker, working_broker
from pollbroker.engine import Engine
from pollbroker.errors import EngineError
from pollbroker.statistics import DROPS, BrokerStatistics

_logger = logging.getLogger("pollbroker.daemon")

EVERY_S: Final = 1.0
"""How much time lies between two looks at least."""

AGAIN_S: Final = 10.0
"""How much time lies between two warnings of the same direction and rule."""

REASONS: Final[Mapping[str, str]] = {
    "unroutable": "no peer has their routing id",
    "slow_peer": "the peer that they were for was full",
    "interrupted": "the peer that they were for left when they were being sent",
    "too_many_frames": "they had more frames than maxframes",
    "long_subscription": "a subscription in them was too long",
    "failed": "the handler failed",
    "removed": "an earlier broker still held them when it was removed",
}
"""The rules that are warned of, and what each means."""


@dataclass
class _Known:
    """What was seen of a broker at the last look, and what was told of it."""

    broker: Broker
    dropped: int = 0
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    """By the source of the flow and the rule: the number that was told last, be it of an earlier broker."""
    again_s: dict[tuple[str, str], float] = field(default_factory=dict)
    """When the next number may be told."""
    untold: bool = False
    """True if there is a number that has not been told yet."""


class DropWatch:
    """Looks at the brokers of an engine once a second, until the engine is closed.

    Arguments:
        clock: seconds that never go back.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()
        """A broker may end in another thread than the engine's."""

    def start(self) -> None:
        """Look at the brokers from now on."""
        self._engine.call_later(EVERY_S, self._begin)

    def _begin(self) -> None:
        looked = self._engine.begin_for_each(self.look_at)
        looked.add_done_callback(partial(self._end, self._clock() + EVERY_S))

    def _end(self, next_s: float, looked: "Future[Mapping[str, None]]") -> None:
        error = looked.exception()
        if isinstance(error, EngineError):
            return  # the engine is closed
        if error is not None:
            _logger.error("dropped messages could not be looked for", exc_info=error)
        else:
            with self._lock:
                for name in self._known.keys() - looked.result().keys():
                    del self._known[name]
        self._engine.call_later(max(0.0, next_s - self._clock()), self._begin)

    def look_at(self, broker: Broker) -> None:
        """Tell what a broker has dropped since it was looked at."""
        with self._lock:
            known = self._known_of(broker)
            dropped = broker.dropped
            if dropped != known.dropped or known.untold:
                known.dropped = dropped
                self._tell(known, broker.statistics())

    def go_on_with(self, broker: Broker) -> None:
        """A broker has taken the place of the one of its name, and its counters go on."""
        with self._lock:
            known = self._known.get(broker.name)
            if known is not None:
                known.broker = broker

    def take_as_told(self, broker: Broker) -> None:
        """A broker has come from another process, which has told what it had dropped by then."""
        with self._lock:
            self._known[broker.name] = _Known(broker, told=_numbers_of(broker.statistics()))

    def tell_rest(self, broker: Broker, final: BrokerStatistics) -> None:
        """Tell what a broker has dropped that has ended, by its final statistics, and forget it."""
        with self._lock:
            self._tell(self._known_of(broker), final, at_last=True)
            del self._known[broker.name]

    def _known_of(self, broker: Broker) -> _Known:
        known = self._known.get(broker.name)
        if known is None or known.broker != broker:
            earlier = working_broker(broker).earlier
            known = self._known[broker.name] = _Known(broker, told={} if earlier is None else _numbers_of(earlier))
        return known

    def _tell(self, known: _Known, statistics: BrokerStatistics, *, at_last: bool = False) -> None:
        now_s = self._clock()
        known.untold = False
        for source, flow in statistics.flows.items():
            for rule in DROPS:
                number = getattr(flow, rule)
                new = number - known.told.get((source, rule), 0)
                if not new or rule not in REASONS:
                    continue
                if not at_last and now_s < known.again_s.get((source, rule), now_s):
                    known.untold = True
                    continue
                known.told[source, rule] = number
                known.again_s[source, rule] = now_s + AGAIN_S
                _warn(statistics, source, rule, new, number)


def _numbers_of(statistics: BrokerStatistics) -> dict[tuple[str, str], int]:
    """How many messages were dropped, by the source of the flow and the rule."""
    return {(source, rule): getattr(flow, rule) for source, flow in statistics.flows.items() for rule in DROPS}


def _warn(statistics: BrokerStatistics, source: str, rule: str, new: int, number: int) -> None:
    name = statistics.name
    place = {"broker": name} | ({"port": source} if source in statistics.ports else {})
    _logger.warning(
        "brokers.%s.%s: %d %s dropped (%d so far): %s: %s",
        name, source, new, "message" if new == 1 else "messages", number, rule, REASONS[rule],
        extra={**place, "rule": rule, "dropped": new, "dropped_so_far": number},
    )  # fmt: skip
