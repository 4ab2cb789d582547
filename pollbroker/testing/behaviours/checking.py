"""Checking a device with a behaviour: run scenarios, and judge their traces."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pollbroker.device import Device
from pollbroker.errors import DeviceError, did_you_mean
from pollbroker.standard_devices import find_device
from pollbroker.testing.behaviours.in_memory import in_memory
from pollbroker.testing.behaviours.judging import BEHAVIOUR_INVARIANTS, BehaviourInvariant, never_raises
from pollbroker.testing.behaviours.recording import BehaviourTrace
from pollbroker.testing.behaviours.runner import BehaviourRunner
from pollbroker.testing.behaviours.scenario import BehaviourScenario, Talk, draw_behaviour_scenario
from pollbroker.testing.behaviours.talks import talk_with
from pollbroker.testing.devices import Spelled, as_python
from pollbroker.testing.drawing import RandomDraw
from pollbroker.testing.environments import MakeEnvironment, SimulatedEnvironment, find_environment
from pollbroker.testing.peer_types import INITIATORS, type_of
from pollbroker.testing.runner import quiet_handlers
from pollbroker.testing.strategies import drawn
from pollbroker.testing.violation import InvariantViolation


def check_behaviour(
    scenario: BehaviourScenario,
    column: str | MakeEnvironment = "simulation",
    *,
    talk: Talk | None = None,
    invariants: Iterable[BehaviourInvariant] = (),
) -> BehaviourTrace:
    """Run a scenario in one environment and return its trace.

    Raises `InvariantViolation` if a promise was not kept, `ConfigError` if there is no environment of that name, and
    `DeviceError` for a `talk` at a port that the device does not have.

    `TITANIC`, with whatever settings, stores its requests in memory meanwhile, and not in its database.

    Arguments:
        scenario: the scenario to run.
        column: the environment: "simulation", "python" or "native" (real inproc sockets with that pump), or a function
            that makes an environment from a `Topology`.
        talk: what the peers answer.
        invariants: promises of your own, beside those of every behaviour.
    """
    if talk is not None:
        _check_talk(talk, scenario.device)
    return _run_and_judge(scenario, column, talk, invariants)


def _run_and_judge(
    scenario: BehaviourScenario,
    column: str | MakeEnvironment,
    talk: Talk | None,
    invariants: Iterable[BehaviourInvariant],
) -> BehaviourTrace:
    make = find_environment(column)
    scenario = replace(scenario, device=in_memory(scenario.device))
    with quiet_handlers():
        runner = BehaviourRunner(make, scenario, talk_with(scenario.device) if talk is None else talk)
        try:
            trace = runner.run()
        finally:
            runner.close()
    for invariant in (*BEHAVIOUR_INVARIANTS, *invariants):
        invariant(trace)
    return trace


def check_behaviour_seed(seed: int, device: Device | str, *, steps: int = 60) -> BehaviourTrace:
    """Run the scenario of a seed in simulation. Raises what `check_behaviour` raises, with the scenario in the notes.

    Arguments:
        seed: any integer from 0.
        device: the device to test, or its name in `DEVICES`.
        steps: the greatest number of steps.
    """
    scenario = behaviour_scenario_of_seed(seed, find_device(device), steps=steps)
    try:
        return check_behaviour(scenario, partial(SimulatedEnvironment, seed=seed))
    except InvariantViolation as violation:
        violation.add_note(f"in the scenario of seed {seed}:\n{scenario}")
        raise


def behaviour_scenario_of_seed(seed: int, device: Device, *, steps: int = 60) -> BehaviourScenario:
    """The scenario of a seed."""
    return draw_behaviour_scenario(RandomDraw(seed), device, talk_with(device), steps)


def check_behaviour_device(
    device: Device,
    *,
    examples: int,
    steps: int,
    columns: Sequence[str],
    talk: Talk | None,
    invariants: Sequence[BehaviourInvariant],
) -> None:
    """Have hypothesis look for a scenario that breaks a promise; see `pollbroker.testing.check_device`."""
    for port in device.ports:
        if type_of(device, port) not in INITIATORS:
            expected = ", ".join(sorted(one.name for one in INITIATORS))
            raise DeviceError(
                f"device {device.name}: {port}: the test kit has no peers for a {type_of(device, port).name}; expected "
                f"one of {expected}"
            )
    if talk is not None:
        _check_talk(talk, device)
    for column in columns:
        _look_for_a_violation(device, examples, steps, column, talk, tuple(invariants))


def _check_talk(talk: object, device: Device) -> None:
    where = f"device {device.name}: talk"
    if not isinstance(talk, Talk):
        raise DeviceError(f"{where}: {talk!r}: expected a Talk")
    for port in talk.messages:
        if port not in device.ports:
            near = did_you_mean(str(port), device.ports) or f"; its ports are: {', '.join(device.ports)}"
            raise DeviceError(f"{where}: the device has no {port}{near}")


def _look_for_a_violation(
    device: Device,
    examples: int,
    steps: int,
    column: str,
    talk: Talk | None,
    invariants: tuple[BehaviourInvariant, ...],
) -> None:
    """Have hypothesis try scenarios. What it prints of one that fails is a call of the kit's `check_behaviour`."""
    said = talk_with(device) if talk is None else talk
    arguments: dict[str, Spelled] = {}
    if talk is not None:
        arguments["talk"] = Spelled(talk, as_python(talk))
    if invariants:
        arguments["invariants"] = Spelled(invariants, f"[{', '.join(map(_spelled, invariants))}]")

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=set(settings().phases) - {Phase.explain},  # it makes a search several times slower
    )
    @given(
        scenario=drawn(lambda draw: draw_behaviour_scenario(draw, device, said, steps)),
        column=st.just(column),
        **{name: st.just(one) for name, one in arguments.items()},
    )
    def check_behaviour(scenario: BehaviourScenario, column: str, **_: Spelled) -> None:
        _run_and_judge(scenario, column, talk, invariants)

    check_behaviour()


def _spelled(invariant: BehaviourInvariant) -> str:
    return "never_raises" if invariant is never_raises else as_python(invariant)
