"""The side that hands brokers over.

The conversation is held by a thread of its own, so that the loop goes on with all brokers that are not moved. Whatever
touches brokers is called in the loop's thread: stopping them, and the decision.
"""

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

from pollbroker.broker import Broker
from pollbroker.calls import call_in_thread
from pollbroker.errors import ConfigError, EngineError, HandOverError
from pollbroker.frozen import FrozenDict
from pollbroker.handing_over.channel import (
    CLAIM,
    COMMIT,
    HELLO,
    OFFER,
    READY,
    STATE,
    TAKEN,
    Channel,
    parse,
)
from pollbroker.handing_over.description import VERSIONS, Fields, HandedOver, OfferedBroker, read_number, read_text
from pollbroker.handing_over.moving import come_between_messages, describe, let_go, receive_again, why_not_moved
from pollbroker.handing_over.state import MovedBroker, write_state
from pollbroker.loop import Loop
from pollbroker.states import BrokerState
from pollbroker.table import Table
from pollbroker.timers import check_delay
from pollbroker.working import WorkingBroker

_HANDLER_CHECK_S: Final = 0.001
"""How long the other brokers have to themselves before a handler that is amid a message goes on with it."""

_TOLD_S: Final = 5.0
"""How long the other process may take to read why it is refused."""


class Departure:
    """Hands brokers of an engine over. See `Engine.hand_over` for the arguments."""

    def __init__(
        self,
        loop: Loop,
        table: Table,
        connected: Any,
        brokers: Iterable[str | Broker] | None,
        timeout_s: float,
        freeze_s: float,
    ) -> None:
        check_delay(timeout_s)
        check_delay(freeze_s)
        self._loop = loop
        self._table = table
        self._deadline_s = time.monotonic() + timeout_s
        self._freeze_s = freeze_s
        self._left: dict[str, str] = {}
        self._claimed: list[WorkingBroker] = []
        self._suspended: dict[WorkingBroker, bool] = {}
        """Those of them that are stopped, and whether each was paused."""
        self._all_suspended = False
        self._taken: bool | None = None
        asked_for = None if brokers is None else tuple(brokers)
        self._channel = Channel(connected)
        try:
            self._offered: dict[str, WorkingBroker] = loop.calls.call(self._choose, asked_for)
        except BaseException as error:
            self._channel.refuse(f"{error}")
            self._channel.close()
            raise

    def start(self) -> "Future[HandedOver]":
        """Begin in a thread. The future is resolved at the end."""
        return call_in_thread("pollbroker-hand-over", self._run)

    # -- in the conversation's thread ---------------------------------------------------------------------------------

    def _run(self) -> HandedOver:
        channel = self._channel
        try:
            try:
                self._exchange()
            except BaseException as error:
                if not self._decide_in_loop():
                    channel.refuse(str(error))
                    raise
            self._decide_in_loop()
        finally:
            channel.close()
        moved = tuple(broker.name for broker in self._suspended)
        left = {name: "the other process has not added it" for name in self._offered if name not in moved}
        return HandedOver(moved, FrozenDict(self._left | left))

    def _exchange(self) -> None:
        channel, deadline_s = self._channel, self._deadline_s
        hello = Fields(parse(channel.receive(HELLO, deadline_s=deadline_s)[1], "HELLO"), "HELLO")
        versions = hello.list("versions", read_number)
        common = [version for version in VERSIONS if version in versions]
        if not common:
            raise HandOverError(
                f"no version suits both: this process can write {_join(VERSIONS)}, the other can read {_join(versions)}"
            )
        offers = [OfferedBroker.of(broker).told() for broker in self._offered.values()]
        channel.tell(OFFER, {"version": max(common), "brokers": offers}, deadline_s=deadline_s)
        claim = Fields(parse(channel.receive(CLAIM, deadline_s=deadline_s)[1], "CLAIM"), "CLAIM")
        for name in claim.list("brokers", read_text):
            if name not in self._offered or self._offered[name] in self._claimed:
                raise HandOverError(f"CLAIM: {name!r:.60}: it was not offered, or is claimed twice")
            self._claimed.append(self._offered[name])
        if not self._claimed:
            return
        deadline_s = time.monotonic() + self._freeze_s
        while amid := self._loop.calls.call(self._suspend):
            if time.monotonic() >= deadline_s:
                raise HandOverError(
                    f"brokers.{', brokers.'.join(amid)}: after {self._freeze_s:g} s a handler has yet to say what else "
                    "is made of a message"
                )
            time.sleep(_HANDLER_CHECK_S)
        state, descriptors = self._loop.calls.call(self._describe)
        channel.send_descriptors(descriptors, deadline_s=deadline_s)
        channel.send(STATE, state, deadline_s=deadline_s)
        channel.receive(READY, deadline_s=deadline_s)
        channel.send(COMMIT, deadline_s=deadline_s)
        channel.receive(TAKEN, deadline_s=deadline_s)

    def _decide_in_loop(self) -> bool:
        try:
            return self._loop.calls.call(self._decide)
        except EngineError:
            return bool(self._taken)  # the engine is closed, and has decided before that

    # -- in the loop's thread -----------------------------------------------------------------------------------------

    def _choose(self, asked_for: tuple[str | Broker, ...] | None) -> dict[str, WorkingBroker]:
        """The brokers that are offered, by name. Raises `ConfigError` for one that was asked for and cannot be
        moved."""
        chosen: dict[str, WorkingBroker] = {}
        for broker in list(self._table) if asked_for is None else map(self._table.find, asked_for):
            why_not = why_not_moved(broker)
            if why_not is None:
                chosen[broker.name] = broker
            elif asked_for is not None:
                raise ConfigError(f"brokers.{broker.name}: it cannot be handed over: {why_not}")
            else:
                self._left[broker.name] = why_not
        return chosen

    def _suspend(self) -> list[str]:
        """Stop each of the brokers that are claimed as soon as it is between two messages. Return the names of those
        that are not."""
        self._check_goes_on()
        amid: list[str] = []
        for broker in self._claimed:
            if broker in self._suspended:
                continue
            why_not = "it is being moved already" if self._is_held_by_another(broker) else why_not_moved(broker)
            if why_not is not None:
                raise HandOverError(f"brokers.{broker.name}: it cannot be handed over any more: {why_not}")
            broker.interrupt = self._interrupt
            is_between = come_between_messages(broker, self._loop.access.clock())
            if self._taken is not None:  # a handler has removed one of the brokers
                receive_again(broker)
            self._check_goes_on()
            if is_between:
                self._suspended[broker] = broker.state is BrokerState.PAUSED
                broker.suspend()
            else:
                amid.append(broker.name)
        return amid

    def _describe(self) -> tuple[bytes, list[int]]:
        """The state of the brokers, which are all stopped, and the descriptors."""
        self._check_goes_on()
        moved: list[MovedBroker] = []
        descriptors: list[int] = []
        for broker in self._claimed:
            try:
                described = describe(broker, descriptors, self._loop.access.clock())
            except ValueError as error:
                raise HandOverError(f"brokers.{broker.name}: it cannot be handed over: {error}") from error
            moved.append(replace(described, paused=self._suspended[broker]))
        self._all_suspended = True
        return write_state(moved), descriptors

    def _check_goes_on(self) -> None:
        if self._taken is not None:
            raise HandOverError("it was given up here")
        for broker in self._suspended:
            if broker.state is not BrokerState.HANDING_OVER:
                raise HandOverError(f"brokers.{broker.name}: it cannot be handed over any more: it is {broker.state}")

    def _is_held_by_another(self, broker: WorkingBroker) -> bool:
        return broker.interrupt is not None and broker.interrupt != self._interrupt

    def _interrupt(self) -> None:
        self._decide()

    def _decide(self) -> bool:
        """Return True if the other process has taken over. From then on nothing can change that."""
        if self._taken is None:
            self._taken = self._channel.was_taken() and self._all_suspended  # a TAKEN before that means nothing
            with self._loop.events.told_afterwards():
                for broker in self._claimed:
                    if broker.interrupt != self._interrupt:
                        continue  # it was not yet told to stop
                    broker.interrupt = None
                    if broker not in self._suspended:
                        receive_again(broker)
                    elif broker.state is not BrokerState.HANDING_OVER:
                        continue  # an error has ended it
                    elif self._taken:
                        let_go(broker, self._table)
                    else:
                        broker.go_on()
        return self._taken


def _join(versions: Iterable[int]) -> str:
    return ", ".join(map(str, versions)) or "none"
