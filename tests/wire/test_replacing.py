"""Brokers that take the place of others in one engine: what changes, what goes on, and what is refused.

That no message is lost and no peer notices is tested by `test_handing_over.py`, together with moves to another engine.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import (
    BALANCER,
    STREAMER,
    Broker,
    BrokerState,
    ConfigError,
    Device,
    Engine,
    EngineError,
    Event,
    EventKind,
    HandOverError,
    Limits,
    Route,
)
from pollbroker.asyncio import Engine as AsyncioEngine
from pollbroker.broker import working_broker
from pollbroker.handing_over import replacing
from pollbroker.wire.streams import Listening
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import alive, in_engine, peer_count
from tests.wire.moving import OTHERS, Add, adds
from tests.wire.zmtp import RawPeer, message

Relayed = Callable[[], None]


@pytest.fixture
def relayed(engine: Engine, connect: Connect) -> Relayed:
    """A STREAMER named `a` between two peers of libzmq that stay connected. Checks that it relays a message."""
    broker = adds(STREAMER)(engine)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    sent = iter(range(1000))

    def check() -> None:
        number = b"%d" % next(sent)
        push.send(number)
        assert pull.recv_multipart()[-1] == number

    check()
    return check


# -- what changes ------------------------------------------------------------------------------------------------------


def test_limits_and_options_are_those_of_the_new_broker(engine: Engine, raw: Callable[[str], RawPeer]) -> None:
    broker = adds(STREAMER, frontend_options={"maxmsgsize": 10})(engine)
    sender, consumer = raw(endpoint(broker.frontend)), raw(endpoint(broker.backend))
    sender.shake_hands("PUSH")
    consumer.shake_hands("PULL")
    limits = Limits(connections_per_address=1)
    broker = adds(STREAMER, frontend_options={"maxmsgsize": 20}, limits=limits)(engine, replaces=broker)
    sender.send_message(b"x" * 15)
    assert consumer.read_message() == [b"x" * 15]
    raw(endpoint(broker.frontend)).read_to_the_end()
    sender.send_message(b"x" * 21)
    sender.read_to_the_end()


def test_topic_that_was_subscribed_to_twice_is_cancelled_whole(engine: Engine, raw: Callable[[str], RawPeer]) -> None:
    news = Device("news", zmq.SUB, zmq.PUB, [Route("frontend", "backend")])
    broker = adds(news, frontend_options={"subscribe": ["a", "a", "b"]})(engine)
    publisher = raw(endpoint(broker.frontend)).shake_hands("PUB")
    assert {publisher.read_command() for _ in range(2)} == {b"\x09SUBSCRIBEa", b"\x09SUBSCRIBEb"}
    adds(news, frontend_options={"subscribe": ["b", "c"]})(engine, replaces=broker)
    assert {publisher.read_command() for _ in range(2)} == {b"\x06CANCELa", b"\x09SUBSCRIBEc"}


def test_handler_is_that_of_the_new_broker(engine: Engine, connect: Connect) -> None:
    def tagged(tag: bytes) -> Device:
        return replace(STREAMER, name="tagged", routes=(Route("frontend", "backend", via=lambda m: [tag, *m]),))

    broker = adds(tagged(b"old"))(engine)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"1")
    assert pull.recv_multipart() == [b"old", b"1"]
    adds(tagged(b"new"))(engine, replaces="a")
    push.send(b"2")
    assert pull.recv_multipart() == [b"new", b"2"]
    assert flow_of(engine, "a").sent == 2


def test_new_broker_may_have_another_name(engine: Engine, relayed: Relayed) -> None:
    adds(STREAMER, "b")(engine, replaces="a")
    assert set(engine.brokers) == {"b"}
    relayed()
    assert flow_of(engine, "b").sent == 2
    adds(STREAMER)(engine)
    with pytest.raises(EngineError, match=r"brokers\.a: the name is taken"):
        adds(STREAMER, "a")(engine, replaces="b")
    relayed()
    assert set(engine.brokers) == {"a", "b"}


def test_old_broker_has_ended_and_nothing_counts_as_lost(
    engine: Engine, connect: Connect, raw: Callable[[str], RawPeer]
) -> None:
    """One message is written in part, one has yet to be read, and one came in part. All go on with the new broker."""
    old = adds(STREAMER)(engine)
    sender = raw(endpoint(old.frontend)).shake_hands("PUSH")
    reader = raw(endpoint(old.backend)).shake_hands("PULL")
    wait_until(lambda: peer_count(engine, old, "backend") == 1)
    body = bytes(1 << 22)
    sender.send(message(b"1", body) + message(b"2") + message(b"3")[:2])
    wait_until(lambda: flow_of(engine, "a").received == 1)
    new = adds(STREAMER)(engine, replaces=old)
    final = old.removed.result(DEADLINE_S)
    flow = final.flows["frontend"]
    assert (flow.received, flow.sent + flow.held, flow.dropped, flow.unread) == (1, 1, 0, 0)
    assert all(not port.connections_ended for port in final.ports.values())
    assert old.state is BrokerState.REMOVED
    with pytest.raises(EngineError, match=r"brokers\.a: it is removed"):
        old.pause()
    sender.send(message(b"3")[2:])
    assert [reader.read_message() for _ in range(3)] == [[b"1", body], [b"2"], [b"3"]]
    wait_until(lambda: flow_of(engine, "a").sent == 3)
    assert not new.statistics().ports["frontend"].connections_ended


def test_listeners_hear_of_the_brokers_and_of_no_peer(engine: Engine, relayed: Relayed) -> None:
    with engine.events() as events:
        adds(STREAMER)(engine, replaces="a")
        relayed()
        adds(STREAMER, "last")(engine)
        told: list[tuple[EventKind, str]] = []
        while not told or told[-1] != (EventKind.BROKER_ADDED, "last"):
            event = events.read(DEADLINE_S)
            assert event is not None
            told.append((event.kind, event.broker))
    assert told == [
        (EventKind.BROKER_REMOVED, "a"),
        (EventKind.BROKER_ADDED, "a"),
        (EventKind.BROKER_ADDED, "last"),
    ]


def test_timer_may_replace_a_broker(engine: Engine, relayed: Relayed) -> None:
    in_engine(engine, lambda: adds(STREAMER)(engine, replaces="a"))
    relayed()


def test_engine_of_asyncio_replaces_a_broker() -> None:
    async def replace_one() -> None:
        async with AsyncioEngine() as engine:
            old = await engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
            new = await engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire", replaces=old)
            assert new.frontend.endpoints == old.frontend.endpoints
            assert old.state is BrokerState.REMOVED

    asyncio.run(replace_one())


# -- what is refused: the old broker goes on ---------------------------------------------------------------------------


WITH_OTHER_OPTIONS = {
    "mechanism": (
        adds(STREAMER, frontend_options={"plain_server": True}),
        r"brokers\.a\.frontend: plain_server: a connection has this option from its beginning; expected the same",
    ),
    "domain": (adds(STREAMER, frontend_options={"zap_domain": "here"}), r"brokers\.a\.frontend: zap_domain: "),
    "buffer": (adds(STREAMER, backend_options={"sndbuf": 50_000}), r"brokers\.a\.backend: sndbuf: "),
}


@pytest.mark.parametrize(
    ("other", "expected"), [*OTHERS.values(), *WITH_OTHER_OPTIONS.values()], ids=[*OTHERS, *WITH_OTHER_OPTIONS]
)
def test_broker_that_cannot_keep_the_connections_is_refused(
    engine: Engine, relayed: Relayed, other: Add, expected: str
) -> None:
    before = alive(engine)
    with pytest.raises(ConfigError, match=expected):
        other(engine, replaces="a")
    assert alive(engine) == before
    assert set(engine.brokers) == {"a"}
    relayed()
    assert flow_of(engine, "a").sent == 2


@pytest.mark.parametrize(
    ("device", "more", "expected"),
    [
        (STREAMER, {"transport": "libzmq"}, "its frontend is a socket of libzmq"),
        (BALANCER, {}, "its behaviour has a state of its own"),
    ],
)
def test_broker_whose_connections_cannot_be_kept_is_not_replaced(
    engine: Engine, device: Device, more: dict[str, Any], expected: str
) -> None:
    broker = adds(device, **more)(engine)
    with pytest.raises(ConfigError, match=rf"brokers\.a: the connections of 'a' cannot be kept: {expected}"):
        adds(device, **more)(engine, replaces=broker)
    assert engine.brokers["a"] == broker
    assert broker.state is BrokerState.RUNNING


def test_broker_that_is_flushed_is_not_replaced(engine: Engine, connect: Connect) -> None:
    """Whoever waits for what it holds would be told that all is delivered."""
    device = replace(STREAMER, routes=(Route("frontend", "backend", via=lambda m: m),))
    broker = adds(device)(engine)
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"held")
    wait_until(lambda: flow_of(engine, "a").held)
    flushed = engine.begin_pause_and_flush(DEADLINE_S, broker=broker)
    with pytest.raises(ConfigError, match="it is paused, and somebody waits until what it holds is delivered"):
        adds(device)(engine, replaces=broker)
    assert not flushed.done()
    assert connect(zmq.PULL, endpoint(broker.backend)).recv() == b"held"
    assert flushed.result(DEADLINE_S) == ()
    assert adds(device)(engine, replaces=broker).state is BrokerState.PAUSED


# -- who waits for the old broker, or watches it, does so for the new one ----------------------------------------------


def test_drain_goes_on_with_the_new_broker(engine: Engine, connect: Connect) -> None:
    broker = adds(STREAMER)(engine)
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"unread")
    wait_until(lambda: peer_count(engine, broker) == 1)
    by_name = engine.begin_drain(DEADLINE_S, broker="a")
    by_handle = engine.begin_drain(DEADLINE_S, broker=broker)
    short, new = in_engine(
        engine, lambda: (engine.begin_drain(0.02, broker="a"), adds(STREAMER, "b")(engine, replaces="a"))
    )
    assert short.result(DEADLINE_S) == ("b",)
    newest = adds(STREAMER, "c")(engine, replaces=new)
    in_engine(engine, lambda: None)
    assert not by_name.done()
    assert not by_handle.done()
    pull = connect(zmq.PULL, endpoint(newest.backend))
    assert by_name.result(DEADLINE_S) == by_handle.result(DEADLINE_S) == ()
    assert pull.recv() == b"unread"


def test_taps_go_on_with_the_new_broker(engine: Engine, relayed: Relayed) -> None:
    """Until each is closed. What the first broker had shown is not lost."""
    with engine.tap("a") as by_name, engine.tap("a", port="backend", bodies=True) as of_port:
        relayed()
        adds(STREAMER, "b")(engine, replaces="a")
        relayed()
        in_engine(engine, lambda: None)  # the turn has ended
        assert [one.size for one in by_name.take()] == [1, 1]
        assert [one.bodies for one in of_port.take()] == [(b"1",), (b"2",)]
        by_name.close()
        relayed()
        in_engine(engine, lambda: None)
        assert (by_name.take(), len(of_port.take())) == ([], 1)
        assert not by_name.ended
        engine.remove("b")
        assert (of_port.ended, of_port.why_ended) == (True, "it was removed")


@pytest.mark.usefixtures("broken")
def test_taps_stay_if_the_new_broker_cannot_be_made(engine: Engine, relayed: Relayed) -> None:
    with engine.tap("a") as tap:
        with pytest.raises(HandOverError):
            adds(STREAMER)(engine, replaces="a")
        relayed()
        in_engine(engine, lambda: None)
        assert (len(tap.take()), tap.ended) == (1, False)


def test_counters_cannot_go_on_with_two_brokers(engine: Engine, relayed: Relayed) -> None:
    earlier = engine.broker_statistics("a")
    with pytest.raises(ConfigError, match=r"brokers\.a: earlier: the counters go on with replaces; expected one of"):
        engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, earlier=earlier, replaces="a")
    relayed()


def test_unknown_broker_cannot_be_replaced(engine: Engine) -> None:
    with pytest.raises(EngineError, match="no broker is named 'a'"):
        adds(STREAMER)(engine, replaces="a")


def test_handler_cannot_replace_its_own_broker(engine: Engine, connect: Connect) -> None:
    errors: list[EngineError] = []

    def handler(message: list[bytes]) -> list[bytes]:
        try:
            adds(device)(engine, replaces="a")
        except EngineError as error:
            errors.append(error)
        return message

    device = replace(STREAMER, routes=(Route("frontend", "backend", via=handler),))
    broker = adds(device)(engine)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"1")
    assert pull.recv() == b"1"
    assert "its own handler cannot steer it" in str(errors[0])


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The new broker cannot be made of what the old one has."""

    def fail(*_: object) -> None:
        raise ValueError("the record is cut")

    monkeypatch.setattr(replacing, "restore", fail)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("paused", [False, True])
def test_old_broker_goes_on_if_the_new_one_cannot_be_made(
    engine: Engine, relayed: Relayed, caplog: pytest.LogCaptureFixture, paused: bool
) -> None:
    before, broker = alive(engine), engine.brokers["a"]
    if paused:
        broker.pause()
    with engine.events() as events:
        with pytest.raises(HandOverError, match=r"brokers\.a: the connections of 'a' cannot be kept: the record is"):
            adds(STREAMER)(engine, replaces="a")
        assert broker.state is (BrokerState.PAUSED if paused else BrokerState.RUNNING)
        broker.resume()
        relayed()
        adds(STREAMER, "last")(engine)
        kinds: list[EventKind] = []
        while EventKind.BROKER_ADDED not in kinds:
            event = events.read(DEADLINE_S)
            assert event is not None
            kinds.append(event.kind)
    engine.remove("last")
    assert EventKind.BROKER_REMOVED not in kinds
    assert alive(engine) == before
    assert engine.brokers["a"] == broker
    assert not caplog.records


def test_lack_of_descriptors_leaves_the_old_broker_at_work(
    engine: Engine, relayed: Relayed, monkeypatch: pytest.MonkeyPatch
) -> None:
    duplicated: list[int] = []

    def duplicate(descriptor: int) -> int:
        if len(duplicated) == 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        duplicated.append(original(descriptor))
        return duplicated[-1]

    original = os.dup
    monkeypatch.setattr(os, "dup", duplicate)
    with pytest.raises(HandOverError, match="Too many open files"):
        adds(STREAMER)(engine, replaces="a")
    monkeypatch.undo()
    assert len(duplicated) == 3
    for descriptor in duplicated:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    relayed()


def test_handler_that_is_amid_a_message_is_waited_for(engine: Engine, connect: Connect) -> None:
    """A handler yields one message after the other. The place of its broker is taken when it has come to its end."""

    def several(message: list[bytes]) -> Iterator[list[bytes]]:
        for number in range(5000):
            yield [*message, b"%d" % number]

    device = replace(STREAMER, routes=(Route("frontend", "backend", via=several),))
    broker: Broker = adds(device, backend_options={"sndhwm": 10})(engine)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    pull = connect(zmq.PULL, endpoint(broker.backend), rcvhwm=0)
    push.send(b"1")
    assert pull.recv_multipart() == [b"1", b"0"]
    new = adds(device)(engine, replaces=broker)
    assert [pull.recv_multipart()[1] for _ in range(4999)] == [b"%d" % number for number in range(1, 5000)]
    push.send(b"2")
    assert pull.recv_multipart() == [b"2", b"0"]
    assert new.state is BrokerState.RUNNING


def test_listener_cannot_put_a_broker_in_the_place_of_one_that_is_about_to_be_closed(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    for name in ("a", "b"):
        adds(STREAMER, name)(engine)

    def replace_the_other(event: Event) -> None:
        if event.kind is EventKind.BROKER_REMOVED and event.broker == "a":
            adds(STREAMER, "b")(engine, replaces="b")

    engine.on_event(replace_the_other)
    engine.finish_close().result(DEADLINE_S)
    assert "the engine is closed" in caplog.text


class _Lost:
    """A listener that cannot be watched again."""

    def __init__(self, listener: Any) -> None:
        self.suspend, self.close, self.descriptor = listener.suspend, listener.close, listener.descriptor

    def resume(self) -> None:
        raise OSError(errno.ENOMEM, "no memory")


def test_listener_that_cannot_be_watched_any_more_is_closed_and_the_broker_can_be_moved(
    engine: Engine, relayed: Relayed
) -> None:
    at_work = working_broker(engine.brokers["a"])
    (listening,) = at_work.port("frontend").wire_socket._streams
    assert isinstance(listening, Listening)
    listener, listening._listener = listening._listener, _Lost(listening._listener)  # type: ignore[assignment]
    in_engine(engine, at_work.suspend)
    in_engine(engine, at_work.go_on)
    assert listener.descriptor == -1
    relayed()
    adds(STREAMER)(engine, replaces="a")
    relayed()
