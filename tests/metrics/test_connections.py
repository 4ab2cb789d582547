"""Peers of the HTTP server that send garbage, or are slow, keep nobody else from being answered for long."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pollbroker import Engine
from pollbroker.http_settings import parse_address
from pollbroker.metrics import MetricsServer, connections, serve_metrics
from pollbroker.metrics import server as metrics_server
from pollbroker.metrics.connections import (
    CONNECTIONS_MOST,
    FEW_CONNECTIONS,
    REQUEST_S,
    BoundedRequest,
    BoundedServer,
)
from pollbroker.metrics.snapshot import statistics_of
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.descriptors import descriptors
from tests.support.http import ask
from tests.support.threads import Threads

SHORT_S = 0.3


@pytest.fixture
def running_engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture
def server(running_engine: Engine) -> Iterator[MetricsServer]:
    with serve_metrics(running_engine, "127.0.0.1:0") as server:
        yield server


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", SHORT_S)


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(parse_address(server.address), DEADLINE_S)


def is_answered(server: MetricsServer) -> bool:
    with suppress(OSError, HTTPException):  # it was one too many
        return ask(server.address, "/livez") == (200, "ok\n")
    return False


def has_ended(one: socket.socket, send: bytes = b"") -> bool:
    """Send something, and return True if the server has closed the connection."""
    try:
        if send:
            one.sendall(send)
        one.settimeout(0.05)
        return not one.recv(1 << 16)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.usefixtures("short_deadline")
@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nA: "])
def test_peer_that_sends_a_byte_now_and_then_is_cut_off(server: MetricsServer, begun: bytes) -> None:
    """A byte comes before each time limit of the socket is over."""
    with connect(server) as slow:
        slow.sendall(begun)
        wait_until(lambda: has_ended(slow, b"x"))
    assert is_answered(server)


@pytest.mark.usefixtures("short_deadline")
def test_peer_that_takes_nothing_is_cut_off(server: MetricsServer) -> None:
    with connect(server) as deaf:
        deaf.settimeout(0.05)
        with suppress(OSError):  # neither it nor the server takes any more, or it is cut off already
            while True:
                deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 100)

        def is_cut_off() -> bool:
            try:
                deaf.send(b"G")
            except TimeoutError:
                return False
            except OSError:
                return True
            return False

        wait_until(is_cut_off)
    assert is_answered(server)


@pytest.mark.parametrize("path", ["/metrics", "/statz"])
def test_all_statistics_are_made_into_text_by_one_request_at_a_time(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The engine's thread would have to wait for all that do it at a time."""
    inside = most = 0

    def slowly(make: Callable[..., Any]) -> Callable[..., Any]:
        def made_slowly(*arguments: Any) -> Any:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.02)
            inside -= 1
            return make(*arguments)

        return made_slowly

    monkeypatch.setattr(server.collector, "collect_in_batches", slowly(server.collector.collect_in_batches))
    monkeypatch.setattr(metrics_server, "statistics_of", slowly(statistics_of))
    with Threads() as threads:
        answers = [threads.submit(ask, server.address, path) for _ in range(8)]
    assert [answer.result()[0] for answer in answers] == [200] * 8
    assert most == 1


class Answering(BoundedRequest):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Looking(BoundedServer):
    """Has looked for late requests so many times."""

    looks = 0

    def service_actions(self) -> None:
        super().service_actions()
        self.looks += 1


def test_each_request_of_a_connection_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOKS_EVERY_S", 0.01)
    now_s = 0.0
    with Looking(("127.0.0.1", 0), Answering, clock=lambda: now_s) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            address = server.socket.getsockname()
            with socket.create_connection(address, DEADLINE_S) as peer, peer.makefile("rb") as answers:
                for _ in range(3):
                    peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
                    while answers.readline() != b"\r\n":
                        pass
                    now_s += REQUEST_S - 1
                    before = server.looks
                    wait_until(lambda: server.looks > before + 1)  # noqa: B023 - it is called here
                now_s += REQUEST_S
                assert answers.read() == b""
        finally:
            server.end()
            thread.join()


def test_server_need_not_look_for_late_requests_to_see_that_it_is_to_end(
    running_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LOOKS_EVERY_S", 1000.0)
    with serve_metrics(running_engine, "127.0.0.1:0") as server:
        assert is_answered(server)


def test_many_can_wait_to_be_accepted() -> None:
    """The kernel answers none that is one too many, which tries again after a second."""
    with BoundedServer(("127.0.0.1", 0), Answering) as server, ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(socket.create_connection(server.socket.getsockname(), DEADLINE_S))


@pytest.mark.usefixtures("short_deadline")
def test_slow_peers_have_no_place_for_ever(server: MetricsServer) -> None:
    """They take every place, and go on sending a byte now and then."""
    with ExitStack() as opened:
        slow = [opened.enter_context(connect(server)) for _ in range(CONNECTIONS_MOST)]
        for one in slow:
            one.sendall(b"GET /")
        over = threading.Event()

        def send_on() -> None:
            while not over.wait(SHORT_S / 10):
                for one in slow:
                    with suppress(OSError):  # it was cut off
                        one.send(b"x")

        thread = threading.Thread(target=send_on)
        thread.start()
        try:
            wait_until(lambda: is_answered(server))
        finally:
            over.set()
            thread.join()


def test_connections_for_which_no_thread_can_be_started_take_no_place(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(CONNECTIONS_MOST + 1):
            with connect(server) as refused:
                assert refused.recv(1) == b""
    assert is_answered(server)


def kept() -> int:
    """How many descriptors of this process are kept for others."""
    null = Path(os.devnull).stat()
    return sum((device, inode) == (null.st_dev, null.st_ino) for _, device, inode in descriptors())


def test_connections_take_the_place_of_kept_descriptors_while_few_are_left(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept()
    monkeypatch.setattr(connections, "are_descriptors_few", lambda: True)
    for _ in range(3 * FEW_CONNECTIONS):
        assert is_answered(server)
        wait_until(lambda: kept() == before)
    with ExitStack() as opened:
        for _ in range(2 * FEW_CONNECTIONS):
            opened.enter_context(connect(server)).sendall(b"GET /")
        wait_until(lambda: kept() == before - FEW_CONNECTIONS)
    wait_until(lambda: kept() == before)
    assert is_answered(server)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("header", [b"Content-Length: 31", b"Transfer-Encoding: chunked"])
def test_body_of_a_request_is_not_taken_for_another_request(
    server: MetricsServer, method: bytes, header: bytes
) -> None:
    with connect(server) as peer, peer.makefile("rb") as answers:
        peer.sendall(method + b" /livez HTTP/1.1\r\n" + header + b"\r\n\r\n")
        status, *headers = iter(answers.readline, b"\r\n")
        assert status == b"HTTP/1.1 200 OK\r\n"
        assert b"Connection: close\r\n" in headers
        assert answers.read() == (b"ok\n" if method == b"GET" else b"")


def lines(*parts: str) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(parts), max_size=12).map(lambda some: "".join(some).encode())


_GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.tuples(
        st.sampled_from([b"GET ", b"POST ", b"HEAD ", b"GET", b"", b"\xff "]),
        st.sampled_from([b"/", b"/metrics", b"*", b"http://[", b"/%", b"/LONG"]),
        st.sampled_from([b" HTTP/1.1\r\n", b" HTTP/9.9\r\n", b" HTTP/\r\n", b"\r\n", b"\n", b" HTTP/1.1"]),
        lines("A: b\r\n", ": \r\n", "LONG\r\n", "Accept: ;q=\r\n", "Content-Length: -1\r\n", "\r\n", "\0",
              "Expect: 100-continue\r\n", "Transfer-Encoding: chunked\r\n", "Connection: x\r\n", "MANY"),
    ).map(b"".join),
)  # fmt: skip

LONG = {b"LONG": b"x" * 70_000, b"MANY": b"A: b\r\n" * 150}
"""What words of the garbage stand for, so that examples can be printed."""


# Whatever a peer sends, and whether it then waits or leaves, others are answered.
@given(garbage=_GARBAGE, waits=st.booleans())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_survived(server: MetricsServer, garbage: bytes, waits: bool) -> None:
    for word, meant in LONG.items():
        garbage = garbage.replace(word, meant)
    with connect(server) as stranger, suppress(OSError):  # it is cut off while it sends
        stranger.sendall(garbage)
        stranger.shutdown(socket.SHUT_WR)
        while waits and stranger.recv(1 << 16):
            pass
    wait_until(lambda: is_answered(server))


def test_more_reasons_not_to_be_ready_are_told(running_engine: Engine) -> None:
    with serve_metrics(running_engine, "127.0.0.1:0", more_reasons=lambda: ["no descriptor is left"]) as server:
        assert ask(server.address, "/readyz") == (503, "no descriptor is left\n")
