"""easypubsub: ten of its proxies in a process, as `Proxy(...).launch()`."""

import sys
import tempfile

import zmq
from easypubsub.proxy import Proxy

from tests.migrations.traffic.measuring import (
    PAYLOAD,
    Peers,
    count_threads,
    cpu_percent,
    serve_until_end_of_input,
    server,
    tell,
    throughput,
)

PROXIES = 10


def addresses(directory: str, index: int) -> tuple[str, str]:
    """Where publishers and subscribers of a proxy connect."""
    return f"ipc://{directory}/{index}-publishers", f"ipc://{directory}/{index}-subscribers"


def serve(directory: str) -> None:
    """Launch the proxies."""
    proxies = [Proxy(*addresses(directory, index)) for index in range(PROXIES)]
    for proxy in proxies:
        proxy.launch()
    serve_until_end_of_input()


def launch_twice() -> str:
    """What `launch` does at an address that is in use."""
    with zmq.Context() as context, context.socket(zmq.PULL) as taken:
        port = taken.bind_to_random_port("tcp://127.0.0.1")
        proxy = Proxy(f"tcp://127.0.0.1:{port}", "inproc://subscribers")
        try:
            proxy.launch()
        except zmq.ZMQError as error:
            return f"raises {error.strerror.split(' (')[0]!r}"  # without the address
        finally:
            proxy._ctrl_socket.close()
        return "returns, without a proxy"


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as directory, server("easypubsub", directory) as process, Peers() as peers:
        figures: dict[str, float | str] = {
            f"threads of a process with {PROXIES} proxies": count_threads(process),
            "CPU while idle (%)": cpu_percent(process),
        }
        to_publish, to_subscribe = addresses(directory, 0)
        publisher = peers.connect(zmq.PUB, to_publish)
        subscriber = peers.connect(zmq.SUB, to_subscribe, subscribe=b"")
        peers.publish_until_received(publisher, subscriber)
        figures |= throughput(process, lambda: publisher.send(PAYLOAD), subscriber.recv)
        subscriber.close()
        for _ in range(1000):
            publisher.send(PAYLOAD)
        figures["CPU with the subscriber away (%)"] = cpu_percent(process)
    tell({**figures, "`launch` at an address in use": launch_twice()})


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:] else main()
