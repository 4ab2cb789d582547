"""The environments as fixtures: every case runs in each of them."""

from collections.abc import Iterator

import pytest

from tests.embedding.all_environments import ALL_ENVIRONMENTS
from tests.embedding.environments import Environment


@pytest.fixture(params=ALL_ENVIRONMENTS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> type[Environment]:
    """Each environment in turn: its class."""
    kind: type[Environment] = request.param
    return kind


@pytest.fixture
def environment(kind: type[Environment]) -> Iterator[Environment]:
    """Each environment in turn, at work."""
    with kind() as environment:
        yield environment


@pytest.fixture(params=[kind for kind in ALL_ENVIRONMENTS if kind.cancellable], ids=lambda kind: kind.name)
def cancellable(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """Each environment in which what waits can be cancelled, at work."""
    with request.param() as environment:
        yield environment
