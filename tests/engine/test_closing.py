"""Closing an engine: at any time, from any thread, and what may be done meanwhile."""

import gc
import logging
import socket as net
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Broker, Engine, EngineError, Event, EventKind
from pollbroker.broker import working_broker
from pollbroker.engine import engine_loop
from pollbroker.port import WorkingPort
from pollbroker.states import BrokerState
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.processes import run_apart
from tests.support.threads import Threads, in_thread, running
from tests.support.transports import holding
from tests.support.types import Connect, MakeEngine


# `close` may be called before the thread has begun to run.
def test_engine_can_be_closed_at_once_after_start(make_engine: MakeEngine) -> None:
    for _ in range(50):
        engine = make_engine()
        engine.start()
        with running(engine.close):
            pass


def test_engine_that_never_ran_can_be_closed(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.close()


CALLS: dict[str, Callable[[Engine], object]] = {
    "run": Engine.run,
    "start": Engine.start,
    "step": Engine.step,
    "fileno": Engine.fileno,
    "next_timer_s": Engine.next_timer_s,
    "statistics": Engine.statistics,
    "drain": Engine.drain,
    "add": lambda engine: engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b"),
    "pause": lambda engine: engine.pause("a"),
    "resume": lambda engine: engine.resume("a"),
    "remove": lambda engine: engine.remove("a"),
    "add_reader": lambda engine: engine.add_reader(0, print),
    "remove_reader": lambda engine: engine.remove_reader(0),
    "call_later": lambda engine: engine.call_later(0, print),
    "call_soon_threadsafe": lambda engine: engine.call_soon_threadsafe(print),
    "on_close": lambda engine: engine.on_close(print),
}


@pytest.mark.parametrize("name", CALLS)
def test_use_after_close_is_an_error(make_engine: MakeEngine, name: str) -> None:
    engine = make_engine()
    engine.close()
    engine.close()
    engine.stop()
    with pytest.raises(EngineError, match=r"^the engine is closed"):
        CALLS[name](engine)


def test_register_after_close_is_an_error(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.close()
    with pytest.raises(EngineError, match=r"^the engine is closed"):
        engine.register(connect(zmq.PULL), connect(zmq.PUSH), STREAMER)


def test_close_from_many_threads_closes_once(make_engine: MakeEngine) -> None:
    for _ in range(10):
        engine = make_engine()
        closed: list[int] = []
        engine.on_close(partial(closed.append, 1))
        engine.start()
        for number in range(3):
            engine.add(f"a{number}", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        barrier = threading.Barrier(4)

        def close(engine: Engine = engine, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            engine.close()

        with Threads() as pool:
            for future in [pool.submit(close) for _ in range(4)]:
                future.result(DEADLINE_S)
        assert closed == [1]


def step_until_stopping(engine: Engine) -> None:
    while not engine.stopping:
        engine.step(None)


def until_refused(turn: Callable[[Engine], object], engine: Engine) -> None:
    def again_and_again() -> None:
        while True:
            turn(engine)

    with pytest.raises(EngineError, match=r"^the engine is closed$"):
        again_and_again()


@pytest.mark.parametrize("close", [Engine.close, lambda engine: engine.finish_close().result(DEADLINE_S)])
@pytest.mark.parametrize(
    "drive",
    [
        step_until_stopping,
        partial(until_refused, lambda engine: engine.step(None)),
        partial(until_refused, lambda engine: engine.step(0.01)),
        partial(until_refused, Engine.run),
    ],
    ids=["steps until it stops", "steps without limit", "steps again and again", "runs again and again"],
)
def test_engine_can_be_closed_while_threads_drive_it(
    make_engine: MakeEngine, drive: Callable[[Engine], None], close: Callable[[Engine], None]
) -> None:
    engine = make_engine()
    with Threads() as pool:
        pool.submit(drive, engine)
        wait_until(lambda: engine_loop(engine).turns)
        pool.submit(close, engine).result(DEADLINE_S)


def test_engine_can_be_closed_while_two_threads_step_it(make_engine: MakeEngine) -> None:
    """One of them sleeps in its turn, and the other one waits until that has ended."""
    engine = make_engine()
    with Threads() as pool:
        for _ in range(2):
            pool.submit(until_refused, lambda engine: engine.step(None), engine)
        wait_until(lambda: engine_loop(engine).turns)
        pool.submit(engine.close).result(DEADLINE_S)


# The thread that is within a turn has the lock, which the one that closes waits for.
@pytest.mark.parametrize("drive", [Engine.run, Engine.start])
def test_engine_can_be_closed_while_each_turn_calls_it(
    make_engine: MakeEngine, drive: Callable[[Engine], None]
) -> None:
    for _ in range(20):
        engine = make_engine()

        def call_again(engine: Engine = engine) -> None:
            engine.statistics()
            engine.call_later(0, call_again)

        call_again()
        with running(partial(drive, engine)):
            wait_until(lambda: engine_loop(engine).turns > 10)  # noqa: B023 - it is called here
            in_thread(engine.close).result(DEADLINE_S)


# A call that comes too late raises EngineError, and none waits for ever.
@pytest.mark.parametrize("own_context", [True, False])
def test_engine_may_be_closed_while_others_call_it(make_engine: MakeEngine, own_context: bool) -> None:
    for round_ in range(10):
        context = None if own_context else zmq.Context()
        engine = make_engine(context)
        engine.start()
        busy = threading.Barrier(5)

        def add(thread: int, engine: Engine = engine, busy: threading.Barrier = busy) -> str:
            busy.wait()
            try:
                for number in range(1_000_000):
                    name = f"{thread}-{number}"
                    engine.add(name, STREAMER, frontend=f"inproc://f{name}", backend=f"inproc://b{name}")
                    if number % 3:
                        engine.remove(name)
                    engine.statistics()
            except EngineError as error:
                return str(error)
            raise AssertionError("the engine was not closed")

        def steer(engine: Engine = engine, busy: threading.Barrier = busy) -> str:
            busy.wait()
            try:
                while True:
                    engine.call_soon_threadsafe(lambda: None)
                    engine.call_later(0, lambda: None)
                    engine.next_timer_s()
            except EngineError as error:
                return str(error)

        with Threads() as pool:
            calls = [*(pool.submit(add, thread) for thread in range(2)), *(pool.submit(steer) for _ in range(2))]
            busy.wait()
            wait_until(lambda e=engine: len(e.brokers) > 2)  # type: ignore[misc]
            with running(engine.close):
                pass
            told = {call.result(DEADLINE_S) for call in calls}
        told = {message for message in told if not message.startswith("no broker is named")}  # `close` has removed it
        assert told <= {"the engine is closed"}, round_
        if context is not None:
            with running(context.term):  # nothing was left open in it
                pass


def test_callbacks_at_close_may_use_the_engine(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    reader, writer = net.socketpair()
    seen: list[object] = []
    engine.add_reader(reader.fileno(), print)

    def first() -> None:
        seen.append(engine.remove_reader(reader.fileno()))
        seen.append(list(engine.statistics().brokers))

    def fails() -> None:
        raise ValueError("at close")

    engine.on_close(first)
    engine.on_close(fails)
    engine.on_close(lambda: seen.append("last"))
    engine.on_close(engine.close)
    engine.start()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.close()
    assert seen == [True, [], "last"]
    assert "at close" in caplog.text
    reader.close()
    writer.close()


def test_engine_cannot_be_started_by_what_it_calls_at_its_close(make_engine: MakeEngine) -> None:
    engine = make_engine()
    told: list[str] = []

    def start() -> None:
        try:
            engine.start()
        except EngineError as error:
            told.append(str(error))

    engine.on_close(start)
    engine.close()
    assert told == ["the engine is being started or closed already"]


def test_own_context_is_terminated_and_anothers_is_not(make_engine: MakeEngine) -> None:
    with zmq.Context() as context:
        engine = make_engine(context)
        broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        engine.close()
        assert not context.closed
        assert working_broker(broker).port("frontend").socket.closed
        assert working_broker(broker).port("backend").socket.closed
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.close()
    assert engine.context.closed


def test_engine_gives_its_descriptors_back(implementation: Any, waiter: str) -> None:
    script = """
        import os, sys
        from pollbroker import Engine, STREAMER, EngineError

        def descriptors():
            return len(os.listdir("/dev/fd"))
        def use(start):
            engine = Engine(pump=sys.argv[1], waiter=sys.argv[2])
            if start:
                engine.start()
            engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            engine.close()
        use(True)
        before = descriptors()
        for start in (True, False) * 5:
            use(start)
        assert descriptors() == before, (before, descriptors())
        print("none left")
    """
    assert run_apart(script, implementation.name, waiter) == "none left\n"


def test_close_ends_a_run_in_the_callers_own_thread(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with running(engine.run) as thread:
        wait_until(lambda: engine.running)
        engine.close()
        assert engine.closed
        thread.join(DEADLINE_S)
    assert not engine.running


def test_broker_that_is_added_while_the_engine_closes_is_removed(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    holding(engine, connect)
    late: list[Any] = []
    engine.call_later(0.05, lambda: late.append(engine.add("late", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)))
    engine.close(timeout_s=0.2)
    (broker,) = late
    assert broker.state == BrokerState.REMOVED
    assert working_broker(broker).port("frontend").socket.closed


def test_undelivered_messages_are_logged_at_the_end(
    make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    holding(engine, connect)
    engine.add("idle", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.close(timeout_s=0.01)
    messages = [(record.levelno, record.message) for record in caplog.records]
    assert messages == [(logging.WARNING, "brokers.a: closed with 1 messages undelivered")]


def test_context_that_cannot_be_terminated_yet_is_warned_of(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pollbroker.closing.TERM_S", 0.02)
    engine = make_engine()
    with engine.context.socket(zmq.PULL) as socket:
        socket.linger = 0
        engine.close()
        assert [(record.levelno, record.message) for record in caplog.records] == [
            (
                logging.WARNING,
                "context not terminated after 0.02 s: sockets that the engine did not open are still open in it, or a "
                "socket that it closed still sends messages; the context ends when these are done",
            )
        ]
        (ending,) = (thread for thread in threading.enumerate() if thread.name == "pollbroker-term")
        assert ending.daemon
    ending.join(DEADLINE_S)
    assert engine.context.closed


# Ctrl-C may come while `close` waits for a held message to be sent.
def test_close_that_is_interrupted_waits_no_longer_and_closes_everything(
    make_engine: MakeEngine, connect: Connect
) -> None:
    engine = make_engine()
    holding(engine, connect)
    calls = engine_loop(engine).calls
    wait = calls.wait

    def interrupted(*args: Any) -> None:
        calls.wait = wait  # type: ignore[method-assign]
        raise KeyboardInterrupt

    calls.wait = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        engine.close(timeout_s=1e6)
    assert engine.closed
    assert engine.context.closed
    engine.close()


def ends_the_program(event: Event) -> None:
    if event.kind is EventKind.BROKER_REMOVED:
        sys.exit(7)


END_THE_PROGRAM: dict[str, Callable[[Engine], object]] = {
    "listener": lambda engine: engine.on_event(ends_the_program),
    "at_end": lambda engine: engine.on_event(print, at_end=partial(sys.exit, 7)),
    "on_close": lambda engine: engine.on_close(partial(sys.exit, 7)),
}
"""What raises `SystemExit` amid `close`."""


@pytest.mark.parametrize("drive", [Engine.start, Engine.step])
@pytest.mark.parametrize("how", END_THE_PROGRAM)
def test_everything_is_closed_when_what_ends_the_program_amid_close_comes_up(
    make_engine: MakeEngine, how: str, drive: Callable[[Engine], object]
) -> None:
    engine = make_engine()
    drive(engine)
    brokers = [engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT) for name in "ab"]
    called: list[str] = []
    engine.on_close(partial(called.append, "before"))
    END_THE_PROGRAM[how](engine)
    engine.on_close(partial(called.append, "after"))
    engine.on_event(print, at_end=partial(called.append, "at_end"))
    with pytest.raises(SystemExit) as caught:
        engine.close()
    assert caught.value.code == 7
    assert engine.closed
    assert engine.context.closed
    assert called == ["before", "after", "at_end"]
    assert [broker.state for broker in brokers] == ["removed"] * 2
    engine.close()  # what ended the engine's thread was raised already


def test_call_that_ends_the_program_amid_close_keeps_no_other_call_from_being_made(make_engine: MakeEngine) -> None:
    engine = make_engine()
    called: list[str] = []
    engine.on_close(partial(engine.call_soon_threadsafe, sys.exit))
    engine.on_close(partial(engine.call_soon_threadsafe, called.append, "next"))
    with pytest.raises(SystemExit):
        engine.close()
    assert engine.closed
    assert called == ["next"]


def test_a_close_that_was_interrupted_amid_the_end_of_a_broker_can_be_made_again(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    brokers = [engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT) for name in "ab"]
    close = WorkingPort.close

    def interrupted(self: WorkingPort) -> None:
        close(self)
        undo.undo()
        raise KeyboardInterrupt

    with monkeypatch.context() as undo:
        undo.setattr(WorkingPort, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.close()
    engine.close()
    assert engine.closed
    assert [broker.removed.result(0).state for broker in brokers] == ["removed"] * 2


def test_listener_may_remove_another_broker_while_all_are_removed(make_engine: MakeEngine) -> None:
    engine = make_engine()
    brokers = [engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT) for name in "abc"]

    def remove_all(event: Event) -> None:
        if event.kind is EventKind.BROKER_REMOVED:
            for name in engine.brokers:
                engine.remove(name)

    engine.on_event(remove_all)
    engine.close()
    assert engine.closed
    assert [broker.state for broker in brokers] == ["removed"] * 3


def test_listener_that_adds_a_broker_for_each_that_is_removed_is_refused(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    engine.add("0", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    added: list[Broker] = []

    def add_another(event: Event) -> None:
        if event.kind is EventKind.BROKER_REMOVED:
            added.append(engine.add(f"{len(added) + 1}", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))

    engine.on_event(add_another)
    engine.close()
    assert all(broker.state == "removed" for broker in added)
    assert "the engine is closed" in caplog.text


def test_context_is_terminated_though_the_wait_for_it_was_interrupted(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    join = threading.Thread.join

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        if self.name in ("pollbroker-close", "pollbroker-term") and threading.current_thread() is this:
            undo.undo()
            raise KeyboardInterrupt
        join(self, timeout)

    this = threading.current_thread()
    with monkeypatch.context() as undo:
        undo.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.close()
    engine.finish_close().result(DEADLINE_S)
    engine.close()
    assert engine.context.closed


@pytest.mark.parametrize("name", ["pollbroker-close", "pollbroker-term"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_close_can_be_made_again_where_no_thread_could_be_started(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    engine = make_engine()
    start = threading.Thread.start

    def fail(self: threading.Thread) -> None:
        if self.name == name:
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as failing, suppress(RuntimeError):
        failing.setattr(threading.Thread, "start", fail)
        engine.close()
    assert engine.closed
    engine.close()
    engine.finish_close().result(DEADLINE_S)
    if name == "pollbroker-term":  # it was tried once, and the program may do it
        engine.context.term()
    assert engine.context.closed


def test_engine_on_the_callers_context_is_closed_without_another_thread(
    make_engine: MakeEngine, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(context)
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as failing:
        failing.setattr(threading.Thread, "start", fail)
        engine.close()
        engine.finish_close().result(0)
    assert not context.closed


def test_callback_for_the_close_can_be_cancelled(make_engine: MakeEngine) -> None:
    engine = make_engine()
    done: list[int] = []
    first, _ = engine.on_close(lambda: done.append(1)), engine.on_close(lambda: done.append(2))
    first.cancel()
    engine.close()
    assert done == [2]


def test_engine_that_is_forgotten_is_warned_of(context: zmq.Context[Any]) -> None:
    def forget() -> None:
        Engine(context)
        gc.collect()

    with pytest.warns(ResourceWarning) as warned:
        forget()
    told = [str(one.message) for one in warned]
    assert [one.startswith("unclosed engine <Engine not running, 0 brokers") for one in told].count(True) == 1, told
