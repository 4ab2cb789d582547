"""Iterators of handlers that fail: they are asked no more than a generator would be."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker.pump import EMPTY, Implementation, RoutingPump
from pollbroker.pump.limits import MAXFRAMES
from tests.support.accounts import balanced
from tests.support.pipes import MANY, take_all
from tests.support.pumps import Line
from tests.support.types import Socket


class Asked:
    """An iterator that fails at one question, would answer the others, and counts them all."""

    def __init__(self, failing: int, error: BaseException) -> None:
        self.questions = 0
        self._failing = failing
        self._error = error

    def __iter__(self) -> Iterator[list[bytes]]:
        return self

    def __next__(self) -> list[bytes]:
        self.questions += 1
        if self.questions == self._failing:
            raise self._error
        if self.questions > self._failing + 3:
            raise StopIteration
        return [b"%d" % self.questions]


# A generator that raised has ended by itself. Another iterator may go on, and its handler does not know that it failed.
@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, StopIteration])
def test_iterator_that_raised_is_not_asked_again(
    context: zmq.Context[Socket], implementation: Implementation, failing: int, error: type[BaseException]
) -> None:
    made: list[Asked] = []

    def handle(frames: list[bytes]) -> Asked:
        made.append(Asked(failing, error()))
        return made[-1]

    line = Line(context, partial(handled, implementation, handle))
    consumer = line.consumer()
    line.give([b"first"], [b"next"])
    outcome = None
    while outcome != EMPTY:
        try:
            outcome = line.pump.move(MANY, MANY)
        except KeyboardInterrupt:
            assert error is KeyboardInterrupt
    assert [iterator.questions for iterator in made] == [failing] * 2
    assert take_all(consumer) == [[b"%d" % question] for question in range(1, failing)] * 2
    assert balanced(line.pump.counters())


def handled(implementation: Implementation, handle: Any, source: Socket, sink: Socket) -> RoutingPump:
    sender = implementation.make_sender(sink, None, None, True)
    return RoutingPump(implementation.make_receiver(source, MAXFRAMES), handle, {"sink": sender})
