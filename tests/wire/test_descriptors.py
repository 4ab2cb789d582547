"""What happens at a wire port when the process has no descriptor left for another connection."""

import os
import socket
import threading

from pollbroker import STREAMER, Engine
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.descriptors import no_descriptor_left
from tests.support.wire_ports import peer_count
from tests.wire.zmtp import RawPeer, connect_raw


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


def test_peers_are_told_while_no_descriptor_is_left(engine: Engine) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend="ipc://*")
    with connect_raw(endpoint(broker.frontend)) as tcp, connect_raw(endpoint(broker.backend)) as ipc:
        tcp.shake_hands("PUSH")
        ipc.shake_hands("PULL")
        wait_until(lambda: all(peer_count(engine, broker, name) == 1 for name in broker.ports))
        with no_descriptor_left():
            told = sorted(peer.address for peer in broker.peers())
        assert told[0] == f"ipc, process {os.getpid()}"
        assert told[1].startswith("tcp://127.0.0.1:")
