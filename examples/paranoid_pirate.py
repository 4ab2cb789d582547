"""Requests and workers that may vanish: a Paranoid Pirate broker, with the clients and workers of `pollbroker.rpc`.

Three workers send heartbeats. One of them takes a request and falls silent. After three heartbeats the broker gives its
request to another, so that every question is answered. docs/patterns/paranoid_pirate.md has more.
"""

import threading
import time

from pollbroker import PARANOID_PIRATE, Engine
from pollbroker.rpc import PirateClient, PirateWorker

QUESTIONS = 6
HEARTBEAT_S = 0.1


def work(worker: PirateWorker, name: str) -> None:
    with worker:
        worker.serve(lambda frames: frames[0] + b" is answered by " + name.encode())


def fall_silent(worker: PirateWorker) -> None:
    with worker:
        worker.receive()
        time.sleep(HEARTBEAT_S * 10)


def main() -> None:
    with Engine() as engine:
        device = PARANOID_PIRATE.with_settings(heartbeat_s=HEARTBEAT_S)
        broker = engine.add("tasks", device, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        workers = [PirateWorker(broker.ports["backend"].endpoint, heartbeat_s=HEARTBEAT_S) for _ in range(3)]
        threads = [threading.Thread(target=fall_silent, args=[workers[0]])]
        threads += [
            threading.Thread(target=work, args=[worker, f"worker {number}"])
            for number, worker in enumerate(workers[1:], start=1)
        ]
        for thread in threads:
            thread.start()
        while broker.statistics().counters.get("ready", 0) < 3:
            time.sleep(0.01)  # so that each of them gets a request
        with PirateClient(broker.ports["frontend"].endpoint, timeout_s=10.0) as client:
            for number in range(QUESTIONS):
                (answer,) = client.request(f"question {number}".encode())
                print(answer.decode())
        print(f"given again: {broker.statistics().counters['given_again']}")
        for worker in workers[1:]:
            worker.stop()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
