"""Where what waits can be cancelled: cancellation at any await leaves nothing half done."""

import pytest
import zmq

from pollbroker import BrokerState
from pollbroker.opening import RELEASED
from tests.embedding.environments import Environment, held
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, bind
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.streamers import Peers
from tests.support.types import Connect


@pytest.mark.parametrize("ends", ["cancelled", "free in the end"])
def test_add_that_waits_for_an_address(cancellable: Environment, connect: Connect, ends: str) -> None:
    taken = connect(zmq.PULL)
    address = bind(taken)
    RELEASED.note([address])
    adding = cancellable.begin(lambda: cancellable.engine.add("a", "streamer", frontend=ANY_PORT, backend=address))
    Peers(connect, cancellable.add("other")).check()  # nobody else waits for the address
    assert not adding.done()
    if ends == "cancelled":
        adding.cancel()
        cancellable.do(lambda: None)
        assert list(cancellable.engine.brokers) == ["other"]
        taken.close()
        wait_until(lambda: "a" not in cancellable.engine.brokers)
        broker = cancellable.add("a", backend=address)
    else:
        taken.close()
        broker = adding.result(DEADLINE_S)
    Peers(connect, broker).check()


def test_cancelled_removal_goes_on(cancellable: Environment, connect: Connect) -> None:
    broker = held(cancellable, connect)
    removal = cancellable.begin(lambda: broker.remove(timeout_s=3600.0))
    wait_until(lambda: broker.state == BrokerState.REMOVING)
    removal.cancel()
    assert cancellable.do(broker.statistics).state == BrokerState.REMOVING
    assert connect(zmq.PULL, broker.backend.endpoint).recv() == b"held"
    wait_until(lambda: broker.state == BrokerState.REMOVED)
    assert cancellable.do(broker.remove).flows["frontend"].sent == 1
    cancellable.add("holding")  # the name is free


def test_cancelled_removal_ends_after_its_time(cancellable: Environment, connect: Connect) -> None:
    broker = held(cancellable, connect)
    removal = cancellable.begin(lambda: cancellable.engine.remove(broker, timeout_s=0.05))
    wait_until(lambda: broker.state == BrokerState.REMOVING or removal.done())
    removal.cancel()
    wait_until(lambda: broker.state == BrokerState.REMOVED)
    assert cancellable.do(broker.statistics).flows["frontend"].held == 1


def test_cancelled_drain_changes_nothing(
    cancellable: Environment, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    broker = held(cancellable, connect)
    drains = [cancellable.begin(lambda: cancellable.engine.drain(DEADLINE_S)) for _ in range(2)]
    cancellable.do(lambda: None)
    drains[0].cancel()
    pull = connect(zmq.PULL, broker.backend.endpoint)
    assert pull.recv() == b"held"
    assert drains[1].result(DEADLINE_S) == ()  # both would have ended in this turn
    assert cancellable.do(broker.drain) is True
    assert broker.state == BrokerState.RUNNING
    assert caplog.text == ""


def test_cancelled_wait_for_a_removal_disturbs_no_other(
    cancellable: Environment, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    broker = held(cancellable, connect)

    waiting = [cancellable.begin(lambda: broker.removed) for _ in range(2)]
    cancellable.do(lambda: None)
    waiting[0].cancel()
    cancellable.do(lambda: None)
    assert flow_of(cancellable.sync, "holding").state == "stalled"
    final = cancellable.do(lambda: broker.remove(timeout_s=0))
    assert waiting[1].result(DEADLINE_S) == final
    assert caplog.text == ""


def test_cancelled_wait_for_the_stop_disturbs_no_other(cancellable: Environment) -> None:
    waiting = [cancellable.begin(lambda: cancellable.engine.wait_stopped()) for _ in range(2)]
    cancellable.do(lambda: None)
    waiting[0].cancel()
    cancellable.do(lambda: None)
    assert not waiting[1].done()
    cancellable.engine.stop()
    waiting[1].result(DEADLINE_S)


def test_cancelled_close_closes_at_once(
    cancellable: Environment, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    broker = held(cancellable, connect)
    closing = [cancellable.begin(lambda: cancellable.engine.close(timeout_s=3600.0)) for _ in range(2)]
    wait_until(lambda: broker.state == BrokerState.REMOVING)
    closing[0].cancel()
    closing[1].result(DEADLINE_S)  # another that closes has less to wait for
    assert cancellable.engine.closed
    assert broker.state == BrokerState.REMOVED
    assert cancellable.engine.context.closed
    assert caplog.text.count("brokers.holding: closed with 1 messages undelivered") == 1
