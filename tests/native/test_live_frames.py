"""What passed through a pump is free when its receiver has let go of it, whatever became of it on the way.

Each frame here is a Python object of the test's own, which libzmq shares and does not copy: pyzmq says when the last
who had it has closed it. `test_faults.py` counts the frames that the native code keeps, one by one; here nothing of it
is replaced.

A message whose peer leaves in its middle is not among them: libzmq 4.3.5 itself keeps for ever the frames of it that it
had accepted (pipe.cpp: what was written and not flushed is not read back when the pipe ends).
"""

import gc

import pytest
import zmq

from pollbroker.pump import EMPTY, FULL, Implementation, RoutingPump, choose_implementation
from pollbroker.pump.limits import MAXFRAMES
from tests.support.deadline import wait_until
from tests.support.memory import growth_bytes
from tests.support.pipes import MANY, Pipe
from tests.support.types import Socket


class Lent:
    """Sends frames that are shared, and knows whether all of them are free."""

    def __init__(self) -> None:
        self._trackers: list[zmq.MessageTracker] = []

    def send(self, socket: Socket, count: int, first: bytes | None = None) -> None:
        """Send a message of so many shared frames, behind a routing id if there is one."""
        if first is not None:
            socket.send(first, zmq.SNDMORE)
        for i in range(count):
            frame = zmq.Frame(bytes([i % 256]) * 5000, track=True, copy=False)
            assert isinstance(frame.tracker, zmq.MessageTracker)
            self._trackers.append(frame.tracker)
            socket.send(frame, zmq.SNDMORE if i < count - 1 else 0, copy=False)

    @property
    def given_back(self) -> bool:
        gc.collect()
        return all(tracker.done for tracker in self._trackers)

    @property
    def kept(self) -> int:
        return sum(not tracker.done for tracker in self._trackers)


@pytest.fixture
def lent() -> Lent:
    return Lent()


def read_all(socket: Socket) -> int:
    """How many messages could be read; they are let go of at once."""
    count = 0
    while socket.poll(0):
        socket.recv_multipart(copy=False)
        count += 1
    return count


def test_frames_that_passed_are_free(context: zmq.Context[Socket], implementation: Implementation, lent: Lent) -> None:
    source, sink = Pipe(context), Pipe(context)
    pump = implementation.make_pump(source.open(), sink.push)
    reader = sink.open()
    for count in (1, 2, 9, 300):
        lent.send(source.push, count)
    assert pump.move(MANY, MANY) == EMPTY
    assert not lent.given_back
    assert read_all(reader) == 4
    wait_until(lambda: lent.given_back)


def test_frames_that_a_handler_was_given_are_free(
    context: zmq.Context[Socket], implementation: Implementation, lent: Lent
) -> None:
    source, sink = Pipe(context), Pipe(context)
    receiver = implementation.make_receiver(source.open(), MAXFRAMES)
    sender = implementation.make_sender(sink.push, None, None, True)
    pump = RoutingPump(receiver, lambda frames: frames[:1], {"sink": sender})
    sink.open()
    for count in (1, 2, 9, 300):
        lent.send(source.push, count)
    assert pump.move(MANY, MANY) == EMPTY
    wait_until(lambda: lent.given_back)


def test_frames_that_were_unroutable_are_free(
    context: zmq.Context[Socket], implementation: Implementation, lent: Lent
) -> None:
    source = Pipe(context)
    router = context.socket(zmq.ROUTER)
    router.router_mandatory = 1
    router.bind("inproc://nobody")
    pump = implementation.make_pump(source.open(), router)
    for count in (1, 2, 9, 300):
        lent.send(source.push, count, b"nobody")
    assert pump.move(MANY, MANY) == EMPTY
    assert pump.counters().unroutable == 4
    wait_until(lambda: lent.given_back)


@pytest.mark.parametrize("count", [1, 2, 9, 300])
def test_frames_that_a_dropped_pump_held_are_free(
    context: zmq.Context[Socket], implementation: Implementation, lent: Lent, count: int
) -> None:
    source, sink, capture = Pipe(context), Pipe(context), Pipe(context)
    pump = implementation.make_pump(source.open(), sink.push, capture=capture.push)
    lent.send(source.push, count)
    assert pump.move(MANY, MANY) == FULL
    assert pump.held == 1
    assert not lent.given_back
    del pump
    read_all(source.open())  # in case that it left the rest there
    wait_until(lambda: lent.given_back)


def test_copies_that_found_no_room_are_free(
    context: zmq.Context[Socket], implementation: Implementation, lent: Lent
) -> None:
    source, sink, capture = Pipe(context), Pipe(context), Pipe(context, hwm=1)
    reader, copies = sink.open(), capture.open()
    pump = implementation.make_pump(source.open(), sink.push, capture=capture.push, prefix=b"from")
    for count in (1, 2, 9, 300) * 3:
        lent.send(source.push, count)
    assert pump.move(MANY, MANY) == EMPTY
    assert pump.counters().capture_dropped >= 8
    assert read_all(reader) == 12
    assert read_all(copies) == pump.counters().captured
    wait_until(lambda: lent.given_back)


# -- memory -----------------------------------------------------------------------------------------------------------

MOST_GROWTH_BYTES = 2 << 20
"""200,000 frames of a kilobyte are sent, refused, dropped or copied, and 20,000 held by pumps that are gone: a tenth of
the latter, lost for good, is as much as this."""


@pytest.mark.slow
def test_memory_does_not_grow_with_what_is_sent_refused_and_dropped(context: zmq.Context[Socket]) -> None:
    native = choose_implementation("native")
    source, sink, capture, full = Pipe(context), Pipe(context), Pipe(context), Pipe(context)
    reader = sink.open()
    router = context.socket(zmq.ROUTER)
    router.router_mandatory = 1
    pump = native.make_pump(source.open(), sink.push, capture=capture.push, prefix=b"from")
    unroutable = native.make_sender(router, None, None, True)
    refused = native.make_sender(full.push, None, None, True)
    receiver = native.make_receiver(reader, MAXFRAMES)
    frames = [b"x" * 1000] * 4

    def once() -> None:
        for _ in range(500):
            source.push.send_multipart(frames)
            unroutable.send(frames)
            refused.send(frames)
        assert pump.move(MANY, MANY) == EMPTY
        while receiver() is not None:
            pass
        for _ in range(50):
            holding = native.make_pump(source.open(), full.push)
            source.push.send_multipart(frames)
            assert holding.move(MANY, MANY) == FULL

    assert growth_bytes(once) < MOST_GROWTH_BYTES
