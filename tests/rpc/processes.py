"""A worker in a process of its own, to be killed and stopped: `python -m tests.rpc.processes KIND ADDRESS NAME`."""

import sys
from typing import Any

from pollbroker.rpc import MajordomoWorker, PirateWorker

HEARTBEAT_S = 0.5
"""Three of these are longer than a busy machine keeps a process waiting."""

FAST: Any = {"heartbeat_s": HEARTBEAT_S, "reconnect_s": 0.05, "reconnect_max_s": 0.1}


def main(kind: str, address: str, name: str) -> None:
    """Answer each request with this name; `hold` is answered when a line comes on standard input."""
    worker: PirateWorker | MajordomoWorker
    worker = PirateWorker(address, **FAST) if kind == "pirate" else MajordomoWorker(address, "echo", **FAST)

    def handle(frames: list[bytes]) -> list[bytes]:
        print("has", flush=True)
        if frames == [b"hold"]:
            sys.stdin.readline()
        return [name.encode()]

    with worker:
        worker.serve(handle, in_thread=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
