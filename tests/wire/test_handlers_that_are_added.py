"""Brokers that move, and whose routes are given a handler thereby: nothing is lost, doubled or reordered."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Broker, ConfigError, Device
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.wire.moving import MakeRelay, Receiving, Sending, adds
from tests.wire.zmtp import RawPeer


def with_handlers(device: Device, *sources: str) -> Device:
    """The device with handlers that add a frame to what comes from these ports."""
    routes = [
        replace(route, via=lambda message: [*message, b"handled"]) if route.source in sources else route
        for route in device.routes
    ]
    return replace(device, routes=tuple(routes))


def adds_in_turn(*devices: Device) -> Callable[..., Broker]:
    """A function that adds a broker of the first device, then one of the next."""
    left = iter(devices)
    return lambda engine, **more: adds(next(left))(engine, **more)


def test_streamer_is_given_a_handler_under_traffic(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds_in_turn(STREAMER, with_handlers(STREAMER, "frontend")))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend))
    with Receiving(connect(zmq.PULL, endpoint(relay.broker.backend))) as receiving:
        sending = Sending(push, b"all", size=100, receiving=receiving)
        wait_until(lambda: receiving.count > 100)
        relay.move()
        before = receiving.count
        wait_until(lambda: receiving.count > before + 100)
        sent = sending.stop()
        wait_until(lambda: receiving.count == sent)
    assert receiving.messages == {b"all": list(range(sent))}
    wait_until(lambda: flow_of(relay.engine, "a").sent == sent)
    flow = flow_of(relay.engine, "a")
    assert (flow.received, flow.held, flow.dropped) == (sent, 0, 0)
    assert balanced(flow)


def test_what_was_queued_before_is_sent_as_it_is_and_counted(
    make_relay: MakeRelay, connect: Connect, raw: Callable[[str], RawPeer]
) -> None:
    relay = make_relay(adds_in_turn(STREAMER, *[with_handlers(STREAMER, "frontend")] * 2))
    consumer = raw(endpoint(relay.broker.backend)).shake_hands("PULL")
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend), sndhwm=0)
    body = bytes(100_000)
    for number in range(200):
        push.send_multipart([b"%d" % number, body])
    wait_until(lambda: flow_of(relay.engine, "a").held > 1)
    before = flow_of(relay.engine, "a")
    for _ in range(2):
        relay.move()
        flow = flow_of(relay.engine, "a")
        assert (flow.received - flow.sent, balanced(flow)) == (flow.held, True)
    received = [consumer.read_message() for _ in range(200)]
    assert [message[:2] for message in received] == [[b"%d" % number, body] for number in range(200)]
    handled = [message[2:] == [b"handled"] for message in received]
    assert handled == sorted(handled)
    assert handled.count(False) >= before.received
    wait_until(lambda: flow_of(relay.engine, "a").sent == 200)
    assert balanced(flow_of(relay.engine, "a"))


def test_one_of_two_routes_is_given_a_handler(make_relay: MakeRelay, connect: Connect) -> None:
    devices = QUEUE, with_handlers(QUEUE, "backend"), with_handlers(QUEUE, "frontend", "backend")
    relay = make_relay(adds_in_turn(*devices))
    client, worker = connect(zmq.REQ, endpoint(relay.broker.frontend)), connect(zmq.REP, endpoint(relay.broker.backend))
    expected: list[list[list[bytes]]] = []
    for _ in devices:
        client.send(b"request")
        request = worker.recv_multipart()
        if expected:
            relay.move()  # with a request that is not answered
        worker.send(b"reply")
        expected.append([request, client.recv_multipart()])
        if len(expected) == 1:
            client.send(b"another")
            assert worker.recv() == b"another"
            worker.send(b"reply")
            assert client.recv() == b"reply"
    assert expected == [
        [[b"request"], [b"reply"]],
        [[b"request"], [b"reply", b"handled"]],
        [[b"request"], [b"reply", b"handled"]],
    ]
    client.send(b"last")
    assert worker.recv_multipart() == [b"last", b"handled"]
    for flow in relay.engine.statistics().brokers["a"].flows.values():
        assert balanced(flow)


def test_forwarder_that_is_given_handlers_keeps_its_subscriptions(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds_in_turn(FORWARDER, with_handlers(FORWARDER, "frontend")))
    publisher = connect(zmq.XPUB, endpoint(relay.broker.frontend))
    subscriber = connect(zmq.SUB, endpoint(relay.broker.backend))
    subscriber.subscribe(b"a")
    assert publisher.recv() == b"\1a"
    relay.move()
    publisher.send(b"b 1")
    publisher.send(b"a 2")
    assert subscriber.recv_multipart() == [b"a 2", b"handled"]
    subscriber.subscribe(b"b")
    assert publisher.recv() == b"\1b"
    subscriber.unsubscribe(b"a")
    assert publisher.recv() == b"\0a"
    publisher.send(b"b 3")
    assert subscriber.recv_multipart() == [b"b 3", b"handled"]


REASON = (
    "brokers\\.a: the broker that runs has the routes frontend -> backend by handler; the new one has frontend -> "
    "backend; expected the same; a handler may be added, and not be taken away"
)


def test_handler_is_not_taken_away(make_relay: MakeRelay, connect: Connect) -> None:
    """A route with one may hold a message, and has counters that one without does not have."""
    handled = with_handlers(STREAMER, "frontend")
    relay = make_relay(adds_in_turn(handled, STREAMER))
    push, pull = connect(zmq.PUSH, endpoint(relay.broker.frontend)), connect(zmq.PULL, endpoint(relay.broker.backend))
    with pytest.raises(ConfigError, match=REASON):
        relay.move()
    push.send(b"1")
    assert pull.recv_multipart() == [b"1", b"handled"]
