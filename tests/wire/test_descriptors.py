"""What happens at a wire port when the process has no descriptor left for another connection."""

import socket
import threading

from pollbroker import STREAMER, Engine
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.descriptors import no_descriptor_left
from tests.support.wire_ports import peer_count
from tests.wire.zmtp import RawPeer


def test_connection_waits_and_costs_nothing_while_no_descriptor_is_left(engine: Engine) -> None:
    """The listener stays readable, and would wake the engine again and again."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    host, _, port = endpoint(broker.frontend).removeprefix("tcp://").partition(":")
    with socket.socket() as connecting:
        with no_descriptor_left():
            connecting.connect((host, int(port)))  # the kernel accepts it, and the engine cannot
            before = engine.statistics().turns
            threading.Event().wait(0.05)
            assert engine.statistics().turns - before < 20
            assert peer_count(engine, broker) == 0
        RawPeer(connecting).shake_hands("PUSH")
        wait_until(lambda: peer_count(engine, broker) == 1)
