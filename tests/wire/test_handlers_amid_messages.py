"""Brokers whose handlers make several messages of one: they are moved between two messages, and receive no other one
while they are waited for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Broker, BrokerState, ConfigError, Device, Engine, EngineError, HandOverError, Route
from pollbroker.handing_over import replacing
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.types import Connect, Socket
from tests.support.wire_ports import in_engine
from tests.wire.moving import Leave, Side, adds, check_refused, hand_over, socket_pair


def threefold(message: list[bytes]) -> Iterator[list[bytes]]:
    for number in range(3):
        yield [*message, b"%d" % number]


def handled(handler: Callable[[list[bytes]], object]) -> Device:
    return replace(STREAMER, name="handled", routes=(Route("frontend", "backend", via=handler),))  # type: ignore[arg-type]


THREEFOLD = handled(threefold)


class Amid:
    """A broker `x` whose handler is amid the first of three messages, since nobody takes what it makes."""

    def __init__(self, engine: Engine, connect: Connect, device: Device = THREEFOLD) -> None:
        self._engine = engine
        self._connect = connect
        self.broker = adds(device, "x")(engine)
        push = connect(zmq.PUSH, endpoint(self.broker.frontend))
        for number in range(3):
            push.send(b"%d" % number)
        wait_until(lambda: flow_of(engine, "x").held == 1)

    def consumer(self) -> Socket:
        return self._connect(zmq.PULL, endpoint(self.broker.backend), rcvhwm=0)

    def check_all_comes(self, pull: Socket) -> None:
        """Each message comes once, and in order."""
        expected = [[b"%d" % number, b"%d" % part] for number in range(3) for part in range(3)]
        assert [pull.recv_multipart() for _ in range(9)] == expected
        wait_until(lambda: flow_of(self._engine, "x").sent == 9)
        assert balanced(flow_of(self._engine, "x"))


@pytest.fixture
def amid(engine: Engine, connect: Connect) -> Amid:
    return Amid(engine, connect)


@pytest.fixture
def y(engine: Engine) -> Broker:
    """A broker without a handler, beside `x`."""
    return adds(STREAMER, "y")(engine)


def relays(broker: Broker, connect: Connect) -> bool:
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"relayed")
    return bool(pull.recv() == b"relayed")


def test_brokers_between_messages_are_stopped_while_others_are_waited_for(
    engine: Engine, amid: Amid, y: Broker, leave: Leave, connect: Connect
) -> None:
    side, future = leave(brokers=["x", "y"], freeze_s=DEADLINE_S)
    side.claim("x", "y")
    wait_until(lambda: y.state is BrokerState.HANDING_OVER)
    assert flow_of(engine, "x").state == "paused"
    pull = amid.consumer()
    side.receive_state()
    assert amid.broker.state is BrokerState.HANDING_OVER
    assert flow_of(engine, "x").received == 1
    side._channel.refuse("enough")
    check_refused(future, "enough")
    amid.check_all_comes(pull)
    assert relays(y, connect)


def test_busy_handlers_of_several_brokers_move(engine: Engine, new: Engine, connect: Connect) -> None:
    """None of them receives another message when its own is done, although more have come."""
    names = ("x", "y", "z")
    brokers = [adds(THREEFOLD, name)(engine) for name in names]
    pushes = [connect(zmq.PUSH, endpoint(broker.frontend)) for broker in brokers]
    for push in pushes:
        for number in range(1000):
            push.send(b"%d" % number)
    pulls = [connect(zmq.PULL, endpoint(broker.backend), rcvhwm=0) for broker in brokers]
    for pull in pulls:
        assert pull.recv_multipart() == [b"0", b"0"]
    assert hand_over(engine, new, *(adds(THREEFOLD, name) for name in names)).moved == names
    for pull in pulls:
        expected = [[b"%d" % number, b"%d" % part] for number in range(1000) for part in range(3)][1:]
        assert [pull.recv_multipart() for _ in range(2999)] == expected


def test_broker_that_was_waited_for_in_vain_is_named_and_all_go_on(
    amid: Amid, y: Broker, leave: Leave, connect: Connect
) -> None:
    side, future = leave(brokers=["y", "x"], freeze_s=0.05)
    side.claim("y", "x")
    check_refused(future, r"^brokers\.x: after 0\.05 s a handler has yet to say what else is made of a message$")
    assert (amid.broker.state, y.state) == (BrokerState.RUNNING, BrokerState.RUNNING)
    amid.check_all_comes(amid.consumer())
    assert relays(y, connect)


@pytest.mark.parametrize("removed", ["x", "y"])
def test_removal_while_a_handler_is_waited_for(
    engine: Engine, amid: Amid, y: Broker, leave: Leave, connect: Connect, removed: str
) -> None:
    side, future = leave(brokers=["x", "y"], freeze_s=DEADLINE_S)
    side.claim("x", "y")
    wait_until(lambda: y.state is BrokerState.HANDING_OVER)
    assert engine.remove(removed, timeout_s=0).state is BrokerState.REMOVED
    check_refused(future, "given up here")
    if removed == "y":
        amid.check_all_comes(amid.consumer())
    else:
        assert relays(y, connect)


def test_handler_that_removes_a_broker_while_it_is_waited_for(
    engine: Engine, y: Broker, leave: Leave, connect: Connect
) -> None:
    def removes_y(message: list[bytes]) -> Iterator[list[bytes]]:
        yield [*message, b"0"]
        if message == [b"0"]:
            engine.remove("y")
        yield [*message, b"1"]
        yield [*message, b"2"]

    amid = Amid(engine, connect, handled(removes_y))
    side, future = leave(brokers=["x", "y"], freeze_s=DEADLINE_S)
    side.claim("x", "y")
    wait_until(lambda: y.state is BrokerState.HANDING_OVER)
    pull = amid.consumer()
    check_refused(future, "given up here")
    assert "y" not in engine.brokers
    amid.check_all_comes(pull)


def test_drain_begins_while_a_handler_is_waited_for(engine: Engine, amid: Amid, leave: Leave) -> None:
    """It ends the hand over, and does what it should."""
    side, future = leave(brokers=["x"], freeze_s=DEADLINE_S)
    side.claim("x")
    wait_until(lambda: flow_of(engine, "x").state == "paused")
    removed = engine.begin_removal("x", timeout_s=DEADLINE_S, drain=True)
    check_refused(future, "given up here")
    pull = amid.consumer()
    assert [pull.recv_multipart()[0] for _ in range(9)] == [b"%d" % number for number in range(3) for _ in range(3)]
    assert removed.result(DEADLINE_S).flows["frontend"].sent == 9


def test_broker_that_is_paused_amid_a_message_stays(engine: Engine, new: Engine, amid: Amid, y: Broker) -> None:
    """It would be waited for in vain."""
    amid.broker.pause()
    reason = "it is paused, and its handler has yet to say what else is made of a message"
    result = hand_over(engine, new, adds(STREAMER, "y"))
    assert (result.moved, result.left) == (("y",), {"x": reason})
    assert y.state is BrokerState.REMOVED
    with pytest.raises(ConfigError, match=reason):
        adds(THREEFOLD, "x")(engine, replaces="x")
    amid.broker.resume()
    amid.check_all_comes(amid.consumer())


def test_error_ends_the_broker_while_it_is_waited_for(
    engine: Engine, y: Broker, leave: Leave, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    amid = Amid(engine, connect)

    def fail(*_: Any) -> int:
        raise zmq.ZMQError(zmq.ENOTSOCK)

    side, future = leave(brokers=["x", "y"], freeze_s=DEADLINE_S)
    side.claim("x", "y")
    wait_until(lambda: y.state is BrokerState.HANDING_OVER)
    monkeypatch.setattr("pollbroker.pump.hub.Hub.work", fail)
    check_refused(future, r"^brokers\.x: it cannot be handed over any more: it is failed$")
    monkeypatch.undo()
    assert amid.broker.state is BrokerState.FAILED
    assert relays(y, connect)


# -- in one engine -----------------------------------------------------------------------------------------------------


def test_broker_that_is_replaced_receives_no_other_message(
    engine: Engine, amid: Amid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "_ASKED_AGAIN_S", DEADLINE_S)
    old = amid.broker
    replaced = in_thread(lambda: adds(THREEFOLD, "x")(engine, replaces="x"))
    wait_until(lambda: flow_of(engine, "x").state == "paused")
    pull = amid.consumer()
    assert replaced.result(DEADLINE_S).state is BrokerState.RUNNING
    assert old.removed.result(DEADLINE_S).flows["frontend"].received == 1
    amid.check_all_comes(pull)


def test_broker_that_could_not_be_replaced_in_a_turn_receives_again(engine: Engine, amid: Amid) -> None:
    reason = r"brokers\.x: the connections of 'x' cannot be kept: its handler has yet to say what else is made of a"
    with pytest.raises(ConfigError, match=reason):
        in_engine(engine, lambda: adds(THREEFOLD, "x")(engine, replaces="x"))
    amid.check_all_comes(amid.consumer())


def test_broker_is_moved_in_one_way_at_a_time(engine: Engine, amid: Amid, leave: Leave) -> None:
    side, future = leave(brokers=["x"], freeze_s=DEADLINE_S)
    side.claim("x")
    wait_until(lambda: flow_of(engine, "x").state == "paused")
    with pytest.raises(ConfigError, match=r"cannot be kept: it is being moved already"):
        adds(THREEFOLD, "x")(engine, replaces="x")
    other_side, other_future = leave(brokers=["x"])
    other_side.claim("x")
    check_refused(other_future, r"brokers\.x: it cannot be handed over any more: it is being moved already")
    side._channel.refuse("enough")
    pull = amid.consumer()
    check_refused(future, "enough")
    amid.check_all_comes(pull)


def test_engine_closes_while_a_handler_is_waited_for(make_engine: Callable[[], Engine], connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    amid = Amid(engine, connect)
    with socket_pair() as (ours, theirs):
        side = Side(theirs)
        future = in_thread(lambda: engine.hand_over(ours, freeze_s=DEADLINE_S))
        side.claim("x")
        wait_until(lambda: flow_of(engine, "x").state == "paused")
        engine.close(timeout_s=0)
        with pytest.raises((HandOverError, EngineError)):
            future.result(DEADLINE_S)
        side.close()
    assert amid.broker.state is BrokerState.REMOVED
