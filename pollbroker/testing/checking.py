"""Checking: run scenarios, and judge their traces by the invariants."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from hypothesis import HealthCheck, given, settings

from pollbroker.device import Device
from pollbroker.pump import choose_implementation
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.environments import ENVIRONMENTS, MakeEnvironment, SimulatedEnvironment
from pollbroker.testing.invariants import INVARIANTS, Invariant, check_trace
from pollbroker.testing.peer_types import check_can_be_judged
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
        scenario: the scenario to run.
        column: the environment: "simulation", "python" or "native" (real inproc sockets with that pump), or a function
            that makes an environment from a `Topology`.
        invariants: the promises to check.
    """
    trace = run_scenario(scenario, ENVIRONMENTS[column] if isinstance(column, str) else column)
    check_trace(trace, invariants)
    return trace


def check_seed(seed: int, device: Device | None = None) -> Trace:
    """Run the scenario of a seed in simulation. The seed decides everything else that is chance there, too.

    Raises what `check_scenario` raises, with the scenario in the notes. The same seed repeats a run operation by
    operation.

    Arguments:
        seed: any integer from 0.
        device: the device to test; by default the seed chooses the devices.
    """
    scenario = scenario_of_seed(seed, device)
    try:
        return check_scenario(scenario, partial(SimulatedEnvironment, seed=seed))
    except InvariantViolation as violation:
        violation.add_note(f"in the scenario of seed {seed}:\n{scenario}")
        raise


def default_columns() -> tuple[str, ...]:
    """The names of the environments on this machine: three, or two if the native pump was not built."""
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

    The device may have any number of ports, and routes with several sinks. Each sink must get, once and in order,
    exactly the messages that are for it: all of them at a tee, and those of the handler's results that are for every
    sink or are a `To` for this one.

    Arguments:
        device: the device, with handlers or without. The messages that a handler is given and returns are recorded.
            Of the socket types that may stand at a port, the first is tested.
        examples: how many scenarios to try in each environment.
        steps: the greatest number of steps in a schedule.
        columns: the environments by name ("simulation", "python", "native"); by default all that this machine has.
        invariants: promises of your own, beside those of every device: functions that are given a `Trace` and raise
            `InvariantViolation`.

    Raises `InvariantViolation` with the shortest scenario that hypothesis could find in its notes, and `DeviceError`
    for a device that cannot be judged:

    - A REQ or a REP stands at a port. It takes messages only in its own order, which the kit does not know.
    - A SUB has no option `subscribe`, or no route leads to an XSUB, so that no message would come.
    - A route leads from an XPUB to something else than an XSUB, or the other way round: then subscriptions become
      messages, or messages become subscriptions.
    """
    check_can_be_judged(device)
    for column in default_columns() if columns is None else columns:
        check = partial(check_scenario, column=column, invariants=(*INVARIANTS, *invariants))
        _look_for_a_violation(device, examples, steps, check)


def _look_for_a_violation(device: Device, examples: int, steps: int, check: Callable[[Scenario], object]) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(scenario=scenarios(device, steps))
    def keeps_its_promises(scenario: Scenario) -> None:
        check(scenario)

    keeps_its_promises()
