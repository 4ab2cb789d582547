"""Steering over HTTP: only whoever has the token can, and only from where it is meant."""

import http.client
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, ConfigError, Engine
from pollbroker.metrics import MetricsServer, check_token, serve_metrics, steering
from pollbroker.metrics.steering import BODY_MOST
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.transports import holding_streamer
from tests.support.types import Connect

TOKEN = "a-token-of-a-test"
JSON = {"Content-Type": "application/json"}
RIGHT = JSON | {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One is enough: the pump and the waiter make no difference here."""
    with Engine() as running:
        yield running


@pytest.fixture
def server(engine: Engine) -> Iterator[MetricsServer]:
    engine.add("jobs", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with serve_metrics(engine, "127.0.0.1:0", token=TOKEN) as serving:
        yield serving


def post(server: MetricsServer, body: object, headers: dict[str, str] = RIGHT, path: str = "/steer") -> tuple[int, str]:
    """The status and the text. A body that is not bytes is sent as JSON."""
    connection = http.client.HTTPConnection(server.address, timeout=DEADLINE_S)
    try:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, raw, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()


def test_broker_is_paused_resumed_and_drained(engine: Engine, server: MetricsServer) -> None:
    assert post(server, {"command": "check"}) == (200, "The token is right.")
    assert post(server, {"command": "pause", "broker": "jobs"}) == (200, "jobs is paused.")
    assert engine.brokers["jobs"].state == "paused"
    assert post(server, {"command": "resume", "broker": "jobs"}) == (200, "jobs is resumed.")
    assert engine.brokers["jobs"].state == "running"
    drained = (200, "jobs is drained: it has no message, and none to read.")
    assert post(server, {"command": "drain", "broker": "jobs"}) == drained


def test_drain_that_is_not_done_in_time_says_what_is_left(
    engine: Engine, server: MetricsServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "DRAIN_S", 0.05)
    engine.pause("jobs")
    paused = (504, "jobs is not drained within 0.05 s: it is paused")
    assert post(server, {"command": "drain", "broker": "jobs"}) == paused
    broker = engine.add("full", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"held")
    wait_until(lambda: flow_of(engine, "full").state == "stalled")
    held = (504, "full is not drained within 0.05 s: 1 message held from frontend to backend (stalled)")
    assert post(server, {"command": "drain", "broker": "full"}) == held


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \xe4"],
)
def test_wrong_token_steers_nothing(
    engine: Engine, server: MetricsServer, authorization: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    headers = JSON if authorization is None else JSON | {"Authorization": authorization}
    with caplog.at_level(logging.DEBUG, "pollbroker"):
        status, text = post(server, {"command": "pause", "broker": "jobs"}, headers)
    assert (status, text) == (401, "Authorization: expected Bearer and the token of [engine] http_token")
    assert engine.brokers["jobs"].state == "running"
    assert "127.0.0.1: refused to steer: the token is missing or wrong" in caplog.text
    assert TOKEN[:-1] not in caplog.text


def test_without_a_token_nothing_can_be_steered(engine: Engine) -> None:
    engine.add("jobs", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with serve_metrics(engine, "127.0.0.1:0") as server:
        assert post(server, {"command": "pause", "broker": "jobs"}, JSON | {"Authorization": "Bearer "}) == (
            403, "nothing can be steered here: [engine] http_token is not set",
        )  # fmt: skip
    assert engine.brokers["jobs"].state == "running"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost.evil.example:80"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "localhost:8080", "Origin": "http://localhost:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_pages_of_others_cannot_steer(engine: Engine, server: MetricsServer, more: dict[str, str], status: int) -> None:
    assert post(server, {"command": "pause", "broker": "jobs"}, RIGHT | more)[0] == status
    assert engine.brokers["jobs"].state == ("paused" if status == 200 else "running")


def test_page_of_another_site_is_not_allowed_to_ask(server: MetricsServer) -> None:
    connection = http.client.HTTPConnection(server.address, timeout=DEADLINE_S)
    try:
        connection.request("OPTIONS", "/steer", headers={"Origin": "http://evil.example"})
        answer = connection.getresponse()
        assert answer.status == 501
        assert answer.headers["Access-Control-Allow-Origin"] is None
    finally:
        connection.close()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"[" * BODY_MOST, b"null", b"[]", b'"pause"', b"1e999", {}, {"command": "remove"},
        {"command": ["pause"], "broker": "jobs"}, {"command": "pause"}, {"command": "pause", "broker": 1},
        {"command": "pause", "broker": None}, {"command": "pause", "broker": "jobs", "more": 1}, {"command": None},
    ],
)  # fmt: skip
def test_garbage_is_refused(engine: Engine, server: MetricsServer, body: object) -> None:
    status, text = post(server, body)
    assert status == 400
    assert "expected" in text
    assert engine.brokers["jobs"].state == "running"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": str(BODY_MOST + 1)}, 413),
        ({"Content-Length": "9" * 5000}, 413),
        ({"Content-Length": "-1"}, 400),
        ({"Content-Length": "0x10"}, 400),
        ({"Transfer-Encoding": "chunked"}, 411),
        ({}, 411),
    ],
)
def test_body_is_bounded(server: MetricsServer, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection(server.address, timeout=DEADLINE_S)
    try:
        connection.putrequest("POST", "/steer")
        for name, value in (RIGHT | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (status, "close")
    finally:
        connection.close()


def test_unknown_broker_is_refused_with_the_nearest_name(server: MetricsServer) -> None:
    status, text = post(server, {"command": "pause", "broker": "job"})
    assert (status, text) == (404, "no broker is named 'job'; did you mean 'jobs'?")
    assert post(server, {"command": "pause", "broker": "\ud800\n" * 100})[0] == 404


def test_what_the_engine_refuses_is_said(engine: Engine, server: MetricsServer) -> None:
    engine.close(timeout_s=0)
    status, text = post(server, {"command": "pause", "broker": "jobs"})
    assert status in (404, 409, 503)
    assert text


def test_engine_goes_on_while_a_broker_is_drained(engine: Engine, server: MetricsServer) -> None:
    engine.pause("jobs")  # a paused broker cannot be drained
    with ThreadPoolExecutor(1) as pool:
        drain = pool.submit(post, server, {"command": "drain", "broker": "jobs"})
        engine.add("other", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
        engine.resume("jobs")
        assert drain.result(DEADLINE_S)[0] == 200
    wait_until(lambda: engine.broker_statistics("other").state == "running")


def test_statistics_say_whether_brokers_can_be_steered(engine: Engine, server: MetricsServer) -> None:
    assert server.about()["steering"] is True
    with serve_metrics(engine, "127.0.0.1:0") as other:
        assert other.about()["steering"] is False


def test_other_paths_take_no_body(server: MetricsServer) -> None:
    assert post(server, {}, path="/metrics") == (405, "expected GET")
    assert post(server, {}, path="/")[0] == 405


@pytest.mark.parametrize(
    "wrong", ["", "short", "x" * 15, "a token with spaces", "a-token-with-\xe4-in-it", "a" * 20 + "\n"]
)
def test_token_that_cannot_serve_is_refused_without_being_repeated(engine: Engine, wrong: str) -> None:
    with pytest.raises(ConfigError, match="expected 16 characters or more") as raised:
        check_token(wrong)
    assert not wrong or wrong not in str(raised.value)
    with pytest.raises(ConfigError):
        serve_metrics(engine, "127.0.0.1:0", token=wrong)
