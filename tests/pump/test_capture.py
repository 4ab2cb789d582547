"""Capture is a copy of what was sent, and never costs any traffic."""

from collections.abc import Callable

import pytest
import zmq

from pollbroker.pump import EMPTY
from pollbroker.testing.environments import shut_down
from tests.support.accounts import balanced
from tests.support.pipes import MANY, take_all
from tests.support.pumps import Line, router_line
from tests.support.types import Connect, Socket


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
