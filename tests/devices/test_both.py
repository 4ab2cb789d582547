"""What pyzmq's devices and pollbroker's both promise: each test runs against the one and the other."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from tests.devices.conftest import LOCAL, BindDevice, MakeDevice
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.types import Connect, Socket

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

KINDS = ("", "Thread", "Process")


def check_round_trip(client: Socket, worker: Socket) -> None:
    """Check that a request arrives, and its reply."""
    client.send(b"request")
    assert worker.recv() == b"request"
    worker.send(b"reply")
    assert client.recv() == b"reply"


# -- classes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_new_device_says_what_it_was_given(module: Any, kind: str) -> None:
    device = getattr(module, f"{kind}Device")(zmq.FORWARDER, zmq.SUB, zmq.PUB)
    assert (device.device_type, device.in_type, device.out_type) == (zmq.FORWARDER, zmq.SUB, zmq.PUB)
    assert (device.daemon, device.done) == (True, False)
    proxy = getattr(module, f"{kind}ProxySteerable")(zmq.SUB, zmq.PUB, ctrl_type=zmq.PAIR)
    assert (proxy.device_type, proxy.mon_type, proxy.ctrl_type) == (zmq.QUEUE, zmq.PUB, zmq.PAIR)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_related_as_in_pyzmq(module: Any, kind: str) -> None:
    device, proxy, steerable, queue = (
        getattr(module, f"{kind}{name}") for name in ("Device", "Proxy", "ProxySteerable", "MonitoredQueue")
    )
    assert issubclass(device, module.Device)
    assert issubclass(proxy, device)
    assert issubclass(steerable, proxy)
    assert issubclass(queue, proxy)
    assert not issubclass(device, module.Proxy)
    assert device.context_factory == (zmq.Context if kind == "Process" else zmq.Context.instance)


@pytest.mark.parametrize("kind", ["ThreadDevice", "ProcessDevice"])
def test_requests_and_replies_pass(
    make_device: MakeDevice, bind_device: BindDevice, connect: Connect, kind: str
) -> None:
    device = make_device(kind, zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
    frontend, backend = bind_device(device, "in", "out")
    device.start()
    assert device.launcher.is_alive()
    assert device.launcher.daemon
    check_round_trip(connect(zmq.REQ, frontend), connect(zmq.REP, backend))


def test_device_connects_where_it_is_told_to(make_device: MakeDevice, connect: Connect) -> None:
    pusher, puller = connect(zmq.PUSH), connect(zmq.PULL)
    device = make_device("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device.connect_in(bind(pusher))
    device.connect_out(bind(puller))
    device.start()
    pusher.send_multipart([b"two", b"frames"])
    assert puller.recv_multipart() == [b"two", b"frames"]


def test_options_are_set_before_a_socket_is_connected(
    make_device: MakeDevice, bind_device: BindDevice, connect: Connect
) -> None:
    server = connect(zmq.ROUTER)
    device = make_device("ThreadDevice", zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
    device.connect_out(bind(server))
    device.setsockopt_out(zmq.IDENTITY, b"the device")
    (frontend,) = bind_device(device, "in")
    device.start()
    connect(zmq.DEALER, frontend).send(b"hello")
    assert server.recv_multipart()[0] == b"the device"


def test_negative_out_type_means_one_socket(make_device: MakeDevice, bind_device: BindDevice, connect: Connect) -> None:
    device = make_device("ThreadDevice", zmq.QUEUE, zmq.REP, -1)
    (port,) = bind_device(device, "in")
    device.start()
    client = connect(zmq.REQ, port)
    client.send(b"back to me")
    assert client.recv() == b"back to me"


def test_address_and_option_of_the_out_socket_are_those_of_the_one(make_device: MakeDevice, connect: Connect) -> None:
    server = connect(zmq.ROUTER)
    device = make_device("ThreadDevice", zmq.QUEUE, zmq.DEALER, -1)
    device.connect_in(bind(server))
    device.setsockopt_out(zmq.IDENTITY, b"one")
    device.start()
    server.router_mandatory = True

    def is_sent() -> bool:
        try:
            server.send_multipart([b"one", b"back to me"])
        except zmq.ZMQError:
            return False
        return True

    wait_until(is_sent)
    assert server.recv_multipart() == [b"one", b"back to me"]


def test_monitor_gets_a_copy_of_each_message(
    make_device: MakeDevice, bind_device: BindDevice, connect: Connect
) -> None:
    proxy = make_device("ThreadProxy", zmq.ROUTER, zmq.DEALER)
    frontend, backend, monitor = bind_device(proxy, "in", "out", "mon")
    proxy.setsockopt_mon(zmq.XPUB_NODROP, 0)
    proxy.start()
    client, worker = connect(zmq.REQ, frontend), connect(zmq.REP, backend)
    subscriber = connect(zmq.SUB, monitor, subscribe=b"")

    def is_copied() -> int:
        check_round_trip(client, worker)
        return subscriber.poll(1)

    wait_until(is_copied)
    assert subscriber.recv_multipart()[-2:] in ([b"", b"request"], [b"", b"reply"])


@pytest.mark.parametrize("monitor_type", [zmq.PUSH, zmq.PAIR])
def test_monitor_that_is_not_a_publisher_misses_nothing(
    make_device: MakeDevice, bind_device: BindDevice, connect: Connect, monitor_type: int
) -> None:
    proxy = make_device("ThreadProxy", zmq.PULL, zmq.PUSH, monitor_type)
    source, sink, monitor = bind_device(proxy, "in", "out", "mon")
    proxy.start()
    pusher, puller = connect(zmq.PUSH, source), connect(zmq.PULL, sink)
    messages = [b"%d" % i for i in range(10)]
    for message in messages:
        pusher.send(message)
    watcher = connect(zmq.PULL if monitor_type == zmq.PUSH else zmq.PAIR, monitor)  # after the first
    assert [puller.recv() for _ in messages] == messages
    assert [watcher.recv() for _ in messages] == messages


@pytest.mark.parametrize("monitor_type", [zmq.PUB, zmq.PUSH])
def test_prefix_says_where_a_message_came_from(
    make_device: MakeDevice, bind_device: BindDevice, connect: Connect, monitor_type: int
) -> None:
    queue = make_device("ThreadMonitoredQueue", zmq.PAIR, zmq.PAIR, monitor_type, b"<", out_prefix=b">")
    one, other, monitor = bind_device(queue, "in", "out", "mon")
    queue.start()
    left, right = connect(zmq.PAIR, one), connect(zmq.PAIR, other)
    if monitor_type == zmq.PUB:
        watcher = connect(zmq.SUB, monitor, subscribe=b"")
        wait_until(lambda: left.send(b"are you there") or watcher.poll(1))
        left.send(b"that was all")
        for socket in (right, watcher):
            while socket.recv_multipart()[-1] != b"that was all":
                pass
    else:
        watcher = connect(zmq.PULL, monitor)
    left.send_multipart([b"to", b"the right"])
    assert right.recv_multipart() == [b"to", b"the right"]
    assert watcher.recv_multipart() == [b"<", b"to", b"the right"]
    right.send(b"to the left")
    assert left.recv() == b"to the left"
    assert watcher.recv_multipart() == [b">", b"to the left"]


@pytest.mark.parametrize("monitor_type", [zmq.PUB, zmq.PUSH])
def test_monitored_queue_swaps_the_first_two_frames_between_routers(
    make_device: MakeDevice, bind_device: BindDevice, connect: Connect, monitor_type: int
) -> None:
    queue = make_device("ThreadMonitoredQueue", zmq.ROUTER, zmq.ROUTER, monitor_type)
    one, other, monitor = bind_device(queue, "in", "out", "mon")
    queue.start()
    if monitor_type == zmq.PUSH:
        connect(zmq.PULL, monitor)
    left = connect(zmq.DEALER, one, identity=b"left")
    right = connect(zmq.DEALER, other, identity=b"right")
    # A ROUTER drops what is for a peer that it does not know yet.
    wait_until(lambda: left.send_multipart([b"right", b"hello"]) or right.poll(1))
    assert right.recv_multipart() == [b"left", b"hello"]
    right.send_multipart([b"left", b"good day", b"to you"])
    assert left.recv_multipart() == [b"right", b"good day", b"to you"]


# -- its end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Device", "Proxy", "MonitoredQueue"])
def test_device_of_a_thread_ends_with_its_context(
    make_device: MakeDevice, bind_device: BindDevice, device_context: zmq.Context[Socket], kind: str
) -> None:
    types = (zmq.QUEUE, zmq.ROUTER, zmq.DEALER) if kind == "Device" else (zmq.ROUTER, zmq.DEALER)
    device = make_device(f"Thread{kind}", *types)
    bind_device(device, "in")
    device.start()
    wait_until(lambda: len(device._sockets) == (2 if kind == "Device" else 3))
    assert device._context is device_context
    assert not device.done
    device.join(timeout=0)
    assert device.launcher.is_alive()
    in_thread(device._context.term).result(DEADLINE_S)
    device.join(DEADLINE_S)
    assert device.done
    assert not device.launcher.is_alive()


@pytest.mark.parametrize("kind", ["Device", "Proxy", "MonitoredQueue"])
def test_device_of_this_thread_returns_when_its_context_ends(
    make_device: MakeDevice, bind_device: BindDevice, kind: str
) -> None:
    types = (zmq.QUEUE, zmq.PULL, zmq.PUSH) if kind == "Device" else (zmq.PULL, zmq.PUSH)
    device = make_device(kind, *types)
    bind_device(device, "in")
    returned = in_thread(device.start)
    wait_until(lambda: len(device._sockets) == (2 if kind == "Device" else 3))
    in_thread(device._context.term).result(DEADLINE_S)
    assert returned.result(DEADLINE_S) is None
    device.join(DEADLINE_S)
    assert device.done


def test_terminated_process_is_no_longer_there(make_device: MakeDevice, bind_device: BindDevice) -> None:
    device = make_device("ProcessDevice", zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
    bind_device(device, "in")
    device.start()
    device.launcher.terminate()
    device.join(DEADLINE_S)
    assert not device.launcher.is_alive()


def test_subclass_may_do_more_to_its_sockets(
    module: Any, make_device: MakeDevice, bind_device: BindDevice, connect: Connect
) -> None:
    device = make_device("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)

    class Connected(module.ThreadDevice):  # type: ignore[misc]
        def _setup_sockets(self) -> Any:
            sockets = super()._setup_sockets()
            sockets[1].connect(address)
            return sockets

    puller = connect(zmq.PULL)
    address = bind(puller)
    device.__class__ = Connected
    (port,) = bind_device(device, "in")
    device.start()
    connect(zmq.PUSH, port).send(b"passes")
    assert puller.recv() == b"passes"


@pytest.mark.parametrize("method", ["run", "run_device"])
def test_subclass_may_run_in_its_own_way(
    module: Any, make_device: MakeDevice, bind_device: BindDevice, connect: Connect, method: str
) -> None:
    device = make_device("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)

    def run(self: Any) -> None:
        ins, outs = self._setup_sockets()
        outs.send(b"instead of " + ins.recv())
        self._close_sockets()
        self.done = True

    device.__class__ = type("OwnWay", (module.ThreadDevice,), {method: run})
    source, sink = bind_device(device, "in", "out")
    device.setsockopt_out(zmq.LINGER, -1)
    device.start()
    connect(zmq.PUSH, source).send(b"a device")
    assert connect(zmq.PULL, sink).recv() == b"instead of a device"
    device.join(DEADLINE_S)
    assert device.done


# -- control -----------------------------------------------------------------------------------------------------------


def test_commands_reach_a_steerable_proxy(make_device: MakeDevice, bind_device: BindDevice, connect: Connect) -> None:
    proxy = make_device("ThreadProxySteerable", zmq.PULL, zmq.PUSH, zmq.PUB, zmq.REP)
    source, sink, control = bind_device(proxy, "in", "out", "ctrl")
    proxy.start()
    pusher, puller = connect(zmq.PUSH, source), connect(zmq.PULL, sink)
    commands = connect(zmq.REQ, control)

    def ask(command: bytes) -> list[bytes]:
        commands.send(command)
        return commands.recv_multipart()

    pusher.send(b"a")
    assert puller.recv() == b"a"
    assert [struct.unpack("=Q", count)[0] for count in ask(b"STATISTICS")] == [1, 1, 0, 0, 0, 0, 1, 1]
    assert ask(b"PAUSE") == [b""]  # what that means is in test_steering.py: with pyzmq's devices messages may pass
    assert ask(b"RESUME") == [b""]
    assert ask(b"TERMINATE") == [b""]
    proxy.join(DEADLINE_S)
    assert proxy.done


@pytest.mark.parametrize("kind", [zmq.PAIR, zmq.DEALER])
def test_other_sockets_take_commands(
    make_device: MakeDevice, bind_device: BindDevice, connect: Connect, kind: int
) -> None:
    proxy = make_device("ThreadProxySteerable", zmq.PULL, zmq.PUSH, ctrl_type=kind)
    (port,) = bind_device(proxy, "ctrl")
    proxy.start()
    connect(kind, port).send(b"TERMINATE")
    proxy.join(DEADLINE_S)
    assert proxy.done


# -- functions ---------------------------------------------------------------------------------------------------------

RUN: dict[str, Callable[[Any, Socket, Socket, Socket], Any]] = {
    "device": lambda module, a, b, _: module.device(zmq.QUEUE, a, b),
    "proxy": lambda module, a, b, _: module.proxy(a, b),
    "proxy with capture": lambda module, a, b, c: module.proxy(frontend=a, backend=b, capture=c),
    "proxy_steerable": lambda module, a, b, c: module.proxy_steerable(a, b, c),
    "monitored_queue": lambda module, a, b, c: module.monitored_queue(a, b, c, in_prefix=b"i", out_prefix=b"o"),
}


@pytest.mark.parametrize("function", RUN)
def test_function_runs_until_the_context_ends(module: Any, connect: Connect, function: str) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    sockets = [context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PUB)]
    for socket in sockets:
        socket.linger = 0
    frontend, backend = bind(sockets[0]), bind(sockets[1])
    returned = in_thread(lambda: RUN[function](module, *sockets))
    check_round_trip(connect(zmq.REQ, frontend), connect(zmq.REP, backend))
    ended = in_thread(context.term)
    with pytest.raises(zmq.ContextTerminated):
        returned.result(DEADLINE_S)
    assert not any(socket.closed for socket in sockets)
    for socket in sockets:
        socket.close()
    ended.result(DEADLINE_S)


def test_function_returns_when_it_is_told_to_terminate(module: Any, connect: Connect) -> None:
    sockets = [connect(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.PUB, zmq.PAIR)]
    source, sink, _, control = (bind(socket) for socket in sockets)
    returned = in_thread(lambda: module.proxy_steerable(*sockets))
    connect(zmq.PUSH, source).send(b"passes")
    assert connect(zmq.PULL, sink).recv() == b"passes"
    connect(zmq.PAIR, control).send(b"TERMINATE")
    assert returned.result(DEADLINE_S) == 0


# -- what is wrong -----------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[type[Exception], Callable[[Any, dict[str, Socket]], Any]]] = {
    "no types": (TypeError, lambda module, _: module.Device()),
    "no out type": (TypeError, lambda module, _: module.ThreadDevice(zmq.QUEUE, zmq.PULL)),
    "no types of a proxy": (TypeError, lambda module, _: module.ThreadProxy()),
    "too many arguments": (TypeError, lambda module, _: module.Proxy(zmq.PULL, zmq.PUSH, zmq.PUB, 1)),
    "in type that is a string": (TypeError, lambda module, _: module.Device(zmq.QUEUE, "PULL", zmq.PUSH).start()),
    "out type that is a string": (TypeError, lambda module, _: module.Device(zmq.QUEUE, zmq.PULL, "PUSH").start()),
    "unknown in type": (zmq.ZMQError, lambda module, _: module.Device(zmq.QUEUE, 99, zmq.PUSH).start()),
    "unknown mon type": (zmq.ZMQError, lambda module, _: module.Proxy(zmq.PULL, zmq.PUSH, 99).start()),
    "address that is none": (zmq.ZMQError, lambda module, _: started(module, "bind_in", "nonsense")),
    "address that is a number": (TypeError, lambda module, _: started(module, "connect_out", 5)),
    "address of another machine": (zmq.ZMQError, lambda module, _: started(module, "bind_out", "tcp://192.0.2.1:5559")),
    "unknown option": (zmq.ZMQError, lambda module, _: started(module, "setsockopt_in", 99_999, 1)),
    "option of another type": (TypeError, lambda module, _: started(module, "setsockopt_in", zmq.LINGER, "x")),
    "random port of no address": (zmq.ZMQError, lambda module, _: random_port(module, "nonsense")),
    "random port of a number": (zmq.ZMQError, lambda module, _: random_port(module, 5)),
    "random port of another machine": (zmq.ZMQError, lambda module, _: random_port(module, "tcp://192.0.2.1")),
    "random port of ipc": (ValueError, lambda module, _: random_port(module, "ipc:///tmp/nowhere")),
    "random port of no range": (ValueError, lambda module, _: random_port(module, LOCAL, 10, 5)),
    "random port without a try": (zmq.ZMQBindError, lambda module, _: random_port(module, LOCAL, 5000, 5001, 0)),
    "random port, unknown argument": (TypeError, lambda module, _: random_port(module, LOCAL, ports=5)),
    "frontend that is none": (TypeError, lambda module, of: module.proxy(None, of["b"])),
    "backend that is a string": (TypeError, lambda module, of: module.proxy(of["a"], "x")),
    "backend that is a number": (TypeError, lambda module, of: module.device(zmq.QUEUE, of["a"], -1)),
    "capture that is a string": (TypeError, lambda module, of: module.proxy(of["a"], of["b"], "x")),
    "control that is a string": (TypeError, lambda module, of: module.proxy_steerable(of["a"], of["b"], None, "x")),
    "no sockets": (TypeError, lambda module, _: module.proxy()),
    "frontend that is closed": (zmq.ZMQError, lambda module, of: module.proxy(of["closed"], of["b"])),
    "in that is a string": (TypeError, lambda module, of: module.monitored_queue("x", of["b"], of["c"])),
    "in that is closed": (zmq.ZMQError, lambda module, of: module.monitored_queue(of["closed"], of["b"], of["c"])),
    "no monitor": (TypeError, lambda module, of: module.monitored_queue(of["a"], of["b"])),
    "monitor that is none": (TypeError, lambda module, of: module.monitored_queue(of["a"], of["b"], None)),
    "prefix that is a string": (TypeError, lambda module, of: module.monitored_queue(of["a"], of["b"], of["c"], "in")),
    "prefix that is none": (
        TypeError,
        lambda module, of: module.monitored_queue(of["a"], of["b"], of["c"], out_prefix=None),
    ),
    "prefix of a device that is a string": (
        TypeError,
        lambda module, _: module.MonitoredQueue(zmq.PULL, zmq.PUSH, in_prefix="in").start(),
    ),
}


def started(module: Any, method: str, *args: Any) -> None:
    """Start a device that was told something."""
    device = module.Device(zmq.STREAMER, zmq.PULL, zmq.PUSH)
    getattr(device, method)(*args)
    device.start()


def random_port(module: Any, *args: Any, **kwargs: Any) -> None:
    """Ask a device for a random port."""
    module.ThreadDevice(zmq.STREAMER, zmq.PULL, zmq.PUSH).bind_in_to_random_port(*args, **kwargs)


@pytest.mark.parametrize("what", WRONG)
def test_wrong_argument_raises_the_same_type(module: Any, connect: Connect, what: str) -> None:
    error, call = WRONG[what]
    sockets = {"a": connect(zmq.ROUTER), "b": connect(zmq.DEALER), "c": connect(zmq.PUB), "closed": connect(zmq.PULL)}
    sockets["closed"].close()
    raised = in_thread(lambda: call(module, sockets)).exception(DEADLINE_S)
    assert type(raised) is error


def test_wrong_address_has_the_number_of_the_error(module: Any, connect: Connect) -> None:
    taken = bind(connect(zmq.PULL))
    device = module.Device(zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device.bind_in(taken)
    raised = in_thread(device.start).exception(DEADLINE_S)
    assert isinstance(raised, zmq.ZMQError)
    assert raised.errno == zmq.EADDRINUSE


def test_no_free_port_is_a_bind_error(module: Any) -> None:
    device = module.ThreadDevice(zmq.STREAMER, zmq.PULL, zmq.PUSH)
    asked: list[int] = []

    def ask() -> None:
        for _ in range(100):
            asked.append(device.bind_in_to_random_port(LOCAL, min_port=47_000, max_port=47_003))

    with pytest.raises(zmq.ZMQBindError):
        ask()
    assert set(asked) <= {47_000, 47_001, 47_002}
