"""The columns: one scenario in every environment, and what all of them must agree on.

A simulation is worth as much as it is true. So scenarios are run in simulation with the Python pump, on real inproc
sockets with the Python pump, and on those with the native one, and what came of them is compared. In a *settled*
scenario nothing is left to chance, neither in libzmq (when it looks at its commands) nor in the engine (who comes first
in a turn): the engine rests between the steps of the peers. Then the columns agree to the message.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pollbroker.testing.checking import check_scenario, default_columns
from pollbroker.testing.scenario import Action, Scenario, Step
from pollbroker.testing.trace import FlowKey, Frames, Got, Sent, Trace
from pollbroker.testing.violation import InvariantViolation


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    accepted: dict[str, list[bytes]]
    """By path: the marks of the messages that peers could send, in order."""
    arrived: dict[str, Counter[Frames]]
    """By path: the messages that came out, with how often. (Which of several consumers has a message is libzmq's.)"""
    counted: dict[FlowKey, tuple[int, ...]]
    """By flow: received, sent, held, added, unroutable, slow_peer, interrupted, filtered, failed."""


def outcome_of(trace: Trace) -> Outcome:
    """What came of a run."""
    accepted: dict[str, list[bytes]] = {name: [] for name in trace.paths}
    arrived: dict[str, Counter[Frames]] = {name: Counter() for name in trace.paths}
    for _, sent in trace.of(Sent):
        accepted[sent.path].append(sent.mark)
    for _, got in trace.of(Got):
        arrived[got.path][got.frames] += 1
    counted: dict[FlowKey, tuple[int, ...]] = {}
    for flow, last in trace.last_counted().items():
        s = last.statistics
        counted[flow] = (
            s.received, s.sent, s.held, s.added, s.unroutable, s.slow_peer, s.interrupted, s.filtered, s.failed,
        )  # fmt: skip
    return Outcome(accepted, arrived, counted)


def deterministic(scenario: Scenario) -> Scenario:
    """The same scenario with nothing left to chance: nobody acts within a turn, and each step ends in a rest."""
    steps: list[Step] = []
    for step in scenario.steps:
        if step.action in (Action.TURN, Action.REST):
            step = Step(Action.REST)
        steps += [replace(step, meanwhile=()), Step(Action.REST)]
    topology = scenario.topology
    if any(len(line.device.routes) == 1 and "backend" in line.device.ports for line in topology.lines):
        # A flat waiter leaves alone a sink that nothing is read from: that looks who has come and gone when it next
        # sends, or up to a millisecond later, as libzmq's clock has it.
        topology = replace(topology, waiter="nested")
    return Scenario(topology, tuple(steps))


def check_columns(scenario: Scenario, columns: Iterable[str] | None = None) -> None:
    """Run a scenario, made deterministic, in every environment and compare the outcomes.

    Raises `InvariantViolation` if a promise is broken in one of the environments, or if their outcomes differ.
    """
    traces = [(column, check_scenario(deterministic(scenario), column)) for column in columns or default_columns()]
    if any(step.action in (Action.LEAVE, Action.REJOIN, Action.REPLACE) for step in scenario.steps):
        return  # whether a send still finds who is leaving, a broker included, depends on when libzmq last looked
    outcomes = {column: outcome_of(trace) for column, trace in traces}
    first, *others = outcomes
    for other in others:
        for what in ("accepted", "arrived", "counted"):
            here, there = getattr(outcomes[first], what), getattr(outcomes[other], what)
            for key in here:
                if here[key] != there.get(key):
                    account = f"{what} on {key}: {first} has {here[key]}, {other} has {there.get(key)}"
                    raise InvariantViolation("the columns agree", account)
