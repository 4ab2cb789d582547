"""Routes between ports of any types: by handlers and behaviours, to several sinks, and with copies of what passes."""

from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import BALANCER, QUEUE, STREAMER, Device, Engine, Route, To
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.balancer import BALANCER as OWN_BALANCER
from tests.support.balancer import READY
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, Socket
from tests.support.wire_ports import peer_count
from tests.wire.messages import MESSAGES, receive_many, same
from tests.wire.places import RECEIVERS, SENDERS, add_between, publishes_to

# -- every type --------------------------------------------------------------------------------------------------------


_PAIRS = [(source, sink) for source in SENDERS for sink in RECEIVERS if source != zmq.XSUB or sink == zmq.XPUB]
"""At an XSUB somebody has to subscribe."""


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize(("source", "sink"), _PAIRS, ids=lambda kind: zmq.SocketType(kind).name)
def test_messages_pass_between_ports_of_any_types(
    engine: Engine, connect: Connect, source: zmq.SocketType, sink: zmq.SocketType, bound: bool
) -> None:
    routes = [Route("frontend", "backend")]
    if (source, sink) == (zmq.XSUB, zmq.XPUB):
        routes.append(Route("backend", "frontend"))
    options = {"subscribe": b""} if source == zmq.SUB else {}
    device = Device("any", source, sink, routes, options)
    _, peers = add_between(
        engine, connect, device, {"frontend": [SENDERS[source]], "backend": [RECEIVERS[sink]]},
        bound={"frontend": bound, "backend": bound},
        peer_options={"backend": {"subscribe": b""} if RECEIVERS[sink] == zmq.SUB else {}},
    )  # fmt: skip
    (sender,), (receiver,) = peers.values()
    if zmq.SUB in (RECEIVERS[sink], source):
        wait_until(
            lambda: publishes_to_router(sender, receiver) if source == zmq.ROUTER else publishes_to(sender, receiver)
        )
    expected = [[b"%d" % number, b"", b"x" * number] for number in range(300)]
    for message in expected:
        sender.send_multipart(message)
    received: list[list[bytes]] = []
    while len(received) < len(expected):
        message = receiver.recv_multipart()
        if message[-1] != b"are you there?":
            received.append(message[1:] if source == zmq.ROUTER else message)
    assert received == expected
    wait_until(lambda: balanced(flow_of(engine, "a")) and not flow_of(engine, "a").held)


def publishes_to_router(sender: Socket, receiver: Socket) -> bool:
    sender.send(b"are you there?")
    return bool(receiver.poll(1)) and receiver.recv_multipart()[-1] == b"are you there?"


def test_rep_answers_what_a_handler_gives_back(engine: Engine, connect: Connect) -> None:
    """The answer does not come from a peer, but from the handler. It goes to the client that has asked last."""
    device = Device(
        "answers", ports={"frontend": zmq.REP}, routes=(Route("frontend", "frontend", via=lambda m: m[::-1]),)
    )
    _, peers = add_between(engine, connect, device, {"frontend": [zmq.REQ, zmq.REQ]})
    for number in range(50):
        client = peers["frontend"][number % 2]
        client.send_multipart([b"a", b"%d" % number])
        assert client.recv_multipart() == [b"%d" % number, b"a"]


@pytest.mark.parametrize("bound", [True, False])
def test_rep_and_req_alternate(engine: Engine, connect: Connect, bound: bool) -> None:
    """A broker that is a worker to its clients, and a client to its workers: one request at a time."""
    device = Device("turns", zmq.REP, zmq.REQ, (Route("frontend", "backend"), Route("backend", "frontend")))
    _, peers = add_between(
        engine, connect, device, {"frontend": [zmq.REQ] * 3, "backend": [zmq.REP] * 2},
        bound={"frontend": bound, "backend": bound},
    )  # fmt: skip
    clients, workers = peers.values()
    poller = zmq.Poller()
    for worker in workers:
        poller.register(worker, zmq.POLLIN)
    served = dict.fromkeys(workers, 0)
    for round_number in range(20):
        for number, client in enumerate(clients):
            client.send_multipart([b"%d" % number, b"%d" % round_number])
        for _ in clients:
            ((worker, _),) = poller.poll(2000)  # never two of them
            worker.send_multipart([*worker.recv_multipart(), b"done"])
            served[worker] += 1
        for number, client in enumerate(clients):
            assert client.recv_multipart() == [b"%d" % number, b"%d" % round_number, b"done"]
    assert all(served.values())


def test_router_to_router_by_a_handler(engine: Engine, connect: Connect) -> None:
    def forward(frames: list[bytes]) -> list[bytes]:
        return [b"worker", *frames]

    def back(frames: list[bytes]) -> list[bytes]:
        return frames[1:]

    device = Device(
        "post",
        zmq.ROUTER,
        zmq.ROUTER,
        (Route("frontend", "backend", via=forward), Route("backend", "frontend", via=back)),
    )
    _, peers = add_between(
        engine, connect, device, {"frontend": [zmq.DEALER] * 3, "backend": [zmq.DEALER]},
        peer_options={"backend": {"routing_id": b"worker"}},
    )  # fmt: skip
    clients, (worker,) = peers.values()
    broker = engine.brokers["a"]
    wait_until(lambda: peer_count(engine, broker, "backend") == 1)
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    for _ in clients:
        worker.send_multipart([*worker.recv_multipart(), b"answer"])
    for number, client in enumerate(clients):
        assert client.recv_multipart() == [b"%d" % number, b"answer"]


# -- handlers, several sinks, capture, behaviours ----------------------------------------------------------------------


def test_handlers_change_drop_multiply_and_fail(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def handle(frames: list[bytes]) -> Any:
        if frames == [b"drop"]:
            return None
        if frames == [b"fail"]:
            raise ValueError(frames)
        if frames == [b"twice"]:
            return iter([[b"1"], [b"2", b"x" * 70_000]])
        return [b"seen", *frames]

    device = replace(STREAMER, name="handled", routes=(Route("frontend", "backend", via=handle),))
    _, peers = add_between(engine, connect, device, {"frontend": [zmq.PUSH], "backend": [zmq.PULL]})
    (push,), (pull,) = peers.values()
    for message in (b"a", b"drop", b"twice", b"fail", b"b"):
        push.send(message)
    assert receive_many(pull, 4) == [[b"seen", b"a"], [b"1"], [b"2", b"x" * 70_000], [b"seen", b"b"]]
    flow = flow_of(engine, "a")
    assert (flow.received, flow.added, flow.sent, flow.filtered, flow.failed) == (5, 1, 4, 1, 1)
    assert balanced(flow)


def test_route_to_several_sinks(engine: Engine, connect: Connect) -> None:
    def choose(frames: list[bytes]) -> Any:
        return To("one", frames) if frames[0] == b"one" else frames

    device = Device(
        "fan", ports={"intake": zmq.PULL, "one": zmq.PUSH, "two": zmq.PUSH},
        routes=(Route("intake", ("one", "two"), via=choose),),
    )  # fmt: skip
    _, peers = add_between(engine, connect, device, {"intake": [zmq.PUSH], "one": [zmq.PULL], "two": [zmq.PULL]})
    (push,), (one,), (two,) = peers.values()
    for message in MESSAGES:
        push.send_multipart([b"one", *message])
        push.send_multipart([b"all", *message])
    expected = [[kind, *message] for message in MESSAGES for kind in (b"one", b"all")]
    assert same(receive_many(one, len(expected)), expected)
    assert same(receive_many(two, len(MESSAGES)), [m for m in expected if m[0] == b"all"])
    assert balanced(flow_of(engine, "a", "intake"))


@pytest.mark.parametrize("capture_type", [zmq.PUSH, zmq.PUB, zmq.DEALER])
def test_capture_is_given_a_copy_of_each_message(
    engine: Engine, connect: Connect, capture_type: zmq.SocketType
) -> None:
    broker, peers = add_between(
        engine, connect, QUEUE, {"frontend": [zmq.REQ], "backend": [zmq.REP]},
        capture=ANY_PORT, capture_type=capture_type, capture_prefixes=(b"in", b"out"),
    )  # fmt: skip
    assert broker.capture is not None
    reader_type = RECEIVERS[capture_type]
    options = {"subscribe": b""} if reader_type == zmq.SUB else {}
    reader = connect(reader_type, endpoint(broker.capture), rcvhwm=0, **options)
    (client,), (worker,) = peers.values()

    def ask(question: list[bytes]) -> None:
        client.send_multipart(question)
        worker.send_multipart(worker.recv_multipart())
        assert same([client.recv_multipart()], [question])

    def captured() -> bool:
        ask([b"is it read?"])
        return bool(reader.poll(1))

    def next_copy() -> tuple[bytes, list[bytes]]:
        while (copy := reader.recv_multipart())[-1] == b"is it read?":
            pass
        return copy[0], copy[3:]

    wait_until(captured)
    for message in MESSAGES:
        ask(message)
        assert [next_copy(), next_copy()] == [(b"in", message), (b"out", message)]


def test_traffic_goes_on_although_nobody_reads_the_copies(engine: Engine, connect: Connect) -> None:
    _, peers = add_between(
        engine, connect, STREAMER, {"frontend": [zmq.PUSH], "backend": [zmq.PULL]}, capture=ANY_PORT,
        capture_type=zmq.PUSH,
    )  # fmt: skip
    (push,), (pull,) = peers.values()
    for number in range(100):
        push.send(b"%d" % number)
    assert [int(pull.recv()) for _ in range(100)] == list(range(100))
    assert flow_of(engine, "a").capture_dropped == 100


@pytest.mark.parametrize("device", [BALANCER, OWN_BALANCER], ids=["shipped", "own"])
def test_balancer(engine: Engine, connect: Connect, device: Device) -> None:
    _, peers = add_between(engine, connect, device, {"frontend": [zmq.REQ] * 3, "backend": [zmq.REQ] * 2})
    clients, workers = peers.values()
    for worker in workers:
        worker.send(READY)
    poller = zmq.Poller()
    for worker in workers:
        poller.register(worker, zmq.POLLIN)
    for number in range(20):
        for client in clients:
            client.send_multipart([b"%d" % number, b"x" * 5000])
        answered = 0
        while answered < len(clients):
            for worker, _ in poller.poll(DEADLINE_MS):
                worker.send_multipart([*worker.recv_multipart(), b"done"])
                answered += 1
        for client in clients:
            assert client.recv_multipart() == [b"%d" % number, b"x" * 5000, b"done"]
