"""Devices of your own: handlers that change, drop and multiply the messages that pass.

python examples/custom_device.py
"""

from collections.abc import Generator
from dataclasses import replace

import zmq

from pollbroker import QUEUE, Broker, Device, Engine, Route

# A handler is given one message, a list of frames, and returns the message to send.


def shout(frames: list[bytes]) -> list[bytes]:
    """Turn replies into capitals. In a queue, the frames before the last one say which client a reply is for: keep
    them."""
    *envelope, reply = frames
    return [*envelope, reply.upper()]


def only_positive(frames: list[bytes]) -> list[bytes] | None:
    """Pass on numbers above zero. None drops a message. So does an exception, which is logged and counted
    separately."""
    return frames if int(frames[0]) > 0 else None


def each_word(frames: list[bytes]) -> Generator[list[bytes], None, None]:
    """Send a message for each word: a generator sends as many messages as it yields."""
    for word in frames[0].split():
        yield [word]


LOUD_QUEUE = replace(
    QUEUE, name="loud queue", routes=(Route("frontend", "backend"), Route("backend", "frontend", via=shout))
)
GATE = Device("gate", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=only_positive),))
SPLITTER = Device("splitter", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=each_word),))


def ask(context: zmq.Context[zmq.Socket[bytes]], broker: Broker) -> None:
    frontend, backend = broker.frontend, broker.backend
    with context.socket(zmq.REQ) as client, context.socket(zmq.REP) as worker:
        client.connect(frontend.endpoints[0])
        worker.connect(backend.endpoints[0])
        client.send(b"how is it?")
        worker.recv()
        worker.send(b"very quiet here")
        print(f"{broker.name}: {client.recv().decode()}")


def push(context: zmq.Context[zmq.Socket[bytes]], broker: Broker, messages: list[bytes], expected: int) -> None:
    frontend, backend = broker.frontend, broker.backend
    with context.socket(zmq.PUSH) as pusher, context.socket(zmq.PULL) as puller:
        pusher.connect(frontend.endpoints[0])
        puller.connect(backend.endpoints[0])
        for message in messages:
            pusher.send(message)
        pulled = [puller.recv().decode() for _ in range(expected)]
        print(f"{broker.name}: {', '.join(pulled)}")


def main() -> None:
    with Engine() as engine, zmq.Context() as context:
        for device in (LOUD_QUEUE, GATE, SPLITTER):
            engine.add(device.name, device, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        ask(context, engine.brokers["loud queue"])
        push(context, engine.brokers["gate"], [b"-1", b"1", b"0", b"2", b"3"], expected=3)
        push(context, engine.brokers["splitter"], [b"one two three", b"", b"four"], expected=4)
        # Every message is accounted for: received + added == sent + held + dropped.
        for name in ("gate", "splitter"):
            flow = engine.statistics().brokers[name].flows["frontend"]
            print(f"{name}: received {flow.received}, added {flow.added}, sent {flow.sent}, dropped {flow.dropped}")


if __name__ == "__main__":
    main()
