"""Metrics and health over HTTP, asked for as Prometheus and health checks do."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import zmq
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pollbroker import QUEUE, STREAMER, ConfigError, EndpointError, Engine, Route
from pollbroker.frozen import FrozenDict
from pollbroker.metrics import MetricsServer, parse_address, serve_metrics
from pollbroker.metrics.collector import _of_flows
from pollbroker.statistics import DROPS, BrokerStatistics, FlowStatistics
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.types import Connect

NOT_OF_FLOWS = {
    "received", "received_frames", "received_bytes", "sent", "sent_frames", "sent_bytes", "added",
    "captured", "captured_frames", "captured_bytes", "unread",
}  # fmt: skip
"""The numbers of a flow that are no metrics: those of its ports are, or they follow from these; or it has ended."""

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def server(engine: Engine) -> Iterator[MetricsServer]:
    with serve_metrics(engine, "127.0.0.1:0") as serving:
        yield serving


def test_every_number_of_a_flow_is_a_metric_or_is_left_out_on_purpose() -> None:
    numbers = {
        one.name: 1000 + i
        for i, one in enumerate(fields(FlowStatistics))
        if one.name not in ("source", "sinks", "state", "waits")
    }
    flow = FlowStatistics(**numbers)  # type: ignore[arg-type]
    told = BrokerStatistics("a", "streamer", "running", None, FrozenDict(frontend=flow))
    values = {sample.value for metric in _of_flows([told]) for sample in metric.samples}
    assert {name for name, number in numbers.items() if number not in values} == NOT_OF_FLOWS


def ask(server: MetricsServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """The status, the type of the content, and the body."""
    connection = http.client.HTTPConnection(server.address, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def samples(server: MetricsServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The value of each sample, by its name and its labels."""
    status, content_type, text = ask(server, "/metrics")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    return {
        (one.name, frozenset(one.labels.items())): one.value for family in parse_text(text) for one in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def move(engine: Engine, connect: Connect, transport: str) -> None:
    """Let three messages of four bytes pass through a broker named `jobs`, of which the handler drops one."""
    route = Route("frontend", "backend", via=lambda frames: None if frames == [b"drop"] else frames)
    device = replace(STREAMER, name="choosy", routes=(route,))
    broker = engine.add("jobs", device, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    for message in (b"one.", b"drop", b"two."):
        push.send(message)
    assert [pull.recv(), pull.recv()] == [b"one.", b"two."]
    wait_until(lambda: engine.broker_statistics("jobs").flows["frontend"].sent == 2)


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_what_has_passed_is_counted(engine: Engine, server: MetricsServer, connect: Connect, transport: str) -> None:
    move(engine, connect, transport)
    found = samples(server)
    frontend, backend = {"broker": "jobs", "port": "frontend"}, {"broker": "jobs", "port": "backend"}
    assert value(found, "pollbroker_received_messages_total", **frontend) == 3
    assert value(found, "pollbroker_received_bytes_total", **frontend) == 12
    assert value(found, "pollbroker_sent_messages_total", **backend) == 2
    assert value(found, "pollbroker_sent_bytes_total", **backend) == 8
    dropped = {
        rule: value(found, "pollbroker_dropped_messages_total", broker="jobs", source="frontend", rule=rule)
        for rule in DROPS
    }
    assert dropped == {rule: float(rule == "filtered") for rule in DROPS}
    assert value(found, "pollbroker_peers", **frontend) == (1 if transport == "wire" else None)
    assert value(found, "pollbroker_missed_messages_total", **backend) == (0 if transport == "wire" else None)
    assert value(found, "pollbroker_broker_state", broker="jobs", state="running") == 1
    assert value(found, "pollbroker_broker_state", broker="jobs", state="paused") == 0


def test_metrics_come_in_the_format_that_is_asked_for(engine: Engine, server: MetricsServer, connect: Connect) -> None:
    move(engine, connect, "wire")
    status, content_type, text = ask(server, "/metrics", Accept=OPEN_METRICS)
    assert (status, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    names = {family.name for family in parse_open_metrics(text)}  # type: ignore[no-untyped-call]
    assert names >= {"pollbroker", "pollbroker_received_messages", "pollbroker_stalled_seconds"}
    if names.isdisjoint({"process_cpu_seconds"}):
        pytest.fail("the process's own figures are missing")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package promtool")
def test_promtool_finds_no_fault(engine: Engine, server: MetricsServer, connect: Connect) -> None:
    move(engine, connect, "wire")
    text = ask(server, "/metrics")[2]
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_statistics_come_as_json(engine: Engine, server: MetricsServer, connect: Connect) -> None:
    move(engine, connect, "libzmq")
    status, content_type, text = ask(server, "/statz")
    assert (status, content_type) == (200, "application/json")
    document = json.loads(text)
    assert document["brokers"]["jobs"]["flows"]["frontend"]["filtered"] == 1
    assert (document["about"]["process"], document["about"]["ending"]) == (os.getpid(), False)


def test_statistics_of_no_broker_are_json_too(engine: Engine, server: MetricsServer) -> None:
    assert json.loads(ask(server, "/statz")[2])["brokers"] == {}


def test_engine_that_runs_lives_and_is_ready(engine: Engine, server: MetricsServer) -> None:
    engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    assert ask(server, "/livez")[::2] == ask(server, "/readyz")[::2] == (200, "ok\n")
    engine.pause("a")
    assert ask(server, "/readyz")[0] == 200


def test_engine_whose_loop_stands_does_not_live(engine: Engine, server: MetricsServer) -> None:
    over = threading.Event()
    engine.call_soon_threadsafe(over.wait, DEADLINE_S)
    try:
        status, _, text = ask(server, "/livez")
        assert (status, text) == (503, "the loop has not made a call within 2 s\n")
    finally:
        over.set()
    wait_until(lambda: ask(server, "/livez")[0] == 200)


def test_broker_that_has_ended_is_a_reason_not_to_be_ready(engine: Engine, server: MetricsServer) -> None:
    engine.add("other", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)  # without one the engine would end, too
    context: zmq.Context[Any] = zmq.Context()
    pair = context.socket(zmq.PAIR)
    broker = engine.register(pair, None, "reflector", name="mirror")
    with Threads() as threads:
        terminated = threads.submit(context.term)
        assert broker.removed.result(DEADLINE_S).state == "ended"
        assert ask(server, "/readyz")[::2] == (503, "brokers.mirror: ended\n")
        assert ask(server, "/livez")[0] == 200
        pair.close(linger=0)
        terminated.result(DEADLINE_S)


def test_engine_that_is_about_to_end_is_not_ready(engine: Engine) -> None:
    with serve_metrics(engine, "127.0.0.1:0", is_ending=lambda: True) as server:
        assert ask(server, "/readyz")[::2] == (503, "the engine is ending\n")


def test_closed_engine_answers_503(engine: Engine, server: MetricsServer) -> None:
    engine.close(timeout_s=0)
    for path in ("/metrics", "/livez", "/readyz", "/statz", "/eventz"):
        assert ask(server, path)[0] == 503


def test_other_paths_and_methods_are_refused(server: MetricsServer) -> None:
    assert ask(server, "/page")[0] == 404
    assert ask(server, "/metrics/..")[0] == 404
    assert ask(server, "/metrics", "POST")[0] == 405
    assert ask(server, "/metrics", "PUT")[0] == 501
    assert ask(server, "/steer")[0] == 405
    assert ask(server, "/livez", "HEAD") == (200, "text/plain; charset=utf-8", "")


def test_garbage_and_silence_do_not_keep_others_from_being_answered(engine: Engine, server: MetricsServer) -> None:
    host, port = parse_address(server.address)
    silent = [socket.create_connection((host, port), DEADLINE_S) for _ in range(60)]  # more than are served at a time
    try:
        for garbage in (b"\xff" * 1000 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n", b"\0" * 70_000):
            silent[0].close()
            silent[0] = socket.create_connection((host, port), DEADLINE_S)
            try:
                silent[0].sendall(garbage)
                silent[0].recv(1000)
            except ConnectionError:
                continue  # it was one too many, or has said enough
    finally:
        for one in silent:
            one.close()

    def is_answered() -> bool:
        try:
            return ask(server, "/livez")[0] == 200
        except (ConnectionError, http.client.HTTPException):
            return False  # those that have left still count

    wait_until(is_answered)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "9464",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        ":9464",
        "http://127.0.0.1:9464",
        "tcp://[::1]:9464",
    ],
)
def test_malformed_address_is_refused(engine: Engine, wrong: str) -> None:
    with pytest.raises(ConfigError, match="expected a host and a port"):
        serve_metrics(engine, wrong)


def test_address_in_use_is_refused(engine: Engine, server: MetricsServer) -> None:
    with pytest.raises(EndpointError, match="cannot listen: Address already in use"):
        serve_metrics(engine, server.address)


@pytest.mark.parametrize("host", ["a..b", "ä..b", "a\0b", "\udce9"])
def test_name_that_no_host_can_have_is_refused(engine: Engine, host: str) -> None:
    with pytest.raises(EndpointError, match="cannot listen: "):
        serve_metrics(engine, f"{host}:0")


def test_connection_that_is_kept_ends_with_the_server(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pollbroker.metrics.server._Request.timeout", 2 * DEADLINE_S)  # silence must not end it before
    with serve_metrics(engine, "127.0.0.1:0") as server:
        host, port = parse_address(server.address)
        kept = http.client.HTTPConnection(host, port, timeout=DEADLINE_S)
        kept.request("GET", "/livez")
        kept.getresponse().read()
        assert kept.sock is not None
    try:
        assert kept.sock.recv(1) == b""
    finally:
        kept.close()
