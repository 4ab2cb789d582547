"""Which sockets a hub settles after its work, and after which refusals it tries again.

A hub is told by its owner which sockets stand at its ports. Here some of them are stand-ins: not those that the pumps
move between, but others, of which a test decides what they say. So it shows which of them a hub has asked.
"""

from collections.abc import Callable
from typing import Any

import pytest
import zmq

from pollbroker.pump import Implementation, choose_implementation
from pollbroker.pump.outcomes import RETRY, FlowState
from tests.support.deadline import wait_until
from tests.support.pipes import Pipe, Refusing, Stand, take_all
from tests.support.types import Socket

# -- what is settled ---------------------------------------------------------------------------------------------------


def test_a_source_at_which_a_flow_waits_is_settled_by_work(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    assert stand.work() == 0
    assert (stand.states, stand.ready) == ([FlowState.WAITING], [])
    stand.inputs[0].give(b"come meanwhile")
    assert stand.work() == 0  # for the sake of another flow, say
    assert (stand.states, stand.ready) == ([FlowState.READY], [stand.hub])


@pytest.mark.parametrize("touched", [False, True])
def test_a_source_that_was_read_dry_is_settled_if_something_was_sent_on_it_since(
    context: zmq.Context[Socket], implementation: Implementation, touched: bool
) -> None:
    said = Pipe(context)
    said.give(b"announced during the send")
    stand = Stand(context, implementation, 2, port_0=said.open())
    back = stand.outputs[1].open()
    if touched:
        stand.inputs[1].give(b"back")
    assert stand.work() == 0
    assert take_all(back) == ([[b"back"]] if touched else [])
    assert stand.flow.state == (FlowState.READY if touched else FlowState.WAITING)


def test_a_sink_at_which_a_flow_is_stalled_is_settled_by_work(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    stand.inputs[0].give(b"held")
    assert stand.work() == 0
    assert (stand.states, stand.ready) == ([FlowState.STALLED], [])
    stand.outputs[0].open()
    assert stand.work() == 0
    assert (stand.states, stand.ready) == ([FlowState.READY], [stand.hub])


# Flow 0 has read port 0 dry; flow 1 then sends there what it has held since before, and finds nothing new to receive.
def test_a_held_message_that_is_sent_unsettles_the_socket_that_was_read_dry(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    said = Pipe(context)
    stand = Stand(context, implementation, 2, port_0=said.open())
    stand.inputs[1].give(b"back")
    assert stand.work() == 0
    assert stand.states == [FlowState.WAITING, FlowState.STALLED]
    back = stand.outputs[1].open()
    said.give(b"announced during the send")
    for flow in stand.hub.flows:
        flow.resume()
    assert stand.work() == 0
    assert take_all(back) == [[b"back"]]
    assert (stand.flow.state, stand.ready) == (FlowState.READY, [stand.hub])


def test_a_message_that_is_refused_unsettles_its_sink_too(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    said = Pipe(context)
    stand = Stand(context, implementation, 2, port_0=said.open())
    stand.work()
    said.give(b"announced during the send")
    stand.inputs[1].give(b"refused")
    for flow in stand.hub.flows:
        flow.resume()
    assert stand.work() == 0
    assert stand.flow.state == FlowState.READY


class Asked:
    """A socket at which nothing happens. It counts how often its events are read."""

    def __init__(self) -> None:
        self.times = 0

    def getsockopt(self, option: int) -> int:
        assert option == zmq.EVENTS
        self.times += 1
        return 0


# Reading ZMQ_EVENTS costs a system call or two, so both hubs read it only of sockets that a flow waits for.
def test_only_what_somebody_waits_for_is_settled(context: zmq.Context[Socket]) -> None:
    source, sink = Asked(), Asked()
    places: Any = {"port_0": source, "port_1": sink}
    stand = Stand(context, choose_implementation("python"), **places)
    for _ in range(3):
        stand.inputs[0].give(b"1")
    stand.work(0.0, 1)  # the sink has refused: the flow waits for it
    assert (source.times, sink.times) == (0, 1)
    stand.outputs[0].open()
    stand.flow.resume()
    stand.work(0.0, 1)  # the limit is spent: the flow waits for nothing
    assert (stand.states, source.times, sink.times) == ([FlowState.READY], 0, 1)
    stand.work()  # the source was read dry, which settles it
    assert (stand.states, source.times, sink.times) == ([FlowState.WAITING], 0, 1)
    stand.work()  # for the sake of another flow
    assert (source.times, sink.times) == (1, 1)
    stand.hub.wake(1)
    assert (source.times, sink.times) == (1, 2)


# -- what is believed --------------------------------------------------------------------------------------------------


def test_a_sink_that_says_pollout_and_refuses_is_believed_once(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Refusing(context, implementation)
    stand.said.open()
    assert (stand.work(), stand.states, stand.ready) == (0, [FlowState.READY], [stand.hub])
    assert (stand.work(), stand.states, stand.ready) == (RETRY, [FlowState.RETRYING], [])


def believed_again_for_having_had_no_room(stand: Refusing) -> None:
    said = stand.said.pull
    assert said is not None
    for _ in range(2):  # as many as it takes
        stand.said.push.send(b"", zmq.DONTWAIT)
    assert (stand.work(), stand.states) == (0, [FlowState.STALLED])
    take_all(said)
    assert stand.hub.wake(1) == 0


def believed_again_for_having_taken_a_message(stand: Refusing) -> None:
    sink = stand.outputs[0].open()
    stand.inputs[0].give(b"next")
    assert stand.work(0.0, 1) == 0
    assert take_all(sink) == [[b"held"]]
    sink.close()
    stand.outputs[0].pull = None
    wait_until(lambda: not stand.outputs[0].push.poll(0, zmq.POLLOUT))
    assert stand.work() == 0


def believed_again_for_a_resumption(stand: Refusing) -> None:
    stand.flow.pause(0.0)
    stand.flow.resume()
    assert stand.work() == 0


@pytest.mark.parametrize(
    "cause",
    [
        believed_again_for_having_had_no_room,
        believed_again_for_having_taken_a_message,
        believed_again_for_a_resumption,
    ],
)
def test_a_sink_that_refused_is_believed_again(
    context: zmq.Context[Socket], implementation: Implementation, cause: Callable[[Refusing], None]
) -> None:
    stand = Refusing(context, implementation)
    stand.said.open()
    assert (stand.work(), stand.states) == (0, [FlowState.READY])  # believed once
    cause(stand)
    assert stand.states == [FlowState.READY]
