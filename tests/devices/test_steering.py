"""A control socket steers the device that it belongs to, and no other device of the engine."""

import json
from collections.abc import Callable

import pytest
import zmq

from pollbroker import ConfigError
from tests.devices.conftest import LOCAL, MakeDevice
from tests.support.control import make_ask
from tests.support.deadline import DEADLINE_S
from tests.support.types import Connect, Socket

Ask = Callable[..., list[bytes]]


def start_proxy(make_ours: MakeDevice, connect: Connect, ctrl_type: int = zmq.REP) -> tuple[Ask, Socket, Socket]:
    """Start a steerable proxy; what gives it a command, and a pusher and a puller."""
    proxy = make_ours("ThreadProxySteerable", zmq.PULL, zmq.PUSH, zmq.PUB, ctrl_type)
    proxy.setsockopt_ctrl(zmq.LINGER, -1)  # a reply to the command that ends the device
    source, sink, control = (getattr(proxy, f"bind_{name}_to_random_port")(LOCAL) for name in ("in", "out", "ctrl"))
    proxy.start()
    client = connect(zmq.REQ, f"{LOCAL}:{control}")

    def ask(*command: bytes) -> list[bytes]:
        client.send_multipart(command)
        return client.recv_multipart()

    return ask, connect(zmq.PUSH, f"{LOCAL}:{source}"), connect(zmq.PULL, f"{LOCAL}:{sink}")


def test_paused_device_moves_nothing_and_another_goes_on(make_ours: MakeDevice, connect: Connect) -> None:
    (ask, pusher, puller), (_, other_pusher, other_puller) = (start_proxy(make_ours, connect) for _ in range(2))
    assert ask(b"PAUSE") == [b""]
    pusher.send(b"later")
    other_pusher.send(b"passes")
    assert other_puller.recv() == b"passes"
    (broker,) = json.loads(ask(b"STATS")[1])["brokers"].values()
    assert (broker["state"], broker["flows"]["frontend"]["received"]) == ("paused", 0)
    assert not puller.poll(0)
    assert ask(b"RESUME") == [b""]
    assert puller.recv() == b"later"


def test_device_shows_itself_alone(make_ours: MakeDevice, connect: Connect) -> None:
    (ask, pusher, puller), _ = (start_proxy(make_ours, connect) for _ in range(2))
    pusher.send(b"message")
    assert puller.recv() == b"message"
    _, name = ask(b"LIST")
    (broker,) = json.loads(ask(b"STATS")[1])["brokers"].values()
    assert broker["name"] == name.decode()
    assert broker["flows"]["frontend"]["sent"] == 1
    assert ask(b"STATS", name)[0] == b"OK"
    assert ask(b"STATS", b"another")[0] == b"ERROR"


@pytest.mark.parametrize("by_name", [False, True])
def test_terminated_device_ends_and_another_goes_on(make_ours: MakeDevice, connect: Connect, by_name: bool) -> None:
    (ask, *_), (_, other_pusher, other_puller) = (start_proxy(make_ours, connect) for _ in range(2))
    names = ask(b"LIST")[1:] if by_name else []
    assert ask(b"TERMINATE", *names) == [b""]
    other_pusher.send(b"passes")
    assert other_puller.recv() == b"passes"


def test_device_removes_itself_alone(make_ours: MakeDevice, connect: Connect) -> None:
    (ask, *_), (other_ask, other_pusher, other_puller) = (start_proxy(make_ours, connect, zmq.ROUTER) for _ in range(2))
    status, why = ask(b"REMOVE", other_ask(b"LIST")[1])
    assert status == b"ERROR"
    assert why.startswith(b"REMOVE: no broker is named")
    other_pusher.send(b"passes")
    assert other_puller.recv() == b"passes"
    assert ask(b"REMOVE", ask(b"LIST")[1]) == [b"OK", b""]
    other_pusher.send(b"passes")
    assert other_puller.recv() == b"passes"


def test_device_that_is_removed_does_not_say_that_what_it_still_sends_is_lost(
    make_ours: MakeDevice, connect: Connect
) -> None:
    proxy = make_ours("ThreadProxySteerable", zmq.PULL, zmq.PUSH, ctrl_type=zmq.ROUTER)
    source, _, control = (getattr(proxy, f"bind_{name}_to_random_port")(LOCAL) for name in ("in", "out", "ctrl"))
    proxy.start()
    connect(zmq.PUSH, f"{LOCAL}:{source}").send(b"held")
    while not proxy.statistics().flows["frontend"].held:
        proxy.join(0.001)
    ask = make_ask(connect(zmq.DEALER, f"{LOCAL}:{control}"), b"")
    assert ask(b"REMOVE", ask(b"LIST")[1]) == [b"OK", b""]


def test_messages_of_the_device_alone_are_watched(make_ours: MakeDevice, connect: Connect) -> None:
    (ask, pusher, puller), (other_ask, other_pusher, other_puller) = (
        start_proxy(make_ours, connect, zmq.ROUTER) for _ in range(2)
    )
    assert ask(b"TAP", other_ask(b"LIST")[1])[0] == b"ERROR"
    status, stream = ask(b"TAP", ask(b"LIST")[1])
    assert status == b"OK"
    for one, other in ((other_pusher, other_puller), (pusher, puller)):
        one.send(b"passes")
        assert other.recv() == b"passes"
    assert len(json.loads(ask(b"NEXT", stream)[1])["items"]) == 1


@pytest.mark.parametrize("by_name", [False, True])
def test_events_of_the_device_alone_are_told(make_ours: MakeDevice, connect: Connect, by_name: bool) -> None:
    (ask, *_), (other_ask, *_) = (start_proxy(make_ours, connect, zmq.ROUTER) for _ in range(2))
    own, other = ask(b"LIST")[1], other_ask(b"LIST")[1]
    assert ask(b"EVENTS", other)[0] == b"ERROR"
    stream = ask(b"EVENTS", *([own] if by_name else []))[1]
    assert (other_ask(b"PAUSE"), ask(b"PAUSE")) == ([b""], [b""])
    told = json.loads(ask(b"NEXT", stream, b"0")[1])["items"]
    assert [(event["kind"], event["broker"]) for event in told] == [("broker_paused", own.decode())]


def test_terminated_device_sends_what_it_holds(make_ours: MakeDevice, connect: Connect) -> None:
    proxy = make_ours("ThreadProxySteerable", zmq.PULL, zmq.PUSH, ctrl_type=zmq.PAIR)
    source, sink, control = (getattr(proxy, f"bind_{name}_to_random_port")(LOCAL) for name in ("in", "out", "ctrl"))
    proxy.setsockopt_out(zmq.LINGER, -1)
    proxy.start()
    connect(zmq.PUSH, f"{LOCAL}:{source}").send(b"held")
    while not proxy.statistics().flows["frontend"].held:
        proxy.join(0.001)
    connect(zmq.PAIR, f"{LOCAL}:{control}").send(b"TERMINATE")
    while proxy.statistics().state == "running":
        proxy.join(0.001)
    assert connect(zmq.PULL, f"{LOCAL}:{sink}").recv() == b"held"
    proxy.join(DEADLINE_S)
    assert proxy.done


@pytest.mark.parametrize("kind", [zmq.SUB, zmq.PULL])
def test_socket_that_cannot_answer_takes_commands(make_ours: MakeDevice, connect: Connect, kind: int) -> None:
    proxy = make_ours("ThreadProxySteerable", zmq.PULL, zmq.PUSH, ctrl_type=kind)
    port = proxy.bind_ctrl_to_random_port(LOCAL)
    if kind == zmq.SUB:
        proxy.setsockopt_ctrl(zmq.SUBSCRIBE, b"")
    proxy.start()
    commands = connect(zmq.PUSH if kind == zmq.PULL else zmq.XPUB, f"{LOCAL}:{port}")
    if kind == zmq.SUB:
        assert commands.recv() == b"\1"
    commands.send(b"TERMINATE")
    proxy.join(DEADLINE_S)
    assert proxy.done


def test_socket_that_cannot_receive_is_refused(make_ours: MakeDevice) -> None:
    expected = "^control: a PUSH socket cannot take commands; expected REP, PAIR, SUB, ROUTER, PULL or DEALER$"
    with pytest.raises(ConfigError, match=expected):
        make_ours("ThreadProxySteerable", zmq.PULL, zmq.PUSH, ctrl_type=zmq.PUSH).start()


# pyzmq's documentation says so; its code raises TypeError.
def test_proxy_without_a_control_socket_is_a_proxy(make_ours: MakeDevice, connect: Connect) -> None:
    proxy = make_ours("ThreadProxySteerable", zmq.PULL, zmq.PUSH)
    source, sink = proxy.bind_in_to_random_port(LOCAL), proxy.bind_out_to_random_port(LOCAL)
    proxy.start()
    connect(zmq.PUSH, f"{LOCAL}:{source}").send(b"passes")
    assert connect(zmq.PULL, f"{LOCAL}:{sink}").recv() == b"passes"


def test_copies_for_a_monitor_are_not_counted_as_sent_to_the_backend(make_ours: MakeDevice, connect: Connect) -> None:
    proxy = make_ours("ThreadProxySteerable", zmq.PULL, zmq.PUSH, zmq.PUSH, zmq.REP)
    source, sink, monitor, control = (
        getattr(proxy, f"bind_{name}_to_random_port")(LOCAL) for name in ("in", "out", "mon", "ctrl")
    )
    proxy.start()
    connect(zmq.PUSH, f"{LOCAL}:{source}").send(b"message")
    for port in (sink, monitor):
        assert connect(zmq.PULL, f"{LOCAL}:{port}").recv() == b"message"
    client = connect(zmq.REQ, f"{LOCAL}:{control}")
    client.send(b"STATISTICS")
    counts = [int.from_bytes(count, "little") for count in client.recv_multipart()]
    assert counts == [1, 7, 0, 0, 0, 0, 1, 7]
