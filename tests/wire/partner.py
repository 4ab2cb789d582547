"""A process that hands brokers over, and takes them over: `python -m tests.wire.partner WHAT ...`.

    rounds DIRECTORY NUMBER ROUNDS   one of two processes, 0 and 1, that hand a streamer and a queue to each other
    adopt DESCRIPTOR [STEP]          takes a streamer over, and dies at a step if one is given

It says what it has on its standard output, one line for each, and ends when its standard input does.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from pollbroker import QUEUE, STREAMER, Engine
from pollbroker.handing_over import channel
from tests.support.deadline import DEADLINE_S

ANYWHERE = "tcp://127.0.0.1:*"

STEPS = ("HELLO", "OFFER", "STATE", "READY", "COMMIT")
"""After each of them the process can be told to die."""


def add(engine: Engine) -> None:
    """The two brokers."""
    engine.add("streamer", STREAMER, frontend=ANYWHERE, backend=ANYWHERE, transport="wire")
    engine.add("queue", QUEUE, frontend=ANYWHERE, backend=ANYWHERE, transport="wire")


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def say_endpoints(engine: Engine) -> None:
    say(
        **{
            f"{broker.name}.{port}": broker.ports[port].endpoint
            for broker in engine.brokers.values()
            for port in broker.ports
        }
    )


def rounds(directory: str, number: str, count: str) -> None:
    """Hand the brokers over in every second round, and take them over in the others."""
    own, other = (f"{directory}/{one}" for one in (number, 1 - int(number)))
    engine: Engine | None = None
    longest_s = 0.0
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(own)
        listener.listen()
        listener.settimeout(60)
        if number == "0":
            engine = Engine()
            engine.start()
            add(engine)
            say_endpoints(engine)
        for turn in range(int(count)):
            if turn % 2 == int(number):
                assert engine is not None
                connected, _ = listener.accept()
                with connected:
                    begin_s = time.monotonic()
                    engine.hand_over(connected, freeze_s=DEADLINE_S)
                    longest_s = max(longest_s, time.monotonic() - begin_s)
                engine.close(timeout_s=0)
                engine = None
            else:
                engine = Engine()
                engine.start()
                with _connected(other) as connected, engine.adopt(connected):
                    add(engine)
    if engine is not None:
        statistics = engine.statistics().brokers
        say(
            longest_s=longest_s,
            flows={
                f"{name}.{source}": [flow.received, flow.sent, flow.held, flow.dropped]
                for name, broker in statistics.items()
                for source, flow in broker.flows.items()
            },
        )
    sys.stdin.read()
    if engine is not None:
        engine.close(timeout_s=0)


def _connected(path: str) -> socket.socket:
    end_s = time.monotonic() + 60
    while not Path(path).exists():
        assert time.monotonic() < end_s
        time.sleep(0.001)
    connected = socket.socket(socket.AF_UNIX)
    while True:
        try:
            connected.connect(path)
        except ConnectionRefusedError:  # it is bound, and does not listen yet
            assert time.monotonic() < end_s
            time.sleep(0.001)
        else:
            return connected


def die_at(step: str) -> None:
    """End this process without a word after it has sent, or been told, this."""
    number = getattr(channel, step)
    send, receive = channel.Channel.send, channel.Channel.receive

    def sending(self: channel.Channel, kind: int, body: bytes = b"", *, deadline_s: float) -> None:
        send(self, kind, body, deadline_s=deadline_s)
        if kind == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def receiving(self: channel.Channel, *kinds: int, deadline_s: float) -> tuple[int, bytes]:
        frame = receive(self, *kinds, deadline_s=deadline_s)
        if frame[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return frame

    channel.Channel.send = sending  # type: ignore[method-assign]
    channel.Channel.receive = receiving  # type: ignore[method-assign]


def adopt(descriptor: str, step: str = "") -> None:
    """Take the streamer over, or die in the attempt."""
    if step:
        die_at(step)
    engine = Engine()
    engine.start()
    with socket.socket(fileno=int(descriptor)) as connected, engine.adopt(connected) as adoption:
        engine.add("a", STREAMER, frontend=ANYWHERE, backend=ANYWHERE, transport="wire")
    say(moved=adoption.moved)
    sys.stdin.read()
    engine.close(timeout_s=0)


if __name__ == "__main__":
    if sys.argv[1] == "rounds":
        rounds(*sys.argv[2:])
    else:
        adopt(*sys.argv[2:])
