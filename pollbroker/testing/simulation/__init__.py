"""A deterministic simulation of libzmq 4.3.5 over inproc, in one thread: the shipped engine runs on it unchanged."""

from pollbroker.testing.simulation.clock import SimClock
from pollbroker.testing.simulation.context import SimContext
from pollbroker.testing.simulation.frame import SimFrame, WouldAbort
from pollbroker.testing.simulation.network import SimNetwork
from pollbroker.testing.simulation.poller import SimPoller, SpinsForEver
from pollbroker.testing.simulation.socket import SimSocket, WouldBlockForever

__all__ = [
    "SimClock",
    "SimContext",
    "SimFrame",
    "SimNetwork",
    "SimPoller",
    "SimSocket",
    "SpinsForEver",
    "WouldAbort",
    "WouldBlockForever",
]
