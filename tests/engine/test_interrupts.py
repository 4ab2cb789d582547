"""Ctrl-C and other exceptions that come from outside: the engine stays usable, and no account is spoilt."""

import os
import signal
import socket as net
import threading
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Device, Route
from pollbroker.calls import Calls
from pollbroker.engine import engine_loop
from pollbroker.timers import Timers
from pollbroker.waker import Waker
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.processes import run_apart
from tests.support.streamers import Peers, streamer, streamers
from tests.support.threads import running
from tests.support.turns import rest, turn_until_idle
from tests.support.types import Connect, MakeEngine, Socket


@pytest.mark.parametrize("how", ["timer", "call", "reader"])
def test_interrupt_leaves_the_engine_usable(make_engine: MakeEngine, connect: Connect, how: str) -> None:
    engine = make_engine()
    peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
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
        wait_until(lambda: engine_loop(engine).calls.pending() == 2)

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
    peers = Peers(connect, engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT))
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


@pytest.mark.parametrize("times", [1, 2])
def test_first_ctrl_c_ends_the_run_and_the_second_the_turn(make_engine: MakeEngine, times: int) -> None:
    engine = make_engine()
    begun: list[int] = []

    def interrupt() -> None:
        for number in range(times):
            begun.append(number)
            signal.raise_signal(signal.SIGINT)
        begun.append(-1)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        engine.call_soon_threadsafe(interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.run()
        assert begun == ([0, -1] if times == 1 else [0, 1])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1
        engine.stop()
        engine.run()  # and no interrupt is left over
    finally:
        signal.signal(signal.SIGINT, before)


# The process's signal settings are restored, even if the second Ctrl-C comes while that is done.
def test_second_ctrl_c_leaves_no_wakeup_descriptor_behind(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.call_later(0, lambda: signal.raise_signal(signal.SIGINT))
    set_handler = signal.signal

    def interrupted(number: int, handler: Any) -> Any:
        before = set_handler(number, handler)
        if handler is signal.default_int_handler:
            signal.raise_signal(signal.SIGINT)
        return before

    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_signal_handling_of_others_is_left_alone(make_engine: MakeEngine) -> None:
    engine = make_engine()
    here, there = net.socketpair()
    there.setblocking(False)
    heard: list[int] = []
    seen: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    theirs = signal.getsignal(signal.SIGINT)
    wakeup = signal.set_wakeup_fd(there.fileno())
    try:

        def look() -> None:
            signal.raise_signal(signal.SIGINT)
            seen.append(signal.getsignal(signal.SIGINT))
            engine.stop()

        engine.call_soon_threadsafe(look)
        engine.run()
        assert (heard, seen, signal.getsignal(signal.SIGINT)) == ([signal.SIGINT], [theirs], theirs)
        assert here.recv(10) == bytes([signal.SIGINT])
        assert signal.set_wakeup_fd(wakeup) == there.fileno()
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, before)
        here.close()
        there.close()


def test_interrupt_in_a_call_is_the_callers_and_the_loops() -> None:
    waker = Waker()
    calls = Calls(waker, tuple)
    caught: list[BaseException] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def ask() -> None:
        try:
            calls.call(interrupt)
        except KeyboardInterrupt as error:
            caught.append(error)

    with calls.running_loop(), running(ask):
        wait_until(calls.pending)
        with pytest.raises(KeyboardInterrupt):
            calls.run()
    assert len(caught) == 1
    calls.close()
    waker.close()
    waker.close()
    waker.close()


def test_timer_that_interrupts_leaves_those_that_others_have_set() -> None:
    clock = Clock()
    timers = Timers(clock)
    called: list[str] = []

    def interrupt() -> None:
        timers.add(0.0, lambda: called.append("set meanwhile"))
        timers.add(-1.0, lambda: called.append("overdue"))
        timers.add(-2.0, lambda: called.append("more so"))
        raise KeyboardInterrupt

    timers.add(0.0, interrupt)
    timers.add(0.0, lambda: called.append("after"))
    with pytest.raises(KeyboardInterrupt):
        timers.run_due(lambda handle: handle.run())
    timers.run_due(lambda handle: handle.run())
    assert called == ["more so", "overdue", "after", "set meanwhile"]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_interrupt_in_one_broker_leaves_the_others_their_turn(
    make_engine: MakeEngine, connect: Connect, victim: int
) -> None:
    engine = make_engine()
    begun: list[int] = []

    def handle(frames: list[bytes]) -> list[bytes]:
        begun.append(1)
        if len(begun) == victim + 1:
            raise KeyboardInterrupt
        return frames

    device = Device("handled", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", handle),))
    peers = streamers(engine, connect, 3, device)
    for producer, _ in peers:
        producer.send(b"x")
    with pytest.raises(KeyboardInterrupt):
        wait_until(lambda: False, engine=engine)
    rest(engine)
    assert sum(bool(consumer.poll(0)) for _, consumer in peers) == 2
    assert [engine.statistics().brokers[f"s{i}"].flows["frontend"].received for i in range(3)] == [1, 1, 1]


def test_an_interrupted_turn_loses_no_reader_and_no_broker(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    heard: list[str] = []

    def interrupt(name: str, socket: Socket) -> None:
        socket.recv(zmq.DONTWAIT)
        heard.append(name)
        if len(heard) == 1:
            raise KeyboardInterrupt

    senders = []
    for name in ("a", "b"):
        reader = connect(zmq.PAIR)
        reader.bind(f"inproc://{name}")
        senders.append(connect(zmq.PAIR, f"inproc://{name}"))
        engine.add_reader(reader, interrupt, name, reader)
    producer, backend = streamer(engine, connect)
    consumer = connect(zmq.PULL, backend)
    turn_until_idle(engine)
    for sender in senders:
        sender.send(b"1")
        sender.send(b"2")
    producer.send(b"message")
    with pytest.raises(KeyboardInterrupt):
        turn_until_idle(engine)
    turn_until_idle(engine)
    assert sorted(heard) == ["a", "a", "b", "b"]
    assert consumer.recv(zmq.DONTWAIT) == b"message"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_ctrl_c_in_a_process_that_is_forked_meanwhile_is_pythons_own() -> None:
    script = """
        import os, signal
        from pollbroker import Engine

        engine = Engine()

        def fork():
            child = os.fork()
            if child == 0:
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                except KeyboardInterrupt:
                    os._exit(0)
                os._exit(1)
            print(os.waitpid(child, 0)[1])
            engine.stop()

        engine.call_later(0, fork)
        engine.run()
        engine.close()
    """
    assert run_apart(script) == "0\n"
