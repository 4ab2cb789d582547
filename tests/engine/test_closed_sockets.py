"""Sockets that somebody closes under the engine fail their own broker, and nothing else."""

from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Broker, Engine, EngineError
from pollbroker.broker import working_broker
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, address_of
from tests.support.bystander import Bystander
from tests.support.deadline import wait_until
from tests.support.streamers import lent, streamer_with
from tests.support.turns import within_a_turn
from tests.support.types import Connect, MakeEngine, Socket

PORTS = ["frontend", "backend", "capture"]


def lent_sockets(context: zmq.Context[Socket]) -> dict[str, Socket]:
    """A streamer's sockets, bound; all of one context, so their memory and descriptors are soon used again."""
    sockets = {name: context.socket(kind) for name, kind in zip(PORTS, (zmq.PULL, zmq.PUSH, zmq.PUSH), strict=True)}
    for socket in sockets.values():
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:*")
    return sockets


@pytest.mark.parametrize("port", PORTS)
def test_idle_socket_that_is_closed_fails_its_broker_alone(
    engine: Engine, context: zmq.Context[Socket], bystander: Bystander, port: str
) -> None:
    sockets = lent_sockets(context)
    broker = engine.register(sockets["frontend"], sockets["backend"], STREAMER, name="a", capture=sockets["capture"])
    wait_until(lambda: flow_of(engine, "a").state == "waiting")
    # In the engine's own thread, since a socket must not be used by two at once: a flat waiter polls it.
    engine.call_soon_threadsafe(sockets[port].close)
    wait_until(lambda: engine.statistics().brokers["a"].state == "failed")
    assert broker.state == "failed"
    assert broker.error is not None
    assert f"{port}: the socket was closed under the engine" in str(broker.error)
    assert str(broker.error) == engine.statistics().brokers["a"].error
    bystander.check()
    with pytest.raises(EngineError, match=r"^brokers\.a: it is failed: .*closed under the engine"):
        engine.resume("a")
    others = [name for name in PORTS if name != port]
    assert [sockets[name].closed for name in others] == [False, False]
    statistics = engine.remove("a")
    assert (statistics.state, list(engine.brokers)) == ("failed", ["bystander"])
    again = lent_sockets(context)
    engine.register(again["frontend"], again["backend"], STREAMER, name="a", capture=again["capture"])


@pytest.mark.parametrize("port", PORTS)
def test_socket_that_is_closed_in_traffic_fails_its_broker_alone(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, bystander: Bystander, port: str
) -> None:
    sockets = lent_sockets(context)
    addresses = {name: address_of(socket) for name, socket in sockets.items()}
    broker = engine.register(sockets["frontend"], sockets["backend"], STREAMER, name="a", capture=sockets["capture"])
    push = connect(zmq.PUSH, addresses["frontend"], sndhwm=0)
    pull = connect(zmq.PULL, addresses["backend"], rcvhwm=0)
    push.send(b"first")
    assert pull.recv() == b"first"
    # In the engine's own thread, since a socket must not be used by two at once.
    engine.call_soon_threadsafe(sockets[port].close)
    bystander.send(1000)
    for _ in range(100):
        push.send(b"x")
    wait_until(lambda: engine.statistics().brokers["a"].state == "failed")
    assert f"{port}: the socket was closed under the engine" in str(broker.error)
    assert balanced(flow_of(engine, "a"))
    bystander.check()


def test_socket_that_is_closed_while_paused_or_stalled_fails_its_broker(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, bystander: Bystander
) -> None:
    for situation in ("paused", "stalled"):
        for port in ("frontend", "backend"):
            sockets = lent_sockets(context)
            broker = engine.register(sockets["frontend"], sockets["backend"], STREAMER, name="a")
            push = connect(zmq.PUSH, address_of(sockets["frontend"]))
            if situation == "paused":
                engine.pause("a")
            push.send(b"x")
            if situation == "stalled":
                wait_until(lambda: flow_of(engine, "a").state == "stalled")
            engine.call_soon_threadsafe(sockets[port].close)
            wait_until(lambda: engine.statistics().brokers["a"].state == "failed")
            assert f"{port}: the socket was closed" in str(broker.error)
            assert balanced(flow_of(engine, "a"))
            engine.remove("a")
            bystander.check()


# Its descriptor's number, and its memory, are given to the next socket: neither may be taken for the other. Both happen
# in the engine's thread: libzmq itself cannot bear that a socket is closed while it polls it in another.
def test_descriptor_of_a_closed_socket_may_be_used_again(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, bystander: Bystander
) -> None:
    for round_ in range(10):
        sockets = lent_sockets(context)
        old = engine.register(sockets["frontend"], sockets["backend"], STREAMER, name=f"old-{round_}")
        wait_until(lambda o=old: flow_of(engine, o.name).state == "waiting")  # type: ignore[misc]
        fresh: dict[str, Socket] = {}

        def replace(closed: dict[str, Socket] = sockets, opened: dict[str, Socket] = fresh) -> None:
            for socket in closed.values():
                socket.close()
            opened |= lent_sockets(context)

        engine.call_soon_threadsafe(replace)
        wait_until(lambda f=fresh: f)  # type: ignore[misc]
        new = engine.register(fresh["frontend"], fresh["backend"], STREAMER, name=f"new-{round_}")
        push = connect(zmq.PUSH, address_of(fresh["frontend"]))
        pull = connect(zmq.PULL, address_of(fresh["backend"]))
        push.send(b"passes")
        assert pull.recv() == b"passes"
        wait_until(lambda o=old: engine.statistics().brokers[o.name].state == "failed")  # type: ignore[misc]
        engine.remove(old.name)
        assert new.state == "running"
        push.send(b"passes")
        assert pull.recv() == b"passes"
        engine.remove(new.name)
        for socket in fresh.values():
            socket.close()


def test_closed_own_socket_fails_its_broker_and_the_rest_is_closed(
    engine: Engine, connect: Connect, bystander: Bystander
) -> None:
    broker: Broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.call_soon_threadsafe(working_broker(broker).port("frontend").socket.close)
    wait_until(lambda: engine.statistics().brokers["a"].state == "failed")
    assert broker.backend is not None
    assert working_broker(broker).port("backend").socket.closed
    engine.remove("a")
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)


def test_removal_within_a_turn_finds_a_socket_closed(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    producer, frontend, backend = lent(connect)
    engine.register(frontend, backend, STREAMER, name="a")
    producer.send(b"held")
    wait_until(lambda: flow_of(engine, "a").state == "stalled", engine=engine)

    def remove() -> Any:
        backend.close()
        return engine.remove("a")

    final = within_a_turn(engine, remove)
    assert (final.state, final.flows["frontend"].held) == ("failed", 1)
    assert final.error is not None
    assert not engine.brokers


# The native pump would read memory that libzmq has freed.
@pytest.mark.parametrize("owned", [True, False])
def test_socket_that_was_closed_under_the_engine_is_not_read_at_removal(
    make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch, owned: bool
) -> None:
    engine = make_engine()
    device = streamer_with(lambda frames: frames)  # its pump is Python, so that it can be watched
    if owned:
        broker = engine.add("s", device, frontend=ANY_PORT, backend=ANY_PORT)
    else:
        broker = engine.register(connect(zmq.PULL), connect(zmq.PUSH), device, name="s")
    pump = working_broker(broker).hub.flows[0].pump
    touched: list[str] = []
    monkeypatch.setattr(pump, "count_unread", lambda limit: touched.append("count_unread"))
    monkeypatch.setattr(pump, "discard_rest", lambda: touched.append("discard_rest"))
    working_broker(broker).port("frontend").socket.close(linger=0)
    engine.remove("s", timeout_s=0)
    assert not touched
