"""The caller's sockets: what cannot be registered is refused, and what was registered stays the caller's."""

import contextlib
from dataclasses import replace

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Device, Engine, EngineError, Route
from pollbroker.broker import working_broker
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.bystander import Bystander
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket

# -- what is refused ---------------------------------------------------------------------------------------------------


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
    own = engine.add("own", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with pytest.raises(EngineError, match=r"^brokers\.a\.frontend: .*registered already, as brokers\.own\.frontend"):
        engine.register(working_broker(own).port("frontend").socket, connect(zmq.PUSH), STREAMER, name="a")
    push, pull = connect(zmq.PUSH, endpoint(own.frontend)), connect(zmq.PULL, endpoint(own.backend))
    push.send(b"passes")
    assert pull.recv() == b"passes"


def test_socket_of_another_engine_is_refused(make_engine: MakeEngine, connect: Connect) -> None:
    first, second = make_engine(), make_engine()
    router, dealer, pair = connect(zmq.ROUTER), connect(zmq.DEALER), connect(zmq.PAIR)
    first.register(router, dealer, QUEUE, name="orders")
    used = "the socket is registered already, as brokers.orders.backend of another engine in this process$"
    with pytest.raises(EngineError, match=rf"^brokers\.mine\.backend: {used}"):
        second.register(connect(zmq.ROUTER), dealer, QUEUE, name="mine")
    with pytest.raises(EngineError, match=rf"^add_reader: {used}"):
        second.add_reader(dealer, print)
    first.add_reader(pair, print)
    with pytest.raises(EngineError, match="as a reader's of another engine"):
        second.add_reader(pair, print)
    assert not second.brokers


@pytest.mark.parametrize("freed", ["removed", "closed", "refused"])
def test_socket_that_another_engine_gave_back_is_taken(make_engine: MakeEngine, connect: Connect, freed: str) -> None:
    first, second = make_engine(), make_engine()
    router, dealer = connect(zmq.ROUTER), connect(zmq.DEALER)
    if freed == "refused":  # the first socket is free again when the second is refused
        other = make_engine()
        other.register(connect(zmq.ROUTER), dealer, QUEUE, name="other")
        with pytest.raises(EngineError, match="registered already"):
            first.register(router, dealer, QUEUE, name="orders")
        other.close()
    else:
        first.register(router, dealer, QUEUE, name="orders")
        first.remove("orders") if freed == "removed" else first.close()
    assert second.register(router, dealer, QUEUE).state == "running"


def test_socket_of_an_engine_that_is_gone_is_taken(connect: Connect) -> None:
    router, dealer = connect(zmq.ROUTER), connect(zmq.DEALER)
    engine = Engine()
    engine.register(router, dealer, QUEUE)
    engine.close()
    del engine
    with Engine() as second:
        assert second.register(router, dealer, QUEUE).state == "running"


# -- what stays the caller's -------------------------------------------------------------------------------------------


def options_of(socket: Socket) -> dict[str, object]:
    """Every option that can be read and does not change by itself."""
    read: dict[str, object] = {}
    for option in zmq.SocketOption:
        if option not in (zmq.EVENTS, zmq.RCVMORE):
            with contextlib.suppress(zmq.ZMQError):
                read[option.name] = socket.getsockopt(option)
    return read


@pytest.mark.parametrize("end", ["remove", "close"])
def test_registered_sockets_stay_the_callers(
    make_engine: MakeEngine, connect: Connect, context: zmq.Context[Socket], end: str
) -> None:
    engine = make_engine()
    engine.start()
    router, dealer, capture = context.socket(zmq.ROUTER), context.socket(zmq.DEALER), context.socket(zmq.PUB)
    router.router_mandatory = 0
    router.rcvhwm, dealer.sndhwm, router.linger = 17, 18, 19
    dealer.sndtimeo = 20
    client, worker = connect(zmq.REQ), connect(zmq.REP)
    client.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
    worker.connect(f"tcp://127.0.0.1:{dealer.bind_to_random_port('tcp://127.0.0.1')}")
    before = [options_of(socket) for socket in (router, dealer, capture)]
    assert len(before[0]) > 40
    for _ in range(3):
        engine.register(router, dealer, QUEUE, name="mine", capture=capture)
        client.send(b"question")
        assert worker.recv() == b"question"
        worker.send(b"answer")
        assert client.recv() == b"answer"
        if end == "remove":
            engine.remove("mine")
        else:
            engine.close()
        assert [options_of(socket) for socket in (router, dealer, capture)] == before
        client.send(b"question")  # the caller takes the broker's place
        assert router.poll(DEADLINE_MS)
        dealer.send_multipart(router.recv_multipart())
        worker.send(worker.recv())
        assert dealer.poll(DEADLINE_MS)
        router.send_multipart(dealer.recv_multipart())
        assert client.recv() == b"question"
        if end == "close":
            engine = make_engine()
            engine.start()


def test_registered_broker_without_a_name_is_numbered(engine: Engine, connect: Connect) -> None:
    names = [engine.register(connect(zmq.PULL), connect(zmq.PUSH), STREAMER).name for _ in range(3)]
    assert names == ["streamer-1", "streamer-2", "streamer-3"]
    engine.remove("streamer-2")
    assert engine.register(connect(zmq.PULL), connect(zmq.PUSH), STREAMER).name == "streamer-2"


def test_messages_at_a_registered_socket_stay_its_owners(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    pull, push = connect(zmq.PULL), connect(zmq.PUSH)
    pull.bind("inproc://source")
    pusher = connect(zmq.PUSH, "inproc://source")
    engine.register(pull, push, STREAMER, name="s")
    for number in range(5):
        pusher.send(b"%d" % number)
    wait_until(lambda: engine.broker_statistics("s").flows["frontend"].held, engine=engine)
    flow = engine.remove("s", timeout_s=0).flows["frontend"]
    assert (flow.held, flow.unread) == (1, 0)
    assert [pull.recv() for _ in range(4)] == [b"1", b"2", b"3", b"4"]


# A message with too many frames is discarded over several turns; who gets the socket back gets none of the rest.
def test_registered_socket_is_given_back_between_two_messages(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    pull, push = connect(zmq.PULL), connect(zmq.PUSH)
    pull.bind("inproc://source")
    pusher = connect(zmq.PUSH, "inproc://source")
    engine.register(pull, push, replace(STREAMER, maxframes=2), name="s")
    pusher.send_multipart([b""] * 50_000)
    pusher.send_multipart([b"next", b"message"])
    wait_until(lambda: engine.broker_statistics("s").flows["frontend"].too_many_frames, engine=engine)
    assert engine.broker_statistics("s").flows["frontend"].received_frames < 50_000
    engine.remove("s", timeout_s=0)
    assert pull.recv_multipart() == [b"next", b"message"]
