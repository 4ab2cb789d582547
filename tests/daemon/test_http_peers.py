"""Peers of a daemon's HTTP server that send garbage, or hold their connections, disturb neither brokers nor others."""

import socket
from contextlib import ExitStack, suppress

import pytest
import zmq

from tests.daemon.conftest import StartDaemon, Write
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.http import ask, get
from tests.support.types import Connect

SLOW = 40
"""Fewer than the server serves at a time."""

MORE_THAN_PLACES = 60

BEGINNINGS = (b"", b"G", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\nAccept: ", b"\xff" * 100)
"""What a peer sends that then says nothing."""


def test_brokers_and_other_clients_go_on(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(
        write(
            f"[engine]\nhttp = '127.0.0.1:0'\n"
            f"[brokers.a]\ndevice = 'streamer'\nfrontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'\n"
        )
    )
    http = daemon.servers.http_address
    assert http is not None
    ports = daemon.engine.brokers["a"].ports
    pusher, puller = connect(zmq.PUSH, ports["frontend"].endpoint), connect(zmq.PULL, ports["backend"].endpoint)
    host, _, port = http.rpartition(":")
    with ExitStack() as opened:

        def add_slow(number: int) -> None:
            one = opened.enter_context(socket.create_connection((host, int(port)), DEADLINE_S))
            with suppress(ConnectionError):  # it is one too many
                one.sendall(BEGINNINGS[number % len(BEGINNINGS)])

        for number in range(SLOW):
            add_slow(number)
        for number in range(200):
            pusher.send(b"%d" % number)
            assert puller.recv() == b"%d" % number
            if number % 50 == 0:
                assert 'broker="a"' in get(http, "/metrics")
                assert get(http, "/readyz") == "ok\n"
        for number in range(SLOW, MORE_THAN_PLACES):
            add_slow(number)
        for number in range(200):
            pusher.send(b"%d" % number)
            assert puller.recv() == b"%d" % number

    def is_answered() -> bool:
        with suppress(OSError):  # the places of those that have left are not free yet
            return ask(http, "/livez") == (200, "ok\n")
        return False

    wait_until(is_answered)


@pytest.mark.parametrize(("host", "is_told"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_address_of_http_that_other_machines_can_reach_is_told(
    write: Write, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture, host: str, is_told: bool
) -> None:
    with caplog.at_level("INFO"):
        start_daemon(write(f"[engine]\nhttp = '{host}:0'\n"))
    assert (f"http: {host}:0: other machines can reach this address" in caplog.text) is is_told
