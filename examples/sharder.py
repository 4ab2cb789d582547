"""Accounts in three shards: whoever asks for an account comes to the shard that has it.

Each shard is a worker with a dictionary of its own. The sharder finds it by the frame that has the account's name. The
third shard begins late: its requests wait for it, and the others do not. docs/patterns/sharder.md explains the
settings."""

import threading
import time

import zmq

from pollbroker import Engine, sharder

SHARDS = ("red", "green", "blue")
ACCOUNTS = {b"Ada": "red", b"Cleo": "green", b"Emil": "green", b"Gina": "blue", b"Hugo": "red", b"Iris": "blue"}
"""Each account, and the shard that has it, as the hashes of their names decide."""


def keep_accounts(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, shard: str) -> None:
    amounts: dict[bytes, int] = {}
    with context.socket(zmq.REP) as worker:
        worker.connect(endpoint)
        while True:
            try:
                account, change = worker.recv_multipart()
            except zmq.ContextTerminated:
                return
            amounts[account] = amounts.get(account, 0) + int(change)
            worker.send_multipart([account, b"%d" % amounts[account], shard.encode()])


def print_answers(client: zmq.Socket[bytes], count: int) -> None:
    answers = [client.recv_multipart()[1:] for _ in range(count)]
    for account, amount, shard in sorted(answers):
        print(f"{account.decode()} has {amount.decode()}, says {shard.decode()}")


def main() -> None:
    device = sharder(SHARDS, key_frame=2)  # behind the client's routing id and the empty frame
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with Engine() as engine:
        anywhere = "tcp://127.0.0.1:*"
        broker = engine.add("accounts", device, frontend=anywhere, red=anywhere, green=anywhere, blue=anywhere)

        def begin(shard: str) -> None:
            arguments = (context, broker.ports[shard].endpoint, shard)
            threading.Thread(target=keep_accounts, args=arguments).start()

        for shard in SHARDS[:2]:
            begin(shard)
        with context.socket(zmq.DEALER) as client:
            client.connect(broker.ports["frontend"].endpoint)
            for account in ACCOUNTS:
                client.send_multipart([b"", account, b"10"])
            late = list(ACCOUNTS.values()).count(SHARDS[2])
            print_answers(client, len(ACCOUNTS) - late)
            while (held := broker.statistics().flows["behaviour"].held) != late:
                time.sleep(0.01)  # until the others have come to the broker
            print(f"{held} requests wait for {SHARDS[2]}")
            begin(SHARDS[2])
            print_answers(client, late)
        context.term()  # wakes the workers, and waits until they have closed their sockets


if __name__ == "__main__":
    main()
