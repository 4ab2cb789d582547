"""Clients of a control socket, and what they are answered."""

import struct
from collections.abc import Callable

import zmq

from pollbroker import Engine
from tests.support.addresses import ANY_PORT
from tests.support.types import Connect, Socket

STEERING = (b"PAUSE", b"RESUME", b"TERMINATE")
COMMANDS = (*STEERING, b"STATISTICS", b"LIST", b"STATS", b"PEERS", b"DRAIN", b"DISABLE", b"ENABLE", b"RECONNECT")
FOR_ONE = (b"DISABLE", b"ENABLE", b"RECONNECT")
"""The commands that have to name a broker."""
WAITING = (b"PAUSE", b"DRAIN")
"""The commands that may have a time limit."""

Ask = Callable[..., list[bytes]]


def make_ask(client: Socket, *envelope: bytes) -> Ask:
    """`ask(*frames)`: what the control socket answers, without the envelope, which has to come back as it was."""

    def ask(*frames: bytes) -> list[bytes]:
        client.send_multipart([*envelope, *frames])
        reply = client.recv_multipart()
        assert reply[: len(envelope)] == list(envelope)
        return reply[len(envelope) :]

    return ask


def add_streamer(engine: Engine, connect: Connect, name: str = "jobs") -> tuple[Socket, Socket]:
    """A STREAMER of that name, and its PUSH and PULL."""
    broker = engine.add(name, "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    return connect(zmq.PUSH, *broker.frontend.endpoints), connect(zmq.PULL, *broker.backend.endpoints)


def text_of(refusal: list[bytes] | None) -> str:
    """What a refusal says, which is one printable line."""
    assert refusal is not None
    status, text = refusal
    assert status == b"ERROR"
    assert text.decode().isprintable()
    return text.decode()


def numbers(reply: list[bytes]) -> list[int]:
    """The eight numbers of a reply to STATISTICS."""
    assert [len(frame) for frame in reply] == [8] * 8
    return [struct.unpack("=Q", frame)[0] for frame in reply]
