"""Titanic clients of both kinds, against a server that the test plays by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pollbroker import TITANIC, ConfigError, Engine
from pollbroker.patterns.majordomo import mdp
from pollbroker.rpc import RequestTimeout, RpcError, TitanicError, UnknownRequest
from tests.rpc.ends import Ends
from tests.rpc.played_broker import FAST
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.types import Socket

Broker = tuple[Socket, str]
UUID = "0123456789abcdef0123456789ABCDEF"


def asked(router: Socket, *reply: bytes) -> tuple[bytes, list[bytes]]:
    """What was asked of the server, which then answers this."""
    client, *frames = router.recv_multipart()
    request = mdp.parse_client_request(frames)
    assert request is not None
    router.send_multipart([client, *mdp.client_reply(request.service, reply, request.version)])
    return request.service, request.body


@contextmanager
def doing(call: Callable[[], Any], expected: Any) -> Iterator[None]:
    """A call that ends with this."""
    result = in_thread(call)
    yield
    assert result.result(DEADLINE_S) == expected


@pytest.mark.parametrize("version", [1, 2])
def test_request_is_stored_fetched_and_forgotten(ends: Ends, broker: Broker, version: mdp.Version) -> None:
    router, address = broker
    client = ends.TitanicClient(address, version=version)
    with doing(lambda: client.submit("echo", b"1", b"2"), UUID):
        assert asked(router, b"200", UUID.encode()) == (b"titanic.request", [b"echo", b"1", b"2"])
    with doing(lambda: client.fetch(UUID), None):
        assert asked(router, b"300 Pending") == (b"titanic.reply", [UUID.encode()])
    with doing(lambda: client.fetch(UUID), [b"3", b"4"]):
        assert asked(router, b"200 OK", b"3", b"4") == (b"titanic.reply", [UUID.encode()])
    with doing(lambda: client.close_request(UUID), None):
        assert asked(router, b"200") == (b"titanic.close", [UUID.encode()])


def test_call_waits_for_the_reply(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.TitanicClient(address)
    with doing(lambda: client.call("echo", b"1", every_s=0.01), [b"2"]):
        asked(router, b"200", UUID.encode())
        for _ in range(3):
            assert asked(router, b"300")[0] == b"titanic.reply"
        asked(router, b"200", b"2")
        assert asked(router, b"200") == (b"titanic.close", [UUID.encode()])


def test_call_outlives_a_server_that_is_gone_for_a_while(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.TitanicClient(address, timeout_s=1.0, retries=0)
    with doing(lambda: client.call("echo", b"1", every_s=0.01), [b"2"]):
        asked(router, b"200", UUID.encode())
        router.recv_multipart()  # and nobody answers
        asked(router, b"200", b"2")
        router.recv_multipart()  # nor is it said that it was closed: the reply is there all the same


@pytest.mark.parametrize("status", [b"300", b"500"])
def test_call_gives_up_and_says_how_to_go_on(ends: Ends, broker: Broker, status: bytes) -> None:
    router, address = broker
    client = ends.TitanicClient(address)
    result = in_thread(lambda: client.call("echo", b"1", timeout_s=0.05, every_s=0.01))
    asked(router, b"200", UUID.encode())
    while not result.done():
        if router.poll(1):
            asked(router, status)
    with pytest.raises(
        RequestTimeout, match=rf"^titanic client: {address}: no reply to the request {UUID} in 0.05 s; it can still be"
    ):
        result.result()


def test_call_asks_again_when_the_server_could_not_look_for_the_reply(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.TitanicClient(address)
    with doing(lambda: client.call("echo", b"1", every_s=0.01), [b"2"]):
        asked(router, b"200", UUID.encode())
        for _ in range(2):
            assert asked(router, b"500")[0] == b"titanic.reply"
        asked(router, b"200", b"2")
        asked(router, b"200")


@pytest.mark.parametrize("status", [b"500", b"400", b"what"])
def test_call_returns_the_reply_though_the_server_could_not_forget_it(
    ends: Ends, broker: Broker, status: bytes
) -> None:
    router, address = broker
    client = ends.TitanicClient(address)
    with doing(lambda: client.call("echo", b"1", every_s=0.01), [b"2"]):
        asked(router, b"200", UUID.encode())
        asked(router, b"200", b"2")
        assert asked(router, status)[0] == b"titanic.close"


def test_error_that_ends_a_call_names_the_request(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.TitanicClient(address)
    result = in_thread(lambda: client.call("echo", b"1"))
    asked(router, b"200", UUID.encode())
    asked(router, b"what")
    with pytest.raises(TitanicError, match=rf"expected a status of RFC 9; the request {UUID} can still be fetched$"):
        result.result(DEADLINE_S)
    result = in_thread(lambda: client.call("echo", b"1", every_s=0.01))
    asked(router, b"200", UUID.encode())
    asker, *_ = router.recv_multipart()
    client.close()
    router.send_multipart([asker, *mdp.client_reply(b"titanic.reply", [b"300"])])
    with pytest.raises(RpcError, match=rf"the client was closed; .*; the request {UUID} can still be fetched$"):
        result.result(DEADLINE_S)
    client = ends.TitanicClient(address)
    result = in_thread(lambda: client.call("echo", b"1"))
    asked(router, b"200", UUID.encode())
    asked(router, b"400")
    with pytest.raises(UnknownRequest, match=rf"titanic\.reply: {UUID}: 400: expected a known UUID$"):
        result.result(DEADLINE_S)


@pytest.mark.parametrize(
    ("call", "reply", "error", "expected"),
    [
        ("fetch", [b"400 Unknown"], UnknownRequest, rf"titanic\.reply: {UUID}: 400 Unknown: expected a known UUID"),
        ("fetch", [b"500"], TitanicError, r"titanic\.reply: the server answered 500"),
        ("close_request", [b"400"], UnknownRequest, r"titanic\.close: .*400: expected a known UUID"),
        ("close_request", [b"300"], TitanicError, r"titanic\.close: the server answered 300"),
        ("submit", [b"500 disk full"], TitanicError, r"titanic\.request: the server answered 500 disk full"),
        ("submit", [b"400"], TitanicError, r"titanic\.request: the server answered 400"),
        ("submit", [b"200"], TitanicError, r"the server sent \[\]; expected a UUID"),
        ("submit", [b"200", b"short"], TitanicError, r"the server sent \[b'short'\]; expected a UUID"),
        (
            "submit",
            [b"200", b"x" * 10**6],
            TitanicError,
            r"sent \[b'x{60}'\]\.\.\. \(1 in all, with 1000000 bytes\); expected",
        ),
        ("fetch", [b"x" * 10**6], TitanicError, r"sent \[b'x{60}'\]\.\.\. \(1 in all, with 1000000 bytes\); expected"),
        ("fetch", [b"ok"], TitanicError, r"the server sent \[b'ok'\]; expected a status of RFC 9"),
    ],
)
def test_refusal_is_an_error(
    ends: Ends, broker: Broker, call: str, reply: list[bytes], error: type[Exception], expected: str
) -> None:
    router, address = broker
    client = ends.TitanicClient(address)
    arguments = ("echo", b"1") if call == "submit" else (UUID,)
    result = in_thread(lambda: getattr(client, call)(*arguments))
    asked(router, *reply)
    with pytest.raises(error, match=rf"^titanic client: {address}: .*{expected}"):
        result.result(DEADLINE_S)


def test_no_server(ends: Ends, broker: Broker) -> None:
    client = ends.TitanicClient(broker[1], timeout_s=0.01, retries=1)
    with pytest.raises(RequestTimeout, match=rf"^titanic client: {broker[1]}: service titanic\.request: no reply"):
        client.submit("echo", b"1")


def test_mistakes_are_refused(ends: Ends, broker: Broker) -> None:
    client = ends.TitanicClient(broker[1])
    with pytest.raises(RpcError, match="expected one or more frames of bytes"):
        client.submit("echo")
    with pytest.raises(RpcError, match="5: expected a string or bytes"):
        client.fetch(5)
    with pytest.raises(ConfigError, match="every_s is 0: expected"):
        client.call("echo", b"1", every_s=0)
    client.close()
    with pytest.raises(RpcError, match="the client was closed"):
        client.fetch(UUID)


@pytest.mark.parametrize("service", ["titanic.request", "titanic.reply", "titanic.close"])
def test_worker_for_a_name_of_the_brokers_own_is_warned(
    ends: Ends, running_engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, service: str
) -> None:
    device = TITANIC.with_settings(path=str(tmp_path / "titanic.db"))
    frontend = running_engine.add("a", device, frontend=ANY_PORT).frontend
    worker = ends.MajordomoWorker(frontend.endpoint, service, **FAST | {"heartbeat_s": 60.0})
    serving = in_thread(lambda: worker.serve(lambda frames: frames))
    wait_until(lambda: "the broker has answered READY with DISCONNECT; trying again in" in caplog.text)
    assert f"majordomo worker: service {service}: {frontend.endpoint}: the broker" in caplog.text
    worker.stop()
    serving.result(DEADLINE_S)
