"""Every pump against the contract, on real inproc sockets."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from pollbroker.pump import EMPTY, FULL, LIMIT, MAXFRAMES, Implementation
from pollbroker.pump.limits import BURST_FRAMES
from pollbroker.statistics import Counters
from tests.support.accounts import balanced
from tests.support.deadline import wait_until
from tests.support.pipes import MANY, take_all
from tests.support.pumps import MAKERS, Line
from tests.support.types import Socket

# -- messages, and limits ----------------------------------------------------------------------------------------------


messages = st.lists(
    st.lists(
        st.one_of(st.just(b""), st.binary(max_size=80), st.binary(min_size=5, max_size=5)), min_size=1, max_size=8
    ),
    max_size=30,
)


# Whatever is sent arrives unchanged, contiguous and in order, and every message, frame and byte is counted once.
@pytest.mark.parametrize("name", MAKERS)
@given(sent=messages, limit=st.integers(1, 7))
def test_messages_pass_unchanged_and_in_order(name: str, sent: list[list[bytes]], limit: int) -> None:
    with zmq.Context() as context:
        line = Line(context, MAKERS[name])
        consumer = line.consumer()
        line.give(*sent)
        while line.pump.move(limit, MANY) == LIMIT:
            pass
        assert take_all(consumer) == sent
        counters = line.pump.counters()
        line.close()
    assert (counters.received, counters.sent, counters.held, counters.dropped) == (len(sent), len(sent), 0, 0)
    frames = sum(map(len, sent))
    size = sum(len(frame) for message in sent for frame in message)
    assert (counters.received_frames, counters.received_bytes) == (frames, size)
    assert (counters.sent_frames, counters.sent_bytes) == (frames, size)


# Whatever the high-water mark and however the consumer dawdles, a refused message is held, and nothing is lost,
# doubled, split or reordered.
@pytest.mark.parametrize("name", MAKERS)
@given(
    sent=messages,
    high_water_mark=st.integers(1, 4),
    takes=st.lists(st.integers(0, 5), max_size=20),
    limit=st.integers(1, 20),
)
def test_full_sink_loses_nothing(
    name: str, sent: list[list[bytes]], high_water_mark: int, takes: list[int], limit: int
) -> None:
    with zmq.Context() as context:
        line = Line(context, MAKERS[name], sink_hwm=high_water_mark)
        consumer = line.consumer()
        line.give(*sent)
        received: list[list[bytes]] = []
        for take in takes:
            line.pump.move(limit, MANY)
            assert balanced(line.pump.counters())
            received += [m for _ in range(take) if consumer.poll(0) for m in [consumer.recv_multipart()]]
        while len(received) < len(sent):
            line.sink.getsockopt(zmq.EVENTS)
            line.pump.move(limit, MANY)
            received += take_all(consumer)
        assert received == sent
        assert line.pump.move(limit, MANY) == EMPTY
        counters = line.pump.counters()
        line.close()
    assert (counters.received, counters.sent, counters.held, counters.dropped) == (len(sent), len(sent), 0, 0)


def test_limits_are_kept(lines: Callable[..., Line]) -> None:
    line = lines()
    consumer = line.consumer()
    line.give(*[[b"x" * 10, b"y" * 10]] * 10)
    assert line.pump.move(3, MANY) == LIMIT
    assert line.pump.sent == 3
    assert line.pump.move(MANY, 40) == LIMIT  # two messages of 20 bytes
    assert line.pump.sent == 5
    assert line.pump.move(MANY, 41) == LIMIT  # the message that exceeds the limit is moved whole
    assert line.pump.sent == 8
    assert line.pump.move(MANY, MANY) == EMPTY
    assert len(take_all(consumer)) == 10


def test_no_consumer_holds_one_message_and_leaves_the_rest(lines: Callable[..., Line]) -> None:
    line = lines()
    line.give([b"1", b"a"], [b"2", b"b"])
    for _ in range(3):
        assert line.pump.move(MANY, MANY) == FULL
    counters = line.pump.counters()
    assert (counters.received, counters.held, counters.sent) == (1, 1, 0)
    consumer = line.consumer()
    assert line.pump.move(MANY, MANY) == EMPTY
    assert take_all(consumer) == [[b"1", b"a"], [b"2", b"b"]]
    assert line.pump.counters().held == 0


def test_message_of_too_many_frames_is_dropped_whole_and_counted(lines: Callable[..., Line]) -> None:
    line = lines(maxframes=3)
    consumer = line.consumer()
    line.give([b"1", b"2", b"3"], [b"1", b"2", b"3", b"4"], [b"x"], [b"1", b"2", b"3", b"4", b"5"], [b"1", b"2", b"3"])
    while line.pump.move(MANY, MANY) != EMPTY:
        assert balanced(line.pump.counters())
    assert take_all(consumer) == [[b"1", b"2", b"3"], [b"x"], [b"1", b"2", b"3"]]
    counters = line.pump.counters()
    assert (counters.received, counters.sent, counters.too_many_frames, counters.dropped) == (5, 3, 2, 2)
    assert (counters.received_frames, counters.received_bytes) == (16, 16)
    assert (counters.sent_frames, counters.sent_bytes) == (7, 7)


# No move handles more than the frames of a burst and of one message, so that no message keeps the loop.
def test_huge_message_is_discarded_over_several_moves(lines: Callable[..., Line]) -> None:
    line = lines()
    consumer = line.consumer()
    frames = 10 * BURST_FRAMES
    line.give([b"before"], [b""] * frames, [b"after"])
    before, outcomes = 0, []
    while EMPTY not in outcomes:
        outcomes.append(line.pump.move(MANY, MANY))
        counters = line.pump.counters()
        assert counters.received_frames - before <= BURST_FRAMES + MAXFRAMES
        assert balanced(counters)
        before = counters.received_frames
    assert len(outcomes) > 8
    assert take_all(consumer) == [[b"before"], [b"after"]]
    assert (counters.received, counters.too_many_frames, counters.received_frames) == (3, 1, frames + 2)


def test_burst_ends_after_so_many_frames(lines: Callable[..., Line]) -> None:
    line = lines()
    consumer = line.consumer()
    line.give(*[[b""] * 1000] * 10)
    assert line.pump.move(MANY, MANY) == LIMIT
    assert line.pump.sent == 5
    assert line.pump.move(MANY, MANY) == LIMIT
    assert line.pump.move(MANY, MANY) == EMPTY
    assert [len(message) for message in take_all(consumer)] == [1000] * 10


def test_rest_of_a_huge_message_can_be_discarded_at_once(lines: Callable[..., Line]) -> None:
    line = lines(maxframes=2)
    line.consumer()
    line.give([b""] * 3 * BURST_FRAMES, [b"next", b"message"])
    assert line.pump.move(1, MANY) == LIMIT
    line.pump.discard_rest()
    assert take_all(line.source) == [[b"next", b"message"]]
    line.pump.discard_rest()  # nothing is left of it
    assert line.pump.counters().too_many_frames == 1


def test_unread_messages_are_counted_up_to_a_limit(lines: Callable[..., Line]) -> None:
    line = lines(maxframes=2)
    line.give([b"1", b"a"], [b"2"], [b"3", b"c", b""], [b"4"])
    assert line.pump.count_unread(2) == 2
    assert line.pump.count_unread(100) == 2
    assert line.pump.count_unread(100) == 0
    assert line.pump.counters() == Counters()


class LeavingSink:
    """A fake sink whose peer leaves before the second frame: like libzmq's lb.cpp, it refuses that frame alone."""

    def __init__(self, socket_type: int) -> None:
        self.type = socket_type
        self.offered: list[bytes] = []

    def send(self, frame: Any, flags: int = 0, copy: bool = True) -> None:
        self.offered.append(bytes(frame))
        if len(self.offered) == 2:
            raise zmq.Again


def test_closed_context_is_reported_and_the_held_message_is_still_counted(implementation: Implementation) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    line = Line(context, implementation.make_pump)
    line.give([b"held"])
    assert line.pump.move(MANY, MANY) == FULL
    ender = threading.Thread(target=context.term)
    ender.start()

    def terminated() -> bool:
        try:
            line.pump.move(MANY, MANY)
        except zmq.ContextTerminated:
            return True
        return False

    wait_until(terminated)
    assert line.pump.held == 1
    line.close()
    ender.join()


# -- a message that ends in the middle ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["python", "python handler"])
@pytest.mark.parametrize(
    ("sink_type", "offered"), [(zmq.PUSH, [b"1", b"2", b"3", b"4"]), (zmq.PAIR, [b"1", b"2", b"4"])]
)
def test_refused_middle_frame_is_not_sent_again(
    line_with: Callable[..., Line], name: str, sink_type: int, offered: list[bytes]
) -> None:
    line = line_with(MAKERS["python"])
    sink: Any = LeavingSink(sink_type)
    pump = MAKERS[name](line.source, sink)
    line.give([b"1", b"2", b"3"], [b"4"])
    assert pump.move(MANY, MANY) == EMPTY
    assert sink.offered == offered
    counters = pump.counters()
    assert (counters.received, counters.interrupted, counters.sent, counters.sent_frames) == (2, 1, 1, 1)


# What the kit of pollbroker.testing found: the message was counted as interrupted, and as held too.
def test_message_whose_context_ends_in_the_middle_is_counted_once(line_with: Callable[..., Line]) -> None:
    line = line_with(MAKERS["python"])

    class EndingSink(LeavingSink):
        def send(self, frame: Any, flags: int = 0, copy: bool = True) -> None:
            self.offered.append(bytes(frame))
            if len(self.offered) == 2:
                raise zmq.ContextTerminated

    for name in ("python", "python handler"):
        pump = MAKERS[name](line.source, EndingSink(zmq.PUSH))
        line.give([b"1", b"2", b"3"])
        with pytest.raises(zmq.ContextTerminated):
            pump.move(MANY, MANY)
        take_all(line.source)
        counters = pump.counters()
        assert balanced(counters)
        assert (counters.held, counters.interrupted) == (0, 1)
