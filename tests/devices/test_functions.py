"""The functions that run one device in their caller's thread: what is better than in pyzmq."""

import signal

import pytest
import zmq
import zmq.asyncio

import pollbroker.devices
from pollbroker import DeviceError, EngineError
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S
from tests.support.processes import run_apart
from tests.support.threads import in_thread
from tests.support.types import Connect


def test_sockets_between_which_nothing_can_pass_are_refused(connect: Connect) -> None:
    with pytest.raises(DeviceError, match="nothing can pass between sockets of the types PUB and PUB"):
        pollbroker.devices.proxy(connect(zmq.PUB), connect(zmq.PUB))


def test_socket_of_two_devices_is_refused(connect: Connect) -> None:
    source, sink, control = connect(zmq.PULL), connect(zmq.PUSH), connect(zmq.PAIR)
    address, steered = bind(source), bind(control)
    running = in_thread(lambda: pollbroker.devices.proxy_steerable(source, sink, None, control))
    out = bind(sink)
    connect(zmq.PUSH, address).send(b"passes")
    assert connect(zmq.PULL, out).recv() == b"passes"
    with pytest.raises(EngineError, match="registered already"):
        pollbroker.devices.proxy(source, connect(zmq.PUSH))
    connect(zmq.PAIR, steered).send(b"TERMINATE")
    assert running.result(DEADLINE_S) == 0


def test_same_socket_twice_is_a_device_of_one_socket(connect: Connect) -> None:
    one, control = connect(zmq.REP), connect(zmq.PAIR)
    address, steered = bind(one), bind(control)
    running = in_thread(lambda: pollbroker.devices.proxy_steerable(one, one, None, control))
    client = connect(zmq.REQ, address)
    client.send(b"back to me")
    assert client.recv() == b"back to me"
    connect(zmq.PAIR, steered).send(b"TERMINATE")
    assert running.result(DEADLINE_S) == 0


def test_sockets_are_the_callers_again(connect: Connect) -> None:
    source, sink, control = connect(zmq.PULL), connect(zmq.PUSH), connect(zmq.PAIR)
    out, steered = bind(sink), bind(control)
    running = in_thread(lambda: pollbroker.devices.proxy_steerable(source, sink, None, control))
    connect(zmq.PAIR, steered).send(b"TERMINATE")
    assert running.result(DEADLINE_S) == 0
    puller = connect(zmq.PULL, out)
    sink.send(b"from the caller")
    assert puller.recv() == b"from the caller"


@pytest.mark.parametrize("pump", ["native", "python"])
@pytest.mark.parametrize("method", ["recv", "send"])
def test_methods_of_a_subclass_of_socket_are_not_called(
    method: str, pump: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in pyzmq, where libzmq moves the messages. Such a method may wait, or refuse a message."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError(f"{method} of the subclass was called")

    monkeypatch.setenv("POLLBROKER_PUMP", pump)
    own_type: type[zmq.Socket[bytes]] = type("Own", (zmq.Socket,), {method: refuse})
    plain, control = (connect(zmq.PULL), connect(zmq.PUSH)), connect(zmq.PAIR)
    source, sink = (own_type.shadow(socket.underlying) for socket in plain)
    into, out, steered = bind(plain[0]), bind(plain[1]), bind(control)
    running = in_thread(lambda: pollbroker.devices.proxy_steerable(source, sink, None, control))
    connect(zmq.PUSH, into).send(b"passes")
    assert connect(zmq.PULL, out).recv() == b"passes"
    connect(zmq.PAIR, steered).send(b"TERMINATE")
    assert running.result(DEADLINE_S) == 0


def test_sockets_of_zmq_asyncio_can_be_proxied(connect: Connect) -> None:
    plain, control = (connect(zmq.ROUTER), connect(zmq.DEALER)), connect(zmq.PAIR)
    into, out, steered = bind(plain[0]), bind(plain[1]), bind(control)
    router, dealer, pair = (zmq.asyncio.Socket.shadow(socket.underlying) for socket in (*plain, control))
    running = in_thread(lambda: pollbroker.devices.proxy_steerable(router, dealer, None, pair))
    client, worker = connect(zmq.REQ, into), connect(zmq.REP, out)
    client.send(b"request")
    worker.send(b"reply to " + worker.recv())
    assert client.recv() == b"reply to request"
    connect(zmq.PAIR, steered).send(b"TERMINATE")
    assert running.result(DEADLINE_S) == 0


def test_interrupt_ends_a_proxy_in_the_main_thread() -> None:
    told = run_apart(f"""
        import os, threading, zmq
        from pollbroker.devices import proxy
        context = zmq.Context()
        pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        port, out = pull.bind_to_random_port("tcp://127.0.0.1"), push.bind_to_random_port("tcp://127.0.0.1")

        def interrupt():
            peers = zmq.Context()
            pusher, puller = peers.socket(zmq.PUSH), peers.socket(zmq.PULL)
            pusher.connect(f"tcp://127.0.0.1:{{port}}")
            puller.connect(f"tcp://127.0.0.1:{{out}}")
            pusher.send(b"runs")
            puller.recv()
            os.kill(os.getpid(), {int(signal.SIGINT)})
            peers.destroy(linger=0)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            proxy(pull, push)
        except KeyboardInterrupt:
            print("interrupted")
        thread.join()
        context.destroy(linger=0)
    """)
    assert told == "interrupted\n"
