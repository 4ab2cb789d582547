"""What an engine says of itself: statistics, attributes and `repr`."""

import pickle
from dataclasses import FrozenInstanceError, asdict, fields
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, FlowStatistics
from pollbroker.statistics import Counters
from tests.support.addresses import ANY_PORT
from tests.support.deadline import wait_until
from tests.support.transports import over_the_wire
from tests.support.types import MakeEngine, Socket


def test_engine_says_what_it_is(make_engine: MakeEngine) -> None:
    engine = make_engine()
    statistics = engine.statistics()
    parts = f"{statistics.pump} pump, {statistics.waiter} waiter"
    assert repr(engine) == f"<Engine not running, 0 brokers, {parts}>"
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.start()
    wait_until(lambda: repr(engine) == f"<Engine running, 1 broker, {parts}>")
    engine.close()
    assert repr(engine) == f"<Engine closed, 0 brokers, {parts}>"


def test_statistics_are_frozen_and_can_be_passed_on(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    statistics = engine.statistics()
    mappings: list[Any] = [statistics.brokers, statistics.brokers["a"].flows]
    for mapping in mappings:
        with pytest.raises(TypeError, match="cannot be changed"):
            mapping.clear()
    assert pickle.loads(pickle.dumps(statistics)) == statistics
    assert asdict(statistics)["brokers"]["a"]["flows"]["frontend"]["received"] == 0


@pytest.mark.parametrize("pump", ["native", "python"])
def test_statistics_tell_how_the_engine_works(make_engine: MakeEngine, waiter: str, pump: str) -> None:
    engine = make_engine(pump=pump)
    statistics = engine.statistics()
    assert (statistics.pump, statistics.waiter, statistics.turns, statistics.brokers) == (pump, waiter, 0, {})
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    for turns in (1, 2):
        engine.step()
        assert engine.statistics().turns == turns
    assert engine.statistics().brokers == {"a": engine.broker_statistics("a")}


def test_statistics_tell_what_serves_a_port(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for transport in ("libzmq", "wire"):
        engine.add(transport, STREAMER, frontend=ANY_PORT, backend=ANY_PORT, capture=ANY_PORT, transport=transport)
    engine.add("auto", STREAMER, frontend="inproc://in", backend=ANY_PORT)
    told = {
        name: [port.transport for port in broker.ports.values()] for name, broker in engine.statistics().brokers.items()
    }
    assert told == {
        "libzmq": ["libzmq"] * 3,
        "wire": ["wire"] * 3,
        "auto": ["libzmq", "wire" if over_the_wire() else "libzmq"],
    }


def test_brokers_and_ports_show_what_they_are(make_engine: MakeEngine, context: zmq.Context[Socket]) -> None:
    engine = make_engine(context)
    broker = engine.add("a", STREAMER, frontend="inproc://in", backend=["inproc://out", "inproc://too"])
    assert repr(broker) == "<Broker a streamer running>"
    assert repr(broker.backend) == "<Port backend PUSH inproc://out inproc://too>"
    lent = engine.register(context.socket(zmq.PULL), context.socket(zmq.PUSH), STREAMER)
    assert (repr(lent), repr(lent.frontend)) == (
        "<Broker streamer-1 streamer running>",
        "<Port frontend PULL registered>",
    )


def test_statistics_are_as_their_classes_would_make_them(make_engine: MakeEngine) -> None:
    """They are made without the constructors of these classes, which must not show."""
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    flow = engine.statistics().brokers["a"].flows["frontend"]
    total = flow + Counters(received=2, capture_dropped=3)
    again = FlowStatistics(**vars(flow)), Counters(**vars(total))
    assert (flow, total) == again
    assert [list(vars(one)) for one in (flow, total)] == [[field.name for field in fields(one)] for one in again]
    assert [hash(one) for one in (flow, total)] == [hash(one) for one in again]
    assert (total.received, total.capture_dropped) == (2, 3)
    with pytest.raises(FrozenInstanceError):
        flow.received = 1  # type: ignore[misc]
