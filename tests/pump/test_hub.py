"""Every hub against the contract: driven directly, on real inproc sockets."""

import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest
import zmq

from pollbroker.pump import EMPTY, FULL, LIMIT, Hub, Implementation
from pollbroker.pump.outcomes import DROPPED, FLUSHED, SENT, FlowState
from tests.support.pipes import MANY, Pipe, Refusing, Stand, take_all
from tests.support.types import MakeEngine, Socket


@pytest.mark.parametrize("limit", [1, MANY])
def test_a_draining_flow_sends_what_it_holds_and_ends(
    context: zmq.Context[Socket], implementation: Implementation, limit: int
) -> None:
    stand = Stand(context, implementation)
    stand.inputs[0].give(b"held")
    stand.inputs[0].give(b"left in the source")
    assert stand.work() == 0
    stand.hub.flushing = True
    sink = stand.outputs[0].open()
    assert stand.work() == 0  # there is room
    assert stand.work(0.0, limit, limit) == FLUSHED
    assert (stand.states, stand.ready, stand.flow.pump.received) == ([FlowState.ENDED], [], 1)
    assert take_all(sink) == [[b"held"]]


@pytest.mark.parametrize("limit", [1, MANY])
def test_a_flow_that_reads_no_more_sends_what_it_holds_and_is_paused(
    context: zmq.Context[Socket], implementation: Implementation, limit: int
) -> None:
    stand = Stand(context, implementation)
    stand.inputs[0].give(b"held")
    stand.inputs[0].give(b"left in the source")
    assert stand.work() == 0
    stand.flow.read_no_more(0.0)
    assert stand.states == [FlowState.STALLED]
    sink = stand.outputs[0].open()
    assert stand.work() == 0  # there is room
    assert stand.work(0.0, limit, limit) == 0
    assert (stand.states, stand.ready, stand.flow.pump.received) == ([FlowState.PAUSED], [], 1)
    assert take_all(sink) == [[b"held"]]
    stand.flow.resume()
    stand.work()
    assert take_all(sink) == [[b"left in the source"]]


def test_a_flow_that_holds_nothing_is_paused_at_once_when_it_is_to_read_no_more(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    stand.flow.read_no_more(0.0)
    assert stand.states == [FlowState.PAUSED]


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


def test_retries_are_counted_anew_when_a_message_has_moved(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Refusing(context, implementation)
    stand.work()
    stand.flow.retries = 3
    stand.flow.resume()
    stand.work()
    assert stand.flow.retries == 3
    stand.outputs[0].open()
    stand.flow.resume()
    stand.work()
    assert stand.flow.retries == 0


@pytest.mark.parametrize(
    ("state", "interest"),
    [
        (FlowState.READY, (0, 0)),
        (FlowState.WAITING, (zmq.POLLIN, 0)),
        (FlowState.STALLED, (0, zmq.POLLOUT)),
        (FlowState.RETRYING, (0, 0)),
        (FlowState.PAUSED, (zmq.POLLERR, 0)),
        (FlowState.ENDED, (0, 0)),
    ],
)
def test_a_port_is_watched_for_what_can_wake_its_flow(
    context: zmq.Context[Socket], implementation: Implementation, state: FlowState, interest: tuple[int, int]
) -> None:
    stand = Stand(context, implementation)
    stand.flow.state = state
    assert (stand.hub.interest(0), stand.hub.interest(1)) == interest


def test_an_ended_hub_touches_nothing(context: zmq.Context[Socket], implementation: Implementation) -> None:
    stand = Stand(context, implementation)
    stand.hub.end(0.0)
    stand.guard.close()
    assert (stand.work(), stand.hub.wake(0), stand.hub.wake(1)) == (0, 0, 0)
    stand.hub.flushing = True
    assert (stand.work(), stand.hub.wake(0), stand.hub.wake(1)) == (0, 0, 0)


@pytest.mark.parametrize("touch", [lambda hub: hub.work(1, 1, 0.0), lambda hub: hub.wake(0), lambda hub: hub.wake(1)])
def test_a_closed_socket_is_found_before_anything_is_touched(
    context: zmq.Context[Socket], implementation: Implementation, touch: Callable[[Hub], int]
) -> None:
    stand = Stand(context, implementation)
    stand.inputs[0].give(b"1")
    stand.guard.close()
    with pytest.raises(zmq.ZMQError) as raised:
        touch(stand.hub)
    assert raised.value.errno == zmq.ENOTSOCK
    assert (stand.flow.pump.received, stand.ready) == (0, [])


def test_a_hub_is_on_the_list_once_and_again_after_its_work(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    for _ in range(2):
        for _ in range(2):
            stand.hub.schedule()
            stand.hub.wake(0)
        assert stand.ready == [stand.hub]
        stand.work()
        assert stand.ready == []


def test_stalls_and_their_time_are_counted(context: zmq.Context[Socket], implementation: Implementation) -> None:
    stand = Stand(context, implementation)
    flow = stand.flow
    stand.inputs[0].give(b"held")
    stand.work(10.0)
    assert (flow.stalls, flow.stalled_s(12.0)) == (1, 2.0)
    flow.resume()
    stand.work(13.0)  # refused again: the same stall
    assert (flow.stalls, flow.stalled_s(14.0)) == (1, 4.0)
    flow.pause(15.0)
    assert (flow.stalls, flow.stalled_s(30.0)) == (1, 5.0)
    flow.resume()
    stand.work(40.0)
    assert (flow.stalls, flow.stalled_s(41.0)) == (2, 6.0)
    stand.outputs[0].open()
    flow.resume()
    stand.work(42.0)
    assert (flow.stalls, flow.stalled_s(50.0)) == (2, 7.0)


def test_the_end_of_a_flow_ends_its_stall(context: zmq.Context[Socket], implementation: Implementation) -> None:
    stand = Stand(context, implementation)
    stand.inputs[0].give(b"held")
    stand.work(10.0)
    stand.hub.end(12.0)
    assert stand.flow.stalled_s(20.0) == 2.0


def test_a_held_message_counts_against_the_limit(context: zmq.Context[Socket], implementation: Implementation) -> None:
    stand = Stand(context, implementation)
    pump = stand.flow.pump
    for _ in range(3):
        stand.inputs[0].give(b"x" * 10)
    assert pump.move(MANY, MANY) == FULL
    stand.outputs[0].open()
    assert pump.move(MANY, 10) == LIMIT
    assert pump.sent == 1
    assert pump.move(MANY, MANY) == EMPTY
    assert pump.sent == 3


def test_a_flow_that_moved_and_is_refused_again_begins_a_new_stall(
    context: zmq.Context[Socket], implementation: Implementation
) -> None:
    stand = Stand(context, implementation)
    narrow = Pipe(context, hwm=1)
    flow = implementation.make_flow(implementation.make_pump(stand.inputs[0].open(), narrow.push), 0, (1,))
    hub = implementation.make_hub(cast(Any, stand), stand.ready, (stand.inputs[0].open(), narrow.push), (), (flow,))
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


# Every socket is checked, since any socket of a broker with registered sockets may be closed under the engine.
@pytest.mark.parametrize("closed", [0, 1, 2])
@pytest.mark.parametrize("touch", [lambda hub: hub.work(MANY, MANY, 0.0), lambda hub: hub.wake(0)])
def test_every_socket_is_checked_to_be_open(
    context: zmq.Context[Socket], implementation: Implementation, closed: int, touch: Callable[[Hub], int]
) -> None:
    stand = Stand(context, implementation)
    checked_sockets = tuple(context.socket(zmq.PAIR) for _ in range(3))
    sockets = (stand.inputs[0].open(), stand.outputs[0].push)
    hub = implementation.make_hub(cast(Any, stand), stand.ready, sockets, checked_sockets, tuple(stand.hub.flows))
    stand.inputs[0].give(b"1")
    checked_sockets[closed].close()
    with pytest.raises(zmq.ZMQError) as raised:
        touch(hub)
    assert raised.value.errno == zmq.ENOTSOCK
    assert (stand.flow.pump.received, stand.ready) == (0, [])


# -- the loop's turn ---------------------------------------------------------------------------------------------------


def test_a_long_turn_ends_early_and_the_next_begins_where_it_ended(
    make_engine: MakeEngine, context: zmq.Context[Socket]
) -> None:
    seconds = itertools.count()
    engine = make_engine(
        context, burst_messages=1, clock=lambda: float(next(seconds))
    )  # each call of the clock returns a second more
    pipes = [(Pipe(context), Pipe(context)) for _ in range(3)]
    for taken, given in pipes:
        taken.give(b"first")
        taken.give(b"second")
        engine.register(taken.open(), given.push, "streamer")
    pulls = [given.open() for _, given in pipes]
    moved = []
    for _ in range(6):
        engine.step()
        moved.append([len(take_all(pull)) for pull in pulls])
    assert moved == [[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 2


# -- the sender and the receiver alone, as the pump of a handler uses them ---------------------------------------------


def test_a_sending_says_what_became_of_a_message(context: zmq.Context[Socket], implementation: Implementation) -> None:
    pipe = Pipe(context)
    sender = implementation.make_sender(pipe.push, None, None, True)
    assert (sender.send([b"1", b"2", b"3"]), sender.sent) == (FULL, 0)
    pull = pipe.open()
    assert (sender.send([b"1", b"2", b"3"]), sender.sent) == (SENT, 1)
    assert (sender.send([b"4"]), sender.sent) == (SENT, 2)
    assert take_all(pull) == [[b"1", b"2", b"3"], [b"4"]]
    router = context.socket(zmq.ROUTER)
    router.router_mandatory = 1
    sender = implementation.make_sender(router, None, None, True)
    assert (sender.send([b"nobody", b"1"]), sender.sent) == (DROPPED, 0)


def test_a_receiver_gives_whole_messages(context: zmq.Context[Socket], implementation: Implementation) -> None:
    pipe = Pipe(context)
    receive = implementation.make_receiver(pipe.open())
    pipe.give(b"1", b"", b"2")
    pipe.give(b"3")
    assert [receive(), receive(), receive()] == [[b"1", b"", b"2"], [b"3"], None]


# More ports than a word has bits. Half of the flows have a sink that is full at first.
def test_hub_has_any_number_of_ports(context: zmq.Context[Socket], implementation: Implementation) -> None:
    count = 70
    inputs, outputs = [Pipe(context) for _ in range(count)], [Pipe(context) for _ in range(count)]
    sockets = tuple(pipe.open() for pipe in inputs) + tuple(pipe.push for pipe in outputs)
    flows = tuple(
        implementation.make_flow(implementation.make_pump(sockets[i], sockets[count + i]), i, (count + i,))
        for i in range(count)
    )
    ready: list[Any] = []
    hub = implementation.make_hub(cast(Any, None), ready, sockets, (), flows)
    for number, pipe in enumerate(inputs):
        pipe.give(b"%d" % number)
    for pipe in outputs[::2]:
        pipe.open()
    assert hub.work(MANY, MANY, 0.0) == 0
    assert [flow.state for flow in flows] == [FlowState.WAITING, FlowState.STALLED] * (count // 2)
    assert [hub.interest(i) for i in range(2 * count)] == [zmq.POLLIN, 0] * (count // 2) + [0, zmq.POLLOUT] * (
        count // 2
    )
    for number in range(1, count, 2):
        outputs[number].open()
        ready.clear()
        assert hub.wake(count + number) == 0
        assert (ready, flows[number].state) == ([hub], FlowState.READY)
        assert hub.work(MANY, MANY, 0.0) == 0
    assert [take_all(pipe.open()) for pipe in outputs] == [[[b"%d" % number]] for number in range(count)]


# The hub asks other sockets than those that the pumps send to, and these have room: so it finds out by settling alone.
def test_every_port_is_settled_after_the_work(context: zmq.Context[Socket], implementation: Implementation) -> None:
    count = 70
    inputs = [Pipe(context) for _ in range(count)]
    full, with_room = Pipe(context), Pipe(context)
    with_room.open()
    flows = tuple(
        implementation.make_flow(implementation.make_pump(pipe.open(), full.push), i, (count + i,))
        for i, pipe in enumerate(inputs)
    )
    sockets = (*(pipe.open() for pipe in inputs), *(with_room.push for _ in inputs))
    ready: list[Any] = []
    hub = implementation.make_hub(cast(Any, None), ready, sockets, (), flows)
    for pipe in inputs:
        pipe.give(b"held")
    hub.work(MANY, MANY, 0.0)
    assert ([flow.state for flow in flows], ready) == ([FlowState.READY] * count, [hub])
