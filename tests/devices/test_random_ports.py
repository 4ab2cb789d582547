"""A random port is bound from the moment at which its number is known."""

import gc
import os
import socket
import struct
import sys
from typing import Any

import pytest
import zmq

from pollbroker.devices import ThreadDevice
from tests.devices.conftest import LOCAL, MakeDevice
from tests.support.deadline import DEADLINE_S
from tests.support.types import Connect


def is_free(port: int) -> bool:
    """Return True if a port of this machine can be bound."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_port_is_bound_before_the_device_starts(make_ours: MakeDevice, connect: Connect) -> None:
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    source, sink = device.bind_in_to_random_port(LOCAL), device.bind_out_to_random_port(LOCAL)
    assert not is_free(source)
    with pytest.raises(zmq.ZMQError, match="Address already in use"):
        connect(zmq.PULL).bind(f"{LOCAL}:{source}")
    pusher, puller = connect(zmq.PUSH, f"{LOCAL}:{source}"), connect(zmq.PULL, f"{LOCAL}:{sink}")
    pusher.send(b"sent before the start")
    device.start()
    assert puller.recv() == b"sent before the start"


def test_several_random_ports_lead_to_one_socket(make_ours: MakeDevice, connect: Connect) -> None:
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    sources = [device.bind_in_to_random_port(LOCAL) for _ in range(3)]
    sink = device.bind_out_to_random_port(LOCAL)
    device.start()
    puller = connect(zmq.PULL, f"{LOCAL}:{sink}")
    for port in sources:
        connect(zmq.PUSH, f"{LOCAL}:{port}").send(b"%d" % port)
        assert puller.recv() == b"%d" % port


def test_port_is_given_up_by_stop() -> None:
    device = ThreadDevice(zmq.STREAMER, zmq.PULL, zmq.PUSH)
    port = device.bind_in_to_random_port(LOCAL)
    device.stop()
    assert is_free(port)


def test_port_is_given_up_with_the_device() -> None:
    device = ThreadDevice(zmq.STREAMER, zmq.PULL, zmq.PUSH)
    port = device.bind_in_to_random_port(LOCAL)
    del device
    gc.collect()
    assert is_free(port)


def test_option_for_a_descriptor_of_the_users_is_kept(make_ours: MakeDevice, connect: Connect) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        own = listener.getsockname()[1]
        device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
        device.setsockopt_in(zmq.USE_FD, listener.detach())
    random = device.bind_in_to_random_port(LOCAL)
    device.bind_in(f"{LOCAL}:{own}")
    sink = device.bind_out_to_random_port(LOCAL)
    device.start()
    puller = connect(zmq.PULL, f"{LOCAL}:{sink}")
    for port in (random, own):
        connect(zmq.PUSH, f"{LOCAL}:{port}").send(b"%d" % port)
        assert puller.recv() == b"%d" % port


def test_other_transports_have_no_port_to_be_bound(make_ours: MakeDevice, connect: Connect) -> None:
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    name = device.bind_in_to_random_port("inproc://somewhere", min_port=1, max_port=9)
    device.start()
    assert 1 <= name < 9
    pusher = device._context.socket(zmq.PUSH)
    pusher.connect(f"inproc://somewhere:{name}")
    pusher.close(linger=0)


before_and_after = pytest.mark.parametrize("when", ["before the port", "after the port"])


def bind_with(device: Any, name: str, when: str, address: str, **options: int) -> int:
    """Set options of one socket of a device, before or after a random port of it is bound; the port."""
    set_option, bind = (getattr(device, method.format(name)) for method in ("setsockopt_{}", "bind_{}_to_random_port"))
    port: int = bind(address) if when.startswith("after") else 0
    for option, value in options.items():
        set_option(getattr(zmq, option), value)
    return port or int(bind(address))


@before_and_after
@pytest.mark.parametrize("name", ["in", "out", "mon", "ctrl"])
def test_device_with_ipv6_is_reached_at_a_random_port(name: str, when: str, make_ours: MakeDevice) -> None:
    device = make_ours("ThreadProxySteerable", zmq.REP, zmq.REP, zmq.REP, zmq.REP)
    port = bind_with(device, name, when, "tcp://*", IPV6=1)
    with socket.create_connection(("::1", port), timeout=DEADLINE_S):
        pass
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S):
        pass


@before_and_after
def test_device_with_ipv6_serves_at_a_random_port(when: str, make_ours: MakeDevice, connect: Connect) -> None:
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    source, sink = bind_with(device, "in", when, "tcp://*", IPV6=1), device.bind_out_to_random_port(LOCAL)
    device.start()
    pusher = connect(zmq.PUSH)
    pusher.setsockopt(zmq.IPV6, 1)
    pusher.connect(f"tcp://[::1]:{source}")
    pusher.send(b"over IPv6")
    assert connect(zmq.PULL, f"{LOCAL}:{sink}").recv() == b"over IPv6"


@before_and_after
def test_listener_of_a_random_port_has_the_options_of_the_socket(when: str, make_ours: MakeDevice) -> None:
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    bind_with(device, "in", when, LOCAL, BACKLOG=7, RCVBUF=20_000, SNDBUF=30_000, TOS=0x08, SNDHWM=5)
    with socket.socket(fileno=os.dup(device._in.binds[0]._descriptor)) as listener:
        asked_for = 2 if sys.platform == "linux" else 1  # Linux doubles the sizes of buffers (socket(7))
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 20_000 * asked_for
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 30_000 * asked_for
        assert listener.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0x08
        if sys.platform == "linux":
            (backlog,) = struct.unpack_from("=I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 28)
            assert backlog == 7


def test_option_that_no_listener_has_leaves_the_port_as_it_is(make_ours: MakeDevice) -> None:
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    port = device.bind_in_to_random_port(LOCAL)
    with socket.create_connection(("127.0.0.1", port)) as early:
        device.setsockopt_in(zmq.RCVHWM, 5)
        early.settimeout(DEADLINE_S)
        device.start()
        assert early.recv(1) == b"\xff"  # libzmq's greeting: the connection is that of before


def test_wrong_option_is_raised_by_start(make_ours: MakeDevice) -> None:
    device = make_ours("ThreadDevice", zmq.STREAMER, zmq.PULL, zmq.PUSH)
    device.setsockopt_in(zmq.IPV6, 5)
    device.bind_in_to_random_port(LOCAL)
    with pytest.raises(zmq.ZMQError, match="Invalid argument"):
        device.start()
