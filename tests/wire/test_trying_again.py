"""When a port tries to connect again: after which waits, after which failures, and never after it is closed."""

import errno
import os
import select
import socket
import threading
import time

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Engine
from pollbroker.wire import connecting, native
from pollbroker.wire.connecting import Connection
from pollbroker.wire.streams import Listening
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.descriptors import descriptors, opened_since
from tests.support.types import Connect
from tests.support.wire_ports import ended_by
from tests.wire.tries import NOWHERE, Waits, lookups, options_with, serve
from tests.wire.zmtp import RawListener, command, greeting, ready


@pytest.mark.parametrize(
    ("options", "expected_ms"),
    [
        ({"reconnect_ivl": 100}, [100] * 6),
        ({"reconnect_ivl": 100, "reconnect_ivl_max": 1000}, [100, 200, 400, 800, 1000, 1000]),
        ({"reconnect_ivl": 100, "reconnect_ivl_max": 100}, [100] * 6),
        ({"reconnect_ivl": 100, "reconnect_ivl_max": 50}, [100] * 6),
        ({"reconnect_ivl": 0}, [10] * 6),
        ({"reconnect_ivl": 0, "reconnect_ivl_max": 40}, [10, 20, 40, 40, 40, 40]),
    ],
)
def test_waits_between_tries_grow_up_to_the_maximum(
    port: tuple[native.Net, native.Port], options: dict[str, int], expected_ms: list[int]
) -> None:
    net, pull = port
    waits = Waits()
    connection = Connection(pull, NOWHERE, options_with(**options), waits)
    for count in range(1, 1 + len(expected_ms)):
        wait_until(lambda n=count: serve(net) or len(waits.delays_s) == n)  # type: ignore[misc, func-returns-value]
        waits.come()
    for delay_s, ms in zip(waits.delays_s, expected_ms, strict=True):
        assert 1.0 <= delay_s * 1000 / ms <= 1.25
    connection.close()


def test_wait_is_short_again_after_a_connection(port: tuple[native.Net, native.Port]) -> None:
    net, pull = port
    waits = Waits()
    with RawListener() as listener:
        number = listener.port
    connection = Connection(
        pull, f"tcp://127.0.0.1:{number}", options_with(reconnect_ivl=100, reconnect_ivl_max=10_000), waits
    )
    for count in range(1, 5):
        wait_until(lambda n=count: serve(net) or len(waits.delays_s) == n)  # type: ignore[misc, func-returns-value]
        if count < 4:
            waits.come()
    assert waits.delays_s[-1] >= 0.8
    with RawListener(port=number) as listener:
        waits.come()
        with listener.accept() as peer:
            peer.send(greeting() + ready("PUSH"))
            wait_until(lambda: serve(net) or pull.peer_count == 1)  # type: ignore[func-returns-value]
        wait_until(lambda: serve(net) or len(waits.delays_s) == 5)  # type: ignore[func-returns-value]
    assert waits.delays_s[-1] <= 0.125
    connection.close()
    assert not waits.calls


REFUSALS = {
    "at once": b"",
    "not zmtp": b"HTTP/1.0 400 Bad Request\r\n\r\n" + bytes(64),
    "another mechanism": greeting(mechanism=b"CURVE"),
    "a type that does not fit": greeting() + ready("SUB"),
    "by ERROR": greeting() + command(b"ERROR", b"\x03not"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_waits_grow_while_a_peer_accepts_and_then_refuses(port: tuple[native.Net, native.Port], refusal: bytes) -> None:
    """Each wait is followed by one connection."""
    net, pull = port
    waits = Waits()
    with RawListener() as listener:
        options = options_with(reconnect_ivl=100, reconnect_ivl_max=1000)
        connection = Connection(pull, listener.address, options, waits)
        for count in range(1, 7):
            with listener.accept() as peer:
                peer.send(refusal)
            wait_until(lambda n=count: serve(net) or len(waits.delays_s) == n)  # type: ignore[misc, func-returns-value]
            assert not select.select([listener.socket], [], [], 0)[0]
            waits.come()
        for delay_s, ms in zip(waits.delays_s, [100, 200, 400, 800, 1000, 1000], strict=True):
            assert 1.0 <= delay_s * 1000 / ms <= 1.25
        connection.close()


def test_peer_that_refuses_is_asked_no_more_often_than_the_interval_says(engine: Engine) -> None:
    with RawListener() as listener:
        options = {"reconnect_ivl": 20, "reconnect_ivl_max": 40}
        broker = engine.add("a", STREAMER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options=options)
        began_s = time.monotonic()
        for _ in range(5):
            with listener.accept() as peer:
                peer.send(greeting() + ready("SUB"))
                peer.read_to_the_end()
        assert time.monotonic() - began_s >= 0.02 + 3 * 0.04  # a lower bound, which a busy machine does not break
        wait_until(lambda: ended_by(engine, broker) == {"socket_type": 5})


def test_connection_to_itself_is_none(port: tuple[native.Net, native.Port]) -> None:
    """TCP makes one if nobody listens at a port, and the connection's own end gets that very port."""
    net, pull = port
    ended: list[bool] = []
    before = descriptors()
    own = socket.socket()
    own.bind(("127.0.0.1", 0))
    address = own.getsockname()
    own.connect(address)
    assert own.getpeername() == address
    connector = native.Connector(pull, own.detach(), lambda: ended.append(True))
    wait_until(lambda: serve(net) or ended)  # type: ignore[func-returns-value]
    assert connector.error == errno.ECONNREFUSED
    assert pull.connections == 0
    assert not opened_since(before)
    with RawListener(port=address[1]):  # nothing is left of it in the kernel
        connector.close()


def test_client_is_not_answered_by_its_own_requests_while_no_worker_is_there(engine: Engine, connect: Connect) -> None:
    """The connection has a source, so that it is made to itself at each try."""
    with RawListener() as listener:
        worker = f"127.0.0.1:{listener.port}"
    options = {"reconnect_ivl": 1}
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=f">tcp://{worker};{worker}", backend_options=options)
    client = connect(zmq.REQ, endpoint(broker.frontend))
    client.send(b"request")
    assert not client.poll(100)
    assert broker.statistics().flows["frontend"].sent == 0


def test_no_try_follows_the_close(port: tuple[native.Net, native.Port]) -> None:
    net, pull = port
    waits = Waits()
    before = descriptors()
    connection = Connection(pull, NOWHERE, options_with(), waits)
    connection.close()
    serve(net)
    assert not waits.calls
    again = Connection(pull, NOWHERE, options_with(), waits)
    wait_until(lambda: serve(net) or waits.calls)  # type: ignore[func-returns-value]
    (call,) = waits.calls
    again.close()
    call()  # as if the timer had been due already
    serve(net)
    assert not waits.calls
    assert not opened_since(before)


def test_connection_that_cannot_be_watched_any_more_is_made_again(port: tuple[native.Net, native.Port]) -> None:
    _, pull = port
    waits = Waits()
    connection = Connection(pull, NOWHERE, options_with(), waits)
    connection.suspend()
    assert connection.connector is not None
    connection.connector.close()
    closed: list[bool] = []

    class Lost:
        def resume(self) -> None:
            raise OSError(errno.ENOMEM, "no memory")

        def close(self) -> None:
            closed.append(True)

    connection._connector = Lost()  # type: ignore[assignment]
    connection.resume()
    assert closed
    assert len(waits.delays_s) == 1
    waits.come()  # which makes another
    connection.close()


@pytest.mark.parametrize("address", ["tcp://localhost:1", NOWHERE], ids=["no more threads", "no such interface"])
def test_attempt_that_cannot_be_made_is_followed_by_another(
    port: tuple[native.Net, native.Port], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "away") if address == NOWHERE else RuntimeError("no more threads")

    net, pull = port
    waits = Waits()
    connection = Connection(pull, NOWHERE, options_with(reconnect_ivl=100), waits)
    connection.address = address
    wait_until(lambda: serve(net) or waits.calls)  # type: ignore[func-returns-value]
    with monkeypatch.context() as failing:
        failing.setattr(threading.Thread, "start", fail)
        failing.setattr(connecting, "parse_connected", fail)
        waits.come()
    _, delay_s = waits.delays_s
    assert 0.1 <= delay_s <= 0.125
    waits.come()
    wait_until(lambda: connection.connector or waits.calls)
    connection.close()
    wait_until(lambda: not lookups())


def test_listener_that_cannot_be_copied_leaves_no_descriptor(port: tuple[native.Net, native.Port]) -> None:
    _, pull = port
    before = descriptors()
    reader, writer = os.pipe()
    with pytest.raises(OSError, match=r"not a socket|non-socket"):
        Listening(pull, "tcp://127.0.0.1:1", options_with(use_fd=reader, backlog=1))
    for one in (reader, writer):
        os.close(one)
    assert not opened_since(before)
