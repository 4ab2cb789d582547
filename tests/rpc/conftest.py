"""Both kinds of ends, and brokers that a test plays by hand."""

from collections.abc import Iterator

import pytest
import zmq

import pollbroker.rpc
import pollbroker.rpc.asyncio
from pollbroker import Engine
from tests.rpc.ends import Ends
from tests.support.addresses import bind
from tests.support.types import Connect, Socket


@pytest.fixture(params=[pollbroker.rpc, pollbroker.rpc.asyncio], ids=["blocking", "asyncio"])
def ends(request: pytest.FixtureRequest, connect: Connect) -> Iterator[Ends]:
    """The clients and workers that block, and those of asyncio, in turn. They are closed before the test's sockets."""
    ends = Ends(request.param)
    yield ends
    ends.close()


@pytest.fixture
def broker(connect: Connect) -> tuple[Socket, str]:
    """A ROUTER that the test plays the broker with, and its address."""
    router = connect(zmq.ROUTER)
    return router, bind(router)


@pytest.fixture
def running_engine() -> Iterator[Engine]:
    """An engine in a thread. Which pump and which waiter it has is no matter to the peers of its brokers."""
    with Engine() as engine:
        yield engine
        engine.close(timeout_s=0)
