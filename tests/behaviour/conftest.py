"""What the tests of behaviours share."""

import pytest
import zmq

from pollbroker import Engine
from tests.support.types import MakeEngine, Socket


@pytest.fixture
def stepped(make_engine: MakeEngine, context: zmq.Context[Socket]) -> Engine:
    """An engine in the context of the test's sockets, which the test steps."""
    return make_engine(context)
