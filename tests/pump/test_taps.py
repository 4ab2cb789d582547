"""Taps: what passes a broker is seen, with each pump, over libzmq and over the wire, and is never held up."""

from collections.abc import Callable

import pytest
import zmq

from pollbroker import (
    FORWARDER,
    LAST_VALUE,
    QUEUE,
    STREAMER,
    Broker,
    ConfigError,
    Device,
    DeviceError,
    Engine,
    EngineError,
    Route,
    Tap,
    TappedMessage,
)
from pollbroker.wire.served import why_not_built
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect

TO_TWO = Device(
    "to_two", ports={"frontend": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUSH}, routes=(Route("frontend", ("a", "b")),)
)


@pytest.fixture(params=["libzmq", "wire"])
def transport(request: pytest.FixtureRequest) -> str:
    """What serves the ports."""
    assert isinstance(request.param, str)
    why = why_not_built()
    if request.param == "wire" and why is not None:
        pytest.skip(why)
    return request.param


def seen_by(tap: Tap, number: int) -> list[TappedMessage]:
    """The next messages that a tap has seen, once there are so many."""
    seen: list[TappedMessage] = []

    def all_seen() -> bool:
        seen.extend(tap.take())
        return len(seen) >= number

    wait_until(all_seen)
    assert len(seen) == number
    return seen


def add(engine: Engine, device: Device, transport: str, **more: str) -> Broker:
    return engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT, transport=transport, **more)  # type: ignore[arg-type]


# -- what is seen ------------------------------------------------------------------------------------------------------


def test_requests_and_replies_are_seen_with_routing_id_and_sizes(
    engine: Engine, transport: str, connect: Connect
) -> None:
    broker = add(engine, QUEUE, transport)
    worker = connect(zmq.REP, broker.backend.endpoint)
    client = connect(zmq.REQ, broker.frontend.endpoint, routing_id=b"client")
    with engine.tap("a") as tap:
        client.send_multipart([b"question", b""])
        worker.recv_multipart()
        worker.send(b"answer")
        assert client.recv() == b"answer"
        request, reply = seen_by(tap, 2)
    assert (request.source, request.sink, request.frames, request.size) == ("frontend", "backend", 4, 14)
    assert (request.sizes, request.routing_id) == ((6, 0, 8, 0), b"client")
    assert (reply.source, reply.sink, reply.sizes, reply.routing_id) == ("backend", "frontend", (6, 0, 6), b"client")
    assert (request.topic, request.bodies, reply.bodies) == (b"", (), ())
    assert request.time_s <= reply.time_s


def test_no_byte_of_a_body_is_kept_unless_asked_for(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, STREAMER, transport)
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    with engine.tap("a") as tap:
        push.send_multipart([b"secret", b"too"])
        pull.recv_multipart()
        (message,) = seen_by(tap, 1)
    assert message == TappedMessage(message.time_s, "frontend", "backend", 2, 9, (6, 3))


def test_bodies_are_kept_up_to_a_size(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, STREAMER, transport)
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    with engine.tap("a", bodies=True) as tap, engine.tap("a") as without:
        push.send_multipart([b"first", b"", b"x" * 100_000])
        assert len(pull.recv_multipart()[2]) == 100_000
        (message,) = seen_by(tap, 1)
        (other,) = seen_by(without, 1)
    assert message.bodies == (b"first", b"", b"x" * 1024)
    assert message.size == 100_005
    assert other.bodies == ()


def test_topic_is_seen_if_it_is_a_frame_of_its_own(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, FORWARDER, transport)
    publisher = connect(zmq.PUB, broker.frontend.endpoint)
    subscriber = connect(zmq.SUB, broker.backend.endpoint, rcvtimeo=50)
    with engine.tap("a", port="frontend") as tap:
        subscriber.subscribe(b"")

        def arrives() -> bool:
            publisher.send_multipart([b"prices", b"1"])
            try:
                return bool(subscriber.recv_multipart())
            except zmq.Again:
                return False

        wait_until(arrives)
        seen: list[TappedMessage] = []

        def last_is(sizes: tuple[int, ...]) -> bool:
            seen.extend(tap.take())
            return bool(seen) and seen[-1].sizes == sizes

        wait_until(lambda: last_is((6, 1)))
        assert seen[-1].topic == b"prices"
        publisher.send(b"prices and all in one")
        wait_until(lambda: last_is((21,)))
        assert seen[-1].topic == b""


def test_long_messages_are_seen_with_64_sizes(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, STREAMER, transport)
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    with engine.tap("a", bodies=True) as tap:
        push.send_multipart([b"%d" % i for i in range(100)])
        assert len(pull.recv_multipart()) == 100
        (message,) = seen_by(tap, 1)
    assert (message.frames, message.size, len(message.sizes), len(message.bodies)) == (100, 190, 64, 64)
    assert message.bodies[63] == b"63"


def test_each_message_of_a_stream_is_seen_once_and_in_order(engine: Engine, transport: str, connect: Connect) -> None:
    """Between two ports of the wire, runs of messages move at once."""
    broker = add(engine, STREAMER, transport)
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    with engine.tap("a", most=10_000) as tap:
        for i in range(2000):
            push.send_multipart([b"x" * (i % 300), b"y"] if i % 3 else [b"x" * (i % 300)])
        for _ in range(2000):
            pull.recv_multipart()
        seen = seen_by(tap, 2000)
    assert [one.sizes for one in seen] == [(i % 300, 1) if i % 3 else (i % 300,) for i in range(2000)]
    assert tap.lost == 0


def test_handlers_and_several_sinks_are_seen(engine: Engine, transport: str, connect: Connect) -> None:
    broker = engine.add("a", TO_TWO, frontend=ANY_PORT, a=ANY_PORT, b=ANY_PORT, transport=transport)
    push = connect(zmq.PUSH, broker.frontend.endpoint)
    pulls = [connect(zmq.PULL, broker.ports[name].endpoint) for name in "ab"]
    with engine.tap("a") as tap, engine.tap("a", port="b") as only_b:
        push.send(b"xy")
        for pull in pulls:
            assert pull.recv() == b"xy"
        assert sorted(one.sink for one in seen_by(tap, 2)) == ["a", "b"]
        (message,) = seen_by(only_b, 1)
        assert (message.source, message.sink, message.sizes) == ("frontend", "b", (2,))


def test_messages_of_a_behaviour_are_seen(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, LAST_VALUE, transport)
    publisher = connect(zmq.PUB, broker.frontend.endpoint)
    subscriber = connect(zmq.SUB, broker.backend.endpoint, rcvtimeo=50)
    subscriber.subscribe(b"")
    with engine.tap("a") as tap:
        seen: list[TappedMessage] = []

        def arrives() -> bool:
            publisher.send_multipart([b"topic", b"12345"])
            seen.extend(tap.take())
            return any(one.sink == "backend" for one in seen)

        wait_until(arrives)
        message = next(one for one in seen if one.sink == "backend")
        assert (message.source, message.sizes, message.topic) == ("", (5, 5), b"topic")


def test_tap_and_capture_both_see_what_passes(engine: Engine, transport: str, connect: Connect) -> None:
    broker = engine.add(
        "a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, capture=ANY_PORT, capture_type=zmq.PUSH,
        transport=transport,
    )  # fmt: skip
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    capture = connect(zmq.PULL, broker.capture.endpoint, rcvtimeo=50)

    def is_copied() -> bool:
        push.send(b"first")
        pull.recv()
        return bool(capture.poll(50))

    wait_until(is_copied)  # what passes before the capture's peer has connected is not copied
    while capture.poll(0):
        capture.recv()
    capture.rcvtimeo = DEADLINE_MS
    for i in range(3):
        with engine.tap("a") as tap:
            push.send_multipart([b"copied", b"%d" % i])
            assert pull.recv_multipart() == [b"copied", b"%d" % i]
            assert capture.recv_multipart() == [b"copied", b"%d" % i]
            assert seen_by(tap, 1)[0].sizes == (6, 1)


# -- what is not held up -----------------------------------------------------------------------------------------------


def test_tap_that_is_full_loses_sight_and_no_message(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, STREAMER, transport)
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    with engine.tap("a", most=10) as tap:
        for i in range(500):
            push.send(b"%d" % i)
        assert [pull.recv() for _ in range(500)] == [b"%d" % i for i in range(500)]
        wait_until(lambda: tap.lost == 490)
        assert [one.size for one in tap.take()] == [1] * 10
        push.send(b"again")
        assert seen_by(tap, 1)[0].size == 5
    assert flow_of(engine, "a").sent == 501
    assert balanced(flow_of(engine, "a"))


def test_tap_of_bodies_is_full_when_it_has_many_bytes_of_them(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, STREAMER, transport)
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    long = [b"x" * 1024] * 16  # the tap has room for four
    with engine.tap("a", bodies=True) as tap:
        for again in range(2):
            for _ in range(10):
                push.send_multipart(long)
                pull.recv_multipart()
            wait_until(lambda lost=6 * (again + 1): tap.lost == lost)  # type: ignore[misc]
            assert [one.bodies for one in tap.take()] == [tuple(long)] * 4
    assert flow_of(engine, "a").sent == 20


def test_each_of_several_taps_keeps_what_it_has_room_for(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, STREAMER, transport)
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    with engine.tap("a", most=1) as small, engine.tap("a", most=10) as large:
        for _ in range(3):
            push.send(b"x")
            pull.recv()
        assert len(seen_by(large, 3)) == 3
        assert (len(small.take()), small.lost, large.lost) == (1, 2, 0)


def test_tap_that_is_closed_sees_nothing_more(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, STREAMER, transport)
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    other = engine.tap("a")
    with engine.tap("a") as tap:
        pass
    tap.close()
    push.send(b"x")
    pull.recv()
    assert len(seen_by(other, 1)) == 1
    assert (tap.take(), tap.lost) == ([], 0)
    other.close()


def test_message_that_a_sink_refuses_is_seen_when_it_is_accepted(
    engine: Engine, transport: str, connect: Connect
) -> None:
    broker = add(engine, STREAMER, transport)
    push = connect(zmq.PUSH, broker.frontend.endpoint)
    with engine.tap("a") as tap:
        push.send(b"early")
        wait_until(lambda: flow_of(engine, "a").stalls or flow_of(engine, "a").state == "stalled")
        assert tap.take() == []
        pull = connect(zmq.PULL, broker.backend.endpoint)
        assert pull.recv() == b"early"
        assert len(seen_by(tap, 1)) == 1


def test_message_that_is_dropped_is_not_seen(engine: Engine, transport: str, connect: Connect) -> None:
    broker = add(engine, QUEUE, transport)
    worker = connect(zmq.DEALER, broker.backend.endpoint)
    with engine.tap("a") as tap:
        worker.send_multipart([b"nobody", b"", b"reply"])
        wait_until(lambda: flow_of(engine, "a", "backend").unroutable == 1)
        assert (tap.take(), tap.lost) == ([], 0)


# -- errors, and the end -----------------------------------------------------------------------------------------------


def test_tap_ends_with_its_broker(engine: Engine, transport: str) -> None:
    broker = add(engine, STREAMER, transport)
    tap = engine.tap(broker)
    ended = [tap.ended]
    broker.remove()
    assert [*ended, tap.ended] == [False, True]
    tap.close()
    with pytest.raises(EngineError, match=r"no broker is named 'a'"):
        engine.tap("a")


def cannot_tap(engine: Engine) -> dict[str, Callable[[], Tap]]:
    return {
        r"brokers\.a: it has no middle to tap; its ports are: frontend, backend": lambda: engine.tap(
            "a", port="middle"
        ),
        r"brokers\.a: it has no capture to tap": lambda: engine.tap("a", port="capture"),
        r"most: 0: expected 1 message or more": lambda: engine.tap("a", most=0),
    }


def test_what_cannot_be_tapped_is_refused(engine: Engine) -> None:
    add(engine, STREAMER, "libzmq", capture=ANY_PORT)
    for text, tap in cannot_tap(engine).items():
        with pytest.raises((DeviceError, ConfigError), match=text):
            tap()
