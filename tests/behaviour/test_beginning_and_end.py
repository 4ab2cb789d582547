"""Behaviours in an engine: how their brokers begin and end, and what becomes of what they keep."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import BehaviourError, BrokerState, DeviceError, Engine
from pollbroker.broker import working_broker
from pollbroker.pump import NO_SOURCE
from tests.behaviour.pipes import Does, account, add, pass_on, pipe
from tests.support.accounts import balanced
from tests.support.addresses import ANY_PORT, bind
from tests.support.balancer import BALANCER, READY
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.threads import in_thread
from tests.support.turns import turn_until_idle
from tests.support.types import Connect, MakeEngine


def test_error_of_on_start_is_raised_by_add_and_leaves_nothing(engine: Engine) -> None:
    class Wrong(Does):
        def on_start(self) -> None:
            self.set_timer("t", 0.0)
            raise ValueError("no configuration")

    device = replace(pipe(pass_on), behaviour=lambda: Wrong(pass_on))
    with pytest.raises(ValueError, match="no configuration"):
        engine.add("a", device, frontend="inproc://a", backend=ANY_PORT)
    assert not engine.brokers
    engine.add("a", pipe(pass_on), frontend="inproc://a", backend=ANY_PORT)


@pytest.mark.parametrize("registered", [False, True])
def test_behaviour_that_keeps_too_much_at_its_start_leaves_nothing(
    stepped: Engine, connect: Connect, registered: bool
) -> None:
    """What it sends has no peer, and is given back to it. The caller can use its own sockets then."""

    class Keeps(Does):
        max_held = 0

        def on_start(self) -> None:
            self.send("backend", [b"hello"], if_full="tell")

    device = replace(pipe(pass_on), behaviour=lambda: Keeps(pass_on))
    frontend, backend = connect(zmq.PULL), connect(zmq.PUSH)
    connect(zmq.PUSH, bind(frontend)).send(b"to the caller")
    assert frontend.poll(DEADLINE_MS)
    events: list[str] = []
    stepped.on_event(lambda event: events.append(event.kind))
    begin = partial(stepped.register, frontend, backend) if registered else partial(add, stepped)
    with pytest.raises(BehaviourError, match="Keeps keeps 1 messages"):
        begin(device=device)
    turn_until_idle(stepped)
    assert frontend.recv() == b"to the caller"
    assert events == []
    broker = stepped.add("b", pipe(pass_on), frontend=ANY_PORT, backend=ANY_PORT)
    assert not stepped.stopping  # it counts its brokers right
    broker.remove()


@pytest.mark.parametrize("made", [None, "text", Does])
def test_what_is_no_behaviour_is_refused(engine: Engine, made: Any) -> None:
    with pytest.raises(DeviceError, match=r"^device pipe: behaviour made .*: expected a Behaviour"):
        add(engine, replace(pipe(pass_on), behaviour=lambda: made))
    assert not engine.brokers


def test_removal_lets_the_behaviour_send_what_it_keeps(engine: Engine, connect: Connect) -> None:
    class Keeping(Does):
        def on_stop(self) -> None:
            self.on_timer("now")

    def keep(behaviour: Does, port: str, frames: list[bytes]) -> None:
        behaviour.kept.append(frames)

    broker = add(engine, replace(pipe(keep), behaviour=lambda: Keeping(keep)))
    consumer = connect(zmq.PULL, broker.ports["backend"].endpoint)
    producer = connect(zmq.PUSH, broker.ports["frontend"].endpoint)
    for number in range(3):
        producer.send(b"%d" % number)
    wait_until(lambda: account(engine).held == 3)
    final = broker.remove().flows["behaviour"]
    assert [consumer.recv() for _ in range(3)] == [b"0", b"1", b"2"]
    assert (final.sent, final.held) == (3, 0)


def test_removal_counts_what_the_behaviour_keeps(engine: Engine, connect: Connect) -> None:
    broker = add(engine, pipe(lambda behaviour, port, frames: behaviour.kept.append(frames)))
    connect(zmq.PUSH, broker.ports["frontend"].endpoint).send(b"1")
    wait_until(lambda: account(engine).held == 1)
    assert broker.drain(0.01) is False
    final = broker.remove().flows["behaviour"]
    assert (final.held, final.sent) == (1, 0)
    assert balanced(final)


def test_closed_source_is_drained_if_nothing_waits_there(engine: Engine, connect: Connect) -> None:
    broker = add(engine, BALANCER)
    assert broker.drain(0.5) is True
    client = connect(zmq.REQ, broker.ports["frontend"].endpoint)
    client.send(b"question")
    wait_until(lambda: broker.drain(0.0) is False)
    worker = connect(zmq.REQ, broker.ports["backend"].endpoint)
    worker.send(READY)
    assert worker.recv_multipart()[-1] == b"question"
    assert broker.drain() is True


def test_error_of_on_stop_does_not_keep_the_broker(
    engine: Engine, bystander: object, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(Does):
        def on_stop(self) -> None:
            raise ValueError("no")

    class KeepsTooMuch(Does):
        def on_stop(self) -> None:
            self.kept.extend([[b"x"]] * 101)

    for kind, state in ((Wrong, BrokerState.REMOVED), (KeepsTooMuch, BrokerState.FAILED)):
        broker = add(engine, replace(pipe(pass_on), behaviour=partial(kind, pass_on)))
        assert broker.remove().state == state
    assert list(engine.brokers) == ["bystander"]


@pytest.mark.parametrize("how", ["removed", "failed", "engine closed"])
def test_behaviour_is_told_of_the_end_however_its_broker_ends(engine: Engine, connect: Connect, how: str) -> None:
    ended: list[str] = []

    class Ending(Does):
        def on_end(self) -> None:
            ended.append(how)

    def keep_too_much(behaviour: Does, port: str, frames: list[bytes]) -> None:
        behaviour.kept.extend([frames] * 101)

    device = replace(pipe(pass_on), behaviour=lambda: Ending(keep_too_much))
    broker = add(engine, device)
    if how == "failed":
        connect(zmq.PUSH, broker.ports["frontend"].endpoint).send(b"1")
        wait_until(lambda: broker.state == BrokerState.FAILED)
        wait_until(lambda: ended == [how])
        broker.remove()
    elif how == "removed":
        broker.remove()
    engine.close()
    assert ended == [how]


def test_end_of_the_context_ends_the_broker(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    with zmq.Context() as context:
        frontend, backend = context.socket(zmq.PULL), context.socket(zmq.PUSH)

        def close_and_time(behaviour: Does, port: str, frames: list[bytes]) -> None:
            behaviour.close("frontend")
            behaviour.set_timer("t", 3600.0)

        address = bind(frontend)
        broker = engine.register(frontend, backend, pipe(close_and_time))
        connect(zmq.PUSH, address).send(b"1")
        wait_until(lambda: broker.statistics().flows["behaviour"].received == 1)
        for socket in (frontend, backend):
            socket.linger = 0
        ended = in_thread(context.term)
        wait_until(lambda: broker.state == BrokerState.ENDED)
        frontend.close()
        backend.close()
        ended.result()


def test_message_with_which_nothing_is_lost_does_not_count_as_unread(stepped: Engine, connect: Connect) -> None:
    class Ends(Does):
        def on_start(self) -> None:
            self.close("frontend")

        def is_lost(self, port: str, frames: list[bytes]) -> bool:
            if frames == [b"odd"]:
                raise ValueError("it cannot say")
            return frames != [b"heartbeat"]

    broker = add(stepped, replace(pipe(pass_on), behaviour=lambda: Ends(pass_on)))
    push = connect(zmq.PUSH, broker.ports["frontend"].endpoint)
    for sent in (b"heartbeat", b"lost", b"heartbeat", b"odd", b"heartbeat", b"last"):
        push.send(sent)
    (pump,) = (flow.pump for flow in working_broker(broker).hub.flows if flow.source != NO_SOURCE)
    unread = 0

    def all_came() -> bool:
        nonlocal unread
        unread += pump.count_unread(1)
        return unread == 3

    wait_until(all_came, engine=stepped)
    assert account(stepped).received == 0
    assert stepped.remove("a", timeout_s=0).flows["behaviour"].unread == 0
