"""Fixtures for the tests of the pumps."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker.pump import Pump
from tests.support.pumps import MAKERS, Line
from tests.support.types import Socket


@pytest.fixture(params=MAKERS)
def make_pump(request: pytest.FixtureRequest) -> Callable[..., Pump]:
    """Each pump; the one of a handler route keeps the same contract."""
    return MAKERS[request.param]


@pytest.fixture
def line_with(context: zmq.Context[Socket]) -> Iterator[Callable[..., Line]]:
    """Makes lines with the pump that a test asks for. They are closed at the end of the test."""
    made = []

    def make(make_pump: Callable[..., Pump], **options: Any) -> Line:
        line = Line(context, make_pump, **options)
        made.append(line)
        return line

    yield make
    for line in made:
        line.close()


@pytest.fixture
def lines(line_with: Callable[..., Line], make_pump: Callable[..., Pump]) -> Callable[..., Line]:
    """Makes lines with each pump."""
    return partial(line_with, make_pump)
