"""An engine that is driven from outside: by asyncio, by select, by a poller that is handed in."""

import asyncio
import contextlib
import select
import threading
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Engine, EngineError
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.streamers import Peers, streamer_with
from tests.support.threads import Threads, running
from tests.support.transports import holding
from tests.support.turns import rest, within_a_turn
from tests.support.types import Connect, MakeEngine, Socket


def test_asyncio_drives_the_engine(implementation: Any, connect: Connect) -> None:
    """Call `step` when the engine's descriptor is readable or a timer is due, and at no other time."""
    with contextlib.closing(Engine(pump=implementation.name, waiter="nested")) as engine:
        peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
        came: list[str] = []

        async def drive() -> None:
            loop = asyncio.get_running_loop()
            woken = asyncio.Event()
            loop.add_reader(engine.fileno(), woken.set)
            work = loop.run_in_executor(None, use)
            work.add_done_callback(lambda _: woken.set())
            while not work.done():
                if not engine.step():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(woken.wait(), engine.next_timer_s())
                    woken.clear()
                await asyncio.sleep(0)
            loop.remove_reader(engine.fileno())
            await work

        def use() -> None:
            for _ in range(50):
                peers.check()
            peers.check(*[b"%d" % number for number in range(5000)])
            engine.call_later(0.01, came.append, "timer")
            wait_until(lambda: came)
            broker = engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
            Peers(connect, broker).check()
            engine.pause("a")
            peers.push.send(b"paused")
            engine.resume("a")
            assert peers.pull.recv() == b"paused"
            assert engine.drain(timeout_s=DEADLINE_S) == ()
            engine.remove("b")

        asyncio.run(drive())


def test_select_drives_the_engine(implementation: Any, connect: Connect) -> None:
    with contextlib.closing(Engine(pump=implementation.name, waiter="nested")) as engine:
        peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
        done = threading.Event()

        def use() -> None:
            for _ in range(20):
                peers.check()
            peers.check(*[b"%d" % number for number in range(5000)])
            done.set()
            engine.call_soon_threadsafe(lambda: None)

        with running(use):
            while not done.is_set():
                select.select([engine.fileno()], [], [], engine.next_timer_s())
                engine.step()


def test_poller_drives_the_engine(implementation: Any, connect: Connect) -> None:
    with contextlib.closing(Engine(pump=implementation.name, waiter="nested")) as engine:
        peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
        poller = zmq.Poller()
        poller.register(engine.fileno(), zmq.POLLIN)
        poller.register(peers.pull, zmq.POLLIN)
        for number in range(200):
            peers.push.send(b"%d" % number)
            while peers.pull not in (ready := dict(poller.poll(DEADLINE_MS))):
                assert ready, "the engine was not woken"
                engine.step()
            assert peers.pull.recv() == b"%d" % number


def test_flat_waiter_has_no_descriptor(implementation: Any) -> None:
    with contextlib.closing(Engine(pump=implementation.name, waiter="flat")) as engine:
        with pytest.raises(EngineError, match="the flat waiter has no descriptor"):
            engine.fileno()
        engine.step()


# The descriptor becomes readable when a call has made work, although nothing has happened at any socket.
def test_descriptor_is_readable_after_a_call_that_made_work(
    make_engine: MakeEngine, connect: Connect, context: zmq.Context[Socket]
) -> None:
    engine = make_engine(waiter="nested")
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.pause("a")
    pull = context.socket(zmq.PULL)
    pull.bind("inproc://source")
    connect(zmq.PUSH, "inproc://source").send(b"x")
    assert pull.poll(DEADLINE_MS)  # settled: its own descriptor is silent from here on

    wait_until(lambda: is_quiet(engine))
    engine.statistics()
    assert not is_told(engine)
    engine.resume("a")
    assert is_told(engine)
    wait_until(lambda: is_quiet(engine))
    engine.call_later(1e6, print)
    assert is_told(engine)
    wait_until(lambda: is_quiet(engine))
    engine.add_reader(pull, pull.recv)
    assert is_told(engine)
    wait_until(lambda: is_quiet(engine))
    engine.remove_reader(pull)


def is_told(engine: Engine) -> bool:
    """True if the descriptor says that there is something to do."""
    return bool(select.select([engine.fileno()], [], [], 0)[0])


def is_quiet(engine: Engine) -> bool:
    """True if it says nothing when nothing is left to do."""
    rest(engine)
    return not is_told(engine)


# Whoever waits for the removal makes turns, of which the program that drives the engine does not know.
@pytest.mark.parametrize("left", ["work", "a timer"])
def test_descriptor_is_readable_after_a_wait_that_left_something(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, left: str
) -> None:
    engine = make_engine(context, waiter="nested", burst_messages=1)

    def handle(frames: list[bytes]) -> list[bytes]:
        if left == "a timer":
            engine.call_later(1e6, print)
        return frames

    holding(engine, connect, "b")
    engine.add("a", streamer_with(handle), frontend="inproc://in", backend="inproc://out")
    producer, consumer = connect(zmq.PUSH, "inproc://in"), connect(zmq.PULL, "inproc://out")
    wait_until(lambda: is_quiet(engine))
    for _ in range(20 if left == "work" else 1):
        producer.send(b"x")
    engine.remove("b", timeout_s=0.0)
    assert consumer.recv() == b"x"
    assert is_told(engine)
    wait_until(lambda: is_quiet(engine))
    assert flow_of(engine, "a").sent == (20 if left == "work" else 1)


# Under gevent the poller runs the other greenlets: however busy the brokers are, they have their turn.
def test_a_poller_that_is_handed_in_is_asked_in_every_turn(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect
) -> None:
    asked = 0

    class CountingPoller(zmq.Poller):
        def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
            nonlocal asked
            asked += 1
            return super().poll(timeout)

    engine = make_engine(context, poller=CountingPoller(), burst_messages=1)
    engine.add("a", STREAMER, frontend="inproc://in", backend="inproc://out")
    producer, consumer = connect(zmq.PUSH, "inproc://in"), connect(zmq.PULL, "inproc://out")
    for _ in range(50):
        producer.send(b"x")
    turns = 0
    while flow_of(engine, "a").sent < 50:
        engine.step()
        turns += 1
        assert asked == turns
    assert sum(consumer.recv() == b"x" for _ in range(50)) == 50


# What was left when an exception ended a turn has its turn though nothing happens any more.
def test_descriptor_is_readable_after_an_exception(make_engine: MakeEngine) -> None:
    engine = make_engine(waiter="nested")
    rest(engine)

    def interrupt() -> None:
        raise KeyboardInterrupt

    ran: list[str] = []
    engine.call_soon_threadsafe(interrupt)
    engine.call_soon_threadsafe(ran.append, "left")
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    assert select.select([engine.fileno()], [], [], 0)[0]
    rest(engine)
    assert ran == ["left"]


def test_removal_and_drain_that_were_begun_need_turns_and_nobody_who_waits(
    make_engine: MakeEngine, connect: Connect
) -> None:
    engine = make_engine()
    backend = holding(engine, connect)
    given_up, drained = engine.begin_drain(1e6), engine.begin_drain(1e6, broker="a")
    removed = engine.begin_removal("a", timeout_s=1e6)
    assert not drained.done()
    assert not removed.done()
    assert given_up.cancel()
    assert not removed.cancel()  # the broker has one future for all that wait
    consumer = connect(zmq.PULL, backend)
    wait_until(lambda: drained.done() and removed.done(), engine=engine)
    assert drained.result() == ()
    assert removed.result().flows["frontend"].sent == 1
    assert consumer.recv() == b"held"
    with pytest.raises(EngineError, match="no broker is named 'a'"):
        engine.begin_removal("a")
    with pytest.raises(EngineError, match="no broker is named 'a'"):
        engine.begin_drain(broker="a")


def test_closing_in_two_steps_waits_for_nothing(
    make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    holding(engine, connect)
    engine.add("empty", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    holds, empty = engine.begin_close(timeout_s=1e6)
    assert (holds.done(), empty.done()) == (False, True)
    drained = engine.begin_drain(1e6)
    with pytest.raises(EngineError, match="from within a turn"):
        within_a_turn(engine, engine.finish_close)
    terminated = engine.finish_close()
    assert engine.closed
    assert holds.result().flows["frontend"].held == 1
    assert drained.result() == ()
    assert engine.finish_close() is terminated
    engine.close()  # waits for the context
    assert terminated.done()
    assert engine.context.closed
    assert caplog.text.count("closed with 1 messages undelivered") == 1


def test_closing_in_two_steps_leaves_the_callers_context(make_engine: MakeEngine, context: zmq.Context[Socket]) -> None:
    engine = make_engine(context)
    assert engine.begin_close() == ()
    engine.finish_close().result(DEADLINE_S)
    engine.close()
    assert not context.closed


def test_step_waits_until_the_turn_of_another_thread_has_ended(make_engine: MakeEngine) -> None:
    engine = make_engine()
    inside, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        assert go_on.wait(DEADLINE_S)

    engine.call_later(0, wait)
    with Threads() as threads:
        one = threads.submit(engine.step)
        assert inside.wait(DEADLINE_S)
        other = threads.submit(engine.step)
        with pytest.raises(TimeoutError):
            other.result(0.01)
        go_on.set()
        one.result(DEADLINE_S)
        other.result(DEADLINE_S)
