"""Exceptions in brokers, callbacks and the engine's own thread: what each of them ends, and what goes on."""

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Engine, EngineError
from pollbroker.broker import working_broker
from pollbroker.pump import RoutingPump
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.processes import run_apart_with_errors
from tests.support.streamers import add_handled
from tests.support.threads import in_thread
from tests.support.types import Connect, MakeEngine


def test_memory_error_while_a_message_is_received_ends_that_broker_alone(
    make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    broker, pusher = add_handled(engine, connect, lambda frames: frames)
    other = engine.add("other", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    pump = working_broker(broker).hub.flows[0].pump
    assert isinstance(pump, RoutingPump)

    class ShortOfMemory:
        """A receiver that finds no memory for the next message."""

        def __init__(self, receiver: Any) -> None:
            self.counters = receiver.counters
            self.received = self.received_bytes = self.burst_frames = 0

        def __call__(self) -> None:
            raise MemoryError

    pump._receiver = ShortOfMemory(pump._receiver)  # type: ignore[assignment]
    engine.start()
    pusher.send(b"too much")
    wait_until(lambda: broker.state == "failed")
    assert isinstance(broker.error, MemoryError)
    assert engine.broker_statistics("handled").error == "MemoryError"
    assert "brokers.handled: failed: MemoryError" in caplog.text
    connect(zmq.PUSH, other.frontend.endpoints[0]).send(b"still moved")
    assert connect(zmq.PULL, other.backend.endpoints[0]).recv() == b"still moved"


# The same under a real limit of memory: a frame of 256 MiB arrives, and its copy for the handler finds no room.
@pytest.mark.slow
@pytest.mark.parametrize("pump", ["native", "python"])
def test_frame_too_large_for_memory_ends_that_broker_alone(pump: str) -> None:
    script = """
        import resource, subprocess, sys, time, zmq
        from dataclasses import replace
        from pollbroker import Engine, Route, STREAMER

        HANDLED = replace(STREAMER, name="handled", routes=[Route("frontend", "backend", via=lambda frames: None)])
        PEER = '''if True:
            import sys, zmq
            with zmq.Context() as context, context.socket(zmq.PUSH) as push:
                push.connect(sys.argv[1])
                sys.stdin.readline()
                push.send(bytes(256 << 20))
        '''
        size = lambda: int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        with Engine(pump=sys.argv[1]) as engine:
            broker = engine.add("handled", HANDLED, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            other = engine.add("other", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            pull, push = engine.context.socket(zmq.PULL), engine.context.socket(zmq.PUSH)
            pull.connect(other.backend.endpoints[0])
            push.connect(other.frontend.endpoints[0])
            push.send(b"before")
            assert pull.poll(20_000) and pull.recv() == b"before"
            peer = subprocess.Popen([sys.executable, "-c", PEER, broker.frontend.endpoints[0]], stdin=subprocess.PIPE)
            limit = size() + (400 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            peer.stdin.write(b"\\n")
            peer.stdin.flush()
            end_s = time.monotonic() + 60
            while broker.state != "failed":
                assert time.monotonic() < end_s, (broker.state, engine.broker_statistics("handled"))
                time.sleep(0.01)
            assert isinstance(broker.error, MemoryError), broker.error
            statistics = engine.broker_statistics("handled")
            flow = statistics.flows["frontend"]
            read = int(statistics.ports["frontend"].transport == "libzmq")  # the wire copies before it counts
            assert (flow.received, flow.interrupted, flow.held) == (read, read, 0), flow
            push.send(b"after")
            assert pull.poll(20_000) and pull.recv() == b"after"
            peer.communicate(timeout=60)
            assert peer.returncode == 0
            for socket in (pull, push):
                socket.close(linger=0)
        print("lived")
    """
    run = run_apart_with_errors(script, pump)
    assert run.stdout == "lived\n"
    assert "brokers.handled: failed: MemoryError" in run.stderr


def raise_in(engine: Engine, connect: Connect, where: str, error: BaseException) -> None:
    """Have an error raised once in the engine's turn."""

    def fail(*_: object) -> None:
        if where == "reader":
            engine.remove_reader(pair)
        raise error

    if where == "handler":
        _, pusher = add_handled(engine, connect, fail)
        pusher.send(b"x")
    elif where == "timer":
        engine.call_later(0, fail)
    elif where == "call":
        engine.call_soon_threadsafe(fail)
    else:
        pair = connect(zmq.PAIR)
        pair.bind("inproc://pair")
        engine.add_reader(pair, fail)
        connect(zmq.PAIR, "inproc://pair").send(b"x")


@pytest.mark.parametrize("where", ["timer", "call", "reader"])
def test_exception_elsewhere_is_logged_and_ends_nothing(
    make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    engine = make_engine()
    engine.start()
    raise_in(engine, connect, where, ValueError("a mistake"))
    wait_until(lambda: "ValueError: a mistake" in caplog.text)
    assert engine.running
    engine.close()


@pytest.mark.parametrize("where", ["handler", "timer", "call", "reader"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("stop")], ids=["exit", "interrupt"])
def test_system_exit_ends_run_and_is_raised_by_it(
    make_engine: MakeEngine, connect: Connect, where: str, error: BaseException
) -> None:
    engine = make_engine()
    raise_in(engine, connect, where, error)
    with pytest.raises(type(error)) as raised:
        in_thread(engine.run).result(DEADLINE_S)
    assert raised.value is error
    assert not engine.running
    if where == "handler":
        flow = engine.broker_statistics("handled").flows["frontend"]
        assert (flow.received, flow.failed, flow.held) == (1, 1, 0)


@pytest.mark.parametrize("where", ["handler", "timer", "call", "reader"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("stop")], ids=["exit", "interrupt"])
def test_system_exit_in_the_engines_thread_is_logged_and_raised_by_close(
    make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture, where: str, error: BaseException
) -> None:
    engine = make_engine()
    engine.start()
    raise_in(engine, connect, where, error)
    wait_until(lambda: not engine.running)
    said = f"the engine's thread was ended by {type(error).__name__}: {error}"
    wait_until(lambda: said in caplog.text)
    with pytest.raises(EngineError, match=said) as raised:
        engine.close()
    assert raised.value.__cause__ is error
    assert engine.closed
    engine.close()  # the error was raised once already


def test_with_block_raises_for_a_system_exit_unless_it_raises_itself(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def use(engine: Engine, error: Exception | None) -> None:
        with engine:
            engine.call_soon_threadsafe(sys.exit, 3)
            wait_until(lambda: not engine.running)
            if error is not None:
                raise error

    with pytest.raises(EngineError, match="the engine's thread was ended by SystemExit: 3"):
        use(make_engine(), None)
    caplog.clear()
    engine = make_engine()
    with pytest.raises(ValueError, match="of the block"):
        use(engine, ValueError("of the block"))
    assert "the engine's thread was ended by SystemExit: 3" in caplog.text
    assert engine.closed


def test_engine_can_be_started_again_after_a_system_exit(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.start()
    engine.call_soon_threadsafe(sys.exit)
    wait_until(lambda: not engine.running)
    engine.start()
    wait_until(lambda: engine.running)
    engine.close()  # the exit does not raise a second time


class HeldUp(logging.Handler):
    """Holds a thread up in the middle of what it logs."""

    def __init__(self) -> None:
        super().__init__(logging.CRITICAL)
        self.entered, self.leave = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        assert self.leave.wait(DEADLINE_S)


# The engine is not running any more when its thread has left the loop, though the thread has yet to end.
def test_engine_can_be_started_again_while_its_thread_is_ending(make_engine: MakeEngine) -> None:
    engine, held_up = make_engine(), HeldUp()
    logging.getLogger("pollbroker").addHandler(held_up)
    try:
        engine.start()
        engine.call_soon_threadsafe(sys.exit)
        assert held_up.entered.wait(DEADLINE_S)
        assert not engine.running
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(engine.start)
            with pytest.raises(TimeoutError):
                started.result(0.02)  # it waits for the thread that is ending
            held_up.leave.set()
            started.result(DEADLINE_S)
        wait_until(lambda: engine.running)
        engine.close()
    finally:
        held_up.leave.set()
        logging.getLogger("pollbroker").removeHandler(held_up)
