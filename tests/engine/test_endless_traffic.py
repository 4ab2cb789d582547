"""While messages flow without end, everything else that an engine does comes in between them."""

import socket as net
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Engine, EngineError, EventKind
from pollbroker.engine import engine_loop
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.streamers import Peers, streamer_with
from tests.support.turns import makes_no_turns, rest
from tests.support.types import Connect, MakeEngine


@pytest.fixture
def ring(engine: Engine, connect: Connect) -> Iterator[Engine]:
    """An engine in which messages go round and round, from one streamer to another and back."""
    one = engine.add("one", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    other = f">{endpoint(one.backend)}", f">{endpoint(one.frontend)}"
    engine.add("other", STREAMER, frontend=other[0], backend=other[1])
    push = connect(zmq.PUSH, endpoint(one.frontend))
    for _ in range(10):
        push.send(b"round")
    wait_until(lambda: flow_of(engine, "one").sent > 1000)
    yield engine
    before = flow_of(engine, "one").sent
    wait_until(lambda: flow_of(engine, "one").sent > before)


def test_timers_are_run_when_they_are_due(ring: Engine) -> None:
    due, ran = time.monotonic() + 0.05, threading.Event()
    late_s: list[float] = []

    def note() -> None:
        late_s.append(time.monotonic() - due)
        if len(late_s) < 3:
            ring.call_later(0.001, note)
        else:
            ran.set()

    ring.call_later(0.05, note)
    assert ran.wait(DEADLINE_S)
    assert late_s == sorted(late_s)
    assert late_s[0] > -0.002


def test_calls_readers_and_events_come_in_between(ring: Engine, connect: Connect) -> None:
    called = threading.Event()
    ring.call_soon_threadsafe(called.set)
    assert called.wait(DEADLINE_S)

    reader, writer = net.socketpair()
    taken: list[bytes] = []
    ring.add_reader(reader.fileno(), lambda: taken.append(reader.recv(1)))
    writer.send(b"x")
    wait_until(lambda: taken == [b"x"])
    ring.remove_reader(reader.fileno())
    reader.close()
    writer.close()

    with closing(ring.events()) as events:
        broker = ring.add("third", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        peers = Peers(connect, broker)
        peers.check(*[b"%d" % number for number in range(100)])
        kinds = set()
        while EventKind.PEER_CONNECTED not in kinds:
            event = events.read(DEADLINE_S)
            assert event is not None
            kinds.add(event.kind)
    ring.remove("third")


def test_a_broker_is_paused_removed_and_has_a_handler_beside(ring: Engine, connect: Connect) -> None:
    handled = ring.add("handled", streamer_with(lambda message: [*message, b"!"]), frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(handled.frontend)), connect(zmq.PULL, endpoint(handled.backend))
    for number in range(100):
        push.send(b"%d" % number)
    assert [pull.recv_multipart() for _ in range(100)] == [[b"%d" % number, b"!"] for number in range(100)]
    assert ring.remove("handled").flows["frontend"].sent == 100
    ring.pause("other")
    wait_until(lambda: makes_no_turns(ring))
    ring.resume("other")


def test_tap_sees_what_flows_and_the_flow_goes_on_without_it(ring: Engine) -> None:
    with ring.tap("one", most=50) as tap:
        wait_until(lambda: tap.lost)
        assert {message.size for message in tap.take()} == {5}
    before = flow_of(ring, "one").sent
    wait_until(lambda: flow_of(ring, "one").sent > before + 1000)


# Otherwise it could make a turn in the middle of the work of the broker that is tapped.
def test_what_a_tap_calls_is_called_within_a_turn(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    peers = Peers(connect, engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
    peers.push.send(b"first")
    wait_until(lambda: bool(engine.step(0.01) or flow_of(engine, "s").sent))
    said: list[str] = []

    def on_first() -> None:
        try:
            engine.step()
        except EngineError as error:
            said.append(str(error))

    with engine.tap("s") as tap:
        tap.on_first = on_first
        rest(engine)  # so that nothing but the message is to be done
        peers.push.send(b"x")
        wait_until(lambda: bool(engine.step(0.01) or tap.take()))
    rest(engine)
    assert [peers.pull.recv() for _ in range(2)] == [b"first", b"x"]
    assert said == ["step() was called from within a turn of the loop"]


# A broker that has more than a burst is ready in the next turn, without an event.
def test_handlers_are_called_within_a_turn(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine(burst_messages=1)
    calls, within = engine_loop(engine).calls, []

    def handler(message: list[bytes]) -> list[bytes]:
        within.append(calls.in_own_turn())
        return message

    peers = Peers(connect, engine.add("s", streamer_with(handler), frontend=ANY_PORT, backend=ANY_PORT))
    engine.start()
    peers.check(*[b"%d" % number for number in range(200)])
    assert within == [True] * 200


def test_every_turn_is_counted(ring: Engine) -> None:
    before = ring.statistics()
    wait_until(lambda: flow_of(ring, "one").sent > before.brokers["one"].flows["frontend"].sent + 1000)
    after = ring.statistics()
    moved = after.brokers["one"].flows["frontend"].sent - before.brokers["one"].flows["frontend"].sent
    assert moved / 10 <= after.turns - before.turns  # there are ten messages in the ring


def test_stop_ends_the_run(ring: Engine, connect: Connect) -> None:
    ring.stop()
    wait_until(lambda: not ring.running)
    ring.start()
    broker = ring.add("queue", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    request, reply = connect(zmq.REQ, endpoint(broker.frontend)), connect(zmq.REP, endpoint(broker.backend))
    request.send(b"question")
    assert reply.recv() == b"question"
    reply.send(b"answer")
    assert request.recv() == b"answer"
