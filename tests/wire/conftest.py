"""Engines whose ports are the wire's, and which must have left nothing of it behind at the end of each test."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, BrokerState, Engine, transports
from pollbroker.pump import Implementation, choose_implementation
from pollbroker.wire import native
from pollbroker.wire.served import why_not_built
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.threads import in_thread
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import alive
from tests.wire.desk import Desk
from tests.wire.logging_in import Authenticator
from tests.wire.moving import Leave, MakeRelay, Relay, ReplacedRelay, Side, hand_over_and_close
from tests.wire.zmtp import RawPeer, connect_raw


@pytest.fixture(autouse=True)
def preferred_transport(monkeypatch: pytest.MonkeyPatch) -> str:
    """Here every port is the wire's that can be, unless a test says otherwise."""
    assert why_not_built() is None
    monkeypatch.setattr(transports, "AUTO_PREFERS", transports.WIRE)
    return transports.WIRE


@pytest.fixture
def implementation() -> Implementation:
    """The native pump. What moves messages between ports of the wire is the wire's own."""
    return choose_implementation("native")


@pytest.fixture
def waiter() -> str:
    """The nested waiter. For both it is the same: one descriptor is watched for all ports."""
    return "nested"


@pytest.fixture(autouse=True)
def make_engine(implementation: Implementation, waiter: str) -> Iterator[MakeEngine]:
    """Makes engines. At the end of the test their brokers are removed; nothing of the wire may be in use then."""
    engines: list[Engine] = []

    def make(*args: Any, **kwargs: Any) -> Engine:
        engine = Engine(*args, **({"pump": implementation.name, "waiter": waiter} | kwargs))
        engines.append(engine)
        return engine

    yield make
    left = []
    for engine in engines:
        if not engine.closed:
            for broker in engine.brokers.values():
                broker.remove(timeout_s=0)
            left.append(alive(engine))
        engine.close(timeout_s=0)
    assert left == [(0, 0, 0, 0)] * len(left), "slabs, segments, ports or peers are left"


@pytest.fixture
def raw(make_engine: MakeEngine) -> Iterator[Callable[[str], RawPeer]]:
    """Connects raw peers: `raw(address)`. They are closed at the end of the test, before the engine."""
    with ExitStack() as stack:
        yield lambda address: stack.enter_context(connect_raw(address))


@pytest.fixture
def desk(engine: Engine, connect: Connect) -> Desk:
    return Desk(engine, connect)


@pytest.fixture
def port() -> Iterator[tuple[native.Net, native.Port]]:
    """A PULL of the wire that no engine runs."""
    net = native.Net()
    port = native.Port(net, zmq.PULL)
    yield net, port
    port.close()
    assert net.alive == (0, 0, 0, 0)
    net.close()


@pytest.fixture
def authenticator(engine: Engine) -> Iterator[Authenticator]:
    """The one that the ports of the engine ask."""
    made = Authenticator(engine.context)
    yield made
    made.close()


@pytest.fixture(params=[Relay, ReplacedRelay], ids=["to_another_engine", "in_one_engine"])
def make_relay(request: pytest.FixtureRequest, make_engine: MakeEngine) -> MakeRelay:
    """Makes a broker that moves, in each of the two ways."""
    return partial(request.param, make_engine)


@pytest.fixture
def new(make_engine: MakeEngine) -> Engine:
    """Another engine, which takes brokers over."""
    engine = make_engine()
    engine.start()
    return engine


@pytest.fixture
def relayed(engine: Engine, connect: Connect) -> Iterator[Callable[[], None]]:
    """A streamer `a` in the engine, and a function that checks that it does what it should, and has lost nothing. That
    is checked at the end of each test, too."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    count = 0

    def check() -> None:
        nonlocal count
        for _ in range(3):
            push.send(b"%d" % count)
            assert pull.recv() == b"%d" % count
            count += 1
        assert flow_of(engine, "a").sent == count

    check()
    yield check
    check()
    assert engine.brokers["a"].state is BrokerState.RUNNING


@pytest.fixture
def leave(engine: Engine, relayed: object) -> Iterator[Leave]:
    """Begins to hand `a` over to a side that the test plays."""
    sides: list[Side] = []

    def begin(**options: Any) -> tuple[Side, "Future[Any]"]:
        ours, theirs = socket.socketpair()
        with ours:
            kept = ours.dup()
        side = Side(theirs)
        sides.append(side)
        future = in_thread(lambda: hand_over_and_close(engine, kept, options))
        return side, future

    yield begin
    for side in sides:
        side.close()
