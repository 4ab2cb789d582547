"""What is asked of every broker, a few brokers in each turn.

With a thousand brokers, the statistics of all of them take the engine's thread a third of a second, in which it would
move no message. So they are asked in portions, and the loop goes on in between.

- In each turn there is one portion, however many wait for an answer: who came first is answered first. Whoever waits
  costs nothing until then.
- The first portion is done at once if nobody else waits. With few brokers that is all, and the future is resolved when
  it is returned.

Everything here happens in the engine's thread; `Engine` passes its calls on to that thread.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pollbroker.broker import Broker
from pollbroker.errors import EngineError
from pollbroker.frozen import FrozenDict
from pollbroker.loop import Loop
from pollbroker.table import Table
from pollbroker.working import WorkingBroker

T = TypeVar("T")

_PORTION_S: Final = 0.0002
"""No further broker is asked in a turn after this time, in which one broker or two can make their statistics. A portion
has one broker at least."""


@dataclass(eq=False)
class _Question:
    """What is asked of every broker, and what was answered so far."""

    ask: Callable[[Broker], Any]
    answered: "Future[Mapping[str, Any]]" = field(default_factory=Future)
    names: tuple[str, ...] | None = None
    """The names of the brokers that are asked. None until the first is."""
    asked: int = 0
    """How many of them were asked."""
    answers: dict[str, Any] = field(default_factory=dict)

    def end(self) -> None:
        """Tell the answers, unless nobody waits for them any more."""
        if self.answered.set_running_or_notify_cancel():
            self.answered.set_result(FrozenDict(self.answers))

    def fail(self, error: BaseException) -> None:
        """Tell that there is no answer."""
        if self.answered.set_running_or_notify_cancel():
            self.answered.set_exception(error)


class Portions:
    """The questions to all brokers of an engine that have yet to be answered.

    `make_handle` makes the handle of a broker, which is what is asked.
    """

    def __init__(self, table: Table, loop: Loop, make_handle: Callable[[WorkingBroker], Broker]) -> None:
        self._table = table
        self._loop = loop
        self._make_handle = make_handle
        self._questions: deque[_Question] = deque()
        self._working = False
        self._turn = -1
        """The turn of the loop in which the last portion was done."""

    def begin(self, ask: Callable[[Broker], T]) -> "Future[Mapping[str, T]]":
        """Begin to call `ask` with each broker; see `Engine.begin_for_each`."""
        question = _Question(ask)
        self._questions.append(question)
        if len(self._questions) == 1 and not self._working:
            self._work()
        return question.answered

    def end_all(self) -> None:
        """Answer nobody any more: the engine closes, and no turn follows in which it could."""
        while self._questions:
            self._questions.popleft().fail(EngineError("the engine was closed before every broker was asked"))

    def _go_on(self) -> None:
        """Do the next portion, unless this turn has had one."""
        if self._turn != self._loop.turns:
            self._work()
        elif self._questions:
            self._loop.calls.put(self._go_on)

    def _work(self) -> None:
        self._turn = self._loop.turns
        self._working = True
        clock = self._loop.access.clock
        end_s = clock() + _PORTION_S
        try:
            while self._questions and self._advance(self._questions[0], end_s):
                self._questions.popleft()
                if clock() >= end_s:
                    break
        except BaseException:
            self._questions.popleft()
            raise
        finally:
            self._working = False
            if self._questions:
                self._loop.calls.put(self._go_on)

    def _advance(self, question: _Question, end_s: float) -> bool:
        """Ask brokers until it is time to end the portion. Return True if this question needs no more of them."""
        clock = self._loop.access.clock
        if question.names is None:
            question.names = tuple(self._table.snapshot())
        asked_before = question.asked
        try:
            for name in question.names[asked_before:]:
                if question.answered.cancelled():
                    return True
                if question.asked > asked_before and clock() >= end_s:
                    return False
                question.asked += 1
                broker = self._table.get(name)
                if broker is not None:
                    question.answers[name] = question.ask(self._make_handle(broker))
        except Exception as error:  # noqa: BLE001 - it is raised again where the answer is asked for
            question.fail(error)
            return True
        except BaseException as error:
            question.fail(error)
            raise  # such as KeyboardInterrupt, which also ends the loop
        if asked_before and question.asked > asked_before and clock() >= end_s:
            return False  # what is done with the answers of many brokers takes a turn of its own
        question.end()
        return True
