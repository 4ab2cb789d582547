"""Drawing scenarios: one description of what a scenario can be, for hypothesis and for seeds.

Every function here takes a `Draw`, which makes the choices. `RandomDraw` makes them from a seed and is fast enough for
thousands of scenarios. `strategies.py` has a `Draw` that asks hypothesis, which can then shrink a scenario. So both
draw from the same scenarios.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from zmq import SocketType

from pollbroker.device import Device
from pollbroker.standard_devices import DEVICES, QUEUE
from pollbroker.testing.devices import DEALERS, PATIENT_QUEUE, TUNNEL
from pollbroker.testing.peer_types import (
    ALONE,
    INITIATORS,
    LINKS,
    WORKERS,
    check_can_be_judged,
    has_handler,
    has_usual_ports,
    peer_types,
    type_of,
)
from pollbroker.testing.scenario import Action, LinePlan, Meanwhile, Scenario, Side, Step, Topology

_Value = TypeVar("_Value")

_T = SocketType

PEERS: Final = 3
"""The greatest number of peers at each port of a line."""

POOL: Final[tuple[Device, ...]] = (
    *(device for device in DEVICES.values() if device.behaviour is None for _ in range(2)),
    QUEUE,
    PATIENT_QUEUE,
    DEALERS,
    TUNNEL,
)
"""The devices to choose from when a scenario is not for a given device."""

WIRE_POOL: Final = tuple(device for device in POOL if device is not TUNNEL)
"""Those of them whose ports the wire can serve: it has no PAIR."""


class Draw(Protocol):
    """Makes the choices in a scenario."""

    def integer(self, least: int, most: int) -> int:
        """Choose a number from `least` to `most`, both included. hypothesis shrinks towards `least`."""

    def choice(self, options: Sequence[_Value]) -> _Value:
        """Choose one of the options. hypothesis shrinks towards the first."""

    def several(self, make: "Callable[[Draw], _Value]", least: int, most: int) -> tuple[_Value, ...]:
        """Choose `least` to `most` values, each made by `make`."""

    def binary(self, most: int) -> bytes:
        """Choose up to `most` bytes."""


class RandomDraw:
    """Makes choices from a seed: the same seed makes the same choices on every machine and in every Python from
    3.11."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, least: int, most: int) -> int:
        return least + int(self._random.random() * (most - least + 1))

    def choice(self, options: Sequence[_Value]) -> _Value:
        return options[int(self._random.random() * len(options))]

    def several(self, make: Callable[[Draw], _Value], least: int, most: int) -> tuple[_Value, ...]:
        return tuple(make(self) for _ in range(self.integer(least, most)))

    def binary(self, most: int) -> bytes:
        return self._random.randbytes(self.integer(0, most))


# -- messages ----------------------------------------------------------------------------------------------------------


def draw_frame(draw: Draw, most_bytes: int = 40) -> bytes:
    """Draw a frame: empty, of any bytes, or one that looks like a routing id or like a subscription."""
    kind = draw.integer(0, 5)
    if kind == 0:
        return b""
    if kind == 1:
        return b"\0" + draw.binary(3).ljust(4, b"\1")  # as libzmq's own routing ids: five bytes, the first of them zero
    if kind == 2:
        return draw.choice((b"\1", b"\0", b"\1a"))
    return draw.binary(most_bytes)


def draw_body(draw: Draw, most_bytes: int = 40) -> tuple[bytes, ...]:
    """Draw the frames of a message that follow its mark: up to seven."""
    return draw.several(lambda draw: draw_frame(draw, most_bytes), 0, 7)


# -- topologies --------------------------------------------------------------------------------------------------------


def draw_high_water_mark(draw: Draw) -> int:
    """Draw a high-water mark; 0 is no limit."""
    return draw.choice((0, 1, 2, 3, 5))


_BEHAVIOURS: Final[tuple[int | str, ...]] = (1, "one", 0, 2, 3, "raise", "nonsense")
"""The actions of a handler; see `LinePlan.behaviour`."""


def draw_line(draw: Draw, device: Device | None = None, pool: Sequence[Device] = POOL) -> LinePlan:
    """Draw one line of brokers, of the given device or of one from the pool. Raises `DeviceError` for a device that the
    kit cannot judge."""
    generic = device is None
    if device is None:
        device = draw.choice(pool)
    plan = draw_peers(draw, device, generic)
    publishes = any(type_of(device, sink) is _T.XPUB for route in device.routes for sink in route.sinks)
    return replace(
        plan,
        delimited=any(plan.peer_type(port) is _T.REP for port in device.ports) or draw.integer(0, 2) == 0,
        high_water_mark=draw_high_water_mark(draw),
        peers_high_water_mark=draw_high_water_mark(draw),
        no_drop=publishes and draw.integer(0, 1) == 1,
        capture=draw.choice(("none", "none", "plain", "prefixed")),
        capture_high_water_mark=draw_high_water_mark(draw),
    )


def draw_peers(draw: Draw, device: Device, generic: bool = False) -> LinePlan:
    """Draw what depends on the types of a device's ports: the types of the peers, and the length of a chain.

    Raises `DeviceError` for a device that the kit cannot judge.

    Arguments:
        generic: True for a device from the pool, for which a handler may be drawn.
    """
    check_can_be_judged(device)
    return _draw_usual_line(draw, device, generic) if has_usual_ports(device) else _draw_broker(draw, device)


def _draw_usual_line(draw: Draw, device: Device, generic: bool) -> LinePlan:
    """Draw a line of a device that has a frontend, and no other port but a backend: its length, its peers, and, if the
    device is from the pool, what its handler does."""
    entry = type_of(device, "frontend")
    exit_type = type_of(device, "backend") if "backend" in device.ports else entry
    handled = has_handler(device)
    behaviour: tuple[int | str, ...] = ()
    if generic and exit_type not in (_T.XPUB, _T.ROUTER) and draw.integer(0, 4) == 0:
        behaviour = draw.several(lambda draw: draw.choice(_BEHAVIOURS), 1, 6)
    hops = 1
    if "backend" in device.ports and (exit_type, entry) in LINKS and not handled and not behaviour:
        hops = draw.choice((1, 1, 1, 2, 3))
    client = draw.choice(INITIATORS[entry])
    worker = draw.choice((WORKERS if entry is _T.ROUTER else INITIATORS)[exit_type])
    if handled or behaviour or "backend" not in device.ports:
        client, worker = client if client is not _T.REQ else _T.DEALER, worker if worker is not _T.REP else _T.DEALER
    worker = worker if "backend" in device.ports else client
    return LinePlan(device, hops=hops, client=client, worker=worker, behaviour=behaviour)


def _draw_broker(draw: Draw, device: Device) -> LinePlan:
    """Draw one broker of a device with other ports: the types of the peers at each of them."""
    return LinePlan(device, peers={port: draw.choice(peer_types(device, port)) for port in device.ports})


def draw_topology(draw: Draw, device: Device | None = None, pool: Sequence[Device] = POOL) -> Topology:
    """Draw up to three lines in one engine, of the given device or of devices from the pool."""
    return Topology(
        lines=draw.several(lambda draw: draw_line(draw, device, pool), 1, 3),
        bodies=draw.several(draw_body, 1, 4),
        waiter=draw.choice(("nested", "flat")),
        burst_messages=draw.choice((1000, 1, 2, 5)),
        burst_bytes=draw.choice((1 << 20, 1, 100)),
        processes_in_send=draw.choice((0.0, 0.5, 1.0)),
        operation_s=draw.choice((0.0, 0.0, 0.0003)),
    )


# -- schedules ---------------------------------------------------------------------------------------------------------

_Entry = tuple[Action, Side]

_TURN: Final[tuple[_Entry, ...]] = ((Action.TURN, "frontend"),)
_REST: Final[tuple[_Entry, ...]] = ((Action.REST, "frontend"),)
_RESUME: Final[tuple[_Entry, ...]] = ((Action.RESUME, "frontend"),)
_STEERING: Final[tuple[_Entry, ...]] = (
    *_TURN * 8,
    *_REST * 4,
    (Action.PAUSE, "frontend"),
    *_RESUME * 2,
    (Action.WAIT, "frontend"),
)


@lru_cache(maxsize=64)
def peers_actions(plan: LinePlan) -> tuple[_Entry, ...]:
    """What the peers of a line may do. An action that is to be chosen more often is in the result more often."""
    entries: list[_Entry] = []
    sources = [route.source for route in plan.device.routes]
    for side in plan.device.ports:
        kind = plan.peer_type(side)
        is_asked = side != sources[0] and type_of(plan.device, side) is not _T.ROUTER
        answers = is_asked and kind in (_T.DEALER, _T.REP, _T.PAIR)
        entries += [(Action.JOIN, side)] * 2
        if kind not in ALONE:
            entries += [(Action.LEAVE, side), (Action.REJOIN, side)]
        if side in sources and kind not in (_T.PULL, _T.SUB, _T.REP):
            entries += [(Action.SEND, side)] * (2 if answers else 6)
        if kind not in (_T.PUSH, _T.PUB):
            entries += [(Action.TAKE, side)] * 4
        if side in sources and answers:
            entries += [(Action.ANSWER, side)] * 5
        if kind is _T.SUB:
            entries += [(Action.SUBSCRIBE, side), (Action.UNSUBSCRIBE, side)]
    if plan.capture != "none":
        entries += [(Action.COPY, "backend")] * 2
    return tuple(entries)


@lru_cache(maxsize=64)
def _meddling_actions(plan: LinePlan) -> tuple[_Entry, ...]:
    """What peers may do while the engine works: mostly send and receive."""
    actions = peers_actions(plan)
    traffic = tuple(entry for entry in actions if entry[0] in (Action.SEND, Action.TAKE, Action.ANSWER))
    return (*actions, *traffic, *traffic)


@lru_cache(maxsize=64)
def _all_actions(plan: LinePlan) -> tuple[_Entry, ...]:
    actions = peers_actions(plan)
    return (*_STEERING, *actions, *actions[::3], (Action.REPLACE, "frontend"))


@lru_cache(maxsize=64)
def _faults(plan: LinePlan) -> tuple[_Entry, ...]:
    faults = (Action.LEAVE, Action.REJOIN, Action.PAUSE, Action.RESUME, Action.REPLACE)
    return tuple(entry for entry in _all_actions(plan) if entry[0] in faults)


def _draw_acting(draw: Draw, topology: Topology, menu: Callable[[LinePlan], tuple[_Entry, ...]]) -> Step:
    line = draw.integer(0, len(topology.lines) - 1)
    action, side = draw.choice(menu(topology.lines[line]))
    return Step(action, line, side, draw.integer(0, PEERS - 1), draw.integer(1, 12))


def draw_peers_step(draw: Draw, topology: Topology) -> Step:
    """Draw a step that a peer takes."""
    return _draw_acting(draw, topology, peers_actions)


def draw_meanwhile(draw: Draw, topology: Topology) -> Meanwhile:
    """Draw a step that a peer takes while the engine works, or, rarely, the end of the context."""
    if draw.integer(0, 99) == 99:
        return Meanwhile(draw.integer(0, 12), Step(Action.SHUT_DOWN))
    return Meanwhile(draw.integer(0, 12), _draw_acting(draw, topology, _meddling_actions))


def draw_fault(draw: Draw, topology: Topology) -> Step:
    """Draw a fault: a peer leaves or comes again, or a broker is paused, resumed or replaced."""
    return _draw_acting(draw, topology, _faults)


def draw_step(draw: Draw, topology: Topology) -> Step:
    """Draw any step except the end of the context, which can only be the last."""
    step = _draw_acting(draw, topology, _all_actions)
    if step.action is Action.TURN:
        step = replace(step, count=1 + step.count // 4)
    if step.action in (Action.TURN, Action.REST):
        return replace(step, meanwhile=draw.several(lambda draw: draw_meanwhile(draw, topology), 0, 6))
    return step


def draw_schedule(draw: Draw, topology: Topology, most: int = 60) -> tuple[Step, ...]:
    """Draw up to `most` steps in a topology, with faults among them."""
    steps = draw.several(lambda draw: draw_step(draw, topology), 0, most)
    return (*steps, Step(Action.SHUT_DOWN)) if draw.integer(0, 24) == 24 else steps


def draw_opening(draw: Draw, topology: Topology) -> tuple[Step, ...]:
    """Draw the steps in which subscribers join before the schedule begins."""
    joining = tuple(
        Step(Action.JOIN, line, side, who)
        for line, plan in enumerate(topology.lines)
        for side in plan.device.ports
        if plan.peer_type(side) is _T.SUB
        for who in range(draw.integer(1, PEERS))
    )
    return (*joining, Step(Action.REST)) if joining else ()


def draw_scenario(
    draw: Draw, device: Device | None = None, most_steps: int = 60, pool: Sequence[Device] = POOL
) -> Scenario:
    """Draw a topology, of the given device or of devices from the pool, and a schedule for it."""
    topology = draw_topology(draw, device, pool)
    return Scenario(topology, (*draw_opening(draw, topology), *draw_schedule(draw, topology, most_steps)))


def scenario_of_seed(seed: int, device: Device | None = None, *, pool: Sequence[Device] = POOL) -> Scenario:
    """Return the scenario of a seed, of the given device or of devices from the pool."""
    return draw_scenario(RandomDraw(seed), device, pool=pool)
