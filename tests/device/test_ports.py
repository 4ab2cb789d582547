"""Devices with ports of any names and number: what is sound, and what is refused with a reason."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import FILTER, QUEUE, Device, DeviceError, EndpointError, Route, To
from tests.support.types import Connect, MakeEngine

PORTS: dict[str, Any] = {"intake": zmq.PULL, "a": zmq.PUSH, "b": (zmq.PUSH, zmq.PUB)}
ROUTE = Route("intake", ("a", "b"))
SHORT: Any = {"frontend": zmq.REP, "frontend_options": {"sndhwm": 1}}
FEWER: Any = {"frontend_options": {"subscribe": b"a"}}
TEE = Device("tee", ports=PORTS, routes=[ROUTE])


async def _asynchronous_generator(frames: list[bytes]) -> Any:
    yield frames


def test_ports_keep_their_order() -> None:
    assert list(TEE.ports.items()) == [("intake", (zmq.PULL,)), ("a", (zmq.PUSH,)), ("b", (zmq.PUSH, zmq.PUB))]
    assert (TEE.types_of("b"), TEE.types_of("c")) == ((zmq.PUSH, zmq.PUB), ())


def test_short_form_makes_the_same_device() -> None:
    there, back = Route("frontend", "backend"), Route("backend", "frontend")
    short = Device("q", zmq.ROUTER, zmq.DEALER, (there, back), frontend_options={"router_mandatory": 1})
    long = Device(
        "q",
        ports={"frontend": zmq.ROUTER, "backend": zmq.DEALER},
        routes=[there, back],
        options={"frontend": {"router_mandatory": 1}},
    )
    assert short == long
    assert list(short.ports) == ["frontend", "backend"]


def test_short_form_may_stand_beside_other_ports() -> None:
    route = Route("frontend", ("backend", "copies"))
    device = Device("d", zmq.PULL, zmq.PUSH, [route], ports={"copies": zmq.PUB}, backend_options={})
    assert list(device.ports) == ["frontend", "backend", "copies"]


def test_short_form_takes_the_place_of_the_entry_of_a_port() -> None:
    changed = replace(QUEUE, name="q", **SHORT)
    assert changed.ports == {"frontend": (zmq.REP,), "backend": (zmq.DEALER,)}
    assert (list(changed.ports), changed.options) == (["frontend", "backend"], {"frontend": {"sndhwm": 1}})
    assert replace(FILTER, **FEWER).options_of("frontend") == {"subscribe": b"a"}


def test_device_with_ports_can_be_changed_pickled_and_copied() -> None:
    assert replace(TEE, name="other").ports == TEE.ports
    for other in (pickle.loads(pickle.dumps(TEE)), copy.copy(TEE), copy.deepcopy(TEE)):
        assert other == TEE
        assert hash(other) == hash(TEE)


def test_ports_and_options_cannot_be_changed() -> None:
    ports: dict[str, Any] = {"intake": zmq.PULL, "out": zmq.PUSH}
    sinks = ["out"]
    device = Device("d", ports=ports, routes=[Route("intake", sinks)], options={"out": {"sndhwm": 1}})
    ports["out"] = zmq.PUB
    sinks.append("other")
    assert (device.types_of("out"), device.routes[0].sinks) == ((zmq.PUSH,), ("out",))
    for mapping in (device.ports, device.options, device.options_of("out")):
        with pytest.raises(TypeError, match="cannot be changed"):
            mapping["out"] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (
            {"ports": {**PORTS, "unused": zmq.PUB}, "routes": [ROUTE]},
            "unused: no route uses this port; expected it as the source or sink of one",
        ),
        (
            {"ports": PORTS, "routes": [Route("intake", ("a", "c"))]},
            "route intake -> a, c: the device has no c; its ports are: intake, a, b",
        ),
        (
            {"ports": {"frontend": zmq.PULL, "backend": zmq.PUSH}, "routes": [Route("fronted", "backend")]},
            "route fronted -> backend: the device has no fronted; did you mean 'frontend'?",
        ),
        (
            {"ports": PORTS, "routes": [Route("intake", ("a", "a", "b"))]},
            "route intake -> a, a, b: one sink is named twice; expected each of them once",
        ),
        (
            {"ports": PORTS, "routes": [Route("intake", ())]},
            "route intake -> : it has no sink; expected the name of a port, or several",
        ),
        (
            {"ports": PORTS, "routes": [Route("a", ("intake", "b"))]},
            "route a -> intake, b: a: a PUSH socket cannot receive",
        ),
        (
            {"ports": {"x": zmq.PULL, "y": zmq.PULL}, "routes": [Route("x", "y")]},
            "route x -> y: y: a PULL socket cannot send",
        ),
        (
            {"ports": PORTS, "routes": [Route("intake", "a"), Route("intake", "b")]},
            "two routes take from one port, intake; a port can be read by one route only",
        ),
        ({"ports": {}, "routes": []}, "it has no route; expected one or more"),
        ({"ports": [zmq.PULL], "routes": [ROUTE]}, f"ports: [{zmq.PULL!r}]: expected a mapping of socket types"),
        ({"ports": {"in-take": zmq.PULL}, "routes": [ROUTE]}, "'in-take' cannot name a port; expected an identifier"),
        ({"ports": {7: zmq.PULL}, "routes": [ROUTE]}, "7 cannot name a port; expected an identifier"),
        ({"ports": {"capture": zmq.PUB}, "routes": [ROUTE]}, "capture: no port can have this name"),
        ({"ports": {"name": zmq.PUB}, "routes": [ROUTE]}, "name: no port can have this name"),
        ({"ports": {"self": zmq.PUB}, "routes": [ROUTE]}, "self: no port can have this name"),
        ({"ports": {"a_options": zmq.PUB}, "routes": [ROUTE]}, "a_options: no port can have this name"),
        ({"ports": {"a": ()}, "routes": [ROUTE]}, "a: no socket type is given"),
        ({"ports": {"a": zmq.STREAM}, "routes": [ROUTE]}, "a: STREAM cannot serve in a broker; expected one of DEALER"),
        (
            {"ports": PORTS, "routes": [ROUTE], "options": {"c": {"sndhwm": 1}}},
            "options: the device has no c; its ports are: intake, a, b",
        ),
        ({"ports": PORTS, "routes": [ROUTE], "options": {"a": 5}}, "options: a: 5: expected a mapping by option name"),
        ({"ports": PORTS, "routes": [ROUTE], "options": 5}, "options: 5: expected a mapping of options by the ports'"),
        (
            {"ports": PORTS, "routes": [Route("intake", ("a", "b"), _asynchronous_generator)]},
            "route intake -> a, b: via is <function _asynchronous_generator",
        ),
    ],
)
def test_unsound_definition_is_refused_with_its_place(definition: dict[str, Any], expected: str) -> None:
    with pytest.raises(DeviceError) as caught:
        Device("d", **definition)
    assert str(caught.value).startswith(f"device d: {expected}")


@pytest.mark.parametrize("frames", [[], (), b"frame", "text", None, [b"a", "b"], 5])
def test_to_without_a_message_is_refused(frames: Any) -> None:
    with pytest.raises(DeviceError) as caught:
        To("a", frames)
    assert str(caught.value) == f"To('a'): frames is {frames!r}: expected one or more frames of bytes"


# -- what a broker of such a device is opened and registered with -----------------------------------------------------


def test_broker_has_the_ports_of_its_device_and_capture(make_engine: MakeEngine) -> None:
    engine = make_engine()
    broker = engine.add(
        "t",
        TEE,
        intake="tcp://127.0.0.1:*",
        a="inproc://a",
        b=["inproc://b1", "inproc://b2"],
        capture="inproc://c",
        options={"a": {"sndhwm": 7}},
    )
    assert list(broker.ports) == ["intake", "a", "b", "capture"]
    assert broker.ports["b"].endpoints == ("inproc://b1", "inproc://b2")
    assert broker.ports["intake"].endpoint.startswith("tcp://127.0.0.1:")
    with pytest.raises(DeviceError, match=r"^brokers\.t: it has no frontend; its ports are: intake, a, b, capture$"):
        _ = broker.frontend


def open_tee(**changes: Any) -> dict[str, Any]:
    """What opens a broker of the tee, or, with changes, does not."""
    given = {"intake": "inproc://intake", "a": "inproc://a", "b": "inproc://b", **changes}
    return {name: value for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "kind", "expected"),
    [
        ({"b": None}, EndpointError, "brokers.t.b: no endpoint is given; the device tee has a b"),
        (
            {"frontend": "inproc://f"},
            DeviceError,
            "brokers.t.frontend: the device tee has no frontend; its ports are: intake, a, b; expected no endpoint for "
            "it",
        ),
        (
            {"c": "inproc://c"},
            DeviceError,
            "brokers.t.c: the device tee has no c; its ports are: intake, a, b; expected no endpoint for it",
        ),
        (
            {"a_options": {"sndhwm": 1}},
            DeviceError,
            "brokers.t.a_options: the device tee has no a_options; its ports are: intake, a, b (socket options of a "
            "port are given as options={'a': ...}); expected no endpoint for it",
        ),
        (
            {"options": {"c": {"sndhwm": 1}}},
            DeviceError,
            "brokers.t.c: the device tee has no c; its ports are: intake, a, b; expected no options for it",
        ),
        (
            {"capture": "inproc://c", "capture_prefixes": {"b2": b"x"}},
            DeviceError,
            "brokers.t.capture: prefixes {'b2': b'x'}: the device tee has no b2; its ports are: intake, a, b",
        ),
        (
            {"capture": "inproc://c", "capture_prefixes": {"b": "text"}},
            DeviceError,
            "brokers.t.capture: prefixes {'b': 'text'}: expected two frames: a tuple of bytes, or a mapping of them by "
            "port",
        ),
    ],
)
def test_what_does_not_fit_the_ports_is_refused_before_a_socket_is_opened(
    make_engine: MakeEngine, changes: dict[str, Any], kind: type[Exception], expected: str
) -> None:
    engine = make_engine()
    with pytest.raises(kind) as caught:
        engine.add("t", TEE, **open_tee(**changes))
    assert str(caught.value) == expected
    assert engine.add("t", TEE, **open_tee()).state == "running"  # no address is in use


@pytest.fixture
def tee_sockets(connect: Connect) -> Callable[..., dict[str, Any]]:
    def make(**changes: Any) -> dict[str, Any]:
        given = {"intake": connect(zmq.PULL), "a": connect(zmq.PUSH), "b": connect(zmq.PUB)}
        return {name: socket for name, socket in (given | changes).items() if socket is not None}

    return make


def test_registered_sockets_are_taken_by_the_names_of_their_ports(
    make_engine: MakeEngine, tee_sockets: Callable[..., dict[str, Any]]
) -> None:
    broker = make_engine().register(device=TEE, **tee_sockets())
    assert (broker.name, {name: port.type for name, port in broker.ports.items()}) == (
        "tee-1",
        {"intake": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUB},
    )


def test_registered_sockets_that_do_not_fit_the_ports_are_refused(
    make_engine: MakeEngine, connect: Connect, tee_sockets: Callable[..., dict[str, Any]]
) -> None:
    engine = make_engine()
    for changes, expected in (
        ({"a": None}, "brokers.t.a: no socket is given; the device tee has a a"),
        ({"a": connect(zmq.SUB)}, "device tee: a: a SUB socket cannot stand here; expected PUSH"),
        (
            {"c": connect(zmq.SUB)},
            "brokers.t.c: the device tee has no c; its ports are: intake, a, b; expected no socket for it",
        ),
    ):
        with pytest.raises(DeviceError) as caught:
            engine.register(device=TEE, name="t", **tee_sockets(**changes))
        assert str(caught.value) == expected
    with pytest.raises(DeviceError, match=r"^brokers\.t\.intake: no device is given that has a intake; expected one$"):
        engine.register(name="t", **tee_sockets())
    with pytest.raises(DeviceError, match=r"^brokers\.t\.frontend: no socket is given; expected one$"):
        engine.register(name="t", backend=connect(zmq.PUSH))
    assert engine.brokers == {}
