"""majortomo, an implementation of MDP 0.2 in Python."""

from pollbroker import MAJORDOMO
from pollbroker.rpc import MajordomoClient, MajordomoWorker
from tests.interop.guide import BROKER, CLIENTS, broker, serving, wait_for
from tests.interop.places import Place


def our_broker(place: Place) -> str:
    with broker(MAJORDOMO, frontend=CLIENTS) as ours:
        worker = place.code_there(
            "from majortomo import Worker\n"
            f"with Worker({BROKER!r}, 'echo') as worker:\n"
            "    print('started')\n"
            "    request = worker.wait_for_request()\n"
        )
        worker.wait_for("started")
        wait_for(ours, "ready")
    return ""


def their_broker(place: Place) -> str:
    place.module("majortomo.broker", "--bind-url", CLIENTS, "--verbose").wait_for("listening")
    with (
        serving(MajordomoWorker(BROKER, "echo", version=2)),
        MajordomoClient(BROKER, version=2, timeout_s=2.0) as client,
    ):
        assert client.request("echo", b"question") == [b"question"]
    return ""
