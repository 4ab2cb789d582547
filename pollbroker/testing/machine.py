"""A device as a state machine of hypothesis, which chooses each step after it has seen the result of the last one."""

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pollbroker.device import Device
from pollbroker.standard_devices import find_device
from pollbroker.testing.drawing import draw_fault, draw_peers_step
from pollbroker.testing.environments import find_environment
from pollbroker.testing.invariants import INVARIANTS, Invariant, check_trace
from pollbroker.testing.peer_types import check_can_be_judged
from pollbroker.testing.runner import ScenarioRunner, quiet_handlers
from pollbroker.testing.scenario import Action, Step
from pollbroker.testing.strategies import drawn, meanwhiles, topologies


class DeviceMachine(RuleBasedStateMachine):
    """Peers join, send, stop reading and leave, brokers are steered, and the promises are checked after every step.

    Subclass it, name a device, and let pytest or unittest run its `TestCase`::

        class MyMachine(DeviceMachine):
            device = MY_DEVICE

        TestMyDevice = MyMachine.TestCase

    Attributes of the class:
        device: the device to test; with None hypothesis chooses devices.
        column: the environment: "simulation", "python" or "native".
        promises: the invariants to check; add your own, and what the handlers promise: `(*INVARIANTS, loses_nothing)`.
    """

    device: ClassVar[Device | None] = None
    column: ClassVar[str] = "simulation"
    promises: ClassVar[tuple[Invariant, ...]] = INVARIANTS

    def __init__(self) -> None:
        super().__init__()
        self.runner: ScenarioRunner | None = None

    @initialize(data=st.data())
    def open(self, data: st.DataObject) -> None:
        """Start the brokers."""
        topology = data.draw(topologies(self.device))
        self.topology = topology
        self.runner = ScenarioRunner(find_environment(self.column), topology)

    def _do(self, step: Step) -> None:
        assert self.runner is not None
        with quiet_handlers():
            self.runner.do(step)

    @rule(data=st.data())
    def peer_acts(self, data: st.DataObject) -> None:
        """A peer joins, sends, receives or answers."""
        self._do(data.draw(drawn(lambda draw: draw_peers_step(draw, self.topology))))

    @rule(data=st.data())
    def something_goes_wrong(self, data: st.DataObject) -> None:
        """A peer leaves, a broker is paused or replaced."""
        self._do(data.draw(drawn(lambda draw: draw_fault(draw, self.topology))))

    @rule(data=st.data(), count=st.integers(1, 4))
    def engine_turns(self, data: st.DataObject, count: int) -> None:
        """The engine makes turns, and peers act meanwhile."""
        meanwhile = tuple(data.draw(st.lists(meanwhiles(self.topology), max_size=3)))
        self._do(Step(Action.TURN, count=count, meanwhile=meanwhile))

    @rule()
    def engine_rests(self) -> None:
        """The engine runs until it sleeps."""
        self._do(Step(Action.REST))

    @invariant()
    def promises_are_kept(self) -> None:
        """Check the promises on what has happened so far."""
        if self.runner is not None:
            check_trace(self.runner.trace, self.promises)

    def teardown(self) -> None:
        """Let the peers read everything, and check the promises once more."""
        if self.runner is not None:
            try:
                with quiet_handlers():
                    trace = self.runner.finish()
                check_trace(trace, self.promises)
            finally:
                self.runner.close()


def device_machine(device: Device | str | None, column: str = "simulation") -> type[Any]:
    """Return a test case for pytest or unittest: `TestMine = device_machine(MY_DEVICE)`.

    Arguments:
        device: the device to test, or its name in `DEVICES`; with None hypothesis chooses devices.
        column: the environment: "simulation", "python" or "native".

    Raises `DeviceError` if the kit cannot judge the device (see `check_device`), and `ConfigError` if there is no
    environment of that name.
    """
    find_environment(column)
    if device is not None:
        device = find_device(device)
        check_can_be_judged(device)
    name = f"{'Any' if device is None else device.name.title().replace('-', '')}In{column.title()}"
    machine: type[Any] = type(name, (DeviceMachine,), {"device": device, "column": column})
    case: type[Any] = machine.TestCase
    return case
