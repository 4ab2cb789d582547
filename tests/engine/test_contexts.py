"""The end of a context, the engine's own or another's, is an orderly end of what uses it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Broker, BrokerState, Engine, EngineError, Event, EventKind
from pollbroker.broker import working_broker
from pollbroker.engine import engine_loop
from pollbroker.pump import Implementation
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.bystander import Bystander
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.transports import needs_a_context
from tests.support.types import Connect, MakeEngine, Socket
from tests.support.wire_ports import alive, in_engine

# -- the loop, when the context of its brokers ends --------------------------------------------------------------------


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
    left = engine.add("left", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    ran = in_thread(engine.run)
    terminated = in_thread(ending.term)
    assert ended.removed.result(DEADLINE_S).state == "ended"
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
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    ran = in_thread(engine.run)
    in_thread(context.term).result(DEADLINE_S)
    assert broker.removed.result(DEADLINE_S).state == "ended"
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
        engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
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
    broker = engine.add("third", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, broker.frontend.endpoints[0]).send(b"moved")
    assert connect(zmq.PULL, broker.backend.endpoints[0]).recv() == b"moved"
    assert engine.running


def test_stopped_engine_does_not_run_again_by_itself(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.start()
    engine.stop()
    wait_until(lambda: not engine.running)
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    assert not engine.running


def test_the_end_of_its_own_context_ends_run(make_engine: MakeEngine, implementation: Implementation) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    broker = engine.add("q", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
    runner = threading.Thread(target=engine.run)
    runner.start()
    context.term()
    runner.join(DEADLINE_MS / 1000)
    assert not runner.is_alive()
    assert (broker.state, broker.error) == (BrokerState.ENDED, None)


# -- ports of the wire, which are not in the context -------------------------------------------------------------------


def wire_streamer(engine: Engine, name: str = "a") -> Broker:
    return engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")


def is_watched(engine: Engine) -> bool:
    """Whether a socket is open that notices the end of the context."""
    return in_engine(engine, lambda: engine_loop(engine).context_end.is_watched)


@pytest.mark.parametrize("how", ["given", "asked for first", "asked for later", "destroyed"])
def test_the_end_of_the_context_ends_brokers_of_the_wire(make_engine: MakeEngine, how: str) -> None:
    engine = make_engine(zmq.Context()) if how == "given" else make_engine()
    context = engine.context if how in ("given", "asked for first") else None
    brokers = [wire_streamer(engine), wire_streamer(engine, "paused")]
    engine.pause("paused")
    ran = in_thread(engine.run)
    context = context or engine.context
    in_thread(context.destroy if how == "destroyed" else context.term).result(DEADLINE_S)
    ran.result(DEADLINE_S)
    assert [(broker.state, broker.error) for broker in brokers] == [(BrokerState.ENDED, None)] * 2
    assert alive(engine)[2:] == (0, 0)
    with pytest.raises(EngineError, match=r"^brokers\.a: it is ended"):
        engine.pause("a")


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_no_broker_is_added_after_the_end_of_the_context(make_engine: MakeEngine, transport: str) -> None:
    engine = make_engine()
    engine.context.term()
    for _ in range(2):
        with pytest.raises(EngineError, match="the engine's context was terminated; make a new Engine"):
            engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    assert not engine.brokers


def test_no_broker_of_the_wire_is_added_while_its_context_ends(make_engine: MakeEngine) -> None:
    """At that moment libzmq may have freed the context, and pyzmq not know it yet."""
    engine = make_engine()
    wire_streamer(engine)
    errors: list[str] = []

    def add_another(event: Event) -> None:
        if event.kind is EventKind.BROKER_ENDED:
            try:
                wire_streamer(engine, "another")
            except EngineError as error:
                errors.append(str(error))

    engine.on_event(add_another)
    terminated = in_thread(engine.context.term)
    wait_until(lambda: errors, engine=engine)
    terminated.result(DEADLINE_S)
    assert "the engine's context was terminated" in errors[0]


def test_brokers_of_the_wire_end_with_their_context_in_the_middle_of_traffic(
    make_engine: MakeEngine, connect: Connect
) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    broker = wire_streamer(engine)
    libzmq = engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="libzmq")
    push = connect(zmq.PUSH, broker.frontend.endpoint, sndhwm=0)
    connect(zmq.PULL, broker.backend.endpoint, rcvhwm=0)
    ran = in_thread(engine.run)
    for _ in range(20_000):
        push.send(b"x")
    wait_until(lambda: flow_of(engine, "a").received)
    in_thread(context.term).result(DEADLINE_S)
    ran.result(DEADLINE_S)
    assert [one.state for one in (broker, libzmq)] == ["ended", "ended"]
    assert balanced(flow_of(engine, "a"))


def test_context_that_nobody_else_has_needs_no_socket(make_engine: MakeEngine) -> None:
    """Nobody could terminate it, and its first socket would start libzmq's threads."""
    engine = make_engine()
    wire_streamer(engine)
    assert not is_watched(engine)
    assert engine.context is not None
    assert is_watched(engine)
    engine.remove("a")
    assert not is_watched(engine)
    in_thread(engine.context.term).result(DEADLINE_S)  # nobody runs the engine, and nobody has to
    with pytest.raises(EngineError, match="the engine's context was terminated"):
        wire_streamer(engine)
    assert not is_watched(engine)


def test_engine_that_is_closed_still_tells_its_context(make_engine: MakeEngine) -> None:
    engine = make_engine()
    wire_streamer(engine)
    engine.close()
    assert engine.context.closed


# -- brokers and readers, when their context ends ----------------------------------------------------------------------


def ended_in_time(call: Callable[[], object]) -> bool:
    """Return True if a call in a thread of its own returns before the deadline."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    return not thread.is_alive()


@needs_a_context
def test_terminated_context_ends_a_paused_broker_at_which_a_message_waits(
    make_engine: MakeEngine, connect: Connect, waiter: str
) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    poller = zmq.Poller() if waiter == "flat" else None
    engine = make_engine(context, poller=poller)
    engine.start()
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.pause("a")
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    push.send(b"x")
    if poller is not None:
        frontend = working_broker(broker).port("frontend").socket
        wait_until(lambda: dict(poller.sockets).get(frontend) == zmq.POLLERR)
    assert ended_in_time(context.term)
    assert broker.removed.result(DEADLINE_S).state == "ended"  # the last socket is closed a moment before


@needs_a_context
@pytest.mark.parametrize("situation", ["idle", "traffic", "stalled", "paused", "failed"])
def test_terminated_context_is_an_orderly_end(make_engine: MakeEngine, connect: Connect, situation: str) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    runner = threading.Thread(target=engine.run, daemon=True)
    runner.start()
    brokers = [
        engine.add("queue", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, capture="inproc://c1"),
        engine.add("streamer", STREAMER, frontend=ANY_PORT, backend=ANY_PORT),
        engine.add("forwarder", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT),
    ]
    push = connect(zmq.PUSH, endpoint(brokers[1].frontend), sndhwm=0)
    dealer = connect(zmq.DEALER, endpoint(brokers[0].frontend), sndhwm=0)
    if situation in ("traffic", "stalled"):
        if situation == "traffic":
            connect(zmq.PULL, endpoint(brokers[1].backend), rcvhwm=0)
            connect(zmq.DEALER, endpoint(brokers[0].backend), rcvhwm=0)
        for _ in range(20_000 if situation == "traffic" else 10):
            push.send(b"x")
            dealer.send(b"x")
        wait_until(lambda: flow_of(engine, "streamer").received and flow_of(engine, "queue").received)
    if situation == "paused":
        for broker in brokers:
            engine.pause(broker.name)
        engine.statistics()
    if situation == "failed":
        engine.call_soon_threadsafe(working_broker(brokers[1]).port("frontend").socket.close)
        push.send(b"x")
        wait_until(lambda: engine.statistics().brokers["streamer"].state == "failed")
        brokers.pop(1)
    assert ended_in_time(context.term)
    ends = [broker.removed.result(DEADLINE_S) for broker in brokers]  # the last socket is closed a moment before
    assert [end.state for end in ends] == ["ended"] * len(brokers)
    assert [broker.error for broker in brokers] == [None] * len(brokers)
    runner.join(DEADLINE_S)
    assert not runner.is_alive(), "run() returns when the engine's context is terminated"
    for broker in brokers:
        assert all(balanced(flow) for flow in engine.statistics().brokers[broker.name].flows.values())
        with pytest.raises(EngineError, match=rf"^brokers.{broker.name}: it is ended"):
            engine.pause(broker.name)
        engine.remove(broker.name)
    with pytest.raises(EngineError, match=r"^brokers\.new\.frontend: cannot open a socket: "):
        engine.add("new", STREAMER, frontend="inproc://f", backend="inproc://b")
    engine.close()


def test_terminated_context_ends_brokers_on_the_callers_sockets(make_engine: MakeEngine, connect: Connect) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine()  # whose own context is another, and goes on
    engine.start()
    bystander = Bystander(engine, connect)
    sockets = [context.socket(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.PUB)]
    broker = engine.register(sockets[0], sockets[1], STREAMER, name="lent", capture=sockets[2])
    terminator = threading.Thread(target=context.term, daemon=True)
    terminator.start()
    assert broker.removed.result(DEADLINE_S).state == "ended"
    assert broker.error is None
    assert [socket.closed for socket in sockets] == [False] * 3
    bystander.check()
    for socket in sockets:
        socket.close()
    terminator.join(DEADLINE_S)
    assert not terminator.is_alive()
    engine.remove("lent")
    bystander.check()


def test_reader_is_called_when_its_context_ends(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine()
    engine.start()
    socket = context.socket(zmq.PULL)

    def read() -> None:
        try:
            socket.recv(zmq.DONTWAIT)
        except zmq.ContextTerminated:
            socket.close()

    engine.add_reader(socket, read)
    assert ended_in_time(context.term)
