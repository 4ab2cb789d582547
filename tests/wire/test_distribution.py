"""Which peer of a port is given the next message: each in turn, or the one with the fewest that are outstanding."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from pollbroker import QUEUE, STREAMER, ConfigError, Device, DeviceError, Engine
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import peer_count
from tests.wire.zmtp import Raw, connect_raw, message

FAIR_QUEUE = replace(QUEUE, name="fair-queue", distribution="least_outstanding")


def test_slow_worker_is_given_no_more_than_the_others_have_to_answer(
    engine: Engine, connect: Connect, raw: Raw
) -> None:
    """In turn, the worker that never answers would be given every third request."""
    broker = engine.add("q", FAIR_QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    client = connect(zmq.DEALER, endpoint(broker.frontend))
    stuck = raw(endpoint(broker.backend)).shake_hands("DEALER")
    workers = [connect(zmq.DEALER, endpoint(broker.backend)) for _ in range(2)]
    wait_until(lambda: peer_count(engine, broker, "backend") == 3)
    poller = zmq.Poller()
    for worker in workers:
        poller.register(worker, zmq.POLLIN)
    answered = 0
    client.send_multipart([b"first"])
    client.send_multipart([b"second"])
    client.send_multipart([b"third"])  # each of the three has one now
    for number in range(200):
        for worker, _ in poller.poll(1000):
            worker.send_multipart(worker.recv_multipart())
            answered += 1
            client.recv_multipart()
            client.send_multipart([b"%d" % number])
    assert answered >= 200
    assert stuck.read_message()[1:] in ([b"first"], [b"second"], [b"third"])
    assert min(_sent_to(broker)) == 1


@settings(max_examples=20, deadline=None)
@given(answers=st.lists(st.integers(0, 3), min_size=10, max_size=40))
def test_next_request_goes_to_a_worker_with_the_fewest_outstanding(answers: list[int]) -> None:
    """Whoever answers, and in whatever order: each request goes to one of those that have the fewest to answer."""
    with ExitStack() as stack:
        engine = stack.enter_context(Engine())
        broker = engine.add("q", FAIR_QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
        client = stack.enter_context(connect_raw(endpoint(broker.frontend))).shake_hands("DEALER", b"client")
        workers = []
        for number in range(4):
            worker = stack.enter_context(connect_raw(endpoint(broker.backend)))
            workers.append(worker.shake_hands("DEALER"))
            wait_until(partial(_has_workers, engine, broker, number + 1))
        outstanding = Counter(dict.fromkeys(range(4), 0))
        for number, who in enumerate(answers):
            before = _sent_to(broker)
            client.send_message(b"%d" % number)
            wait_until(partial(_has_sent, broker, sum(before) + 1))
            given = next(peer for peer, sent in enumerate(_sent_to(broker)) if sent > before[peer])
            assert outstanding[given] == min(outstanding.values())
            outstanding[given] += 1
            assert workers[given].read_message() == [b"client", b"%d" % number]
            if outstanding[who]:
                workers[who].send(message(b"client", b"done"))
                assert client.read_message() == [b"done"]
                outstanding[who] -= 1


def _has_workers(engine: Engine, broker: Any, count: int) -> bool:
    return peer_count(engine, broker, "backend") == count


def _has_sent(broker: Any, count: int) -> bool:
    return sum(_sent_to(broker)) == count


def _sent_to(broker: Any) -> list[int]:
    """Messages to each worker, in the order in which they were connected."""
    peers = [peer for peer in broker.peers() if peer.port == "backend"]
    return [peer.sent + peer.queued for peer in sorted(peers, key=lambda peer: -peer.connected_s)]


def test_streamer_gives_to_the_peer_with_the_fewest_to_be_written(engine: Engine, raw: Raw, connect: Connect) -> None:
    device = replace(STREAMER, name="fair", distribution="least_outstanding")
    broker = engine.add("s", device, frontend=ANY_PORT, backend=ANY_PORT)
    slow = raw(endpoint(broker.backend)).shake_hands("PULL")  # it never reads
    pull = connect(zmq.PULL, endpoint(broker.backend))
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    wait_until(lambda: peer_count(engine, broker, "backend") == 2)
    for number in range(200):
        push.send_multipart([b"%d" % number, bytes(100_000)])
    received = 0
    while pull.poll(1000) and received < 150:
        pull.recv_multipart()
        received += 1
    assert received == 150, "in turn, half of them would wait for the peer that does not read"
    slow.close()


@pytest.mark.parametrize("wrong", ["", "random", None, 1])
def test_distribution_that_there_is_not_is_refused(wrong: Any) -> None:
    with pytest.raises(DeviceError, match="expected 'round_robin' or 'least_outstanding'"):
        replace(QUEUE, distribution=wrong)


def test_distribution_makes_auto_the_wire_and_is_refused_where_libzmq_serves(
    make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pollbroker.transports.AUTO_PREFERS", "libzmq")
    engine = make_engine()
    broker = engine.add("a", FAIR_QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    assert broker.statistics().ports["backend"].transport == "wire"
    assert broker.statistics().ports["frontend"].transport == "libzmq"
    where = "brokers.b.backend: "
    with pytest.raises(ConfigError, match=where + "transport 'libzmq': it has no distribution 'least_outstanding'"):
        engine.add("b", FAIR_QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="libzmq")
    with pytest.raises(ConfigError, match=where + "distribution 'least_outstanding': only the wire has this"):
        engine.add("b", FAIR_QUEUE, frontend=ANY_PORT, backend="inproc://b")
    with pytest.raises(DeviceError, match=r"brokers\.c: the device fair-queue has the distribution"):
        engine.register(
            connect(zmq.ROUTER, "tcp://127.0.0.1:1"), connect(zmq.DEALER, "tcp://127.0.0.1:1"), FAIR_QUEUE, name="c"
        )


def test_device_without_a_port_that_distributes_is_served_as_before(engine: Engine) -> None:
    device = Device("odd", zmq.PULL, zmq.PUB, QUEUE.routes[:1], distribution="least_outstanding")
    assert engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT).state == "running"
