"""Routes with several sinks: a tee, `To`, what a full sink holds up, and how each message is accounted for."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from pollbroker import Device, Engine, FlowStatistics, Message, Route, To
from pollbroker.pump import Handler
from tests.support.deadline import wait_until
from tests.support.turns import turn_until_idle
from tests.support.types import Connect, MakeEngine, Socket

A_OR_B = ("a", "b")


@pytest.fixture
def engine(make_engine: MakeEngine, context: zmq.Context[Socket]) -> Engine:
    """An engine that runs in a thread of its own, in the context of the test's sockets."""
    engine = make_engine(context)
    engine.start()
    return engine


@pytest.fixture
def stepped(make_engine: MakeEngine, context: zmq.Context[Socket]) -> Engine:
    """An engine in the same context, which the test steps."""
    return make_engine(context)


def fan_out(via: Handler | None = None) -> Device:
    """From one PULL to two PUSHes."""
    return Device(
        "fan-out",
        ports={"intake": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUSH},
        routes=[Route("intake", A_OR_B, via)],
    )


def by_first_letter(message: list[bytes]) -> To:
    """To the sink that the message begins with."""
    return To(message[0][:1].decode(), message)


def open_fan_out(engine: Engine, via: Handler | None = None, **given: Any) -> None:
    """A broker whose sinks take one message each from libzmq's point of view, before a consumer is there."""
    device = fan_out(via)
    engine.add("f", device, **addresses(device), options={"a": {"sndhwm": 1}, "b": {"sndhwm": 1}}, **given)


def addresses(device: Device) -> dict[str, Any]:
    """An inproc address for each port, which is named like it."""
    return {port: f"inproc://{port}" for port in device.ports}


def connect_to_fan_out(connect: Connect) -> tuple[Socket, Socket, Socket]:
    """A producer, and a consumer at each of the two sinks."""
    return connect(zmq.PUSH, "inproc://intake"), connect(zmq.PULL, "inproc://a"), connect(zmq.PULL, "inproc://b")


def flow_of(engine: Engine) -> FlowStatistics:
    return engine.broker_statistics("f").flows["intake"]


def balances(flow: FlowStatistics) -> bool:
    return flow.received + flow.added == flow.sent + flow.held + flow.dropped


def received(socket: Socket) -> list[bytes]:
    """Receive all messages that are there now; each has one frame."""
    messages = []
    while socket.poll(0):
        messages.append(socket.recv())
    return messages


def test_messages_go_to_the_sink_that_a_handler_names(engine: Engine, connect: Connect) -> None:
    open_fan_out(engine, by_first_letter)
    producer, a, b = connect_to_fan_out(connect)
    for number in range(100):
        producer.send_multipart([b"ab"[number % 2 :][:1] + b"%d" % number, b"", b"body"])
    for number in range(0, 100, 2):
        assert a.recv_multipart() == [b"a%d" % number, b"", b"body"]
        assert b.recv_multipart() == [b"b%d" % (number + 1), b"", b"body"]
    flow = flow_of(engine)
    assert (flow.received, flow.sent, flow.added, flow.sinks) == (100, 100, 0, A_OR_B)


@pytest.mark.parametrize("via", [None, lambda message: message, lambda message: (one for one in [message])])
def test_plain_message_goes_to_every_sink(engine: Engine, connect: Connect, via: Handler | None) -> None:
    open_fan_out(engine, via)
    producer, a, b = connect_to_fan_out(connect)
    for number in range(50):
        producer.send_multipart([b"%d" % number, b"body"])
    for number in range(50):
        assert a.recv_multipart() == b.recv_multipart() == [b"%d" % number, b"body"]
    flow = flow_of(engine)
    assert (flow.received, flow.sent, flow.added, flow.held, flow.dropped) == (50, 100, 50, 0, 0)


def test_one_message_may_become_several_for_different_sinks(engine: Engine, connect: Connect) -> None:
    def split(message: list[bytes]) -> Iterator[Message | To]:
        yield To("b", [b"first"])
        yield message
        yield To("a", (b"last", b"frame"))

    open_fan_out(engine, split)
    producer, a, b = connect_to_fan_out(connect)
    producer.send(b"all")
    assert [a.recv_multipart() for _ in range(2)] == [[b"all"], [b"last", b"frame"]]
    assert [b.recv_multipart() for _ in range(2)] == [[b"first"], [b"all"]]
    flow = flow_of(engine)
    assert (flow.received, flow.added, flow.sent) == (1, 3, 4)


def test_full_sink_holds_up_its_route_and_keeps_nothing_from_the_other_sink(stepped: Engine, connect: Connect) -> None:
    engine = stepped
    open_fan_out(engine)
    producer, b = connect(zmq.PUSH, "inproc://intake"), connect(zmq.PULL, "inproc://b")
    for number in range(5):
        producer.send(b"%d" % number)
    turn_until_idle(engine)
    flow = flow_of(engine)  # nobody takes from a: its first message is held, and b has its copy
    assert (flow.state, flow.received, flow.sent, flow.held, flow.stalls) == ("stalled", 1, 1, 1, 1)
    assert received(b) == [b"0"]
    before = engine.statistics().turns
    engine.step(0.2)
    assert engine.statistics().turns == before + 1  # and it sleeps meanwhile, though b has room
    a = connect(zmq.PULL, "inproc://a")
    wait_until(lambda: flow_of(engine).sent == 10, engine=engine)
    assert (received(a), received(b)) == ([b"%d" % n for n in range(5)], [b"%d" % n for n in range(1, 5)])
    assert balances(flow_of(engine))


def test_message_for_a_full_sink_is_held_and_those_behind_it_wait(stepped: Engine, connect: Connect) -> None:
    engine = stepped
    open_fan_out(engine, by_first_letter)
    producer, b = connect(zmq.PUSH, "inproc://intake"), connect(zmq.PULL, "inproc://b")
    for body in (b"b1", b"a1", b"b2"):
        producer.send(body)
    turn_until_idle(engine)
    flow = flow_of(engine)
    assert (flow.state, flow.received, flow.sent, flow.held) == ("stalled", 2, 1, 1)
    assert received(b) == [b"b1"]
    a = connect(zmq.PULL, "inproc://a")
    wait_until(lambda: flow_of(engine).sent == 3, engine=engine)
    assert (received(a), received(b)) == ([b"a1"], [b"b2"])


def test_other_routes_go_on_while_one_sink_is_full(stepped: Engine, connect: Connect) -> None:
    engine = stepped
    device = Device(
        "two",
        ports={"first": zmq.PULL, "second": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUSH},
        routes=[Route("first", A_OR_B), Route("second", "b")],
    )
    engine.add("f", device, **addresses(device))
    first, second = connect(zmq.PUSH, "inproc://first"), connect(zmq.PUSH, "inproc://second")
    b = connect(zmq.PULL, "inproc://b")
    first.send(b"tee")
    turn_until_idle(engine)
    second.send(b"alone")
    turn_until_idle(engine)
    assert received(b) == [b"tee", b"alone"]
    flows = engine.broker_statistics("f").flows
    assert (flows["first"].state, flows["second"].state) == ("stalled", "waiting")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda message: To("c", message), "the sinks 'a', 'b', or None; it gave To(port='c', frames=[b'x'])"),
        (lambda message: To("intake", message), "one of the sinks 'a', 'b', or None; it gave To"),
        (lambda message: To("a", []), "To('a'): frames is []: expected one or more frames of bytes"),
        (lambda message: (one for one in [To("c", message)]), "one of the sinks 'a', 'b', or None; it gave To"),
        (lambda message: ("a", message), "it gave ('a', "),
    ],
)
def test_wrong_to_drops_its_message_alone(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture, wrong: Callable[[list[bytes]], Any], told: str
) -> None:
    def handle(message: list[bytes]) -> Any:
        return wrong(message) if message == [b"x"] else To("a", message)

    open_fan_out(engine, handle)
    producer, a = connect(zmq.PUSH, "inproc://intake"), connect(zmq.PULL, "inproc://a")
    with caplog.at_level(logging.ERROR, "pollbroker"):
        for _ in range(20):
            producer.send(b"x")
        producer.send(b"good")
        assert a.recv() == b"good"
    (record,) = caplog.records  # once a second
    assert record.exc_info is not None
    assert told in str(record.exc_info[1])
    flow = flow_of(engine)
    assert (flow.received, flow.sent, flow.failed, flow.state) == (21, 1, 20, "waiting")


def test_statistics_tell_what_each_port_was_sent(engine: Engine, connect: Connect) -> None:
    capturing: dict[str, Any] = {"capture": "inproc://capture", "capture_type": zmq.PUSH}
    open_fan_out(engine, by_first_letter, **capturing, capture_prefixes={"intake": b"in"})
    producer, a, b = connect_to_fan_out(connect)
    capture = connect(zmq.PULL, "inproc://capture")
    for message in ([b"a", b"12345"], [b"a"], [b"b", b"", b"1"]):
        producer.send_multipart(message)
        assert capture.recv_multipart() == [b"in", *message]
    assert [a.recv_multipart(), a.recv_multipart(), b.recv_multipart()] == [[b"a", b"12345"], [b"a"], [b"b", b"", b"1"]]
    wait_until(lambda: flow_of(engine).captured == 3)
    ports = engine.broker_statistics("f").ports
    assert {
        name: (port.type, port.received, port.received_frames, port.received_bytes) for name, port in ports.items()
    } == {
        "intake": ("PULL", 3, 6, 9),
        "a": ("PUSH", 0, 0, 0),
        "b": ("PUSH", 0, 0, 0),
        "capture": ("PUSH", 0, 0, 0),
    }
    assert {name: (port.sent, port.sent_frames, port.sent_bytes) for name, port in ports.items()} == {
        "intake": (0, 0, 0),
        "a": (2, 3, 7),
        "b": (1, 3, 2),
        "capture": (3, 9, 15),
    }
    assert ports["capture"].endpoints == ("inproc://capture",)


def test_statistics_tell_what_was_dropped_at_which_port(engine: Engine, connect: Connect) -> None:
    device = Device(
        "routers",
        ports={"intake": zmq.PULL, "a": zmq.ROUTER, "b": zmq.ROUTER},
        routes=[Route("intake", A_OR_B, by_first_letter)],
        options={"a": {"router_mandatory": 1}, "b": {"router_mandatory": 1}},
    )
    engine.add("f", device, **addresses(device), capture="inproc://c")
    producer = connect(zmq.PUSH, "inproc://intake")
    for peer in (b"a-nobody", b"b-nobody", b"b-nobody"):
        producer.send_multipart([peer, b"body"])
    wait_until(lambda: flow_of(engine).unroutable == 3)
    ports = engine.broker_statistics("f").ports
    assert {name: (port.sent, port.dropped) for name, port in ports.items()} == {
        "intake": (0, 0),
        "a": (0, 1),
        "b": (0, 2),
        "capture": (0, 0),
    }


def test_router_before_several_dealers_sends_each_reply_to_its_client(engine: Engine, connect: Connect) -> None:
    device = Device(
        "shards",
        ports={"frontend": zmq.ROUTER, "a": zmq.DEALER, "b": zmq.DEALER},
        routes=[
            Route("frontend", A_OR_B, via=lambda message: To("a" if message[-1] < b"m" else "b", message)),
            Route("a", "frontend"),
            Route("b", "frontend"),
        ],
        options={"frontend": {"router_mandatory": 1}},
    )
    broker = engine.add("shards", device, frontend="tcp://127.0.0.1:*", a="inproc://a", b="inproc://b")
    workers = {shard: connect(zmq.REP, f"inproc://{shard}") for shard in A_OR_B}
    clients = [connect(zmq.REQ, broker.frontend.endpoint) for _ in range(3)]
    for number, client in enumerate(clients):
        for word, shard in ((b"apple", "a"), (b"pear", "b")):
            client.send_multipart([b"%d" % number, word])
            request = workers[shard].recv_multipart()
            workers[shard].send_multipart([*request, shard.encode()])
            assert client.recv_multipart() == [b"%d" % number, word, shard.encode()]


# -- any plan, any order of events ------------------------------------------------------------------------------------

DESTINATIONS = ("a", "b", "c")
destination = st.sampled_from(["every", *DESTINATIONS])
result = st.one_of(
    destination,
    st.lists(destination, max_size=4),  # a generator of them
    st.sampled_from(["nothing", "unknown", "raise"]),
)
"""What the handler makes of a message: the key of what `Planned` does."""

event = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 4)),
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(st.sampled_from(DESTINATIONS), st.integers(1, 3)),
)


class Planned:
    """A handler that follows a plan, and knows which messages each sink has to be sent."""

    def __init__(self, results: list[Any]) -> None:
        self.results = results
        self.calls = 0
        self.expected: dict[str, list[bytes]] = {port: [] for port in DESTINATIONS}

    def __call__(self, message: list[bytes]) -> Any:
        what = self.results[self.calls % len(self.results)]
        self.calls += 1
        if isinstance(what, list):
            return (self._made(one, [b"%s.%d" % (message[0], number)]) for number, one in enumerate(what))
        if what == "raise":
            raise ValueError(what)
        if what in ("nothing", "unknown"):
            return None if what == "nothing" else To("intake", message)
        return self._made(what, message)

    def _made(self, what: str, message: list[bytes]) -> Any:
        for port in DESTINATIONS if what == "every" else (what,):
            self.expected[port] += message
        return message if what == "every" else To(what, message)


@pytest.mark.parametrize("waiter", ["nested", "flat"])
@pytest.mark.parametrize("pump", ["native", "python"])
@settings(max_examples=60)
@given(results=st.lists(result, min_size=1, max_size=8), events=st.lists(event, max_size=40), burst=st.integers(1, 5))
def test_every_sink_gets_its_messages_once_and_in_order(
    pump: str, waiter: str, results: list[Any], events: list[tuple[str, int]], burst: int
) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    handler = Planned(results)
    device = Device(
        "planned",
        ports={"intake": zmq.PULL, **dict.fromkeys(DESTINATIONS, zmq.PUSH)},
        routes=[Route("intake", DESTINATIONS, handler)],
    )
    peers: dict[str, Socket] = {}
    engine = Engine(context, pump=pump, waiter=waiter, burst_messages=burst)
    try:
        engine.add("f", device, **addresses(device), options={port: {"sndhwm": 1} for port in DESTINATIONS})
        for port in device.ports:
            peers[port] = context.socket(zmq.PUSH if port == "intake" else zmq.PULL)
            peers[port].rcvhwm = 1
            peers[port].connect(f"inproc://{port}")
        sent = 0
        taken: dict[str, list[bytes]] = {port: [] for port in DESTINATIONS}
        for what, count in events:
            for _ in range(count):
                if what == "send":
                    peers["intake"].send(b"%d" % sent)
                    sent += 1
                elif what == "turn":
                    engine.step(0)
                    assert balances(flow_of(engine))
                elif peers[what].poll(0):
                    taken[what].append(peers[what].recv())

        def all_is_through() -> bool:
            for port in DESTINATIONS:
                taken[port] += received(peers[port])
            return handler.calls == sent and taken == handler.expected and flow_of(engine).state == "waiting"

        wait_until(all_is_through, engine=engine)
        flow = flow_of(engine)
        assert balances(flow)
        assert (flow.received, flow.held) == (sent, 0)
        assert flow.sent == sum(map(len, taken.values()))
    finally:
        for peer in peers.values():
            peer.close(linger=0)
        engine.close(timeout_s=0)
        context.term()
