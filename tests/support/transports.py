"""What differs between ports of libzmq and of the wire, for tests that run over both."""

from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Device, Engine, transports
from pollbroker.port import WorkingPort
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.deadline import wait_until
from tests.support.streamers import streamer_with
from tests.support.types import Connect

needs_a_context = pytest.mark.libzmq("it looks into sockets of libzmq, or expects that they hold messages")


def over_the_wire() -> bool:
    """Return True if the wire serves the ports of tests that do not say what should."""
    return transports.AUTO_PREFERS == transports.WIRE


def holding_streamer() -> Device:
    """A streamer that takes a message and holds it while there is no consumer. A flow between wire ports leaves the
    message at its source, unless it has a handler."""
    return streamer_with(lambda frames: frames) if over_the_wire() else STREAMER


def holding(engine: Engine, connect: Connect, name: str = "a") -> str:
    """Add a streamer that holds a message, for want of consumers; where they may connect."""
    broker = engine.add(name, holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"held")
    wait_until(lambda: flow_of(engine, name).held and flow_of(engine, name).state == "stalled", engine=engine)
    return broker.backend.endpoint


def can_receive(port: WorkingPort) -> bool:
    """Return True if there is a message that the port's socket can receive."""
    events: Any = port.socket.getsockopt(zmq.EVENTS)
    return bool(events & zmq.POLLIN)


holds_without_a_consumer = pytest.mark.libzmq(
    "the wire reads no message for which a STREAMER has no consumer, so that none is held or lost"
)
