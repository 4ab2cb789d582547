"""Who may be a peer: the table of SECURITY.md, each cell tried with a client that has no right to be there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from pollbroker import Engine
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_MS
from tests.support.types import Connect, Socket

SERVER_PUBLIC, SERVER_SECRET = zmq.curve_keypair()
STRANGER_PUBLIC, STRANGER_SECRET = zmq.curve_keypair()

PORTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "NULL": {},
    "PLAIN": {"plain_server": 1},
    "CURVE": {"curve_server": 1, "curve_secretkey": SERVER_SECRET},
}
"""The options of the broker's port, by mechanism."""

STRANGERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "NULL": {},
    "PLAIN": {"plain_username": b"nobody", "plain_password": b"guessed"},
    "CURVE": {
        "curve_serverkey": SERVER_PUBLIC,
        "curve_publickey": STRANGER_PUBLIC,
        "curve_secretkey": STRANGER_SECRET,
    },
}
"""Those of a client that speaks the mechanism, and of whom no one has heard."""

HANDSHAKE_MS: Final = 2000
"""When a client gives a handshake up. A port of NULL that asks a handler that is not there says nothing at all."""

DOMAIN: Final = {"zap_domain": "here"}
ENFORCED: Final = {**DOMAIN, "zap_enforce_domain": 1}


def is_let_in(connect: Connect, engine: Engine, at_port: Mapping[str, Any], client: Mapping[str, Any]) -> bool:
    """Return True if a client gets through the handshake with a broker's frontend, by what its own monitor says."""
    broker = engine.add("s", "streamer", frontend=ANY_PORT, backend=ANY_PORT, frontend_options=at_port)
    push = connect(zmq.PUSH, handshake_ivl=HANDSHAKE_MS, **client)
    ended = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    ended |= zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    monitor: Socket = push.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | ended)
    push.connect(broker.frontend.endpoints[0])
    assert monitor.poll(DEADLINE_MS), "the handshake came to no end"
    event = recv_monitor_message(monitor)["event"]
    push.disable_monitor()
    return bool(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)


@contextmanager
def judged(context: zmq.Context[Socket], keys: Path) -> Iterator[None]:
    """As a context: a handler of ZAP, pyzmq's own, which knows one user, the keys of a directory, and no address."""
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    try:
        authenticator.allow("192.0.2.1")  # nobody's
        authenticator.configure_plain(DOMAIN["zap_domain"], {"somebody": "secret"})
        authenticator.configure_curve(DOMAIN["zap_domain"], str(keys))
        yield
    finally:
        authenticator.stop()


@pytest.mark.parametrize(
    ("mechanism", "asked", "let_in"),
    [
        ("NULL", {}, True),
        ("NULL", DOMAIN, True),
        ("NULL", ENFORCED, False),
        ("PLAIN", {}, False),
        ("PLAIN", DOMAIN, False),
        ("PLAIN", ENFORCED, False),
        ("CURVE", {}, True),
        ("CURVE", DOMAIN, True),
        ("CURVE", ENFORCED, False),
    ],
)
def test_without_a_handler_a_stranger_is_let_in_or_not(
    connect: Connect, mechanism: str, asked: Mapping[str, Any], let_in: bool
) -> None:
    with Engine() as engine:
        assert is_let_in(connect, engine, {**PORTS[mechanism], **asked}, STRANGERS[mechanism]) == let_in


@pytest.mark.parametrize("mechanism", [*PORTS])
def test_with_a_handler_no_stranger_is_let_in(
    context: zmq.Context[Socket], connect: Connect, tmp_path: Path, mechanism: str
) -> None:
    with judged(context, tmp_path), Engine(context) as engine:
        assert not is_let_in(connect, engine, {**PORTS[mechanism], **DOMAIN}, STRANGERS[mechanism])


@pytest.mark.parametrize("mechanism", ["PLAIN", "CURVE"])
def test_client_without_the_mechanism_of_the_port_is_not_let_in(connect: Connect, mechanism: str) -> None:
    with Engine() as engine:
        assert not is_let_in(connect, engine, PORTS[mechanism], STRANGERS["NULL"])
