"""The pump of a coroutine handler, without a loop: the test decides when the handler is done with which message.

Hypothesis chooses the order of everything that can happen. A list of what has come is the model.
"""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pollbroker import To
from pollbroker.pump import EMPTY, FULL, LIMIT, PYTHON, CoroutinePump
from pollbroker.pump.contract import TapPoint
from pollbroker.pump.hub import Flow
from pollbroker.pump.outcomes import BUSY, DROPPED, SENT, FlowState
from pollbroker.statistics import Counters
from tests.support.accounts import balanced

Done = Callable[[Any, BaseException | None], None]
MANY = 1 << 30


class Source:
    """A receiver of what the test has put there."""

    def __init__(self) -> None:
        self.waiting: deque[list[bytes]] = deque()
        self.received = self.received_bytes = self.dropped = self.burst_frames = 0

    def __call__(self) -> list[bytes] | None:
        if not self.waiting:
            return None
        frames = self.waiting.popleft()
        self.received += 1
        self.received_bytes += sum(map(len, frames))
        self.burst_frames += len(frames)
        return frames

    def discard_rest(self) -> None:
        pass

    def count_unread(self, limit_messages: int, /) -> int:
        return min(len(self.waiting), limit_messages)

    def counters(self) -> Counters:
        return Counters(received=self.received)


class Sink:
    """A sender that has room for so many messages, and that raises `error` if there is one."""

    def __init__(self, room: int = MANY) -> None:
        self.room = room
        self.tap: TapPoint | None = None
        self.error: BaseException | None = None
        self.drops = False
        self.taken: list[list[bytes]] = []
        self.dropped = 0
        self.queued = 0

    @property
    def sent(self) -> int:
        return len(self.taken)

    @property
    def finished(self) -> int:
        return self.sent + self.dropped

    def send(self, message: list[bytes], /) -> int:
        if self.error is not None:
            raise self.error
        if self.drops:
            self.dropped += 1
            return DROPPED
        if self.sent >= self.room:
            return FULL
        self.taken.append(list(message))
        return SENT

    def counters(self) -> Counters:
        return Counters(sent=self.sent, unroutable=self.dropped)


class Hub:
    """The one thing that the pump asks of its hub."""

    flushing = False


class Bench:
    """A pump, its source and sinks, and the tasks of its handler that have not ended."""

    def __init__(self, *, sinks: int = 1, max_concurrency: int = 2, room: int = MANY) -> None:
        self.source, self.sinks, self.hub = Source(), [Sink(room) for _ in range(sinks)], Hub()
        self.running: dict[bytes, Done] = {}
        self.cancelled: list[bytes] = []
        self.woken = 0
        self.pump = CoroutinePump(
            self.source,
            self.handler,
            dict(zip("abc", self.sinks, strict=False)),
            max_concurrency=max_concurrency,
            start_task=self.start,
        )
        self.pump.belong_to(self.hub, self.wake)  # type: ignore[arg-type]
        self._number = 0

    async def handler(self, frames: list[bytes]) -> Any:
        raise AssertionError("the test plays the loop, and runs no coroutine")

    def start(self, coroutine: Coroutine[Any, Any, Any], done: Done) -> Callable[[], object]:
        frames = coroutine.cr_frame.f_locals["frames"]  # type: ignore[attr-defined]
        coroutine.close()
        self.running[frames[0]] = done
        return lambda: self.cancelled.append(frames[0])

    def wake(self) -> None:
        self.woken += 1

    def come(self, number: int = 1) -> list[bytes]:
        """Let messages come, each of one frame of its own; return the frames."""
        frames = [b"%d" % (self._number + i) for i in range(number)]
        self._number += number
        self.source.waiting.extend([frame] for frame in frames)
        return frames

    def end(self, frame: bytes, result: Any = None, error: BaseException | None = None) -> None:
        """Let the handler be done with a message; by default it returns it."""
        self.running.pop(frame)([frame] if result is None else result, error)

    def move(self, messages: int = MANY) -> int:
        return self.pump.move(messages, MANY)


class PumpMachine(RuleBasedStateMachine):
    """Messages come, handlers end in any order and in any way, the sinks fill and empty, and the pump is moved."""

    @initialize(sinks=st.integers(1, 3), most=st.integers(1, 4))
    def begin(self, sinks: int, most: int) -> None:
        self.most = most
        self.bench = Bench(sinks=sinks, max_concurrency=most, room=0)
        self.expected: list[list[list[bytes]]] = [[] for _ in range(sinks)]
        self.order: list[bytes] = []
        self.made: dict[bytes, list[tuple[int, bytes]]] = {}
        """What the handler has made of a message: each sink's index, and the frame that it gets."""

    @rule(number=st.integers(1, 5))
    def messages_come(self, number: int) -> None:
        self.order += self.bench.come(number)

    @precondition(lambda self: self.bench.running)
    @rule(data=st.data())
    def handler_ends(self, data: st.DataObject) -> None:
        frame = data.draw(st.sampled_from(sorted(self.bench.running)))
        every = range(len(self.bench.sinks))
        how = data.draw(st.sampled_from(["returned", "one sink", "several", "nothing", "raised", "cancelled", "wrong"]))
        made: list[tuple[int, bytes]] = []
        if how == "returned":
            made = [(sink, frame) for sink in every]
            self.bench.end(frame)
        elif how == "one sink":
            sink = data.draw(st.sampled_from(every))
            made = [(sink, frame)]
            self.bench.end(frame, To("abc"[sink], [frame]))
        elif how == "several":
            made = [(sink, b"%s-%d" % (frame, i)) for i in range(3) for sink in every]
            self.bench.end(frame, iter([[b"%s-%d" % (frame, i)] for i in range(3)]))
        elif how == "nothing":
            self.bench.running.pop(frame)(None, None)
        elif how == "wrong":
            self.bench.end(frame, "not a message")
        else:
            self.bench.end(frame, error=ValueError() if how == "raised" else KeyboardInterrupt())
        self.made[frame] = made

    @rule(data=st.data(), room=st.integers(0, 4))
    def sink_has_room(self, data: st.DataObject, room: int) -> None:
        data.draw(st.sampled_from(self.bench.sinks)).room += room

    @rule(messages=st.integers(1, 20))
    def pump_moves(self, messages: int) -> None:
        waiting = len(self.bench.source.waiting)
        outcome = self.bench.move(messages)
        if outcome == EMPTY:
            assert not self.bench.source.waiting
        elif outcome == FULL:
            assert self.bench.pump.full_sinks
        elif outcome == BUSY:
            assert len(self.bench.running) >= 1
            assert self.bench.pump.held == self.most
        assert waiting - len(self.bench.source.waiting) <= messages

    @rule()
    def nothing_is_received_while_the_broker_is_removed(self) -> None:
        self.bench.hub.flushing = True
        waiting = len(self.bench.source.waiting)
        outcome = LIMIT
        while outcome == LIMIT:
            outcome = self.bench.move(1)
        assert len(self.bench.source.waiting) == waiting
        assert outcome == (FULL if self.bench.pump.full_sinks else BUSY if self.bench.pump.held else EMPTY)
        self.bench.hub.flushing = False

    @invariant()
    def every_sink_has_a_beginning_of_what_was_made_in_order(self) -> None:
        for index, sink in enumerate(self.bench.sinks):
            made = [[frame] for came in self.order for at, frame in self.made.get(came, []) if at == index]
            assert sink.taken == made[: sink.sent]

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        assert balanced(self.bench.pump.counters())
        assert len(self.bench.running) <= self.most

    def teardown(self) -> None:
        """Whatever has happened: when all handlers have ended and the sinks have room, everything has left."""
        for sink in self.bench.sinks:
            sink.room = MANY
        for _ in range(len(self.order) + 1):  # of each round something has left
            if self.bench.move() == EMPTY and not self.bench.running:
                break
            for frame in list(self.bench.running):
                self.made[frame] = [(sink, frame) for sink in range(len(self.bench.sinks))]
                self.bench.end(frame)
        assert self.bench.pump.held == 0
        for index, sink in enumerate(self.bench.sinks):
            assert sink.taken == [[frame] for came in self.order for at, frame in self.made[came] if at == index]


TestPumpMachine = PumpMachine.TestCase
TestPumpMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_only_the_message_whose_turn_it_is_wakes_the_flow(bench: Bench) -> None:
    first, second = bench.come(2)
    assert bench.move() == BUSY
    bench.end(second)
    assert bench.woken == 0
    bench.end(first)
    assert bench.woken == 1


def test_error_of_a_sink_leaves_the_message_held(bench: Bench) -> None:
    first, _ = bench.come(2)
    bench.move()
    bench.end(first)
    bench.sinks[0].error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.move()
    assert bench.pump.held == 2
    bench.sinks[0].error = None
    assert bench.move() == EMPTY
    assert bench.sinks[0].taken == [[first]]
    assert balanced(bench.pump.counters())


def test_message_that_was_sent_before_an_error_is_not_sent_again(bench: Bench) -> None:
    class Copying(Sink):
        def send(self, message: list[bytes], /) -> int:
            super().send(message)
            raise KeyboardInterrupt  # as the sending of a copy to the capture may

    copying = Copying()
    bench.pump = CoroutinePump(bench.source, bench.handler, {"a": copying}, max_concurrency=2, start_task=bench.start)
    first, second = bench.come(2)
    bench.move()
    bench.end(first)
    with pytest.raises(KeyboardInterrupt):
        bench.move()
    assert bench.pump.held == 1  # the second, which is with the handler
    assert bench.move() == EMPTY
    assert copying.taken == [[first]]
    bench.end(second)


def test_message_that_the_sink_drops_is_not_offered_again(bench: Bench) -> None:
    first, second = bench.come(2)
    bench.move()
    bench.end(first)
    bench.end(second)
    bench.sinks[0].drops = True
    assert bench.move() == EMPTY
    assert (bench.pump.held, bench.sinks[0].dropped) == (0, 2)


@pytest.mark.parametrize("error", [RuntimeError("no loop"), SystemExit(3)])
def test_task_that_cannot_be_started_costs_its_message(error: BaseException) -> None:
    def refuse(coroutine: Coroutine[Any, Any, Any], done: Done) -> Callable[[], object]:
        raise error

    bench = Bench()
    bench.pump._start_task = refuse
    bench.come()
    if isinstance(error, SystemExit):
        with pytest.raises(SystemExit):
            bench.move()
    assert bench.move() == EMPTY
    assert bench.pump.counters().failed == 1
    assert balanced(bench.pump.counters())


def test_cancelling_leaves_those_that_have_ended(bench: Bench) -> None:
    first, second = bench.come(2)
    bench.move()
    bench.end(second)
    bench.pump.cancel()
    assert bench.cancelled == [first]
    bench.end(first, error=KeyboardInterrupt())
    assert bench.woken == 0  # nobody may touch the sockets any more
    assert bench.pump.held == 2


@given(st.integers(1, 6), st.integers(1, 6))
def test_source_is_not_read_while_the_handler_has_enough(number: int, most: int) -> None:
    bench = Bench(max_concurrency=most)
    bench.come(number)
    assert bench.move() == (BUSY if number >= most else EMPTY)
    assert len(bench.source.waiting) == max(0, number - most)
    for done in bench.running.values():
        done(None, None)  # so that no coroutine is left


def test_flow_that_reads_no_more_gives_the_handler_no_other_message_and_is_paused_when_it_is_done() -> None:
    bench = Bench(max_concurrency=10)
    first, second = bench.come(2)
    flow = PYTHON.make_flow(bench.pump, 0, (1,))
    assert isinstance(flow, Flow)
    assert flow.move(2, MANY, 0.0)
    flow.read_no_more(0.0)
    bench.come()
    assert flow.state == FlowState.READY
    for frame in (first, second):
        flow.move(1, 1, 0.0)
        flow.pause_between_messages(0.0)
        assert flow.state == FlowState.BUSY
        bench.end(frame)
        flow.state = FlowState.READY  # as when its hub is woken
        flow.move(1, 1, 0.0)
        flow.pause_between_messages(0.0)
    flow.move(1, 1, 0.0)
    flow.pause_between_messages(0.0)
    assert flow.state == FlowState.PAUSED
    assert (bench.pump.received, bench.sinks[0].taken) == (2, [[first], [second]])
    flow.resume()
    flow.move(1, 1, 0.0)
    assert bench.pump.received == 3
