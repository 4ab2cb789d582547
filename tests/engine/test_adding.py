"""Adding brokers: names, endpoints and addresses that are wrong or taken are refused, and nothing stays open."""

import asyncio
import re
import socket as net
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import zmq

from pollbroker import REFLECTOR, STREAMER, Device, EndpointError, Engine, EngineError, Route
from pollbroker.broker import working_broker
from pollbroker.engine import engine_loop
from pollbroker.opening import ADDRESS_RELEASE_S, ReleasedAddresses
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.bystander import Bystander
from tests.support.deadline import DEADLINE_MS
from tests.support.turns import within_a_turn
from tests.support.types import Connect, MakeEngine, Socket

# -- names -------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", ["", "a\nb", None, 7])
def test_wrong_name_raises(make_engine: MakeEngine, name: Any) -> None:
    engine = make_engine()
    expected = rf"^{re.escape(repr(name))} cannot name a broker; expected a non-empty, printable string$"
    with pytest.raises(EngineError, match=expected):
        engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    assert not engine.brokers


def test_error_about_a_taken_name_or_socket_says_who_has_it(
    make_engine: MakeEngine, context: zmq.Context[Socket]
) -> None:
    engine = make_engine(context)
    pull, push, other = context.socket(zmq.PULL), context.socket(zmq.PUSH), context.socket(zmq.PULL)
    engine.register(pull, push, STREAMER, name="a")
    expected = r"^brokers\.a: the name is taken; expected one that no broker of this engine has$"
    with pytest.raises(EngineError, match=expected):
        engine.register(other, context.socket(zmq.PUSH), STREAMER, name="a")
    with pytest.raises(
        EngineError, match=r"^brokers\.b\.backend: the socket is registered already, as brokers\.a\.backend$"
    ):
        engine.register(other, push, STREAMER, name="b")
    both = Device("both", zmq.DEALER, zmq.DEALER, (Route("frontend", "backend"),))
    twice = context.socket(zmq.DEALER)
    with pytest.raises(
        EngineError, match=r"^brokers\.c\.frontend: the socket is registered twice here, as backend too$"
    ):
        engine.register(twice, twice, both, name="c")
    assert list(engine.brokers) == ["a"]


# -- endpoints ---------------------------------------------------------------------------------------------------------


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
def test_bad_endpoint_raises_and_nothing_is_left(engine: Engine, bystander: Bystander, bad: Any, expected: str) -> None:
    for port in ("backend", "capture"):
        endpoints = {"frontend": "inproc://f", "backend": "inproc://b", "capture": "inproc://c"} | {port: bad}
        for _ in range(2):
            with pytest.raises(EndpointError, match=rf"^brokers\.a\.{port}: .*{re.escape(expected)}"):
                engine.add("a", STREAMER, **endpoints)
    assert list(engine.brokers) == ["bystander"]
    engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b", capture="inproc://c")


@pytest.mark.parametrize("transport", ["tcp", "ipc", "inproc"])
def test_address_in_use_raises_and_nothing_is_left(
    engine: Engine, bystander: Bystander, context: zmq.Context[Socket], tmp_path: Path, transport: str
) -> None:
    address = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{tmp_path}/used", "inproc": f"inproc://{tmp_path}"}[transport]
    used = engine.add("used", STREAMER, frontend=address, backend=ANY_PORT)
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


class Fleeting:
    """A clock on which an eighth of a second passes with each sleep, however short."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self.now_s += 0.125


def test_path_whose_listener_is_overrun_is_taken(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "taken")
    engine = make_engine()
    clients = []
    with net.socket(net.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        while True:  # until it would block
            clients.append(net.socket(net.AF_UNIX))
            clients[-1].setblocking(False)
            try:
                clients[-1].connect(path)
            except BlockingIOError:
                break
            assert len(clients) < 1000
        with pytest.raises(EndpointError, match="Address already in use"):
            engine.add("a", STREAMER, frontend=f"ipc://{path}", backend=ANY_PORT)
        for client in clients:
            client.close()


@pytest.mark.libzmq("a wire port does not tell its options")
def test_each_port_has_the_options_that_are_for_it(make_engine: MakeEngine) -> None:
    engine = make_engine()
    broker = engine.add(
        "a",
        STREAMER,
        frontend=ANY_PORT,
        backend=ANY_PORT,
        capture=ANY_PORT,
        frontend_options={"rcvhwm": 11},
        backend_options={"sndhwm": 12},
        capture_options={"sndhwm": 13},
    )
    frontend, backend, capture = (port.socket for port in working_broker(broker).ports)
    assert (frontend.rcvhwm, backend.sndhwm, capture.sndhwm) == (11, 12, 13)
    assert broker.capture.type == zmq.PUB


# -- addresses that were used before -----------------------------------------------------------------------------------


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

    def close() -> None:
        for socket in lent:
            socket.close(linger=0)

    engine_loop(engine).calls.call(close)  # between two turns: libzmq may not be polling what is closed
    # Freed memory is used again, so that most of these sockets have the address of an earlier one.
    fresh = [context.socket(zmq.PULL) for _ in range(60)]
    for number, source in enumerate(sorted(fresh, key=lambda socket: socket.underlying not in addresses)[:20]):
        broker = engine.register(source, context.socket(zmq.PUSH), STREAMER, name=f"new-{number}")
        assert broker.state == "running"
    bystander.check()


@pytest.mark.parametrize("transport", ["tcp", "ipc", "inproc"])
def test_broker_may_be_added_again_at_once(
    engine: Engine, context: zmq.Context[Socket], tmp_path: Path, transport: str
) -> None:
    first = {"tcp": ANY_PORT, "ipc": f"ipc://{tmp_path}/a", "inproc": "inproc://again"}[transport]
    broker = engine.add("a", REFLECTOR, frontend=first)
    address = endpoint(broker.frontend)
    begun = time.monotonic()
    for number in range(100):
        assert engine.remove("a").state == "removed"
        broker = engine.add("a", REFLECTOR, frontend=address)
        assert broker.frontend.endpoints == (address,)
        peer = (engine.context if transport == "inproc" else context).socket(zmq.DEALER)
        peer.rcvtimeo = DEADLINE_MS
        peer.connect(address)
        peer.send(b"%d" % number)
        assert peer.recv() == b"%d" % number
        peer.close(linger=0)
    assert time.monotonic() - begun < 10


# libzmq gives an address back in another thread, some time after the engine is closed.
def test_broker_may_take_the_place_of_one_of_another_engine(make_engine: MakeEngine, tmp_path: Path) -> None:
    with zmq.Context() as context:
        address = ANY_PORT
        for _ in range(10):
            engine = make_engine(context)
            broker = engine.add("a", STREAMER, frontend=address, backend=f"ipc://{tmp_path}/b")
            address = endpoint(broker.frontend)
            engine.close()


async def in_a_loop(call: Callable[[], Any]) -> Any:
    """Make a call in a thread in which a loop of asyncio or trio runs; return its result, or raise its exception."""
    return call()


# libzmq closes a listener some time after its socket: an address that was released here is tried again for 5 seconds,
# unless the sleep between two attempts would hold up an event loop.
@pytest.mark.parametrize(
    ("call", "waits"),
    [
        (lambda engine, add: add(), True),
        (lambda engine, add: asyncio.run(asyncio.to_thread(add)), True),
        (within_a_turn, False),
        (lambda engine, add: asyncio.run(in_a_loop(add)), False),
        (lambda engine, add: trio.run(in_a_loop, add), False),
    ],
    ids=["in a thread", "beside asyncio", "within a turn", "in asyncio", "in trio"],
)
def test_released_address_is_tried_again_but_not_where_a_sleep_holds_up_a_loop(
    make_engine: MakeEngine,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Engine, Callable[[], Any]], Any],
    waits: bool,
) -> None:
    # The table of the process may know this very port from a test a moment ago: the kernel gives ports out again.
    released = ReleasedAddresses()
    monkeypatch.setattr("pollbroker.starting.RELEASED", released)
    engine = make_engine()
    taken = connect(zmq.PULL)
    taken.bind(ANY_PORT)
    address = taken.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(address, bytes)
    clock = Fleeting()
    monkeypatch.setattr("pollbroker.engine.engine.time", clock)

    def add() -> object:
        return engine.add("a", STREAMER, frontend=address.decode(), backend=ANY_PORT)

    with pytest.raises(EndpointError, match="Address already in use"):
        add()
    assert clock.slept_s == []  # another's address is not waited for
    released.note([address.decode()])
    with pytest.raises(EndpointError, match="Address already in use") as raised:
        call(engine, add)
    assert clock.slept_s == ([0.001] * int(8 * ADDRESS_RELEASE_S) if waits else [])
    assert raised.value.address == address.decode()
    assert (
        str(raised.value).endswith(": a broker released the address a moment ago, and it may soon be free again")
        is not waits
    )
    assert raised.value.released_just_now is not waits
