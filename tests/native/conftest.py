"""Each twin on sockets that fail when a test says so."""

from collections.abc import Iterator

import pytest

from tests.native.faults import Twin


@pytest.fixture(params=["native", "python"])
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    """Both, one after the other."""
    twin = Twin(request.param)
    yield twin
    check(twin)


@pytest.fixture
def native() -> Iterator[Twin]:
    """The native one, for what pyzmq does for the Python one: EINTR, sizes, the frames that are alive."""
    twin = Twin("native")
    yield twin
    check(twin)


def check(twin: Twin) -> None:
    """What holds at the end of every test."""
    assert twin.faults.all_met, "a fault was planned and did not happen: the test has shown nothing"
    assert twin.faults.waiting == [], "nothing may ever wait"
