"""`patch` puts pollbroker's devices in pyzmq's place, and `unpatch` takes them out again."""

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.devices

import pollbroker.devices
from pollbroker.devices import patch, patched_environment, unpatch
from tests.support.deadline import DEADLINE_S
from tests.support.processes import run_apart

NAMES = [name for name in pollbroker.devices.__all__ if "patch" not in name]
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


def test_device_is_an_instance_of_its_patched_bases() -> None:
    run_apart("""
        import pollbroker.devices
        pollbroker.devices.patch()

        import zmq
        from zmq.devices.basedevice import BackgroundDevice, Device, ThreadDevice
        from zmq.devices.monitoredqueuedevice import MonitoredQueueBase, ThreadMonitoredQueue
        from zmq.devices.proxydevice import ProxyBase
        from zmq.devices.proxysteerabledevice import ProxySteerableBase, ThreadProxySteerable

        queue = ThreadMonitoredQueue(zmq.ROUTER, zmq.DEALER)
        assert all(isinstance(queue, kind) for kind in (Device, BackgroundDevice, ProxyBase, MonitoredQueueBase))
        assert isinstance(ThreadProxySteerable(zmq.PULL, zmq.PUSH), ProxySteerableBase)

        class Own(ProxyBase, ThreadDevice):
            pass

        own = Own(zmq.PULL, zmq.PUSH)
        own.bind_in_to_random_port("tcp://127.0.0.1")
        own.start()
        assert own.launcher.name == "pollbroker-devices"
        own.stop()
    """)


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


def test_device_of_zmq_green_is_replaced_where_gevent_is_used() -> None:
    told = run_apart("""
        import gevent
        import zmq
        from pollbroker.devices import green, patch, unpatch

        patch()
        import zmq.green
        from zmq.green.device import device
        assert device is zmq.green.device is green.device
        assert zmq.green.proxy is zmq.proxy
        unpatch()
        for name in ("device", "proxy", "proxy_steerable"):
            assert getattr(zmq.green, name).__module__.startswith("zmq."), name
        patch()
        assert zmq.green.device is green.device

        context = zmq.green.Context()
        source, sink = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (source, sink)]
        running = gevent.spawn(zmq.green.device, zmq.STREAMER, source, sink)
        pusher, puller = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        pusher.connect(f"tcp://127.0.0.1:{ports[0]}")
        puller.connect(f"tcp://127.0.0.1:{ports[1]}")
        pusher.send(b"passes")
        print(puller.recv().decode())
        running.kill()
        context.destroy(linger=0)
    """)
    assert told == "passes\n"


def test_program_without_gevent_does_not_import_it() -> None:
    told = run_apart("""
        import sys
        from pollbroker.devices import patch

        patch()
        print([name for name in ("gevent", "zmq.green") if name in sys.modules])
        import gevent
        patch()
        import zmq.green
        print(zmq.green.device.__module__)
    """)
    assert told.splitlines() == ["[]", "pollbroker.devices.green"]


def patched_run(*command: str, **more: str) -> str:
    """What a command prints in the patched environment, with more variables."""
    run = subprocess.run(
        command, env={**patched_environment(), **more}, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def test_processes_of_a_patched_environment_run_on_pollbroker() -> None:
    child = "import zmq.devices; print(zmq.proxy.__module__, zmq.devices.ThreadProxy.__module__)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    patched = f"{pollbroker.devices.proxy.__module__} {pollbroker.devices.ThreadProxy.__module__}\n"
    assert patched_run(sys.executable, "-c", child) == patched
    assert patched_run(sys.executable, "-c", parent) == patched


def test_processes_that_multiprocessing_spawns_are_patched() -> None:
    """Such a process imports the program's module again, and not what the parent ran before it."""
    script = """
        import multiprocessing, zmq
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(eval, ("__import__('zmq').proxy.__module__",)))
    """
    assert patched_run(sys.executable, "-c", textwrap.dedent(script)) == f"{pollbroker.devices.proxy.__module__}\n"


def test_patched_environment_keeps_the_path_and_the_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/one:/two")
    monkeypatch.setenv("UNRELATED", "kept")
    environment = patched_environment()
    assert environment["PYTHONPATH"].split(":")[1:] == ["/one", "/two"]
    assert environment["UNRELATED"] == "kept"
    monkeypatch.setenv("PYTHONPATH", "")
    assert ":" not in patched_environment()["PYTHONPATH"]  # an empty entry would be the working directory


def test_sitecustomize_of_the_program_is_imported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.customized = True")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = "import zmq, sitecustomize; print(customized, zmq.proxy.__module__, sitecustomize.__file__)"
    assert patched_run(sys.executable, "-c", script).split() == [
        *("True", pollbroker.devices.proxy.__module__, str(tmp_path / "sitecustomize.py")),
    ]


def test_error_in_the_sitecustomize_of_the_program_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import nothing_of_this_name")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-c", ""], env=patched_environment(), capture_output=True, text=True, timeout=100, check=True
    )
    assert "nothing_of_this_name" in run.stderr
