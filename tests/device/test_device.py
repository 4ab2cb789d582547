"""Device definitions: what is sound, and what is refused with a reason."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, asdict, replace
from functools import partial
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from pollbroker import (
    DEVICES,
    FILTER,
    FORWARDER,
    MAJORDOMO,
    QUEUE,
    REFLECTOR,
    STREAMER,
    TITANIC,
    Device,
    DeviceError,
    EndpointError,
    Engine,
    Route,
)
from pollbroker.frozen import FrozenDict
from pollbroker.standard_devices import find_device
from tests.support.types import Connect, Socket

THERE = Route("frontend", "backend")
BACK = Route("backend", "frontend")
BOTH_WAYS = {zmq.ROUTER, zmq.DEALER, zmq.REQ, zmq.REP, zmq.XSUB, zmq.XPUB, zmq.PAIR}
RECEIVES = BOTH_WAYS | {zmq.PULL, zmq.SUB}
SENDS = BOTH_WAYS | {zmq.PUSH, zmq.PUB}


def test_table_holds_the_well_known_devices_by_name() -> None:
    known = {"queue": QUEUE, "forwarder": FORWARDER, "filter": FILTER, "streamer": STREAMER, "reflector": REFLECTOR}
    known |= {"majordomo": MAJORDOMO, "titanic": TITANIC}
    assert known.items() <= DEVICES.items()
    assert all(device.name == name for name, device in DEVICES.items())


@pytest.mark.parametrize("name", ["queue", "QUEUE", "Queue"])
def test_device_is_found_by_name_in_any_case(name: str) -> None:
    assert find_device(name) is QUEUE


def test_device_is_found_by_a_name_with_hyphens(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Device("my_device", zmq.PAIR, zmq.PAIR, (THERE, BACK))
    monkeypatch.setitem(DEVICES, "my_device", mine)
    assert find_device("my-device") is mine
    other = Device("my-device", zmq.PAIR, zmq.PAIR, (THERE, BACK))
    monkeypatch.setitem(DEVICES, "my-device", other)
    assert find_device("my-device") is other


def test_device_of_ones_own_may_join_the_table(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    mine = Device("mine", zmq.PAIR, zmq.PAIR, (THERE, BACK))
    monkeypatch.setitem(DEVICES, "mine", mine)
    assert engine.add("a", "mine", frontend="inproc://f", backend="inproc://b").device is mine


@pytest.mark.parametrize("wrong", ["queues", "", None, 5, Device, b"queue", ["queue"], zmq.ROUTER])
def test_what_is_no_device_is_refused(wrong: Any, engine: Engine) -> None:
    expected = f"is not a device; expected a Device or one of: {', '.join(sorted(DEVICES))}"
    with pytest.raises(DeviceError, match=expected):
        find_device(wrong)
    with pytest.raises(DeviceError, match=expected):
        engine.add("a", wrong, frontend="inproc://f", backend="inproc://b")


def test_device_is_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        QUEUE.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        QUEUE.options_of("frontend")["router_mandatory"] = 0  # type: ignore[index]
    options = {"sndhwm": 1}
    routes = [THERE]
    device = Device("mine", zmq.PULL, zmq.PUSH, routes, backend_options=options)
    options["sndhwm"] = 2
    routes.append(BACK)
    assert (device.options_of("backend")["sndhwm"], device.routes) == (1, (THERE,))


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_device_can_be_pickled_and_copied(device: Device) -> None:
    for other in (pickle.loads(pickle.dumps(device)), copy.copy(device), copy.deepcopy(device)):
        assert other == device
        with pytest.raises(TypeError, match="cannot be changed"):
            other.options["frontend"] = {}  # type: ignore[index]


def test_device_can_be_used_with_asdict_and_replace() -> None:
    fields = asdict(FORWARDER)
    assert fields["options"] == {"backend": {"maxmsgsize": 4096}}
    assert fields["name"] == "forwarder"
    assert json.loads(json.dumps(fields))["maxframes"] == 4096
    assert replace(FORWARDER, name="other").options == FORWARDER.options


@pytest.mark.parametrize("call", ["clear()", "pop('a')", "popitem()", "setdefault('b', 1)", "update(b=1)"])
def test_frozen_dictionary_refuses_every_change(call: str) -> None:
    frozen = FrozenDict(a=1)
    with pytest.raises(TypeError, match="this mapping cannot be changed; make a dict of it"):
        eval(f"frozen.{call}", {"frozen": frozen})
    with pytest.raises(TypeError, match="cannot be changed"):
        frozen |= {"b": 2}
    with pytest.raises(TypeError, match="cannot be changed"):
        del frozen["a"]
    assert frozen == {"a": 1}


@pytest.mark.parametrize("maxframes", [0, -1, 1.5, None, True, "10", 1 << 63])
def test_maxframes_must_be_a_positive_integer(maxframes: Any) -> None:
    with pytest.raises(DeviceError, match=r"^device mine: maxframes is .*: expected a positive integer"):
        Device("mine", zmq.PULL, zmq.PUSH, (THERE,), maxframes=maxframes)


async def coroutine(frames: list[bytes]) -> list[bytes]:
    return frames


async def asynchronous_generator(frames: list[bytes]):  # type: ignore[no-untyped-def]
    yield frames


class Awaited:
    async def __call__(self, frames: list[bytes]) -> list[bytes]:
        return frames


class AwaitedGenerator:
    async def __call__(self, frames: list[bytes]):  # type: ignore[no-untyped-def]
        yield frames


@pytest.mark.parametrize("via", [coroutine, partial(coroutine), Awaited(), Awaited().__call__])
def test_route_knows_a_coroutine_handler(via: Any) -> None:
    (route,) = Device("mine", zmq.PULL, zmq.PUSH, [Route("frontend", "backend", via=via)]).routes
    assert route.awaits


@pytest.mark.parametrize("via", [None, list, lambda frames: frames])
def test_other_handlers_are_not_awaited(via: Any) -> None:
    assert not Route("frontend", "backend", via=via).awaits


@pytest.mark.parametrize("via", [asynchronous_generator, AwaitedGenerator(), AwaitedGenerator().__call__])
def test_asynchronous_generator_is_refused(via: Any) -> None:
    expected = "^device mine: route frontend -> backend: via is .*, an asynchronous generator function; expected a"
    with pytest.raises(DeviceError, match=expected):
        Device("mine", zmq.PULL, zmq.PUSH, [Route("frontend", "backend", via=via)])


@pytest.mark.parametrize("limit", [0, -1, 1.5, None, True, "10"])
def test_max_concurrency_must_be_a_positive_integer(limit: Any) -> None:
    expected = "^device mine: route frontend -> backend: max_concurrency is .*: expected a positive integer"
    with pytest.raises(DeviceError, match=expected):
        Device("mine", zmq.PULL, zmq.PUSH, [Route("frontend", "backend", via=coroutine, max_concurrency=limit)])


@pytest.mark.parametrize("name", ["quue", "Forwader", "steamer"])
def test_misspelt_device_raises_with_the_nearest_name(name: str) -> None:
    with pytest.raises(DeviceError, match=r"did you mean '(queue|forwarder|streamer)'\?$"):
        find_device(name)


@pytest.mark.parametrize("name", ["", None, 5, b"mine"])
def test_name_must_be_a_string(name: Any) -> None:
    with pytest.raises(DeviceError, match="its name must be a non-empty string"):
        Device(name, zmq.PULL, zmq.PUSH, (THERE,))


@pytest.mark.parametrize("wrong", [zmq.STREAM, 99, -1, "PULL"])
def test_type_that_cannot_serve_is_refused(wrong: Any) -> None:
    named = wrong.name if isinstance(wrong, zmq.SocketType) else repr(wrong)
    with pytest.raises(DeviceError, match=f"^device mine: frontend: {named} cannot serve in a broker; expected one of"):
        Device("mine", wrong, zmq.PUSH, (THERE,))
    with pytest.raises(DeviceError, match=r"^device mine: backend: .* cannot serve in a broker; expected one of"):
        Device("mine", zmq.PULL, (zmq.PUSH, wrong), (THERE,))


@pytest.mark.parametrize("wrong", ["ROUTER", 1.5, ["ROUTER"], object(), [None], [[zmq.ROUTER]]])
def test_what_is_no_type_is_refused(wrong: Any) -> None:
    with pytest.raises(DeviceError, match=r"^device mine: frontend: "):
        Device("mine", wrong, zmq.PUSH, (THERE,))


def test_no_type_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"^device mine: backend: no socket type is given"):
        Device("mine", zmq.PULL, (), (THERE,))


def test_no_route_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"^device mine: it has no route; expected one or more"):
        Device("mine", zmq.PULL, zmq.PUSH, ())


@pytest.mark.parametrize("routes", [None, 5, THERE, ("frontend", "backend"), (("frontend", "backend"),), "ab"])
def test_what_are_no_routes_is_refused(routes: Any) -> None:
    with pytest.raises(DeviceError, match=r"^device mine: .*route"):
        Device("mine", zmq.PULL, zmq.PUSH, routes)


@pytest.mark.parametrize("end", ["middle", "", None, "capture", "FRONTEND", 0])
def test_route_must_run_between_ports(end: Any) -> None:
    with pytest.raises(DeviceError, match=f"^device mine: route {end} -> backend: the device has no {end}; "):
        Device("mine", zmq.PULL, zmq.PUSH, (Route(end, "backend"),))
    with pytest.raises(DeviceError, match=f"^device mine: route frontend -> backend, {end}: the device has no {end}; "):
        Device("mine", zmq.PULL, zmq.PUSH, (Route("frontend", ("backend", end)),))


def test_route_needs_its_port() -> None:
    with pytest.raises(DeviceError, match=r"^device mine: route frontend -> backend: the device has no backend"):
        Device("mine", zmq.PAIR, None, (THERE,))


def test_two_routes_cannot_take_from_one_port() -> None:
    with pytest.raises(DeviceError, match="two routes take from one port"):
        Device("mine", zmq.DEALER, zmq.DEALER, (THERE, Route("frontend", "frontend")))


def test_source_must_be_able_to_receive_and_sink_to_send() -> None:
    with pytest.raises(DeviceError, match="route backend -> frontend: backend: a PUSH socket cannot receive"):
        Device("mine", zmq.PULL, zmq.PUSH, (BACK,))
    with pytest.raises(DeviceError, match="route frontend -> backend: backend: a SUB socket cannot send"):
        Device("mine", zmq.PULL, zmq.SUB, (THERE,))
    with pytest.raises(DeviceError, match="route frontend -> backend: frontend: a PUB socket cannot receive"):
        Device("mine", (zmq.SUB, zmq.PUB), zmq.PUSH, (THERE,))


@pytest.mark.parametrize("via", [5, "handler", b"", [], object()])
def test_handler_must_be_callable(via: Any) -> None:
    with pytest.raises(DeviceError, match=r"^device mine: route frontend -> backend: via must be callable"):
        Device("mine", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=via),))


@pytest.mark.parametrize("policy", ["", "block", None, True])
def test_unknown_policy_for_slow_peers_is_refused(policy: Any) -> None:
    with pytest.raises(DeviceError, match=r"^device mine: slow_peer is .*expected 'drop' or 'wait'"):
        Device("mine", zmq.ROUTER, zmq.DEALER, (THERE, BACK), slow_peer=policy)


@pytest.mark.parametrize("options", [5, "sndhwm", ["sndhwm"], {5: 1}])
def test_options_must_be_a_mapping_by_name(options: Any) -> None:
    with pytest.raises(DeviceError, match=r"^device mine: frontend_options"):
        Device("mine", zmq.PULL, zmq.PUSH, (THERE,), frontend_options=options)


# A definition is sound exactly if each source can receive, each sink can send, and no port is read twice.
@given(
    frontend=st.sets(st.sampled_from(list(zmq.SocketType)), min_size=1, max_size=2),
    backend=st.none() | st.sets(st.sampled_from(list(zmq.SocketType)), min_size=1, max_size=2),
    routes=st.lists(
        st.builds(Route, st.sampled_from(["frontend", "backend"]), st.sampled_from(["frontend", "backend"])), max_size=3
    ),
)
def test_definition_is_sound_or_refused(
    frontend: set[zmq.SocketType], backend: set[zmq.SocketType] | None, routes: list[Route]
) -> None:
    types = {"frontend": frontend, "backend": backend or set()}
    sources = [route.source for route in routes]
    sound = (
        all(one in RECEIVES | SENDS for port in types.values() for one in port)
        and bool(routes)
        and len(set(sources)) == len(sources)
        and all(types[route.source] and types[route.source] <= RECEIVES for route in routes)
        and {port for port in types if types[port]} <= {one for route in routes for one in (route.source, *route.sinks)}
        and all(types[sink] and types[sink] <= SENDS for route in routes for sink in route.sinks)
    )
    try:
        device = Device("mine", frontend, backend, tuple(routes))
    except DeviceError as error:
        assert not sound, error  # noqa: PT017 - one of two good ends
        assert str(error).startswith("device mine: ")  # noqa: PT017 - one of two good ends
    else:
        assert sound
        assert set(device.types_of("frontend")) == frontend
        assert set(device.types_of("backend")) == (backend or set())


@pytest.mark.parametrize(
    ("name", "frontend", "backend", "expected"),
    [
        ("queue", zmq.DEALER, zmq.DEALER, "frontend: a DEALER socket cannot stand here; expected ROUTER"),
        ("queue", zmq.ROUTER, zmq.ROUTER, "backend: a ROUTER socket cannot stand here; expected DEALER"),
        ("forwarder", zmq.SUB, zmq.XPUB, "frontend: a SUB socket cannot stand here; expected XSUB"),
        ("filter", zmq.SUB, zmq.XPUB, "backend: a XPUB socket cannot stand here; expected PUB"),
        ("streamer", zmq.PUSH, zmq.PUSH, "frontend: a PUSH socket cannot stand here; expected PULL"),
        ("streamer", zmq.PULL, zmq.STREAM, "backend: a STREAM socket cannot stand here; expected PUSH"),
        ("reflector", zmq.PULL, None, "frontend: a PULL socket cannot stand here; expected ROUTER or DEALER or PAIR"),
    ],
)
def test_socket_of_the_wrong_type_is_refused(
    engine: Engine, connect: Connect, name: str, frontend: int, backend: int | None, expected: str
) -> None:
    sockets = connect(frontend), None if backend is None else connect(backend)
    with pytest.raises(DeviceError, match=rf"^device {name}: {expected}"):
        engine.register(*sockets, name)
    assert not engine.brokers


def test_number_of_sockets_must_be_the_devices(engine: Engine, connect: Connect) -> None:
    pair, pull = connect(zmq.PAIR), connect(zmq.PULL)
    with pytest.raises(
        DeviceError, match=r"^brokers\.a\.backend: no socket is given; the device streamer has a backend"
    ):
        engine.register(pull, None, STREAMER, name="a")
    with pytest.raises(DeviceError, match=r"^brokers\.a\.backend: the device reflector has no backend"):
        engine.register(pair, pull, REFLECTOR, name="a")
    nobody: Any = None
    with pytest.raises(DeviceError, match=r"^brokers\.a\.frontend: no socket is given"):
        engine.register(nobody, pair, REFLECTOR, name="a")
    assert not engine.brokers


@pytest.mark.parametrize("wrong", [5, "tcp://127.0.0.1:*", object(), zmq.PULL])
def test_what_is_no_socket_is_refused(engine: Engine, connect: Connect, wrong: Any) -> None:
    with pytest.raises(DeviceError, match=r"^brokers\.a\.frontend: .* is not a ZeroMQ socket"):
        engine.register(wrong, connect(zmq.PUSH), STREAMER, name="a")
    with pytest.raises(DeviceError, match=r"^brokers\.a\.capture: .* is not a ZeroMQ socket"):
        engine.register(connect(zmq.PULL), connect(zmq.PUSH), STREAMER, name="a", capture=wrong)


def test_one_socket_may_be_given_twice_for_a_device_of_one(engine: Engine, connect: Connect) -> None:
    socket: Socket = connect(zmq.PAIR)
    broker = engine.register(socket, socket, REFLECTOR)
    assert list(broker.ports) == ["frontend"]
    with pytest.raises(DeviceError, match="it has no backend; its ports are: frontend"):
        _ = broker.backend


def test_capture_type_is_checked(engine: Engine, connect: Connect) -> None:
    expected = "expected one of PUB, PUSH, DEALER, PAIR"
    endpoints = {"frontend": "inproc://f", "backend": "inproc://b", "capture": "inproc://c"}
    for wrong, name in ((zmq.PULL, "a PULL socket"), (99, "99"), ("PUB", "'PUB'"), (None, "None")):
        given: dict[str, Any] = {**endpoints, "capture_type": wrong}
        with pytest.raises(DeviceError, match=rf"^brokers\.a\.capture: {name} cannot capture; {expected}"):
            engine.add("a", STREAMER, **given)
    with pytest.raises(DeviceError, match=rf"^brokers\.a\.capture: a PULL socket cannot capture; {expected}"):
        engine.register(connect(zmq.PULL), connect(zmq.PUSH), STREAMER, name="a", capture=connect(zmq.PULL))
    assert not engine.brokers


@pytest.mark.parametrize(
    "prefixes", [(b"in",), (b"in", b"out", b"?"), ("in", "out"), (b"in", None), 5, b"io", "io", ()]
)
def test_capture_prefixes_must_be_two_frames(engine: Engine, connect: Connect, prefixes: Any) -> None:
    expected = r"^brokers\.a\.capture: .*expected two frames"
    sockets = connect(zmq.PULL), connect(zmq.PUSH)
    for _ in range(2):
        with pytest.raises(DeviceError, match=expected):
            engine.add(
                "a", STREAMER, frontend="inproc://f", backend="inproc://b", capture="inproc://c",
                capture_prefixes=prefixes,
            )  # fmt: skip
        with pytest.raises(DeviceError, match=expected):
            engine.register(*sockets, STREAMER, name="a", capture=connect(zmq.PUB), capture_prefixes=prefixes)
    assert not engine.brokers
    engine.register(*sockets, STREAMER, name="a")


def test_missing_and_superfluous_endpoints_raise(engine: Engine) -> None:
    with pytest.raises(
        EndpointError, match=r"^brokers\.a\.backend: no endpoint is given; the device queue has a backend"
    ):
        engine.add("a", QUEUE, frontend="inproc://f")
    with pytest.raises(
        DeviceError,
        match=r"^brokers\.a\.backend: the device reflector has no backend; its ports are: frontend; expected no ",
    ):
        engine.add("a", REFLECTOR, frontend="inproc://f", backend="inproc://b")
    assert not engine.brokers
