"""Services by name: clients ask a Majordomo broker, and workers that have registered with it answer (RFC 7).

Three workers serve `greet`. One of them dies with a request in its hands, which the broker then gives to another, so
that every question is answered. The clients and workers here speak the protocol by hand. docs/patterns/majordomo.md has
more.
"""

import threading
import time

import zmq

from pollbroker import MAJORDOMO, Engine
from pollbroker.patterns.majordomo import mdp

NAMES = ("Ada", "Ben", "Cleo", "Dora", "Emil", "Fred")
HEARTBEAT_S = 0.1


def work(context: zmq.Context[zmq.Socket[bytes]], address: str, name: str, dies: bool) -> None:
    with context.socket(zmq.DEALER) as worker:
        worker.linger = 0
        worker.connect(address)
        worker.send_multipart(mdp.worker_ready(b"greet"))
        try:
            while True:
                if not worker.poll(int(HEARTBEAT_S * 1000)):
                    worker.send_multipart(mdp.worker_heartbeat())
                    continue
                message = mdp.parse_to_worker(worker.recv_multipart())
                if message is None or message.command is mdp.DISCONNECT:
                    return
                if message.command is mdp.REQUEST:
                    if dies:
                        return
                    reply = b"Hello %s, says %s" % (message.body[0], name.encode())
                    worker.send_multipart(mdp.worker_reply(message.client, [reply]))
        except zmq.ContextTerminated:
            return


def ask(client: zmq.Socket[bytes], service: bytes, body: bytes) -> str:
    client.send_multipart(mdp.client_request(service, [body]))
    reply = mdp.parse_client_reply(client.recv_multipart())
    assert reply is not None
    return reply.body[0].decode()


def main() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with Engine() as engine:
        device = MAJORDOMO.with_settings(heartbeat_s=HEARTBEAT_S, liveness=50)
        broker = engine.add("services", device, frontend="tcp://127.0.0.1:*")
        address = broker.ports["frontend"].endpoint
        for number in range(3):
            arguments = (context, address, f"worker {number}", number == 2)
            threading.Thread(target=work, args=arguments).start()
        while broker.statistics().counters.get("ready", 0) < 3:
            time.sleep(0.01)  # so that each of them gets a request
        with context.socket(zmq.DEALER) as client:
            client.connect(address)
            for service in (b"greet", b"nobody"):
                print(f"is there a worker for {service.decode()}? {ask(client, b'mmi.service', service)}")
            for name in NAMES:
                print(ask(client, b"greet", name.encode()))
        print(f"given again: {broker.statistics().counters.get('given_again', 0)}")
        context.term()  # wakes the workers, and waits until they have closed their sockets


if __name__ == "__main__":
    main()
