"""What every environment promises, and what all of them use."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from pollbroker.broker import Broker, working_broker
from pollbroker.engine import Engine
from pollbroker.pump import Socket
from pollbroker.testing.simulation import SimClock
from pollbroker.testing.trace import FlowKey
from pollbroker.testing.violation import InvariantViolation
from pollbroker.working import WorkingBroker

PATIENCE_S: Final = 0.1
"""How long a rest goes on when only timers are due. A retry that can succeed comes after 20 ms at most."""

_IDLE_TURNS: Final = 100
"""The engine spins if neither a message nor the clock moved in more turns in a row than this."""


class Environment(Protocol):
    """What a scenario runs in: the engine, its sockets, and its clock."""

    name: str
    engine: Engine
    clock: SimClock
    transport: str | None
    """What serves the brokers' ports; see `Engine.add`."""
    queues: bool
    """See `Trace.queues`."""

    def address(self, place: str) -> str:
        """The address of a port, by the names of its broker and of itself."""

    def socket(self, kind: int) -> Socket:
        """Return a new socket for a peer."""

    def watch(self, broker: Broker) -> None:
        """Called when a broker has been added to the engine."""

    def turn(self, meddle: Callable[[], None] | None) -> None:
        """Make one turn.

        `meddle` lets peers act meanwhile. It is called before each operation of the engine on a socket. In an
        environment where that is impossible it is called after the turn, until it has nothing more to do.
        """

    def rest(self, meddle: Callable[[], None] | None) -> None:
        """Make turns until the engine sleeps for good. Raises `InvariantViolation` if it spins."""

    def movable(self, routing_ids: Iterable[bytes]) -> frozenset[FlowKey]:
        """The flows that could move a message now, as far as this environment can tell.

        Arguments:
            routing_ids: the routing ids of all peers so far.
        """

    def lost_with_peers(self, broker: str, port: str) -> int | None:
        """How many messages that a port of a broker had sent were lost because peers left without reading them; None
        if this environment cannot tell."""

    def shut_down(self) -> bool:
        """Terminate the context. Return False if the brokers have none, and go on."""

    def close(self) -> None:
        """Close the engine, the sockets and the context."""


def working_brokers(engine: Engine) -> Iterable[WorkingBroker]:
    """The brokers behind the engine's handles. Only the engine's thread may touch them; here that is the calling
    one."""
    return map(working_broker, engine.brokers.values())


class ProgressWatch:
    """Watches whether an engine moves messages or spins."""

    def __init__(self, engine: Engine, clock: SimClock) -> None:
        self._engine = engine
        self._clock = clock
        self._seen_s = -1.0
        self._messages = -1
        self._idle_turns = 0

    def has_cause(self) -> None:
        """Something else than messages moves: turns for that are not made for nothing."""
        self._idle_turns = 0

    def moved(self) -> bool:
        """Return True if messages have moved since the last call. Raises `InvariantViolation` if the engine spins."""
        messages = sum(
            flow.pump.received + flow.pump.sent for broker in working_brokers(self._engine) for flow in broker.hub.flows
        )
        moved = messages != self._messages
        self._idle_turns = 0 if moved or self._clock() != self._seen_s else self._idle_turns + 1
        self._messages, self._seen_s = messages, self._clock()
        if self._idle_turns > _IDLE_TURNS:
            raise InvariantViolation("never spins", f"the engine made {_IDLE_TURNS} turns in a row for nothing")
        return moved
