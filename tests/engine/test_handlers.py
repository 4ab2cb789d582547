"""Handlers that raise, that return nonsense, and that steer the engine from within."""

import logging
import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Device, Engine, EngineError, Route
from pollbroker.statistics import FlowStatistics
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.bystander import Bystander
from tests.support.deadline import wait_until
from tests.support.types import Connect, MakeEngine

# -- what a handler returns or raises ----------------------------------------------------------------------------------


class HandlerBroker:
    """A streamer whose messages pass through a handler, with a producer and a consumer."""

    def __init__(
        self, engine: Engine, connect: Connect, handler: Callable[[list[bytes]], Any], name: str = "handled"
    ) -> None:
        device = Device("handled", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),))
        self._engine, self._name = engine, name
        self.broker = engine.add(name, device, frontend=ANY_PORT, backend=ANY_PORT, backend_options={"sndhwm": 1})
        self.push = connect(zmq.PUSH, endpoint(self.broker.frontend), sndhwm=0)

    @property
    def flow(self) -> FlowStatistics:
        return flow_of(self._engine, self._name)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class Treacherous(Sequence[bytes]):
    """A sequence that raises whatever is asked of it."""

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __getitem__(self, index: Any) -> Any:
        raise RuntimeError("no item")


NONSENSE = [
    "text", b"bytes", bytearray(b"x"), memoryview(b"x"), [], (), 5, True, 1.5, object(), {b"a": b"b"}, {b"a"},
    [1], [None], [b"a", "b"], [b"a", 5], [[b"a"]], [bytearray(b"a")], [memoryview(b"a")], range(3),
    Unprintable(), [Unprintable()], Treacherous(), type, zmq.Frame(b"a"),
]  # fmt: skip


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("yielded", [False, True], ids=["returned", "yielded"])
def test_nonsense_from_a_handler_is_counted_and_the_next_message_passes(
    engine: Engine,
    connect: Connect,
    bystander: Bystander,
    caplog: pytest.LogCaptureFixture,
    nonsense: Any,
    yielded: bool,
) -> None:
    def handler(frames: list[bytes]) -> Any:
        return nonsense if frames == [b"bad"] else frames

    def generator(frames: list[bytes]) -> Generator[Any, None, None]:
        yield nonsense if frames == [b"bad"] else frames

    handled = HandlerBroker(engine, connect, generator if yielded else handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    for _ in range(3):
        handled.push.send(b"bad")
        handled.push.send_multipart([b"good", b""])
        assert pull.recv_multipart() == [b"good", b""]
    wait_until(lambda: handled.flow.received == 6)
    flow = handled.flow
    assert (flow.failed, flow.sent, flow.filtered, flow.dropped) == (3, 3, 0, 3)
    assert balanced(flow)
    assert handled.broker.state == "running"
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    assert "a message was dropped" in caplog.text


async def awaits(message: list[bytes]) -> list[bytes]:
    return message


@pytest.mark.filterwarnings("error")
def test_function_that_gives_a_coroutine_is_told_to_be_one(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    handled = HandlerBroker(engine, connect, lambda message: awaits(message))
    handled.push.send(b"x")
    wait_until(lambda: handled.flow.failed)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "it gave a coroutine" in str(record.exc_info[1])
    assert "must itself be an `async def`" in str(record.exc_info[1])


@pytest.mark.parametrize(
    "error", [ValueError("bad"), StopIteration(), zmq.Again(), zmq.ContextTerminated(), OSError(9), UnprintableError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_handler_that_raises_drops_that_message_only(
    engine: Engine, connect: Connect, bystander: Bystander, error: Exception
) -> None:
    def handler(frames: list[bytes]) -> Any:
        if frames == [b"bad"]:
            raise error
        return frames

    handled = HandlerBroker(engine, connect, handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    for message in (b"1", b"bad", b"2", b"bad", b"bad", b"3"):
        handled.push.send(message)
    assert [pull.recv() for _ in range(3)] == [b"1", b"2", b"3"]
    flow = handled.flow
    assert (flow.received, flow.failed, flow.sent, flow.dropped) == (6, 3, 3, 3)
    assert handled.broker.state == "running"


def test_failures_are_logged_at_most_once_a_second(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(frames: list[bytes]) -> Any:
        raise ValueError("this cannot be handled")

    begun = time.monotonic()
    handled = HandlerBroker(engine, connect, handler)
    for _ in range(3000):
        handled.push.send(b"bad")
    wait_until(lambda: handled.flow.failed == 3000)
    assert 1 <= len(caplog.records) <= 1 + math.floor(time.monotonic() - begun)
    (record, *_) = caplog.records
    assert (record.name, record.levelno) == ("pollbroker", logging.ERROR)
    assert "handler" in record.getMessage()
    assert "a message was dropped (1 so far)" in record.getMessage()
    assert record.exc_info is not None
    assert "this cannot be handled" in str(record.exc_info[1])


@pytest.mark.parametrize("good", [0, 1, 3])
def test_generator_that_raises_midway_has_sent_what_it_gave(
    engine: Engine, connect: Connect, bystander: Bystander, good: int
) -> None:
    def handler(frames: list[bytes]) -> Any:
        for number in range(good):
            yield [*frames, b"%d" % number]
        if frames == [b"bad"]:
            raise ValueError("midway")

    handled = HandlerBroker(engine, connect, handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    for message in (b"1", b"bad", b"2"):
        handled.push.send(message)
    expected = [[m, b"%d" % number] for m in (b"1", b"bad", b"2") for number in range(good)]
    assert [pull.recv_multipart() for _ in range(3 * good)] == expected
    wait_until(lambda: handled.flow.received == 3)
    wait_until(lambda: handled.flow.failed == 1)
    flow = handled.flow
    assert (flow.sent, flow.held, flow.failed) == (3 * good, 0, 1)
    assert flow.filtered == (2 if not good else 0)
    assert balanced(flow)


def test_nonsense_midway_is_counted_and_the_generator_goes_on(engine: Engine, connect: Connect) -> None:
    def handler(frames: list[bytes]) -> Any:
        yield frames
        yield "nonsense"
        yield [b"after"]

    handled = HandlerBroker(engine, connect, handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    handled.push.send(b"1")
    assert [pull.recv(), pull.recv()] == [b"1", b"after"]
    flow = handled.flow
    assert (flow.received, flow.added, flow.sent, flow.failed) == (1, 2, 2, 1)


# A handler may use one list for every message, and one handler may serve several brokers.
def test_held_message_is_not_changed_by_what_the_handler_does_next(engine: Engine, connect: Connect) -> None:
    buffer: list[bytes] = []

    def handler(frames: list[bytes]) -> Any:
        buffer[:] = [b"mine", *frames]
        return buffer

    one = HandlerBroker(engine, connect, handler, "one")
    two = HandlerBroker(engine, connect, handler, "two")
    one.push.send(b"for one")
    wait_until(lambda: one.flow.held)
    two.push.send(b"for two")
    wait_until(lambda: two.flow.held)
    assert connect(zmq.PULL, endpoint(one.broker.backend)).recv_multipart() == [b"mine", b"for one"]
    assert connect(zmq.PULL, endpoint(two.broker.backend)).recv_multipart() == [b"mine", b"for two"]


# -- what a handler may call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steer", [Engine.pause, Engine.resume, Engine.remove])
def test_handler_that_steers_its_own_broker_gets_an_error(
    engine: Engine, connect: Connect, bystander: Bystander, steer: Callable[[Engine, str], Any]
) -> None:
    told: list[str] = []

    def handler(frames: list[bytes]) -> Any:
        try:
            steer(engine, "handled")
        except EngineError as error:
            told.append(str(error))
        return frames

    handled = HandlerBroker(engine, connect, handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    handled.push.send(b"1")
    assert pull.recv() == b"1"
    assert told == ["brokers.handled: its own handler cannot steer it; use engine.call_soon_threadsafe"]


def test_handler_cannot_pause_its_own_broker_and_the_error_says_how(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    told: list[str] = []

    def handle(frames: list[bytes]) -> list[bytes]:
        try:
            engine.pause("own")
        except EngineError as error:
            told.append(str(error))
        return frames

    device = Device("own", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", handle),))
    broker = engine.add("own", device, frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"x")
    wait_until(lambda: told, engine=engine)
    assert told == ["brokers.own: its own handler cannot steer it; use engine.call_soon_threadsafe"]


@pytest.mark.parametrize("call", [Engine.step, Engine.run, Engine.drain, Engine.close, Engine.start])
def test_handler_that_drives_the_engine_gets_an_error(
    engine: Engine, connect: Connect, bystander: Bystander, call: Callable[[Engine], Any]
) -> None:
    def handler(frames: list[bytes]) -> Any:
        call(engine)
        return frames

    handled = HandlerBroker(engine, connect, handler)
    handled.push.send(b"1")
    wait_until(lambda: handled.flow.failed)


def test_handler_may_remove_another_broker_in_traffic(engine: Engine, connect: Connect, bystander: Bystander) -> None:
    other = engine.add("other", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push = connect(zmq.PUSH, endpoint(other.frontend), sndhwm=0)
    pull = connect(zmq.PULL, endpoint(other.backend))

    def handler(frames: list[bytes]) -> Any:
        if "other" in engine.brokers:
            engine.remove("other")
        return frames

    handled = HandlerBroker(engine, connect, handler)
    consumer = connect(zmq.PULL, endpoint(handled.broker.backend))
    for _ in range(2000):
        push.send(b"x", zmq.DONTWAIT)
        if pull.poll(0):
            pull.recv()
    handled.push.send(b"1")
    assert consumer.recv() == b"1"
    assert other.state == "removed"
    assert other.error is None
