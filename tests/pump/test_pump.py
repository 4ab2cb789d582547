"""Every pump against the contract, on real inproc sockets."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from pollbroker.pump import (
    EMPTY,
    FULL,
    LIMIT,
    MAXFRAMES,
    SUBSCRIPTION_MAX_BYTES,
    HandlerPump,
    Implementation,
    Pump,
    choose_implementation,
)
from pollbroker.pump.contract import BURST_FRAMES
from pollbroker.statistics import Counters
from pollbroker.testing.worlds import shut_down
from tests.support.deadline import wait_until
from tests.support.types import Connect, Socket

MANY = 1 << 40

messages = st.lists(
    st.lists(
        st.one_of(st.just(b""), st.binary(max_size=80), st.binary(min_size=5, max_size=5)), min_size=1, max_size=8
    ),
    max_size=30,
)


def identity(frames: list[bytes]) -> list[bytes]:
    return frames


def make_handler_pump(
    implementation: Implementation,
    source: Socket,
    sink: Socket,
    *,
    capture: Socket | None = None,
    prefix: bytes | None = None,
    drop_slow_peer: bool = True,
    maxframes: int = MAXFRAMES,
) -> Pump:
    sender = implementation.make_sender(sink, capture, prefix, drop_slow_peer)
    return HandlerPump(implementation.make_receiver(source, maxframes), identity, sender)


MAKERS: dict[str, Callable[..., Pump]] = {
    "native": choose_implementation("native").make_pump,
    "python": choose_implementation("python").make_pump,
    "native handler": partial(make_handler_pump, choose_implementation("native")),
    "python handler": partial(make_handler_pump, choose_implementation("python")),
}


@pytest.fixture(params=MAKERS)
def make_pump(request: pytest.FixtureRequest) -> Callable[..., Pump]:
    """Each pump; the one of a handler route keeps the same contract."""
    return MAKERS[request.param]


class Line:
    """producer -> source | pump | sink -> consumer, all inproc in one thread."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        make_pump: Callable[..., Pump],
        *,
        sink_type: int = zmq.PUSH,
        consumer_type: int = zmq.PULL,
        sink_hwm: int = 0,
        **options: Any,
    ) -> None:
        self.context = context
        self.sockets: list[Socket] = []
        self.source = self._socket(zmq.PULL, 0)
        self.source.bind(f"inproc://source-{id(self)}")
        self.producer = self._socket(zmq.PUSH, 0)
        self.producer.connect(f"inproc://source-{id(self)}")
        self.sink = self._socket(sink_type, sink_hwm)
        if sink_type == zmq.ROUTER:
            self.sink.router_mandatory = 1
        self.sink.bind(f"inproc://sink-{id(self)}")
        self._consumer_type = consumer_type
        self._sink_hwm = sink_hwm
        self.pump = make_pump(self.source, self.sink, **options)

    def _socket(self, socket_type: int, hwm: int) -> Socket:
        socket = self.context.socket(socket_type)
        socket.linger = 0
        socket.set_hwm(hwm)
        self.sockets.append(socket)
        return socket

    def consumer(self, routing_id: bytes | None = None) -> Socket:
        """A consumer that is attached to the sink when this returns."""
        consumer = self._socket(self._consumer_type, self._sink_hwm)
        if routing_id is not None:
            consumer.routing_id = routing_id
        consumer.connect(f"inproc://sink-{id(self)}")
        self.sink.getsockopt(zmq.EVENTS)  # processes the bind
        return consumer

    def give(self, *given: list[bytes]) -> None:
        for message in given:
            self.producer.send_multipart(message)

    def close(self) -> None:
        for socket in self.sockets:
            socket.close()


def take_all(socket: Socket) -> list[list[bytes]]:
    """What can be received now."""
    taken = []
    while True:
        try:
            taken.append(socket.recv_multipart(zmq.DONTWAIT))
        except zmq.Again:
            return taken


@pytest.fixture
def line_with(context: zmq.Context[Socket]) -> Iterator[Callable[..., Line]]:
    """Makes lines with a pump of one's choice; they are closed at the end of the test."""
    made = []

    def make(make_pump: Callable[..., Pump], **options: Any) -> Line:
        line = Line(context, make_pump, **options)
        made.append(line)
        return line

    yield make
    for line in made:
        line.close()


@pytest.fixture
def lines(line_with: Callable[..., Line], make_pump: Callable[..., Pump]) -> Callable[..., Line]:
    """Makes lines with each pump."""
    return partial(line_with, make_pump)


def balanced(counters: Counters) -> bool:
    """The promise: received + added == sent + held + dropped."""
    return counters.received + counters.added == counters.sent + counters.held + counters.dropped


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


def xsub_line(lines: Callable[..., Line]) -> tuple[Line, Socket]:
    """A line to an XSUB, and the XPUB that hears its subscriptions."""
    line = lines(sink_type=zmq.XSUB, consumer_type=zmq.XPUB)
    return line, line.consumer()


# libzmq removes a subscription by a recursion for each of its bytes: a long one would end the process.
@pytest.mark.parametrize("kind", [b"\0", b"\1"])
def test_long_subscription_is_dropped_and_counted(lines: Callable[..., Line], kind: bytes) -> None:
    line, publisher = xsub_line(lines)
    longest = b"\1" + b"x" * (SUBSCRIPTION_MAX_BYTES - 1)
    too_long = kind + b"x" * SUBSCRIPTION_MAX_BYTES
    line.give([too_long], [longest], [b"upstream", too_long, b"message"], [b"\1short"], [b"\2" + too_long])
    assert line.pump.move(MANY, MANY) == EMPTY
    wait_until(lambda: publisher.poll(0))
    assert take_all(publisher) == [[longest], [b"\1short"], [b"\2" + too_long]]
    counters = line.pump.counters()
    assert (counters.received, counters.sent, counters.long_subscription, counters.dropped) == (5, 3, 2, 2)
    assert balanced(counters)


# -- REQ and REP, which are in step: they answer EFSM when it is not their turn ----------------------------------------


def test_rep_is_read_again_when_it_has_replied(
    context: zmq.Context[Socket], connect: Connect, make_pump: Callable[..., Pump]
) -> None:
    rep, sink = context.socket(zmq.REP), context.socket(zmq.PUSH)
    rep.bind("inproc://rep")
    sink.bind("inproc://sink")
    consumer = connect(zmq.PULL, "inproc://sink")
    for number in range(2):
        connect(zmq.REQ, "inproc://rep").send(b"%d" % number)
    pump = make_pump(rep, sink)
    for received in (1, 2):
        for _ in range(2):
            assert pump.move(MANY, MANY) == EMPTY
            assert pump.counters().received == received
        rep.send(b"reply")
    assert take_all(consumer) == [[b"0"], [b"1"]]


def test_req_takes_the_next_when_it_has_its_reply(
    context: zmq.Context[Socket], lines: Callable[..., Line], connect: Connect
) -> None:
    line = lines(sink_type=zmq.REQ, consumer_type=zmq.REP)
    worker = line.consumer()
    line.give([b"1", b"a"], [b"2", b"b"])
    assert line.pump.move(MANY, MANY) == FULL
    assert (line.pump.sent, line.pump.held) == (1, 1)
    assert worker.recv_multipart() == [b"1", b"a"]
    worker.send(b"reply")
    assert line.sink.recv() == b"reply"
    assert line.pump.move(MANY, MANY) == EMPTY
    assert worker.recv_multipart() == [b"2", b"b"]


def test_what_nobody_has_asked_a_rep_for_is_dropped_and_counted(lines: Callable[..., Line]) -> None:
    line = lines(sink_type=zmq.REP, consumer_type=zmq.REQ)
    client = line.consumer()
    line.give([b"unasked", b"x"])
    assert line.pump.move(MANY, MANY) == EMPTY
    assert (line.pump.counters().unroutable, line.pump.held) == (1, 0)
    client.send(b"?")
    assert line.sink.recv() == b"?"
    line.give([b"asked", b"y"])
    assert line.pump.move(MANY, MANY) == EMPTY
    assert client.recv_multipart() == [b"asked", b"y"]
    assert balanced(line.pump.counters())


def test_other_sinks_take_what_looks_like_a_long_subscription(lines: Callable[..., Line]) -> None:
    line = lines()
    consumer = line.consumer()
    line.give([b"\1" * (SUBSCRIPTION_MAX_BYTES + 1)])
    assert line.pump.move(MANY, MANY) == EMPTY
    assert len(take_all(consumer)) == 1


def router_line(lines: Callable[..., Line], **options: Any) -> Line:
    return lines(sink_type=zmq.ROUTER, consumer_type=zmq.DEALER, **options)


def test_unroutable_message_is_dropped_to_its_end_and_no_further(lines: Callable[..., Line]) -> None:
    line = router_line(lines)
    here = line.consumer(b"here")
    line.give([b"gone", b"", b"1", b"2"], [b"here", b"3"], [b"gone", b"4"], [b"here", b"", b"5"])
    assert line.pump.move(MANY, MANY) == EMPTY
    assert take_all(here) == [[b"3"], [b"", b"5"]]
    counters = line.pump.counters()
    assert (counters.received, counters.sent, counters.unroutable, counters.dropped) == (4, 2, 2, 2)
    assert (counters.received_frames, counters.sent_frames) == (11, 5)


def test_message_of_a_routing_id_alone_is_counted_as_unroutable(lines: Callable[..., Line]) -> None:
    line = router_line(lines)
    here = line.consumer(b"here")
    line.give([b"here"], [b"here", b"1"])
    assert line.pump.move(MANY, MANY) == EMPTY
    assert take_all(here) == [[b"1"]]
    counters = line.pump.counters()
    assert (counters.received, counters.sent, counters.unroutable) == (2, 1, 1)


def test_one_slow_peer_loses_its_own_messages_only(lines: Callable[..., Line]) -> None:
    line = router_line(lines, sink_hwm=2)
    slow, fast = line.consumer(b"slow"), line.consumer(b"fast")
    received = []
    for number in range(50):
        line.give([b"slow", b"", b"%d" % number, b"x"], [b"fast", b"", b"%d" % number])
        assert line.pump.move(MANY, MANY) == EMPTY
        received += take_all(fast)
    assert received == [[b"", b"%d" % number] for number in range(50)]
    taken = take_all(slow)
    assert taken == [[b"", b"%d" % number, b"x"] for number in range(len(taken))]
    counters = line.pump.counters()
    assert counters.slow_peer == counters.dropped == 50 - len(taken) > 0
    assert balanced(counters)


def test_waiting_for_a_slow_peer_loses_nothing(lines: Callable[..., Line]) -> None:
    line = router_line(lines, sink_hwm=2, drop_slow_peer=False)
    slow = line.consumer(b"slow")
    line.give(*[[b"slow", b"%d" % number, b"x"] for number in range(50)])
    received: list[list[bytes]] = []
    outcomes = set()
    while len(received) < 50:
        outcomes.add(line.pump.move(MANY, MANY))
        line.sink.getsockopt(zmq.EVENTS)
        received += take_all(slow)
    assert received == [[b"%d" % number, b"x"] for number in range(50)]
    assert outcomes == {FULL, EMPTY}
    assert line.pump.counters().dropped == 0


class LeavingSink:
    """A fake sink whose peer leaves before the second frame: like libzmq's lb.cpp, it refuses that frame alone."""

    def __init__(self, socket_type: int) -> None:
        self.type = socket_type
        self.offered: list[bytes] = []

    def send(self, frame: Any, flags: int = 0, copy: bool = True) -> None:
        self.offered.append(bytes(frame))
        if len(self.offered) == 2:
            raise zmq.Again


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


# The same for a capture whose context has ended: the message was sent, its copy is lost.
def test_message_whose_copy_meets_the_end_of_its_context_is_counted_once(lines: Callable[..., Line]) -> None:
    with zmq.Context() as another:
        capture = another.socket(zmq.PUSH)
        shut_down(another)
        line = lines(capture=capture)
        consumer = line.consumer()
        line.give([b"1"], [b"2", b"x"])
        for _ in range(2):
            with pytest.raises(zmq.ContextTerminated):
                line.pump.move(MANY, MANY)
        assert line.pump.move(MANY, MANY) == EMPTY
        assert take_all(consumer) == [[b"1"], [b"2", b"x"]]
        counters = line.pump.counters()
        assert balanced(counters)
        assert (counters.sent, counters.held, counters.captured, counters.capture_dropped) == (2, 0, 0, 2)
        capture.close(linger=0)


@pytest.mark.parametrize("prefix", [None, b"in"])
@pytest.mark.parametrize("capture_type", [zmq.PUSH, zmq.DEALER, zmq.PAIR])
def test_capture_is_what_was_sent(
    lines: Callable[..., Line], context: zmq.Context[Socket], connect: Connect, prefix: bytes | None, capture_type: int
) -> None:
    capture = context.socket(capture_type)
    capture.bind("inproc://capture")
    reader = connect(zmq.PULL if capture_type == zmq.PUSH else capture_type, "inproc://capture")
    line = router_line(lines, capture=capture, prefix=prefix)
    line.consumer(b"here")
    sent = [[b"here", b"%d" % number, b""] for number in range(20)]
    line.give([b"gone", b"lost"], *sent, [b"gone", b"lost"])
    assert line.pump.move(MANY, MANY) == EMPTY
    assert take_all(reader) == [[prefix, *message] if prefix is not None else message for message in sent]
    counters = line.pump.counters()
    assert (counters.captured, counters.capture_dropped, counters.sent) == (20, 0, 20)


@pytest.mark.parametrize("prefix", [None, b"out"])
def test_full_capture_loses_copies_and_never_the_traffic(
    lines: Callable[..., Line], context: zmq.Context[Socket], connect: Connect, prefix: bytes | None
) -> None:
    capture = context.socket(zmq.PUSH)
    capture.sndhwm = 2
    capture.bind("inproc://capture")
    line = lines(capture=capture, prefix=prefix)
    consumer = line.consumer()
    sent = [[b"%d" % number, b"x"] for number in range(50)]
    line.give(*sent[:20])
    assert line.pump.move(MANY, MANY) == EMPTY  # nobody reads the copies
    reader = connect(zmq.PULL, "inproc://capture", rcvhwm=2)
    line.give(*sent[20:])
    assert line.pump.move(MANY, MANY) == EMPTY
    assert take_all(consumer) == sent
    counters = line.pump.counters()
    copies = take_all(reader)
    head = [] if prefix is None else [prefix]
    assert copies == [[*head, *message] for message in sent[20 : 20 + len(copies)]]
    assert counters.captured == len(copies) > 0
    assert counters.captured + counters.capture_dropped == 50
    assert balanced(counters)


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
