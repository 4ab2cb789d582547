"""Brokers that another process hands over, where what waits is awaited."""

from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import pollbroker
from pollbroker.awaiting.turns import Turns
from pollbroker.calls import call_in_thread
from pollbroker.errors import HandOverError

_THREAD: Final = "pollbroker-adopt"


class Adoption:
    """Brokers that another process hands over, while they are added here; what `Engine.adopt` returns.

    In its block, `Engine.add` makes those that are `offered`. At the end of the block they serve. The conversation with
    the other process is held by a thread, and the loop goes on meanwhile.
    """

    def __init__(self, turns: Turns, sync: pollbroker.Adoption) -> None:
        self._turns = turns
        self._sync = sync

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of the brokers that the other process can hand over."""
        return self._sync.offered

    @property
    def moved(self) -> tuple[str, ...]:
        """The names of those that were taken over; none before the end of the block."""
        return self._sync.moved

    async def __aenter__(self) -> Self:
        begun = call_in_thread(_THREAD, self._sync.__enter__)
        try:
            await self._turns.wait_for(begun)
        except BaseException:  # it is cancelled, or could not begin
            begun.add_done_callback(self._give_up)
            raise
        return self

    def _give_up(self, begun: "Future[Any]") -> None:
        """End what was begun for somebody who does not wait any more."""
        if begun.exception() is None:
            error = HandOverError("the block of adopt() was cancelled before it began")
            self._sync.__exit__(type(error), error, None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._turns.wait_for(call_in_thread(_THREAD, partial(self._sync.__exit__, kind, error, trace)))
