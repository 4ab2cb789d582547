"""What devices move between peers of libzmq's, over tcp and ipc, from ports that are bound and that connect."""

from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from pollbroker import FILTER, FORWARDER, QUEUE, REFLECTOR, STREAMER, ConfigError, Device, Engine, Route, transports
from pollbroker.broker import working_broker
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket
from tests.support.wire_ports import peer_count
from tests.wire.messages import MESSAGES, receive_many, same
from tests.wire.places import PLACES, add_between, address_in, publishes_to, receive_beyond
from tests.wire.zmtp import Raw, command

# -- every size --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [(True, True), (True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_messages_of_every_size_pass_whole_and_in_order(
    engine: Engine, connect: Connect, place: str, bound: tuple[bool, bool], tmp_path: Path
) -> None:
    _, peers = add_between(
        engine, connect, STREAMER, {"frontend": [zmq.PUSH], "backend": [zmq.PULL]},
        addresses={port: address_in(place, tmp_path) for port in ("frontend", "backend")},
        bound=dict(zip(("frontend", "backend"), bound, strict=True)),
    )  # fmt: skip
    (push,), (pull,) = peers.values()
    for message in MESSAGES:
        push.send_multipart(message)
    assert same(receive_many(pull, len(MESSAGES)), MESSAGES)
    wait_until(lambda: flow_of(engine, "a").sent == len(MESSAGES))
    flow = flow_of(engine, "a")
    assert (flow.received_frames, flow.sent_frames) == (sum(map(len, MESSAGES)),) * 2
    assert (flow.received_bytes, flow.sent_bytes) == (sum(len(f) for m in MESSAGES for f in m),) * 2
    assert not pull.poll(0)


@pytest.mark.parametrize("worker_type", [zmq.REP, zmq.DEALER])
@pytest.mark.parametrize("place", ["tcp", "ipc"])
def test_requests_and_replies_of_every_size_pass_a_queue(
    engine: Engine, connect: Connect, place: str, worker_type: int
) -> None:
    _, peers = add_between(
        engine, connect, QUEUE, {"frontend": [zmq.REQ] * 2, "backend": [worker_type]},
        addresses=dict.fromkeys(("frontend", "backend"), PLACES[place]),
    )  # fmt: skip
    (worker,) = peers["backend"]
    for message in MESSAGES:
        for client in peers["frontend"]:
            client.send_multipart(message)
        for _ in peers["frontend"]:
            worker.send_multipart(worker.recv_multipart())
        for client in peers["frontend"]:
            assert same([client.recv_multipart()], [message])


@pytest.mark.parametrize("device", [FORWARDER, FILTER], ids=lambda device: device.name)
def test_publications_of_every_size_pass(engine: Engine, connect: Connect, device: Device) -> None:
    _, peers = add_between(
        engine, connect, device, {"frontend": [zmq.PUB], "backend": [zmq.SUB] * 3},
        peer_options={"backend": {"subscribe": b""}},
    )  # fmt: skip
    (publisher,), subscribers = peers.values()
    for subscriber in subscribers:
        wait_until(lambda s=subscriber: publishes_to(publisher, s))  # type: ignore[misc]
    for number, message in enumerate(MESSAGES):
        publication = [b"%d" % number, *message]
        publisher.send_multipart(publication)
        for subscriber in subscribers:
            assert same([receive_beyond(subscriber)], [publication])


def test_subscriber_is_given_a_burst_of_large_publications(engine: Engine, connect: Connect, raw: Raw) -> None:
    """libzmq keeps as many as `sndhwm` (1,000) for each subscriber, whatever their size."""
    broker, peers = add_between(engine, connect, FORWARDER, {"frontend": [zmq.XPUB]}, backend=ANY_PORT)
    (publisher,) = peers["frontend"]
    subscriber = raw(endpoint(broker.backend)).shake_hands("SUB")
    subscriber.send(command(b"SUBSCRIBE"))
    subscriber.socket.settimeout(1)
    assert publisher.recv() == b"\x01"
    for number in range(20):
        publisher.send_multipart([b"%d" % number, bytes(1 << 20)])
    wait_until(lambda: flow_of(engine, "a").received == 20)
    publisher.send(b"the last")
    received = [subscriber.read_message()[0]]
    while received[-1] != b"the last":
        received.append(subscriber.read_message()[0])
    assert received == [b"%d" % number for number in range(20)] + [b"the last"]


@pytest.mark.parametrize(
    ("port_type", "peer_type"),
    [
        (zmq.ROUTER, zmq.DEALER),
        (zmq.ROUTER, zmq.REQ),
        (zmq.DEALER, zmq.DEALER),
        (zmq.REP, zmq.REQ),
    ],
)
@pytest.mark.parametrize("bound", [True, False])
def test_reflector_sends_back_messages_of_every_size(
    engine: Engine, connect: Connect, port_type: zmq.SocketType, peer_type: int, bound: bool
) -> None:
    device = replace(REFLECTOR, name="mirror", ports={"frontend": (port_type,)}, options={})
    _, peers = add_between(engine, connect, device, {"frontend": [peer_type]}, bound={"frontend": bound})
    (peer,) = peers["frontend"]
    peer.rcvtimeo = 2000
    for message in MESSAGES:
        peer.send_multipart(message)
        assert same([peer.recv_multipart()], [message])


# -- several peers, that come and go -----------------------------------------------------------------------------------


def test_messages_are_shared_among_peers_and_each_arrives_once(engine: Engine, connect: Connect) -> None:
    broker, peers = add_between(engine, connect, STREAMER, {"frontend": [zmq.PUSH] * 5, "backend": [zmq.PULL] * 3})
    wait_until(lambda: peer_count(engine, broker, "backend") == 3)
    wait_until(lambda: peer_count(engine, broker, "frontend") == 5)
    for number in range(600):
        for who, push in enumerate(peers["frontend"]):
            push.send_multipart([b"%d" % who, b"%d" % number])
    poller = zmq.Poller()
    for pull in peers["backend"]:
        poller.register(pull, zmq.POLLIN)
    taken: dict[Socket, list[tuple[int, int]]] = {pull: [] for pull in peers["backend"]}
    while sum(map(len, taken.values())) < 3000:
        ready = poller.poll(DEADLINE_MS)
        assert ready
        for pull, _ in ready:
            who_frame, number_frame = pull.recv_multipart()
            taken[pull].append((int(who_frame), int(number_frame)))
    assert sorted(one for some in taken.values() for one in some) == [(w, n) for w in range(5) for n in range(600)]
    for some in taken.values():
        for who in range(5):
            of_one = [number for sender, number in some if sender == who]
            assert of_one == sorted(of_one)
        assert some, "a consumer was given nothing"


def test_peers_come_late_leave_and_come_back(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    number = 0
    for _ in range(5):
        push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
        for _ in range(100):
            push.send(b"%d" % number)
            number += 1
        pull = connect(zmq.PULL, endpoint(broker.backend))
        assert [int(pull.recv()) for _ in range(100)] == list(range(number - 100, number))
        pull.close()
        push.close()
        wait_until(lambda: peer_count(engine, broker, "backend") == 0)
    flow = flow_of(engine, "a")
    assert (flow.received, flow.sent, flow.held, flow.dropped) == (500, 500, 0, 0)


def test_client_that_comes_back_with_its_routing_id_is_answered(engine: Engine, connect: Connect) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    for number in range(5):
        client = connect(zmq.DEALER, endpoint(broker.frontend), routing_id=b"the same")
        client.send(b"%d" % number)
        request = worker.recv_multipart()
        assert request == [b"the same", b"%d" % number]
        worker.send_multipart(request)
        assert client.recv() == b"%d" % number
        client.close()
        wait_until(lambda: peer_count(engine, broker) == 0)


def test_replies_to_a_client_that_has_left_are_unroutable(engine: Engine, connect: Connect) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    leaving, staying = (connect(zmq.DEALER, endpoint(broker.frontend)) for _ in range(2))
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    requests = []
    for client in (leaving, staying):
        client.send(b"question")
        requests.append(worker.recv_multipart())
    leaving.close()
    wait_until(lambda: peer_count(engine, broker) == 1)
    for request in requests:
        worker.send_multipart(request)
    assert staying.recv() == b"question"
    flow = flow_of(engine, "q", "backend")
    assert (flow.received, flow.unroutable) == (2, 1)


# -- brokers beside and behind each other ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["tcp", "ipc by an abstract name"])
def test_two_brokers_in_a_chain(engine: Engine, connect: Connect, place: str) -> None:
    both = (address_in(place) for _ in range(2))
    first = engine.add("first", QUEUE, frontend=next(both), backend=next(both), transport="wire")
    second = engine.add(
        "second", QUEUE, frontend=f">{endpoint(first.backend)}", backend=address_in(place), transport="wire",
    )  # fmt: skip
    clients = [connect(zmq.REQ, endpoint(first.frontend)) for _ in range(3)]
    worker = connect(zmq.REP, endpoint(second.backend))
    for number in range(100):
        for client in clients:
            client.send_multipart([b"%d" % number, b"x" * 5000])
        for _ in clients:
            worker.send_multipart(worker.recv_multipart())
        for client in clients:
            assert client.recv_multipart() == [b"%d" % number, b"x" * 5000]


def test_chain_of_forwarders_passes_subscriptions_to_the_publisher(engine: Engine, connect: Connect) -> None:
    first = engine.add("first", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    second = engine.add("second", FORWARDER, frontend=f">{endpoint(first.backend)}", backend=ANY_PORT)
    publisher = connect(zmq.XPUB, endpoint(first.frontend))
    subscriber = connect(zmq.SUB, endpoint(second.backend), subscribe=b"t")
    assert publisher.recv() == b"\x01t"
    publisher.send_multipart([b"topic", b"1"])
    assert subscriber.recv_multipart() == [b"topic", b"1"]
    subscriber.unsubscribe(b"t")
    assert publisher.recv() == b"\x00t"


@pytest.mark.parametrize("wire_side", ["frontend", "backend"])
@pytest.mark.parametrize("device", [STREAMER, QUEUE], ids=lambda device: device.name)
def test_broker_with_one_port_of_the_wire_and_one_of_libzmq(
    engine: Engine, connect: Connect, wire_side: str, device: Device
) -> None:
    endpoints = {"frontend": "inproc://f", "backend": "inproc://b"} | {wire_side: ANY_PORT}
    broker = engine.add("a", device, frontend=endpoints["frontend"], backend=endpoints["backend"], transport="auto")
    for name in endpoints:
        assert (working_broker(broker).port(name).wire is not None) == (name == wire_side)
    peers = (zmq.PUSH, zmq.PULL) if device is STREAMER else (zmq.REQ, zmq.REP)
    made = {}
    for kind, port in zip(peers, ("frontend", "backend"), strict=True):
        if port == wire_side:
            made[port] = connect(kind, endpoint(broker.ports[port]))
        else:
            made[port] = engine.context.socket(kind)
            made[port].sndtimeo = made[port].rcvtimeo = DEADLINE_MS
            made[port].connect(endpoint(broker.ports[port]))
    here, there = made["frontend"], made["backend"]
    for message in MESSAGES:
        here.send_multipart(message)
        received = there.recv_multipart()
        assert same([received], [message])
        if device is QUEUE:
            there.send_multipart(received)
            assert same([here.recv_multipart()], [message])
    for socket in made.values():
        socket.close(linger=0)


def test_wire_says_why_it_cannot_serve_a_port(engine: Engine) -> None:
    with pytest.raises(
        ConfigError, match=r"^brokers\.a\.backend: transport 'wire': the wire has no endpoints of inproc"
    ):
        engine.add("a", STREAMER, frontend=ANY_PORT, backend="inproc://b", transport="wire")
    with pytest.raises(ConfigError, match=r"^brokers\.a\.frontend: transport 'wire': .* no option curve_server"):
        engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire",
                   frontend_options={"curve_server": 1})  # fmt: skip
    with pytest.raises(ConfigError, match=r"^brokers\.a\.frontend: transport 'wire': .* no sockets of the type"):
        engine.add("a", Device("pair", zmq.PAIR, zmq.PUSH, (Route("frontend", "backend"),)),
                   frontend=ANY_PORT, backend=ANY_PORT, transport="wire")  # fmt: skip
    assert transports.LIBZMQ not in engine.brokers


def test_address_that_was_released_is_free_at_once(engine: Engine, connect: Connect, tmp_path: Path) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=f"ipc://{tmp_path}/b")
    addresses = {"frontend": endpoint(broker.frontend), "backend": endpoint(broker.backend)}
    for number in range(5):
        push = connect(zmq.PUSH, addresses["frontend"])
        pull = connect(zmq.PULL, addresses["backend"])
        push.send(b"%d" % number)
        assert pull.recv() == b"%d" % number
        push.close()
        pull.close()
        engine.remove("a")
        assert not list(tmp_path.iterdir())
        engine.add("a", STREAMER, **addresses)  # type: ignore[arg-type]


# -- how an engine is driven -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiter", ["nested", "flat"])
def test_engine_that_is_stepped_serves_the_wire(make_engine: MakeEngine, connect: Connect, waiter: str) -> None:
    engine = make_engine(waiter=waiter)
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    for message in MESSAGES:
        push.send_multipart(message)
    received = []

    def receive() -> bool:
        while pull.poll(0):
            received.append(pull.recv_multipart())
        return len(received) == len(MESSAGES)

    wait_until(receive, engine=engine)
    assert same(received, MESSAGES)


def test_messages_of_too_many_frames_are_dropped_and_counted(engine: Engine, connect: Connect) -> None:
    device = replace(STREAMER, name="short", maxframes=5)
    _, peers = add_between(engine, connect, device, {"frontend": [zmq.PUSH], "backend": [zmq.PULL]})
    (push,), (pull,) = peers.values()
    for count in (1, 5, 6, 100, 10_000, 2):
        push.send_multipart([b"x"] * count)
    assert [len(pull.recv_multipart()) for _ in range(3)] == [1, 5, 2]
    flow = flow_of(engine, "a")
    assert (flow.received, flow.too_many_frames, flow.sent) == (6, 3, 3)
    assert flow.received_frames == 1 + 5 + 6 + 100 + 10_000 + 2
