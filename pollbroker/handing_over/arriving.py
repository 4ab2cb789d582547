"""The side that takes brokers over.

The brokers are added while the other process still serves. Its state comes when all have been added. It is made theirs
in a single call in the loop's thread, which ends when the other process has agreed: so nothing can use a connection of
which it is not yet certain whose it is.
"""

import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from pollbroker.device import Device
from pollbroker.errors import ConfigError, EngineError, HandOverError
from pollbroker.handing_over.channel import (
    CLAIM,
    COMMIT,
    DESCRIPTORS,
    HELLO,
    OFFER,
    READY,
    STATE,
    TAKEN,
    Channel,
    Ended,
    parse,
)
from pollbroker.handing_over.description import VERSIONS, Fields, OfferedBroker, difference_to, read_offered
from pollbroker.handing_over.moving import go_on, let_go, restore
from pollbroker.handing_over.state import MovedBroker, read_state
from pollbroker.loop import Loop
from pollbroker.opening import Plan
from pollbroker.table import Table
from pollbroker.timers import check_delay
from pollbroker.version import __version__
from pollbroker.working import WorkingBroker

_COMMIT_S: Final = 5.0
"""How long the other process may take for COMMIT, which it sends at once. The loop here stands still meanwhile."""


class Adoption:
    """Brokers that another process hands over, while they are added here; what `Engine.adopt` returns.

    In its block, `Engine.add` makes those that are `offered`. At the end of the block they serve.
    """

    def __init__(self, loop: Loop, table: Table, connected: Any, timeout_s: float) -> None:
        check_delay(timeout_s)
        self._loop = loop
        self._table = table
        self._timeout_s = timeout_s
        self._channel = Channel(connected)
        self._offered: dict[str, OfferedBroker] = {}
        self._expected: dict[str, WorkingBroker] = {}
        self._moved: tuple[str, ...] = ()

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of the brokers that the other process can hand over."""
        return tuple(self._offered)

    @property
    def moved(self) -> tuple[str, ...]:
        """The names of those that were taken over; none before the end of the block."""
        return self._moved

    # -- the conversation ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            if self._loop.calls.in_own_turn():
                raise EngineError("adopt() was called from within a turn of the loop, which it would wait for")
            deadline_s = time.monotonic() + self._timeout_s
            hello = {"versions": VERSIONS, "pollbroker": __version__}
            self._channel.tell(HELLO, hello, deadline_s=deadline_s)
            told = parse(self._channel.receive(OFFER, deadline_s=deadline_s)[1], "OFFER")
            fields = Fields(told, "OFFER")
            if fields.number("version") not in VERSIONS:
                raise HandOverError(f"OFFER.version: {fields.number('version')}: this process cannot read it")
            self._offered = {one.name: one for one in fields.list("brokers", read_offered)}
            self._loop.calls.call(self._begin)
        except BaseException as error:
            self._channel.refuse(str(error))
            self._channel.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._loop.calls.call(self._end)
            if error is not None:
                raise error
            self._complete()
        except BaseException as failure:
            self._channel.refuse(f"{type(failure).__name__}: {failure}")
            if not self._moved:
                self._loop.calls.call(self._abandon)
            if failure is not error:
                raise
        finally:
            self._channel.close()

    def _complete(self) -> None:
        channel, deadline_s = self._channel, time.monotonic() + self._timeout_s
        channel.tell(CLAIM, {"brokers": tuple(self._expected)}, deadline_s=deadline_s)
        if not self._expected:
            return
        while (frame := channel.receive(DESCRIPTORS, STATE, deadline_s=deadline_s))[0] != STATE:
            pass
        descriptors = channel.fetch_descriptors()
        try:
            moved = read_state(frame[1])
            if [broker.name for broker in moved] != list(self._expected):
                raise HandOverError("STATE: it is not about the brokers that were claimed")
            self._loop.calls.call(self._take_over, moved, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # -- in the loop's thread -----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._table.arrival is not None:
            raise EngineError("the engine takes over brokers already; expected the end of that block first")
        self._table.arrival = self

    def _end(self) -> None:
        self._table.arrival = None

    def _abandon(self) -> None:
        """Remove the brokers that were added. Duplicates of connections are closed, which ends none of them."""
        with self._loop.events.told_afterwards():
            for broker in self._expected.values():
                if broker.final is None:
                    let_go(broker, self._table)

    def has(self, name: str, /) -> bool:
        """See `pollbroker.table.Arrival`."""
        return name in self._offered and name not in self._expected

    def plan_for(self, name: str, device: Device, plan: Plan, /) -> Plan:
        """See `pollbroker.table.Arrival`."""
        difference = difference_to(self._offered[name], device, plan)
        if difference is not None:
            raise ConfigError(f"brokers.{name}{difference}")
        return plan.without_endpoints()

    def expect(self, broker: WorkingBroker, /) -> None:
        """See `pollbroker.table.Arrival`."""
        self._expected[broker.name] = broker
        self._offered[broker.name].name_endpoints(broker)

    def _take_over(self, moved: Sequence[MovedBroker], descriptors: list[int]) -> None:
        """Make the connections and the state of the brokers theirs, and agree with the other process on that.

        Raises `HandOverError`. The brokers are abandoned then, before the loop makes another turn: the other process
        uses the connections.
        """
        try:
            self._restore(moved, descriptors)
            self._agree()
        except BaseException:
            self._abandon()
            raise
        self._moved = tuple(self._expected)
        for broker in moved:
            go_on(self._expected[broker.name], paused=broker.paused)

    def _restore(self, moved: Sequence[MovedBroker], descriptors: list[int]) -> None:
        for broker in moved:
            here = self._expected[broker.name]
            if here.final is not None:
                raise HandOverError(f"brokers.{broker.name}: it is {here.state}; it was to be taken over")
            try:
                restore(here, broker, descriptors)
            except (ValueError, OverflowError, OSError, MemoryError) as error:
                raise HandOverError(f"brokers.{broker.name}: {error}") from error
        if descriptors:
            raise HandOverError(f"{len(descriptors)} descriptors belong to nothing")

    def _agree(self) -> None:
        channel, deadline_s = self._channel, time.monotonic() + _COMMIT_S
        channel.send(READY, deadline_s=deadline_s)
        channel.receive(COMMIT, deadline_s=deadline_s)
        try:
            channel.send_now(TAKEN)
        except Ended:
            # The other process does not listen any more. If it has changed its mind it says so, and otherwise it has
            # died since, and nobody else serves.
            try:
                channel.receive(deadline_s=deadline_s)
            except Ended:
                return
