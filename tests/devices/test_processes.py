"""Devices in processes: what is better than in pyzmq. Each process is killed at the end of its test."""

import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from pollbroker import EngineError
from pollbroker.devices import ProcessDevice
from tests.devices.conftest import LOCAL, MakeDevice
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.types import Connect

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def start_streamer(make_ours: MakeDevice, method: str = "fork") -> tuple[ProcessDevice, str, str]:
    """Start a process with a device from a PULL to a PUSH socket; the device, and the addresses of the two."""
    device = make_ours("ProcessDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device._launch_class = multiprocessing.get_context(method).Process  # type: ignore[attr-defined]
    source, sink = device.bind_in_to_random_port(LOCAL), device.bind_out_to_random_port(LOCAL)
    device.start()
    return device, f"{LOCAL}:{source}", f"{LOCAL}:{sink}"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_works_however_it_is_started(make_ours: MakeDevice, connect: Connect, method: str) -> None:
    device, source, sink = start_streamer(make_ours, method)
    connect(zmq.PUSH, source).send(b"passes")
    assert connect(zmq.PULL, sink).recv() == b"passes"
    flow = device.statistics().flows["frontend"]
    assert (flow.received, flow.sent) == (1, 1)


def test_start_raises_what_is_wrong_with_an_address(make_ours: MakeDevice, connect: Connect) -> None:
    device = make_ours("ProcessDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device.bind_in(bind(connect(zmq.PULL)))
    with pytest.raises(zmq.ZMQError, match="Address already in use") as raised:
        device.start()
    assert raised.value.errno == zmq.EADDRINUSE
    (note,) = raised.value.__notes__
    assert "_setup_sockets" in note  # the traceback of the process
    assert device.done
    assert device.launcher.exitcode == 1


class Misconfigured(Exception):
    """An exception that pickle takes, and cannot make again: `__init__` takes two arguments, and is given one."""

    def __init__(self, section: str, key: str) -> None:
        super().__init__(f"{section}: {key} is missing")


class Unsendable(Exception):
    """An exception that pickle does not take."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("cannot be pickled")


def raise_misconfigured() -> Any:
    """A context factory that fails."""
    raise Misconfigured("broker", "port")


def raise_unsendable() -> Any:
    """Another one."""
    raise Unsendable("of its own kind")


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("fail", "text"),
    [
        (raise_misconfigured, "Misconfigured: broker: port is missing"),
        (raise_unsendable, "Unsendable: of its own kind"),
    ],
)
def test_start_tells_of_an_exception_that_cannot_be_sent(
    fail: Callable[[], Any], text: str, method: str, make_ours: MakeDevice
) -> None:
    device = make_ours("ProcessDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device._launch_class = multiprocessing.get_context(method).Process  # type: ignore[attr-defined]
    device.context_factory = fail
    with pytest.raises(EngineError, match=f"(?m)^the device's process was ended by {text}$") as raised:
        device.start()
    (note,) = raised.value.__notes__
    assert fail.__name__ in note  # it is in the traceback
    assert device.launcher.exitcode == 1  # start has waited for its end


def test_start_says_that_the_process_has_ended(make_ours: MakeDevice) -> None:
    device = make_ours("ProcessDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device._launch_class = multiprocessing.get_context("fork").Process  # a lambda cannot be sent to another process
    device.context_factory = lambda: exit(3)
    with pytest.raises(EngineError, match="ended with exit code 3 before its sockets were open"):
        device.start()


def test_stop_ends_the_process_and_sends_what_it_holds(make_ours: MakeDevice, connect: Connect) -> None:
    device, source, sink = start_streamer(make_ours)
    connect(zmq.PUSH, source).send(b"held")
    wait_until(lambda: device.statistics().flows["frontend"].held)
    stopped = in_thread(lambda: device.stop(timeout_s=DEADLINE_S))
    assert connect(zmq.PULL, sink).recv() == b"held"
    stopped.result(DEADLINE_S)
    assert device.done
    assert device.launcher.exitcode == 0
    for _ in range(2):
        assert device.statistics().state == "removed"
        assert device.statistics().flows["frontend"].sent == 1
    device.stop()


def test_killed_process_has_no_statistics(make_ours: MakeDevice) -> None:
    device, *_ = start_streamer(make_ours)
    device.launcher.kill()
    device.join(DEADLINE_S)
    assert device.done
    with pytest.raises(EngineError, match="its process was killed"):
        device.statistics()
    device.stop()


def test_command_ends_the_process(make_ours: MakeDevice, connect: Connect) -> None:
    proxy = make_ours("ProcessProxySteerable", zmq.PULL, zmq.PUSH, ctrl_type=zmq.REP)
    control = proxy.bind_ctrl_to_random_port(LOCAL)
    proxy.start()
    client = connect(zmq.REQ, f"{LOCAL}:{control}")
    client.send(b"TERMINATE")
    assert client.recv() == b""
    proxy.join(DEADLINE_S)
    assert proxy.launcher.exitcode == 0


def test_prefixes_reach_the_process(make_ours: MakeDevice, connect: Connect) -> None:
    queue = make_ours("ProcessMonitoredQueue", zmq.PULL, zmq.PUSH, zmq.PUSH, in_prefix=b"from in")
    source, sink, monitor = (getattr(queue, f"bind_{name}_to_random_port")(LOCAL) for name in ("in", "out", "mon"))
    queue.start()
    connect(zmq.PUSH, f"{LOCAL}:{source}").send(b"message")
    assert connect(zmq.PULL, f"{LOCAL}:{sink}").recv() == b"message"
    assert connect(zmq.PULL, f"{LOCAL}:{monitor}").recv_multipart() == [b"from in", b"message"]


def test_running_process_cannot_be_started(make_ours: MakeDevice) -> None:
    device, *_ = start_streamer(make_ours)
    with pytest.raises(EngineError, match="running already"):
        device.start()


def test_device_that_has_not_run_has_no_statistics(make_ours: MakeDevice) -> None:
    with pytest.raises(EngineError, match="has not run yet"):
        make_ours("ProcessDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH).statistics()


def test_parent_gives_up_the_random_ports_that_the_process_has(make_ours: MakeDevice, connect: Connect) -> None:
    device, source, _ = start_streamer(make_ours)
    device.stop()

    def is_free() -> bool:
        try:
            connect(zmq.PULL).bind(source)
        except zmq.ZMQError:
            return False
        return True

    wait_until(is_free)


def test_device_can_be_pickled_before_it_starts() -> None:
    device = ProcessDevice(zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
    device.bind_in("tcp://127.0.0.1:5559")
    copy = pickle.loads(pickle.dumps(device))
    assert (copy.in_type, copy.out_type, copy.done, copy.launcher) == (zmq.ROUTER, zmq.DEALER, False, None)
    assert copy._in.binds == ["tcp://127.0.0.1:5559"]
