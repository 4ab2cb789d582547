"""What the tests of control share."""

import pytest

from pollbroker import Engine
from tests.support.types import MakeEngine


@pytest.fixture
def idle(make_engine: MakeEngine) -> Engine:
    """An engine that nobody runs."""
    return make_engine()
