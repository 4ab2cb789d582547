"""Sockets that listen already, and are given by their descriptors (`use_fd`): they stay the caller's."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq

from pollbroker import Engine
from pollbroker.binding import open_port
from pollbroker.endpoint import Endpoint
from pollbroker.errors import EndpointError
from pollbroker.options import parse_options
from tests.support.addresses import ANY_PORT, bind
from tests.support.deadline import wait_until
from tests.support.descriptors import descriptors, opened_since
from tests.support.types import Connect, Socket

both = pytest.mark.parametrize("transport", ["libzmq", "wire"])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens at an address of tcp."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


def address_of(listener: socket.socket) -> str:
    return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One engine in a thread: the pumps and the waiters have nothing to do with descriptors."""
    with Engine() as engine:
        yield engine


@both
def test_one_broker_after_the_other_may_listen_there(
    engine: Engine, connect: Connect, listener: socket.socket, transport: str
) -> None:
    address = address_of(listener)
    options = {"frontend": {"use_fd": listener.fileno()}}
    for name in ("a", "b"):
        broker = engine.add(name, "streamer", frontend=address, backend=ANY_PORT, options=options, transport=transport)
        with connect(zmq.PUSH, address) as pusher, connect(zmq.PULL, *broker.backend.endpoints) as puller:
            pusher.send(name.encode())
            assert puller.recv() == name.encode()
        engine.remove(name)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


@both
def test_broker_that_cannot_begin_leaves_no_copy(
    engine: Engine, connect: Connect, listener: socket.socket, transport: str
) -> None:
    """Neither of a port that was opened, nor of one whose turn had not come."""
    engine.add("opens what stays", "streamer", frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    address, taken = address_of(listener), bind(connect(zmq.PULL))
    before = descriptors()
    for given, frontend, backend in (("frontend", address, taken), ("backend", taken, address)):
        options = {given: {"use_fd": listener.fileno()}}
        with pytest.raises(EndpointError, match="Address already in use"):
            engine.add("a", "streamer", frontend=frontend, backend=backend, options=options, transport=transport)
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    wait_until(lambda: not opened_since(before))


def test_copy_is_closed_if_libzmq_cannot_bind(context: zmq.Context[Socket]) -> None:
    """It then has not looked at the descriptor."""
    context.socket(zmq.PULL).close()  # so that the context has opened what stays
    with socket.socket(socket.AF_UNIX) as given:
        before = descriptors()
        options = tuple(parse_options("here", {"use_fd": given.fileno()}))
        too_long = Endpoint(f"ipc://{'x' * 200}", bind=True)
        with pytest.raises(EndpointError, match="cannot bind"):
            open_port(
                context, where="here", name="frontend", socket_type=zmq.PULL, endpoints=[too_long], options=options
            )
        wait_until(lambda: not opened_since(before))
        assert given.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM


@pytest.mark.parametrize("kind", ["does not listen", "no stream", "of another kind"])
def test_socket_that_libzmq_would_abort_the_process_for_is_refused(engine: Engine, kind: str) -> None:
    with ExitStack() as opened:
        if kind == "of another kind":
            made = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            made.bind(f"\0pollbroker-{os.getpid()}-{id(made)}")
            made.listen()
        else:
            made = opened.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "no stream" else socket.SOCK_STREAM)
            )
            made.bind(("127.0.0.1", 0))
        with pytest.raises(EndpointError, match=r"cannot bind: the socket of use_fd does not listen at an address of"):
            engine.add(
                "a",
                "streamer",
                frontend="tcp://127.0.0.1:1",
                backend=ANY_PORT,
                options={"frontend": {"use_fd": made.fileno()}},
                transport="libzmq",
            )
    assert not engine.brokers
