"""A load balancer that ships, with its clients and workers: urgent questions first, and again if a worker dies.

The questions come before any worker does, so the broker keeps them, by priority. Ada answers two and dies with the
third in her hands. After a time limit her question is given to Ben. docs/patterns/balancer.md explains the settings.
"""

import threading
import time

import zmq

from pollbroker import BALANCER, Engine

QUESTIONS = (
    (b"1", b"What is the time?"),
    (b"9", b"Where is the fire?"),
    (b"1", b"How are you?"),
    (b"9", b"Who calls for help?"),
    (b"1", b"Is it raining?"),
)

PATIENCE_S = 30
"""A worker that hears nothing for so long says READY again, on a new socket: perhaps the broker has started again."""


def work(context: zmq.Context[zmq.Socket[bytes]], backend: str, name: str, dies_after: int | None) -> None:
    answered = 0
    while True:
        with context.socket(zmq.REQ) as worker:
            worker.linger = 0
            worker.routing_id = name.encode()  # so that the broker knows it again
            worker.connect(backend)
            worker.send(b"READY")
            try:
                while worker.poll(PATIENCE_S * 1000):
                    client, empty, _priority, question = worker.recv_multipart()
                    if answered == dies_after:
                        return
                    answered += 1
                    worker.send_multipart([client, empty, question + b" " + name.encode() + b" answers."])
            except zmq.ContextTerminated:
                return


def main() -> None:
    device = BALANCER.with_settings(priority_frame=2, time_limit_s=0.2, give_again=True)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with Engine() as engine:
        broker = engine.add("tasks", device, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        with context.socket(zmq.DEALER) as client:
            client.connect(broker.ports["frontend"].endpoint)
            for priority, question in QUESTIONS:
                client.send_multipart([b"", priority, question])
            while broker.statistics().flows["behaviour"].held < len(QUESTIONS):
                time.sleep(0.01)
            for name, dies_after in (("Ada", 2), ("Ben", None)):
                arguments = (context, broker.ports["backend"].endpoint, name, dies_after)
                threading.Thread(target=work, args=arguments).start()
                if name == "Ada":
                    print(client.recv_multipart()[-1].decode())
                    print(client.recv_multipart()[-1].decode())
            for _ in QUESTIONS[2:]:
                print(client.recv_multipart()[-1].decode())
        print(f"given again: {broker.statistics().counters.get('given_again', 0)}")
        context.term()  # wakes Ben, and waits until his socket is closed


if __name__ == "__main__":
    main()
