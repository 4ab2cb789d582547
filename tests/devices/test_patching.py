"""`patch` puts pollbroker's devices in pyzmq's place, and `unpatch` takes them out again."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
import zmq.devices

import pollbroker.devices
from pollbroker.devices import patch, unpatch
from tests.support.processes import run_apart

NAMES = [name for name in pollbroker.devices.__all__ if name not in ("patch", "unpatch")]
MODULES = ("zmq", "zmq.devices", "zmq.devices.basedevice", "zmq.devices.proxydevice", "zmq.devices.monitoredqueue")


def found() -> dict[tuple[str, str], Any]:
    """What pyzmq's modules have by the names that we have, too."""
    modules = [importlib.import_module(name) for name in MODULES]
    return {(one.__name__, name): getattr(one, name) for one in modules for name in NAMES if hasattr(one, name)}


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    """pyzmq is as it was at the end: the tests that come after use what libzmq has."""
    before = found()
    yield
    unpatch()
    assert found() == before


def test_patch_puts_every_name_in_its_place() -> None:
    before = found()
    assert {name for _, name in before} == set(NAMES)
    patch()
    assert {key: one for key, one in found().items() if one is not getattr(pollbroker.devices, key[1])} == {}
    unpatch()
    assert found() == before


def test_both_may_be_called_twice() -> None:
    before = found()
    for call in (patch, patch, unpatch, unpatch):
        call()
    assert found() == before


def test_what_somebody_else_has_replaced_since_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "proxy", zmq.proxy)  # puts it back at the end, whatever it is by then
    patch()
    monkeypatch.setattr(zmq, "proxy", print)
    unpatch()
    assert vars(zmq)["proxy"] is print
    patch()
    assert vars(zmq)["proxy"] is pollbroker.devices.proxy
    unpatch()
    assert vars(zmq)["proxy"] is print


def test_program_that_was_not_changed_runs_on_pollbroker() -> None:
    run_apart("""
        import pollbroker.devices
        pollbroker.devices.patch()

        import threading
        import zmq
        from zmq.devices import ThreadProxy
        from zmq.devices.monitoredqueuedevice import ThreadMonitoredQueue

        proxies = [ThreadProxy(zmq.ROUTER, zmq.DEALER), ThreadMonitoredQueue(zmq.ROUTER, zmq.DEALER)]
        for proxy in proxies:
            proxy.bind_in_to_random_port("tcp://127.0.0.1")
            proxy.start()
        assert [thread.name for thread in threading.enumerate()] == ["MainThread", "pollbroker-devices"]
        zmq.Context.instance().term()
        for proxy in proxies:
            proxy.join()
    """)
