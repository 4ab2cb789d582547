"""Options that fit some types of sockets alone: both transports refuse them at the others."""

import re
from typing import Any, Final

import pytest
import zmq

from pollbroker import FILTER, QUEUE, STREAMER, ConfigError, Device, Engine
from pollbroker.options import _BYTES, FITTING
from pollbroker.wire.served import why_not_built
from tests.support.addresses import ANY_PORT
from tests.support.types import Socket

_TYPES: Final = [
    zmq.PUSH, zmq.PULL, zmq.ROUTER, zmq.DEALER, zmq.REP, zmq.REQ, zmq.PUB, zmq.SUB, zmq.XPUB, zmq.XSUB, zmq.PAIR,
    zmq.STREAM,
]  # fmt: skip

_VALUES: Final[dict[bool, list[Any]]] = {True: [b"x", b"x" * 32, b"127.0.0.1", b""], False: [1, 0, -1, 100]}
"""For options whose values are bytes, and for the others. One of these is good for each option."""

wire = pytest.mark.skipif(why_not_built() is not None, reason="the wire was not built")


def is_taken(context: zmq.Context[Socket], socket_type: int, option: zmq.SocketOption) -> bool:
    for value in _VALUES[option.name in _BYTES]:
        with context.socket(socket_type) as socket:
            try:
                socket.setsockopt(option, value)
            except zmq.ZMQError:
                continue
            return True
    return False


# The table says of every option at which types libzmq takes it, or that it takes it at all of them or at none.
@pytest.mark.parametrize("option", zmq.SocketOption, ids=lambda option: option.name)
def test_table_says_what_libzmq_does(context: zmq.Context[Socket], option: zmq.SocketOption) -> None:
    taken = {kind for kind in _TYPES if is_taken(context, kind, option)}
    if option.name in FITTING:
        assert taken == FITTING[option.name]
    else:
        assert taken in (set(), set(_TYPES))


@wire
@pytest.mark.parametrize(
    ("device", "port", "options", "expected"),
    [
        (
            FILTER,
            "backend",
            {"subscribe": ["EUR"]},
            "subscribe: libzmq refuses b'EUR' for a PUB socket, and so",
        ),
        (FILTER, "backend", {"unsubscribe": "EUR"}, "unsubscribe: libzmq refuses b'EUR' for a PUB socket"),
        (STREAMER, "frontend", {"router_mandatory": 1}, "router_mandatory: libzmq refuses 1 for a PULL socket"),
        (STREAMER, "backend", {"xpub_nodrop": 1}, "xpub_nodrop: libzmq refuses 1 for a PUSH socket"),
        (QUEUE, "backend", {"router_handover": 1}, "router_handover: libzmq refuses 1 for a DEALER socket"),
        (QUEUE, "frontend", {"xpub_verboser": 0}, "xpub_verboser: libzmq refuses 0 for a ROUTER socket"),
        # Those that the wire does not have, and libzmq neither: it is of no use to choose libzmq.
        (QUEUE, "frontend", {"req_relaxed": 1}, "req_relaxed: libzmq refuses 1 for a ROUTER socket"),
        (
            QUEUE,
            "frontend",
            {"hwm": 5},
            "hwm: libzmq refuses 5 for a ROUTER socket, and so does the wire: expected",
        ),
    ],
)
def test_option_that_does_not_fit_is_refused_by_the_wire_before_anything_is_opened(
    engine: Engine, device: Device, port: str, options: dict[str, Any], expected: str
) -> None:
    taken = engine.add("taken", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    assert taken.frontend is not None
    end = taken.frontend.endpoint  # it cannot be bound
    with pytest.raises(ConfigError, match=rf"^brokers\.orders\.{port}: option {re.escape(expected)}"):
        engine.add("orders", device, frontend=end, backend=end, options={port: options}, transport="wire")


@wire
def test_options_that_fit_are_accepted_by_the_wire(engine: Engine) -> None:
    engine.add("a", FILTER, frontend=ANY_PORT, backend=ANY_PORT, frontend_options={"subscribe": "a"}, transport="wire")
    options = {"xpub_nodrop": 1, "xpub_verbose": 1, "xpub_verboser": 0}
    engine.add("b", FILTER, frontend=ANY_PORT, backend=ANY_PORT, backend_options=options, transport="wire")
    options = {"router_mandatory": 1, "router_handover": 1}
    engine.add("c", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, frontend_options=options, transport="wire")


@wire
def test_type_that_the_wire_does_not_have_is_named(engine: Engine) -> None:
    with pytest.raises(ConfigError, match=r"capture: transport 'wire': the wire has no sockets of the type PAIR; exp"):
        engine.add(
            "a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, capture=ANY_PORT, capture_type=zmq.PAIR,
            transport="wire",
        )  # fmt: skip
