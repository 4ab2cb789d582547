"""bluesky: its command `bluesky-0MQ-proxy`, which runs a device in the main thread until Ctrl-C."""

import signal
import threading

import zmq

from tests.migrations.traffic.measuring import (
    PAYLOAD,
    Peers,
    Socket,
    count_threads,
    cpu_percent,
    free_ports,
    running,
    seconds_to_end,
    tell,
    throughput,
)


def flood(publisher: Socket, ended: threading.Event) -> None:
    """Publish until the event, faster than the proxy can pass it on."""
    while not ended.is_set():
        publisher.send(PAYLOAD)


def main() -> None:
    """Measure."""
    to_publish, to_subscribe = (f"127.0.0.1:{port}" for port in free_ports(2))
    command = ("bluesky-0MQ-proxy", "--in-address", to_publish, "--out-address", to_subscribe)
    with running(*command, ready="Use Ctrl+C") as process, Peers() as peers:
        figures: dict[str, float | str] = {
            "threads": count_threads(process),
            "CPU while idle (%)": cpu_percent(process),
        }
        publisher = peers.connect(zmq.PUB, f"tcp://{to_publish}")
        subscriber = peers.connect(zmq.SUB, f"tcp://{to_subscribe}", subscribe=b"")
        peers.publish_until_received(publisher, subscriber)
        figures |= throughput(process, lambda: publisher.send(PAYLOAD), subscriber.recv)
        subscriber.close()
        for _ in range(1000):
            publisher.send(PAYLOAD)
        figures["CPU with the subscriber away (%)"] = cpu_percent(process)
        ended = threading.Event()
        flooding = threading.Thread(target=flood, args=(publisher, ended))
        flooding.start()
        figures["CPU while a publisher floods it (%)"] = cpu_percent(process)
        figures["seconds from Ctrl-C to the end, while flooded"] = seconds_to_end(process, signal.SIGINT)
        ended.set()
        flooding.join()
    tell(figures)


if __name__ == "__main__":
    main()
