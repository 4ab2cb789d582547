"""The simulated network: it makes the contexts, sockets and pollers of a simulation, and closes them.

There is one thread, one clock and one source of chance. So a run with the same seed and the same calls is the same run.
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
    """A simulation: a clock, and the contexts and pollers that are made from it.

    Arguments:
        seed: decides everything that is chance in the simulation.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.clock = SimClock()
        self.processes_in_send = 0.5
        """How likely a send is to process the socket's commands first, from 0 to 1."""
        self.tears_messages = False
        """Whether a PUSH or DEALER with three or more peers goes on with the wrong peer when another peer leaves
        between two frames of a message, as libzmq 4.3.5 does. No sender can prevent that, so no promise covers it."""
        self.meddle: Callable[[SimSocket, str], None] | None = None
        """Called before each "send", "recv" and reading of "events" on a watched socket, with the socket and the name
        of the operation. It can do what other threads or processes might do at that moment."""
        self.operations = 0
        """How many of these operations there were."""
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
        """Close every socket and its descriptor."""
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
        """Called before each operation on a watched socket. Operations inside `meddle` are not counted."""
        if self._meddles:
            return
        self.operations += 1
        if self.meddle is not None:
            self._meddles = True
            try:
                self.meddle(socket, operation)
            finally:
                self._meddles = False
