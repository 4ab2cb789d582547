"""A broker without a loop: which ports it has watched, when it asks for a retry, and how it ends."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import QUEUE, REFLECTOR, STREAMER, Device, DeviceError, Route
from pollbroker.events import EventSource
from pollbroker.loop_access import LoopAccess
from pollbroker.monitors import Monitors
from pollbroker.port import WorkingPort
from pollbroker.pump import FLUSHED, PYTHON, RETRY, FlowState, Hub, Implementation, Pump
from pollbroker.reader import Readers
from pollbroker.states import BrokerState
from pollbroker.timers import Handle
from pollbroker.waiting.flat import FlatWaiter
from pollbroker.working import WorkingBroker
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, Socket

# -- what it is --------------------------------------------------------------------------------------------------------


class Around:
    """A fake of the loop, for one broker. It records the broker's calls, and its clock stands still."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.ready: list[Hub] = []
        self.watched: list[tuple[Hub, int, WorkingPort]] = []
        self.unwatched: list[WorkingPort] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.ended: list[WorkingBroker] = []
        events = EventSource()
        self.loop_access = LoopAccess(
            self.ready,
            self.watch,
            self.unwatched.append,
            self.later,
            partial(self.later, 0.0),
            lambda: self.now_s,
            lambda: pytest.fail("nothing here is the wire's"),
            events,
            Monitors(
                Readers(FlatWaiter(zmq.Poller(), 0.0), PYTHON, engine_id=None),
                events,
                list,
                partial(self.later, 0.0),
                lambda: self.now_s,
            ),
        )

    def watch(self, hub: Hub, place: int, port: WorkingPort) -> None:
        self.watched.append((hub, place, port))

    def later(self, delay_s: float, call: Callable[[], None]) -> Handle:
        self.timers.append((delay_s, call))
        return Handle(delay_s, call)

    def work(self, broker: WorkingBroker, messages: int = 1000) -> None:
        """Do what the loop does with a hub that is ready."""
        self.ready.clear()
        broker.carry_out(broker.hub.work(messages, 1 << 30, self.now_s))


@pytest.fixture
def around() -> Around:
    return Around()


@pytest.fixture
def make(context: zmq.Context[Socket], implementation: Implementation, around: Around) -> Callable[..., WorkingBroker]:
    """Makes brokers on sockets of the test's own, which are bound at `inproc://frontend` and so on."""

    def make(
        device: Device = STREAMER, *, owned: bool = False, capture: WorkingPort | None = None, **options: Any
    ) -> WorkingBroker:
        ports: dict[str, WorkingPort] = {}
        for name, types in device.ports.items():
            socket = context.socket(types[0])
            socket.linger = 0
            socket.bind(f"inproc://{name}")
            ports[name] = WorkingPort(name, socket, owned=owned)
        if capture is not None:
            ports["capture"] = capture
        given: dict[str, Any] = {
            "implementation": implementation,
            "prefixes": {},
            "loop_access": around.loop_access,
            "on_end": around.ended.append,
        }
        return WorkingBroker("b", device, ports, **{**given, **options})

    return make


def stalled(make: Callable[..., WorkingBroker], around: Around, connect: Connect) -> WorkingBroker:
    """A streamer whose sink is full. It holds one message, and another is in its source."""
    broker = make()
    broker.start()
    producer = connect(zmq.PUSH, "inproc://frontend")
    producer.send(b"held")
    producer.send(b"next")
    around.work(broker)
    assert broker.hub.flows[0].state == FlowState.STALLED
    return broker


def test_broker_of_one_socket_has_no_backend(make: Callable[..., WorkingBroker]) -> None:
    broker = make(REFLECTOR)
    assert broker.ports == broker.watched_ports == (broker.port("frontend"),)
    with pytest.raises(DeviceError, match=r"^brokers\.b: it has no backend; its ports are: frontend$"):
        _ = broker.port("backend")


def test_capture_socket_is_a_port_at_which_nothing_happens(
    make: Callable[..., WorkingBroker], context: zmq.Context[Socket], around: Around
) -> None:
    capture = WorkingPort("capture", context.socket(zmq.PUB), owned=False)
    broker = make(capture=capture)
    assert broker.ports == (broker.port("frontend"), broker.port("backend"), capture)
    assert broker.watched_ports == (broker.port("frontend"), broker.port("backend"))
    broker.start()
    assert around.watched == [(broker.hub, 0, broker.port("frontend")), (broker.hub, 1, broker.port("backend"))]
    broker.end_removal()
    assert around.unwatched == [broker.port("frontend"), broker.port("backend")]


def test_flows_run_between_the_ports_of_their_routes(make: Callable[..., WorkingBroker]) -> None:
    broker = make(QUEUE)
    assert [(flow.source, flow.sinks) for flow in broker.hub.flows] == [(0, (1,)), (1, (0,))]
    statistics = broker.statistics()
    assert {name: (flow.source, flow.sinks) for name, flow in statistics.flows.items()} == {
        "frontend": ("frontend", ("backend",)),
        "backend": ("backend", ("frontend",)),
    }
    assert (statistics.name, statistics.device, statistics.state, statistics.error) == ("b", "queue", "running", None)


def test_handler_is_called_on_its_own_route_alone(
    make: Callable[..., WorkingBroker], around: Around, connect: Connect
) -> None:
    routes = (Route("frontend", "backend", lambda frames: [*frames, b"seen"]), Route("backend", "frontend"))
    broker = make(Device("half", zmq.DEALER, zmq.DEALER, routes))
    left, right = connect(zmq.DEALER, "inproc://frontend"), connect(zmq.DEALER, "inproc://backend")
    left.send(b"there")
    right.send(b"back")
    around.work(broker)
    assert right.recv_multipart() == [b"there", b"seen"]
    assert left.recv_multipart() == [b"back"]


class Recorded:
    """The Python implementation under another name. It records what it is asked to make."""

    def __init__(self) -> None:
        self.hubs: list[tuple[Any, ...]] = []
        self.pumps: list[dict[str, Any]] = []
        self.sendings: list[tuple[Any, ...]] = []
        self.implementation = replace(
            PYTHON,
            name="recorded",
            make_hub=self.make_hub,
            make_pump=self.make_pump,
            make_sender=self.make_sender,
        )

    def make_hub(self, *arguments: Any) -> Hub:
        self.hubs.append(arguments)
        return PYTHON.make_hub(*arguments)

    def make_pump(self, source: Socket, sink: Socket, /, **options: Any) -> Pump:
        self.pumps.append({"source": source, "sink": sink, **options})
        return PYTHON.make_pump(source, sink, **options)

    def make_sender(self, *arguments: Any) -> Any:
        self.sendings.append(arguments)
        return PYTHON.make_sender(*arguments)


# The hub of a broker with a handler is the Python one, whichever pump moves the messages of its other routes.
def test_hub_is_the_pumps_unless_a_handler_is_called(make: Callable[..., WorkingBroker], around: Around) -> None:
    recorded = Recorded()
    broker = make(QUEUE, implementation=recorded.implementation)
    ((owner, ready, sockets, checked_sockets, flows),) = recorded.hubs
    assert (owner, ready, flows) == (broker, around.ready, broker.hub.flows)
    assert sockets == (broker.port("frontend").sync_socket, broker.port("backend").sync_socket)
    assert checked_sockets is sockets  # a thousand brokers need not keep both
    assert len(recorded.pumps) == 2


PREFIXES = {"frontend": b"there", "backend": b"back"}


@pytest.mark.parametrize(("policy", "drop"), [("drop", True), ("wait", False)])
def test_hub_of_a_handler_is_the_python_one_and_its_sending_the_pumps(
    make: Callable[..., WorkingBroker], context: zmq.Context[Socket], policy: Any, drop: bool
) -> None:
    recorded = Recorded()
    capture = WorkingPort("capture", context.socket(zmq.PUB), owned=False)
    routes = (Route("frontend", "backend", lambda frames: frames), Route("backend", "frontend"))
    device = Device("half", zmq.DEALER, zmq.DEALER, routes, slow_peer=policy)
    broker = make(
        device,
        implementation=recorded.implementation,
        capture=capture,
        prefixes=PREFIXES,
    )
    assert (recorded.hubs, len(recorded.pumps)) == ([], 1)
    assert recorded.sendings == [(broker.port("backend").sync_socket, capture.sync_socket, b"there", drop)]


def test_capture_socket_is_checked_too(make: Callable[..., WorkingBroker], context: zmq.Context[Socket]) -> None:
    recorded = Recorded()
    capture = WorkingPort("capture", context.socket(zmq.PUB), owned=False)
    broker = make(
        QUEUE,
        implementation=recorded.implementation,
        capture=capture,
        prefixes=PREFIXES,
    )
    ((_, _, sockets, checked_sockets, _),) = recorded.hubs
    assert sockets == (broker.port("frontend").sync_socket, broker.port("backend").sync_socket)
    assert checked_sockets == (broker.port("frontend").socket, broker.port("backend").socket, capture.socket)
    assert [(pump["capture"], pump["prefix"]) for pump in recorded.pumps] == [
        (capture.sync_socket, b"there"),
        (capture.sync_socket, b"back"),
    ]


PREFIXES = {"frontend": b"there", "backend": b"back"}


@pytest.mark.parametrize(("policy", "drop"), [("drop", True), ("wait", False)])
def test_slow_peer_policy_is_the_one_of_the_device(make: Callable[..., WorkingBroker], policy: Any, drop: bool) -> None:
    recorded = Recorded()
    make(
        Device("slow", zmq.PULL, zmq.ROUTER, (Route("frontend", "backend"),), slow_peer=policy),
        implementation=recorded.implementation,
    )
    assert [pump["drop_slow_peer"] for pump in recorded.pumps] == [drop]


# -- beginning ---------------------------------------------------------------------------------------------------------


def test_broker_tries_every_flow_at_its_start(make: Callable[..., WorkingBroker], around: Around) -> None:
    broker = make()
    assert (around.ready, broker.idle) == ([], False)
    broker.start()
    assert around.ready == [broker.hub]
    around.work(broker)
    assert (around.ready, broker.idle) == ([], True)


@pytest.mark.parametrize("owned", [False, True])
def test_broker_that_cannot_be_watched_is_as_if_it_had_never_been(
    make: Callable[..., WorkingBroker], around: Around, owned: bool
) -> None:
    def watch_one(hub: Hub, place: int, port: WorkingPort) -> None:
        around.watch(hub, place, port)
        if place == 1:
            raise RuntimeError("no more")

    loop_access = replace(around.loop_access, watch=watch_one)
    broker = make(owned=owned, loop_access=loop_access)
    with pytest.raises(RuntimeError, match="no more"):
        broker.start()
    assert (around.unwatched, around.ready) == ([broker.port("frontend")], [])
    assert broker.port("frontend").socket.closed == broker.port("backend").socket.closed == owned


# -- trying again ------------------------------------------------------------------------------------------------------


def test_retries_are_twice_as_far_apart_each_time_up_to_a_bound(
    make: Callable[..., WorkingBroker], around: Around, connect: Connect
) -> None:
    broker = stalled(make, around, connect)
    (flow,) = broker.hub.flows
    for number in range(12):
        flow.state = FlowState.RETRYING
        for _ in range(2):  # one timer is enough
            broker.carry_out(RETRY)
        ((delay_s, retry),) = around.timers
        assert delay_s == min(0.0005 * 2**number, 0.02)
        assert (broker.retries.waiting, flow.retries) == ((flow,), number + 1)
        around.timers.clear()
        around.ready.clear()
        retry()
        assert (broker.retries.waiting, flow.state, around.ready) == ((), FlowState.READY, [broker.hub])
        around.work(broker)  # in vain: the sink is full
        assert flow.retries == number + 1


def test_only_flows_that_retry_are_retried(make: Callable[..., WorkingBroker], around: Around) -> None:
    broker = make(QUEUE)
    _, second = broker.hub.flows
    second.state = FlowState.RETRYING
    broker.carry_out(0)
    assert around.timers == []
    broker.carry_out(RETRY)
    assert (broker.retries.waiting, len(around.timers)) == ((second,), 1)


def test_retry_that_comes_too_late_changes_nothing(
    make: Callable[..., WorkingBroker], around: Around, connect: Connect
) -> None:
    broker = stalled(make, around, connect)
    (flow,) = broker.hub.flows
    flow.state = FlowState.RETRYING
    broker.carry_out(RETRY)
    ((_, retry),) = around.timers
    broker.pause()
    around.ready.clear()
    retry()
    assert (broker.retries.waiting, flow.state, around.ready) == ((), FlowState.PAUSED, [])


def test_message_that_comes_wakes_its_flow_and_leaves_the_broker_nothing_to_do(
    make: Callable[..., WorkingBroker], around: Around, connect: Connect
) -> None:
    broker = make()
    around.work(broker)
    connect(zmq.PUSH, "inproc://frontend").send(b"x")
    assert broker.hub.wake(0) == 0
    assert (around.ready, broker.hub.flows[0].state) == ([broker.hub], FlowState.READY)


# -- pausing -----------------------------------------------------------------------------------------------------------


def test_pause_ends_a_stall_and_resumption_tries(
    make: Callable[..., WorkingBroker], around: Around, connect: Connect
) -> None:
    broker = stalled(make, around, connect)
    around.now_s = 3.0
    broker.pause()
    assert (broker.state, broker.statistics().flows["frontend"].state) == ("paused", "paused")
    around.now_s = 10.0
    broker.pause()
    assert broker.statistics().flows["frontend"].stalled_s == 3.0
    assert around.ready == []
    broker.resume()
    assert (broker.state, around.ready) == ("running", [broker.hub])
    around.work(broker)
    around.now_s = 12.0
    flow = broker.statistics().flows["frontend"]
    assert (flow.state, flow.stalls, flow.stalled_s) == ("stalled", 2, 5.0)


def test_running_broker_is_not_resumed(make: Callable[..., WorkingBroker], around: Around, connect: Connect) -> None:
    broker = stalled(make, around, connect)
    broker.resume()
    assert (around.ready, broker.hub.flows[0].state) == ([], FlowState.STALLED)


def test_only_flows_that_wait_are_looked_at_again(
    make: Callable[..., WorkingBroker], around: Around, connect: Connect
) -> None:
    broker = make(QUEUE)
    broker.recheck_sources()
    assert around.ready == []
    around.work(broker)
    broker.recheck_sources()
    assert (around.ready, broker.idle) == ([broker.hub], False)


# -- ending ------------------------------------------------------------------------------------------------------------


def test_broker_that_holds_nothing_is_removed_at_once(make: Callable[..., WorkingBroker], around: Around) -> None:
    broker = make(owned=True)
    broker.start()
    removed = broker.removed
    assert not removed.done()
    broker.begin_removal()
    assert (broker.state, around.ended) == (BrokerState.REMOVED, [broker])
    assert removed.result(0).state == "removed"
    assert broker.removed is removed
    assert broker.port("frontend").socket.closed
    assert broker.port("backend").socket.closed
    for end in (broker.begin_removal, broker.end_removal, broker.check_alive):
        end()
    assert around.ended == [broker]


def test_future_that_is_asked_for_afterwards_is_resolved(make: Callable[..., WorkingBroker]) -> None:
    broker = make()
    broker.end_removal()
    assert broker.removed.result(0) == broker.statistics()


@pytest.mark.parametrize("paused", [False, True])
def test_what_is_held_is_sent_before_the_end_and_no_more(
    make: Callable[..., WorkingBroker], around: Around, connect: Connect, paused: bool
) -> None:
    broker = stalled(make, around, connect)
    if paused:
        broker.pause()
    broker.begin_removal()
    assert (broker.state, around.ready) == ("removing", [broker.hub])
    broker.pause()
    assert broker.state == "removing"
    consumer = connect(zmq.PULL, "inproc://backend")

    def gone() -> bool:
        around.work(broker)
        return bool(around.ended)

    wait_until(gone)
    flow = broker.removed.result(0).flows["frontend"]
    assert (flow.received, flow.sent, flow.held, flow.state) == (1, 1, 0, "ended")
    assert consumer.recv() == b"held"
    assert not consumer.poll(0)


def test_removal_whose_time_is_over_leaves_what_is_held(
    make: Callable[..., WorkingBroker], around: Around, connect: Connect
) -> None:
    broker = stalled(make, around, connect)
    broker.begin_removal()
    around.now_s = 4.0
    broker.end_removal()
    around.now_s = 9.0
    flow = broker.removed.result(0).flows["frontend"]
    assert (broker.state, flow.held, flow.sent, flow.state, flow.stalled_s) == ("removed", 1, 0, "ended", 4.0)
    assert broker.statistics().flows["frontend"].stalled_s == 4.0


def test_drained_hub_is_the_brokers_end(make: Callable[..., WorkingBroker], around: Around, connect: Connect) -> None:
    broker = stalled(make, around, connect)
    broker.carry_out(FLUSHED)  # as in a pause that flushes
    assert (broker.state, around.ended) == ("running", [])
    broker.begin_removal()
    assert (broker.state, around.ended) == ("removing", [])
    broker.carry_out(FLUSHED)
    assert (broker.state, around.ended) == ("removed", [broker])


def test_closed_socket_is_a_failure_that_is_named(make: Callable[..., WorkingBroker], around: Around) -> None:
    broker = make()
    broker.check_alive()
    assert broker.state == "running"
    broker.port("backend").socket.close()
    broker.fail(zmq.ZMQError(zmq.ENOTSOCK))
    assert (broker.state, around.ended) == ("failed", [broker])
    assert broker.statistics().error == "backend: the socket was closed under the engine"
    broker.fail(zmq.ZMQError(zmq.EFAULT))
    assert broker.statistics().error == "backend: the socket was closed under the engine"


def test_other_errors_are_failures_too(make: Callable[..., WorkingBroker]) -> None:
    broker = make()
    error = zmq.ZMQError(zmq.EFAULT)
    broker.fail(error)
    assert (broker.state, broker.error, broker.statistics().error) == ("failed", error, "Bad address")


def test_end_of_the_context_is_an_orderly_end(implementation: Implementation, around: Around) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    producer, frontend, backend = (context.socket(kind) for kind in (zmq.PUSH, zmq.PULL, zmq.PUSH))
    frontend.bind("inproc://frontend")
    producer.connect("inproc://frontend")
    producer.send(b"held")
    broker = WorkingBroker(
        "b",
        STREAMER,
        {
            "frontend": WorkingPort("frontend", frontend, owned=False),
            "backend": WorkingPort("backend", backend, owned=False),
        },
        implementation=implementation,
        prefixes={},
        loop_access=around.loop_access,
        on_end=around.ended.append,
    )
    around.work(broker)
    broker.begin_removal()
    broker.hub.flows[0].resume()
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()

    def ended() -> bool:
        broker.offer_held_messages()
        return broker.state == "ended"

    wait_until(ended)
    assert (broker.error, around.ended) == (None, [broker])
    for socket in (producer, frontend, backend):
        socket.close(linger=0)
    ending.join(DEADLINE_MS / 1000)
    assert not ending.is_alive()
