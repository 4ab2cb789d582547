"""Peers that log in at a port of the wire, and the authenticator that is asked about them."""

from collections.abc import Mapping
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from pollbroker import STREAMER, Broker, Engine
from pollbroker.engine import engine_loop
from pollbroker.wire import zap
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, Socket
from tests.support.wire_ports import ended_by
from tests.wire.zmtp import RawPeer, command, greeting, hello, initiate

DOMAIN: Final[dict[str, Any]] = {"zap_domain": b"here"}
SERVER: Final[dict[str, Any]] = {"plain_server": 1, **DOMAIN}
USER: Final[dict[str, Any]] = {"plain_username": b"somebody", "plain_password": b"secret"}
INTRUDER: Final[dict[str, Any]] = {"plain_username": b"somebody", "plain_password": b"guessed"}

WELCOME: Final = command(b"WELCOME")
PLAIN_GREETING: Final = greeting(mechanism=b"PLAIN")


class Authenticator:
    """A socket that is asked, and answers when a test says so."""

    def __init__(self, context: zmq.Context[Socket], **options: int) -> None:
        self.socket = context.socket(zmq.ROUTER, socket_class=zmq.Socket)
        self.socket.linger = 0
        self.socket.rcvtimeo = DEADLINE_MS
        for name, value in options.items():
            setattr(self.socket, name, value)
        self.socket.bind(zap.ADDRESS)

    def question(self) -> list[bytes]:
        """The next one, without the envelope: the version, the request id, and so on."""
        frames = self.socket.recv_multipart()
        self._envelope = frames[:2]
        assert self._envelope[1] == b""
        return frames[2:]

    def say(self, *frames: bytes) -> None:
        """Send an answer as it is."""
        self.socket.send_multipart([*self._envelope, *frames])

    def answer(self, question: list[bytes], status: bytes, user_id: bytes = b"", metadata: bytes = b"") -> None:
        self.say(b"1.0", question[1], status, b"because", user_id, metadata)

    def close(self) -> None:
        self.socket.close(linger=0)


def add_door(engine: Engine, address: str = ANY_PORT, **options: Any) -> Broker:
    """A STREAMER whose frontend has these options."""
    return engine.add("door", STREAMER, frontend=address, backend=ANY_PORT, frontend_options=options)


def authentication_of(engine: Engine) -> zap.Authentication:
    """To be used in a turn of the engine."""
    return engine_loop(engine).access.wire_context().authentication


def expect(engine: Engine, broker: Broker, reasons: Mapping[str, int], port: str = "frontend") -> None:
    wait_until(lambda: ended_by(engine, broker, port) == reasons)


def log_in(peer: RawPeer, username: bytes = b"somebody", password: bytes = b"secret") -> RawPeer:
    """Say who it is, and read the greeting of the server."""
    peer.send(PLAIN_GREETING + hello(username, password))
    assert peer.read(64) == greeting(mechanism=b"PLAIN", as_server=1)
    return peer


def finish(peer: RawPeer) -> RawPeer:
    """Do what is left after WELCOME."""
    assert peer.read_command() == b"\7WELCOME"
    peer.send(initiate("PUSH"))
    assert peer.read_command().startswith(b"\5READY")
    return peer


def passes(peer: RawPeer, broker: Broker, connect: Connect) -> bool:
    """True if a message of a peer arrives behind the broker."""
    pull = connect(zmq.PULL, endpoint(broker.backend))
    peer.send_message(b"through")
    return bool(pull.recv() == b"through")


def failure_of(socket: Socket, address: str) -> tuple[int, int]:
    """How the handshake of a socket of libzmq ends: the event and its value."""
    failures = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    monitor: Socket = socket.get_monitor_socket(
        failures | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED
    )
    socket.connect(address)
    assert monitor.poll(DEADLINE_MS), "the handshake came to no end"
    event = recv_monitor_message(monitor)
    socket.disable_monitor()
    return event["event"], event["value"]
