"""The Python pump and its sender, with fake sockets that refuse or fail when a test wants it.

What real sockets can show, `test_pump.py` shows of both pumps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import zmq

from pollbroker.pump import EMPTY, FULL, LIMIT, Pump, RoutingPump, choose_implementation
from pollbroker.pump.outcomes import DROPPED, SENT
from pollbroker.pump.python import EventReader
from pollbroker.pump.receiving import Receiver
from pollbroker.pump.sending import Sender
from tests.support.pipes import MANY
from tests.support.pumps import MAKERS, PYTHON, Line
from tests.support.types import Connect, Socket

# -- the pump ----------------------------------------------------------------------------------------------------------


LAST = int(zmq.DONTWAIT)

MORE = int(zmq.DONTWAIT | zmq.SNDMORE)


class FakeFrame(bytes):
    """A fake frame, which says whether more frames of its message follow."""

    more = False


def frames_of(*messages: Sequence[bytes]) -> list[Any]:
    frames = []
    for message in messages:
        for i, part in enumerate(message):
            frame = FakeFrame(part)
            frame.more = i < len(message) - 1
            frames.append(frame)
    return frames


class FakeSource:
    """A fake source. It returns frames one by one, and raises those that are errors; then it is empty. It checks the
    arguments of each receive."""

    def __init__(self, *frames: Any) -> None:
        self.frames = list(frames)

    def recv(self, flags: int, copy: bool) -> Any:
        assert (flags, copy) == (LAST, False), "only a frame that is not copied, and not waited for, is wanted"
        if not self.frames:
            raise zmq.Again
        frame = self.frames.pop(0)
        if isinstance(frame, Exception):
            raise frame
        return frame


class FakeSink:
    """A fake sink. It counts the frames that are offered, raises at the places that `errors` names, and takes the
    rest."""

    def __init__(self, socket_type: int = zmq.PUSH, errors: Mapping[int, Exception] | None = None) -> None:
        self.type = socket_type
        self.errors = errors or {}
        self.offers = 0
        self.settled = 0
        self.taken: list[tuple[bytes, int]] = []

    def send(self, frame: Any, flags: int, copy: bool) -> None:
        assert copy is False, "frames are passed on without a copy"
        self.offers += 1
        if self.offers in self.errors:
            raise self.errors[self.offers]
        self.taken.append((bytes(frame), flags))

    def getsockopt(self, option: int) -> int:
        assert option == zmq.EVENTS
        self.settled += 1
        return 0


def sending_to(sink: Any, capture: Any = None, prefix: bytes | None = None, drop_slow_peer: bool = True) -> Sender:
    return Sender(sink, capture, prefix, drop_slow_peer)


def pump_between(source: Any, sink: Any, **options: Any) -> Pump:
    return PYTHON.make_pump(source, sink, **options)


def unreachable() -> zmq.ZMQError:
    return zmq.ZMQError(zmq.EHOSTUNREACH)


def test_flags_tell_where_a_message_ends() -> None:
    sink = FakeSink()
    pump = pump_between(FakeSource(*frames_of([b"1", b"2", b"3"], [b"4"])), sink)
    assert pump.move(MANY, MANY) == EMPTY
    assert sink.taken == [(b"1", MORE), (b"2", MORE), (b"3", LAST), (b"4", LAST)]


def test_message_whose_rest_cannot_be_read_is_interrupted() -> None:
    begun = frames_of([b"1", b"2", b"3"])[:2]
    pump = pump_between(FakeSource(*begun, zmq.ContextTerminated(), *begun, zmq.ContextTerminated()), FakeSink())
    for times in (1, 2):
        with pytest.raises(zmq.ContextTerminated):
            pump.move(MANY, MANY)
        counters = pump.counters()
        assert (counters.received, counters.sent, counters.held, counters.interrupted) == (times, 0, 0, times)
        assert (counters.received_frames, counters.received_bytes, counters.sent_frames) == (2 * times, 2 * times, 0)


def test_message_whose_rest_cannot_be_sent_is_interrupted() -> None:
    sink = FakeSink(errors={3: zmq.ContextTerminated(), 5: zmq.ContextTerminated()})
    pump = pump_between(FakeSource(*frames_of([b"1", b"2", b"3"], [b"4", b"5"])), sink)
    for interrupted in (1, 2):
        with pytest.raises(zmq.ContextTerminated):
            pump.move(MANY, MANY)
        counters = pump.counters()
        assert (counters.received, counters.sent, counters.interrupted) == (interrupted, 0, interrupted)


def test_first_frame_that_fails_is_held() -> None:
    sink = FakeSink(errors={1: zmq.ContextTerminated(), 2: zmq.Again()})
    pump = pump_between(FakeSource(*frames_of([b"1"])), sink)
    with pytest.raises(zmq.ContextTerminated):
        pump.move(MANY, MANY)
    assert (pump.received, pump.held, pump.sent) == (1, 1, 0)
    assert pump.move(MANY, MANY) == FULL
    assert (pump.received, pump.held, pump.sent) == (1, 1, 0)
    assert pump.move(MANY, MANY) == EMPTY
    assert (pump.received, pump.held, pump.sent) == (1, 0, 1)
    assert sink.taken == [(b"1", LAST)]


# What a limit in bytes counts, of a message that is sent and of one that is dropped: all of its frames.
@pytest.mark.parametrize("name", ["native", "python"])
@pytest.mark.parametrize("peer", [b"here", b"gone"])
@pytest.mark.parametrize(("limit_bytes", "moved"), [(1, 1), (23, 1), (24, 1), (25, 2), (48, 2), (49, 3)])
def test_limit_counts_every_byte_of_a_message(
    context: zmq.Context[Socket], name: str, peer: bytes, limit_bytes: int, moved: int
) -> None:
    line = Line(context, MAKERS[name], sink_type=zmq.ROUTER, consumer_type=zmq.DEALER)
    line.consumer(b"here")
    line.give(*[[peer, b"x" * 7, b"y" * 13]] * 4)
    assert line.pump.move(MANY, limit_bytes) == LIMIT
    assert line.pump.received == moved
    counters = line.pump.counters()
    assert counters.sent + counters.unroutable == moved
    assert (counters.received_frames, counters.received_bytes) == (3 * moved, 24 * moved)


# -- offering ----------------------------------------------------------------------------------------------------------


def test_refusal_by_one_peer_of_a_router_is_believed_after_its_commands_are_processed() -> None:
    sink = FakeSink(zmq.ROUTER, {1: zmq.Again()})
    sender = sending_to(sink)
    assert sender.send([b"peer", b"1"]) == SENT
    assert (sink.settled, sink.taken) == (1, [(b"peer", MORE), (b"1", LAST)])
    assert (sender.sent, sender.slow_peer) == (1, 0)


def test_full_peer_of_a_router_loses_the_message_if_the_device_says_so() -> None:
    sink = FakeSink(zmq.ROUTER, {1: zmq.Again(), 2: zmq.Again(), 3: zmq.Again(), 4: zmq.Again()})
    sender = sending_to(sink)
    for dropped in (1, 2):
        assert sender.send([b"peer", b"1"]) == DROPPED
        assert (sender.slow_peer, sender.sent, sink.settled) == (dropped, 0, dropped)


@pytest.mark.parametrize(("socket_type", "drop"), [(zmq.ROUTER, False), (zmq.PUSH, True), (zmq.PUSH, False)])
def test_refusal_is_no_loss_elsewhere(socket_type: int, drop: bool) -> None:
    sink = FakeSink(socket_type, {1: zmq.Again()})
    sender = sending_to(sink, drop_slow_peer=drop)
    assert sender.send([b"peer", b"1"]) == FULL
    assert (sink.settled, sink.offers, sender.slow_peer) == (0, 1, 0)
    assert sender.send([b"peer", b"1"]) == SENT
    assert (sender.sent, sender.sent_frames, sender.sent_bytes) == (1, 2, 5)


def test_unroutable_messages_are_counted_one_by_one() -> None:
    sink = FakeSink(zmq.ROUTER, {1: unreachable(), 2: unreachable()})
    sender = sending_to(sink)
    for unroutable in (1, 2):
        assert sender.send([b"gone", b"1"]) == DROPPED
        assert (sender.unroutable, sender.slow_peer, sender.sent) == (unroutable, 0, 0)
    for unroutable in (3, 4):  # a routing id with nothing behind it
        assert sender.send([b"peer"]) == DROPPED
        assert (sender.unroutable, sink.offers) == (unroutable, 2)


def test_other_errors_are_the_callers() -> None:
    sender = sending_to(FakeSink(zmq.ROUTER, {1: zmq.ContextTerminated()}))
    with pytest.raises(zmq.ContextTerminated):
        sender.send([b"peer", b"1"])
    assert (sender.unroutable, sender.slow_peer, sender.interrupted, sender.sent) == (0, 0, 0, 0)


@pytest.mark.parametrize(("socket_type", "rest"), [(zmq.PUSH, [b"3", b"4"]), (zmq.PAIR, [])])
def test_broken_messages_are_counted_one_by_one(socket_type: int, rest: list[bytes]) -> None:
    sink = FakeSink(socket_type, {2: zmq.Again()})
    sender = sending_to(sink, FakeSink())
    sender.send([b"1", b"2", b"3", b"4"])
    assert [frame for frame, _ in sink.taken] == [b"1", *rest]
    assert (sender.interrupted, sender.sent, sender.sent_frames, sender.captured) == (1, 0, 0, 0)
    sink.errors = {sink.offers + 2: zmq.Again()}
    sender.send([b"5", b"6"])
    assert (sender.interrupted, sender.sent) == (2, 0)
    sender.send([b"7", b"8"])
    assert [frame for frame, _ in sink.taken] == [b"1", *rest, b"5", b"7", b"8"]
    assert (sender.interrupted, sender.sent, sender.sent_frames, sender.sent_bytes) == (2, 1, 2, 2)
    assert (sender.captured, sender.capture_dropped) == (1, 0)


# -- copies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [None, b"in"])
def test_copies_are_whole_messages(prefix: bytes | None) -> None:
    capture = FakeSink()
    sender = sending_to(FakeSink(), capture, prefix)
    head = [] if prefix is None else [(prefix, MORE)]
    assert sender.send([b"1"]) == SENT
    assert capture.taken == ([*head, (b"1", LAST)])
    assert sender.send([b"2", b"3", b"4"]) == SENT
    assert capture.taken == [*head, (b"1", LAST), *head, (b"2", MORE), (b"3", MORE), (b"4", LAST)]
    assert (sender.captured, sender.capture_dropped) == (2, 0)


def test_refusal_of_a_copy_is_believed_after_the_capture_socket_is_settled() -> None:
    capture = FakeSink(errors={1: zmq.Again(), 3: zmq.Again(), 4: zmq.Again(), 5: zmq.Again(), 6: zmq.Again()})
    sender = sending_to(FakeSink(), capture)
    sender.send([b"1"])
    assert (sender.captured, sender.capture_dropped, capture.settled) == (1, 0, 1)
    for dropped in (1, 2):
        sender.send([b"2", b"3"])
        assert (sender.captured, sender.capture_dropped, capture.settled) == (1, dropped, 1 + dropped)
    assert capture.taken == [(b"1", LAST)]
    assert sender.sent == 3


# As with any message, a peer may leave in the middle. The rest is offered, for libzmq to swallow; but the next peer of
# a PAIR would be given it as a message of its own.
@pytest.mark.parametrize(
    ("socket_type", "taken"), [(zmq.PUSH, [(b"1", MORE), (b"3", MORE), (b"4", LAST)]), (zmq.PAIR, [(b"1", MORE)])]
)
def test_copy_whose_reader_leaves_in_the_middle_is_dropped(socket_type: int, taken: list[tuple[bytes, int]]) -> None:
    capture = FakeSink(socket_type, {2: zmq.Again()})
    sender = sending_to(FakeSink(), capture)
    assert sender.send([b"1", b"2", b"3", b"4"]) == SENT
    assert capture.taken == taken
    assert (sender.sent, sender.captured, sender.capture_dropped) == (1, 0, 1)


# -- receiving ---------------------------------------------------------------------------------------------------------


def test_receiver_gives_a_message_or_none(context: zmq.Context[Socket], connect: Connect) -> None:
    pull = context.socket(zmq.PULL)
    pull.bind("inproc://source")
    push = connect(zmq.PUSH, "inproc://source")
    receive = Receiver(pull)
    assert receive() is None
    push.send_multipart([b"1", b""])
    assert receive() == [b"1", b""]
    assert receive() is None


def test_event_reader_tells_what_a_socket_can_do(context: zmq.Context[Socket], connect: Connect) -> None:
    pull = context.socket(zmq.PULL)
    pull.bind("inproc://source")
    read = EventReader(pull)
    assert read() == 0
    connect(zmq.PUSH, "inproc://source").send(b"x")
    assert read() == zmq.POLLIN


# -- handlers ----------------------------------------------------------------------------------------------------------


# KeyboardInterrupt in a generator ends the run, but its message is counted first.
@pytest.mark.parametrize(("given", "expected"), [(0, (1, 0, 0, 1)), (1, (1, 1, 1, 1))])
@pytest.mark.parametrize("name", ["native", "python"])
def test_interrupt_in_a_generator_leaves_the_account_balanced(
    context: zmq.Context[Socket], name: str, given: int, expected: tuple[int, int, int, int]
) -> None:
    def handle(frames: list[bytes]):  # type: ignore[no-untyped-def]
        for _ in range(given):
            yield frames
        raise KeyboardInterrupt

    implementation = choose_implementation(name)

    def make(source: Socket, sink: Socket) -> RoutingPump:
        return RoutingPump(
            implementation.make_receiver(source), handle, {"sink": implementation.make_sender(sink, None, None, True)}
        )

    line = Line(context, make)
    line.consumer()
    line.give([b"1"])
    with pytest.raises(KeyboardInterrupt):
        line.pump.move(MANY, MANY)
    counters = line.pump.counters()
    assert (counters.received, counters.added, counters.sent, counters.failed) == expected
    assert line.pump.move(MANY, MANY) == EMPTY
