"""Sockets that cannot be opened: the error says where, why, and what to do about it."""

import gc
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import zmq

from pollbroker import Engine, EngineError
from pollbroker.binding import open_port
from pollbroker.control import attach, request
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Socket

ENGINE_ENDED = "the engine's context was terminated; make a new Engine"


def is_ending(context: zmq.Context[Socket]) -> bool:
    try:
        context.socket(zmq.PAIR).close()
    except zmq.ZMQError as error:
        return error.errno == zmq.ETERM
    return False


@contextmanager
def a_context_that_its_owner_has_ended() -> Iterator[zmq.Context[Socket]]:
    context: zmq.Context[Socket] = zmq.Context()
    context.term()
    yield context


@contextmanager
def a_context_that_somebody_else_has_ended() -> Iterator[zmq.Context[Socket]]:
    owners: zmq.Context[Socket] = zmq.Context()
    shared: zmq.Context[Socket] = zmq.Context.shadow(owners.underlying)
    owners.term()
    yield shared


@contextmanager
def a_context_that_is_being_ended() -> Iterator[zmq.Context[Socket]]:
    context: zmq.Context[Socket] = zmq.Context()
    socket = context.socket(zmq.PAIR)
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()
    try:
        wait_until(lambda: is_ending(context))
        yield context
    finally:
        socket.close()
        ending.join(DEADLINE_MS / 1000)
    assert not ending.is_alive()


def add(engine: Engine) -> object:
    return engine.add("orders", "queue", frontend="inproc://f", backend="inproc://b")


def attach_control(engine: Engine) -> object:
    return attach(engine, "inproc://control")


@pytest.mark.parametrize(
    "make_context",
    [a_context_that_its_owner_has_ended, a_context_that_somebody_else_has_ended, a_context_that_is_being_ended],
)
@pytest.mark.parametrize(("call", "place"), [(add, "brokers.orders.frontend"), (attach_control, "control")])
def test_opening_in_a_terminated_context_raises(
    make_context: Callable[[], AbstractContextManager[zmq.Context[Socket]]],
    call: Callable[[Engine], object],
    place: str,
) -> None:
    with make_context() as context, Engine(context) as engine, pytest.raises(EngineError) as raised:
        call(engine)
    assert str(raised.value) == f"{place}: cannot open a socket: {ENGINE_ENDED}"


def test_opening_in_the_engines_own_terminated_context_raises() -> None:
    with Engine() as engine:
        engine.context.term()
        with pytest.raises(EngineError) as raised:
            add(engine)
    assert str(raised.value) == f"brokers.orders.frontend: cannot open a socket: {ENGINE_ENDED}"


def test_request_in_a_terminated_context_raises() -> None:
    context: zmq.Context[Socket] = zmq.Context()
    context.term()
    with pytest.raises(EngineError) as raised:
        request("inproc://control", "LIST", context=context)
    assert str(raised.value) == (
        "control: cannot open a socket: the context was terminated; expected an open one, or none"
    )


def test_context_without_a_socket_left_raises() -> None:
    with zmq.Context() as small:
        small.set(zmq.MAX_SOCKETS, 1)
        with Engine(small) as engine, pytest.raises(EngineError) as raised:
            add(engine)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert str(raised.value) == (
        "brokers.orders.backend: cannot open a socket: too many are open; close some, or set MAX_SOCKETS on the "
        "context before its first socket, or raise the limit of descriptors (ulimit -n) "
        f"(this process may open {descriptors} descriptors, this context 1 sockets)"
    )


def test_process_without_descriptors_left_raises() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Engine() as engine:
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, hard))
        try:
            with pytest.raises(EngineError) as raised:
                add(engine)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        add(engine)
    assert str(raised.value).startswith(
        "brokers.orders.frontend: cannot open a socket: Too many open files: fewer than 16 descriptors are left; "
        "expected a higher limit (ulimit -n) (this process may open 5 descriptors, "
    )


def test_socket_type_that_libzmq_does_not_have_raises(context: zmq.Context[Socket]) -> None:
    gc.collect()  # a socket that is collected before pyzmq has read errno would change that
    with pytest.raises(EngineError) as raised:
        open_port(context, where="here", name="frontend", socket_type=99, endpoints=(), options=())
    assert str(raised.value) == (
        f"here: cannot open a socket: this libzmq ({zmq.zmq_version()}) has no sockets of the type 99"
    )
