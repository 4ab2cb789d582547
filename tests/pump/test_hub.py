"""Every hub, and what wakes it, against the contract: driven directly, on real inproc sockets.

A hub is told by its owner which sockets stand at its ports. Here some of them are stand-ins: not those that the pumps
move between, but others, of which a test decides what they say. So it shows which of them a hub has asked.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from pollbroker.pump import EMPTY, FULL, LIMIT, Hub, Implementation
from pollbroker.pump.contract import FLUSHED, RETRY, FlowState
from pollbroker.pump.sending import DROPPED, REFUSED, SENT
from pollbroker.waiting import NestedWaiter
from tests.support.deadline import wait_until
from tests.support.types import MakeEngine, Socket

MANY = 1 << 40


class Pipe:
    """A PUSH and a PULL over inproc: `give` makes the PULL readable, and an unconnected PUSH has no room."""

    def __init__(self, context: zmq.Context[Socket], hwm: int = 0) -> None:
        self._context = context
        self._endpoint = f"inproc://{id(self)}"
        self._hwm = hwm
        self.push = self._socket(zmq.PUSH)
        self.push.bind(self._endpoint)
        self.pull: Socket | None = None

    def _socket(self, socket_type: int) -> Socket:
        socket = self._context.socket(socket_type)
        socket.linger = 0
        socket.set_hwm(self._hwm)
        return socket

    def open(self) -> Socket:
        """Connect the PULL: from now on there is room."""
        if self.pull is None:
            self.pull = self._socket(zmq.PULL)
            self.pull.connect(self._endpoint)
            self.push.getsockopt(zmq.EVENTS)
        return self.pull

    def give(self, *frames: bytes) -> None:
        self.open()
        self.push.send_multipart(frames)


class Stand:
    """One flow (port 0 to port 1) or two (back as well) in a hub, and the pipes on both sides.

    `inputs[i]` feeds flow i, `outputs[i]` takes from it. `places` are the sockets that the hub asks; by default those
    of flow 0.
    """

    def __init__(
        self, context: zmq.Context[Socket], implementation: Implementation, flows: int = 1, **places: Socket
    ) -> None:
        self.inputs = [Pipe(context) for _ in range(flows)]
        self.outputs = [Pipe(context) for _ in range(flows)]
        self.ready: list[Any] = []
        self.guard = context.socket(zmq.PAIR)
        made = [
            implementation.make_flow(implementation.make_pump(taken.open(), given.push), i, 1 - i)
            for i, (taken, given) in enumerate(zip(self.inputs, self.outputs, strict=True))
        ]
        self.flow = made[0]
        sockets = (places.get("port_0", self.inputs[0].open()), places.get("port_1", self.outputs[0].push))
        self.hub = implementation.make_hub(self, self.ready, sockets, (self.guard,), tuple(made))

    def work(self, now_s: float = 0.0, messages: int = MANY, size: int = MANY) -> int:
        """What the loop does: take it from the list, and let it work."""
        self.ready.clear()
        return self.hub.work(messages, size, now_s)

    @property
    def states(self) -> list[int]:
        return [flow.state for flow in self.hub.flows]


def received(socket: Socket) -> list[list[bytes]]:
    taken = []
    while socket.poll(0):
        taken.append(socket.recv_multipart())
    return taken


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
    assert received(back) == ([[b"back"]] if touched else [])
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
    assert received(sink) == [[b"held"]]


class Refusing(Stand):
    """A flow that holds a message, whose sink says what the test wants and refuses all the same."""

    def __init__(self, context: zmq.Context[Socket], implementation: Implementation) -> None:
        self.said = Pipe(context, hwm=1)
        super().__init__(context, implementation, port_1=self.said.push)
        self.inputs[0].give(b"held")


def test_a_sink_that_says_room_and_refuses_is_believed_once(
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
    received(said)
    assert stand.hub.wake(1) == 0


def believed_again_for_having_taken_a_message(stand: Refusing) -> None:
    sink = stand.outputs[0].open()
    stand.inputs[0].give(b"next")
    assert stand.work(0.0, 1) == 0
    assert received(sink) == [[b"held"]]
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


def test_a_sending_says_what_became_of_a_message(context: zmq.Context[Socket], implementation: Implementation) -> None:
    pipe = Pipe(context)
    sender = implementation.make_sender(pipe.push, None, None, True)
    assert (sender.send([b"1", b"2", b"3"]), sender.sent) == (REFUSED, 0)
    pull = pipe.open()
    assert (sender.send([b"1", b"2", b"3"]), sender.sent) == (SENT, 1)
    assert (sender.send([b"4"]), sender.sent) == (SENT, 2)
    assert received(pull) == [[b"1", b"2", b"3"], [b"4"]]
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


# -- what wakes it -----------------------------------------------------------------------------------------------------


class CountingPoller(zmq.Poller):
    """Says how often somebody was about to sleep, and never does."""

    slept = 0

    def poll(self, timeout: int | float | None = None) -> list[tuple[Any, int]]:
        self.slept += 1
        return super().poll(0)


@pytest.fixture
def descriptors() -> Iterator[Callable[[], int]]:
    """Makes descriptors that are readable."""
    opened: list[int] = []

    def make() -> int:
        reader, writer = os.pipe()
        opened.extend((reader, writer))
        os.write(writer, b"x")
        return reader

    yield make
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture
def make_waiter(implementation: Implementation) -> Iterator[Callable[..., NestedWaiter]]:
    made: list[NestedWaiter] = []

    def make(spin_s: float = 0.0) -> NestedWaiter:
        made.append(NestedWaiter(CountingPoller(), implementation, spin_s))
        return made[-1]

    yield make
    for waiter in made:
        waiter.close()


@pytest.mark.parametrize("timeout_ms", [0, None])
@pytest.mark.parametrize(
    ("port", "state", "rung", "scheduled"),
    [
        (0, FlowState.WAITING, 0, True),
        (0, FlowState.READY, 0, True),
        (0, FlowState.STALLED, 1, False),
        (1, FlowState.STALLED, 1, True),
        (1, FlowState.WAITING, 1, False),
        (0, FlowState.PAUSED, 1, False),
    ],
)
def test_a_bell_wakes_its_hub(
    context: zmq.Context[Socket],
    implementation: Implementation,
    make_waiter: Callable[..., NestedWaiter],
    descriptors: Callable[[], int],
    timeout_ms: int | None,
    port: int,
    state: FlowState,
    rung: int,
    scheduled: bool,
) -> None:
    stand = Stand(context, implementation)
    stand.outputs[0].open()
    stand.flow.state = state
    calls: list[tuple[Hub, int]] = []

    def wake(hub: Hub, place: int) -> None:
        calls.append((hub, place))
        hub.wake(place)

    waiter = make_waiter()
    waiter.add(descriptors(), stand.hub.on_ready(port, wake))
    others: list[int] = []
    waiter.add(descriptors(), lambda: others.append(1))
    for ring in waiter.wait(timeout_ms):
        ring()
    assert stand.ready == ([stand.hub] if scheduled else [])
    assert len(calls) >= rung  # a native collector may see to a source by itself
    assert all(call == (stand.hub, port) for call in calls)
    assert others == [1]


@pytest.mark.parametrize("something", [False, True])
def test_who_spins_sleeps_only_if_nothing_came(
    make_waiter: Callable[..., NestedWaiter], descriptors: Callable[[], int], something: bool
) -> None:
    waiter = make_waiter(0.001)
    woken: list[int] = []
    if something:
        waiter.add(descriptors(), lambda: woken.append(1))
    for wake in waiter.wait(None):
        wake()
    assert len(woken) == something
    assert waiter._poller.slept == (not something)  # type: ignore[attr-defined]


# -- the loop's turn ---------------------------------------------------------------------------------------------------


def test_a_long_turn_ends_early_and_the_next_begins_where_it_ended(
    make_engine: MakeEngine, context: zmq.Context[Socket]
) -> None:
    seconds = itertools.count()
    engine = make_engine(
        context, burst_messages=1, clock=lambda: float(next(seconds))
    )  # each look at it is a second later
    pipes = [(Pipe(context), Pipe(context)) for _ in range(3)]
    for taken, given in pipes:
        taken.give(b"first")
        taken.give(b"second")
        engine.register(taken.open(), given.push, "streamer")
    pulls = [given.open() for _, given in pipes]
    moved = []
    for _ in range(6):
        engine.step()
        moved.append([len(received(pull)) for pull in pulls])
    assert moved == [[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 2
