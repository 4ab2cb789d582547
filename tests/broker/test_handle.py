"""`Broker`, the handle that `Engine.add` and `Engine.register` return: what it says, and that any thread may use it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pollbroker import QUEUE, REFLECTOR, STREAMER, Broker, DeviceError, Engine, EngineError, Port, Route
from pollbroker.broker import working_broker
from pollbroker.pump import FlowState
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Connect, MakeEngine, Socket

# -- what it says ------------------------------------------------------------------------------------------------------


def test_ports_are_found_by_name(make_engine: MakeEngine) -> None:
    engine = make_engine()
    broker = engine.add("orders", QUEUE, frontend=ANY_PORT, backend=["inproc://a", "inproc://b"], capture=ANY_PORT)
    assert list(broker.ports) == ["frontend", "backend", "capture"]
    assert broker.backend == Port("backend", zmq.SocketType.DEALER, ("inproc://a", "inproc://b"))
    assert broker.frontend.endpoint.startswith("tcp://127.0.0.1:")
    assert broker.capture.type == zmq.PUB
    with pytest.raises(TypeError, match="cannot be changed"):
        broker.ports["frontend"] = broker.backend  # type: ignore[index]


def test_port_that_a_broker_has_not_is_refused(make_engine: MakeEngine, connect: Connect) -> None:
    broker = make_engine().register(connect(zmq.PAIR), None, REFLECTOR, name="mirror")
    with pytest.raises(DeviceError, match=r"^brokers\.mirror: it has no backend; its ports are: frontend$"):
        _ = broker.backend
    with pytest.raises(DeviceError, match="it has no capture"):
        _ = broker.capture
    with pytest.raises(IndexError):
        _ = broker.frontend.endpoint


def test_handles_to_one_broker_are_equal(make_engine: MakeEngine) -> None:
    engine = make_engine()
    first, second = (engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT) for name in ("first", "second"))
    assert engine.brokers["first"] == first != second
    assert len({first, second, engine.brokers["second"]}) == 2


# -- what it does ------------------------------------------------------------------------------------------------------


def test_handle_steers_its_broker(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    broker = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    pusher, puller = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    broker.pause()
    assert (broker.state, engine.statistics().brokers["s"].state) == ("paused", "paused")
    pusher.send(b"1")
    broker.resume()
    assert puller.recv() == b"1"
    assert broker.drain(timeout_s=DEADLINE_S)
    assert broker.statistics().flows["frontend"].sent == 1
    final = broker.remove()
    assert (broker.state, final.state, broker.removed.result()) == ("removed", "removed", final)
    assert "s" not in engine.brokers


def test_drain_of_one_broker_waits_for_no_other(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    stuck = engine.add("stuck", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    free = engine.add("free", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, stuck.frontend.endpoint).send(b"for nobody")
    wait_until(lambda: stuck.statistics().flows["frontend"].state == "stalled")
    assert free.drain(timeout_s=DEADLINE_S)
    assert not stuck.drain(timeout_s=0.01)
    assert engine.drain(timeout_s=0.01) == ("stuck",)
    assert engine.drain(timeout_s=0.01, broker="stuck") == ("stuck",)
    with pytest.raises(EngineError, match="no broker is named 'nobody'"):
        engine.drain(broker="nobody")


def test_handle_stays_with_its_broker_when_the_name_is_given_again(make_engine: MakeEngine) -> None:
    engine = make_engine()
    old = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    final = old.remove()
    new = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    for steer in (old.pause, old.resume, old.drain, lambda: engine.pause(old)):
        with pytest.raises(EngineError, match=r"^brokers\.s: it is removed"):
            steer()
    assert (old.remove(), old.statistics()) == (final, final)
    assert (old.state, new.state, old == new) == ("removed", "running", False)


def test_handle_outlives_its_engine(make_engine: MakeEngine) -> None:
    engine = make_engine()
    broker = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.close()
    assert (broker.state, broker.statistics().state, broker.remove().state) == ("removed", "removed", "removed")
    assert broker.frontend.endpoint.startswith("tcp://127.0.0.1:")
    with pytest.raises(EngineError, match="the engine is closed"):
        broker.pause()


def test_handle_of_another_engine_is_refused(make_engine: MakeEngine) -> None:
    one, other = make_engine(), make_engine()
    broker = one.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    other.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with pytest.raises(EngineError, match=r"^brokers\.s: it is running, and belongs to another engine$"):
        other.pause(broker)
    assert broker.state == "running"


# It used to be the working object itself: paused by another thread in the middle of a turn it was "paused", and its
# flow went on.
def test_pause_from_another_thread_during_a_handler_moves_nothing_afterwards(
    make_engine: MakeEngine, context: zmq.Context[Socket], connect: Connect
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def handle(frames: list[bytes]) -> list[bytes]:
        entered.set()
        assert leave.wait(DEADLINE_S)
        return frames

    engine = make_engine(context)
    engine.start()
    device = replace(STREAMER, name="handled", routes=[Route("frontend", "backend", via=handle)])
    # By tcp the consumer might be connected too late for the message, which the paused broker would then hold.
    broker = engine.add("s", device, frontend="inproc://frontend", backend="inproc://backend")
    pusher, puller = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
    pusher.send(b"1")
    assert entered.wait(DEADLINE_S)
    with ThreadPoolExecutor(1) as pool:
        paused = pool.submit(broker.pause)
        leave.set()
        paused.result(DEADLINE_S)
    assert puller.recv() == b"1"
    pusher.send(b"2")
    engine.statistics()  # a turn, in which the message may have come
    assert broker.state == "paused"
    assert [flow.state for flow in working_broker(broker).hub.flows] == [FlowState.PAUSED]
    assert puller.poll(20) == 0
    broker.resume()
    assert puller.recv() == b"2"


CALLS: dict[str, Callable[[Engine, Broker], Any]] = {
    "pause": lambda engine, broker: broker.pause(),
    "resume": lambda engine, broker: broker.resume(),
    "statistics": lambda engine, broker: broker.statistics(),
    "drain": lambda engine, broker: broker.drain(timeout_s=0.0),
    "remove": lambda engine, broker: broker.remove(timeout_s=0.0),
    "state": lambda engine, broker: (broker.state, broker.error, broker.ports, repr(broker)),
    "engine statistics": lambda engine, broker: engine.statistics(),
    "engine pause": lambda engine, broker: engine.pause(broker),
    "engine brokers": lambda engine, broker: [one.state for one in engine.brokers.values()],
    "engine drain": lambda engine, broker: engine.drain(timeout_s=0.0),
}


# Whatever several threads call at once, each call returns or raises EngineError, the account of every broker balances,
# a removed broker is removed for all, and the others go on.
@pytest.mark.parametrize("pump", ["native", "python"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(plans=st.lists(st.lists(st.sampled_from(list(CALLS)), max_size=8), min_size=2, max_size=4))
def test_several_threads_may_call_everything_at_once(pump: str, plans: list[list[str]]) -> None:
    with Engine(pump=pump) as engine, ThreadPoolExecutor(len(plans)) as pool:
        broker = engine.add("shared", STREAMER, frontend="inproc://in", backend="inproc://out")
        other = engine.add("other", STREAMER, frontend="inproc://other-in", backend="inproc://other-out")
        sockets = [engine.context.socket(kind) for kind in (zmq.PUSH, zmq.PULL, zmq.PUSH, zmq.PULL)]
        for socket, address in zip(sockets, ("in", "out", "other-in", "other-out"), strict=True):
            socket.linger = 0
            socket.connect(f"inproc://{address}")
        began = threading.Barrier(len(plans))

        def call_all(plan: list[str]) -> None:
            began.wait(DEADLINE_S)
            for name in plan:
                try:
                    CALLS[name](engine, broker)
                except EngineError:
                    assert broker.state in ("removing", "removed")
                with lock, suppress(zmq.Again):  # nobody takes it once the broker is removed
                    sockets[0].send(b"x", zmq.DONTWAIT)

        lock = threading.Lock()
        for done in [pool.submit(call_all, plan) for plan in plans]:
            done.result(DEADLINE_S)
        flow = broker.statistics().flows["frontend"]
        assert flow.received == flow.sent + flow.held
        assert broker.state in (("removed",) if any("remove" in plan for plan in plans) else ("running", "paused"))
        sockets[2].send(b"still moved")
        assert sockets[3].poll(DEADLINE_MS)
        assert other.remove().flows["frontend"].sent == 1
        for socket in sockets:
            socket.close()
