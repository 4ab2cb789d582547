"""A peer of the demo, in a process of its own: `python -m pollbroker.cli.demo.peer ROLE NUMBER ENDPOINT [WORD...]`.

- A peer reads commands from stdin, one word on each line, and writes replies to stdout, one JSON object on each line.
- It writes `{}` once, when it is ready. It replies with its report to `stop` (send no more messages, but finish what
  was begun), to `report`, and to `end` (receive what still comes, until nothing comes). The command `go` lets a source
  begin and has no reply.
- It ends at the end of stdin. So it never outlives the process that started it.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

import zmq

from pollbroker.cli.demo.requesting import Client, Pipeliner, Worker
from pollbroker.cli.demo.role import Peer, SourceState
from pollbroker.cli.demo.stdin import StdinCommands
from pollbroker.cli.demo.streaming import Publisher, Puller, Pusher, Subscriber

_NICENESS: Final = 5
"""How much peers that send or receive as fast as they can lower their priority. Otherwise clients and workers, which
wait for each other's messages, would hardly get a processor."""


_ROLES: Final[Mapping[str, type[Peer]]] = {
    "client": Client,
    "pipeliner": Pipeliner,
    "worker": Worker,
    "publisher": Publisher,
    "subscriber": Subscriber,
    "pusher": Pusher,
    "puller": Puller,
}


def _say(fields: dict[str, object]) -> None:
    print(json.dumps(fields), flush=True)  # noqa: T201 - stdout is how a peer replies


def run_peer(peer: Peer) -> None:
    """Work as the role does, and carry out commands, until stdin ends."""

    carry_out: Mapping[str, Callable[[], None]] = {"stop": peer.finish, "report": lambda: None, "end": peer.drain}
    ready = False
    while True:
        for word in peer.commands.read():
            if word == "go":
                peer.state = SourceState.SENDING
            else:
                carry_out[word]()
                _say(peer.report().as_json())
        if ready:
            peer.work()
        elif peer.is_ready():
            ready = True
            _say({})
            if peer.is_greedy:
                os.nice(_NICENESS)  # only now, because it would start more slowly than the others


def main(role: str, number: str, endpoint: str, *words: str) -> None:
    """Run one peer."""
    with zmq.Context() as context:
        peer = _ROLES[role](context, StdinCommands(), role, int(number), words)
        with peer.socket:
            peer.socket.connect(endpoint)
            try:
                run_peer(peer)
            except (EOFError, BrokenPipeError):
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
