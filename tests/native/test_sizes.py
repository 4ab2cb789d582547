"""Frames and counts beyond 8, 16, 24 and 32 bits: nothing is cut, neither what is moved nor what is counted.

libzmq shares the content of a frame that pyzmq sends without a copy, over inproc and through a pump: so four gibibytes
pass here in a moment, and take the room of one frame.
"""

import pytest
import zmq

from pollbroker.pump import EMPTY, LIMIT, Implementation, Pump, choose_implementation
from pollbroker.pump.limits import MAXFRAMES
from tests.support.pipes import Pipe, take_all
from tests.support.types import Socket

MANY = 1 << 60

SIZES = [0, 1, 33, 34, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x10001, (1 << 24) + 5]


@pytest.mark.parametrize("size", SIZES)
def test_frame_of_any_size_is_received_and_sent_whole(
    context: zmq.Context[Socket], implementation: Implementation, size: int
) -> None:
    source, sink = Pipe(context), Pipe(context)
    message = [b"a" * size, b"b" * size, b"c"]
    source.give(*message)
    reader = sink.open()
    taken = implementation.make_receiver(source.open(), MAXFRAMES)()
    assert taken == message
    implementation.make_sender(sink.push, None, None, True).send(taken)
    assert take_all(reader) == [message]


@pytest.mark.parametrize("size", SIZES)
def test_frame_of_any_size_passes_and_is_counted_and_copied(
    context: zmq.Context[Socket], implementation: Implementation, size: int
) -> None:
    source, sink, capture = Pipe(context), Pipe(context), Pipe(context)
    message = [b"a" * size, b"b" * size, b"c"]
    source.give(*message)
    reader, copies = sink.open(), capture.open()
    pump = implementation.make_pump(source.open(), sink.push, capture=capture.push)
    assert pump.move(MANY, MANY) == EMPTY
    assert take_all(reader) == take_all(copies) == [message]
    counters = pump.counters()
    assert counters.received_bytes == counters.sent_bytes == 2 * size + 1


def test_more_than_four_gibibytes_are_counted_to_the_byte(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    source, sink = Pipe(context), Pipe(context)
    frame = b"x" * ((64 << 20) + 1)
    reader = sink.open()
    pump = implementation.make_pump(source.open(), sink.push)
    for _ in range(33):
        source.push.send(frame, zmq.SNDMORE, copy=False)
        source.push.send(frame, copy=False)
        assert pump.move(MANY, MANY) == EMPTY
        assert [len(part) for part in reader.recv_multipart(copy=False)] == [len(frame)] * 2
    counters = pump.counters()
    assert counters.received_bytes == counters.sent_bytes == 66 * len(frame) > 1 << 32
    assert (counters.received_frames, counters.sent_frames) == (66, 66)


def ring(context: zmq.Context[Socket], implementation: Implementation) -> tuple[Pump, Socket]:
    """A pump whose sink leads back to its source, so that what is put in goes round."""
    source = context.socket(zmq.PULL)
    source.hwm = 0
    source.bind(f"inproc://{id(source)}")
    sinks = [context.socket(zmq.PUSH) for _ in range(2)]
    for sink in sinks:
        sink.hwm = 0
        sink.linger = 0
        sink.connect(f"inproc://{id(source)}")
    return implementation.make_pump(source, sinks[0]), sinks[1]


def go_round(pump: Pump, messages: int) -> None:
    """Have it move until it has moved so many messages. A burst is a thousand of them at least."""
    for _ in range(messages // 1000 + 1):
        missing = messages - pump.received
        assert missing >= 0, "the count went back"
        if missing == 0:
            return
        assert pump.move(missing, MANY) == LIMIT
    raise AssertionError(f"{pump.received} messages were counted, and {messages} moved")


def test_many_messages_are_counted_one_by_one(context: zmq.Context[Socket], implementation: Implementation) -> None:
    pump, into = ring(context, implementation)
    for _ in range(20):
        into.send_multipart([b"1", b"2", b"3"])
    for moved in (1_000, 70_000):
        go_round(pump, moved)
        counters = pump.counters()
        assert (counters.received, counters.sent) == (moved, moved)
        assert counters.received_frames == counters.sent_frames == counters.received_bytes == 3 * moved
        assert counters.sent_bytes == 3 * moved


# More than 24 bits of messages, and of frames; no counter of the Python twin can be cut.
@pytest.mark.slow
def test_more_than_sixteen_million_messages_are_counted_one_by_one(context: zmq.Context[Socket]) -> None:
    pump, into = ring(context, choose_implementation("native"))
    for _ in range(100):
        into.send(b"")
    moved = (1 << 24) + 10
    go_round(pump, moved)
    counters = pump.counters()
    assert (counters.received, counters.sent) == (moved, moved)
    assert (counters.received_frames, counters.sent_frames) == (moved, moved)
