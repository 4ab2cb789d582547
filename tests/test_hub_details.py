"""Hubs, closer up: what is settled, and what is not, when two flows cross at a socket. See `test_hub.py`."""

import pytest
import zmq

from pollbroker.pump import Pumping
from pollbroker.pump.contract import FlowState
from tests.conftest import Socket
from tests.test_hub import Pipe, Stand, received


# Flow 0 has read port 0 dry; flow 1 then sends there what it has held since before, and finds nothing new to receive.
def test_a_held_message_that_is_sent_unsettles_the_socket_that_was_read_dry(
    context: zmq.Context[Socket], pumping: Pumping
) -> None:
    said = Pipe(context)
    stand = Stand(context, pumping, 2, port_0=said.open())
    stand.inputs[1].give(b"back")
    assert stand.work() == 0
    assert stand.states == [FlowState.WAITING, FlowState.STALLED]
    back = stand.outputs[1].open()
    said.give(b"announced during the send")
    for flow in stand.hub.flows:
        flow.resume()
    assert stand.work() == 0
    assert received(back) == [[b"back"]]
    assert (stand.flow.state, stand.ready) == (FlowState.READY, [stand.hub])


def test_a_message_that_is_refused_unsettles_its_sink_too(context: zmq.Context[Socket], pumping: Pumping) -> None:
    said = Pipe(context)
    stand = Stand(context, pumping, 2, port_0=said.open())
    stand.work()
    said.give(b"announced during the send")
    stand.inputs[1].give(b"refused")
    for flow in stand.hub.flows:
        flow.resume()
    assert stand.work() == 0
    assert stand.flow.state == FlowState.READY


@pytest.mark.parametrize("place", [0, 1])
def test_each_flow_is_woken_at_its_own_port(context: zmq.Context[Socket], pumping: Pumping, place: int) -> None:
    stand = Stand(context, pumping, 2)
    stand.work()
    assert stand.states == [FlowState.WAITING] * 2
    assert stand.hub.wake(place) == 0
    expected = [FlowState.WAITING] * 2
    expected[place] = FlowState.READY
    assert (stand.states, stand.ready) == (expected, [stand.hub])
    assert stand.hub.interest(place) == 0
    assert stand.hub.interest(1 - place) == zmq.POLLIN


def test_a_paused_flow_is_not_woken(context: zmq.Context[Socket], pumping: Pumping) -> None:
    stand = Stand(context, pumping)
    stand.work()
    stand.flow.pause(0.0)
    stand.inputs[0].give(b"1")
    assert (stand.hub.wake(0), stand.hub.wake(1)) == (0, 0)
    assert (stand.states, stand.ready) == ([FlowState.PAUSED], [])
    assert stand.work() == 0
    assert stand.flow.pump.received == 0
