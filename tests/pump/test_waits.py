"""How long messages waited for a sink: the histogram, and that every flow counts alike."""

from typing import Any, cast

import pytest
import zmq

from pollbroker.pump import Implementation, RoutingPump, choose_implementation
from pollbroker.waits import NO_WAITS, WAIT_BOUNDS_S, Waits, histogram_of_all, wait_quantile_s
from tests.support.pipes import MANY, Pipe, Stand, take_all
from tests.support.types import Socket


def counts(*waits_s: float) -> tuple[int, ...]:
    """The histogram of messages that waited so long."""
    counted = Waits()
    for wait_s in waits_s:
        counted.add(wait_s)
    return counted.counts


# -- the histogram -----------------------------------------------------------------------------------------------------


def test_a_message_is_counted_below_the_first_bound_that_its_wait_does_not_exceed() -> None:
    for index, bound_s in enumerate(WAIT_BOUNDS_S):
        assert counts(bound_s).index(1) == index
        assert counts(bound_s * 1.001).index(1) == index + 1
    assert counts(0.0).index(1) == 0
    assert counts(1e9).index(1) == len(WAIT_BOUNDS_S)


def test_messages_that_did_not_wait_are_in_the_first_count() -> None:
    assert histogram_of_all(counts(0.0, 2.0), 10) == histogram_of_all(counts(2.0), 10)
    assert sum(histogram_of_all(counts(0.0, 2.0), 10)) == 10
    assert histogram_of_all(counts(2.0, 2.0), 1) == counts(2.0, 2.0)


def test_quantiles_are_within_the_bounds_of_the_message_at_that_rank() -> None:
    histogram = histogram_of_all(counts(0.02, 0.02, 5.0), 100)
    assert wait_quantile_s(NO_WAITS, 0.5) is None
    assert wait_quantile_s(histogram, 0.5) == pytest.approx(0.001 * 50 / 97)
    assert wait_quantile_s(histogram, 0.99) == pytest.approx(0.03)
    assert wait_quantile_s(histogram, 1.0) == 10.0
    assert wait_quantile_s(counts(0.02), 0.0) == 0.01
    assert wait_quantile_s(counts(1e6), 0.5) == WAIT_BOUNDS_S[-1]


def test_a_histogram_with_other_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="a histogram of 2 counts; expected 12"):
        Waits().carry_on((1, 2), 3.0)


# -- flows -------------------------------------------------------------------------------------------------------------


def test_a_refused_message_waits_until_the_sink_takes_it(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    flow = stand.flow
    stand.inputs[0].give(b"waits")
    stand.work(10.0)
    flow.resume()
    stand.work(11.0)  # refused again
    assert (flow.waits, flow.waited_s) == (NO_WAITS, 0.0)
    stand.outputs[0].open()
    stand.inputs[0].give(b"need not wait")
    flow.resume()
    stand.work(12.0)
    assert (flow.waits, flow.waited_s) == (counts(2.0), 2.0)
    stand.inputs[0].give(b"nor this one")
    flow.resume()
    stand.work(20.0)
    assert (flow.waits, flow.waited_s) == (counts(2.0), 2.0)


def test_a_pause_is_part_of_the_wait_of_the_message_that_is_held(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    flow = stand.flow
    stand.inputs[0].give(b"waits")
    stand.work(10.0)
    flow.pause(11.0)
    stand.outputs[0].open()
    flow.resume()
    stand.work(60.0)
    assert (flow.waits, flow.waited_s, flow.stalled_s(60.0)) == (counts(50.0), 50.0, 1.0)


def test_each_message_that_is_refused_in_turn_has_a_wait_of_its_own(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    narrow = Pipe(context, hwm=1)
    source = stand.inputs[0].open()
    flow = implementation.make_flow(implementation.make_pump(source, narrow.push), 0, (1,))
    hub = implementation.make_hub(cast(Any, stand), stand.ready, (source, narrow.push), (), (flow,))
    for _ in range(9):
        stand.inputs[0].give(b"1")
    hub.work(MANY, MANY, 10.0)
    consumer = narrow.open()
    flow.resume()
    hub.work(MANY, MANY, 12.0)  # the first is taken, and a later one refused
    assert (flow.pump.held, flow.waits) == (1, counts(2.0))
    taken = take_all(consumer)
    for _ in range(2):  # the sink may learn only in the first that there is room
        flow.resume()
        hub.work(MANY, MANY, 32.0)
    assert flow.waits == counts(2.0, 20.0)
    assert flow.waited_s == 22.0
    assert taken


def test_a_message_that_is_held_to_the_end_is_not_counted(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    stand.inputs[0].give(b"held")
    stand.work(10.0)
    stand.hub.end(12.0)
    assert (stand.flow.waits, stand.flow.waited_s) == (NO_WAITS, 0.0)


def test_a_message_for_two_sinks_waits_for_each(context: zmq.Context[Socket], implementation: Implementation) -> None:
    python = choose_implementation("python")
    source, sinks = Pipe(context), [Pipe(context), Pipe(context)]
    receiver = implementation.make_receiver(source.open())
    senders = {
        name: implementation.make_sender(sink.push, None, None, True) for name, sink in zip("ab", sinks, strict=True)
    }
    flow = python.make_flow(RoutingPump(receiver, None, senders), 0, (1, 2))
    ready: list[Any] = []
    hub = python.make_hub(cast(Any, None), ready, (source.open(), sinks[0].push, sinks[1].push), (), (flow,))
    source.give(b"for both")
    source.give(b"the next")
    hub.work(MANY, MANY, 10.0)
    sinks[0].open()
    flow.resume()
    hub.work(MANY, MANY, 12.0)
    assert flow.waits == counts(2.0)  # and it goes on to wait for the other sink
    sinks[1].open()
    flow.resume()
    hub.work(MANY, MANY, 60.0)
    assert (flow.waits, flow.waited_s) == (counts(2.0, 50.0), 52.0)
    assert [len(take_all(sink.open())) for sink in sinks] == [2, 2]


def test_another_message_for_two_sinks_does_not_go_on_with_the_wait_of_the_last(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    python = choose_implementation("python")
    source, wide, narrow = Pipe(context), Pipe(context), Pipe(context, hwm=1)
    receiver = implementation.make_receiver(source.open())
    senders = {
        "wide": implementation.make_sender(wide.push, None, None, True),
        "narrow": implementation.make_sender(narrow.push, None, None, True),
    }
    flow = python.make_flow(RoutingPump(receiver, None, senders), 0, (1, 2))
    hub = python.make_hub(cast(Any, None), [], (source.open(), wide.push, narrow.push), (), (flow,))
    for _ in range(9):
        source.give(b"1")
    hub.work(MANY, MANY, 10.0)  # both refuse the first
    wide.open()
    narrow.open()
    flow.resume()
    hub.work(MANY, MANY, 12.0)  # both take it, and the narrow one alone refuses a later one
    assert (flow.pump.held, flow.waits) == (1, counts(2.0, 2.0))
    take_all(narrow.open())
    for _ in range(2):  # as above
        flow.resume()
        hub.work(MANY, MANY, 32.0)
    assert flow.waits == counts(2.0, 2.0, 20.0)
