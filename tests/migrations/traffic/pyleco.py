"""pyleco: the two proxies that its command `proxy_server` starts, one for data and one for log entries."""

import sys

import zmq
from pyleco.coordinators.proxy_server import port, start_proxy

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

OFFSET = 1000
"""So many pairs of ports away from those that a running pyleco would use."""


def serve() -> None:
    """Start the proxies."""
    context = zmq.Context()
    for offset in (OFFSET, OFFSET + 1):
        start_proxy(context, offset=offset)
    serve_until_end_of_input()


def main() -> None:
    """Measure."""
    with server("pyleco") as process, Peers() as peers:
        figures: dict[str, float | str] = {
            "threads of a process with 2 proxies": count_threads(process),
            "CPU while idle (%)": cpu_percent(process),
        }
        publisher = peers.connect(zmq.PUB, f"tcp://127.0.0.1:{port - 2 * OFFSET}")
        subscriber = peers.connect(zmq.SUB, f"tcp://127.0.0.1:{port - 2 * OFFSET - 1}", subscribe=b"")
        peers.publish_until_received(publisher, subscriber)
        figures |= throughput(process, lambda: publisher.send(PAYLOAD), subscriber.recv)
        subscriber.close()
        for _ in range(1000):
            publisher.send(PAYLOAD)
        figures["CPU with the subscriber away (%)"] = cpu_percent(process)
    tell(figures)


if __name__ == "__main__":
    serve() if sys.argv[1:] else main()
