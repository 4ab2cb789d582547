"""zprocess: a `HeartbeatServer`, which sends each message back, and its command `zprocess.cryptoproxy`."""

import signal
import sys
import tempfile
from pathlib import Path

import zmq
from zprocess.process_tree import HeartbeatServer
from zprocess.security import SecureContext, generate_shared_secret

from tests.migrations.traffic.measuring import (
    PAYLOAD,
    Peers,
    count_threads,
    cpu_percent,
    free_ports,
    round_trips,
    running,
    seconds_to_end,
    send_until_full,
    serve_after_departure,
    serve_until_end_of_input,
    server,
    tell,
)


def serve(directory: str) -> None:
    """Start a heartbeat server, and write down its port."""
    heartbeats = HeartbeatServer("tcp://127.0.0.1")
    (Path(directory) / "port").write_text(str(heartbeats.port))
    serve_until_end_of_input()


def measure_heartbeats(directory: str) -> dict[str, float | str]:
    """Measure the heartbeat server."""
    with server("zprocess", directory) as process, Peers() as peers:
        figures: dict[str, float | str] = {
            "heartbeats: threads": count_threads(process),
            "heartbeats: CPU while idle (%)": cpu_percent(process),
        }
        address = f"tcp://127.0.0.1:{(Path(directory) / 'port').read_text()}"
        leaving = peers.connect(zmq.REQ, address)
        leaving.send(PAYLOAD)
        leaving.close()
        client = peers.connect(zmq.REQ, address)
        client.send(PAYLOAD)
        answered = client.recv() == PAYLOAD
        return {**figures, "heartbeats: a client after one that left": "is served" if answered else "is not served"}


def measure_cryptoproxy(directory: str) -> dict[str, float | str]:
    """Measure the cryptoproxy, first without the server that it passes requests on to."""
    secret = generate_shared_secret()
    (Path(directory) / "secret").write_text(secret)
    port, server_port = free_ports(2)
    command = ("zprocess.cryptoproxy", "127.0.0.1", str(server_port), f"{directory}/secret", "-p", str(port))
    address = f"tcp://127.0.0.1:{port}"
    with running(sys.executable, "-m", *command) as process, Peers() as peers:
        client = peers.connect(zmq.DEALER, address)
        send_until_full(client, [b"", PAYLOAD])
        figures: dict[str, float | str] = {"cryptoproxy: CPU with the server away (%)": cpu_percent(process)}
        client.close()
        worker = SecureContext(shared_secret=secret).socket(zmq.DEALER)
        worker.bind(f"tcp://127.0.0.1:{server_port}")
        while worker.poll(500):
            worker.recv_multipart()
        client = peers.connect(zmq.DEALER, address)
        figures |= {f"cryptoproxy: {name}": figure for name, figure in round_trips(process, client, worker).items()}
        figures["cryptoproxy: a client after one that left"] = serve_after_departure(peers, address, worker)
        worker.close(linger=0)
        send_until_full(client, [b"", PAYLOAD])
        ended = seconds_to_end(process, signal.SIGTERM)
        return {**figures, "cryptoproxy: seconds from SIGTERM to the end, with the server away": ended}


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as directory:
        tell({**measure_heartbeats(directory), **measure_cryptoproxy(directory)})


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:] else main()
