"""Hubs, closer up: what is settled, and what is not, when two flows cross at a socket. See `test_hub.py`."""

from collections.abc import Callable
from typing import Any

import pytest
import zmq

from pollbroker.pump import Hub, Implementation, choose_implementation
from pollbroker.pump.contract import FLUSHED, FlowState
from tests.pump.test_hub import MANY, Pipe, Stand, received
from tests.support.types import Socket


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
    assert received(back) == [[b"back"]]
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


@pytest.mark.parametrize("place", [0, 1])
def test_each_flow_is_woken_at_its_own_port(
    context: zmq.Context[Socket], implementation: Implementation, place: int
) -> None:
    stand = Stand(context, implementation, 2)
    stand.work()
    assert stand.states == [FlowState.WAITING] * 2
    assert stand.hub.wake(place) == 0
    expected = [FlowState.WAITING] * 2
    expected[place] = FlowState.READY
    assert (stand.states, stand.ready) == (expected, [stand.hub])
    assert stand.hub.interest(place) == 0
    assert stand.hub.interest(1 - place) == zmq.POLLIN


def test_a_paused_flow_is_not_woken(context: zmq.Context[Socket], implementation: Implementation) -> None:
    stand = Stand(context, implementation)
    stand.work()
    stand.flow.pause(0.0)
    stand.inputs[0].give(b"1")
    assert (stand.hub.wake(0), stand.hub.wake(1)) == (0, 0)
    assert (stand.states, stand.ready) == ([FlowState.PAUSED], [])
    assert stand.work() == 0
    assert stand.flow.pump.received == 0


def test_a_flow_that_moved_and_is_refused_again_begins_a_new_stall(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    narrow = Pipe(context, hwm=1)
    flow = implementation.make_flow(implementation.make_pump(stand.inputs[0].open(), narrow.push), 0, 1)
    hub = implementation.make_hub(stand, stand.ready, (stand.inputs[0].open(), narrow.push), (), (flow,))
    for _ in range(9):
        stand.inputs[0].give(b"1")
    hub.work(MANY, MANY, 10.0)
    assert (flow.state, flow.stalls) == (FlowState.STALLED, 1)
    narrow.open()
    flow.retries = 3
    flow.resume()
    hub.work(MANY, MANY, 12.0)
    assert (flow.state, flow.pump.held, flow.retries, flow.stalls) == (FlowState.STALLED, 1, 0, 2)
    assert 0 < flow.pump.sent < 8
    assert flow.stalled_s(15.0) == 2.0 + 3.0


# An empty message spends nothing of a limit in bytes.
def test_a_draining_flow_takes_no_more_after_an_empty_message(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    stand.inputs[0].give(b"")
    stand.inputs[0].give(b"left in the source")
    stand.work()
    stand.hub.flushing = True
    stand.outputs[0].open()
    stand.flow.resume()
    assert stand.work() == FLUSHED
    assert (stand.flow.pump.received, stand.flow.pump.sent) == (1, 1)


class Asked:
    """A socket at which nothing happens, and which counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def getsockopt(self, option: int) -> int:
        assert option == zmq.EVENTS
        self.times += 1
        return 0


# ZMQ_EVENTS costs a system call or two: the Python hub, like its native twin, asks only where somebody waits.
def test_only_what_somebody_waits_for_is_settled(context: zmq.Context[Socket]) -> None:
    source, sink = Asked(), Asked()
    places: Any = {"port_0": source, "port_1": sink}
    stand = Stand(context, choose_implementation("python"), **places)
    for _ in range(3):
        stand.inputs[0].give(b"1")
    stand.work(0.0, 1)  # refused: it waits for the sink
    assert (source.times, sink.times) == (0, 1)
    stand.outputs[0].open()
    stand.flow.resume()
    stand.work(0.0, 1)  # the limit is spent: it waits for nothing
    assert (stand.states, source.times, sink.times) == ([FlowState.READY], 0, 1)
    stand.work()  # the source was read dry, which settles it
    assert (stand.states, source.times, sink.times) == ([FlowState.WAITING], 0, 1)
    stand.work()  # for the sake of another flow
    assert (source.times, sink.times) == (1, 1)
    stand.hub.wake(1)
    assert (source.times, sink.times) == (1, 2)


@pytest.mark.parametrize(
    ("states", "interests"),
    [
        ((FlowState.STALLED, FlowState.PAUSED), (0, zmq.POLLOUT | zmq.POLLERR)),
        ((FlowState.PAUSED, FlowState.STALLED), (zmq.POLLOUT | zmq.POLLERR, 0)),
        ((FlowState.STALLED, FlowState.WAITING), (0, zmq.POLLOUT | zmq.POLLIN)),
        ((FlowState.WAITING, FlowState.STALLED), (zmq.POLLIN | zmq.POLLOUT, 0)),
    ],
)
def test_a_port_is_watched_for_both_of_its_flows(
    context: zmq.Context[Socket], implementation: Implementation, states: tuple[int, int], interests: tuple[int, int]
) -> None:
    stand = Stand(context, implementation, 2)
    for flow, state in zip(stand.hub.flows, states, strict=True):
        flow.state = state
    assert (stand.hub.interest(0), stand.hub.interest(1)) == interests


# Each of them, not the first alone: of a broker with registered sockets every one may be closed under the engine.
@pytest.mark.parametrize("closed", [0, 1, 2])
@pytest.mark.parametrize("touch", [lambda hub: hub.work(MANY, MANY, 0.0), lambda hub: hub.wake(0)])
def test_every_guarded_socket_is_looked_at(
    context: zmq.Context[Socket], implementation: Implementation, closed: int, touch: Callable[[Hub], int]
) -> None:
    stand = Stand(context, implementation)
    guarded = tuple(context.socket(zmq.PAIR) for _ in range(3))
    sockets = (stand.inputs[0].open(), stand.outputs[0].push)
    hub = implementation.make_hub(stand, stand.ready, sockets, guarded, tuple(stand.hub.flows))
    stand.inputs[0].give(b"1")
    guarded[closed].close()
    with pytest.raises(zmq.ZMQError) as raised:
        touch(hub)
    assert raised.value.errno == zmq.ENOTSOCK
    assert (stand.flow.pump.received, stand.ready) == (0, [])
