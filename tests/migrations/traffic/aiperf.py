"""aiperf: its `ProxyManager`, which runs three proxies in threads of asyncio's, over ipc."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import zmq
from aiperf.config.comm import ZMQIPCConfig
from aiperf.controller.proxy_manager import ProxyManager

from tests.migrations.traffic.measuring import (
    PAYLOAD,
    Peers,
    count_threads,
    cpu_percent,
    round_trips,
    send_until_full,
    serve_after_departure,
    serve_until_end_of_input,
    server,
    tell,
    throughput,
)


def manager(config: ZMQIPCConfig) -> Any:
    """The manager, given as much of a run as it asks for."""
    return ProxyManager(run=SimpleNamespace(cfg=SimpleNamespace(comm_config=config)))


async def serve(directory: str) -> None:
    """Start the proxies, and stop them at the end of the input; write down how long stopping took."""
    proxies = manager(ZMQIPCConfig(path=Path(directory)))
    await proxies.initialize()
    await proxies.start()
    await asyncio.to_thread(serve_until_end_of_input)
    begun_s = time.monotonic()
    await proxies.stop()
    print(time.monotonic() - begun_s, flush=True)


def main() -> None:
    """Measure: the PUSH/PULL proxy without its consumer, and the other way round."""
    with tempfile.TemporaryDirectory() as directory, server("aiperf", directory) as process, Peers() as peers:
        config = ZMQIPCConfig(path=Path(directory))
        figures: dict[str, float | str] = {
            "CPU while idle (%)": cpu_percent(process),
            "threads of a process with 3 proxies": count_threads(process),  # not before asyncio has begun them all
        }
        results, queue = config.raw_inference_proxy_config, config.dataset_manager_proxy_config
        sender = peers.connect(zmq.PUSH, results.frontend_address)
        receiver = peers.connect(zmq.PULL, results.backend_address)
        figures |= throughput(process, lambda: sender.send(PAYLOAD), receiver.recv)
        client = peers.connect(zmq.DEALER, queue.frontend_address)
        worker = peers.connect(zmq.DEALER, queue.backend_address)
        figures |= round_trips(process, client, worker)
        figures["a client after one that left"] = serve_after_departure(peers, queue.frontend_address, worker)
        receiver.close()
        send_until_full(sender, [PAYLOAD])
        figures["CPU with the consumer away (%)"] = cpu_percent(process)
        process.stdin.close()
        figures["seconds that `stop` takes, with the consumer away"] = float(process.stdout.readline())
    tell(figures)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2])) if sys.argv[1:] else main()
