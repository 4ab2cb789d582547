"""Behaviours in an engine: real sockets, each pump and each waiter."""

import json
import random
import time
from collections.abc import Hashable
from typing import Any

import pytest
import zmq

from pollbroker import Behaviour, BehaviourError, BrokerState, Device, DeviceError, Engine, Route
from pollbroker.control import attach, request
from tests.behaviour.pipes import Does, account, add, pass_on, pipe
from tests.support.accounts import balanced
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.balancer import BALANCER, READY
from tests.support.deadline import wait_until
from tests.support.turns import turn_until_idle
from tests.support.types import Connect

# -- a balancer --------------------------------------------------------------------------------------------------------


def test_balancer_serves_clients_with_the_workers_that_are_free(engine: Engine, connect: Connect) -> None:
    broker = add(engine, BALANCER)
    clients = [connect(zmq.REQ, broker.ports["frontend"].endpoint) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    workers = [connect(zmq.REQ, broker.ports["backend"].endpoint) for _ in range(2)]
    for worker in workers:
        worker.send(READY)
    for turn in range(20):
        worker = workers[turn % 2]  # the one that has been free for longest is given the next request
        identity, empty, question = worker.recv_multipart()
        worker.send_multipart([identity, empty, b"answer to " + question])
        asking = clients[int(question)]
        assert asking.recv() == b"answer to " + question
        asking.send(question)
    wait_until(lambda: account(engine).received >= 42)
    assert engine.statistics().brokers["a"].counters == {"ready": 2}
    assert balanced(account(engine))


def test_requests_wait_at_their_sockets_while_no_worker_is_free(stepped: Engine, connect: Connect) -> None:
    stepped.add("a", BALANCER, frontend="inproc://frontend", backend="inproc://backend")
    client = connect(zmq.DEALER, "inproc://frontend")
    for number in range(50):
        client.send_multipart([b"", b"%d" % number])
    turn_until_idle(stepped)
    assert account(stepped).received == 0
    worker = connect(zmq.REQ, "inproc://backend")
    worker.send(READY)
    turn_until_idle(stepped)
    assert account(stepped).received == 2
    assert worker.recv_multipart()[-1] == b"0"
    before = stepped.statistics().turns
    turn_until_idle(stepped)
    assert stepped.statistics().turns == before + 1  # requests that wait keep nobody awake


# -- messages, timers, and what is full --------------------------------------------------------------------------------


def test_messages_and_ports_are_counted(stepped: Engine, connect: Connect) -> None:
    def twice(behaviour: Does, port: str, frames: list[bytes]) -> None:
        behaviour.send("backend", frames)
        behaviour.send("backend", [*frames, b"again"])

    stepped.add("a", pipe(twice), frontend="inproc://frontend", backend="inproc://backend")
    connect(zmq.PUSH, "inproc://frontend").send_multipart([b"12", b"3"])
    consumer = connect(zmq.PULL, "inproc://backend")
    turn_until_idle(stepped)
    assert consumer.recv_multipart() == [b"12", b"3"]
    assert consumer.recv_multipart() == [b"12", b"3", b"again"]
    statistics = stepped.statistics().brokers["a"]
    flow = statistics.flows["behaviour"]
    assert (flow.received, flow.sent, flow.added, flow.sinks) == (1, 2, 1, ("backend",))
    assert (statistics.ports["frontend"].received_bytes, statistics.ports["backend"].sent_frames) == (3, 5)
    assert balanced(flow)


def test_behaviour_is_told_that_a_peer_is_gone(stepped: Engine, connect: Connect) -> None:
    device = Device(
        "switch",
        ports={"frontend": zmq.ROUTER, "backend": zmq.ROUTER},
        behaviour=lambda: Does(lambda behaviour, port, frames: behaviour.send("backend", [b"worker", *frames])),
        options={"frontend": {"router_mandatory": 1}, "backend": {"router_mandatory": 1}},
    )
    stepped.add("a", device, frontend="inproc://frontend", backend="inproc://backend")
    client = connect(zmq.DEALER, "inproc://frontend")
    client.send(b"question")
    turn_until_idle(stepped)
    assert client.recv_multipart() == [b"nobody", b"question"]
    flow = account(stepped)
    assert (flow.received, flow.added, flow.sent, flow.unroutable) == (1, 1, 1, 1)
    assert balanced(flow)


def test_behaviour_is_told_of_room_and_does_not_keep_the_loop_awake_before(stepped: Engine, connect: Connect) -> None:
    def tell(behaviour: Does, port: str, frames: list[bytes]) -> None:
        behaviour.send("backend", frames, if_full="tell")

    stepped.add("a", pipe(tell), frontend="inproc://frontend", backend="inproc://backend")
    producer = connect(zmq.PUSH, "inproc://frontend")
    for number in range(20):
        producer.send(b"%d" % number)
    turn_until_idle(stepped)
    flow = account(stepped)
    assert (flow.received, flow.held, flow.sent) == (20, 20, 0)
    assert flow.state == "stalled"
    before = stepped.statistics().turns
    turn_until_idle(stepped)
    assert stepped.statistics().turns == before + 1
    consumer = connect(zmq.PULL, "inproc://backend")
    turn_until_idle(stepped)
    assert [consumer.recv() for _ in range(20)] == [b"%d" % number for number in range(20)]
    assert account(stepped).state == "waiting"
    assert balanced(account(stepped))


def test_timer_sends_what_was_kept(engine: Engine, connect: Connect) -> None:
    def keep(behaviour: Does, port: str, frames: list[bytes]) -> None:
        behaviour.kept.append(frames)
        behaviour.set_timer("send", 0.01)

    broker = add(engine, pipe(keep))
    consumer = connect(zmq.PULL, broker.ports["backend"].endpoint)
    connect(zmq.PUSH, broker.ports["frontend"].endpoint).send(b"kept")
    assert consumer.recv() == b"kept"
    wait_until(lambda: account(engine).sent == 1)
    assert balanced(account(engine))


def test_message_waits_for_a_consumer(engine: Engine, connect: Connect) -> None:
    broker = add(engine, pipe(pass_on))
    producer = connect(zmq.PUSH, broker.ports["frontend"].endpoint)
    producer.send(b"1")
    wait_until(lambda: account(engine).state == "stalled")
    producer.send(b"2")
    consumer = connect(zmq.PULL, broker.ports["backend"].endpoint)
    assert [consumer.recv(), consumer.recv()] == [b"1", b"2"]
    assert account(engine).stalls == 1


# A timer's message may be for another port than the one that is full already.
def test_second_port_that_is_full_is_watched_too(engine: Engine, connect: Connect) -> None:
    class Both(Behaviour):
        def on_message(self, port: str, frames: list[bytes]) -> None:
            self.send("a", frames)
            self.set_timer("b", 0.0)

        def on_timer(self, key: Hashable) -> None:
            self.send("b", [b"timer"])

    device = Device("both", ports={"intake": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUSH}, behaviour=Both)
    broker = add(engine, device)
    connect(zmq.PUSH, broker.ports["intake"].endpoint).send(b"1")
    wait_until(lambda: account(engine).held == 2)
    assert connect(zmq.PULL, broker.ports["b"].endpoint).recv() == b"timer"
    assert connect(zmq.PULL, broker.ports["a"].endpoint).recv() == b"1"


def test_exception_costs_one_message_and_the_broker_goes_on(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(behaviour: Does, port: str, frames: list[bytes]) -> None:
        behaviour.send("backend", frames)
        if frames == [b"2"]:
            raise ValueError("no")

    broker = add(engine, pipe(fail))
    consumer = connect(zmq.PULL, broker.ports["backend"].endpoint)
    producer = connect(zmq.PUSH, broker.ports["frontend"].endpoint)
    for number in (b"1", b"2", b"3"):
        producer.send(number)
    assert [consumer.recv(), consumer.recv()] == [b"1", b"3"]
    assert account(engine).failed == 1
    assert "behaviour Does: a call failed (1 messages so far)" in caplog.text


def test_behaviour_that_keeps_too_much_fails_its_broker_alone(
    engine: Engine, connect: Connect, bystander: object
) -> None:
    broker = add(engine, pipe(lambda behaviour, port, frames: behaviour.kept.extend([frames] * 101)))
    connect(zmq.PUSH, broker.ports["frontend"].endpoint).send(b"1")
    wait_until(lambda: broker.state == BrokerState.FAILED)
    assert isinstance(broker.error, BehaviourError)
    assert balanced(account(engine))


def test_message_of_too_many_frames_is_dropped_before_the_behaviour_sees_it(stepped: Engine, connect: Connect) -> None:
    stepped.add("a", pipe(pass_on, maxframes=2), frontend="inproc://frontend", backend="inproc://backend")
    producer, consumer = connect(zmq.PUSH, "inproc://frontend"), connect(zmq.PULL, "inproc://backend")
    producer.send_multipart([b"1", b"2", b"3"])
    producer.send_multipart([b"1", b"2"])
    turn_until_idle(stepped)
    assert consumer.recv_multipart() == [b"1", b"2"]
    assert (account(stepped).too_many_frames, account(stepped).sent) == (1, 1)
    assert balanced(account(stepped))


# libzmq looks for commands about once in a millisecond when it sends, and what it finds then wakes nobody. So the
# message that comes while the timer's is sent must be found by whoever settles the socket.
def test_message_that_comes_while_a_timer_sends_is_read(stepped: Engine, connect: Connect) -> None:
    class Late(Behaviour):
        def on_message(self, port: str, frames: list[bytes]) -> None:
            if frames == [b"begin"]:
                self.set_timer("now", 0.0)

        def on_timer(self, key: Hashable) -> None:
            end_s = time.monotonic() + 0.005
            while time.monotonic() < end_s:
                pass
            peer.send(b"late")
            self.send("port", [b"from the timer"])

    stepped.add("a", Device("late", ports={"port": zmq.DEALER}, behaviour=Late), port="inproc://port")
    peer = connect(zmq.DEALER, "inproc://port")
    for received in range(0, 60, 3):
        peer.send(b"begin")
        wait_until(lambda received=received: account(stepped).received == received + 1, engine=stepped)  # type: ignore[misc]
        peer.send(b"first")  # so that the source is read in the turn in which the timer comes
        wait_until(lambda received=received: account(stepped).received == received + 3, engine=stepped)  # type: ignore[misc]
        assert peer.recv() == b"from the timer"


def test_many_messages_each_way_are_all_accounted_for(engine: Engine, connect: Connect) -> None:
    chance = random.Random(1)

    def act(behaviour: Does, port: str, frames: list[bytes]) -> None:
        if len(behaviour.kept) > 50 or chance.random() < 0.2:
            behaviour.on_timer("now")
        what = chance.random()
        if what < 0.3:
            behaviour.kept.append(frames)
        elif what < 0.9:
            behaviour.send("backend", frames)
        if what > 0.8:
            raise ValueError("chance") if what > 0.85 else KeyError("chance")

    broker = add(engine, pipe(act), options={"backend": {"sndhwm": 10}})
    producer = connect(zmq.PUSH, broker.ports["frontend"].endpoint)
    consumer = connect(zmq.PULL, broker.ports["backend"].endpoint, rcvhwm=10)
    for _ in range(500):
        producer.send(b"x")
    came = 0
    while account(engine).received < 500 or account(engine).sent > came:
        assert balanced(account(engine))
        came += bool(consumer.poll(10)) and bool(consumer.recv())
    assert balanced(account(engine))


# -- steering, and what a behaviour does not have ----------------------------------------------------------------------


def test_paused_broker_gives_its_behaviour_nothing(engine: Engine, connect: Connect) -> None:
    def keep(behaviour: Does, port: str, frames: list[bytes]) -> None:
        behaviour.kept.append(frames)
        behaviour.set_timer("send", 0.001)

    broker = add(engine, pipe(keep))
    consumer = connect(zmq.PULL, broker.ports["backend"].endpoint)
    producer = connect(zmq.PUSH, broker.ports["frontend"].endpoint)
    producer.send(b"1")
    assert consumer.recv() == b"1"
    broker.pause()
    producer.send(b"2")
    assert not consumer.poll(20)
    broker.resume()
    assert consumer.recv() == b"2"


def test_control_tells_the_counters(engine: Engine, connect: Connect) -> None:
    broker = add(engine, pipe(lambda behaviour, port, frames: behaviour.count("seen", 2)))
    control = attach(engine, ANY_PORT)
    connect(zmq.PUSH, broker.ports["frontend"].endpoint).send(b"1")
    wait_until(lambda: account(engine).received == 1)
    reply = request(endpoint(control), "STATS")
    told = json.loads(reply[-1])
    assert told["brokers"]["a"]["counters"] == {"seen": 2}
    assert told["brokers"]["a"]["flows"]["behaviour"]["filtered"] == 1


def test_capture_has_what_was_sent_and_takes_no_prefixes(engine: Engine, connect: Connect) -> None:
    device = pipe(pass_on)
    with pytest.raises(DeviceError, match="the messages of a behaviour come from no one port; expected no prefixes"):
        add(engine, device, capture=ANY_PORT, capture_prefixes={"frontend": b"in"})
    broker = add(engine, device, capture=ANY_PORT, capture_type=zmq.PUSH)
    consumer = connect(zmq.PULL, broker.ports["backend"].endpoint)
    copies = connect(zmq.PULL, broker.ports["capture"].endpoint)
    producer = connect(zmq.PUSH, broker.ports["frontend"].endpoint)

    def is_copied() -> bool:  # a copy is dropped until the reader of copies is there
        producer.send_multipart([b"1", b"2"])
        assert consumer.recv_multipart() == [b"1", b"2"]
        return bool(copies.poll(1))

    wait_until(is_copied)
    assert copies.recv_multipart() == [b"1", b"2"]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"behaviour": Does(pass_on)}, "behaviour is <.*>: expected the class of one, or a function that makes one"),
        (
            {"behaviour": lambda: Does(pass_on), "routes": [Route("frontend", "backend")]},
            "it has routes and a behaviour; expected one or the other",
        ),
        ({"behaviour": lambda: Does(pass_on), "ports": {}}, "it has no port; expected one or more"),
        ({}, "it has no route; expected one or more, or a behaviour"),
    ],
)
def test_unsound_definition_is_refused(definition: dict[str, Any], expected: str) -> None:
    given: dict[str, Any] = {"ports": {"frontend": zmq.PULL, "backend": zmq.PUSH}} | definition
    with pytest.raises(DeviceError, match=f"^device d: {expected}"):
        Device("d", **given)
