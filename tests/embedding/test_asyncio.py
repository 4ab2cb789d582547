"""What `pollbroker.asyncio` has beyond other environments: its names, its beginning and end, and whole programs."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import uvloop
import zmq
import zmq.asyncio

import pollbroker
import pollbroker.asyncio
from pollbroker import QUEUE, STREAMER, BrokerState, ConfigError, DeviceError, EngineError, Event, EventKind
from pollbroker.asyncio import Engine, turns
from tests.support.addresses import ANY_PORT, bind
from tests.support.deadline import DEADLINE_S
from tests.support.streamers import streamer_with
from tests.support.threads import in_thread
from tests.support.transports import holding_streamer
from tests.support.types import Connect

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """`asyncio.run` on each loop in turn."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main)

    return run


@pytest.mark.parametrize("kind", ["Engine", "Broker"])
def test_names_and_arguments_are_those_of_the_other_engine(kind: str) -> None:
    theirs, ours = getattr(pollbroker, kind), getattr(pollbroker.asyncio, kind)
    beyond = {
        "Engine": {"sync", "wait_stopped", "context"},
        "Broker": {"sync"},
    }
    names = {name for name in dir(ours) if not name.startswith("_")}
    assert names - set(dir(theirs)) - beyond[kind] == set()
    for name in names & set(dir(theirs)):
        if inspect.isfunction(getattr(ours, name)):
            one, other = (inspect.signature(getattr(of, name)).parameters.values() for of in (theirs, ours))
            assert [(p.name, p.kind, p.default) for p in one] == [(p.name, p.kind, p.default) for p in other], name


def test_constructor_takes_a_part_of_the_other_engines_arguments() -> None:
    theirs = inspect.signature(pollbroker.Engine).parameters
    ours = inspect.signature(Engine).parameters
    assert [(p.name, p.default) for p in ours.values()] == [(name, theirs[name].default) for name in ours]
    with pytest.raises(ConfigError, match="burst_messages: 0"):
        Engine(burst_messages=0)


def test_queue_between_sockets_of_zmq_asyncio(run: Run) -> None:
    async def work(worker: zmq.asyncio.Socket) -> None:
        while True:
            await worker.send(b"reply to " + await worker.recv())

    async def main() -> None:
        async with Engine() as engine:
            broker = await engine.add("questions", QUEUE, frontend="inproc://ask", backend="inproc://work")
            context = zmq.asyncio.Context.shadow(engine.context)
            with context.socket(zmq.REQ) as client, context.socket(zmq.REP) as worker:
                client.connect(broker.frontend.endpoint)
                worker.connect(broker.backend.endpoint)
                working = asyncio.create_task(work(worker))
                for number in range(100):
                    await client.send(b"%d" % number)
                    assert await client.recv() == b"reply to %d" % number
                working.cancel()
                await asyncio.wait([working])
            assert await engine.drain() == ()

    run(main())


def test_handle_tells_what_the_other_handle_tells(run: Run) -> None:
    async def main() -> None:
        async with Engine() as engine:
            broker = await engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, capture=ANY_PORT)
            theirs = engine.sync.brokers["a"]
            assert broker.sync == theirs
            for name in ("name", "device", "state", "error", "ports", "frontend", "backend", "capture"):
                assert getattr(broker, name) == getattr(theirs, name)
            assert broker == engine.brokers["a"]
            assert len({broker, engine.brokers["a"]}) == 1
            assert broker != theirs
            assert repr(broker) == repr(theirs)
            removed = broker.removed
            assert await broker.remove() == await removed == await broker.removed
            again = await engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
            assert again != broker
            with pytest.raises(DeviceError, match="it has no capture"):
                _ = again.capture
            with pytest.raises(EngineError, match=r"brokers\.a: it is removed"):
                await engine.drain(broker=broker)

    run(main())


def test_engine_begins_once_and_says_so(run: Run) -> None:
    engine = Engine()
    assert repr(engine) == "<pollbroker.asyncio.Engine not running, brokers: none>"
    with pytest.raises(RuntimeError, match="no running event loop"):
        engine.start()

    async def main() -> None:
        async with engine:
            await engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
            assert repr(engine) == "<pollbroker.asyncio.Engine running, brokers: a>"
            with pytest.raises(EngineError, match="the engine is running already"):
                engine.start()
        assert repr(engine) == "<pollbroker.asyncio.Engine closed, brokers: none>"
        with pytest.raises(EngineError, match="the engine is closed"):
            engine.start()
        await engine.wait_stopped()

    run(main())


def test_engine_that_was_not_started_does_not_wait(run: Run, connect: Connect) -> None:
    async def main() -> None:
        engine = Engine()
        broker = await engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        with pytest.raises(EngineError, match="the engine was not started, and nothing makes its turns"):
            await broker.drain()
        engine.start()
        assert await broker.drain()
        await engine.close()
        engine = Engine()
        await engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        await engine.close(timeout_s=3600.0)
        assert engine.closed
        assert engine.context.closed

    run(main())


def test_context_of_the_callers_stays_the_callers(run: Run, context: zmq.Context[Any]) -> None:
    async def main() -> None:
        async with Engine(context) as engine:
            assert engine.context is context
            await engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b")
        assert not context.closed

    run(main())


def test_timer_is_set_in_the_loop_when_it_changes_and_not_at_each_turn(
    run: Run, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop, delays_s = asyncio.get_running_loop(), []
        loops_own = loop.call_later

        def call_later(delay_s: float, *args: Any) -> asyncio.TimerHandle:
            delays_s.append(delay_s)
            return loops_own(delay_s, *args)

        async with asyncio.timeout(DEADLINE_S), Engine() as engine:
            monkeypatch.setattr(loop, "call_later", call_later)
            broker = await engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
            source = connect(zmq.PUSH, broker.frontend.endpoint)
            sink = connect(zmq.PULL, broker.backend.endpoint)

            async def pass_messages(count: int) -> None:
                for _ in range(count):
                    source.send(b"x")
                    while not sink.poll(0):
                        await asyncio.sleep(0)
                    sink.recv()

            engine.sync.call_later(3600.0, print)
            await pass_messages(10)
            assert delays_s == [pytest.approx(3600.0, abs=DEADLINE_S)]
            engine.sync.call_later(7200.0, print)
            await pass_messages(10)
            assert len(delays_s) == 1
            engine.sync.call_later(1800.0, print)
            await pass_messages(10)
            assert delays_s[1:] == [pytest.approx(1800.0, abs=DEADLINE_S)]

    run(main())


def test_timer_for_ever_does_not_keep_others_from_running(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S), Engine() as engine:
            engine.sync.call_later(float("inf"), print)
            await engine.drain(0.0)
            ran = asyncio.Event()
            engine.sync.call_later(0.01, ran.set)
            await ran.wait()

    run(main())
    assert caplog.text == ""


def test_timer_runs_behind_one_that_was_cancelled_in_the_meantime(run: Run) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S), Engine() as engine:
            ran = asyncio.Event()
            sooner = engine.sync.call_later(0.005, ran.set)
            await asyncio.sleep(0)  # the loop has set its timer
            sooner.cancel()
            engine.sync.call_later(0.01, ran.set)
            await ran.wait()
            ran.clear()
            engine.sync.call_later(0.005, ran.set)
            await ran.wait()

    run(main())


# As when a second Ctrl-C, or a time limit, comes while the block is being left.
def test_cancelled_block_is_closed_when_the_cancellation_comes_up(run: Run, connect: Connect) -> None:
    async def main() -> None:
        engine = Engine()

        async def use() -> None:
            async with engine:
                broker = await engine.add("a", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
                connect(zmq.PUSH, broker.frontend.endpoint).send(b"held")
                while not broker.statistics().flows["frontend"].held:
                    await asyncio.sleep(0)
                removed.append(broker.removed)
                await engine.close(timeout_s=3600.0)

        removed: list[Awaitable[Any]] = []
        using = asyncio.create_task(use())
        async with asyncio.timeout(DEADLINE_S):
            while not removed or engine.brokers["a"].state is not BrokerState.REMOVING:
                await asyncio.sleep(0)
        using.cancel()
        (ended,) = await asyncio.gather(using, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)
        assert (await removed[0]).flows["frontend"].held == 1
        assert engine.closed

    run(main())


@pytest.mark.parametrize("error", [SystemExit(7), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("where", ["handler", "timer", "reader"])
def test_what_ends_a_program_comes_out_of_the_loop_and_the_engine_is_closed(
    run: Run, connect: Connect, error: BaseException, where: str
) -> None:
    engine = Engine()
    left = []

    inbox = connect(zmq.PULL)

    def end(*frames: list[bytes]) -> None:
        if where == "reader":
            inbox.recv()
        raise error

    async def main() -> None:
        try:
            async with engine:
                broker = await engine.add("a", streamer_with(end), frontend=ANY_PORT, backend=ANY_PORT)
                push = connect(zmq.PUSH, broker.frontend.endpoint)
                if where == "handler":
                    push.send(b"x")
                elif where == "timer":
                    engine.sync.call_later(0.0, end)
                else:
                    connect(zmq.PUSH, bind(inbox)).send(b"x")
                    engine.sync.add_reader(inbox, end)
                await engine.wait_stopped()
        finally:
            left.append(engine.closed)

    with pytest.raises(type(error)) as raised:
        run(main())
    assert raised.value is error
    assert left == [True]


def test_loop_that_runs_again_goes_on_with_what_was_left() -> None:
    loop = asyncio.new_event_loop()
    engine = Engine()
    ran: list[str] = []

    def end() -> None:
        raise SystemExit

    async def begin() -> None:
        engine.start()
        engine.sync.call_soon_threadsafe(end)
        engine.sync.call_soon_threadsafe(ran.append, "next")
        await engine.wait_stopped()

    async def finish() -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not ran:
                await asyncio.sleep(0)
        await engine.close()

    beginning = loop.create_task(begin())
    with pytest.raises(SystemExit):
        loop.run_until_complete(beginning)
    loop.run_until_complete(finish())
    loop.run_until_complete(beginning)  # closing has ended the wait for the stop
    assert ran == ["next"]
    loop.close()


def test_everything_is_closed_when_what_ends_the_program_amid_close_comes_up(run: Run) -> None:
    engine = Engine()
    called: list[str] = []

    def end(event: Event) -> None:
        if event.kind is EventKind.BROKER_REMOVED:
            raise SystemExit(7)

    async def main() -> None:
        engine.start()
        for name in "ab":
            await engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        engine.sync.on_event(end, at_end=partial(called.append, "at_end"))
        engine.sync.on_close(partial(called.append, "on_close"))
        try:
            await engine.close()
        except SystemExit as error:
            called.append(str(error))
        assert engine.closed
        await engine.close()

    run(main())
    assert called == ["on_close", "at_end", "7"]
    assert engine.context.closed


@pytest.mark.parametrize("debug", [False, True])
def test_loop_in_another_thread_cannot_close_the_engine(debug: bool) -> None:
    async def main() -> None:
        async with Engine() as engine:
            with pytest.raises(EngineError, match="in another thread than the engine's loop"):
                await asyncio.to_thread(asyncio.run, engine.close(), debug=debug)
            assert not engine.closed
            await asyncio.to_thread(engine.stop)
            async with asyncio.timeout(DEADLINE_S):
                await engine.wait_stopped()
            here = asyncio.get_running_loop()
            await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(engine.close(), here).result(DEADLINE_S))
            assert engine.closed

    asyncio.run(main(), debug=debug)


def test_engine_can_be_closed_by_another_loop_when_its_own_has_ended() -> None:
    engine = Engine()

    async def begin() -> None:
        engine.start()

    asyncio.run(begin())
    in_thread(lambda: asyncio.run(engine.close())).result(DEADLINE_S)
    assert engine.closed


def test_close_does_not_wait_for_ever_for_a_coroutine_handler_that_goes_on(
    run: Run, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turns, "_CANCELLED_S", 0.01)

    async def main() -> None:
        begun, may_end, cleaned_up = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def goes_on(message: list[bytes]) -> None:
            begun.set()
            while not may_end.is_set():
                with suppress(asyncio.CancelledError):
                    await may_end.wait()
            cleaned_up.set()

        async with Engine() as engine:
            broker = await engine.add("a", streamer_with(goes_on), frontend=ANY_PORT, backend=ANY_PORT)
            connect(zmq.PUSH, broker.frontend.endpoint).send(b"x")
            async with asyncio.timeout(DEADLINE_S):
                await begun.wait()
                await engine.close(timeout_s=0.0)
            assert engine.closed
            assert not cleaned_up.is_set()
            may_end.set()
            await cleaned_up.wait()

    run(main())
    assert "a coroutine handler has not ended 0.01 s after it was cancelled" in caplog.text
    assert "goes_on" in caplog.text
