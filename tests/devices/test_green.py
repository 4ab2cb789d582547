"""`device` for gevent: what pyzmq's and pollbroker's both promise, and what is better in pollbroker's.

Each program runs in a thread of its own, which has a hub of gevent's.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeAlias

import gevent
import pytest
import zmq
import zmq.green

import pollbroker.devices.green
from pollbroker import DeviceError, EngineError
from pollbroker.gevent import Engine
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S
from tests.support.threads import in_thread

RunDevice: TypeAlias = Callable[..., Any]

OURS = pollbroker.devices.green.device
both = pytest.mark.parametrize("device", [zmq.green.device, OURS], ids=["pyzmq", "pollbroker"])


class Program:
    """What a program of gevent's has: a context, sockets, and devices in greenlets, which all end with it."""

    def __init__(self) -> None:
        self.context = zmq.green.Context()
        self._greenlets: list[Any] = []

    def socket(self, kind: int, address: str = "") -> Any:
        """Open a socket, and connect it if it is told where to."""
        socket = self.context.socket(kind)
        if address:
            socket.connect(address)
        return socket

    def bound(self, *kinds: int) -> list[Any]:
        """Open sockets that are bound: for each, the socket and its address."""
        sockets = [self.context.socket(kind) for kind in kinds]
        for socket in sockets:
            socket.bind("tcp://127.0.0.1:*")
        return [value for socket in sockets for value in (socket, socket.get_string(zmq.LAST_ENDPOINT))]

    def spawn(self, device: RunDevice, *arguments: Any) -> Any:
        """Run a device in a greenlet."""
        greenlet = gevent.spawn(device, *arguments)
        self._greenlets.append(greenlet)
        return greenlet

    def streamer(self, device: RunDevice) -> tuple[Any, Any, Any]:
        """Run a STREAMER: its greenlet, and a PUSH and a PULL that are connected to it, between which a message has
        passed."""
        source, into, sink, out = self.bound(zmq.PULL, zmq.PUSH)
        running = self.spawn(device, zmq.STREAMER, source, sink)
        pusher, puller = self.socket(zmq.PUSH, into), self.socket(zmq.PULL, out)
        pusher.send(b"passes")
        assert puller.recv() == b"passes"
        return running, pusher, puller

    def close(self) -> None:
        """End everything."""
        gevent.killall(self._greenlets)
        self.context.destroy(linger=0)


def run_program(call: Callable[[Program], Any]) -> Any:
    """Return what a program returns, or raise what it raises."""

    def run() -> Any:
        hub = gevent.get_hub()
        program = Program()
        try:
            with gevent.Timeout(DEADLINE_S):
                return call(program)
        finally:
            program.close()
            hub.destroy(destroy_loop=True)

    return in_thread(run).result(2 * DEADLINE_S)


def ended_by(greenlet: Any) -> BaseException | None:
    """Wait for the end of a greenlet, and return what it has raised."""
    greenlet.join()
    error: BaseException | None = greenlet.exception
    return error


@both
def test_requests_and_replies_pass(device: RunDevice) -> None:
    def program(green: Program) -> None:
        frontend, clients, backend, workers = green.bound(zmq.ROUTER, zmq.DEALER)
        green.spawn(device, zmq.QUEUE, frontend, backend)
        client, worker = green.socket(zmq.REQ, clients), green.socket(zmq.REP, workers)
        for number in range(10):
            client.send_multipart([b"request", b"%d" % number])
            assert worker.recv_multipart() == [b"request", b"%d" % number]
            worker.send(b"reply")
            assert client.recv() == b"reply"

    run_program(program)


@both
def test_other_greenlets_run_while_it_waits(device: RunDevice) -> None:
    def program(green: Program) -> None:
        running, _, _ = green.streamer(device)
        for _ in range(10):
            gevent.sleep(1e-9)
        assert not running.dead

    run_program(program)


@both
def test_plain_sockets_may_be_given(device: RunDevice, context: zmq.Context[Any]) -> None:
    def program(green: Program) -> None:
        source, sink = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        into, out = bind(source), bind(sink)
        green.spawn(device, zmq.STREAMER, source, sink)
        pusher, puller = green.socket(zmq.PUSH, into), green.socket(zmq.PULL, out)
        pusher.send(b"passes")
        assert puller.recv() == b"passes"

    run_program(program)


@both
def test_minus_one_means_one_socket(device: RunDevice) -> None:
    def program(green: Program) -> None:
        one, address = green.bound(zmq.REP)
        green.spawn(device, zmq.QUEUE, one, -1)
        client = green.socket(zmq.REQ, address)
        client.send(b"back to me")
        assert client.recv() == b"back to me"

    run_program(program)


@both
def test_device_ends_with_its_context(device: RunDevice) -> None:
    def program(green: Program) -> None:
        context = zmq.green.Context()
        sockets = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        running = green.spawn(device, zmq.QUEUE, *sockets)
        gevent.sleep(0)
        terminated = gevent.get_hub().threadpool.spawn(context.term)
        assert isinstance(ended_by(running), zmq.ContextTerminated)
        for socket in sockets:
            assert not socket.closed
            socket.close()
        terminated.get()

    run_program(program)


@both
def test_sockets_are_the_callers_again_when_the_greenlet_was_killed(device: RunDevice) -> None:
    def program(green: Program) -> None:
        source, into, sink, out = green.bound(zmq.PULL, zmq.PUSH)
        running = green.spawn(device, zmq.STREAMER, source, sink)
        pusher, puller = green.socket(zmq.PUSH, into), green.socket(zmq.PULL, out)
        pusher.send(b"through the device")
        assert puller.recv() == b"through the device"
        running.kill()
        sink.send(b"from the caller")
        assert puller.recv() == b"from the caller"
        pusher.send(b"for the caller")
        assert source.recv() == b"for the caller"

    run_program(program)


WRONG: dict[str, tuple[type[Exception], Callable[[RunDevice, SimpleNamespace], Any]]] = {
    "in that is none": (TypeError, lambda device, of: device(zmq.QUEUE, None, of.b)),
    "out that is none": (TypeError, lambda device, of: device(zmq.QUEUE, of.a, None)),
    "in that is a string": (TypeError, lambda device, of: device(zmq.QUEUE, "x", of.b)),
    "out that is a string": (TypeError, lambda device, of: device(zmq.QUEUE, of.a, "x")),
    "out that is a fraction": (TypeError, lambda device, of: device(zmq.QUEUE, of.a, 1.5)),
    "in that is closed": (zmq.ZMQError, lambda device, of: device(zmq.QUEUE, of.closed, of.b)),
    "out that is closed": (zmq.ZMQError, lambda device, of: device(zmq.QUEUE, of.a, of.closed)),
    "in that is a negative number": (ValueError, lambda device, of: device(zmq.QUEUE, -1, of.b)),
    "out that is another negative number": (ValueError, lambda device, of: device(zmq.QUEUE, of.a, -2)),
    "no out": (TypeError, lambda device, of: device(zmq.QUEUE, of.a)),
    "no sockets": (TypeError, lambda device, of: device(zmq.QUEUE)),
}


@both
@pytest.mark.parametrize("what", WRONG)
def test_wrong_argument_raises_the_same_type(device: RunDevice, what: str) -> None:
    error, call = WRONG[what]

    def program(green: Program) -> BaseException:
        closed = green.socket(zmq.PULL)
        closed.close()
        of = SimpleNamespace(a=green.socket(zmq.ROUTER), b=green.socket(zmq.DEALER), closed=closed)
        with pytest.raises(error) as raised:
            call(device, of)
        return raised.value

    raised = run_program(program)
    assert type(raised) is error
    if isinstance(raised, zmq.ZMQError):
        assert raised.errno == zmq.ENOTSOCK


# -- what is better than in pyzmq ------------------------------------------------------------------------------------


class Engines:
    """The engines that were made."""

    def __init__(self) -> None:
        self.made: list[Engine] = []

    def make(self, *arguments: Any) -> Engine:
        self.made.append(Engine(*arguments))
        return self.made[-1]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    """The engines that devices make in this test."""
    engines = Engines()
    monkeypatch.setattr(pollbroker.devices.green, "Engine", engines.make)
    return engines


def test_devices_of_a_thread_share_one_engine_which_the_last_one_closes(engines: Engines) -> None:
    def program(green: Program) -> None:
        running = [green.streamer(OURS)[0] for _ in range(3)]
        (engine,) = engines.made
        assert len(engine.brokers) == 3
        for left, greenlet in zip((2, 1), running, strict=False):
            greenlet.kill()
            assert len(engine.brokers) == left
        assert [made.closed for made in engines.made] == [False]
        running[-1].kill()
        assert [made.closed for made in engines.made] == [True]
        green.streamer(OURS)
        assert [made.closed for made in engines.made] == [True, False]

    run_program(program)
    assert [made.closed for made in engines.made] == [True, True]


def test_each_thread_has_an_engine_of_its_own(engines: Engines) -> None:
    @contextmanager
    def held() -> Iterator[None]:
        def program(green: Program) -> None:
            green.streamer(OURS)
            began.set()
            while not over.is_set():
                gevent.sleep(0.001)

        began, over = threading.Event(), threading.Event()
        running = in_thread(lambda: run_program(program))
        assert began.wait(DEADLINE_S)
        yield
        over.set()
        running.result(DEADLINE_S)

    with held(), held():
        assert len(engines.made) == 2


def test_device_goes_on_when_the_context_of_another_ends() -> None:
    def program(green: Program) -> None:
        _, pusher, puller = green.streamer(OURS)
        context = zmq.green.Context()
        sockets = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        other = green.spawn(OURS, zmq.QUEUE, *sockets)
        gevent.sleep(0)
        terminated = gevent.get_hub().threadpool.spawn(context.term)
        assert isinstance(ended_by(other), zmq.ContextTerminated)
        for socket in sockets:
            socket.close()
        terminated.get()
        pusher.send(b"still passes")
        assert puller.recv() == b"still passes"

    run_program(program)


def test_what_cannot_work_is_refused_and_other_devices_go_on() -> None:
    def program(green: Program) -> None:
        source, into, sink, out = green.bound(zmq.PULL, zmq.PUSH)
        green.spawn(OURS, zmq.STREAMER, source, sink)
        gevent.sleep(0)
        with pytest.raises(DeviceError, match="nothing can pass between sockets of the types PUB and PUB"):
            OURS(zmq.FORWARDER, green.socket(zmq.PUB), green.socket(zmq.PUB))
        with pytest.raises(EngineError, match="registered already"):
            OURS(zmq.STREAMER, source, green.socket(zmq.PUSH))
        pusher, puller = green.socket(zmq.PUSH, into), green.socket(zmq.PULL, out)
        pusher.send(b"passes")
        assert puller.recv() == b"passes"

    run_program(program)


def test_message_waits_for_a_receiver_while_other_greenlets_run() -> None:
    def program(green: Program) -> None:
        frontend, clients, backend, _ = green.bound(zmq.ROUTER, zmq.DEALER)
        green.spawn(OURS, zmq.QUEUE, frontend, backend)
        green.socket(zmq.REQ, clients).send(b"nobody is there")
        _, pusher, puller = green.streamer(OURS)
        pusher.send(b"passes")
        assert puller.recv() == b"passes"

    run_program(program)
