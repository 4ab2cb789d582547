"""Checking: run scenarios and judge them by the invariants."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from hypothesis import HealthCheck, given, settings

from pollbroker.device import Device
from pollbroker.pump import choose_implementation
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.environments import ENVIRONMENTS, MakeEnvironment, SimulatedEnvironment
from pollbroker.testing.invariants import INVARIANTS, Invariant, check_trace
from pollbroker.testing.runner import run_scenario
from pollbroker.testing.scenario import Scenario
from pollbroker.testing.strategies import scenarios
from pollbroker.testing.trace import Trace
from pollbroker.testing.violation import InvariantViolation


def check_scenario(
    scenario: Scenario, column: str | MakeEnvironment = "simulation", *, invariants: Iterable[Invariant] = INVARIANTS
) -> Trace:
    """Run a scenario in one environment and return its trace. Raises `InvariantViolation` if a promise was not kept.

    Arguments:
        column: "simulation", "python" or "native" (real inproc sockets with that pump), or what makes a environment.
        invariants: what to hold it to.
    """
    trace = run_scenario(scenario, ENVIRONMENTS[column] if isinstance(column, str) else column)
    check_trace(trace, invariants)
    return trace


def check_seed(seed: int, device: Device | None = None) -> Trace:
    """Run the scenario of a seed in simulation, with everything else that is chance there from the same seed.

    Raises as `check_scenario`, with the scenario in the notes. The same seed does the same, operation by operation.
    """
    scenario = scenario_of_seed(seed, device)
    try:
        return check_scenario(scenario, partial(SimulatedEnvironment, seed=seed))
    except InvariantViolation as violation:
        violation.add_note(f"in the scenario of seed {seed}:\n{scenario}")
        raise


def default_columns() -> tuple[str, ...]:
    """The environments that there are here: without the native pump two, else three."""
    pump = choose_implementation().name
    return ("simulation", "python") if pump == "python" else ("simulation", "python", pump)


def check_device(
    device: Device,
    *,
    examples: int = 100,
    steps: int = 60,
    columns: Sequence[str] | None = None,
    invariants: Iterable[Invariant] = (),
) -> None:
    """Test a device as hard as the built-in ones are tested: hypothesis looks for a scenario that breaks a promise.

    Arguments:
        device: yours; with handlers or without. What they are given and give is written down on the way.
        examples: how many scenarios to try in each column.
        steps: how long a schedule may be.
        columns: environments by name ("simulation", "python", "native"); by default all that there are here.
        invariants: promises of your own, beside those of every device: functions that are given a `Trace` and raise
            `InvariantViolation`.

    Raises `InvariantViolation` with the shortest scenario that hypothesis could find in its notes.
    """
    for column in default_columns() if columns is None else columns:
        check = partial(check_scenario, column=column, invariants=(*INVARIANTS, *invariants))
        _look_for_a_violation(device, examples, steps, check)


def _look_for_a_violation(device: Device, examples: int, steps: int, check: Callable[[Scenario], object]) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(scenario=scenarios(device, steps))
    def keeps_its_promises(scenario: Scenario) -> None:
        check(scenario)

    keeps_its_promises()
