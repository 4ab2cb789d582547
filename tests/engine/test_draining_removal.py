"""`remove(drain=True)`: what peers have sent and what is outstanding comes first, and then the broker ends."""

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import BALANCER, PARANOID_PIRATE, QUEUE, STREAMER, Broker, Device, Engine, EngineError
from pollbroker.states import BrokerState
from pollbroker.working import WorkingBroker
from tests.support.addresses import ANY_PORT, bind, endpoint
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.streamers import streamer_with
from tests.support.threads import running
from tests.support.transports import holding, holding_streamer
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import peer_count

TRANSPORTS = pytest.mark.parametrize("transport", ["libzmq", "wire"])


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    engine = make_engine()
    engine.start()
    return engine


@TRANSPORTS
def test_replies_that_are_outstanding_are_waited_for(
    engine: Engine, connect: Connect, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pollbroker")
    idle = engine.add("idle", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    client, worker = connect(zmq.REQ, endpoint(broker.frontend)), connect(zmq.REP, endpoint(broker.backend))
    client.send(b"first")
    assert worker.recv() == b"first"
    worker.send(b"answer")
    assert client.recv() == b"answer"
    client.send(b"second")
    assert worker.recv() == b"second"
    for one in (broker, idle):
        removed = engine.begin_removal(one, timeout_s=DEADLINE_S, drain=True)
        assert one.state is BrokerState.DRAINING
    wait_until(lambda: broker.statistics().flows["frontend"].state == "paused")
    late = connect(zmq.REQ, endpoint(broker.frontend))
    late.send(b"too late")
    assert not worker.poll(50)
    told = [message for message in caplog.messages if "waits" in message]
    assert len(told) == 1
    assert re.fullmatch(r"brokers\.q: waits up to \d+\.\d s for the replies to 1 request", told[0])
    worker.send(b"answer")
    assert client.recv() == b"answer"
    removed.result(DEADLINE_S)
    final = broker.removed.result(DEADLINE_S)
    assert len([message for message in caplog.messages if "waits" in message]) == 1
    assert (final.flows["frontend"].sent, final.flows["backend"].sent) == (2, 2)


@TRANSPORTS
def test_first_reply_of_all_is_waited_for(engine: Engine, connect: Connect, transport: str) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    client, worker = connect(zmq.REQ, endpoint(broker.frontend)), connect(zmq.REP, endpoint(broker.backend))
    client.send(b"first")
    assert worker.recv() == b"first"
    removed = engine.begin_removal(broker, timeout_s=DEADLINE_S, drain=True)
    wait_until(lambda: broker.statistics().flows["frontend"].state == "paused")
    worker.send(b"answer")
    assert client.recv() == b"answer"
    assert removed.result(DEADLINE_S).flows["backend"].sent == 1


@TRANSPORTS
def test_replies_that_do_not_come_are_not_waited_for_longer_than_allowed(
    engine: Engine, connect: Connect, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    client, worker = connect(zmq.DEALER, endpoint(broker.frontend)), connect(zmq.DEALER, endpoint(broker.backend))
    for _ in range(2):
        client.send(b"never answered")
        worker.recv_multipart()
    assert broker.remove(timeout_s=0.2, drain=True).state == "removed"
    assert caplog.messages == ["brokers.q: no replies to 2 requests have come within 0.2 s"]


@TRANSPORTS
def test_what_a_handler_has_yet_to_say_of_a_request_is_waited_for(
    make_engine: MakeEngine, connect: Connect, transport: str
) -> None:
    """A reply to its beginning is outstanding already, so that no other request is taken."""

    def three(frames: list[bytes]) -> Iterator[list[bytes]]:
        for number in range(3):
            yield [*frames, b"%d" % number]

    engine = make_engine(burst_messages=1)
    there, back = QUEUE.routes
    device = replace(QUEUE, name="three", routes=(replace(there, via=three), back))
    broker = engine.add("q", device, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    client, worker = connect(zmq.DEALER, endpoint(broker.frontend)), connect(zmq.DEALER, endpoint(broker.backend))
    client.send(b"request")
    wait_until(lambda: broker.statistics().flows["frontend"].sent == 1, engine=engine)
    removed = engine.begin_removal(broker, timeout_s=DEADLINE_S, drain=True)
    wait_until(lambda: broker.statistics().flows["frontend"].state == "paused", engine=engine)
    for number in range(3):
        request = worker.recv_multipart()
        assert request[-1] == b"%d" % number
        worker.send_multipart(request)
    wait_until(removed.done, engine=engine)
    assert removed.result().flows["backend"].sent == 3


@TRANSPORTS
def test_no_more_requests_are_taken_though_there_is_always_another(
    engine: Engine, connect: Connect, transport: str
) -> None:
    """Its sink is full, so that the broker holds a request whenever it is looked at."""
    broker = engine.add(
        "q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport, backend_options={"sndhwm": 1}
    )
    client = connect(zmq.DEALER, endpoint(broker.frontend))
    worker = connect(zmq.DEALER, endpoint(broker.backend), rcvhwm=1)
    over = threading.Event()

    def ask_on() -> None:
        while not over.is_set():
            if client.poll(1, zmq.POLLOUT):
                client.send(bytes(10_000), zmq.DONTWAIT)

    with running(ask_on):
        try:
            worker.recv_multipart()
            removed = engine.begin_removal(broker, timeout_s=100 * DEADLINE_S, drain=True)
            taken = 1
            while broker.statistics().flows["frontend"].state != "paused":
                if worker.poll(10):
                    worker.recv_multipart()
                    taken += 1
            while taken < broker.statistics().flows["frontend"].received:
                worker.recv_multipart()
                taken += 1
            assert not removed.done()
        finally:
            over.set()
    removed = engine.begin_removal(broker, timeout_s=0.0)
    final = removed.result(DEADLINE_S)
    assert final.flows["frontend"].received == taken
    assert final.flows["frontend"].held == 0


@TRANSPORTS
def test_no_more_requests_are_taken_though_the_loop_is_never_idle(
    make_engine: MakeEngine, connect: Connect, transport: str
) -> None:
    """Another broker moves one message in each turn, and has many. No reply is outstanding at the beginning."""
    clock = Clock()
    engine = make_engine(burst_messages=1, clock=clock)
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    client, worker = connect(zmq.DEALER, endpoint(broker.frontend)), connect(zmq.DEALER, endpoint(broker.backend))
    source = connect(zmq.PULL, rcvhwm=0)
    source.bind("inproc://busy")
    producer = connect(zmq.PUSH, "inproc://busy", sndhwm=0)
    for _ in range(1000):
        producer.send(b"")
    sink = connect(zmq.PUSH, sndhwm=0)
    sink.bind("inproc://taken")
    connect(zmq.PULL, "inproc://taken", rcvhwm=0)
    busy = engine.register(source, sink, STREAMER, name="busy")
    if transport == "wire":
        wait_until(lambda: peer_count(engine, broker) == peer_count(engine, broker, "backend") == 1, engine=engine)
    removed = engine.begin_removal(broker, timeout_s=1000, drain=True)
    client.send(b"request")

    def is_with_the_worker() -> bool:
        producer.send(b"")  # there is always another
        return bool(worker.poll(0))

    wait_until(is_with_the_worker, engine=engine)
    clock.now_s += 1
    engine.step()
    assert busy.statistics().flows["frontend"].state == "ready"
    assert broker.statistics().flows["frontend"].state == "paused"
    assert not removed.done()
    worker.send_multipart(worker.recv_multipart())
    engine.remove("busy")
    wait_until(removed.done, engine=engine)
    assert client.recv() == b"request"


@TRANSPORTS
@pytest.mark.parametrize(
    "device", [BALANCER, PARANOID_PIRATE.with_settings(give_again=False)], ids=lambda one: one.name
)
def test_requests_that_workers_have_in_hand_are_waited_for(
    engine: Engine, connect: Connect, transport: str, device: Device
) -> None:
    broker = engine.add("b", device, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    client, worker = connect(zmq.REQ, endpoint(broker.frontend)), connect(zmq.DEALER, endpoint(broker.backend))
    worker.send_multipart([b"", b"READY"] if device is BALANCER else [b"\1"])
    client.send(b"request")
    request = worker.recv_multipart()
    removed = engine.begin_removal(broker, timeout_s=DEADLINE_S, drain=True)
    late = connect(zmq.REQ, endpoint(broker.frontend))
    late.send(b"too late")
    wait_until(lambda: broker.statistics().flows)
    assert not removed.done()
    worker.send_multipart(request)
    assert client.recv() == b"request"
    assert removed.result(DEADLINE_S).counters.get("unanswered", 0) == 0
    assert not worker.poll(50)


def test_nothing_that_producers_have_written_is_lost(make_engine: MakeEngine, connect: Connect) -> None:
    """A PUSH goes on where it was when another broker has the address. It never has more on its way than the kernel
    takes: libzmq loses what it could write only in part when its peer leaves."""
    consumer = connect(zmq.PULL, rcvhwm=0)
    engine = make_engine()
    engine.start()
    arguments: dict[str, Any] = {"backend": f">{bind(consumer)}", "transport": "wire"}
    broker = engine.add("s", STREAMER, frontend=ANY_PORT, **arguments)
    frontend = endpoint(broker.frontend)
    producer = connect(zmq.PUSH, frontend, reconnect_ivl=1, sndhwm=100_000)
    over, room, sent = threading.Event(), threading.Semaphore(100), 0

    def send_on() -> None:
        nonlocal sent
        while not over.is_set():
            if room.acquire(timeout=0.01):
                producer.send(b"%d" % sent)
                sent += 1

    thread = threading.Thread(target=send_on)
    thread.start()
    received: list[int] = []

    def receive(number: int) -> None:
        for _ in range(number):
            received.append(int(consumer.recv()))
            room.release()

    try:
        for _ in range(5):
            receive(500)
            final = broker.remove(timeout_s=DEADLINE_S, drain=True)
            flow = final.flows["frontend"]
            assert (flow.received, flow.held, flow.unread) == (flow.sent, 0, 0)
            assert final.ports["frontend"].connections_ended == {"left": 1}
            broker = engine.add("s", STREAMER, frontend=frontend, **arguments)
    finally:
        over.set()
        thread.join()
    receive(sent - len(received))
    assert sorted(received) == list(range(sent))


@TRANSPORTS
def test_brokers_that_feed_each_other_are_removed_together(engine: Engine, connect: Connect, transport: str) -> None:
    second = engine.add("2", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    holding = streamer_with(lambda frames: frames)
    first = engine.add("1", holding, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    connect(zmq.PUSH, endpoint(first.frontend)).send(b"held")
    wait_until(lambda: first.statistics().flows["frontend"].held)
    removals = [engine.begin_removal(one, timeout_s=DEADLINE_S, drain=True) for one in (first, second)]
    assert not removals[1].done()
    assert second.state is BrokerState.DRAINING
    assert connect(zmq.PULL, endpoint(first.backend)).recv() == b"held"
    assert [one.result(DEADLINE_S).state for one in removals] == ["removed", "removed"]


def test_broker_that_is_drained_cannot_be_steered(engine: Engine, connect: Connect) -> None:
    broker = engine.add("s", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"held")
    wait_until(lambda: broker.statistics().flows["frontend"].held)
    removed = engine.begin_removal(broker, timeout_s=1000, drain=True)
    for steer in (broker.pause, broker.resume):
        with pytest.raises(EngineError, match=r"brokers\.s: it is draining"):
            steer()
    assert broker.remove(timeout_s=0).flows["frontend"].held == 1
    assert removed.result(DEADLINE_S).state == "removed"


def test_paused_broker_is_removed_without_draining(engine: Engine, connect: Connect) -> None:
    broker: Broker = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    consumer = connect(zmq.PULL, endpoint(broker.backend))
    broker.pause()
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"not drained")
    assert broker.remove(timeout_s=0.2, drain=True).flows["frontend"].sent == 0
    assert not consumer.poll(0)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the brokers that were asked whether they are idle."""
    names: list[str] = []

    class Counting(WorkingBroker):
        @property
        def idle(self) -> bool:
            names.append(self.name)
            return super().idle

    monkeypatch.setattr("pollbroker.starting.WorkingBroker", Counting)
    return names


TURNS = 20


def one_of_many_waits(engine: Engine, connect: Connect) -> str:
    """Add 50 brokers, and one that holds a message, for want of consumers. Return where these may connect."""
    for number in range(50):
        engine.add(f"{number}", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    return holding(engine, connect, "waiting")


def make_turns(engine: Engine) -> None:
    for _ in range(TURNS):
        engine.call_soon_threadsafe(lambda: None)
        engine.step(0.01)


def test_look_at_many_brokers_that_leave_costs_no_more_than_at_a_few(
    make_engine: MakeEngine, connect: Connect, looked: list[str]
) -> None:
    """While one of them is waited for, nobody looks at the others again."""
    engine = make_engine()
    backend = one_of_many_waits(engine, connect)
    removed = [engine.begin_removal(one, timeout_s=DEADLINE_S, drain=True) for one in engine.brokers.values()]
    make_turns(engine)
    assert not removed[-1].done()
    assert len(looked) <= len(removed) + 2 * TURNS
    connect(zmq.PULL, backend)
    wait_until(lambda: all(future.done() for future in removed), engine=engine)
    assert len(looked) <= 3 * len(removed) + 2 * TURNS


def test_look_at_many_brokers_that_are_drained_costs_no_more_than_at_a_few(
    make_engine: MakeEngine, connect: Connect, looked: list[str]
) -> None:
    """As above: the one that holds a message is the last of them."""
    engine = make_engine()
    backend = one_of_many_waits(engine, connect)
    drained = engine.begin_drain(DEADLINE_S)
    make_turns(engine)
    assert not drained.done()
    assert len(looked) <= len(engine.brokers) + 2 * TURNS
    connect(zmq.PULL, backend)
    wait_until(drained.done, engine=engine)
    assert drained.result() == ()


def test_second_removal_may_only_shorten_the_time(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    holding(engine, connect)
    engine.start()
    removed = engine.begin_removal("a", timeout_s=1000, drain=True)
    assert engine.begin_removal("a", timeout_s=0.05, drain=True) is removed
    engine.begin_removal("a", timeout_s=2000, drain=True)
    assert removed.result(DEADLINE_S).flows["frontend"].held == 1
