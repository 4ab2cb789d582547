"""What the tests of `pollbroker.devices` share: pyzmq's own devices beside ours, and devices that are ended by the
test."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import zmq
import zmq.devices

import pollbroker.devices
from tests.support.deadline import DEADLINE_S
from tests.support.threads import in_thread
from tests.support.types import Socket

MakeDevice: TypeAlias = Callable[..., Any]
"""`make_device("ThreadProxy", zmq.PULL, zmq.PUSH)`: the arguments are those of the class."""

BindDevice: TypeAlias = Callable[..., list[str]]
"""`bind_device(device, "in", "out")`: the addresses to which the device's sockets are going to be bound."""

LOCAL = "tcp://127.0.0.1"

PYZMQ = SimpleNamespace(
    device=zmq.device,
    proxy=zmq.proxy,
    proxy_steerable=zmq.proxy_steerable,
    **{name: getattr(zmq.devices, name) for name in zmq.devices.__all__},
)
OURS = pollbroker.devices


@pytest.fixture(params=[PYZMQ, OURS], ids=["pyzmq", "pollbroker"])
def module(request: pytest.FixtureRequest) -> Any:
    """What has the classes and functions: pyzmq, and pollbroker in its place."""
    return request.param


@pytest.fixture
def device_context() -> Iterator[zmq.Context[Socket]]:
    """The context of devices, which ends them at the end of the test: `term` returns since each closes its sockets."""
    context: zmq.Context[Socket] = zmq.Context()
    yield context
    in_thread(context.term).result(DEADLINE_S)


def make_devices(module: Any, context: zmq.Context[Socket]) -> Iterator[MakeDevice]:
    """Make devices of a module, which have ended at the end of the test."""
    made: list[Any] = []

    def make(kind: str, *args: Any, **kwargs: Any) -> Any:
        device = getattr(module, kind)(*args, **kwargs)
        for name in ("in", "out", "mon", "ctrl"):
            if hasattr(device, f"setsockopt_{name}") and getattr(device, f"{name}_type") is not None:
                getattr(device, f"setsockopt_{name}")(zmq.LINGER, 0)
        if not kind.startswith("Process"):
            device.context_factory = lambda: context
        made.append(device)
        return device

    yield make
    ended = in_thread(context.term)
    for device in made:
        launcher = getattr(device, "launcher", None)
        if launcher is not None:
            if hasattr(launcher, "kill"):
                launcher.kill()
            launcher.join(DEADLINE_S)
            assert not launcher.is_alive()
    ended.result(DEADLINE_S)


@pytest.fixture
def make_device(module: Any, device_context: zmq.Context[Socket]) -> Iterator[MakeDevice]:
    """Makes devices of each module in turn."""
    yield from make_devices(module, device_context)


@pytest.fixture
def make_ours(device_context: zmq.Context[Socket]) -> Iterator[MakeDevice]:
    """Makes devices of pollbroker."""
    yield from make_devices(OURS, device_context)


@pytest.fixture
def bind_device(tmp_path_factory: pytest.TempPathFactory) -> BindDevice:
    """Binds sockets of a device to addresses of their own. A random port of pyzmq's may be taken before it is bound."""
    directory = tmp_path_factory.mktemp("d")  # with a short name, since the path of a socket is limited
    numbers = itertools.count()

    def bind(device: Any, *names: str) -> list[str]:
        addresses = [f"ipc://{directory}/{next(numbers)}" for _ in names]
        for name, address in zip(names, addresses, strict=True):
            getattr(device, f"bind_{name}")(address)
        return addresses

    return bind
