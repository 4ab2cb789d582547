"""Rules for some types of sockets: subscriptions at an XSUB, the turns of REQ and REP, the peers of a ROUTER."""

from collections.abc import Callable

import pytest
import zmq

from pollbroker.pump import EMPTY, FULL, SUBSCRIPTION_MAX_BYTES, Pump
from tests.support.accounts import balanced
from tests.support.deadline import wait_until
from tests.support.pipes import MANY, take_all
from tests.support.pumps import Line, router_line
from tests.support.types import Connect, Socket

# -- subscriptions -----------------------------------------------------------------------------------------------------


def xsub_line(lines: Callable[..., Line]) -> tuple[Line, Socket]:
    """A line to an XSUB, and the XPUB that receives its subscriptions."""
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


def test_other_sinks_take_what_looks_like_a_long_subscription(lines: Callable[..., Line]) -> None:
    line = lines()
    consumer = line.consumer()
    line.give([b"\1" * (SUBSCRIPTION_MAX_BYTES + 1)])
    assert line.pump.move(MANY, MANY) == EMPTY
    assert len(take_all(consumer)) == 1


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


# -- ROUTER ------------------------------------------------------------------------------------------------------------


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
