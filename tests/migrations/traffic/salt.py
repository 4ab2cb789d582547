"""salt: the request server of a master, which runs a queue between minions and workers in a process of its own."""

import signal
import sys
import tempfile
from multiprocessing import Process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil
import salt.config
import zmq
from salt.transport.zeromq import RequestServer

from tests.migrations.traffic.measuring import (
    SERVING,
    Peers,
    count_threads,
    cpu_percent,
    free_ports,
    round_trips,
    seconds_to_end,
    send_until_full,
    serve_after_departure,
    server,
    tell,
)


class Processes:
    """Starts what a master would start by its process manager."""

    def __init__(self) -> None:
        self.started: list[Process] = []

    def add_process(self, target: Any, args: Any = (), kwargs: Any = None, name: str | None = None) -> None:
        """Start a process."""
        self.started.append(Process(target=target, args=args, kwargs=kwargs or {}, name=name))
        self.started[-1].start()


def serve(directory: str, port: str) -> None:
    """Start the queue, as `RequestServer` does before a master starts its workers, and wait for its end, or for
    that of the input."""
    path = Path(directory) / "master"
    path.write_text(f"root_dir: {directory}\n")
    here = {"sock_dir": directory, "interface": "127.0.0.1", "ret_port": port}
    processes = Processes()
    RequestServer({**salt.config.master_config(str(path)), **here}).pre_fork(processes)
    print(SERVING, flush=True)
    (queue,) = processes.started
    wait([queue.sentinel, sys.stdin.fileno()])
    queue.kill()
    queue.join()


def main() -> None:
    """Measure."""
    port = free_ports(1)[0]
    with tempfile.TemporaryDirectory() as directory, server("salt", directory, str(port)) as parent, Peers() as peers:
        (process,) = (psutil.Process(child.pid) for child in parent.children())
        minions = f"tcp://127.0.0.1:{port}"
        client = peers.connect(zmq.DEALER, minions)
        worker = peers.connect(zmq.DEALER, f"ipc://{directory}/workers.ipc")
        figures: dict[str, float | str] = {
            **round_trips(process, client, worker),
            "a client after one that left": serve_after_departure(peers, minions, worker),
            "threads": count_threads(process),
            "CPU while idle (%)": cpu_percent(process),
        }
        worker.close()
        send_until_full(client, [b"", b"a request"])
        figures["CPU with the workers away (%)"] = cpu_percent(process)
        figures["seconds from SIGTERM to the end, with the workers away"] = seconds_to_end(process, signal.SIGTERM)
    tell(figures)


if __name__ == "__main__":
    serve(*sys.argv[2:]) if sys.argv[1:] else main()
