"""The forwarder of the article subscribes to everything, since it cannot know what its subscribers want. The article
knows no way to forward only what they have subscribed to. XSUB and XPUB are that way: subscriptions travel upstream.

python examples/article/forwarder.py
"""

import zmq

from pollbroker import FORWARDER, Engine

TOPICS = (b"news", b"sports", b"weather")


def main() -> None:
    with zmq.Context() as context, Engine() as engine:
        broker = engine.add("forwarder", FORWARDER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        with context.socket(zmq.XPUB) as publisher, context.socket(zmq.SUB) as subscriber:
            publisher.connect(broker.frontend.endpoint)
            subscriber.connect(broker.backend.endpoint)
            subscriber.subscribe(b"weather")
            print(f"subscriptions that reach the publisher: {publisher.recv()[1:].decode()}")
            for topic in TOPICS:
                publisher.send_multipart([topic, b"today"])
            print("received:", b" ".join(subscriber.recv_multipart()).decode())
            # A publisher sends only what somebody has subscribed to, so the others did not even leave its process.
            print(f"{broker.statistics().flows['frontend'].received} of {len(TOPICS)} messages reached the broker")


if __name__ == "__main__":
    main()
