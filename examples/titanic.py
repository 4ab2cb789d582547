"""Requests that are stored: a Titanic broker is killed and begins again, and none of them is lost (RFC 9).

A client stores requests while no worker is there. The process of the broker is killed. A second one begins with the
same database, a worker comes and does the work, and the client fetches the replies. docs/patterns/titanic.md has more.
"""

import subprocess
import sys
import tempfile
import threading
import time

import zmq

from pollbroker import TITANIC, Engine
from pollbroker.patterns.majordomo import mdp

QUESTIONS = 5


def run_broker(path: str) -> None:
    """What the broker's process does, until it is killed or its stdin ends. It prints its address."""
    with Engine() as engine:
        broker = engine.add("tasks", TITANIC.with_settings(path=path), frontend="tcp://127.0.0.1:*")
        print(broker.ports["frontend"].endpoint, flush=True)
        sys.stdin.read()


def start_broker(path: str) -> tuple[subprocess.Popen[str], str]:
    """Start a broker in a process of its own. Returns its address, too."""
    broker = subprocess.Popen(
        [sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert broker.stdout is not None
    return broker, broker.stdout.readline().strip()


def ask(client: zmq.Socket[bytes], service: bytes, *body: bytes) -> list[bytes]:
    client.send_multipart(mdp.client_request(service, body))
    reply = mdp.parse_client_reply(client.recv_multipart())
    assert reply is not None
    return list(reply.body)


def work(context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
    with context.socket(zmq.DEALER) as worker:
        worker.connect(address)
        worker.send_multipart(mdp.worker_ready(b"square"))
        done = 0
        while done < QUESTIONS:
            message = mdp.parse_to_worker(worker.recv_multipart())
            if message is not None and message.command is mdp.REQUEST:
                number = int(message.body[0])
                worker.send_multipart(mdp.worker_reply(message.client, [b"%d" % (number * number)]))
                done += 1
        worker.send_multipart(mdp.worker_disconnect())


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, zmq.Context() as context:
        broker, address = start_broker(f"{directory}/requests.db")
        with context.socket(zmq.DEALER) as client:
            client.connect(address)
            uuids = [ask(client, b"titanic.request", b"square", b"%d" % number)[1] for number in range(QUESTIONS)]
        print(f"stored {len(uuids)} requests")
        broker.kill()
        broker.communicate()
        print("the broker was killed")

        broker, address = start_broker(f"{directory}/requests.db")
        worker = threading.Thread(target=work, args=(context, address))
        worker.start()
        with context.socket(zmq.DEALER) as client:
            client.connect(address)
            for number, uuid in enumerate(uuids):
                while (reply := ask(client, b"titanic.reply", uuid))[0] == b"300":
                    time.sleep(0.01)  # there is no reply yet
                print(f"{number} squared is {reply[1].decode()}")
                ask(client, b"titanic.close", uuid)
        worker.join()
        broker.communicate("")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_broker(sys.argv[1])
    else:
        main()
