"""Comparing: one scenario runs in every environment, and the outcomes must be the same.

This shows that the simulation is like libzmq, and that the two pumps are alike. A scenario runs in simulation with the
Python pump, and on real inproc sockets with the Python pump and with the native pump: the three columns of a
comparison. Before, the scenario is made deterministic: the engine rests between the steps of the peers. Then nothing
depends on when libzmq processes its commands, or on which broker comes first in a turn, and the columns agree to the
message.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pollbroker.device import Device
from pollbroker.testing.checking import check_scenario, default_columns
from pollbroker.testing.environments import find_columns
from pollbroker.testing.scenario import Action, Scenario, Step
from pollbroker.testing.trace import FlowKey, Frames, Got, Sent, Trace
from pollbroker.testing.violation import InvariantViolation


@dataclass(frozen=True)
class Outcome:
    """The messages and the counters of a run, without the order in which things happened."""

    accepted: dict[str, list[bytes]]
    """By path: the marks of the messages that peers could send, in order."""
    arrived: dict[str, Counter[Frames]]
    """By path and port: the messages that came out, and how often. Which of several consumers gets a message is left
    out, because libzmq decides that."""
    counted: dict[FlowKey, tuple[int, ...]]
    """By flow: received, sent, held, added, unroutable, slow_peer, interrupted, filtered, failed."""


def outcome_of(trace: Trace) -> Outcome:
    """Return the outcome of a run."""
    accepted: dict[str, list[bytes]] = {name: [] for name in trace.paths}
    arrived = {f"{name} to {sink.port}": Counter[Frames]() for name, path in trace.paths.items() for sink in path.sinks}
    for _, sent in trace.of(Sent):
        accepted[sent.path].append(sent.mark)
    for _, got in trace.of(Got):
        arrived[f"{got.path} to {got.port}"][got.frames] += 1
    counted: dict[FlowKey, tuple[int, ...]] = {}
    for flow, last in trace.last_counted().items():
        s = last.statistics
        counted[flow] = (
            s.received, s.sent, s.held, s.added, s.unroutable, s.slow_peer, s.interrupted, s.filtered, s.failed,
        )  # fmt: skip
    return Outcome(accepted, arrived, counted)


def deterministic(scenario: Scenario) -> Scenario:
    """Return the same scenario without chance: no peer acts within a turn, and the engine rests after each step."""
    steps: list[Step] = []
    for step in scenario.steps:
        if step.action in (Action.TURN, Action.REST):
            step = Step(Action.REST)
        steps += [replace(step, meanwhile=()), Step(Action.REST)]
    topology = scenario.topology
    if any(_has_sink_that_is_not_read(line.device) for line in topology.lines):
        # A flat waiter does not watch a sink that no flow reads from. Such a socket notices that peers have come or
        # gone when it next sends, or up to a millisecond later, which depends on libzmq's clock.
        topology = replace(topology, waiter="nested")
    return Scenario(topology, tuple(steps))


def _has_sink_that_is_not_read(device: Device) -> bool:
    sources = {route.source for route in device.routes}
    return any(sink not in sources for route in device.routes for sink in route.sinks)


def check_columns(scenario: Scenario, columns: Iterable[str] | None = None) -> None:
    """Run a scenario, made deterministic, in every environment and compare the outcomes.

    Raises `InvariantViolation` if a promise is broken in one of the environments, or if their outcomes differ, and
    `ConfigError` if `columns` are not one or more names of environments.
    """
    names = default_columns() if columns is None else find_columns(columns)
    traces = [(column, check_scenario(deterministic(scenario), column)) for column in names]
    if any(step.action in (Action.LEAVE, Action.REJOIN, Action.REPLACE) for step in scenario.steps):
        # Whether a send still reaches a peer or a broker that leaves depends on when libzmq processes its commands.
        return
    outcomes = {column: outcome_of(trace) for column, trace in traces}
    first, *others = outcomes
    for other in others:
        for name in ("accepted", "arrived", "counted"):
            here, there = getattr(outcomes[first], name), getattr(outcomes[other], name)
            for key in here:
                if here[key] != there.get(key):
                    account = f"{name} on {key}: {first} has {here[key]}, {other} has {there.get(key)}"
                    raise InvariantViolation("the columns agree", account)
