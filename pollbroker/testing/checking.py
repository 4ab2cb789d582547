"""Checking: run scenarios, and judge their traces by the invariants."""

from collections.abc import Iterable, Sequence
from typing import Final, cast

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from pollbroker.device import Device
from pollbroker.errors import DeviceError
from pollbroker.pump import choose_implementation
from pollbroker.standard_devices import find_device
from pollbroker.testing.behaviours import Talk, check_behaviour_device
from pollbroker.testing.behaviours.judging import BehaviourInvariant
from pollbroker.testing.devices import Spelled, as_python
from pollbroker.testing.drawing import POOL, WIRE_POOL, scenario_of_seed
from pollbroker.testing.environments import MakeEnvironment, find_columns, find_environment, seeded
from pollbroker.testing.invariants import INVARIANTS, Invariant, check_trace
from pollbroker.testing.peer_types import check_can_be_judged
from pollbroker.testing.promises import AskedPromises, Promises
from pollbroker.testing.runner import run_scenario
from pollbroker.testing.scenario import Scenario
from pollbroker.testing.strategies import drawn, scenarios
from pollbroker.testing.trace import Trace
from pollbroker.testing.traffic import draw_traffic
from pollbroker.testing.violation import InvariantViolation

_SECURITY: Final = ("plain_server", "plain_username")
"""The options of ports of the wire that have them speak another mechanism than NULL."""

_SHORTEST_HEARTBEAT_MS: Final = 5000
"""More time than passes in a scenario."""


def check_scenario(
    scenario: Scenario,
    column: str | MakeEnvironment = "simulation",
    *,
    invariants: Iterable[Invariant] = INVARIANTS,
    promises: Promises = (),
) -> Trace:
    """Run a scenario in one environment and return its trace.

    Raises `InvariantViolation` if a promise was not kept, and `ConfigError` if there is no environment of that name.

    Arguments:
        scenario: the scenario to run.
        column: the environment: "simulation", "python" or "native" (real inproc sockets with that pump), "streams"
            (ports of the wire on simulated streams), or a function that makes an environment from a `Topology`.
        invariants: the promises to check.
        promises: what the handlers promise; see `check_device`.
    """
    asked = AskedPromises(promises)
    for line in scenario.topology.lines:
        asked.check_can_be_judged(line.device)
    return _run_and_judge(scenario, column, invariants, asked)


def _run_and_judge(
    scenario: Scenario, column: str | MakeEnvironment, invariants: Iterable[Invariant], asked: AskedPromises
) -> Trace:
    trace = run_scenario(scenario, find_environment(column))
    check_trace(trace, invariants)
    asked.check(trace)
    return trace


def check_seed(
    seed: int, device: Device | str | None = None, *, promises: Promises = (), column: str = "simulation"
) -> Trace:
    """Run the scenario of a seed in simulation. The seed decides everything else that is chance there, too.

    Raises what `check_scenario` raises, with the scenario in the notes, and `DeviceError` for a device with a
    behaviour. The same seed repeats a run operation by operation.

    Arguments:
        seed: any integer from 0.
        device: the device to test, or its name in `DEVICES`; by default the seed chooses the devices. For one with a
            behaviour there is `check_behaviour_seed`.
        promises: what the handlers promise; see `check_device`.
        column: what is simulated: "simulation", the sockets of libzmq, or "streams", those of ports of the wire.
    """
    make_environment = seeded(column, seed)
    scenario = seeded_scenario(seed, None if device is None else find_device(device), column)
    try:
        return check_scenario(scenario, make_environment, promises=promises)
    except InvariantViolation as violation:
        violation.add_note(f"in the scenario of seed {seed}:\n{scenario}")
        raise


def check_streams_can_be_simulated(device: Device, columns: Iterable[str]) -> None:
    """Raise `DeviceError` if "streams" is among the environments and the device has a behaviour, or a port with options
    that peers there cannot do justice to."""
    if "streams" not in columns:
        return
    if device.behaviour is not None:
        raise DeviceError(
            f"device {device.name}: it has a behaviour; with simulated streams expected one that has none"
        )
    for port in device.ports:
        options = {name.lower(): value for name, value in device.options_of(port).items()}
        for name in _SECURITY:
            if options.get(name):
                raise DeviceError(
                    f"device {device.name}: {port}: peers on simulated streams have no credentials; expected a port "
                    f"without {name}"
                )
        interval_ms = options.get("heartbeat_ivl", 0)
        if isinstance(interval_ms, int) and 0 < interval_ms < _SHORTEST_HEARTBEAT_MS:
            raise DeviceError(
                f"device {device.name}: {port}: heartbeat_ivl is {interval_ms}: a peer that is full reads nothing, and "
                f"so answers no heartbeat; with simulated streams expected 0, or {_SHORTEST_HEARTBEAT_MS} or more"
            )


def seeded_scenario(seed: int, device: Device | None, column: str) -> Scenario:
    """The scenario of a seed, for one of the environments in which a seed decides everything."""
    return scenario_of_seed(seed, device, pool=WIRE_POOL if column == "streams" else POOL)


def default_columns() -> tuple[str, ...]:
    """The names of the environments on this machine: three, or two if the native pump was not built."""
    pump = choose_implementation().name
    return ("simulation", "python") if pump == "python" else ("simulation", "python", pump)


def check_device(
    device: Device | str,
    *,
    promises: Promises = (),
    examples: int = 100,
    steps: int = 60,
    columns: Sequence[str] | None = None,
    invariants: Iterable[Invariant] | Iterable[BehaviourInvariant] = (),
    talk: Talk | None = None,
) -> None:
    """Test a device as hard as the built-in ones are tested: hypothesis looks for a scenario that breaks a promise.

    The device may have any number of ports, and routes with several sinks. Each sink must get, once and in order,
    exactly the messages that are for it: all of them at a tee, and those of the handler's results that are for every
    sink or are a `To` for this one. What a handler may do to messages, only its author knows: `promises` says it.

    Arguments:
        device: the device, with handlers or without, or its name in `DEVICES`. The messages that a handler is given and
            returns are recorded. Each scenario has a copy of the handler, so that what it remembers does not come from
            another scenario. Of the socket types that may stand at a port, the first is tested.
        promises: what the handlers promise: `loses_nothing`, `keeps_order`, `keeps_envelope`, `one_to_one`, `pure`, and
            functions of your own that are given a `Trace` and raise `InvariantViolation`. A list is for every route
            that has a handler; a mapping of lists is for single routes, by the port at which the route begins:
            `promises={"frontend": [keeps_envelope]}`. A function in a mapping is given the trace of that route alone.
        examples: how many scenarios to try in each environment.
        steps: the greatest number of steps in a schedule.
        columns: the environments by name ("simulation", "python", "native", "streams"); by default the first three, as
            far as this machine has them. "streams" tests the device with ports of the wire.
        invariants: promises of your own about the broker, beside those of every device. They are checked as
            `promises` are. For a device with a behaviour they are given a `BehaviourTrace`.
        talk: for a device with a behaviour: what the peers say and answer, beside garbage. Without it a peer answers
            with the frames that it was sent.

    Raises `InvariantViolation` with the shortest scenario that hypothesis could find in its notes; `ConfigError` if
    `columns` are not one or more names of environments; and `DeviceError` for a name that is not in `DEVICES`, for a
    `talk` at a port that the device does not have, for a promise that cannot be judged, and for a device that cannot be
    judged:

    - A REQ or a REP stands at a port. It takes messages only in its own order, which the kit does not know.
    - A SUB has no option `subscribe`, or no route leads to an XSUB, so that no message would come.
    - A route leads from an XPUB to something else than an XSUB, or the other way round: then subscriptions become
      messages, or messages become subscriptions.
    - A handler is a coroutine function. It runs on an event loop, which the simulation does not have.
    - With "streams": a port has PLAIN, or a `heartbeat_ivl` of less than 5 seconds. The peers there have no
      credentials, and one that is full answers no heartbeat.
    """
    device = find_device(device)
    names = default_columns() if columns is None else find_columns(columns)
    check_streams_can_be_simulated(device, names)
    if device.behaviour is not None:
        if promises:
            raise DeviceError(f"device {device.name}: promises are of handlers; expected `invariants` for a behaviour")
        judges = cast("tuple[BehaviourInvariant, ...]", tuple(invariants))
        check_behaviour_device(device, examples=examples, steps=steps, columns=names, talk=talk, invariants=judges)
        return
    check_can_be_judged(device)
    own = cast("tuple[Invariant, ...]", tuple(invariants))
    asked = AskedPromises(promises)
    asked.check_can_be_judged(device)
    for column in names[:1] if asked else ():
        _look_for_a_violation(drawn(lambda draw: draw_traffic(draw, device)), examples, column, own, asked)
    for column in names:
        _look_for_a_violation(scenarios(device, steps), examples, column, own, asked)


_REMEMBERED: Final = (
    "The scenario did not fail when it was run again. Perhaps a handler remembers something from one scenario to the "
    "next, in a global variable or in an object that cannot be copied. Keep it in the handler: in an object whose "
    "method is the handler, or in variables that the handler closes over."
)


def _look_for_a_violation(
    tried: SearchStrategy[Scenario], examples: int, column: str, own: tuple[Invariant, ...], asked: AskedPromises
) -> None:
    """Have hypothesis try scenarios. What it prints of one that fails is a call of the kit's `check_scenario`."""
    arguments: dict[str, Spelled] = {}
    if own:
        arguments["invariants"] = Spelled(own, f"(*INVARIANTS, {', '.join(map(as_python, own))})")
    if asked:
        arguments["promises"] = Spelled(asked, repr(asked))

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=set(settings().phases) - {Phase.explain},  # it makes a search several times slower
    )
    @given(scenario=tried, column=st.just(column), **{name: st.just(one) for name, one in arguments.items()})
    def check_scenario(scenario: Scenario, column: str, **_: Spelled) -> None:
        _run_and_judge(scenario, column, (*INVARIANTS, *own), asked)

    try:
        check_scenario()
    except Flaky as flaky:
        violation = next((one for one in getattr(flaky, "exceptions", ()) if isinstance(one, InvariantViolation)), None)
        if violation is None:
            raise
        for note in (*getattr(flaky, "__notes__", ()), _REMEMBERED):
            violation.add_note(note)
        raise violation from None
