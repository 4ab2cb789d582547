"""Sockets of pyzmq, or of a library that imitates it, driven by lines: `python peer.py MODULE`. See `tests/others/`."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

zmq: Any = importlib.import_module(sys.argv[1])
context: Any = zmq.Context()
sockets: dict[str, Any] = {}


def frame_of(word: str) -> bytes:
    return b"" if word == "-" else bytes.fromhex(word)


def word_of(frame: bytes) -> str:
    return frame.hex() or "-"


def make(number: str, kind: str, *options: str) -> str:
    made = sockets[number] = context.socket(getattr(zmq, kind))
    for option in options:
        name, _, value = option.partition("=")
        made.setsockopt(getattr(zmq, name.upper()), int(value))
    return "ok"


def connect(number: str, endpoint: str) -> str:
    sockets[number].connect(endpoint)
    return "ok"


def subscribe(number: str, topic: str) -> str:
    sockets[number].subscribe(frame_of(topic))
    return "ok"


def unsubscribe(number: str, topic: str) -> str:
    sockets[number].unsubscribe(frame_of(topic))
    return "ok"


def send(number: str, *words: str) -> str:
    try:
        sockets[number].send_multipart([frame_of(word) for word in words])
    except zmq.Again:
        return "no"
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
        return "no"
    return "ok"


def receive(number: str, time_ms: str) -> str:
    if not sockets[number].poll(int(time_ms)):
        return "no"
    return " ".join(["message", *map(word_of, sockets[number].recv_multipart())])


def close(number: str, linger_ms: str) -> str:
    sockets.pop(number).close(linger=int(linger_ms))
    return "ok"


def version() -> str:
    if zmq.__name__ == "zmq":
        return f"version {zmq.__version__}, libzmq {zmq.zmq_version()}"
    return f"version {zmq.version()}"


COMMANDS: dict[str, Callable[..., str]] = {
    "close": close,
    "connect": connect,
    "receive": receive,
    "send": send,
    "socket": make,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "version": version,
}

for line in sys.stdin:
    command, *arguments = line.split()
    try:
        answer = COMMANDS[command](*arguments)
    except Exception as error:  # noqa: BLE001 - whoever sent the command decides what it means
        answer = f"error {command}: {error!r}".replace("\n", " ")
    print(answer, flush=True)
