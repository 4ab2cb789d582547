"""Ports that connect: again when the other side comes back, at no cost between the tries, and with nothing left."""

import select
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Engine
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, address_of, bind, endpoint
from tests.support.deadline import wait_until
from tests.support.descriptors import descriptors, opened_since
from tests.support.threads import started_since
from tests.support.turns import makes_no_turns
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import ended_by, peer_count, peers_alive
from tests.wire.places import address_in
from tests.wire.tries import NOWHERE, lookups
from tests.wire.zmtp import RawListener, connect_raw, message

# -- the other side comes back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["tcp", "ipc at a path", "ipc by an abstract name", "tcp of IPv6"])
def test_port_connects_again_when_the_other_side_comes_back(
    engine: Engine, connect: Connect, place: str, tmp_path: Path
) -> None:
    source, sink = connect(zmq.PUSH, sndhwm=0, ipv6=1), connect(zmq.PULL, ipv6=1)
    addresses = []
    for peer in (source, sink):
        peer.bind(address_in(place, tmp_path))
        addresses.append(address_of(peer))
    options = {"reconnect_ivl": 5}
    engine.add(
        "a", STREAMER, frontend=f">{addresses[0]}", backend=f">{addresses[1]}",
        frontend_options=options, backend_options=options,
    )  # fmt: skip
    broker = engine.brokers["a"]
    for number in range(5):
        for text in (b"%d" % number, b"again"):
            source.send(text)
            assert sink.recv() == text
        for port, kind in (("frontend", zmq.PUSH), ("backend", zmq.PULL)):
            old = source if port == "frontend" else sink
            address = address_of(old)
            old.close()
            wait_until(lambda p=port: peer_count(engine, broker, p) == 0)  # type: ignore[misc]
            new = connect(kind, ipv6=1)
            wait_until(lambda s=new, a=address: _can_bind(s, a))  # type: ignore[misc]
            source, sink = (new, sink) if port == "frontend" else (source, new)
        wait_until(lambda: peer_count(engine, broker, "frontend") == peer_count(engine, broker, "backend") == 1)
    flow = flow_of(engine, "a")
    assert (flow.received, flow.sent, flow.dropped) == (10, 10, 0)


def _can_bind(peer: Any, address: str) -> bool:
    """Bind, if libzmq has closed the old socket already."""
    try:
        peer.bind(address)
    except zmq.ZMQError:
        return False
    return True


def test_port_connects_to_what_comes_later(engine: Engine, connect: Connect, tmp_path: Path) -> None:
    path = f"ipc://{tmp_path}/later"
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=f">{path}", backend_options={"reconnect_ivl": 5})
    push = connect(zmq.PUSH, endpoint(engine.brokers["a"].frontend))
    push.send(b"waits")
    wait_until(lambda: peer_count(engine, engine.brokers["a"]) == 1)
    pull = connect(zmq.PULL)
    pull.bind(path)
    assert pull.recv() == b"waits"


def test_messages_for_the_other_side_wait_until_it_is_back(engine: Engine, connect: Connect) -> None:
    with RawListener() as listener:
        broker = engine.add(
            "a", STREAMER, frontend=ANY_PORT, backend=f">{listener.address}", backend_options={"reconnect_ivl": 5}
        )
        push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
        sent, received = 0, 0
        for _ in range(10):
            with listener.accept() as consumer:
                consumer.shake_hands("PULL")
                for _ in range(5):
                    push.send(b"%d" % sent)
                    sent += 1
                    assert int(consumer.read_message()[0]) == received
                    received += 1
                consumer.close()
                push.send(b"%d" % sent)  # before or after the port knows that the consumer has gone
                sent += 1
                wait_until(lambda: peer_count(engine, broker, "backend") == 0)
                # If the kernel had taken it before that, it is lost, and counted as sent.
                lost = flow_of(engine, "a").sent - received
                assert lost in (0, 1)
                received += lost
            if not lost:
                with listener.accept() as consumer:
                    consumer.shake_hands("PULL")
                    assert int(consumer.read_message()[0]) == received
                    received += 1


def test_one_of_several_endpoints_is_away(engine: Engine, connect: Connect) -> None:
    workers = [connect(zmq.REP) for _ in range(2)]
    addresses = [bind(worker) for worker in workers]
    broker = engine.add(
        "q", QUEUE, frontend=ANY_PORT, backend=[f">{NOWHERE}", *(f">{address}" for address in addresses)],
        backend_options={"reconnect_ivl": 5},
    )  # fmt: skip
    wait_until(lambda: peer_count(engine, broker, "backend") == 2)
    client = connect(zmq.REQ, endpoint(broker.frontend))
    for number in range(4):
        client.send(b"%d" % number)
        worker = workers[number % 2] if workers[number % 2].poll(100) else workers[1 - number % 2]
        worker.send(worker.recv())
        assert client.recv() == b"%d" % number


def test_source_address_is_that_of_the_connection(engine: Engine, connect: Connect) -> None:
    with RawListener() as listener:
        host = listener.address.removeprefix("tcp://")
        engine.add("a", STREAMER, frontend=f">tcp://127.0.0.1:0;{host}", backend=ANY_PORT)
        with listener.accept() as producer:
            assert producer.socket.getpeername()[0] == "127.0.0.1"
            producer.shake_hands("PUSH")
            pull = connect(zmq.PULL, endpoint(engine.brokers["a"].backend))
            producer.send_message(b"1")
            assert pull.recv() == b"1"


def test_listener_that_says_nothing_is_left_after_the_handshake_interval(engine: Engine) -> None:
    options = {"reconnect_ivl": 5, "handshake_ivl": 50}
    with RawListener() as listener:
        broker = engine.add("a", STREAMER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options=options)
        for _ in range(3):
            with listener.accept() as silent:
                silent.read_to_the_end()
        wait_until(lambda: ended_by(engine, broker).get("slow_handshake", 0) >= 3)


def test_reconnect_ivl_of_minus_1_means_never(engine: Engine) -> None:
    with RawListener() as listener:
        broker = engine.add(
            "a", STREAMER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options={"reconnect_ivl": -1}
        )
        with listener.accept() as peer:
            peer.shake_hands("PUSH")
        wait_until(lambda: ended_by(engine, broker) == {"left": 1})
        assert makes_no_turns(engine)
        assert not select.select([listener.socket], [], [], 0.05)[0]


# -- what it costs, and what is left -----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [NOWHERE, "ipc:///nowhere/at/all", "ipc://@pollbroker-nobody"])
def test_connecting_to_nowhere_costs_nothing_between_the_tries(engine: Engine, address: str) -> None:
    engine.add("a", STREAMER, frontend=f">{address}", backend=ANY_PORT, frontend_options={"reconnect_ivl": 60_000})
    wait_until(lambda: makes_no_turns(engine))
    assert peers_alive(engine) == 0


def test_tries_do_not_add_up(engine: Engine) -> None:
    """Each try takes a few turns, and leaves no descriptor, thread or timer behind."""
    options = {"reconnect_ivl": 1}
    engine.add("a", STREAMER, frontend=[f">{NOWHERE}"] * 5, backend=">ipc:///nowhere/at/all",
               frontend_options=options, backend_options=options)  # fmt: skip
    engine.add("b", STREAMER, frontend=">tcp://localhost:1", backend=ANY_PORT, frontend_options=options)
    most = []
    for _ in range(20):
        turns = engine.statistics().turns
        wait_until(lambda t=turns: engine.statistics().turns > t + 10)  # type: ignore[misc]
        most.append(len(descriptors()))
    assert max(most) - min(most) < 20
    for name in ("a", "b"):
        engine.remove(name)
    wait_until(lambda: not lookups())
    wait_until(lambda: makes_no_turns(engine))
    assert engine.next_timer_s() is None


def test_removed_brokers_leave_no_descriptor_and_no_thread(engine: Engine, connect: Connect) -> None:
    engine.add("first", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)  # what the engine itself needs is open then
    engine.remove("first")
    wait_until(lambda: not lookups())
    threads = threading.enumerate()
    before = descriptors()
    with RawListener() as listener:
        for number in range(10):
            broker = engine.add(
                "a", STREAMER,
                frontend=[f">{NOWHERE}", f">{listener.address}", ">tcp://localhost:1", ANY_PORT],
                backend=[">ipc:///nowhere/at/all", "ipc://*"], frontend_options={"reconnect_ivl": 1},
            )  # fmt: skip
            with listener.accept() as peer:
                if number % 2:
                    peer.shake_hands("PUSH")
                assert broker.state == "running"
                engine.remove("a", timeout_s=0)
                peer.read_to_the_end()
    wait_until(lambda: not lookups())
    wait_until(lambda: not opened_since(before))
    assert not started_since(threads)


def test_closed_engine_leaves_no_descriptor(make_engine: MakeEngine, context: Any) -> None:
    def once() -> None:
        engine = make_engine(context)
        engine.start()
        engine.add("a", STREAMER, frontend=[ANY_PORT, f">{NOWHERE}"], backend="ipc://*")
        engine.close()
        wait_until(lambda: not lookups())

    once()
    before = descriptors()
    for _ in range(3):
        once()
    wait_until(lambda: not opened_since(before))


@pytest.mark.parametrize("why", ["stalled", "paused"])
@pytest.mark.parametrize("said", [b"", message(b"question"), message(bytes(50_000)), message(b"cut")[:4]], ids=len)
def test_clients_that_leave_a_broker_that_reads_nothing_cost_no_descriptor(
    engine: Engine, connect: Connect, why: str, said: bytes
) -> None:
    """Otherwise clients that ask a broker without workers again and again, each time from a new connection, would use
    up the descriptors. What they have asked is passed on all the same."""
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    if why == "paused":
        broker.pause()
    before = descriptors()
    for _ in range(30):
        with connect_raw(endpoint(broker.frontend)) as client:
            client.shake_hands("DEALER").send(said)
    wait_until(lambda: not opened_since(before))
    assert ended_by(engine, broker) == {"left": 30}
    if why == "paused":
        broker.resume()
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    if len(said) > 4:
        for _ in range(30):
            assert message(*worker.recv_multipart()[1:]) == said
    assert not worker.poll(20)
    wait_until(lambda: peers_alive(engine) <= 2)


def test_port_of_a_broker_that_reads_nothing_connects_again(engine: Engine) -> None:
    with RawListener() as listener:
        broker = engine.add(
            "a", STREAMER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options={"reconnect_ivl": 5}
        )
        for number in range(3):
            with listener.accept() as producer:
                producer.shake_hands("PUSH")
                for _ in range(number):
                    producer.send_message(b"x" * 1000)
        assert flow_of(engine, "a").received == 0
        assert broker.state == "running"
