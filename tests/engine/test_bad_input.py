"""Bad input, from the caller and from peers: each with a clear error, and nothing else is disturbed by it."""

import logging
import math
import random
import re
import shutil
import socket as net
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import (
    FORWARDER,
    QUEUE,
    STREAMER,
    Broker,
    ConfigError,
    Device,
    EndpointError,
    Engine,
    EngineError,
    Route,
)
from pollbroker.broker import working_broker
from pollbroker.statistics import FlowStatistics
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Connect, MakeEngine, Socket

ANY = "tcp://127.0.0.1:*"


class Bystander:
    """A broker in the same engine that nothing may happen to."""

    def __init__(self, engine: Engine, connect: Connect) -> None:
        self._engine = engine
        self._broker = engine.add("bystander", STREAMER, frontend=ANY, backend=ANY)
        self._push = connect(zmq.PUSH, endpoint(self._broker.frontend), sndhwm=0)
        self._pull = connect(zmq.PULL, endpoint(self._broker.backend), rcvhwm=0)
        self._sent = 0
        self.check()

    def send(self, count: int) -> None:
        for number in range(self._sent, self._sent + count):
            self._push.send_multipart([b"%d" % number, b"", b"x"])
        self._sent += count

    def check(self) -> None:
        """Its traffic passes, whole and in order, and its account balances."""
        expected = self._engine.statistics().brokers["bystander"].flows["frontend"].sent
        self.send(50)
        taken = [self._pull.recv_multipart() for _ in range(self._sent - self.received)]
        assert taken == [[b"%d" % number, b"", b"x"] for number in range(self.received, self._sent)]
        self.received = self._sent
        assert expected <= self._sent
        assert self._broker.state == "running"
        assert self._broker.error is None
        flow = self._engine.statistics().brokers["bystander"].flows["frontend"]
        assert (flow.received, flow.sent, flow.held, flow.dropped) == (self._sent, self._sent, 0, 0)

    received = 0


def endpoint(port: Any) -> str:
    """The one real address of a port."""
    (address,) = port.endpoints
    assert isinstance(address, str)
    return address


def balanced(flow: FlowStatistics) -> bool:
    """The promise: received + added == sent + held + dropped."""
    return flow.received + flow.added == flow.sent + flow.held + flow.dropped


def flow_of(engine: Engine, name: str, source: str = "frontend") -> FlowStatistics:
    return engine.statistics().brokers[name].flows[source]


@pytest.fixture
def bystander(engine: Engine, connect: Connect) -> Iterator[Bystander]:
    """Checked before the test and after it."""
    bystander = Bystander(engine, connect)
    yield bystander
    bystander.check()


def run_apart(script: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What a script prints that runs, and ends well, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True, text=True, timeout=100, check=False, env=env,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


# -- what the caller does wrong ---------------------------------------------------------------------------------------


def test_closed_socket_cannot_be_registered(engine: Engine, bystander: Bystander, connect: Connect) -> None:
    opened, closed = connect(zmq.PULL), connect(zmq.PUSH)
    closed.close()
    with pytest.raises(EngineError, match=r"^brokers\.a\.backend: the socket is closed; expected an open one"):
        engine.register(opened, closed, STREAMER, name="a")
    with pytest.raises(EngineError, match=r"^brokers\.a\.capture: the socket is closed; expected an open one"):
        engine.register(opened, connect(zmq.PUSH), STREAMER, name="a", capture=closed)
    assert list(engine.brokers) == ["bystander"]
    engine.register(opened, connect(zmq.PUSH), STREAMER, name="a")


BOTH_WAYS = Device("both-ways", zmq.DEALER, zmq.DEALER, (Route("frontend", "backend"), Route("backend", "frontend")))


def test_socket_cannot_be_registered_twice(engine: Engine, bystander: Bystander, connect: Connect) -> None:
    pull, push, capture, third = connect(zmq.PULL), connect(zmq.PUSH), connect(zmq.PUSH), connect(zmq.PUSH)
    engine.register(pull, push, STREAMER, name="first", capture=capture)
    with pytest.raises(EngineError, match=r"^brokers\.a\.frontend: .*registered already, as brokers\.first\.frontend"):
        engine.register(pull, third, STREAMER, name="a")
    with pytest.raises(EngineError, match=r"^brokers\.a\.backend: .*registered already, as brokers\.first\.backend"):
        engine.register(connect(zmq.PULL), push, STREAMER, name="a")
    with pytest.raises(EngineError, match=r"^brokers\.a\.capture: .*registered already, as brokers\.first\.backend"):
        engine.register(connect(zmq.PULL), third, STREAMER, name="a", capture=push)
    with pytest.raises(EngineError, match=r"^brokers\.a\.backend: .*registered already, as brokers\.first\.capture"):
        engine.register(connect(zmq.PULL), capture, STREAMER, name="a")
    assert list(engine.brokers) == ["bystander", "first"]
    engine.remove("first")
    engine.register(pull, capture, STREAMER, name="a", capture=push)


def test_socket_cannot_stand_at_two_ports_of_a_broker(engine: Engine, bystander: Bystander, connect: Connect) -> None:
    dealer, pull, push = connect(zmq.DEALER), connect(zmq.PULL), connect(zmq.PUSH)
    with pytest.raises(EngineError, match=r"^brokers\.a\.\w+: the socket is registered twice here"):
        engine.register(dealer, dealer, BOTH_WAYS, name="a")
    with pytest.raises(EngineError, match=r"^brokers\.a\.\w+: the socket is registered twice here"):
        engine.register(pull, push, STREAMER, name="a", capture=push)
    with pytest.raises(EngineError, match=r"^brokers\.a\.\w+: the socket is registered twice here"):
        engine.register(dealer, zmq.Socket.shadow(dealer.underlying), BOTH_WAYS, name="a")
    assert list(engine.brokers) == ["bystander"]
    engine.register(pull, push, STREAMER, name="a")


def test_socket_that_the_engine_opened_cannot_be_registered(
    engine: Engine, bystander: Bystander, connect: Connect
) -> None:
    own = engine.add("own", STREAMER, frontend=ANY, backend=ANY)
    with pytest.raises(EngineError, match=r"^brokers\.a\.frontend: .*registered already, as brokers\.own\.frontend"):
        engine.register(working_broker(own).frontend.socket, connect(zmq.PUSH), STREAMER, name="a")
    push, pull = connect(zmq.PUSH, endpoint(own.frontend)), connect(zmq.PULL, endpoint(own.backend))
    push.send(b"passes")
    assert pull.recv() == b"passes"


@pytest.mark.parametrize("removed", [True, False])
def test_closed_sockets_address_may_be_used_again(
    engine: Engine, bystander: Bystander, context: zmq.Context[Socket], removed: bool
) -> None:
    lent = [context.socket(zmq.PULL) for _ in range(20)]
    for number, source in enumerate(lent):
        engine.register(source, context.socket(zmq.PUSH), STREAMER, name=f"old-{number}")
        if removed:
            engine.remove(f"old-{number}")
    addresses = {socket.underlying for socket in lent}
    for socket in lent:
        socket.close(linger=0)
    # Memory is given out again as it pleases: most of these sockets, as a rule, have the address of one before.
    fresh = [context.socket(zmq.PULL) for _ in range(60)]
    for number, source in enumerate(sorted(fresh, key=lambda socket: socket.underlying not in addresses)[:20]):
        broker = engine.register(source, context.socket(zmq.PUSH), STREAMER, name=f"new-{number}")
        assert broker.state == "running"
    bystander.check()


def test_name_cannot_be_given_twice(engine: Engine, bystander: Bystander, connect: Connect) -> None:
    expected = r"^brokers\.bystander: the name is taken"
    for _ in range(2):  # and nothing is left open or registered by the first attempt
        with pytest.raises(EngineError, match=expected):
            engine.add("bystander", STREAMER, frontend="inproc://f", backend="inproc://b")
    pull, push = connect(zmq.PULL), connect(zmq.PUSH)
    with pytest.raises(EngineError, match=expected):
        engine.register(pull, push, STREAMER, name="bystander")
    engine.register(pull, push, STREAMER, name="other")
    engine.add("third", STREAMER, frontend="inproc://f", backend="inproc://b")


@pytest.mark.parametrize("name", ["", None, 5, b"orders", "a\nb", "\0", "\ud800", ["a"]])
def test_name_must_be_printable(engine: Engine, connect: Connect, name: Any) -> None:
    with pytest.raises(EngineError, match="cannot name a broker; expected a non-empty, printable string"):
        engine.add(name, STREAMER, frontend="inproc://f", backend="inproc://b")
    if name is not None:
        with pytest.raises(EngineError, match="cannot name a broker"):
            engine.register(connect(zmq.PULL), connect(zmq.PUSH), STREAMER, name=name)
    assert not engine.brokers


@pytest.mark.parametrize("call", [Engine.pause, Engine.resume, Engine.remove])
@pytest.mark.parametrize("name", ["orders", "", None, 5, b"bystander"])
def test_unknown_name_is_told(
    engine: Engine, bystander: Bystander, call: Callable[[Engine, Any], object], name: Any
) -> None:
    with pytest.raises(EngineError, match=rf"^no broker is named {re.escape(repr(name))}; there are: bystander"):
        call(engine, name)


@pytest.mark.parametrize("transport", ["tcp", "ipc", "inproc"])
def test_address_in_use_is_told_and_nothing_is_left(
    engine: Engine, bystander: Bystander, context: zmq.Context[Socket], tmp_path: Path, transport: str
) -> None:
    address = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{tmp_path}/used", "inproc": f"inproc://{tmp_path}"}[transport]
    used = engine.add("used", STREAMER, frontend=address, backend=ANY)
    address = endpoint(used.frontend)
    free = f"ipc://{tmp_path}/free"
    expected = f"^brokers\\.a\\.backend: @{re.escape(address)}: cannot bind: Address already in use"
    for _ in range(3):
        begun = time.monotonic()
        with pytest.raises(EndpointError, match=expected):
            engine.add("a", STREAMER, frontend=free, backend=address)
        assert time.monotonic() - begun < 0.5, "the address is not ours to be released: there is nothing to wait for"
    assert list(engine.brokers) == ["bystander", "used"]
    again = engine.add("a", STREAMER, frontend=free, backend="tcp://127.0.0.1:*")
    push = context.socket(zmq.PUSH)
    push.connect(endpoint(again.frontend))
    pull = context.socket(zmq.PULL)
    pull.connect(endpoint(again.backend))
    push.send(b"passes")
    assert pull.poll(DEADLINE_MS), "the path was given up by the attempts before, and must be there again"


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("tcp://127.0.0.1:70000", "port must be 0 to 65535 or *"),
        ("tcp://127.0.0.1:-1", "port must be"),
        ("", "expected transport://address"),
        ("nonsense", "expected transport://address"),
        (["tcp://127.0.0.1:*", "udp://127.0.0.1:5"], "transport 'udp' is not known"),
        ("tcp://127.0.0.1:*,tcp://192.0.2.1:5559", "expected an address"),
        ("tcp://no-such-name.invalid:5559", "or a name that resolves"),
        ("ipc:///no/such/directory/socket", "No such file or directory"),
        ([], "no endpoint is given"),
        (5559, "as strings"),
        (">tcp://127.0.0.1:*", "port must be 1 to 65535"),
    ],
)
def test_bad_endpoint_is_told_and_nothing_is_left(
    engine: Engine, bystander: Bystander, bad: Any, expected: str
) -> None:
    for port in ("backend", "capture"):
        endpoints = {"frontend": "inproc://f", "backend": "inproc://b", "capture": "inproc://c"} | {port: bad}
        for _ in range(2):
            with pytest.raises(EndpointError, match=rf"^brokers\.a\.{port}: .*{re.escape(expected)}"):
                engine.add("a", STREAMER, **endpoints)
    assert list(engine.brokers) == ["bystander"]
    engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b", capture="inproc://c")


@pytest.mark.parametrize(
    "arguments",
    [
        {"burst_messages": 0},
        {"burst_bytes": -1},
        {"burst_messages": 1.5},
        {"burst_messages": 1 << 64},
        {"burst_messages": "many"},
        {"spin_s": -1},
        {"spin_s": 1},
        {"spin_s": math.nan},
        {"spin_s": "a while"},
        {"pump": "fast"},
        {"waiter": "asleep"},
        {"pump": 5},
    ],
)
def test_unfit_engine_argument_is_told(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigError, match=rf"^{name}: .*expected"):
        Engine(**arguments)


@pytest.mark.parametrize("variable", ["POLLBROKER_PUMP", "POLLBROKER_WAITER"])
def test_unfit_environment_is_told(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "best")
    with pytest.raises(ConfigError, match=rf"^{variable}: 'best': expected"):
        Engine()


@pytest.mark.parametrize("delay_s", [math.nan, math.inf, 1e300, 1e17])
def test_unfit_delay_never_ends_the_engine(engine: Engine, bystander: Bystander, delay_s: float) -> None:
    called = threading.Event()
    try:
        engine.call_later(delay_s, called.set)
    except ConfigError as error:
        assert "expected" in str(error)  # noqa: PT017 - to refuse it is well, and to wait for ever too
    bystander.check()
    first = threading.Event()
    engine.call_later(0, first.set)
    assert first.wait(DEADLINE_S)
    assert not called.is_set()


@pytest.mark.parametrize("delay_s", ["1", None, b"", object()])
def test_delay_must_be_a_number(engine: Engine, bystander: Bystander, delay_s: Any) -> None:
    with pytest.raises((ConfigError, TypeError)):
        engine.call_later(delay_s, print)


# -- names that do not resolve ----------------------------------------------------------------------------------------


def test_unresolved_name_to_bind_is_an_error(engine: Engine, bystander: Bystander) -> None:
    with pytest.raises(
        EndpointError,
        match=r"^brokers\.a\.frontend: @tcp://no-such-name\.invalid:5559: cannot bind: .*a name that resolves to one",
    ):
        engine.add("a", STREAMER, frontend="tcp://no-such-name.invalid:5559", backend="inproc://b")


@pytest.mark.parametrize("name", ["no-such-name.invalid", "a..invalid", "x" * 70 + ".invalid"])
def test_unresolved_name_to_connect_to_is_a_warning(
    engine: Engine, bystander: Bystander, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    engine.add("a", STREAMER, frontend=f">tcp://{name}:5559", backend="inproc://b")
    wait_until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pollbroker", logging.WARNING)
    assert record.getMessage().startswith(f"brokers.a.frontend: >tcp://{name}:5559: {name} does not resolve (")
    assert engine.brokers["a"].state == "running"


def test_resolved_name_to_connect_to_is_no_warning(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    pull = connect(zmq.PULL)
    port = pull.bind_to_random_port("tcp://127.0.0.1")
    engine.add("a", STREAMER, frontend="inproc://f", backend=f">tcp://localhost:{port}")
    wait_until(lambda: not any(thread.name == "pollbroker-resolve" for thread in threading.enumerate()))
    assert not caplog.records


def test_peer_that_comes_later_is_connected(engine: Engine, bystander: Bystander, connect: Connect) -> None:
    with net.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend=f">tcp://localhost:{port}")
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    push.send(b"early")
    wait_until(lambda: flow_of(engine, "a").received)
    pull = connect(zmq.PULL)
    pull.bind(f"tcp://127.0.0.1:{port}")
    assert pull.recv() == b"early"


_RESOLVER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* The name resolves as soon as the file is there. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && !strcmp(node, "late.invalid")) {
        if (access(getenv("LATE_NAME_FILE"), F_OK)) return EAI_NONAME;
        node = "127.0.0.1";
    }
    return real(node, service, hints, found);
}
"""


@pytest.mark.skipif(
    not shutil.which("cc") or not sys.platform.startswith("linux"), reason="needs a C compiler, and Linux"
)
def test_connection_is_made_once_the_name_resolves(tmp_path: Path, implementation: Any) -> None:
    library, source, resolves = tmp_path / "resolver.so", tmp_path / "resolver.c", tmp_path / "resolves"
    source.write_text(_RESOLVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    script = """
        import logging, os, sys, threading, zmq
        from pathlib import Path
        from pollbroker import Engine, STREAMER

        warned = threading.Event()
        class Handler(logging.Handler):
            def emit(self, record):
                print(record.getMessage())
                warned.set()
        logging.getLogger("pollbroker").addHandler(Handler())
        with zmq.Context() as context, context.socket(zmq.PULL) as pull, Engine(pump=sys.argv[1]) as engine:
            pull.rcvtimeo = 10_000
            port = pull.bind_to_random_port("tcp://127.0.0.1")
            broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend=f">tcp://late.invalid:{port}")
            with context.socket(zmq.PUSH) as push:
                push.connect(broker.frontend.endpoints[0])
                push.send(b"early")
                assert warned.wait(10)
                assert not pull.poll(50)
                Path(os.environ["LATE_NAME_FILE"]).touch()
                assert pull.recv() == b"early"
        print("connected")
    """
    lines = run_apart(
        script, implementation.name, env={"LD_PRELOAD": str(library), "LATE_NAME_FILE": str(resolves)}
    ).splitlines()
    assert len(lines) == 2
    assert re.match(r"brokers\.a\.backend: >tcp://late\.invalid:\d+: late\.invalid does not resolve \(", lines[0])
    assert lines[1] == "connected"


# -- handlers ---------------------------------------------------------------------------------------------------------


class HandlerBroker:
    """A streamer whose messages pass through a handler, with a producer and a consumer."""

    def __init__(
        self, engine: Engine, connect: Connect, handler: Callable[[list[bytes]], Any], name: str = "handled"
    ) -> None:
        device = Device("handled", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),))
        self._engine, self._name = engine, name
        self.broker = engine.add(name, device, frontend=ANY, backend=ANY, backend_options={"sndhwm": 1})
        self.push = connect(zmq.PUSH, endpoint(self.broker.frontend), sndhwm=0)

    @property
    def flow(self) -> FlowStatistics:
        return flow_of(self._engine, self._name)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class Treacherous(Sequence[bytes]):
    """A sequence that raises whatever is asked of it."""

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __getitem__(self, index: Any) -> Any:
        raise RuntimeError("no item")


NONSENSE = [
    "text", b"bytes", bytearray(b"x"), memoryview(b"x"), [], (), 5, True, 1.5, object(), {b"a": b"b"}, {b"a"},
    [1], [None], [b"a", "b"], [b"a", 5], [[b"a"]], [bytearray(b"a")], [memoryview(b"a")], range(3),
    Unprintable(), [Unprintable()], Treacherous(), type, zmq.Frame(b"a"),
]  # fmt: skip


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("yielded", [False, True], ids=["returned", "yielded"])
def test_nonsense_from_a_handler_is_counted_and_the_next_message_passes(
    engine: Engine,
    connect: Connect,
    bystander: Bystander,
    caplog: pytest.LogCaptureFixture,
    nonsense: Any,
    yielded: bool,
) -> None:
    def handler(frames: list[bytes]) -> Any:
        return nonsense if frames == [b"bad"] else frames

    def generator(frames: list[bytes]) -> Generator[Any, None, None]:
        yield nonsense if frames == [b"bad"] else frames

    handled = HandlerBroker(engine, connect, generator if yielded else handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    for _ in range(3):
        handled.push.send(b"bad")
        handled.push.send_multipart([b"good", b""])
        assert pull.recv_multipart() == [b"good", b""]
    wait_until(lambda: handled.flow.received == 6)
    flow = handled.flow
    assert (flow.failed, flow.sent, flow.filtered, flow.dropped) == (3, 3, 0, 3)
    assert balanced(flow)
    assert handled.broker.state == "running"
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    assert "a message was dropped" in caplog.text


@pytest.mark.parametrize(
    "error", [ValueError("bad"), StopIteration(), zmq.Again(), zmq.ContextTerminated(), OSError(9), UnprintableError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_handler_that_raises_drops_that_message_only(
    engine: Engine, connect: Connect, bystander: Bystander, error: Exception
) -> None:
    def handler(frames: list[bytes]) -> Any:
        if frames == [b"bad"]:
            raise error
        return frames

    handled = HandlerBroker(engine, connect, handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    for message in (b"1", b"bad", b"2", b"bad", b"bad", b"3"):
        handled.push.send(message)
    assert [pull.recv() for _ in range(3)] == [b"1", b"2", b"3"]
    flow = handled.flow
    assert (flow.received, flow.failed, flow.sent, flow.dropped) == (6, 3, 3, 3)
    assert handled.broker.state == "running"


def test_failures_are_logged_at_most_once_a_second(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(frames: list[bytes]) -> Any:
        raise ValueError("this cannot be handled")

    begun = time.monotonic()
    handled = HandlerBroker(engine, connect, handler)
    for _ in range(3000):
        handled.push.send(b"bad")
    wait_until(lambda: handled.flow.failed == 3000)
    assert 1 <= len(caplog.records) <= 1 + math.floor(time.monotonic() - begun)
    (record, *_) = caplog.records
    assert (record.name, record.levelno) == ("pollbroker", logging.ERROR)
    assert "handler" in record.getMessage()
    assert "a message was dropped (1 so far)" in record.getMessage()
    assert record.exc_info is not None
    assert "this cannot be handled" in str(record.exc_info[1])


@pytest.mark.parametrize("good", [0, 1, 3])
def test_generator_that_raises_midway_has_sent_what_it_gave(
    engine: Engine, connect: Connect, bystander: Bystander, good: int
) -> None:
    def handler(frames: list[bytes]) -> Any:
        for number in range(good):
            yield [*frames, b"%d" % number]
        if frames == [b"bad"]:
            raise ValueError("midway")

    handled = HandlerBroker(engine, connect, handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    for message in (b"1", b"bad", b"2"):
        handled.push.send(message)
    expected = [[m, b"%d" % number] for m in (b"1", b"bad", b"2") for number in range(good)]
    assert [pull.recv_multipart() for _ in range(3 * good)] == expected
    wait_until(lambda: handled.flow.received == 3)
    wait_until(lambda: handled.flow.failed == 1)
    flow = handled.flow
    assert (flow.sent, flow.held, flow.failed) == (3 * good, 0, 1)
    assert flow.filtered == (2 if not good else 0)
    assert balanced(flow)


def test_nonsense_midway_is_counted_and_the_generator_goes_on(engine: Engine, connect: Connect) -> None:
    def handler(frames: list[bytes]) -> Any:
        yield frames
        yield "nonsense"
        yield [b"after"]

    handled = HandlerBroker(engine, connect, handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    handled.push.send(b"1")
    assert [pull.recv(), pull.recv()] == [b"1", b"after"]
    flow = handled.flow
    assert (flow.received, flow.added, flow.sent, flow.failed) == (1, 2, 2, 1)


# A handler may use one list for every message, and one handler may serve several brokers.
def test_held_message_is_not_changed_by_what_the_handler_does_next(engine: Engine, connect: Connect) -> None:
    buffer: list[bytes] = []

    def handler(frames: list[bytes]) -> Any:
        buffer[:] = [b"mine", *frames]
        return buffer

    one = HandlerBroker(engine, connect, handler, "one")
    two = HandlerBroker(engine, connect, handler, "two")
    one.push.send(b"for one")
    wait_until(lambda: one.flow.held)
    two.push.send(b"for two")
    wait_until(lambda: two.flow.held)
    assert connect(zmq.PULL, endpoint(one.broker.backend)).recv_multipart() == [b"mine", b"for one"]
    assert connect(zmq.PULL, endpoint(two.broker.backend)).recv_multipart() == [b"mine", b"for two"]


@pytest.mark.parametrize("steer", [Engine.pause, Engine.resume, Engine.remove])
def test_handler_that_steers_its_own_broker_is_told(
    engine: Engine, connect: Connect, bystander: Bystander, steer: Callable[[Engine, str], Any]
) -> None:
    told: list[str] = []

    def handler(frames: list[bytes]) -> Any:
        try:
            steer(engine, "handled")
        except EngineError as error:
            told.append(str(error))
        return frames

    handled = HandlerBroker(engine, connect, handler)
    pull = connect(zmq.PULL, endpoint(handled.broker.backend))
    handled.push.send(b"1")
    assert pull.recv() == b"1"
    assert told == ["brokers.handled: its own handler cannot steer it; use engine.call_soon_threadsafe"]


@pytest.mark.parametrize("call", [Engine.step, Engine.run, Engine.drain, Engine.close, Engine.start])
def test_handler_that_drives_the_engine_is_told(
    engine: Engine, connect: Connect, bystander: Bystander, call: Callable[[Engine], Any]
) -> None:
    def handler(frames: list[bytes]) -> Any:
        call(engine)
        return frames

    handled = HandlerBroker(engine, connect, handler)
    handled.push.send(b"1")
    wait_until(lambda: handled.flow.failed)


def test_handler_may_remove_another_broker_in_traffic(engine: Engine, connect: Connect, bystander: Bystander) -> None:
    other = engine.add("other", STREAMER, frontend=ANY, backend=ANY)
    push = connect(zmq.PUSH, endpoint(other.frontend), sndhwm=0)
    pull = connect(zmq.PULL, endpoint(other.backend))

    def handler(frames: list[bytes]) -> Any:
        if "other" in engine.brokers:
            engine.remove("other")
        return frames

    handled = HandlerBroker(engine, connect, handler)
    consumer = connect(zmq.PULL, endpoint(handled.broker.backend))
    for _ in range(2000):
        push.send(b"x", zmq.DONTWAIT)
        if pull.poll(0):
            pull.recv()
    handled.push.send(b"1")
    assert consumer.recv() == b"1"
    assert other.state == "removed"
    assert other.error is None


# -- limits of the machine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp://127.0.0.1:*", "ipc://*", "inproc://#"])
def test_descriptor_limit_is_told_and_the_engine_lives(implementation: Any, waiter: str, transport: str) -> None:
    script = """
        import resource, sys, time, zmq
        from pollbroker import Engine, EngineError, EndpointError, STREAMER

        pump, waiter, transport = sys.argv[1:]
        engine = Engine(pump=pump, waiter=waiter)
        engine.start()
        context = zmq.Context()
        other = engine.add("other", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        push.linger = 0
        pull.rcvtimeo = 10_000
        push.connect(other.frontend.endpoints[0])
        pull.connect(other.backend.endpoints[0])
        def check():
            push.send(b"passes")
            assert pull.recv() == b"passes"
        check()
        def add(name):
            engine.add(
                name, STREAMER,
                frontend=transport.replace("#", name + "f"), backend=transport.replace("#", name + "b"),
                capture=transport.replace("#", name + "c"),
            )
        for limit in range(100, 106):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            added = []
            end_s = time.monotonic() + 10
            try:
                while True:
                    try:
                        add(f"a{len(added)}")
                    except EngineError:
                        # libzmq gives the descriptors of the round before back in another thread
                        if len(added) >= 3 or time.monotonic() > end_s:
                            raise
                        time.sleep(0.001)
                    else:
                        added.append(f"a{len(added)}")
            except EngineError as error:
                message = str(error)
                assert f"this process may open {limit} descriptors" in message, message
                assert message.startswith(f"brokers.a{len(added)}."), message
            except EndpointError as error:
                raise SystemExit(f"an endpoint is blamed for the limit: {error}")
            check()
            assert list(engine.brokers) == ["other", *added]
            assert all(broker.state == "running" for broker in engine.brokers.values())
            last = added.pop()
            engine.remove(last)
            for _ in range(2000):  # libzmq gives a closed socket's descriptors back in another thread
                try:
                    add(last)
                    break
                except EngineError:
                    time.sleep(0.001)
            else:
                raise SystemExit("no broker can be added after one was removed")
            check()
            for name in [last, *added]:
                engine.remove(name)
        push.close(); pull.close(); context.term()
        engine.close()
        print("lived")
    """
    assert run_apart(script, implementation.name, waiter, transport) == "lived\n"


def test_socket_limit_of_a_context_is_told(make_engine: MakeEngine, connect: Connect) -> None:
    with zmq.Context() as small:
        small.set(zmq.MAX_SOCKETS, 3)
        engine = make_engine(small)
        engine.start()
        engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b")
        for _ in range(3):
            with pytest.raises(EngineError, match=r"^brokers\.b\.\w+: cannot open a socket: .*this context 3 sockets"):
                engine.add("b", STREAMER, frontend="inproc://f2", backend="inproc://b2")
        engine.remove("a")

        def succeeds() -> bool:
            try:
                engine.add("b", STREAMER, frontend="inproc://f2", backend="inproc://b2")
            except EngineError:
                return False
            return True

        wait_until(succeeds)
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "ipc", "inproc"])
def test_message_of_256_megabytes_passes(transport: str, implementation: Any, tmp_path: Path) -> None:
    # In a process of its own, whose memory can be measured. The body is told by what stands at its ends.
    script = """
        import resource, sys, zmq
        from pollbroker import Engine, STREAMER

        transport, pump, directory = sys.argv[1:]
        size = 256 << 20
        context = zmq.Context()
        engine = Engine(context, pump=pump)
        engine.start()
        at = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{directory}/%s", "inproc": "inproc://%s"}[transport]
        name = (lambda n: at % n) if "%" in at else (lambda n: at)
        broker = engine.add("a", STREAMER, frontend=name("f"), backend=name("b"))
        push, pull = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        pull.rcvtimeo = 60_000
        push.connect(broker.frontend.endpoints[0])
        pull.connect(broker.backend.endpoints[0])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        body = bytearray(size)
        body[:4], body[-4:] = b"head", b"tail"
        push.send_multipart([b"first", body, b"last"], copy=False)
        push.send(b"next")
        first, middle, last = pull.recv_multipart(copy=False)
        assert (first.bytes, last.bytes, len(middle.buffer)) == (b"first", b"last", size)
        assert (bytes(middle.buffer[:4]), bytes(middle.buffer[-4:])) == (b"head", b"tail")
        assert pull.recv() == b"next"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (size >> 10)
        flow = engine.statistics().brokers["a"].flows["frontend"]
        assert (flow.sent, flow.sent_frames, flow.sent_bytes) == (2, 4, size + 13), flow
        for socket in (push, pull):
            socket.close()
        engine.close()
        context.term()
        print(grown)
    """
    grown = float(run_apart(script, transport, implementation.name, str(tmp_path)))
    # The body that is sent, what the broker received, and what the consumer received.
    assert grown < (1.5 if transport == "inproc" else 3.5)


# -- what peers do ----------------------------------------------------------------------------------------------------


def test_departed_peer_of_a_router_is_counted(engine: Engine, connect: Connect, bystander: Bystander) -> None:
    broker = engine.add("queue", QUEUE, frontend=ANY, backend=ANY)
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    staying = connect(zmq.REQ, endpoint(broker.frontend))
    for number in range(5):
        leaving = connect(zmq.DEALER, endpoint(broker.frontend), routing_id=b"leaving")
        leaving.send_multipart([b"", b"question"])
        asked = worker.recv_multipart()
        leaving.close()

        def dropped(asked: list[bytes] = asked, before: int = number) -> bool:
            if flow_of(engine, "queue", "backend").unroutable > before:
                return True
            worker.send_multipart([*asked[:-1], b"answer", b""])
            return False

        counted = flow_of(engine, "queue", "backend").unroutable
        wait_until(lambda c=counted, a=asked: dropped(a, c))  # type: ignore[misc]
        staying.send(b"still there?")
        worker.send_multipart(worker.recv_multipart())
        assert staying.recv() == b"still there?"
    flow = flow_of(engine, "queue", "backend")
    assert flow.unroutable >= 5
    assert balanced(flow)
    assert broker.state == "running"


GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f"


def random_bytes(source: random.Random) -> bytes:
    """Plain noise, noise behind a good beginning, and what a peer of ZMTP 1.0 would say."""
    noise = source.randbytes(source.choice([0, 1, 9, 64, 300]))
    kind = source.randrange(4)
    if kind == 0:
        return GREETING + b"\3\0NULL".ljust(54, b"\0") + noise
    if kind == 1:
        return GREETING + noise
    if kind == 2:
        return b"\1\0" + b"".join(b"%c\0%b" % (len(f) + 1, f) for f in (noise[:20], noise[:5])) + noise
    return noise


def flood(address: str, connections: int, source: random.Random, made: list[int]) -> None:
    """Connect, send random bytes and leave, in turn without and with a reset; note each connection."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    for number in range(connections):
        try:
            with net.create_connection((host, int(port)), timeout=DEADLINE_S) as peer:
                made.append(number)
                peer.sendall(random_bytes(source))
                if number % 2:
                    peer.setsockopt(net.SOL_SOCKET, net.SO_LINGER, struct.pack("ii", 1, 0))
        except (ConnectionResetError, BrokenPipeError):
            continue  # libzmq hung up before everything was said


@pytest.mark.slow
def test_random_bytes_of_10_000_connections_are_survived(
    engine: Engine, connect: Connect, bystander: Bystander
) -> None:
    queue = engine.add("queue", QUEUE, frontend=ANY, backend=ANY)
    streamer = engine.add("streamer", STREAMER, frontend=ANY, backend=ANY)
    worker = connect(zmq.DEALER, endpoint(queue.backend))
    pull = connect(zmq.PULL, endpoint(streamer.backend), rcvhwm=0)
    stop = threading.Event()
    made: list[int] = []

    def work() -> None:
        while not stop.is_set():
            if worker.poll(10):
                worker.send_multipart(worker.recv_multipart())

    threads = [
        threading.Thread(target=work),
        *(
            threading.Thread(target=flood, args=(endpoint(broker.frontend), 2500, random.Random(seed), made))
            for seed, broker in enumerate([queue, streamer, queue, streamer])
        ),
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads[1:]):
        bystander.check()
        threads[1].join(0.05)
    stop.set()
    threads[0].join()
    assert len(made) == 10_000
    for name in ("queue", "streamer"):
        assert engine.brokers[name].state == "running"
    client = connect(zmq.REQ, endpoint(queue.frontend))
    client.send(b"still there?")
    while (asked := worker.recv_multipart())[-1] != b"still there?":
        pass
    worker.send_multipart(asked)
    assert client.recv() == b"still there?"
    push = connect(zmq.PUSH, endpoint(streamer.frontend))
    push.send(b"the last")
    received = [pull.recv_multipart()]
    while received[-1] != [b"the last"]:
        received.append(pull.recv_multipart())

    def all_have_come() -> bool:  # "the last" may overtake what others sent: libzmq takes from one peer after the other
        while pull.poll(0):
            received.append(pull.recv_multipart())
        return flow_of(engine, "streamer").sent == len(received)

    wait_until(all_have_come)
    statistics = engine.statistics().brokers
    for broker in ("queue", "streamer"):
        for flow in statistics[broker].flows.values():
            assert balanced(flow)


@pytest.mark.parametrize("device", [QUEUE, STREAMER, FORWARDER], ids=lambda device: device.name)
def test_flood_of_connections_is_survived(
    engine: Engine, connect: Connect, bystander: Bystander, device: Device
) -> None:
    broker = engine.add("flooded", device, frontend=ANY, backend=ANY)
    peers = []
    for number in range(150):
        for port in (broker.frontend, broker.backend):
            host, _, number_of_port = endpoint(port).removeprefix("tcp://").rpartition(":")
            peers.append(net.create_connection((host, int(number_of_port))))
        if number % 50 == 0:
            bystander.check()
    bystander.check()
    for peer in peers:
        peer.close()
    assert broker.state == "running"


def test_garbage_subscriptions_are_opaque(engine: Engine, connect: Connect, bystander: Bystander) -> None:
    broker = engine.add("news", FORWARDER, frontend=ANY, backend=ANY)
    garbage = connect(zmq.XSUB, endpoint(broker.backend), sndhwm=0)
    source = random.Random(1)
    sent = [[b""], [b"\0"], [b"\0never subscribed"], [b"\1"], [b"\0"], [b"\2data", b""], [b"\1a", b"\1b", b"more"]]
    sent += [[source.randbytes(source.randrange(40)) for _ in range(source.randint(1, 4))] for _ in range(500)]
    for message in sent:
        garbage.send_multipart(message)
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    subscriber = connect(zmq.SUB, endpoint(broker.backend), subscribe=b"topic")

    def arrives() -> bool:
        publisher.send_multipart([b"topic", b"news"])
        return bool(subscriber.poll(1))

    wait_until(arrives)
    assert subscriber.recv_multipart() == [b"topic", b"news"]
    garbage.close()
    for flow in engine.statistics().brokers["news"].flows.values():
        assert balanced(flow)
    assert broker.state == "running"


# libzmq's XSUB walks its subscriptions by recursion, one call for each byte: a long one overflows the stack when its
# subscriber leaves, or when the socket is closed.
@pytest.mark.parametrize("end", ["leave", "unsubscribe", "remove"])
def test_long_subscription_never_ends_the_process(end: str) -> None:
    script = """
        import subprocess, sys, zmq
        from pollbroker import Engine, FORWARDER

        PEER = '''
        import sys, zmq
        with zmq.Context() as context, context.socket(zmq.XSUB) as peer:
            peer.linger = 0
            monitor = peer.get_monitor_socket()
            peer.connect(sys.argv[1])
            peer.send(bytes([1]) + b"a" * 1_000_000)
            print("subscribed", flush=True)
            sys.stdin.readline()
            if sys.argv[2] == "unsubscribe":
                peer.send(bytes([0]) + b"a" * 1_000_000)
                sys.stdin.readline()
            import os; os._exit(0)
        '''
        import textwrap
        engine = Engine()
        engine.start()
        broker = engine.add("news", FORWARDER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        arguments = [sys.executable, "-c", textwrap.dedent(PEER), broker.backend.endpoints[0], sys.argv[1]]
        peer = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        peer.stdout.readline()
        received = lambda: engine.statistics().brokers["news"].flows["backend"].received
        context = zmq.Context()
        witness, publisher = context.socket(zmq.SUB), context.socket(zmq.PUB)
        witness.connect(broker.backend.endpoints[0])
        publisher.connect(broker.frontend.endpoints[0])
        def settle(topic):
            witness.subscribe = topic
            for _ in range(10_000):
                publisher.send(topic)
                if witness.poll(1):
                    break
            while witness.poll(0):
                assert witness.recv()
        import time
        end_s = time.monotonic() + 0.3
        while received() < 1 and time.monotonic() < end_s:
            time.sleep(0.001)
        settle(b"one")
        if sys.argv[1] == "unsubscribe":
            peer.stdin.write("\\n"); peer.stdin.flush()
            time.sleep(0.2)
            settle(b"two")
        if sys.argv[1] == "remove":
            engine.remove("news")
            engine.add("news", FORWARDER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        peer.communicate("\\n\\n")
        before, end_s = received(), time.monotonic() + 0.3
        while received() == before and time.monotonic() < end_s:
            time.sleep(0.001)
        context.destroy(linger=0)
        engine.close()
        print("lived")
    """
    assert run_apart(script, end) == "lived\n"


# The same where libzmq's own limit does not help: at a device of the user's own, and at the caller's sockets.
@pytest.mark.parametrize("pump", ["native", "python"])
@pytest.mark.parametrize("whose", ["device", "registered"])
def test_long_subscription_never_ends_the_process_whoever_opened_the_sockets(whose: str, pump: str) -> None:
    script = '''
        import subprocess, sys, time, zmq
        from pollbroker import Device, Engine, Route

        OWN = Device("own", zmq.XSUB, zmq.XPUB, [Route("frontend", "backend"), Route("backend", "frontend")])
        context = zmq.Context()
        engine = Engine(pump=sys.argv[2])
        if sys.argv[1] == "device":
            broker = engine.add("news", OWN, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            address = broker.backend.endpoints[0]
        else:
            xsub, xpub = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
            address = "tcp://127.0.0.1:%d" % xpub.bind_to_random_port("tcp://127.0.0.1")
            broker = engine.register(xsub, xpub, OWN, name="news")
        engine.start()
        flow = lambda: engine.broker_statistics("news").flows["backend"]

        def wait_for(condition):
            end_s = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < end_s, flow()
                time.sleep(0.001)

        # In a process of its own: closing such an XSUB overflows the stack there too.
        PEER = """if True:
            import os, sys, zmq
            peer = zmq.Context().socket(zmq.XSUB)
            peer.connect(sys.argv[1])
            peer.send(bytes([1]) + b"a" * 1_000_000)
            peer.send(bytes([1]) + b"short")
            sys.stdin.readline()
            os._exit(0)
        """
        leaver = subprocess.Popen([sys.executable, "-c", PEER, address], stdin=subprocess.PIPE)
        wait_for(lambda: flow().long_subscription == 1 and flow().sent == 1)
        leaver.communicate(b"\\n")
        wait_for(lambda: flow().long_subscription == 2 and flow().sent == 2)
        engine.close()
        context.destroy(linger=0)
        print("lived")
    '''
    assert run_apart(script, whose, pump) == "lived\n"


# -- what happens under the engine ------------------------------------------------------------------------------------


def ended_in_time(call: Callable[[], object]) -> bool:
    """Whether a call in a thread of its own returns before the deadline."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    return not thread.is_alive()


def test_terminated_context_ends_a_paused_broker_at_which_a_message_waits(
    make_engine: MakeEngine, connect: Connect, waiter: str
) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    engine.start()
    broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    engine.pause("a")
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    push.send(b"x")
    if waiter == "flat":
        wait_until(lambda: working_broker(broker).frontend.interest == zmq.POLLERR)
    assert ended_in_time(context.term)
    assert broker.state == "ended"


@pytest.mark.parametrize("situation", ["idle", "traffic", "stalled", "paused", "failed"])
def test_terminated_context_is_an_orderly_end(make_engine: MakeEngine, connect: Connect, situation: str) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    runner = threading.Thread(target=engine.run, daemon=True)
    runner.start()
    brokers = [
        engine.add("queue", QUEUE, frontend=ANY, backend=ANY, capture="inproc://c1"),
        engine.add("streamer", STREAMER, frontend=ANY, backend=ANY),
        engine.add("forwarder", FORWARDER, frontend=ANY, backend=ANY),
    ]
    push = connect(zmq.PUSH, endpoint(brokers[1].frontend), sndhwm=0)
    dealer = connect(zmq.DEALER, endpoint(brokers[0].frontend), sndhwm=0)
    if situation in ("traffic", "stalled"):
        if situation == "traffic":
            connect(zmq.PULL, endpoint(brokers[1].backend), rcvhwm=0)
            connect(zmq.DEALER, endpoint(brokers[0].backend), rcvhwm=0)
        for _ in range(20_000 if situation == "traffic" else 10):
            push.send(b"x")
            dealer.send(b"x")
        wait_until(lambda: flow_of(engine, "streamer").received and flow_of(engine, "queue").received)
    if situation == "paused":
        for broker in brokers:
            engine.pause(broker.name)
        engine.statistics()
    if situation == "failed":
        working_broker(brokers[1]).frontend.socket.close()
        push.send(b"x")
        wait_until(lambda: engine.statistics().brokers["streamer"].state == "failed")
        brokers.pop(1)
    assert ended_in_time(context.term)
    assert [broker.state for broker in brokers] == ["ended"] * len(brokers)
    assert [broker.error for broker in brokers] == [None] * len(brokers)
    runner.join(DEADLINE_S)
    assert not runner.is_alive(), "run() returns when the engine's context is terminated"
    for broker in brokers:
        assert all(balanced(flow) for flow in engine.statistics().brokers[broker.name].flows.values())
        with pytest.raises(EngineError, match=rf"^brokers.{broker.name}: it is ended"):
            engine.pause(broker.name)
        engine.remove(broker.name)
    with pytest.raises(EngineError, match=r"^brokers\.new\.frontend: cannot open a socket: "):
        engine.add("new", STREAMER, frontend="inproc://f", backend="inproc://b")
    engine.close()


def test_terminated_context_with_the_callers_sockets(make_engine: MakeEngine, connect: Connect) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine()  # whose own context is another, and goes on
    engine.start()
    bystander = Bystander(engine, connect)
    sockets = [context.socket(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.PUB)]
    broker = engine.register(sockets[0], sockets[1], STREAMER, name="lent", capture=sockets[2])
    terminator = threading.Thread(target=context.term, daemon=True)
    terminator.start()
    wait_until(lambda: broker.state == "ended")
    assert broker.error is None
    assert [socket.closed for socket in sockets] == [False] * 3
    bystander.check()
    for socket in sockets:
        socket.close()
    terminator.join(DEADLINE_S)
    assert not terminator.is_alive()
    engine.remove("lent")
    bystander.check()


def test_reader_is_told_of_a_terminated_context(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine()
    engine.start()
    socket = context.socket(zmq.PULL)

    def read() -> None:
        try:
            socket.recv(zmq.DONTWAIT)
        except zmq.ContextTerminated:
            socket.close()

    engine.add_reader(socket, read)
    assert ended_in_time(context.term)


PORTS = ["frontend", "backend", "capture"]


def lent_sockets(context: zmq.Context[Socket]) -> dict[str, Socket]:
    """A streamer's sockets, bound; all of one context, so their memory and descriptors are soon used again."""
    sockets = {name: context.socket(kind) for name, kind in zip(PORTS, (zmq.PULL, zmq.PUSH, zmq.PUSH), strict=True)}
    for socket in sockets.values():
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:*")
    return sockets


def address_of(socket: Socket) -> str:
    address = socket.get(zmq.LAST_ENDPOINT)
    assert isinstance(address, bytes)
    return address.rstrip(b"\0").decode()


@pytest.mark.parametrize("port", PORTS)
def test_idle_socket_that_is_closed_fails_its_broker_alone(
    engine: Engine, context: zmq.Context[Socket], bystander: Bystander, port: str
) -> None:
    sockets = lent_sockets(context)
    broker = engine.register(sockets["frontend"], sockets["backend"], STREAMER, name="a", capture=sockets["capture"])
    wait_until(lambda: flow_of(engine, "a").state == "waiting")
    sockets[port].close()
    wait_until(lambda: engine.statistics().brokers["a"].state == "failed")
    assert broker.state == "failed"
    assert broker.error is not None
    assert f"{port}: the socket was closed under the engine" in str(broker.error)
    assert str(broker.error) == engine.statistics().brokers["a"].error
    bystander.check()
    with pytest.raises(EngineError, match=r"^brokers\.a: it is failed: .*closed under the engine"):
        engine.resume("a")
    others = [name for name in PORTS if name != port]
    assert [sockets[name].closed for name in others] == [False, False]
    statistics = engine.remove("a")
    assert (statistics.state, list(engine.brokers)) == ("failed", ["bystander"])
    again = lent_sockets(context)
    engine.register(again["frontend"], again["backend"], STREAMER, name="a", capture=again["capture"])


@pytest.mark.parametrize("port", PORTS)
def test_socket_that_is_closed_in_traffic_fails_its_broker_alone(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, bystander: Bystander, port: str
) -> None:
    sockets = lent_sockets(context)
    addresses = {name: address_of(socket) for name, socket in sockets.items()}
    broker = engine.register(sockets["frontend"], sockets["backend"], STREAMER, name="a", capture=sockets["capture"])
    push = connect(zmq.PUSH, addresses["frontend"], sndhwm=0)
    pull = connect(zmq.PULL, addresses["backend"], rcvhwm=0)
    push.send(b"first")
    assert pull.recv() == b"first"
    # In the engine's own thread, since a socket must not be used by two at once.
    engine.call_soon_threadsafe(sockets[port].close)
    bystander.send(1000)
    for _ in range(100):
        push.send(b"x")
    wait_until(lambda: engine.statistics().brokers["a"].state == "failed")
    assert f"{port}: the socket was closed under the engine" in str(broker.error)
    assert balanced(flow_of(engine, "a"))
    bystander.check()


def test_socket_that_is_closed_while_paused_or_stalled_fails_its_broker(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, bystander: Bystander
) -> None:
    for situation in ("paused", "stalled"):
        for port in ("frontend", "backend"):
            sockets = lent_sockets(context)
            broker = engine.register(sockets["frontend"], sockets["backend"], STREAMER, name="a")
            push = connect(zmq.PUSH, address_of(sockets["frontend"]))
            if situation == "paused":
                engine.pause("a")
            push.send(b"x")
            if situation == "stalled":
                wait_until(lambda: flow_of(engine, "a").state == "stalled")
            engine.call_soon_threadsafe(sockets[port].close)
            wait_until(lambda: engine.statistics().brokers["a"].state == "failed")
            assert f"{port}: the socket was closed" in str(broker.error)
            assert balanced(flow_of(engine, "a"))
            engine.remove("a")
            bystander.check()


# Its descriptor's number, and its memory, are given to the next socket: neither may be taken for the other. Both happen
# in the engine's thread: libzmq itself cannot bear that a socket is closed while it polls it in another.
def test_descriptor_of_a_closed_socket_may_be_used_again(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, bystander: Bystander
) -> None:
    for round_ in range(10):
        sockets = lent_sockets(context)
        old = engine.register(sockets["frontend"], sockets["backend"], STREAMER, name=f"old-{round_}")
        wait_until(lambda o=old: flow_of(engine, o.name).state == "waiting")  # type: ignore[misc]
        fresh: dict[str, Socket] = {}

        def replace(closed: dict[str, Socket] = sockets, opened: dict[str, Socket] = fresh) -> None:
            for socket in closed.values():
                socket.close()
            opened |= lent_sockets(context)

        engine.call_soon_threadsafe(replace)
        wait_until(lambda f=fresh: f)  # type: ignore[misc]
        new = engine.register(fresh["frontend"], fresh["backend"], STREAMER, name=f"new-{round_}")
        push = connect(zmq.PUSH, address_of(fresh["frontend"]))
        pull = connect(zmq.PULL, address_of(fresh["backend"]))
        push.send(b"passes")
        assert pull.recv() == b"passes"
        wait_until(lambda o=old: engine.statistics().brokers[o.name].state == "failed")  # type: ignore[misc]
        engine.remove(old.name)
        assert new.state == "running"
        push.send(b"passes")
        assert pull.recv() == b"passes"
        engine.remove(new.name)
        for socket in fresh.values():
            socket.close()


def test_closed_own_socket_fails_its_broker_and_the_rest_is_closed(
    engine: Engine, connect: Connect, bystander: Bystander
) -> None:
    broker: Broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    engine.call_soon_threadsafe(working_broker(broker).frontend.socket.close)
    wait_until(lambda: engine.statistics().brokers["a"].state == "failed")
    assert broker.backend is not None
    assert working_broker(broker).backend.socket.closed
    engine.remove("a")
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
