"""The guide's programs: Majordomo, Titanic, Paranoid Pirate and the load balancer of chapters 3 and 4."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

from pollbroker import BALANCER, CLONE, MAJORDOMO, PARANOID_PIRATE, TITANIC, Broker, Device, Engine
from pollbroker.rpc import MajordomoClient, MajordomoWorker, PirateClient, PirateWorker, TitanicClient
from tests.interop.places import DEADLINE_S, Place, Program

Language: TypeAlias = Literal["python", "c"]

CLIENTS: Final = "tcp://*:5555"
WORKERS: Final = "tcp://*:5556"
BROKER: Final = "tcp://127.0.0.1:5555"
QUEUE_OF_WORKERS: Final = "tcp://127.0.0.1:5556"
"""The addresses that the programs have in them."""

MANY_S: Final = 400.0
"""How long 100,000 requests may take, of which the worker answers some hundred in a second on a busy machine."""


def start(place: Place, language: Language, name: str) -> Program:
    return place.guide(f"{name}.py") if language == "python" else place.guide_in_c(name)


@contextmanager
def broker(device: Device, **endpoints: Any) -> Iterator[Broker]:
    """One of our brokers, at the guide's ports."""
    with Engine() as engine:
        yield engine.add("broker", device, **(endpoints or {"frontend": CLIENTS}))
        engine.close(timeout_s=0)


def pirates() -> Any:
    return broker(PARANOID_PIRATE, frontend=CLIENTS, backend=WORKERS)


@contextmanager
def serving(worker: MajordomoWorker | PirateWorker) -> Iterator[None]:
    """One of our workers, which sends back what it is asked, in a thread."""
    with worker:
        thread = threading.Thread(target=lambda: worker.serve(lambda frames: frames), daemon=True)
        thread.start()
        try:
            yield
        finally:
            worker.stop()
            thread.join(DEADLINE_S)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Raises `AssertionError` if it does not come true before the deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def wait_for(broker: Broker, counter: str, least: int = 1) -> None:
    """Wait for a counter of one of our brokers."""
    wait_until(lambda: broker.statistics().counters.get(counter, 0) >= least, f"the broker has counted no {counter}")


def count_of(line: str) -> int:
    (number,) = re.findall(r"(\d+) requests/replies processed", line)
    return int(number)


# -- Majordomo ---------------------------------------------------------------------------------------------------------


def majordomo(place: Place, language: Language) -> str:
    """The client asks 100,000 times, and is interrupted."""
    with broker(MAJORDOMO) as ours:
        start(place, language, "mdworker")
        wait_for(ours, "ready")
        client = start(place, language, "mdclient")
        wait_until(lambda: ours.statistics().flows["behaviour"].sent > 1000, str(ours.statistics()))
        client.interrupt()
        count = count_of(client.wait_for("requests/replies processed"))
        assert count > 100
        assert "malformed" not in ours.statistics().counters
    return "requests are answered, one after the other"


def majordomo_many_at_once(place: Place) -> str:
    """The client sends 100,000 requests before it reads a reply."""
    with broker(MAJORDOMO.with_settings(max_requests=100_000, request_expiry_s=None)) as ours:
        place.guide("mdworker.py")
        wait_for(ours, "ready")
        count = count_of(place.guide("mdclient2.py").wait_for("requests/replies processed", deadline_s=MANY_S))
        statistics = ours.statistics()
        assert count == 100_000, f"{count} replies; {statistics}"
    return "100,000 requests that are sent at once are answered, if `max_requests` allows as many"


def management(place: Place, language: Language) -> str:
    with broker(MAJORDOMO) as ours:
        assert "404" in start(place, language, "mmiecho").wait_for("ookup")
        start(place, language, "mdworker")
        wait_for(ours, "ready")
        assert "200" in start(place, language, "mmiecho").wait_for("ookup")
    return "404 without a worker, 200 with one"


def majordomo_again(place: Place, language: Language) -> str:
    """A worker finds a broker again that knows nothing of it."""
    with broker(MAJORDOMO) as ours:
        start(place, language, "mdworker")
        wait_for(ours, "ready")
    with broker(MAJORDOMO) as ours:
        wait_for(ours, "ready")
        with MajordomoClient(BROKER) as client:
            assert client.request("echo", b"question") == [b"question"]
        told = ours.statistics().counters
    return "the worker is told DISCONNECT and registers again" if "unknown" in told else "the worker registers again"


def their_majordomo(place: Place, language: Language) -> str:
    start(place, language, "mdbroker").wait_for("is active")
    with serving(MajordomoWorker(BROKER, "echo")), MajordomoClient(BROKER, timeout_s=10.0) as client:
        for number in range(100):
            assert client.request("echo", b"%d" % number) == [b"%d" % number]
        assert client.has_service("echo")
        assert not client.has_service("nothing")
        time.sleep(9)  # longer than the broker waits for a heartbeat
        assert client.request("echo", b"still there") == [b"still there"]
    return "100 requests are answered, services are found, and heartbeats keep the worker registered"


# -- Titanic -----------------------------------------------------------------------------------------------------------


def titanic_client(place: Place, language: Language) -> str:
    with broker(TITANIC.with_settings(path=str(place.directory / "titanic.db"))) as ours:
        start(place, language, "mdworker")
        wait_for(ours, "ready")
        line = start(place, language, "ticlient").wait_for("(?i)reply: ")
        assert "Hello world" in line
        wait_for(ours, "replied")
    return "a request is stored, carried out, fetched and closed"


def titanic_server(place: Place, language: Language) -> str:
    with broker(MAJORDOMO) as ours:
        start(place, language, "titanic")
        wait_for(ours, "ready", 3)  # its three services
        with TitanicClient(BROKER) as client:
            uuid = client.submit("echo", b"question")
            assert client.fetch(uuid) is None
            start(place, language, "mdworker")
            wait_until(lambda: client.fetch(uuid) is not None, "there is no reply")
            assert client.fetch(uuid) == [b"question"]
            client.close_request(uuid)
    return "a request waits for its worker, and is fetched and closed"


# -- Paranoid Pirate ---------------------------------------------------------------------------------------------------


def pirate(place: Place, language: Language) -> str:
    """The workers crash now and then, so there are several; they answer one request in a second."""
    with pirates() as ours:
        for _ in range(3):
            start(place, language, "ppworker")
        wait_for(ours, "ready", 3)
        start(place, language, "lpclient").wait_for("(?i)server replied OK", 1 if language == "c" else 5)
        assert "malformed" not in ours.statistics().counters
    return "requests are answered"


def pirate_again(place: Place, language: Language) -> str:
    with pirates() as ours:
        worker = start(place, language, "ppworker")
        wait_for(ours, "ready")
        worker.wait_for("(?i)worker heartbeat", 2)
    with pirates() as ours:
        wait_for(ours, "ready")
        with PirateClient(BROKER) as client:
            assert client.request(b"question") == [b"question"]
    worker.wait_for("(?i)heartbeat failure")
    return "the worker misses our heartbeats, and begins again"


def their_pirate(place: Place, language: Language) -> str:
    start(place, language, "ppqueue")
    with serving(PirateWorker(QUEUE_OF_WORKERS)), PirateClient(BROKER, timeout_s=10.0) as client:
        for number in range(100):
            assert client.request(b"%d" % number) == [b"%d" % number]
        time.sleep(5)  # longer than the queue waits for a heartbeat
        assert client.request(b"still there") == [b"still there"]
    return "100 requests are answered, and heartbeats keep the worker known"


# -- load balancer -----------------------------------------------------------------------------------------------------


def load_balancer(place: Place) -> str:
    """The program has clients, workers and the broker in it; the first two are started without the third."""
    at = f"ipc://{place.directory}"
    with broker(BALANCER, frontend=f"{at}/frontend.ipc", backend=f"{at}/backend.ipc"):
        for number in range(3):
            place.code(f"import lbbroker; lbbroker.worker_task({number})")
        clients = [place.code(f"import lbbroker; lbbroker.client_task({number})") for number in range(10)]
        for client in clients:
            client.wait_for("OK")
    return "ten clients are answered by three workers"


# -- clone -------------------------------------------------------------------------------------------------------------


def clone(place: Place) -> str:
    """Two clients that share a map. Each sets one value."""
    ports = {"snapshot": "tcp://*:5556", "publisher": "tcp://*:5557", "collector": "tcp://*:5558"}
    with broker(CLONE, **ports):
        clients = [
            place.code(
                "import time, clone\n"
                "shared = clone.Clone()\n"
                "shared.subtree = b'/client/'\n"
                "shared.connect('tcp://localhost', 5556)\n"
                "time.sleep(1)\n"
                f"shared.set(b'/client/{name}', b'of {name}')\n"
                "time.sleep(600)\n"
            )
            for name in ("one", "another")
        ]
        for client in clients:
            client.wait_for("snapshot=")
            client.wait_for("update=2")
    return "the snapshot comes, and each client has the updates of both"
