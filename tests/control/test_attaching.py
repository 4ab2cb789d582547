"""Attaching control to an engine, and how it ends."""

import threading
from typing import Any

import pytest
import zmq

from pollbroker import ConfigError, ControlError, EndpointError, Engine, EngineError
from pollbroker.control import attach, attach_socket, request
from tests.support.addresses import ANY_PORT, bind
from tests.support.control import make_ask
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket


def test_endpoints_are_resolved_and_free_after_close(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    server = attach(engine, [ANY_PORT, "@" + ANY_PORT])
    assert len(server.endpoints) == len(set(server.endpoints)) == 2
    for endpoint in server.endpoints:
        assert request(endpoint, "LIST") == [b"OK"]
    server.close()
    server.close()
    assert server.closed
    # libzmq closes its listener a moment later, in its own thread.
    with pytest.raises(ControlError, match=r"no answer|nobody listens"):
        request(server.endpoints[0], "LIST", timeout_s=0.05)
    assert not caplog.records


def test_socket_of_the_caller_stays_open(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    own = connect(zmq.REP)
    client = connect(zmq.REQ, bind(own))
    server = attach_socket(engine, own)
    assert make_ask(client)(b"LIST") == [b"OK"]
    engine.close()
    assert server.closed
    assert own.linger == 0
    client.send(b"mine")
    assert own.recv() == b"mine"


def test_engine_closes_its_control_sockets(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    servers = [attach(engine, ANY_PORT, socket_type=kind) for kind in (zmq.REP, zmq.PAIR, zmq.SUB, zmq.ROUTER)]
    engine.close()
    assert all(server.closed for server in servers)
    assert not caplog.records  # of a context that cannot end
    with pytest.raises(EngineError, match="closed"):
        attach(engine, ANY_PORT)


def test_attachment_that_fails_leaves_nothing_open(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    monkeypatch.setattr(engine, "on_close", lambda callback: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attach(engine, ANY_PORT)
    engine.close()
    assert not caplog.records  # of a context that cannot end


def test_terminated_context_closes_control_in_order(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    engine.start()
    server = attach(engine, ANY_PORT)
    terminated = threading.Thread(target=context.term)
    terminated.start()
    terminated.join(DEADLINE_MS / 1000)
    assert not terminated.is_alive()
    assert server.closed
    assert "control:" not in caplog.text


@pytest.mark.parametrize(
    ("endpoint", "kwargs", "error", "match"),
    [
        ("tcp://127.0.0.1:70000", {}, EndpointError, r"control: tcp://127.0.0.1:70000: port must be"),
        ("nonsense", {}, EndpointError, "control: nonsense"),
        (ANY_PORT, {"socket_type": zmq.PUSH}, ConfigError, "PUSH socket .* expected REP, PAIR, SUB or ROUTER"),
        (ANY_PORT, {"socket_type": 99}, ConfigError, "99 socket"),
        (ANY_PORT, {"options": {"sndhmw": 1}}, ConfigError, "control: 'sndhmw' .* did you mean 'sndhwm'"),
        (ANY_PORT, {"options": {"subscribe": b""}}, ConfigError, "control: option subscribe"),
        (ANY_PORT, {"options": {"curve_server": 1}}, ConfigError, "control: option curve_server: .*curve_secretkey"),
    ],
)
def test_bad_attachment_is_refused(
    make_engine: MakeEngine, endpoint: str, kwargs: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        attach(make_engine(), endpoint, **kwargs)


def test_unfit_socket_is_refused(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    with pytest.raises(ConfigError, match="DEALER"):
        attach_socket(engine, connect(zmq.DEALER))
    closed = connect(zmq.REP)
    closed.close()
    with pytest.raises(EngineError, match="the socket is closed"):
        attach_socket(engine, closed)


@pytest.mark.parametrize(("options", "bound"), [(None, 1 << 20), ({"MaxMsgSize": 100}, 100)])
def test_control_frame_beyond_the_limit_is_not_read(
    make_engine: MakeEngine, connect: Connect, options: dict[str, object] | None, bound: int
) -> None:
    engine = make_engine()
    server = attach(engine, ANY_PORT, options=options)
    small, big = (connect(zmq.REQ, *server.endpoints) for _ in range(2))
    big.send(bytes(bound + 1))
    small.send(bytes(bound))
    wait_until(lambda: small.poll(0), engine=engine)
    assert not big.poll(0)


def test_attachment_to_a_closed_engine_raises(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.close()
    with pytest.raises(EngineError, match=r"^control: the engine is closed$"):
        attach(engine, ANY_PORT)


def test_attachment_of_a_closed_socket_raises(idle: Engine, connect: Connect) -> None:
    closed = connect(zmq.REP)
    closed.close()
    expected = r"^control: the socket is closed; expected an open REP, PAIR, SUB or ROUTER socket$"
    with pytest.raises(EngineError, match=expected):
        attach_socket(idle, closed)
