"""`Engine.register` without a device: what `zmq.proxy` would be between the same sockets, for every pair of types."""

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
import zmq

from pollbroker import DEVICES, DeviceError, EngineError
from pollbroker.devices import proxy
from pollbroker.standard_devices import guess_device
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.types import Connect, MakeEngine, Socket

ONLY_RECEIVE = {zmq.PULL, zmq.SUB}
ONLY_SEND = {zmq.PUSH, zmq.PUB}
TYPES = [
    zmq.ROUTER, zmq.DEALER, zmq.REQ, zmq.REP, zmq.XSUB, zmq.XPUB, zmq.PAIR, *sorted(ONLY_RECEIVE | ONLY_SEND)
]  # fmt: skip


@pytest.mark.parametrize(("frontend", "backend"), list(itertools.product(TYPES, TYPES)))
def test_whatever_can_pass_has_a_route(frontend: zmq.SocketType, backend: zmq.SocketType) -> None:
    there = frontend not in ONLY_SEND and backend not in ONLY_RECEIVE
    back = backend not in ONLY_SEND and frontend not in ONLY_RECEIVE
    if not (there or back):
        with pytest.raises(DeviceError, match=r"^brokers\.a: nothing can pass between sockets of the types "):
            guess_device("brokers.a", (frontend, backend))
        return
    device = guess_device("brokers.a", (frontend, backend))
    expected = [("frontend", "backend")] * there + [("backend", "frontend")] * back
    assert [(route.source, route.sink) for route in device.routes] == expected
    assert frontend in device.types_of("frontend")
    assert backend in device.types_of("backend")


@pytest.mark.parametrize("kind", TYPES)
def test_one_socket_gets_back_what_it_gives(kind: zmq.SocketType) -> None:
    if kind in ONLY_RECEIVE | ONLY_SEND:
        with pytest.raises(DeviceError, match=f"^nothing can pass between sockets of the types {kind.name}; expected"):
            guess_device(None, (kind,))
    else:
        (route,) = guess_device(None, (kind,)).routes
        assert (route.source, route.sink) == ("frontend", "frontend")


@pytest.mark.parametrize("name", ["queue", "forwarder", "filter", "streamer", "reflector"])
def test_well_known_device_is_recognised(name: str) -> None:
    device = DEVICES[name]
    assert guess_device(None, [types[0] for types in device.ports.values()]) is device


class OurProxy:
    """Run an engine as a proxy between two sockets of the test's."""

    def __init__(self, make_engine: MakeEngine, *sockets: Socket) -> None:
        self.engine = make_engine()
        self.engine.register(sockets[0], sockets[1] if len(sockets) > 1 else None)
        self.engine.start()

    def end(self) -> None:
        self.engine.close()


class TheirProxy:
    """Run libzmq's own proxy in a thread. Its sockets are closed when its context ends."""

    def __init__(self, make_engine: MakeEngine, *sockets: Socket) -> None:
        front, back = sockets[0], sockets[-1]

        def run() -> None:
            try:
                self._ended_by = f"it returned {zmq.proxy(front, back)!r}"
            except BaseException as error:  # noqa: BLE001 - `end` says what it was
                self._ended_by = repr(error)
            finally:
                for socket in sockets:  # whatever has ended it: the context's end waits for its sockets
                    socket.close(linger=0)

        self._ended_by = "it has not ended"
        self._context = front.context
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        try:
            in_thread(self._context.term).result(DEADLINE_S)
        except TimeoutError as error:
            error.add_note(f"the proxy: {self._ended_by}")
            raise
        self._thread.join(DEADLINE_S)
        assert self._ended_by == repr(zmq.ContextTerminated())


Start = Callable[..., list[str]]
"""Runs a proxy between sockets of given types, and returns their addresses."""


def starting(make_proxy: Callable[..., OurProxy | TheirProxy], make_engine: MakeEngine) -> Iterator[Start]:
    ended: list[Callable[[], None]] = []
    context: zmq.Context[Socket] = zmq.Context()

    def start(*types: int) -> list[str]:
        sockets = [context.socket(kind) for kind in types]
        addresses = []
        for socket in sockets:
            socket.linger = 0
            if socket.type == zmq.SUB:
                socket.setsockopt(zmq.SUBSCRIBE, b"")
            addresses.append(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
        ended.append(make_proxy(make_engine, *sockets).end)
        ended.extend(socket.close for socket in sockets if make_proxy is OurProxy)
        return addresses

    yield start
    for end in ended:
        end()
    context.term()


@pytest.fixture(params=[OurProxy, TheirProxy], ids=["ours", "libzmq's"])
def either(request: pytest.FixtureRequest, make_engine: MakeEngine) -> Iterator[Start]:
    yield from starting(request.param, make_engine)


@pytest.fixture
def ours(make_engine: MakeEngine) -> Iterator[Start]:
    """libzmq's own proxy takes a REP or REQ too, and ends with EFSM at the second message of a burst."""
    yield from starting(OurProxy, make_engine)


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_requests_and_replies_pass_either_way_round(either: Start, connect: Connect, turned: bool) -> None:
    pair = zmq.ROUTER, zmq.DEALER
    addresses = either(*(reversed(pair) if turned else pair))
    front, back = reversed(addresses) if turned else addresses
    ask_and_answer(connect(zmq.REQ, front), connect(zmq.REP, back))


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize(("types", "worker"), [((zmq.REP, zmq.REQ), zmq.REP), ((zmq.REP, zmq.DEALER), zmq.DEALER)])
def test_requests_and_replies_pass_in_step(
    ours: Start, connect: Connect, types: tuple[int, int], worker: int, turned: bool
) -> None:
    addresses = ours(*(reversed(types) if turned else types))
    front, back = reversed(addresses) if turned else addresses
    ask_and_answer(connect(zmq.REQ, front), connect(worker, back))


def test_many_clients_are_served_in_step(ours: Start, connect: Connect) -> None:
    front, back = ours(zmq.REP, zmq.REQ)
    clients, worker = [connect(zmq.REQ, front) for _ in range(3)], connect(zmq.REP, back)
    for _ in range(10):
        for number, client in enumerate(clients):
            client.send(b"%d" % number)
        for _ in clients:
            worker.send(worker.recv())
        assert [client.recv() for client in clients] == [b"0", b"1", b"2"]


def ask_and_answer(client: Socket, worker: Socket) -> None:
    for number in range(20):
        client.send_multipart([b"request", b"%d" % number])
        assert worker.recv_multipart() == [b"request", b"%d" % number]
        worker.send(b"reply %d" % number)
        assert client.recv() == b"reply %d" % number


@pytest.mark.parametrize("types", [(zmq.PULL, zmq.PUSH), (zmq.SUB, zmq.PUB), (zmq.XSUB, zmq.XPUB), (zmq.PULL, zmq.PUB)])
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_messages_pass_either_way_round(either: Start, connect: Connect, types: tuple[int, int], turned: bool) -> None:
    addresses = either(*(reversed(types) if turned else types))
    front, back = reversed(addresses) if turned else addresses
    producer = connect(zmq.PUSH if types[0] == zmq.PULL else zmq.PUB, front)
    consumer = connect(zmq.PULL if types[1] == zmq.PUSH else zmq.SUB, back)
    if consumer.type == zmq.SUB:
        consumer.setsockopt(zmq.SUBSCRIBE, b"")

    def came() -> bool:  # a subscription takes its time to reach the publisher
        producer.send_multipart([b"message", b""])
        return bool(consumer.poll(1))

    wait_until(came)
    assert consumer.recv_multipart() == [b"message", b""]


@pytest.mark.parametrize("kind", [zmq.PAIR, zmq.DEALER, zmq.ROUTER])
def test_one_socket_sends_back_what_it_receives(either: Start, connect: Connect, kind: int) -> None:
    (address,) = either(kind)
    reflect(connect(zmq.REQ if kind == zmq.ROUTER else kind, address))


def test_one_rep_replies_with_the_request(ours: Start, connect: Connect) -> None:
    (address,) = ours(zmq.REP)
    reflect(connect(zmq.REQ, address))


def reflect(client: Socket) -> None:
    for number in range(20):
        client.send_multipart([b"%d" % number, b""])
        assert client.recv_multipart() == [b"%d" % number, b""]


# A reply that nobody has asked for has nowhere to go at a REP, and what comes after it does.
def test_reply_that_nobody_asked_for_is_dropped_at_a_rep(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    rep, dealer = connect(zmq.REP), connect(zmq.DEALER)
    front = f"tcp://127.0.0.1:{rep.bind_to_random_port('tcp://127.0.0.1')}"
    back = f"tcp://127.0.0.1:{dealer.bind_to_random_port('tcp://127.0.0.1')}"
    broker = engine.register(rep, dealer)
    engine.start()
    worker = connect(zmq.DEALER, back)
    worker.send(b"unasked")
    wait_until(lambda: broker.statistics().flows["backend"].unroutable == 1)
    client = connect(zmq.REQ, front)
    client.send(b"asked")
    assert worker.recv() == b"asked"
    worker.send(b"answered")
    assert client.recv() == b"answered"
    assert broker.state == "running"


def test_sockets_that_cannot_be_a_device_are_refused(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    with pytest.raises(
        DeviceError, match="nothing can pass between sockets of the types PULL and SUB; expected one that"
    ):
        engine.register(connect(zmq.PULL), connect(zmq.SUB))
    with pytest.raises(DeviceError, match=r"^brokers\.a\.backend: 5 is not a ZeroMQ socket"):
        engine.register(connect(zmq.PULL), 5, name="a")  # type: ignore[arg-type]
    closed = connect(zmq.PULL)
    closed.close()
    with pytest.raises(EngineError, match="the socket is closed; expected an open one"):
        engine.register(closed, connect(zmq.PUSH))
    assert not engine.brokers


def test_socket_that_no_broker_can_have_is_named(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    with pytest.raises(DeviceError, match=r"^register\.frontend: STREAM cannot serve in a broker; expected one of "):
        engine.register(connect(zmq.STREAM), connect(zmq.DEALER))
    with pytest.raises(DeviceError, match=r"^backend: STREAM cannot serve in a broker; expected one of "):
        proxy(connect(zmq.ROUTER), connect(zmq.STREAM))
    assert not engine.brokers


def test_error_names_the_place_though_the_broker_has_no_name(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    pub = connect(zmq.PUB)
    with pytest.raises(DeviceError, match=r"^register: nothing can pass between sockets of the types PUB and PUB; exp"):
        engine.register(pub, connect(zmq.PUB))
    with pytest.raises(DeviceError, match=r"^register\.frontend: no socket is given; expected one$"):
        engine.register()
