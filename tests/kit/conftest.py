"""A simulated network, for the tests of the simulation."""

from collections.abc import Iterator

import pytest

from pollbroker.testing.simulation import SimContext, SimNetwork, SimSocket
from tests.support.simulation import Pair


@pytest.fixture
def network() -> Iterator[SimNetwork]:
    with SimNetwork() as network:
        yield network


@pytest.fixture
def world(network: SimNetwork) -> SimContext:
    return network.context()


@pytest.fixture
def pair(world: SimContext) -> Pair:
    """Two sockets of these types, the second bound; options are set on both."""

    def make(connects: int, binds: int, **options: int | bytes) -> tuple[SimSocket, SimSocket]:
        near, far = world.socket(connects), world.socket(binds)
        for socket in (near, far):
            for name, value in options.items():
                setattr(socket, name, value)
        far.bind(f"inproc://{far.name}")
        near.connect(f"inproc://{far.name}")
        return near, far

    return make
