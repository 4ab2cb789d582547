"""The device as a state machine: hypothesis chooses the next step when it has seen what came of the last."""

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pollbroker.device import Device
from pollbroker.testing.drawing import draw_fault, draw_peers_step
from pollbroker.testing.environments import ENVIRONMENTS
from pollbroker.testing.invariants import INVARIANTS, Invariant, check_trace
from pollbroker.testing.runner import ScenarioRunner, quiet_handlers
from pollbroker.testing.scenario import Action, Step
from pollbroker.testing.strategies import drawn, meanwhiles, topologies


class DeviceMachine(RuleBasedStateMachine):
    """Peers come, talk, stall and go, brokers are steered, and the promises are looked at after every step.

    Subclass it, name a device, and let pytest or unittest run its `TestCase`::

        class MyMachine(DeviceMachine):
            device = MY_DEVICE

        TestMyDevice = MyMachine.TestCase

    Attributes of the class:
        device: what to test; None: whichever.
        column: the environment: "simulation", "python" or "native".
        promises: what it is held to; add your own.
    """

    device: ClassVar[Device | None] = None
    column: ClassVar[str] = "simulation"
    promises: ClassVar[tuple[Invariant, ...]] = INVARIANTS

    def __init__(self) -> None:
        super().__init__()
        self.runner: ScenarioRunner | None = None

    @initialize(data=st.data())
    def open(self, data: st.DataObject) -> None:
        """Brokers start."""
        topology = data.draw(topologies(self.device))
        self.topology = topology
        self.runner = ScenarioRunner(ENVIRONMENTS[self.column], topology)

    def _do(self, step: Step) -> None:
        assert self.runner is not None
        with quiet_handlers():
            self.runner.do(step)

    @rule(data=st.data())
    def peer_acts(self, data: st.DataObject) -> None:
        """A peer comes, sends, takes or answers."""
        self._do(data.draw(drawn(lambda draw: draw_peers_step(draw, self.topology))))

    @rule(data=st.data())
    def something_goes_wrong(self, data: st.DataObject) -> None:
        """A peer leaves, a broker is paused or replaced."""
        self._do(data.draw(drawn(lambda draw: draw_fault(draw, self.topology))))

    @rule(data=st.data(), count=st.integers(1, 4))
    def engine_turns(self, data: st.DataObject, count: int) -> None:
        """The engine makes turns; others act meanwhile."""
        meanwhile = tuple(data.draw(st.lists(meanwhiles(self.topology), max_size=3)))
        self._do(Step(Action.TURN, count=count, meanwhile=meanwhile))

    @rule()
    def engine_rests(self) -> None:
        """The engine runs until it sleeps."""
        self._do(Step(Action.REST))

    @invariant()
    def promises_are_kept(self) -> None:
        """So far."""
        if self.runner is not None:
            check_trace(self.runner.trace, self.promises)

    def teardown(self) -> None:
        """Everything is taken, and the promises are looked at once more."""
        if self.runner is not None:
            try:
                with quiet_handlers():
                    trace = self.runner.finish()
                check_trace(trace, self.promises)
            finally:
                self.runner.close()


def device_machine(device: Device | None, column: str = "simulation") -> type[Any]:
    """A test case for pytest or unittest: `TestMine = device_machine(MY_DEVICE)`."""
    name = f"{'Any' if device is None else device.name.title().replace('-', '')}In{column.title()}"
    machine: type[Any] = type(name, (DeviceMachine,), {"device": device, "column": column})
    case: type[Any] = machine.TestCase
    return case
