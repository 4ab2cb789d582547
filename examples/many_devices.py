"""Thirty devices in one program, and one thread for all of them, with traffic through each.

python examples/many_devices.py [MESSAGES, by default 100]
"""

import sys
import threading

import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Engine

OF_EACH = 10
PEERS = {QUEUE.name: (zmq.REQ, zmq.REP), FORWARDER.name: (zmq.XPUB, zmq.SUB), STREAMER.name: (zmq.PUSH, zmq.PULL)}
"""The types of the two sockets that exchange messages through a device, at its frontend and at its backend."""


def exchange(sender: zmq.Socket[bytes], receiver: zmq.Socket[bytes], message: bytes) -> None:
    """Send one message through a device, and a reply back if the receiver is a worker."""
    sender.send(message)
    received = receiver.recv()
    if receiver.type == zmq.REP:
        receiver.send(received)
        received = sender.recv()
    if received != message:
        raise RuntimeError(f"sent {message!r}, received {received!r}")


def main(messages: int = 100) -> None:
    with Engine() as engine, zmq.Context() as context:  # the engine runs in a thread of its own until the block ends
        for device in (QUEUE, FORWARDER, STREAMER):
            for number in range(OF_EACH):
                engine.add(f"{device.name}-{number}", device, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")

        pairs = []
        for broker in engine.brokers.values():
            sender, receiver = map(context.socket, PEERS[broker.device.name])
            for socket, port in zip((sender, receiver), broker.ports.values(), strict=True):
                socket.connect(port.endpoints[0])
            if receiver.type == zmq.SUB:
                receiver.subscribe(b"")
                sender.recv()  # the subscription has come through: nothing that is published now is lost
            pairs.append((sender, receiver))
        print(f"{len(engine.brokers)} devices, {threading.active_count() - 1} thread beside the main one")

        for number in range(messages):
            for sender, receiver in pairs:
                exchange(sender, receiver, b"message %d" % number)

        for name, broker_statistics in engine.statistics().brokers.items():
            flows = broker_statistics.flows.values()
            moved = (f"{flow.source} to {', '.join(flow.sinks)} {flow.sent}" for flow in flows)
            print(f"{name}: {', '.join(moved)}")
        for pair in pairs:
            for socket in pair:
                socket.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
