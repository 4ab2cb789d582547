"""The engine's own face: beginning and ending it, in any order and from any thread, and what may be done meanwhile."""

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket as net
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import (
    QUEUE,
    REFLECTOR,
    STREAMER,
    Broker,
    Device,
    DeviceError,
    EndpointError,
    Engine,
    EngineError,
    Route,
)
from pollbroker.broker import working_broker
from pollbroker.statistics import FlowStatistics
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Connect, MakeEngine, Socket

ANY = "tcp://127.0.0.1:*"


def endpoint(port: Any) -> str:
    """The one real address of a port."""
    (address,) = port.endpoints
    assert isinstance(address, str)
    return address


def flow_of(engine: Engine, name: str, source: str = "frontend") -> FlowStatistics:
    return engine.statistics().brokers[name].flows[source]


def run_apart(script: str, *arguments: str) -> str:
    """What a script prints that runs, and ends well, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@contextlib.contextmanager
def running(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """A call in a thread of its own, which is to have returned at the end of the block."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    yield thread
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


class Threads:
    """Calls in threads of their own, whose results are futures. One that hangs fails its test, not the whole run."""

    def __enter__(self) -> "Threads":
        self._futures: list[Future[Any]] = []
        return self

    def submit(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(call(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(error)

        self._futures.append(future)
        threading.Thread(target=run, daemon=True).start()
        return future

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            for future in self._futures:
                future.result(DEADLINE_S)


class Peers:
    """A producer and a consumer of a streamer."""

    def __init__(self, connect: Connect, broker: Broker) -> None:
        self.push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
        self.pull = connect(zmq.PULL, endpoint(broker.backend), rcvhwm=0)

    def check(self, *messages: bytes) -> None:
        for message in messages or (b"passes",):
            self.push.send(message)
        assert [self.pull.recv() for _ in messages or (b"passes",)] == list(messages or (b"passes",))


# -- beginning and end ------------------------------------------------------------------------------------------------


def test_run_goes_on_until_stop(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    for _ in range(3):
        with running(engine.run):
            name = f"a{len(engine.brokers)}"
            Peers(connect, engine.add(name, STREAMER, frontend=ANY, backend=ANY)).check()
            engine.stop()


def test_stop_before_run_ends_it_after_one_turn(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.stop()
    with running(engine.run):
        pass
    assert engine.statistics().turns == 1
    with running(engine.run) as thread:  # the stop was used up
        wait_until(lambda: engine.statistics().turns > 1)
        assert thread.is_alive()
        engine.stop()


def test_stop_from_within_ends_run(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.call_later(0, engine.stop)
    engine.run()
    engine.call_soon_threadsafe(engine.stop)
    engine.run()


def test_run_twice_is_an_error(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with running(engine.run):
        wait_until(lambda: engine.statistics().turns)
        for call in (engine.run, engine.start, engine.step):
            with pytest.raises(EngineError, match=r"^the engine is running already"):
                call()
        engine.stop()


# However soon the second comes: the thread of the first may not have begun.
def test_start_twice_is_an_error(make_engine: MakeEngine) -> None:
    for _ in range(20):
        engine = make_engine()
        engine.start()
        with pytest.raises(EngineError, match=r"^the engine is running already"):
            engine.start()
        engine.close()


def test_start_from_many_threads_starts_one(make_engine: MakeEngine) -> None:
    engine = make_engine()
    barrier = threading.Barrier(4)

    def start() -> str:
        barrier.wait()
        try:
            engine.start()
        except EngineError as error:
            return str(error)
        return "started"

    with Threads() as pool:
        told = [future.result(DEADLINE_S) for future in [pool.submit(start) for _ in range(4)]]
    assert sorted(told) == ["started", *["the engine is running already"] * 3]
    engine.close()


def test_start_after_stop_goes_on(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY, backend=ANY))
    for _ in range(5):
        peers.check()
        engine.stop()
        wait_until(lambda: can_step(engine))
        engine.start()
    peers.check()


def can_step(engine: Engine) -> bool:
    try:
        engine.step()
    except EngineError:
        return False
    return True


# However soon: `close` may come before the thread has begun to run.
def test_close_at_once_after_start(make_engine: MakeEngine) -> None:
    for _ in range(50):
        engine = make_engine()
        engine.start()
        with running(engine.close):
            pass


def test_block_stops_and_closes(connect: Connect, implementation: Any, waiter: str) -> None:
    with Engine(pump=implementation.name, waiter=waiter) as engine:
        Peers(connect, engine.add("a", STREAMER, frontend=ANY, backend=ANY)).check()
    with pytest.raises(EngineError, match=r"^the engine is closed"):
        engine.statistics()
    with pytest.raises(ZeroDivisionError), Engine(pump=implementation.name, waiter=waiter) as engine:
        raise ZeroDivisionError
    with pytest.raises(EngineError, match=r"^the engine is closed"), engine:
        raise AssertionError("a closed engine was entered")
    with Engine(pump=implementation.name, waiter=waiter) as engine:
        engine.close()


def test_engine_that_never_ran_can_be_closed(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
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
            engine.add(f"a{number}", STREAMER, frontend=ANY, backend=ANY)
        barrier = threading.Barrier(4)

        def close(engine: Engine = engine, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            engine.close()

        with Threads() as pool:
            for future in [pool.submit(close) for _ in range(4)]:
                future.result(DEADLINE_S)
        assert closed == [1]


# Whoever comes too late is told so, nothing else; and nobody hangs.
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
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    engine.close()
    assert seen == [True, [], "last"]
    assert "at close" in caplog.text
    reader.close()
    writer.close()


@pytest.mark.parametrize("call", [Engine.run, Engine.step, Engine.drain, Engine.close, Engine.start])
def test_what_waits_for_the_loop_cannot_be_called_within_it(engine: Engine, call: Callable[[Engine], Any]) -> None:
    told: list[str] = []

    def within() -> None:
        try:
            call(engine)
        except EngineError as error:
            told.append(str(error))

    engine.call_later(0, within)
    wait_until(lambda: told)
    engine.call_soon_threadsafe(within)
    wait_until(lambda: len(told) == 2)


def test_own_context_is_terminated_and_anothers_is_not(make_engine: MakeEngine) -> None:
    with zmq.Context() as context:
        engine = make_engine(context)
        broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY)
        engine.close()
        assert not context.closed
        assert working_broker(broker).frontend.socket.closed
        assert working_broker(broker).backend.socket.closed
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
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


# -- fork -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_cannot_use_the_engine_and_the_parent_goes_on(implementation: Any, waiter: str) -> None:
    script = """
        import os, sys, warnings, zmq
        from pollbroker import Engine, EngineError, STREAMER
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point here

        engine = Engine(pump=sys.argv[1], waiter=sys.argv[2])
        engine.start()
        broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        context = zmq.Context()
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        push.linger = 0
        pull.rcvtimeo = 10_000
        push.connect(broker.frontend.endpoints[0])
        pull.connect(broker.backend.endpoints[0])
        def check():
            push.send(b"passes")
            assert pull.recv() == b"passes"
        check()
        child = os.fork()
        if child == 0:
            told = 0
            calls = [
                engine.run, engine.start, engine.step, engine.stop, engine.statistics, engine.fileno, engine.close,
                engine.next_timer_s, engine.drain, engine.__enter__,
                lambda: engine.pause("a"), lambda: engine.remove("a"), lambda: engine.resume("a"),
                lambda: engine.call_later(0, print), lambda: engine.call_soon_threadsafe(print),
                lambda: engine.add_reader(0, print), lambda: engine.remove_reader(0), lambda: engine.on_close(print),
                lambda: engine.add("b", STREAMER, frontend="inproc://f", backend="inproc://b"),
            ]
            for call in calls:
                try:
                    call()
                except EngineError as error:
                    told += "cannot be used in its fork" in str(error)
            os._exit(0 if told == len(calls) else 1)
        assert os.waitpid(child, 0)[1] == 0
        check()
        # A child that ends as programs do, with the engine among what is torn down.
        child = os.fork()
        if child == 0:
            del engine, broker
            import gc; gc.collect()
            with Engine() as engine:  # one of its own is another matter
                engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        check()
        assert engine.statistics().brokers["a"].state == "running"
        push.close(); pull.close(); context.term()
        engine.close()
        print("parent went on")
    """
    assert run_apart(script, implementation.name, waiter) == "parent went on\n"


# -- calls from other threads -----------------------------------------------------------------------------------------


def test_results_and_exceptions_come_back_to_the_caller(engine: Engine, connect: Connect) -> None:
    """Every thread works with brokers of its own, while traffic flows, and is told the truth about each."""
    peers = Peers(connect, engine.add("busy", STREAMER, frontend=ANY, backend=ANY))
    stop = threading.Event()

    def traffic() -> int:
        count = 0
        while not stop.is_set():
            for _ in range(100):
                peers.push.send(b"%d" % count)
                count += 1
            for number in range(count - 100, count):
                assert peers.pull.recv() == b"%d" % number
        return count

    def steer(thread: int) -> int:
        called: list[int] = []
        for number in range(15):
            name = f"{thread}-{number}"
            broker = engine.add(name, QUEUE, frontend=f"inproc://{name}-f", backend=f"inproc://{name}-b")
            assert broker.name == name
            with pytest.raises(EngineError, match=rf"^brokers.{name}: the name is taken"):
                engine.add(name, QUEUE, frontend=f"inproc://{name}-f2", backend=f"inproc://{name}-b2")
            engine.pause(name)
            assert engine.statistics().brokers[name].state == "paused"
            engine.resume(name)
            engine.call_soon_threadsafe(called.append, number)
            engine.call_later(0, called.append, number)
            with pytest.raises(EngineError, match=r"^no broker is named 'nobody'"):
                engine.remove("nobody")
            with pytest.raises(DeviceError, match="is not a device"):
                engine.add(name + "-", "nothing", frontend="inproc://f")
            with pytest.raises(EndpointError, match=rf"^brokers.{name}-.backend: "):
                engine.add(name + "-", STREAMER, frontend=f"inproc://{name}-f3", backend="tcp://192.0.2.1:1")
            assert engine.remove(name).name == name
            assert name not in engine.brokers
        wait_until(lambda: len(called) == 30)
        return thread

    with Threads() as pool:
        flowing = pool.submit(traffic)
        threads = [pool.submit(steer, thread) for thread in range(6)]
        results = [thread.result(60) for thread in threads]
        stop.set()
        count = flowing.result(DEADLINE_S)
    assert results == list(range(6))
    assert list(engine.brokers) == ["busy"]
    flow = flow_of(engine, "busy")
    assert (flow.received, flow.sent, flow.dropped) == (count, count, 0)


def test_calls_work_while_nobody_runs_the_engine(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()

    def use(thread: int) -> None:
        for number in range(20):
            name = f"{thread}-{number}"
            engine.add(name, STREAMER, frontend=f"inproc://{name}-f", backend=f"inproc://{name}-b")
            engine.statistics()
            engine.remove(name)

    with Threads() as pool:
        for future in [pool.submit(use, thread) for thread in range(4)]:
            future.result(DEADLINE_S)
    assert not engine.brokers


def test_callers_are_answered_while_run_begins_and_ends(make_engine: MakeEngine) -> None:
    engine = make_engine()
    stop = threading.Event()

    def ask() -> int:
        count = 0
        while not stop.is_set():
            assert engine.statistics().pump
            count += 1
        return count

    with Threads() as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for _ in range(50):
            engine.start()
            engine.stop()
            wait_until(lambda: can_step(engine))
        stop.set()
        assert all(future.result(DEADLINE_S) for future in asking)


@pytest.mark.parametrize("how", ["timer", "call", "reader"])
def test_interrupt_leaves_the_engine_usable(make_engine: MakeEngine, connect: Connect, how: str) -> None:
    engine = make_engine()
    peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY, backend=ANY))
    ran: list[str] = []
    others = [net.socketpair() for _ in range(3)]

    def interrupt() -> None:
        ran.append("interrupt")
        engine.remove_reader(others[0][0].fileno())
        raise KeyboardInterrupt

    callbacks = [interrupt, *(lambda n=n: ran.append(n) for n in ("second", "third"))]
    for (reader, writer), callback in zip(others, callbacks, strict=True):
        if how == "timer":
            engine.call_later(0, callback)
        elif how == "call":
            engine.call_soon_threadsafe(callback)
        else:
            writer.send(b"x")
            engine.add_reader(reader.fileno(), callback)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    with running(engine.run):
        peers.check()
        wait_until(lambda: {"interrupt", "second", "third"} <= set(ran))
        engine.stop()
    for reader, writer in others:
        engine.remove_reader(reader.fileno())
        reader.close()
        writer.close()


# What ends one call in the engine's thread is not to leave another thread waiting for ever.
def test_interrupt_leaves_no_caller_waiting(make_engine: MakeEngine) -> None:
    engine = make_engine()
    answers: list[object] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def hold() -> None:
        engine.call_soon_threadsafe(interrupt)
        asking.start()
        wait_until(lambda: len(engine._calls._queue) == 2)

    asking = threading.Thread(target=lambda: answers.append(engine.statistics()), daemon=True)
    engine.call_later(0, hold)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    engine.call_later(0, engine.stop)
    engine.run()
    asking.join(DEADLINE_S)
    assert len(answers) == 1


def test_interrupt_in_a_handler_leaves_the_account_balanced(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()

    def handler(frames: list[bytes]) -> Any:
        if frames == [b"interrupt"]:
            raise KeyboardInterrupt
        return frames

    device = Device("handled", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),))
    peers = Peers(connect, engine.add("a", device, frontend=ANY, backend=ANY))
    for message in (b"1", b"interrupt", b"2"):
        peers.push.send(message)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    flow = flow_of(engine, "a")
    assert flow.received + flow.added == flow.sent + flow.held + flow.dropped
    with running(engine.run):
        assert [peers.pull.recv(), peers.pull.recv()] == [b"1", b"2"]
        engine.stop()


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="needs signals")
def test_ctrl_c_ends_run_and_another_run_goes_on(implementation: Any, waiter: str) -> None:
    script = """
        import os, signal, sys, threading, time, zmq
        from pollbroker import Engine, STREAMER

        engine = Engine(pump=sys.argv[1], waiter=sys.argv[2])
        broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        context = zmq.Context()
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        push.sndhwm = pull.rcvhwm = 0
        push.linger = 0
        pull.rcvtimeo = 10_000
        push.connect(broker.frontend.endpoints[0])
        pull.connect(broker.backend.endpoints[0])
        interrupts = 0
        done = threading.Event()
        taken = []
        def traffic():
            for number in range(20_000):
                push.send_multipart([b"%d" % number, b"", b"x"])
                if number % 1000 == 999:
                    wanted = interrupts + 1
                    while not engine.running:  # one that comes between two runs ends the program, as it should
                        time.sleep(0.0001)
                    os.kill(os.getpid(), signal.SIGINT)
                    while interrupts < wanted:  # two at once may mean more
                        time.sleep(0.0001)
            while len(taken) < 20_000 and pull.poll(2000):
                taken.append(pull.recv_multipart())
            done.set()
        def stop():
            if done.is_set():
                engine.stop()
            else:
                engine.call_later(0.01, stop)
        thread = threading.Thread(target=traffic)
        started = False
        while not done.is_set():
            try:
                if not started:
                    started = True
                    thread.start()
                    engine.call_later(0.01, stop)
                engine.run()
            except KeyboardInterrupt:
                interrupts += 1
                engine.call_later(0.01, stop)
        thread.join()
        flow = engine.statistics().brokers["a"].flows["frontend"]
        assert taken == [[b"%d" % number, b"", b"x"] for number in range(20_000)], (len(taken), flow)
        assert (flow.received, flow.sent) == (20_000, 20_000), flow
        assert interrupts == 20
        push.close(); pull.close(); context.term()
        engine.close()
        print("went on")
    """
    assert run_apart(script, implementation.name, waiter) == "went on\n"


# -- brokers come and go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "ipc", "inproc"])
def test_broker_may_be_added_again_at_once(
    engine: Engine, context: zmq.Context[Socket], tmp_path: Path, transport: str
) -> None:
    first = {"tcp": ANY, "ipc": f"ipc://{tmp_path}/a", "inproc": "inproc://again"}[transport]
    broker = engine.add("a", REFLECTOR, frontend=first)
    address = endpoint(broker.frontend)
    begun = time.monotonic()
    for number in range(100):
        assert engine.remove("a").state == "removed"
        broker = engine.add("a", REFLECTOR, frontend=address)
        assert broker.frontend.endpoints == (address,)
        peer = (engine.context if transport == "inproc" else context).socket(zmq.DEALER)
        peer.rcvtimeo = DEADLINE_MS
        peer.connect(address)
        peer.send(b"%d" % number)
        assert peer.recv() == b"%d" % number
        peer.close(linger=0)
    assert time.monotonic() - begun < 10


# libzmq gives an address back in another thread, some time after the engine is closed.
def test_broker_may_take_the_place_of_one_of_another_engine(make_engine: MakeEngine, tmp_path: Path) -> None:
    with zmq.Context() as context:
        address = ANY
        for _ in range(10):
            engine = make_engine(context)
            broker = engine.add("a", STREAMER, frontend=address, backend=f"ipc://{tmp_path}/b")
            address = endpoint(broker.frontend)
            engine.close()


def test_removed_broker_says_what_it_could_not_deliver(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    for number in range(5):
        push.send_multipart([b"%d" % number, b"x"])
    wait_until(lambda: flow_of(engine, "a").held)
    statistics = engine.remove("a", timeout_s=0.01)
    flow = statistics.flows["frontend"]
    assert (statistics.state, flow.received, flow.sent, flow.held) == ("removed", 1, 0, 1)
    assert "a" not in engine.brokers


@pytest.mark.parametrize("paused", [False, True])
def test_removed_broker_delivers_what_it_holds_if_somebody_comes_in_time(
    engine: Engine, connect: Connect, paused: bool
) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    for number in range(5):
        push.send_multipart([b"%d" % number, b"x"])
    wait_until(lambda: flow_of(engine, "a").held)
    if paused:
        engine.pause("a")
    with Threads() as pool:
        removal = pool.submit(engine.remove, "a", timeout_s=DEADLINE_S)
        wait_until(lambda: broker.state == "removing")
        with pytest.raises(EngineError, match=r"^brokers\.a: it is removing"):
            engine.pause("a")
        with pytest.raises(EngineError, match=r"^brokers\.a: the name is taken"):
            engine.add("a", STREAMER, frontend=ANY, backend=ANY)
        pull = connect(zmq.PULL, endpoint(broker.backend))
        flow = removal.result(DEADLINE_S).flows["frontend"]
    assert (flow.received, flow.sent, flow.held) == (1, 1, 0)
    assert pull.recv_multipart() == [b"0", b"x"]
    assert not pull.poll(20)


def test_one_broker_removed_by_two_is_removed_once(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"held")
    wait_until(lambda: flow_of(engine, "a").held)
    with Threads() as pool:
        first = pool.submit(engine.remove, "a", timeout_s=0.1)
        wait_until(lambda: broker.state == "removing")
        second = pool.submit(engine.remove, "a", timeout_s=DEADLINE_S)
        results = [first.result(DEADLINE_S), second.result(DEADLINE_S)]
    assert [result.flows["frontend"].held for result in results] == [1, 1]
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)


@pytest.mark.parametrize("how", ["thread", "timer", "reader", "call"])
def test_broker_is_removed_in_full_traffic(engine: Engine, connect: Connect, how: str) -> None:
    """Whoever removes it, and wherever in the turn: the engine goes on, and so do the others."""
    peers = Peers(connect, engine.add("staying", STREAMER, frontend=ANY, backend=ANY))
    reader, writer = net.socketpair()
    for number in range(10):
        name = f"a{number}"
        broker = engine.add(name, STREAMER, frontend=f"inproc://f{number}", backend=f"inproc://b{number}")
        push, pull = engine.context.socket(zmq.PUSH), engine.context.socket(zmq.PULL)
        push.sndhwm = pull.rcvhwm = 0
        push.connect(endpoint(broker.frontend))
        pull.connect(endpoint(broker.backend))
        for _ in range(5000):
            push.send(b"x")

        def remove(name: str = name) -> None:
            engine.remove_reader(reader.fileno())
            engine.remove(name)

        if how == "thread":
            remove()
        elif how == "timer":
            engine.call_later(0, remove)
        elif how == "call":
            engine.call_soon_threadsafe(remove)
        else:
            engine.add_reader(reader.fileno(), remove)
            writer.send(b"x")
        wait_until(lambda b=broker: b.state == "removed")  # type: ignore[misc]
        assert broker.error is None
        flow = broker.statistics().flows["frontend"]
        assert flow.received == flow.sent + flow.held
        received = 0
        while received < flow.sent:
            assert pull.recv() == b"x"
            received += 1
        assert not pull.poll(0)
        for socket in (push, pull):
            socket.close(linger=0)
        peers.check()
    reader.close()
    writer.close()


def test_others_are_undisturbed_while_brokers_come_and_go(engine: Engine, connect: Connect) -> None:
    peers = Peers(connect, engine.add("busy", STREAMER, frontend=ANY, backend=ANY))
    messages = 20_000

    def come_and_go() -> int:
        number = 0
        while flow_of(engine, "busy").sent < messages:
            for _ in range(5):
                engine.add(f"a{number}", QUEUE, frontend=f"inproc://f{number}", backend=f"inproc://b{number}")
                number += 1
            for gone in range(number - 5, number):
                engine.remove(f"a{gone}")
        return number

    with Threads() as pool:
        coming = pool.submit(come_and_go)
        for number in range(messages):
            peers.push.send_multipart([b"%d" % number, b""])
        for number in range(messages):
            assert peers.pull.recv_multipart() == [b"%d" % number, b""]
        assert coming.result(DEADLINE_S) > 0
    flow = flow_of(engine, "busy")
    assert (flow.received, flow.sent, flow.held, flow.dropped) == (messages, messages, 0, 0)


# -- the caller's sockets ---------------------------------------------------------------------------------------------


def options_of(socket: Socket) -> dict[str, object]:
    """Every option that can be read and does not change by itself."""
    read: dict[str, object] = {}
    for option in zmq.SocketOption:
        if option not in (zmq.EVENTS, zmq.RCVMORE):
            with contextlib.suppress(zmq.ZMQError):
                read[option.name] = socket.getsockopt(option)
    return read


@pytest.mark.parametrize("end", ["remove", "close"])
def test_registered_sockets_stay_the_callers(
    make_engine: MakeEngine, connect: Connect, context: zmq.Context[Socket], end: str
) -> None:
    engine = make_engine()
    engine.start()
    router, dealer, capture = context.socket(zmq.ROUTER), context.socket(zmq.DEALER), context.socket(zmq.PUB)
    router.router_mandatory = 0
    router.rcvhwm, dealer.sndhwm, router.linger = 17, 18, 19
    dealer.sndtimeo = 20
    client, worker = connect(zmq.REQ), connect(zmq.REP)
    client.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
    worker.connect(f"tcp://127.0.0.1:{dealer.bind_to_random_port('tcp://127.0.0.1')}")
    before = [options_of(socket) for socket in (router, dealer, capture)]
    assert len(before[0]) > 40
    for _ in range(3):
        engine.register(router, dealer, QUEUE, name="mine", capture=capture)
        client.send(b"question")
        assert worker.recv() == b"question"
        worker.send(b"answer")
        assert client.recv() == b"answer"
        if end == "remove":
            engine.remove("mine")
        else:
            engine.close()
        assert [options_of(socket) for socket in (router, dealer, capture)] == before
        client.send(b"question")  # the caller takes the broker's place
        assert router.poll(DEADLINE_MS)
        dealer.send_multipart(router.recv_multipart())
        worker.send(worker.recv())
        assert dealer.poll(DEADLINE_MS)
        router.send_multipart(dealer.recv_multipart())
        assert client.recv() == b"question"
        if end == "close":
            engine = make_engine()
            engine.start()


def test_registered_broker_without_a_name_is_numbered(engine: Engine, connect: Connect) -> None:
    names = [engine.register(connect(zmq.PULL), connect(zmq.PUSH), STREAMER).name for _ in range(3)]
    assert names == ["streamer-1", "streamer-2", "streamer-3"]
    engine.remove("streamer-2")
    assert engine.register(connect(zmq.PULL), connect(zmq.PUSH), STREAMER).name == "streamer-2"


# -- draining ---------------------------------------------------------------------------------------------------------


def test_drained_engine_holds_nothing(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend="inproc://f", backend=ANY)
    push = engine.context.socket(zmq.PUSH)
    push.sndhwm = 0
    push.connect(endpoint(broker.frontend))
    pull = connect(zmq.PULL, endpoint(broker.backend), rcvhwm=0)
    for _ in range(5):
        for _ in range(3000):
            push.send(b"x")
        assert engine.drain(timeout_s=DEADLINE_S) == ()
        for _ in range(3000):
            pull.recv()
    assert flow_of(engine, "a").sent == 15_000
    push.close(linger=0)


def test_drain_names_who_could_not(engine: Engine, connect: Connect) -> None:
    for name in ("stalled", "paused", "idle"):
        engine.add(name, STREAMER, frontend=ANY, backend=ANY)
    connect(zmq.PUSH, endpoint(engine.brokers["stalled"].frontend)).send(b"x")
    wait_until(lambda: flow_of(engine, "stalled").held)
    engine.pause("paused")
    assert sorted(engine.drain(timeout_s=0.02)) == ["paused", "stalled"]
    connect(zmq.PULL, endpoint(engine.brokers["stalled"].backend))
    wait_until(lambda: flow_of(engine, "stalled").sent)
    engine.resume("paused")
    assert engine.drain(timeout_s=DEADLINE_S) == ()


def test_many_may_drain_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    with Threads() as pool:  # and nobody runs the engine
        drains = [pool.submit(engine.drain, DEADLINE_S) for _ in range(4)]
        assert [drain.result(DEADLINE_S) for drain in drains] == [()] * 4


# -- readers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipes() -> Iterator[list[tuple[net.socket, net.socket]]]:
    """Three connected pairs: read from the first of each, write to the second."""
    pairs = [net.socketpair() for _ in range(3)]
    yield pairs
    for pair in pairs:
        for one in pair:
            one.close()


def test_reader_is_called_as_long_as_there_is_input(
    make_engine: MakeEngine, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    engine = make_engine()
    reader, writer = pipes[0]
    taken: list[bytes] = []
    engine.add_reader(reader.fileno(), lambda: taken.append(reader.recv(1)))
    writer.send(b"abc")
    wait_until(lambda: len(taken) == 3, engine=engine)
    assert taken == [b"a", b"b", b"c"]
    before = engine.statistics().turns
    engine.step()
    assert (len(taken), engine.statistics().turns) == (3, before + 1)
    assert engine.remove_reader(reader.fileno())
    assert not engine.remove_reader(reader.fileno())
    writer.send(b"d")
    for _ in range(3):
        engine.step()
    assert len(taken) == 3


def test_socket_reader_takes_one_message_a_turn_and_misses_none(engine: Engine, connect: Connect) -> None:
    pull = connect(zmq.PULL)
    push = connect(zmq.PUSH, f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
    taken: list[bytes] = []
    for number in range(50):
        push.send(b"%d" % number)
    engine.add_reader(pull, lambda: taken.append(pull.recv(zmq.DONTWAIT)))
    for number in range(50, 100):
        push.send(b"%d" % number)
    wait_until(lambda: len(taken) == 100)
    assert taken == [b"%d" % number for number in range(100)]
    push.send(b"the last")
    wait_until(lambda: len(taken) == 101)
    assert engine.remove_reader(pull)
    push.send(b"the callers")
    assert pull.recv() == b"the callers"


def test_reader_with_endless_input_lets_the_others_have_their_turn(
    engine: Engine, connect: Connect, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    counts = [0, 0]

    def count(index: int) -> None:
        counts[index] += 1  # and what was there to read is still there

    for index in (0, 1):
        pipes[index][1].send(b"x")
        engine.add_reader(pipes[index][0].fileno(), count, index)
    looks: list[tuple[int, int, int]] = []

    def look() -> None:
        looks.append((counts[0], counts[1], engine.statistics().turns))

    engine.call_later(0, look)
    peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY, backend=ANY))
    peers.check(*[b"%d" % number for number in range(1000)])
    engine.call_later(0, look)
    wait_until(lambda: len(looks) == 2)
    for index in (0, 1):
        engine.remove_reader(pipes[index][0].fileno())
    first, second, turns = (after - before for before, after in zip(*looks, strict=True))
    assert first == second == turns > 0


def test_reader_that_raises_is_logged_and_stays(
    engine: Engine, pipes: list[tuple[net.socket, net.socket]], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipes[0]

    def fails() -> None:
        raise ValueError(f"cannot read {reader.recv(1)!r}")

    engine.add_reader(reader.fileno(), fails)
    for letter in (b"a", b"b"):
        writer.send(letter)
        wait_until(lambda x=letter: f"cannot read {x!r}" in caplog.text)  # type: ignore[misc]
    assert all(record.levelno == logging.ERROR and record.name == "pollbroker" for record in caplog.records)


def test_reader_may_remove_itself_and_others(
    make_engine: MakeEngine, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    """Two are ready in one turn, and each removes the other: only one of them is called."""
    engine = make_engine()
    called: list[int] = []

    def remove_all(index: int) -> None:
        called.append(index)
        for reader, _ in pipes:
            engine.remove_reader(reader.fileno())

    for index, (reader, writer) in enumerate(pipes):
        writer.send(b"x")
        engine.add_reader(reader.fileno(), remove_all, index)
    for _ in range(5):
        engine.step(0.001)
    assert len(called) == 1


def test_replaced_callback_is_not_called_again(
    make_engine: MakeEngine, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    engine = make_engine()
    reader, writer = pipes[0]
    called: list[str] = []

    def first() -> None:
        called.append("first")
        engine.add_reader(reader.fileno(), second)

    def second() -> None:
        called.append("second")
        reader.recv(1)

    engine.add_reader(reader.fileno(), lambda: called.append("never"))
    engine.add_reader(reader.fileno(), first)
    writer.send(b"x")
    wait_until(lambda: "second" in called, engine=engine)
    for _ in range(3):
        engine.step()
    assert called == ["first", "second"]


@pytest.mark.parametrize("wrong", [-1, 1 << 20, None, 5.0, "0", object()])
def test_what_cannot_be_read_is_refused_and_nothing_is_left(make_engine: MakeEngine, wrong: Any) -> None:
    engine = make_engine(waiter="nested")
    with pytest.raises((EngineError, OSError, ValueError, TypeError)):
        engine.add_reader(wrong, print)
    engine.step()
    assert not engine.remove_reader(wrong)
    engine.close()


def test_closed_socket_cannot_be_read(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    socket = connect(zmq.PULL)
    socket.close()
    with pytest.raises((EngineError, zmq.ZMQError)):
        engine.add_reader(socket, print)
    engine.step()
    assert not engine.remove_reader(socket)
    engine.close()


def test_socket_of_a_broker_cannot_be_read(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    peers = Peers(connect, broker)
    with pytest.raises(EngineError):
        engine.add_reader(working_broker(broker).frontend.socket, print)
    peers.check()


def test_reader_whose_socket_is_closed_is_dropped_with_a_warning(
    engine: Engine, connect: Connect, context: zmq.Context[Socket], caplog: pytest.LogCaptureFixture
) -> None:
    socket = context.socket(zmq.PULL)
    engine.add_reader(socket, print)
    engine.call_soon_threadsafe(socket.close)
    for number in range(20):  # its descriptor's number is given out again
        other = context.socket(zmq.PULL)
        push = connect(zmq.PUSH, f"tcp://127.0.0.1:{other.bind_to_random_port('tcp://127.0.0.1')}")
        taken: list[bytes] = []
        engine.add_reader(other, lambda o=other, t=taken: t.append(o.recv()))
        push.send(b"%d" % number)
        wait_until(lambda t=taken: t)  # type: ignore[misc]
        engine.remove_reader(other)
        other.close()
    engine.remove_reader(socket)
    Peers(connect, engine.add("a", STREAMER, frontend=ANY, backend=ANY)).check()


# -- timers and calls -------------------------------------------------------------------------------------------------


class Clock:
    """A clock that is set by hand, in seconds."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_timers_come_in_their_order(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    came: list[str] = []
    for delay_s, name in ((3, "third"), (1, "first"), (2, "second"), (1, "first, added later"), (-5, "overdue")):
        engine.call_later(delay_s, came.append, name)
    assert engine.next_timer_s() == 0.0
    engine.step()
    assert came == ["overdue"]
    assert engine.next_timer_s() == 1.0
    clock.now_s += 0.5
    engine.step()
    assert (came[1:], engine.next_timer_s()) == ([], 0.5)
    clock.now_s += 1.5
    engine.step()
    assert came[1:] == ["first", "first, added later", "second"]
    clock.now_s += 100
    assert engine.next_timer_s() == 0.0
    engine.step()
    assert came[4:] == ["third"]
    assert engine.next_timer_s() is None


def test_cancelled_timer_does_not_come(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    came: list[str] = []
    first = engine.call_later(1, came.append, "first")
    engine.call_later(2, came.append, "second")
    first.cancel()
    assert first.cancelled()
    assert engine.next_timer_s() == 2.0
    third = engine.call_later(2, came.append, "third")
    engine.call_later(2, third.cancel)
    fourth = engine.call_later(2, came.append, "fourth")
    engine.call_later(1.9, fourth.cancel)
    soon = engine.call_soon_threadsafe(came.append, "soon")
    soon.cancel()
    clock.now_s += 2
    engine.step()
    assert came == ["second", "third"]
    third.cancel()


def test_call_from_within_waits_for_the_next_turn(make_engine: MakeEngine) -> None:
    engine = make_engine()
    turns: list[int] = []

    def again() -> None:
        turns.append(engine.statistics().turns)
        if len(turns) < 4:
            (engine.call_soon_threadsafe if len(turns) % 2 else lambda fn: engine.call_later(0, fn))(again)

    engine.call_later(0, again)
    wait_until(lambda: len(turns) == 4, engine=engine)
    assert turns == sorted(set(turns)), "each had a turn of its own"


def test_call_that_raises_is_logged_and_the_next_comes(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    came = threading.Event()

    def fails() -> None:
        raise ValueError("in a call")

    engine.call_later(0, fails)
    engine.call_soon_threadsafe(fails)
    engine.call_later(0.001, came.set)
    assert came.wait(DEADLINE_S)
    wait_until(lambda: caplog.text.count("ValueError: in a call") == 2)


def test_timer_comes_in_time_while_the_engine_sleeps(engine: Engine) -> None:
    wait_until(lambda: engine.statistics().turns)
    came = threading.Event()
    begun = time.monotonic()
    engine.call_later(0.02, came.set)
    assert came.wait(DEADLINE_S)
    assert 0.02 <= time.monotonic() - begun < 1


# -- driven from outside ----------------------------------------------------------------------------------------------


def test_asyncio_drives_the_engine(implementation: Any, connect: Connect) -> None:
    """Woken by its descriptor, and for its timers, and at no other time."""
    with contextlib.closing(Engine(pump=implementation.name, waiter="nested")) as engine:
        peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY, backend=ANY))
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
            broker = engine.add("b", STREAMER, frontend=ANY, backend=ANY)
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
        peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY, backend=ANY))
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
        peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY, backend=ANY))
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


def test_step_says_whether_there_is_more(make_engine: MakeEngine) -> None:
    engine = make_engine(burst_messages=10)
    broker = engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b")
    push, pull = engine.context.socket(zmq.PUSH), engine.context.socket(zmq.PULL)
    push.connect(endpoint(broker.frontend))
    pull.connect(endpoint(broker.backend))
    while engine.step():
        pass
    for _ in range(35):
        push.send(b"x")
    wait_until(lambda: engine.step(0.001) is True)
    steps = 1
    while engine.step():
        steps += 1
        assert engine.next_timer_s() == 0.0 or steps > 3
    assert flow_of(engine, "a").sent == 35
    assert steps <= 5
    for socket in (push, pull):
        socket.close(linger=0)


# -- idleness ---------------------------------------------------------------------------------------------------------


def turns_meanwhile(engine: Engine, wait_s: float) -> int:
    """Turns that the engine makes while another thread's timer runs; asking costs one at each end."""
    before = engine.statistics().turns
    over = threading.Event()
    timer = threading.Timer(wait_s, over.set)
    timer.start()
    assert over.wait(DEADLINE_S)
    timer.join()
    return engine.statistics().turns - before


def test_idle_engine_makes_no_turns(engine: Engine, connect: Connect) -> None:
    for number in range(10):
        device = (QUEUE, STREAMER)[number % 2]
        broker = engine.add(f"a{number}", device, frontend=ANY, backend=ANY)
    Peers(connect, broker).check()
    reader, writer = net.socketpair()
    engine.add_reader(reader.fileno(), print)
    engine.call_later(3600, print)
    assert engine.drain(timeout_s=DEADLINE_S) == ()
    wait_until(lambda: turns_meanwhile(engine, 0.05) <= 2)  # what libzmq has still to say of the connections
    assert turns_meanwhile(engine, 0.15) <= 2
    engine.remove_reader(reader.fileno())
    reader.close()
    writer.close()


@pytest.mark.parametrize("situation", ["no consumer", "full consumer", "paused"])
def test_queued_messages_without_a_taker_make_no_turns(engine: Engine, connect: Connect, situation: str) -> None:
    body = b"x" * (1_000_000 if situation == "full consumer" else 100)  # more than the kernel's buffers take
    broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY, backend_options={"sndhwm": 1})
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
    if situation == "full consumer":
        connect(zmq.PULL, endpoint(broker.backend), rcvhwm=1)
    if situation == "paused":
        engine.pause("a")
    for _ in range(100):
        push.send(body)
    wait_until(lambda: situation == "paused" or flow_of(engine, "a").held)
    wait_until(lambda: turns_meanwhile(engine, 0.05) <= 3)
    assert turns_meanwhile(engine, 0.15) <= 20  # the kernel may take a little more; a loop that spins makes thousands
    if situation == "paused":
        engine.resume("a")
    if situation != "full consumer":
        pull = connect(zmq.PULL, endpoint(broker.backend))
        assert [pull.recv() for _ in range(100)] == [body] * 100
