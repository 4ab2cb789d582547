"""The simulated environment: everything in it comes from here, and goes with it.

One thread, one clock, one source of chance: a run with the same seed and the same calls is the same run.
"""

import random
from collections.abc import Callable, Mapping
from typing import Final

import zmq
from zmq import SocketType

from pollbroker.testing.simulation.clock import SimClock
from pollbroker.testing.simulation.context import SimContext
from pollbroker.testing.simulation.mailbox import Reaper
from pollbroker.testing.simulation.patterns import DealerSocket, PairSocket, PullSocket, PushSocket
from pollbroker.testing.simulation.poller import SimPoller
from pollbroker.testing.simulation.pubsub import PubSocket, SubSocket, XPubSocket, XSubSocket
from pollbroker.testing.simulation.reqrep import RepSocket, ReqSocket
from pollbroker.testing.simulation.router import RouterSocket
from pollbroker.testing.simulation.socket import SimSocket

_TYPES: Final[Mapping[int, type[SimSocket]]] = {
    SocketType.PAIR: PairSocket,
    SocketType.PUB: PubSocket,
    SocketType.SUB: SubSocket,
    SocketType.REQ: ReqSocket,
    SocketType.REP: RepSocket,
    SocketType.DEALER: DealerSocket,
    SocketType.ROUTER: RouterSocket,
    SocketType.PULL: PullSocket,
    SocketType.PUSH: PushSocket,
    SocketType.XPUB: XPubSocket,
    SocketType.XSUB: XSubSocket,
}


class SimNetwork:
    """A environment with a clock, contexts and pollers."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.clock = SimClock()
        self.processes_in_send = 0.5
        """How likely it is that a send processes the commands that are pending."""
        self.tears_messages = False
        """Whether a PUSH or a DEALER with three peers or more does what libzmq 4.3.5 does when one of the others leaves
        between two frames of a message: go on with the wrong peer. No caller can help it, so no promise covers it."""
        self.meddle: Callable[[SimSocket, str], None] | None = None
        """Called before each "send", "recv" and reading of "events" on a watched socket: what others do meanwhile."""
        self.operations = 0
        """How many of these there were."""
        self.reaper = Reaper()
        self._contexts: list[SimContext] = []
        self._sockets = 0
        self._meddles = False

    def context(self) -> SimContext:
        context = SimContext(self)
        self._contexts.append(context)
        return context

    def poller(self) -> SimPoller:
        return SimPoller(self.clock)

    def close(self) -> None:
        """Close every socket, and with it its descriptor."""
        for context in self._contexts:
            context.destroy()

    def __enter__(self) -> "SimNetwork":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # For the sockets

    def make_socket(self, context: SimContext, socket_type: int) -> SimSocket:
        if socket_type not in _TYPES:
            raise zmq.ZMQError(zmq.EINVAL)
        self._sockets += 1
        return _TYPES[socket_type](context, SocketType(socket_type), self._sockets)

    def processes_now(self) -> bool:
        return self.random.random() < self.processes_in_send

    def before(self, socket: SimSocket, operation: str) -> None:
        """A watched socket is about to do something. What the meddler does is not counted, and not meddled with."""
        if self._meddles:
            return
        self.operations += 1
        if self.meddle is not None:
            self._meddles = True
            try:
                self.meddle(socket, operation)
            finally:
                self._meddles = False
