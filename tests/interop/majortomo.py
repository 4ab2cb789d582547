"""majortomo, an implementation of MDP 0.2 in Python."""

from typing import Final

from pollbroker import MAJORDOMO
from pollbroker.rpc import MajordomoClient, MajordomoWorker
from tests.interop.guide import BROKER, CLIENTS, broker, serving, wait_for
from tests.interop.places import Place

WHY_NOT: Final = "its messages begin with an empty frame, as in MDP 0.1; RFC 18 has taken that out of MDP 0.2"


def our_broker(place: Place) -> str:
    """A worker registers."""
    with broker(MAJORDOMO, frontend=CLIENTS) as ours:
        worker = place.code_there(
            f"from majortomo import Worker\n"
            f"with Worker({BROKER!r}, 'echo') as worker:\n"
            f"    print('started')\n"
            f"    worker.wait_for_request()\n"
        )
        worker.wait_for("started")
        wait_for(ours, "malformed")
        assert "ready" in ours.statistics().counters, WHY_NOT
    return "a worker registers"


def their_broker(place: Place) -> str:
    place.module("majortomo.broker", "--bind-url", CLIENTS, "--verbose").wait_for("listening")
    with (
        serving(MajordomoWorker(BROKER, "echo", version=2)),
        MajordomoClient(BROKER, version=2, timeout_s=2.0) as client,
    ):
        assert client.request("echo", b"question") == [b"question"]
    return "a request is answered"
