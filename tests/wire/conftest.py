"""Engines whose ports are the wire's, and which must have left nothing of it behind at the end of each test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from pollbroker import Engine, transports
from pollbroker.pump import Implementation, choose_implementation
from pollbroker.wire import native
from pollbroker.wire.served import why_not_built
from tests.support.types import MakeEngine
from tests.support.wire_ports import alive
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
def port() -> Iterator[tuple[native.Net, native.Port]]:
    """A PULL of the wire that no engine runs."""
    net = native.Net()
    port = native.Port(net, zmq.PULL)
    yield net, port
    port.close()
    assert net.alive == (0, 0, 0, 0)
    net.close()
