"""A peer of the demo, in a process of its own: `python -m pollbroker.cli.demo.peer ROLE NUMBER ENDPOINT [WORD...]`.

- It is told one word a line on stdin, and says one JSON object a line on stdout.
- It says `{}` once, when it is ready; and its report each time that it is told `stop` (make no more messages, and
  finish what was begun), `report`, or `end` (take what is still coming, until nothing comes). `go` starts a source.
- At the end of stdin it ends: it never outlives whoever started it.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Final

import zmq

from pollbroker.cli.demo.orders import Orders
from pollbroker.cli.demo.roles import ROLES, Peer, Stage

_NICENESS: Final = 5
"""Of those that send and take as fast as they can: else those that wait for each other get no turn of a processor."""


def _say(fields: dict[str, object]) -> None:
    print(json.dumps(fields), flush=True)  # noqa: T201 - this is what its starter listens to


def run_peer(peer: Peer) -> None:
    """Do what the role does, and what is ordered, until stdin ends."""

    carry_out: Mapping[str, Callable[[], None]] = {"stop": peer.finish, "report": lambda: None, "end": peer.drain}
    ready = False
    while True:
        for word in peer.orders.read():
            if word == "go":
                peer.stage = Stage.GOING
            else:
                carry_out[word]()
                _say(peer.report().as_json())
        if ready:
            peer.work()
        elif peer.is_ready():
            ready = True
            _say({})
            if peer.is_greedy:
                os.nice(_NICENESS)  # not before: it would start last


def main(role: str, number: str, endpoint: str, *words: str) -> None:
    """Run one peer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it
    with zmq.Context() as context:
        peer = ROLES[role](context, Orders(), role, int(number), words)
        with peer.socket:
            peer.socket.connect(endpoint)
            try:
                run_peer(peer)
            except (EOFError, BrokenPipeError):
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
