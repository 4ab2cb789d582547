"""Devices with any number of named ports, and routes with several sinks, in the kit."""

from typing import Any

import pytest
import zmq
from zmq import SocketType

import pollbroker.testing
from pollbroker import Device, DeviceError, Route, To
from pollbroker.testing import (
    DEVICES,
    FAN_IN,
    FAN_OUT,
    SEVERAL_SINKS,
    SHARDS,
    TEE,
    Action,
    InvariantViolation,
    LinePlan,
    Scenario,
    Step,
    Topology,
    check_columns,
    check_device,
    check_scenario,
    check_seed,
    device_machine,
)
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.environments import ENVIRONMENTS
from pollbroker.testing.peer_types import peer_types
from pollbroker.testing.trace import Counted, Got
from tests.mutants.breaking import in_place
from tests.mutants.table import MUTANTS
from tests.support.kit import few

DEVICES_OF_MANY_PORTS = (*SEVERAL_SINKS, FAN_IN)
each_device = pytest.mark.parametrize("device", DEVICES_OF_MANY_PORTS, ids=lambda device: device.name)


def by_first_letter(message: list[bytes]) -> To:
    return To("early" if message[-1] < b"n" else "late", message)


DICTIONARY = Device(
    "dictionary",
    ports={"clients": zmq.ROUTER, "early": zmq.DEALER, "late": zmq.DEALER},
    routes=(Route("clients", ("early", "late"), by_first_letter), Route("early", "clients"), Route("late", "clients")),
    options={"clients": {"router_mandatory": 1}},
)


def check_seeds(device: Device, count: int) -> None:
    for seed in range(count):
        check_seed(seed, device)


# -- sound devices keep every promise ----------------------------------------------------------------------------------


@each_device
def test_every_column_serves_devices_of_many_ports(device: Device) -> None:
    check_device(device, examples=5, steps=30)


@each_device
def test_seeds_of_devices_of_many_ports_keep_every_promise(device: Device) -> None:
    check_seeds(device, 100)


@each_device
def test_columns_agree_on_devices_of_many_ports(device: Device) -> None:
    for seed in range(5):
        check_columns(scenario_of_seed(seed, device), tuple(ENVIRONMENTS))


def in_pieces(message: list[bytes]) -> Any:
    for number, frame in enumerate(message):
        yield To(("x", "y")[number % 2], [frame])
    yield message


def changed(message: list[bytes]) -> list[bytes]:
    """The same for many messages, and without a mark."""
    return [b"changed", *message[2:]]


ONE_SINK = Device("one sink", ports={"x": zmq.DEALER, "y": zmq.DEALER}, routes=(Route("x", "y", changed),))

PIECES = Device(
    "pieces", ports={"source": zmq.PULL, "x": zmq.PUSH, "y": zmq.XPUB}, routes=(Route("source", ("x", "y"), in_pieces),)
)

MERGED = Device(
    "merged",
    ports={"a": zmq.PULL, "b": zmq.PULL, "c": zmq.PUSH, "d": zmq.PUSH},
    routes=(Route("a", ("c", "d"), changed), Route("b", "c", changed)),
)

CONFERENCE = Device(
    "conference",
    ports={"x": zmq.PAIR, "y": zmq.PAIR, "z": zmq.DEALER},
    routes=(Route("x", ("y", "z")), Route("y", ("x", "z")), Route("z", ("x", "y"))),
)

ANSWERED_TWICE = Device(
    "answered twice",
    ports={"frontend": zmq.ROUTER, "a": zmq.DEALER, "b": zmq.DEALER},
    routes=(Route("frontend", ("a", "b")), Route("a", "frontend"), Route("b", "frontend")),
    options={"frontend": {"router_mandatory": 1}},
)

TWO_QUEUES = Device(
    "two queues",
    ports={"frontend": zmq.ROUTER, "backend": zmq.DEALER, "other": zmq.ROUTER, "others": zmq.DEALER},
    routes=(
        Route("frontend", "backend"),
        Route("backend", "frontend"),
        Route("other", "others"),
        Route("others", "other"),
    ),
    options={"frontend": {"router_mandatory": 1}, "other": {"router_mandatory": 1}},
    slow_peer="wait",
)

SELECTION = Device(
    "selection",
    ports={"news": zmq.XSUB, "readers": zmq.XPUB, "archive": zmq.PUSH},
    routes=(Route("news", ("readers", "archive")), Route("readers", "news", lambda message: message)),
)


@pytest.mark.parametrize(
    "device",
    [DICTIONARY, ONE_SINK, PIECES, MERGED, CONFERENCE, ANSWERED_TWICE, TWO_QUEUES, SELECTION],
    ids=lambda device: device.name,
)
def test_sound_device_of_ones_own_passes(device: Device) -> None:
    check_device(device, examples=5, steps=30)


TestShards = device_machine(SHARDS)
TestTeeOnTheNativePump = device_machine(TEE, "native")
for _case in (TestShards, TestTeeOnTheNativePump):
    _case.settings = few


# -- what is wrong is found --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "device"),
    [
        ("a full sink's copy lost", TEE),
        ("a message for a full sink given to the others again", FAN_OUT),
        ("a message To one sink sent to another", SHARDS),
        ("a full sink keeps the message from those behind it", MERGED),
    ],
)
def test_broken_engine_is_found_with_several_sinks(claim: str, device: Device) -> None:
    mutant = next(one for one in MUTANTS if one.claim == claim)
    with in_place(mutant), pytest.raises(InvariantViolation):
        check_seeds(device, 100)


def test_router_that_drops_in_silence_is_found() -> None:
    silent = Device("silent", ports=SHARDS.ports, routes=SHARDS.routes)
    with pytest.raises(InvariantViolation, match="no loss beyond the counted"):
        check_seeds(silent, 100)


# -- a run by hand -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ENVIRONMENTS)
def test_full_sink_holds_up_its_route_only(column: str) -> None:
    device = Device(
        "two routes",
        ports={"x": zmq.PULL, "y": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUSH},
        routes=(Route("x", ("a", "b")), Route("y", "b")),
    )
    steps = (
        *(Step(Action.JOIN, side=side) for side in ("x", "y", "b")),  # nobody is at `a`, which is full therefore
        Step(Action.SEND, side="x", count=3),
        Step(Action.SEND, side="y", count=4),
        Step(Action.REST),
        Step(Action.TAKE, side="b", count=9),
    )
    trace = check_scenario(Scenario(Topology((LinePlan(device),)), steps), column)
    got = [event for _, event in trace.of(Got) if event.port == "b"][:5]
    assert [event.path for event in got].count("0a.x") == 1
    assert max(event.statistics.held for _, event in trace.of(Counted)) == 1


# -- plans -------------------------------------------------------------------------------------------------------------


def test_plan_names_its_peers_by_port() -> None:
    plan = LinePlan(SHARDS, peers={"frontend": SocketType.REQ, "b": SocketType.REP})
    assert [plan.peer_type(port) for port in SHARDS.ports] == [SocketType.REQ, SocketType.DEALER, SocketType.REP]
    assert eval(repr(plan), dict(vars(pollbroker.testing))) == plan
    assert hash(plan) == hash(LinePlan(SHARDS, peers=dict(plan.peers)))


def test_client_and_worker_are_short_for_two_peers() -> None:
    plan = LinePlan(DEVICES["queue"], client=SocketType.REQ, worker=SocketType.REP)
    assert (plan.peer_type("frontend"), plan.peer_type("backend")) == (SocketType.REQ, SocketType.REP)
    plan = LinePlan(DEVICES["queue"], peers={"backend": SocketType.REP})
    assert (plan.peer_type("frontend"), plan.peer_type("backend")) == (SocketType.DEALER, SocketType.REP)


def test_requests_and_replies_are_tried_where_one_reply_comes_to_each_request() -> None:
    assert peer_types(TWO_QUEUES, "frontend") == (SocketType.DEALER, SocketType.REQ)
    assert peer_types(TWO_QUEUES, "others") == (SocketType.DEALER, SocketType.REP)
    assert peer_types(ANSWERED_TWICE, "frontend") == (SocketType.DEALER,)
    assert peer_types(DICTIONARY, "early") == (SocketType.DEALER,)


@pytest.mark.parametrize(
    ("arguments", "account"),
    [
        ({"hops": 2}, "device tee: a chain needs the ports frontend and backend and no other; found intake, work"),
        ({"peers": {"intak": SocketType.PUSH}}, "device tee: peers: the device has no intak; did you mean 'intake'"),
    ],
)
def test_plan_that_does_not_fit_its_device_is_refused(arguments: dict[str, Any], account: str) -> None:
    with pytest.raises(DeviceError, match=account):
        LinePlan(TEE, **arguments)


# -- what cannot be judged is refused ----------------------------------------------------------------------------------


REFUSED = {
    "a: the test kit has no peers for a REQ; expected one of DEALER": Device(
        "d", ports={"x": zmq.ROUTER, "a": zmq.REQ}, routes=(Route("x", "a"), Route("a", "x"))
    ),
    "x: this SUB subscribes to nothing, so no message would be tested; expected options=": Device(
        "d", ports={"x": zmq.SUB, "a": zmq.PUB}, routes=(Route("x", "a"),)
    ),
    "x: no route brings subscriptions to this XSUB": Device(
        "d", ports={"x": zmq.XSUB, "a": zmq.PUSH}, routes=(Route("x", "a"),)
    ),
    "route a -> x, log: subscriptions come from an XPUB, .* found XPUB to PUSH": Device(
        "d",
        ports={"x": zmq.XSUB, "a": zmq.XPUB, "log": zmq.PUSH},
        routes=(Route("x", "a"), Route("a", ("x", "log"))),
    ),
    "route b -> x: subscriptions come from an XPUB, .* found PULL to XSUB": Device(
        "d", ports={"x": zmq.XSUB, "a": zmq.PUSH, "b": zmq.PULL}, routes=(Route("x", "a"), Route("b", "x"))
    ),
}


@pytest.mark.parametrize("account", REFUSED)
def test_device_that_cannot_be_judged_is_refused(account: str) -> None:
    device = REFUSED[account]
    for check in (check_device, device_machine, LinePlan, lambda device: check_seed(1, device)):
        with pytest.raises(DeviceError, match=f"^device d: {account}"):
            check(device)


def test_subscriber_that_comes_between_two_messages_that_are_alike_is_served() -> None:
    """The handler sends an empty message to y for each that comes: the first before there is a subscriber."""
    join = {port: Step(Action.JOIN, side=port) for port in PIECES.ports}
    kinds = {"source": SocketType.PUSH, "x": SocketType.PULL, "y": SocketType.SUB}
    topology = Topology((LinePlan(PIECES, peers=kinds),), bodies=((b"",),), processes_in_send=0.0)
    send = Step(Action.SEND, side="source")
    steps = (join["source"], join["x"], send, Step(Action.REST), join["y"], Step(Action.REST), send, Step(Action.REST))
    trace = check_scenario(Scenario(topology, steps))
    assert next(got.frames for _, got in trace.of(Got) if got.port == "y") == (b"",)
