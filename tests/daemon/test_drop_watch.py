"""What is dropped is warned of: at once, and then seldom with the number."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Device, Engine, Route
from pollbroker.broker import Broker
from pollbroker.daemon.drop_watch import AGAIN_S, EVERY_S, REASONS, DropWatch
from pollbroker.statistics import DROPS
from tests.support.clocks import Clock
from tests.support.types import Connect, MakeEngine, Socket

UNROUTABLE = "unroutable: no peer has their routing id"


class Watched:
    """A queue that drops replies for clients that are not there, and a watch by a clock of the test's."""

    def __init__(self, engine: Engine, connect: Connect) -> None:
        self.engine = engine
        self.clock = Clock()
        self.watch = DropWatch(engine, self.clock)
        self.broker = engine.add("orders", QUEUE, frontend="inproc://f", backend="inproc://b")
        self.worker: Socket = connect(zmq.DEALER, "inproc://b")

    def drop(self, count: int) -> None:
        before = self.broker.dropped
        for _ in range(count):
            self.worker.send_multipart([b"nobody", b"", b"reply"])
        while self.broker.dropped < before + count:
            self.engine.step(0.001)

    def look(self) -> None:
        self.watch.look_at(self.broker)


@pytest.fixture
def watched(make_engine: MakeEngine, context: zmq.Context[Socket], connect: Connect) -> Watched:
    return Watched(make_engine(context), connect)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [record.message for record in caplog.records]
    caplog.clear()
    return told


def test_first_drop_is_told_at_once_and_those_after_it_together(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.look()
    assert messages(caplog) == []
    watched.drop(1)
    watched.look()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    told = {"broker": "orders", "port": "backend", "rule": "unroutable", "dropped": 1, "dropped_so_far": 1}
    assert {name: getattr(record, name) for name in told} == told
    assert messages(caplog) == [f"brokers.orders.backend: 1 message dropped (1 so far): {UNROUTABLE}"]
    for _ in range(3):
        watched.drop(2)
        watched.look()
    assert messages(caplog) == []
    watched.clock.now_s += AGAIN_S
    watched.look()  # nothing was dropped since the last look
    assert messages(caplog) == [f"brokers.orders.backend: 6 messages dropped (7 so far): {UNROUTABLE}"]
    watched.clock.now_s += AGAIN_S
    watched.look()
    assert messages(caplog) == []


def test_rest_is_told_when_a_broker_has_ended(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.drop(1)
    watched.look()
    watched.drop(3)
    watched.watch.tell_rest(watched.broker, watched.broker.remove(timeout_s=0))
    assert messages(caplog)[1:] == [f"brokers.orders.backend: 3 messages dropped (4 so far): {UNROUTABLE}"]


def test_broker_of_the_same_name_begins_anew(
    watched: Watched, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    watched.drop(1)
    watched.look()
    watched.broker.remove(timeout_s=0)
    watched.broker = watched.engine.add("orders", QUEUE, frontend="inproc://g", backend="inproc://c")
    watched.worker = connect(zmq.DEALER, "inproc://c")
    watched.drop(1)
    watched.look()
    assert messages(caplog) == [f"brokers.orders.backend: 1 message dropped (1 so far): {UNROUTABLE}"] * 2


def test_what_was_told_of_an_earlier_broker_is_not_told_again(
    watched: Watched, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    watched.drop(2)
    for count in (1, 0, 0):
        final = watched.broker.remove(timeout_s=0)
        watched.watch.tell_rest(watched.broker, final)
        messages(caplog)
        watched.broker = watched.engine.add("orders", QUEUE, frontend="inproc://f", backend="inproc://b", earlier=final)
        watched.worker = connect(zmq.DEALER, "inproc://b")
        watched.look()
        watched.drop(count)
        watched.look()
        assert messages(caplog) == [f"brokers.orders.backend: 1 message dropped (3 so far): {UNROUTABLE}"] * count
    watched.watch.tell_rest(watched.broker, watched.broker.remove(timeout_s=0))
    assert messages(caplog) == []


def test_what_a_broker_of_another_process_had_dropped_is_not_told_again(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.drop(2)
    watched.watch.take_as_told(watched.broker)
    watched.look()
    assert messages(caplog) == []
    watched.drop(1)
    watched.look()
    assert messages(caplog) == [f"brokers.orders.backend: 1 message dropped (3 so far): {UNROUTABLE}"]


def test_what_an_earlier_broker_held_is_told(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    final = watched.broker.remove(timeout_s=0)
    flows = {**final.flows, "backend": replace(final.flows["backend"], received=1, held=1)}
    watched.broker = watched.engine.add(
        "orders", QUEUE, frontend="inproc://f", backend="inproc://b", earlier=replace(final, flows=flows)
    )
    watched.look()
    reason = REASONS["removed"]
    assert messages(caplog) == [f"brokers.orders.backend: 1 message dropped (1 so far): removed: {reason}"]


def test_what_a_handler_filters_out_is_not_warned_of(
    make_engine: MakeEngine, context: zmq.Context[Socket], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def none_of_them(message: list[bytes]) -> None:
        return None

    engine = make_engine(context)
    device = Device("filter", ports={"a": zmq.PULL, "b": zmq.PUSH}, routes=[Route("a", "b", none_of_them)])
    broker = engine.add("f", device, a="inproc://a", b="inproc://b")
    connect(zmq.PUSH, "inproc://a").send(b"x")
    while not broker.dropped:
        engine.step(0.001)
    DropWatch(engine, Clock()).look_at(broker)
    assert messages(caplog) == []


def test_every_rule_but_that_of_filters_has_its_reason() -> None:
    assert set(REASONS) == set(DROPS) - {"filtered"}


class Look:
    """Counts which brokers were looked at, and lets time pass at each."""

    def __init__(self, watch: DropWatch, clock: Clock, each_s: float) -> None:
        self.names: list[str] = []
        self._clock = clock
        self._each_s = each_s
        watch.look_at = self  # type: ignore[method-assign]

    def __call__(self, broker: Broker) -> None:
        self.names.append(broker.name)
        self._clock.now_s += self._each_s


@pytest.fixture
def clock() -> Clock:
    """The engine's clock, which stands still until it is moved."""
    return Clock()


@pytest.fixture
def idle(make_engine: MakeEngine, clock: Clock) -> Iterator[Engine]:
    engine = make_engine(clock=clock)
    for number in range(10):
        engine.add(str(number), STREAMER, frontend=f"inproc://f{number}", backend=f"inproc://b{number}")
    yield engine
    engine.close()


def test_only_a_few_brokers_are_looked_at_in_a_turn(idle: Engine, clock: Clock) -> None:
    watch = DropWatch(idle, clock)
    look = Look(watch, clock, 0.0001)
    watch.start()
    for _ in range(2):
        clock.now_s += EVERY_S
        seen = []
        while len(look.names) < 10:
            before = len(look.names)
            idle.step(0.01)
            seen.append(len(look.names) - before)
        assert look.names == [str(number) for number in range(10)]
        assert max(seen) <= 3
        look.names.clear()
        idle.step(0.01)
        assert look.names == []  # until a second is over


def test_a_look_that_fails_is_logged_and_the_next_one_comes(
    idle: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    watch = DropWatch(idle, clock)
    looks = []

    def look(broker: Broker) -> None:
        looks.append(broker.name)
        if len(looks) == 1:
            raise OverflowError("too much")

    watch.look_at = look  # type: ignore[method-assign]
    watch.start()
    while len(looks) < 11:
        clock.now_s += EVERY_S
        idle.step(0.01)
    assert messages(caplog) == ["dropped messages could not be looked for"]


def test_nothing_is_said_when_the_engine_is_closed_during_a_look(
    idle: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    watch = DropWatch(idle, clock)
    look = Look(watch, clock, 0.001)
    watch.start()
    clock.now_s += EVERY_S
    idle.step(0.01)
    assert len(look.names) == 1
    idle.close()
    assert messages(caplog) == []
