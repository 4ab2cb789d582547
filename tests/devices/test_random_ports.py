"""A random port is bound from the moment at which its number is known."""

import gc
import socket

import pytest
import zmq

from pollbroker.devices import ThreadDevice
from tests.devices.conftest import LOCAL, MakeDevice
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
