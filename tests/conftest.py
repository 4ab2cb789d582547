"""The fixtures that all tests share: both pumps, both waiters, engines and sockets that are closed at the end."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from hypothesis import settings

from pollbroker import Engine, transports
from pollbroker.pump import Implementation, choose_implementation
from tests.support.bystander import Bystander
from tests.support.commands import VARIABLES
from tests.support.deadline import DEADLINE_MS
from tests.support.types import Connect, MakeEngine, Socket

# Whoever sets this variable (images of containers often do) has every process compile the package anew. The tests start
# hundreds of processes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A daemon would listen at the default endpoint there, beside those of other tests.
for _variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
    os.environ.pop(_variable, None)

if "CI" not in os.environ:  # there hypothesis has a profile of its own
    settings.register_profile("tests", deadline=None)  # a busy machine is no fault
    settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transport",
        choices=["libzmq", "wire"],
        default="libzmq",
        help="what serves a port that both could serve, where a test does not say which",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is about libzmq alone if the wire is to serve the ports."""
    for item in items:
        mark = item.get_closest_marker("libzmq")
        if mark is not None and config.getoption("--transport") == "wire":
            (reason,) = mark.args
            item.add_marker(pytest.mark.skip(reason=f"about libzmq: {reason}"))


@pytest.fixture(autouse=True)
def preferred_transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """What serves ports for which nothing was asked: the option `--transport`.

    It is set by a patch of its own: a test's `monkeypatch` has to be undone before the fixtures that look what is left.
    """
    name = request.config.getoption("--transport")
    assert isinstance(name, str)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transports, "AUTO_PREFERS", name)
        if name == "libzmq":
            patch.setitem(VARIABLES, "POLLBROKER_TRANSPORT", "libzmq")
        yield name


def pytest_collection_finish() -> None:
    """Take thousands of tests, which live to the end, out of the garbage collector's sight: many tests collect."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how a random order can be repeated; `-q` leaves out the header in which the plugin says so."""
    if config.getoption("random_order_enabled", False):
        seed = str(config.getoption("random_order_seed")).removeprefix("default:")
        terminalreporter.write_line(f"in random order: --random-order --random-order-seed={seed}")


@pytest.fixture(autouse=True)
def interrupts_are_heeded() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, in the test and in the processes that it starts.

    Under `nohup` and in a shell's background jobs it is ignored, and whatever is started from there inherits that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["native", "python"])
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Each pump in turn. A missing native pump is a failure: the test installation builds it."""
    return choose_implementation(request.param)


@pytest.fixture(params=["nested", "flat"])
def waiter(request: pytest.FixtureRequest) -> str:
    """Each waiter in turn."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    """A context whose sockets are all closed with linger 0 at the end of the test."""
    made: list[Socket] = []  # so that none is collected, unclosed, before its test ends

    class KeepingContext(zmq.Context[Socket]):
        def socket(self, *args: Any, **kwargs: Any) -> Socket:
            made.append(super().socket(*args, **kwargs))
            return made[-1]

    context = KeepingContext()
    yield context
    for socket in made:
        socket.close(linger=0)
    context.term()


@pytest.fixture
def connect(context: zmq.Context[Socket]) -> Connect:
    """Makes a peer: `connect(zmq.REQ, endpoint, rcvhwm=1)`. It waits no longer than the deadline, in any call."""

    def make(socket_type: int, *endpoints: str, **options: Any) -> Socket:
        socket = context.socket(socket_type)
        socket.linger = 0
        socket.sndtimeo = socket.rcvtimeo = DEADLINE_MS
        for name, value in options.items():
            setattr(socket, name, value)
        for endpoint in endpoints:
            socket.connect(endpoint)
        return socket

    return make


@pytest.fixture
def make_engine(
    implementation: Implementation,
    waiter: str,
    context: zmq.Context[Socket],
) -> Iterator[MakeEngine]:
    """Makes engines with each pump and each waiter; they are closed at the end of the test."""
    engines: list[Engine] = []

    def make(*args: Any, **kwargs: Any) -> Engine:
        engine = Engine(*args, **({"pump": implementation.name, "waiter": waiter} | kwargs))
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close(timeout_s=0)


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    """An engine that runs in a thread of its own."""
    engine = make_engine()
    engine.start()
    return engine


@pytest.fixture
def bystander(engine: Engine, connect: Connect) -> Iterator[Bystander]:
    """A broker that nothing may happen to. It is checked before the test and after it."""
    bystander = Bystander(engine, connect)
    yield bystander
    bystander.check()
