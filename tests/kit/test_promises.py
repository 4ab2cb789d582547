"""The engine, held to its promises by the kit; and a device of one's own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings

import pollbroker.testing.fuzzing as fuzzing
from pollbroker import FORWARDER, QUEUE, REFLECTOR, STREAMER, Device, Route
from pollbroker.testing import (
    InvariantViolation,
    Scenario,
    Trace,
    check_columns,
    check_device,
    check_scenario,
    device_machine,
    scenarios,
)
from pollbroker.testing.checking import default_columns
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.trace import Counted
from tests.mutants.breaking import in_place
from tests.mutants.table import MUTANTS
from tests.support.kit import shouted

# -- the engine, held to its promises ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_300_seeds_keep_every_promise() -> None:
    assert fuzzing.check_seeds(0, 300) == []  # CI tries 10,000 in several processes, by `nox -s seeds`


# Whatever is simulated is so on real sockets, with either pump: to the message, where nothing is left to chance.
@pytest.mark.parametrize("first", range(0, 60, 20))
def test_columns_agree(first: int) -> None:
    for seed in range(first, first + 20):
        check_columns(scenario_of_seed(seed), default_columns())


@pytest.mark.slow
@pytest.mark.parametrize("column", ["python", "native"])
@given(scenario=scenarios())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_promises_are_kept_on_real_sockets(column: str, scenario: Scenario) -> None:
    check_scenario(scenario, column)


TestAnyDevice = device_machine(None)

TestQueueOnTheNativePump = device_machine(QUEUE, "native")
for _case in (TestAnyDevice, TestQueueOnTheNativePump):
    _case.settings = settings(
        max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )


def doubled(frames: list[bytes]) -> Iterator[list[bytes]]:
    yield frames
    yield frames


def violations(column: str, seeds: range) -> Iterator[str]:
    """The promises that these seeds show to be broken, one after the other."""
    for seed in seeds:
        try:
            check_scenario(scenario_of_seed(seed), column)
        except InvariantViolation as violation:
            yield violation.invariant


# Progress is looked at on real sockets, too: the engine does not fall asleep while a flow can move.
@pytest.mark.parametrize("column", ["python", "native"])
def test_sound_engine_breaks_no_promise_on_real_sockets(column: str) -> None:
    assert not list(violations(column, range(60)))


@pytest.mark.parametrize(
    ("claim", "column"),
    [
        ("events not read again before sleeping", "python"),
        ("a sink not settled before sleeping", "python"),
        ("a stalled flow that does not watch its sink", "python"),
        ("budget spent taken for source empty", "python"),
        ("resume that does not rearm", "python"),
        ("resume that does not rearm", "native"),
    ],
)
def test_engine_that_sleeps_while_a_flow_can_move_is_found_on_real_sockets(claim: str, column: str) -> None:
    with in_place(next(mutant for mutant in MUTANTS if mutant.claim == claim)):
        assert "progress" in violations(column, range(60))  # others may be broken as well, such as that nothing is lost


# -- a device of one's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [shouted, doubled])
def test_a_sound_device_passes(handler: Callable[..., Any]) -> None:
    check_device(Device("mine", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),)), examples=10)


@pytest.mark.parametrize("device", [QUEUE, STREAMER, FORWARDER, REFLECTOR])
def test_every_column_serves_every_device(device: Device) -> None:
    check_device(device, examples=10, steps=30)


@pytest.mark.slow
def test_a_promise_of_ones_own_is_looked_at() -> None:
    def nothing_is_received(trace: Trace) -> None:
        if any(event.statistics.received for _, event in trace.of(Counted)):
            raise InvariantViolation("nothing is received", "something was")

    with pytest.raises(InvariantViolation, match="nothing is received"):
        check_device(STREAMER, examples=50, columns=["simulation"], invariants=[nothing_is_received])


def test_a_handler_that_raises_is_no_violation() -> None:
    def broken(frames: list[bytes]) -> list[bytes]:
        raise ValueError(frames)

    check_device(Device("mine", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=broken),)), examples=10)
