"""What becomes of a message, and of what is kept of it, when an operation fails in its middle."""

import gc
import select
from typing import Any, cast

import pytest
import zmq

from pollbroker.pump import EMPTY, FULL, LIMIT, RoutingPump
from pollbroker.pump.outcomes import DROPPED, SENT, FlowState
from tests.native.faults import HUGE, Twin
from tests.support.accounts import balanced
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.pipes import MANY, Pipe, take_all
from tests.support.types import Connect, Socket

LONG = b"x" * 100
"""libzmq keeps what is longer than 33 bytes in memory of its own: what is not closed is lost."""


class Line:
    """source -> pump -> sink, each with a pipe; and a capture socket with a reader, if wanted."""

    def __init__(self, context: zmq.Context[Socket], twin: Twin, **options: Any) -> None:
        self.input, self.output, self.copies = Pipe(context), Pipe(context), Pipe(context)
        self.source, self.sink, self.capture = self.input.open(), self.output.push, self.copies.push
        if "prefix" in options:
            options["capture"] = self.capture
        self.pump = twin.pump(self.source, self.sink, **options)

    def give(self, *messages: list[bytes]) -> None:
        for message in messages:
            self.input.give(*message)

    def move(self) -> int:
        outcome: int = self.pump.move(MANY, MANY)
        return outcome


class RouterLine:
    """source -> pump -> a mandatory ROUTER without peers."""

    def __init__(self, context: zmq.Context[Socket], twin: Twin, **options: Any) -> None:
        self.input = Pipe(context)
        self.router = context.socket(zmq.ROUTER)
        self.router.router_mandatory = 1
        self.endpoint = f"inproc://{id(self)}"
        self.router.bind(self.endpoint)
        self.pump = twin.pump(self.input.open(), self.router, **options)


# -- a message that ends in the middle --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [2, 3])
def test_message_whose_rest_cannot_be_read_is_counted_once(
    context: zmq.Context[Socket], twin: Twin, place: int
) -> None:
    line = Line(context, twin)
    line.output.open()
    line.give([LONG, LONG, LONG])
    twin.faults.plan("recv", line.source, place, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        line.move()
    counters = line.pump.counters()
    assert (counters.received, counters.interrupted, counters.sent, counters.held) == (1, 1, 0, 0)
    assert (counters.received_frames, counters.received_bytes) == (place - 1, 100 * (place - 1))
    assert balanced(counters)
    assert twin.live == 0


# At every place, with every way to refuse, of a message of three frames and of the copies of it that were kept.
@pytest.mark.parametrize("place", [2, 3])
@pytest.mark.parametrize("code", [zmq.ETERM, zmq.EAGAIN, zmq.EHOSTUNREACH])
def test_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten(
    context: zmq.Context[Socket], twin: Twin, place: int, code: int
) -> None:
    line = Line(context, twin, prefix=b"from")
    line.output.open()
    reader = line.copies.open()
    for times in (1, 2):
        twin.faults.plan("send", line.sink, place, code=code)
        line.give([b"begun", LONG, LONG])
        if code == zmq.EAGAIN:
            assert line.move() == EMPTY
        else:
            with pytest.raises(zmq.ZMQError):
                line.move()
            take_all(line.source)
        counters = line.pump.counters()
        assert (counters.received, counters.interrupted, counters.sent, counters.held) == (times, times, 0, 0)
        assert (counters.sent_frames, counters.sent_bytes, counters.captured) == (0, 0, 0)
        assert twin.live == 0
    line.give([b"whole", b"message"])
    assert line.move() == EMPTY
    assert take_all(reader) == [[b"from", b"whole", b"message"]]
    counters = line.pump.counters()
    assert (counters.sent, counters.sent_frames, counters.sent_bytes, counters.captured) == (1, 2, 12, 1)
    assert balanced(counters)


# With what libzmq itself does then. The handler route sends by the same code (`Sender`).
@pytest.mark.parametrize("place", [2, 3, 4])
@pytest.mark.parametrize(
    ("sink_type", "consumer_type"), [(zmq.PUSH, zmq.PULL), (zmq.DEALER, zmq.DEALER), (zmq.PAIR, zmq.PAIR)]
)
def test_message_whose_peer_leaves_in_the_middle_is_dropped_whole(
    context: zmq.Context[Socket], connect: Connect, twin: Twin, sink_type: int, consumer_type: int, place: int
) -> None:
    source, sink = Pipe(context), context.socket(sink_type)
    endpoint = f"inproc://{id(sink)}"
    sink.bind(endpoint)
    consumers = [connect(consumer_type, endpoint)]
    sink.getsockopt(zmq.EVENTS)

    def leave() -> None:
        sink.getsockopt(zmq.EVENTS)
        consumers.pop().close(linger=0)
        assert select.select([sink.FD], [], [], DEADLINE_MS / 1000)[0], "the sink was not told"
        sink.getsockopt(
            zmq.EVENTS
        )  # while it sends, libzmq looks only once in a millisecond or so for peers that have left

    pump = twin.pump(source.open(), sink)
    source.give(b"before")
    source.give(b"begin", b"middle", b"middle", b"end")
    source.give(b"whole", b"message")
    twin.faults.meanwhile("send", sink, 1 + place, leave)
    assert pump.move(2, MANY) == LIMIT
    counters = pump.counters()
    assert (counters.received, counters.held) == (2, 0)
    # A PUSH or DEALER whose peer is gone already swallows the rest and says nothing: then the message counts as sent.
    silent = sink_type != zmq.PAIR and counters.sent == 2
    assert (counters.sent, counters.interrupted) == ((2, 0) if silent else (1, 1))
    assert twin.live == 0

    def moved() -> bool:
        if sink_type == zmq.PAIR:
            take_all(sink)  # a PAIR lets go of the peer that left, and takes another, only when it is read
        if sink_type == zmq.PAIR or not consumers:
            consumers.append(connect(consumer_type, endpoint))
        return bool(pump.move(MANY, MANY) == EMPTY)

    wait_until(moved)
    assert [message for consumer in consumers for message in take_all(consumer)] == [[b"whole", b"message"]]


# The rest is offered, for libzmq to swallow; but the next peer of a PAIR would be given it as a message of its own.
@pytest.mark.parametrize(("socket_type", "offered"), [(zmq.PUSH, 4), (zmq.DEALER, 4), (zmq.PAIR, 2)])
def test_rest_of_a_broken_message_is_not_offered_to_the_next_peer_of_a_pair(
    context: zmq.Context[Socket], twin: Twin, socket_type: int, offered: int
) -> None:
    for sends_bytes in (False, True):
        sink, peer = context.socket(socket_type), context.socket(zmq.PULL if socket_type == zmq.PUSH else socket_type)
        sink.bind(f"inproc://{id(sink)}")
        peer.connect(f"inproc://{id(sink)}")
        message = [LONG, LONG, LONG, LONG]
        twin.faults.plan("send", sink, 2, code=zmq.EAGAIN)
        if sends_bytes:
            assert twin.sending(sink).send(message) == SENT
        else:
            source = Pipe(context)
            source.give(*message)
            assert twin.pump(source.open(), sink).move(MANY, MANY) == EMPTY
        assert twin.faults.times("send", sink) == offered
        assert twin.live == 0


def test_rest_of_a_refused_copy_is_not_offered_to_the_next_reader_of_a_pair(
    context: zmq.Context[Socket], twin: Twin
) -> None:
    for socket_type, offered in ((zmq.PUSH, 4), (zmq.PAIR, 2)):
        source, sink = Pipe(context), Pipe(context)
        sink.open()
        capture, reader = context.socket(socket_type), context.socket(zmq.PULL if socket_type == zmq.PUSH else zmq.PAIR)
        capture.bind(f"inproc://{id(capture)}")
        reader.connect(f"inproc://{id(capture)}")
        twin.faults.plan("send", capture, 2, code=zmq.EAGAIN)
        source.give(LONG, LONG, LONG, LONG)
        pump = twin.pump(source.open(), sink.push, capture=capture)
        assert pump.move(MANY, MANY) == EMPTY
        assert twin.faults.times("send", capture) == offered
        assert (pump.counters().captured, pump.counters().capture_dropped) == (0, 1)
        assert twin.live == 0


def test_handlers_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten(
    context: zmq.Context[Socket], twin: Twin
) -> None:
    sink, copies = Pipe(context), Pipe(context)
    sink.open()
    reader = copies.open()
    sender = twin.sending(sink.push, copies.push, b"from")
    twin.faults.plan("send", sink.push, 2, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        sender.send([b"begun", LONG, LONG])
    assert (sender.finished, sender.sent, twin.live) == (1, 0, 0)
    assert sender.send([b"whole", LONG]) == SENT
    assert (sender.finished, sender.sent, twin.live) == (2, 1, 0)
    assert take_all(reader) == [[b"from", b"whole", LONG]]


# -- a first frame that fails -----------------------------------------------------------------------------------------


def test_message_that_could_not_be_offered_is_held_and_goes_next(context: zmq.Context[Socket], twin: Twin) -> None:
    line = Line(context, twin, prefix=b"from")
    reader, copies = line.output.open(), line.copies.open()
    line.give([b"first", LONG], [b"second"])
    twin.faults.plan("send", line.sink, 1, code=zmq.ETERM)
    twin.faults.plan("send", line.sink, 2, code=zmq.EAGAIN)
    with pytest.raises(zmq.ContextTerminated):
        line.move()
    assert (line.pump.received, line.pump.held, line.pump.sent) == (1, 1, 0)
    assert line.move() == FULL
    assert (line.pump.received, line.pump.held, line.pump.sent) == (1, 1, 0)
    assert line.move() == EMPTY
    assert (line.pump.received, line.pump.held, line.pump.sent) == (2, 0, 2)
    assert take_all(reader) == [[b"first", LONG], [b"second"]]
    assert take_all(copies) == [[b"from", b"first", LONG], [b"from", b"second"]]
    assert twin.live == 0


def test_nothing_is_counted_of_a_first_frame_that_cannot_be_read(context: zmq.Context[Socket], twin: Twin) -> None:
    line = Line(context, twin)
    line.give([LONG])
    twin.faults.plan("recv", line.source, 1, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        line.move()
    counters = line.pump.counters()
    assert (counters.received, counters.received_frames, counters.held, counters.dropped) == (0, 0, 0, 0)
    assert line.move() == FULL
    assert line.pump.received == 1


@pytest.mark.parametrize("frames", [2, 3, 20])
def test_unroutable_message_is_dropped_whole_and_closed(context: zmq.Context[Socket], twin: Twin, frames: int) -> None:
    line = RouterLine(context, twin)
    for times in (1, 2):
        line.input.give(LONG, *[LONG] * (frames - 1))
        assert line.pump.move(MANY, MANY) == EMPTY
        counters = line.pump.counters()
        assert (counters.unroutable, counters.received_frames, counters.held) == (times, times * frames, 0)
        assert twin.live == 0


def test_message_for_a_full_peer_is_dropped_whole_and_closed(context: zmq.Context[Socket], twin: Twin) -> None:
    line = RouterLine(context, twin)
    line.input.give(b"peer", LONG, LONG)
    twin.faults.plan("send", line.router, 1, 2, code=zmq.EAGAIN)  # the second after the socket was settled
    assert line.pump.move(MANY, MANY) == EMPTY
    counters = line.pump.counters()
    assert (counters.slow_peer, counters.unroutable, counters.held) == (1, 0, 0)
    assert twin.faults.times("events", line.router) == 1
    assert twin.live == 0


def test_full_peer_is_believed_only_after_its_commands_are_processed(context: zmq.Context[Socket], twin: Twin) -> None:
    line = RouterLine(context, twin)
    dealer = context.socket(zmq.DEALER)
    dealer.routing_id = b"peer"
    dealer.connect(line.endpoint)
    line.router.getsockopt(zmq.EVENTS)
    line.input.give(b"peer", LONG)
    twin.faults.plan("send", line.router, 1, code=zmq.EAGAIN)
    assert line.pump.move(MANY, MANY) == EMPTY
    assert take_all(dealer) == [[LONG]]
    assert line.pump.counters().slow_peer == 0


# -- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [1, 2, 3])
def test_copy_that_is_refused_is_counted_and_closed(context: zmq.Context[Socket], twin: Twin, place: int) -> None:
    line = Line(context, twin, prefix=LONG)
    line.output.open()
    line.copies.open()
    for times in (1, 2):
        refusals = (1, 2) if place == 1 else (place,)  # the first is tried again when the socket is settled
        twin.faults.plan("send", line.capture, *refusals, code=zmq.EAGAIN)
        line.give([LONG, LONG, LONG])
        assert line.move() == EMPTY
        counters = line.pump.counters()
        assert (counters.sent, counters.captured, counters.capture_dropped) == (times, 0, times)
        assert twin.live == 0


@pytest.mark.parametrize("place", [1, 2, 3])
def test_copy_that_fails_is_counted_and_closed_and_raises(context: zmq.Context[Socket], twin: Twin, place: int) -> None:
    line = Line(context, twin, prefix=LONG)
    reader = line.output.open()
    line.copies.open()
    for times in (1, 2):
        twin.faults.plan("send", line.capture, place, code=zmq.ETERM)
        line.give([LONG, LONG, LONG])
        with pytest.raises(zmq.ContextTerminated):
            line.move()
        assert take_all(reader) == [[LONG, LONG, LONG]]
        counters = line.pump.counters()
        assert (counters.sent, counters.held, counters.captured, counters.capture_dropped) == (times, 0, 0, times)
        assert balanced(counters)
        assert twin.live == 0


# 8 frames have room at first, and then the room is doubled.
@pytest.mark.parametrize("frames", [1, 6, 7, 8, 9, 16, 17, 33, 300])
def test_copies_have_as_many_frames_as_their_messages(context: zmq.Context[Socket], twin: Twin, frames: int) -> None:
    line = Line(context, twin, prefix=b"from")
    line.output.open()
    reader = line.copies.open()
    messages = [[b"%d of message %d" % (frame, number) for frame in range(frames)] for number in range(3)]
    line.give(*messages)
    assert line.move() == EMPTY
    assert take_all(reader) == [[b"from", *message] for message in messages]
    assert twin.live == 0


def test_copy_whose_prefix_has_no_memory_is_lost_and_the_traffic_is_not(
    context: zmq.Context[Socket], native: Twin
) -> None:
    line = Line(context, native, prefix=b"from")
    reader, copies = line.output.open(), line.copies.open()
    native.faults.plan("init_size", None, 1, code=12)
    line.give([LONG, LONG], [b"next"])
    assert line.move() == EMPTY
    assert take_all(reader) == [[LONG, LONG], [b"next"]]
    assert take_all(copies) == [[b"from", b"next"]]
    counters = line.pump.counters()
    assert (counters.sent, counters.captured, counters.capture_dropped) == (2, 1, 1)
    assert native.live == 0


# -- the sending side of a handler ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "outcome"), [(zmq.EAGAIN, FULL), (zmq.EHOSTUNREACH, DROPPED)])
def test_handlers_message_that_is_not_sent_is_closed(
    context: zmq.Context[Socket], twin: Twin, code: int, outcome: int
) -> None:
    sink = Pipe(context)
    reader = sink.open()
    sender = twin.sending(sink.push)
    for _ in range(2):
        twin.faults.plan("send", sink.push, 1, code=code)
        assert sender.send([LONG, LONG]) == outcome
        assert twin.live == 0
    assert sender.send([LONG, b"", b"end"]) == SENT
    assert take_all(reader) == [[LONG, b"", b"end"]]


@pytest.mark.parametrize("place", [1, 2])
def test_handlers_message_without_memory_is_counted_and_raises(
    context: zmq.Context[Socket], native: Twin, place: int
) -> None:
    sink = Pipe(context)
    sink.open()
    sender = native.sending(sink.push)
    native.faults.plan("init_size", None, place, code=12)
    with pytest.raises(MemoryError):
        sender.send([LONG, LONG, LONG])
    assert (sender.sent, sender.finished) == (0, place - 1)  # nothing was begun if the first frame has no memory
    assert native.live == 0


# -- the receiving side of a handler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [1, 2, 3])
def test_receiver_that_fails_keeps_nothing(context: zmq.Context[Socket], twin: Twin, place: int) -> None:
    source = Pipe(context)
    receive = twin.receiver(source.open())
    source.give(LONG, LONG, LONG)
    twin.faults.plan("recv", source.open(), place, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        receive()
    assert twin.live == 0


# -- held, and let go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_pump_that_is_dropped_closes_what_it_holds(context: zmq.Context[Socket], twin: Twin, frames: int) -> None:
    line = Line(context, twin, prefix=b"from")
    line.give([LONG] * frames)
    assert line.move() == FULL
    assert line.pump.held == 1
    del line.pump
    gc.collect()
    assert twin.live == 0


def test_what_a_budget_ends_keeps_nothing(context: zmq.Context[Socket], twin: Twin) -> None:
    line = Line(context, twin)
    line.output.open()
    line.give(*[[LONG, LONG]] * 5)
    assert line.pump.move(2, MANY) == LIMIT
    assert twin.live == 0
    assert line.pump.move(MANY, 300) == LIMIT
    assert line.pump.sent == 4


# -- interrupted system calls: pyzmq retries them for the Python twin -------------------------------------------------


def test_interrupted_calls_are_made_again(context: zmq.Context[Socket], native: Twin) -> None:
    line = Line(context, native)
    reader = line.output.open()
    line.give([b"1", b"2"], [b"3"])
    native.faults.plan("recv", line.source, 1, 2, 4, 6, code=4)
    native.faults.plan("send", line.sink, 1, 3, 4, 6, code=4)
    assert line.move() == EMPTY
    assert take_all(reader) == [[b"1", b"2"], [b"3"]]
    read = native.implementation.make_event_reader(line.sink)
    native.faults.plan("events", line.sink, 1, 2, code=4)
    assert read() & zmq.POLLOUT


def test_events_that_cannot_be_read_raise(context: zmq.Context[Socket], twin: Twin) -> None:
    pull = context.socket(zmq.PULL)
    read = twin.implementation.make_event_reader(twin.socket(pull))
    assert read() == 0
    twin.faults.plan("events", pull, 1, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        read()
    assert read() == 0


# -- hubs -------------------------------------------------------------------------------------------------------------


class Stand:
    """One flow in a hub, between sockets that may fail."""

    def __init__(self, context: zmq.Context[Socket], twin: Twin, line: Line) -> None:
        self.ready: list[Any] = []
        self.flow = twin.implementation.make_flow(line.pump, 0, (1,))
        sockets = (twin.socket(line.source), twin.socket(line.sink))
        self.hub = twin.implementation.make_hub(cast(Any, self), self.ready, sockets, (), (self.flow,))


def test_context_that_ends_while_a_socket_is_settled_raises(context: zmq.Context[Socket], twin: Twin) -> None:
    line = Line(context, twin)
    stand = Stand(context, twin, line)
    line.give([LONG])
    twin.faults.plan("events", line.sink, 1, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        stand.hub.work(MANY, MANY, 0.0)
    assert (stand.flow.state, line.pump.held) == (FlowState.STALLED, 1)
    assert stand.hub.work(MANY, MANY, 0.0) == 0
    twin.faults.plan("events", line.sink, 1, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        stand.hub.wake(1)


def test_flow_whose_pump_fails_raises_and_counts(context: zmq.Context[Socket], twin: Twin) -> None:
    line = Line(context, twin)
    line.output.open()
    stand = Stand(context, twin, line)
    line.give([LONG, LONG])
    twin.faults.plan("send", line.sink, 2, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        stand.hub.work(MANY, MANY, 0.0)
    assert balanced(line.pump.counters())
    assert line.pump.counters().interrupted == 1


# -- counting ---------------------------------------------------------------------------------------------------------


def test_size_of_a_frame_of_two_gibibytes_is_asked_for(context: zmq.Context[Socket], native: Twin) -> None:
    line = Line(context, native)
    line.output.open()
    line.give([LONG, b"12345"])
    native.faults.plan("recv", line.source, 1, 2, code=HUGE)  # zmq_msg_recv returns an int, and says no more than that
    assert line.move() == EMPTY
    assert line.pump.counters().received_bytes == line.pump.counters().sent_bytes == 105


def test_handlers_pump_counts_what_fails(context: zmq.Context[Socket], twin: Twin, connect: Connect) -> None:
    source, sink = Pipe(context), Pipe(context)
    sink.open()
    pump = RoutingPump(twin.receiver(source.open()), lambda frames: frames, {"sink": twin.sending(sink.push)})
    source.give(LONG, LONG)
    twin.faults.plan("send", sink.push, 2, code=zmq.ETERM)
    with pytest.raises(zmq.ContextTerminated):
        pump.move(MANY, MANY)
    counters = pump.counters()
    assert (counters.received, counters.interrupted, counters.held) == (1, 1, 0)
    assert balanced(counters)
    assert twin.live == 0
