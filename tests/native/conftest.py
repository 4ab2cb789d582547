"""Each implementation on sockets that fail when a test says so."""

from collections.abc import Iterator

import pytest

from tests.native.faults import Implementation


@pytest.fixture(params=["native", "python"])
def twin(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Both, one after the other."""
    implementation = Implementation(request.param)
    yield implementation
    check(implementation)


@pytest.fixture
def native() -> Iterator[Implementation]:
    """The native one, for what pyzmq does for the Python one: EINTR, sizes, the frames that are alive."""
    implementation = Implementation("native")
    yield implementation
    check(implementation)


def check(implementation: Implementation) -> None:
    """What holds at the end of every test."""
    assert implementation.faults.all_met, "a fault was planned and did not happen: the test has shown nothing"
    assert implementation.faults.waiting == [], "nothing may ever wait"
