"""The environments that a scenario can run in: simulated sockets, and real inproc sockets with either pump.

In both the engine is the one that ships. Only the sockets, the poller and the clock that it is given are different. An
environment has one thread, and nothing happens in it that the kit does not bring about, so a run can be repeated
exactly.
"""

from collections.abc import Callable
from typing import Final

from pollbroker.testing.environments.environment import Environment
from pollbroker.testing.environments.inproc import InprocEnvironment, shut_down
from pollbroker.testing.environments.simulated import SimulatedEnvironment
from pollbroker.testing.scenario import Topology

__all__ = ["ENVIRONMENTS", "Environment", "InprocEnvironment", "MakeEnvironment", "SimulatedEnvironment", "shut_down"]

MakeEnvironment = Callable[[Topology], Environment]

ENVIRONMENTS: Final[dict[str, MakeEnvironment]] = {
    "simulation": SimulatedEnvironment,
    "python": lambda topology: InprocEnvironment(topology, "python"),
    "native": lambda topology: InprocEnvironment(topology, "native"),
}
"""The environments by name: simulated with the Python pump, inproc with the Python pump, inproc with the native
pump."""
