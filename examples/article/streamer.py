"""The streamer of the article: pushers upstream, pullers downstream. While no puller is there, the messages wait, none
of them is lost, and the broker uses no CPU time.

python examples/article/streamer.py
"""

import time

import zmq

from pollbroker import STREAMER, Engine

MESSAGES = 100


def main() -> None:
    with zmq.Context() as context, Engine() as engine:
        broker = engine.add("streamer", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        with context.socket(zmq.PUSH) as pusher, context.socket(zmq.PULL) as puller:
            pusher.connect(broker.frontend.endpoint)
            for number in range(MESSAGES):
                pusher.send(b"%d" % number)
            while broker.statistics().flows["frontend"].state != "stalled":
                time.sleep(0.001)  # the first message is on its way to the broker
            print("nobody pulls: the broker is stalled, and the messages wait")
            puller.connect(broker.backend.endpoint)
            total = sum(int(puller.recv()) for _ in range(MESSAGES))
        print(f"{MESSAGES} messages, of which the sum is {total}")


if __name__ == "__main__":
    main()
