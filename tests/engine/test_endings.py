"""How brokers, `run` and an engine's own thread end: by a context's end, by an exception, by a `sys.exit`."""

import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from typing import Any

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Device, Engine, EngineError, Route
from pollbroker.broker import Broker, working_broker
from pollbroker.pump import HandlerPump
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect, MakeEngine, Socket

ANY = "tcp://127.0.0.1:*"


def in_thread(call: Callable[[], object]) -> "Future[object]":
    """What a call in a thread of its own returns or raises."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised in the test
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def streamer_with(handler: Callable[[list[bytes]], Any]) -> Device:
    return replace(STREAMER, name="handled", routes=[Route("frontend", "backend", via=handler)])


def add_handled(engine: Engine, connect: Connect, handler: Callable[[list[bytes]], Any]) -> tuple[Broker, Socket]:
    """A broker with a handler, and a pusher to it."""
    broker = engine.add("handled", streamer_with(handler), frontend=ANY, backend=ANY)
    return broker, connect(zmq.PUSH, broker.frontend.endpoints[0])


# -- the end of a context ---------------------------------------------------------------------------------------------


# As with `zmq.proxy`: the program that waits in `run` comes back, closes its sockets, and `term` returns.
def test_run_returns_when_the_context_of_registered_sockets_ends(make_engine: MakeEngine) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine()
    sockets = [context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PULL, zmq.PUSH)]
    engine.register(sockets[0], sockets[1], QUEUE)
    engine.register(sockets[2], sockets[3], STREAMER)
    ran = in_thread(engine.run)
    terminated = in_thread(context.term)
    ran.result(DEADLINE_S)
    assert [broker.state for broker in engine.brokers.values()] == ["ended", "ended"]
    assert engine.stopping
    for socket in sockets:
        socket.close()
    terminated.result(DEADLINE_S)


def test_run_goes_on_while_a_broker_is_left(make_engine: MakeEngine, connect: Connect) -> None:
    ending: zmq.Context[Socket] = zmq.Context()
    engine = make_engine()
    sockets = ending.socket(zmq.PULL), ending.socket(zmq.PUSH)
    ended = engine.register(sockets[0], sockets[1], STREAMER, name="ended")
    left = engine.add("left", STREAMER, frontend=ANY, backend=ANY)
    ran = in_thread(engine.run)
    terminated = in_thread(ending.term)
    wait_until(lambda: ended.state == "ended")
    for socket in sockets:
        socket.close()
    terminated.result(DEADLINE_S)
    connect(zmq.PUSH, left.frontend.endpoints[0]).send(b"still moved")
    assert connect(zmq.PULL, left.backend.endpoints[0]).recv() == b"still moved"
    assert (ran.done(), engine.stopping) == (False, False)
    engine.stop()
    ran.result(DEADLINE_S)


@pytest.mark.parametrize("asked", ["reader", "timer"])
def test_run_goes_on_while_something_else_was_asked_of_it(
    make_engine: MakeEngine, connect: Connect, asked: str
) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    pair = connect(zmq.PAIR)
    if asked == "reader":
        engine.add_reader(pair, print)
    else:
        timer = engine.call_later(3600, print)
    broker = engine.add("q", QUEUE, frontend=ANY, backend=ANY)
    ran = in_thread(engine.run)
    in_thread(context.term).result(DEADLINE_S)
    assert broker.state == "ended"
    turned: Future[bool] = Future()
    engine.call_soon_threadsafe(turned.set_result, True)
    assert turned.result(DEADLINE_S)
    assert (ran.done(), engine.stopping) == (False, False)
    if asked == "reader":
        engine.remove_reader(pair)
    else:
        timer.cancel()
        engine.call_soon_threadsafe(print)  # so that the loop looks again
    ran.result(DEADLINE_S)


def test_run_waits_for_the_next_broker_when_the_last_was_removed(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.start()
    for _ in range(3):
        engine.add("a", STREAMER, frontend=ANY, backend=ANY)
        engine.remove("a")
    assert engine.running
    assert not engine.stopping


def test_started_engine_runs_again_when_a_broker_is_added(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    for name in ("first", "second"):
        context: zmq.Context[Socket] = zmq.Context()
        sockets = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        engine.register(sockets[0], sockets[1], STREAMER, name=name)
        terminated = in_thread(context.term)
        wait_until(lambda: not engine.running)
        for socket in sockets:
            socket.close()
        terminated.result(DEADLINE_S)
    broker = engine.add("third", STREAMER, frontend=ANY, backend=ANY)
    connect(zmq.PUSH, broker.frontend.endpoints[0]).send(b"moved")
    assert connect(zmq.PULL, broker.backend.endpoints[0]).recv() == b"moved"
    assert engine.running


def test_stopped_engine_does_not_run_again_by_itself(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.start()
    engine.stop()
    wait_until(lambda: not engine.running)
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    assert not engine.running


# -- exceptions -------------------------------------------------------------------------------------------------------


def test_memory_error_while_a_message_is_received_ends_that_broker_alone(
    make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    broker, pusher = add_handled(engine, connect, lambda frames: frames)
    other = engine.add("other", STREAMER, frontend=ANY, backend=ANY)
    pump = working_broker(broker).hub.flows[0].pump
    assert isinstance(pump, HandlerPump)

    class ShortOfMemory:
        """A receiver that finds no memory for the next message."""

        def __init__(self, receiver: Any) -> None:
            self.add_to = receiver.add_to
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
            flow = engine.broker_statistics("handled").flows["frontend"]
            assert (flow.received, flow.interrupted, flow.held) == (1, 1, 0), flow
            push.send(b"after")
            assert pull.poll(20_000) and pull.recv() == b"after"
            peer.communicate(timeout=60)
            assert peer.returncode == 0
            for socket in (pull, push):
                socket.close(linger=0)
        print("lived")
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), pump],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "lived\n"), run.stdout + run.stderr
    assert "brokers.handled: failed: MemoryError" in run.stderr


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


@pytest.mark.parametrize("where", ["handler", "timer", "call", "reader"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("stop")], ids=["exit", "interrupt"])
def test_exit_ends_run_and_comes_out_of_it(
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
def test_exit_in_the_engines_thread_is_logged_and_close_tells(
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
    engine.close()  # it was told once


def test_with_block_tells_of_an_exit_unless_it_raises_itself(
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


def test_started_again_after_an_exit_it_runs(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.start()
    engine.call_soon_threadsafe(sys.exit)
    wait_until(lambda: not engine.running)
    engine.start()
    wait_until(lambda: engine.running)
    engine.close()  # of the exit nothing is left to tell


# -- sockets are used by one engine -----------------------------------------------------------------------------------


def test_socket_of_another_engine_is_refused(make_engine: MakeEngine, connect: Connect) -> None:
    first, second = make_engine(), make_engine()
    router, dealer, pair = connect(zmq.ROUTER), connect(zmq.DEALER), connect(zmq.PAIR)
    first.register(router, dealer, QUEUE, name="orders")
    used = "the socket is registered already, as brokers.orders.backend of another engine in this process$"
    with pytest.raises(EngineError, match=rf"^brokers\.mine\.backend: {used}"):
        second.register(connect(zmq.ROUTER), dealer, QUEUE, name="mine")
    with pytest.raises(EngineError, match=rf"^add_reader: {used}"):
        second.add_reader(dealer, print)
    first.add_reader(pair, print)
    with pytest.raises(EngineError, match="as a reader's of another engine"):
        second.add_reader(pair, print)
    assert not second.brokers


@pytest.mark.parametrize("freed", ["removed", "closed", "refused"])
def test_socket_that_another_engine_gave_back_is_taken(make_engine: MakeEngine, connect: Connect, freed: str) -> None:
    first, second = make_engine(), make_engine()
    router, dealer = connect(zmq.ROUTER), connect(zmq.DEALER)
    if freed == "refused":  # the first socket is free again when the second is refused
        other = make_engine()
        other.register(connect(zmq.ROUTER), dealer, QUEUE, name="other")
        with pytest.raises(EngineError, match="registered already"):
            first.register(router, dealer, QUEUE, name="orders")
        other.close()
    else:
        first.register(router, dealer, QUEUE, name="orders")
        first.remove("orders") if freed == "removed" else first.close()
    assert second.register(router, dealer, QUEUE).state == "running"


def test_socket_of_an_engine_that_is_gone_is_taken(connect: Connect) -> None:
    router, dealer = connect(zmq.ROUTER), connect(zmq.DEALER)
    engine = Engine()
    engine.register(router, dealer, QUEUE)
    engine.close()
    del engine
    with Engine() as second:
        assert second.register(router, dealer, QUEUE).state == "running"


# -- what is left unread ----------------------------------------------------------------------------------------------


def test_removed_broker_tells_how_many_messages_it_left_unread(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add("s", STREAMER, frontend=ANY, backend=ANY)
    pusher = connect(zmq.PUSH, broker.frontend.endpoints[0])
    for number in range(50):
        pusher.send(b"%d" % number)
    wait_until(lambda: engine.broker_statistics("s").flows["frontend"].held, engine=engine)
    flow = engine.broker_statistics("s").flows["frontend"]
    assert (flow.received, flow.held, flow.unread) == (1, 1, 0)
    unread = 0

    def all_came() -> bool:
        nonlocal unread
        unread += working_broker(broker).hub.flows[0].pump.count_unread(1)
        return unread == 40

    wait_until(all_came)  # forty were read, so that nine are left
    wait_until(lambda: working_broker(broker).frontend.socket.poll(0))
    flow = engine.remove("s", timeout_s=0).flows["frontend"]
    assert (flow.received, flow.held) == (1, 1)
    assert 1 <= flow.unread <= 9


# The native pump would read memory that libzmq has given back.
@pytest.mark.parametrize("owned", [True, False])
def test_socket_that_was_closed_under_the_engine_is_not_read_at_removal(
    make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch, owned: bool
) -> None:
    engine = make_engine()
    device = streamer_with(lambda frames: frames)  # its pump is Python, so that it can be watched
    if owned:
        broker = engine.add("s", device, frontend=ANY, backend=ANY)
    else:
        broker = engine.register(connect(zmq.PULL), connect(zmq.PUSH), device, name="s")
    pump = working_broker(broker).hub.flows[0].pump
    touched: list[str] = []
    monkeypatch.setattr(pump, "count_unread", lambda limit: touched.append("count_unread"))
    monkeypatch.setattr(pump, "discard_rest", lambda: touched.append("discard_rest"))
    working_broker(broker).frontend.socket.close(linger=0)
    engine.remove("s", timeout_s=0)
    assert not touched


# What is left unread at an XPUB is subscriptions: with the broker gone they are of no use to anybody.
def test_subscriptions_that_are_left_unread_are_no_loss(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add("news", FORWARDER, frontend=ANY, backend=ANY)
    subscriber = connect(zmq.SUB, broker.backend.endpoint)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"a")
    wait_until(lambda: working_broker(broker).backend.socket.poll(0))  # and nobody makes a turn of the engine
    flow = engine.remove("news", timeout_s=0).flows["backend"]
    assert (flow.received, flow.unread) == (0, 0)


def test_messages_at_a_registered_socket_stay_its_owners(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    pull, push = connect(zmq.PULL), connect(zmq.PUSH)
    pull.bind("inproc://source")
    pusher = connect(zmq.PUSH, "inproc://source")
    engine.register(pull, push, STREAMER, name="s")
    for number in range(5):
        pusher.send(b"%d" % number)
    wait_until(lambda: engine.broker_statistics("s").flows["frontend"].held, engine=engine)
    flow = engine.remove("s", timeout_s=0).flows["frontend"]
    assert (flow.held, flow.unread) == (1, 0)
    assert [pull.recv() for _ in range(4)] == [b"1", b"2", b"3", b"4"]


# A message with too many frames is discarded over several turns; who gets the socket back gets none of the rest.
def test_registered_socket_is_given_back_between_two_messages(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    pull, push = connect(zmq.PULL), connect(zmq.PUSH)
    pull.bind("inproc://source")
    pusher = connect(zmq.PUSH, "inproc://source")
    engine.register(pull, push, replace(STREAMER, maxframes=2), name="s")
    pusher.send_multipart([b""] * 50_000)
    pusher.send_multipart([b"next", b"message"])
    wait_until(lambda: engine.broker_statistics("s").flows["frontend"].too_many_frames, engine=engine)
    assert engine.broker_statistics("s").flows["frontend"].received_frames < 50_000
    engine.remove("s", timeout_s=0)
    assert pull.recv_multipart() == [b"next", b"message"]


# -- what an engine says of itself ------------------------------------------------------------------------------------


def test_engine_says_what_it_is(make_engine: MakeEngine) -> None:
    engine = make_engine()
    statistics = engine.statistics()
    parts = f"{statistics.pump} pump, {statistics.waiter} waiter"
    assert repr(engine) == f"<Engine not running, 0 brokers, {parts}>"
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    engine.start()
    wait_until(lambda: repr(engine) == f"<Engine running, 1 broker, {parts}>")
    engine.close()
    assert repr(engine) == f"<Engine closed, 0 brokers, {parts}>"


def test_statistics_are_frozen_and_can_be_passed_on(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    statistics = engine.statistics()
    mappings: list[Any] = [statistics.brokers, statistics.brokers["a"].flows]
    for mapping in mappings:
        with pytest.raises(TypeError, match="cannot be changed"):
            mapping.clear()
    assert pickle.loads(pickle.dumps(statistics)) == statistics
    assert asdict(statistics)["brokers"]["a"]["flows"]["frontend"]["received"] == 0
