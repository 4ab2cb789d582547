"""The environments that a scenario can run in: simulated sockets, and real inproc sockets with either pump.

In both the engine is the one that ships. Only the sockets, the poller and the clock that it is given are different. An
environment has one thread, and nothing happens in it that the kit does not bring about, so a run can be repeated
exactly.
"""

import ctypes
import select
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast

import zmq
from zmq.backend.cython import _zmq

from pollbroker.broker import Broker, working_broker
from pollbroker.engine import Engine
from pollbroker.pump import FlowState, Socket
from pollbroker.states import BrokerState
from pollbroker.testing.scenario import Topology
from pollbroker.testing.simulation import SimClock, SimNetwork, SimSocket
from pollbroker.testing.trace import FlowKey
from pollbroker.testing.violation import InvariantViolation
from pollbroker.working import WorkingBroker

_PATIENCE_S: Final = 0.1
"""How long a rest goes on when only timers are due. A retry that can succeed comes after 20 ms at most."""

_LAST_TURNS: Final = 6
"""How many more turns a rest makes after that time: a change in the last of them needs a few turns until the engine has
noticed it, has tried to move a message, and has found that none can move."""

_IDLE_TURNS: Final = 100
"""The engine spins if neither a message nor the clock moved in more turns in a row than this."""


class Environment(Protocol):
    """What a scenario runs in: the engine, its sockets, and its clock."""

    name: str
    engine: Engine
    clock: SimClock

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

    def shut_down(self) -> None:
        """Terminate the context."""

    def close(self) -> None:
        """Close the engine, the sockets and the context."""


def _working_brokers(engine: Engine) -> Iterable[WorkingBroker]:
    """The brokers behind the engine's handles. Only the engine's thread may touch them; here that is the calling
    one."""
    return map(working_broker, engine.brokers.values())


def _simulated(broker: WorkingBroker, port_index: int) -> SimSocket:
    return cast(SimSocket, broker.watched_ports[port_index].sync_socket)


def _has_room(sink: SimSocket, routing_ids: Iterable[bytes]) -> bool:
    """Return True if any message could be sent there, whoever of these it is for."""
    if sink.type == zmq.ROUTER:
        return all(sink.can_send(routing_id) for routing_id in routing_ids)
    return sink.can_send()


class _ProgressWatch:
    """Watches whether an engine moves messages or spins."""

    def __init__(self, engine: Engine, clock: SimClock) -> None:
        self._engine = engine
        self._clock = clock
        self._seen_s = -1.0
        self._messages = -1
        self._idle_turns = 0

    def moved(self) -> bool:
        """Return True if messages have moved since the last call. Raises `InvariantViolation` if the engine spins."""
        messages = sum(
            flow.pump.received + flow.pump.sent
            for broker in _working_brokers(self._engine)
            for flow in broker.hub.flows
        )
        moved = messages != self._messages
        self._idle_turns = 0 if moved or self._clock() != self._seen_s else self._idle_turns + 1
        self._messages, self._seen_s = messages, self._clock()
        if self._idle_turns > _IDLE_TURNS:
            raise InvariantViolation("never spins", f"the engine made {_IDLE_TURNS} turns in a row for nothing")
        return moved


class SimulatedEnvironment:
    """The Python pump on simulated sockets, with a simulated poller and clock. One seed decides all that is chance."""

    name = "simulation"

    def __init__(self, topology: Topology, seed: int = 0) -> None:
        self._network = SimNetwork(seed)
        self._network.processes_in_send = topology.processes_in_send
        self._operation_s = topology.operation_s
        self.clock = self._network.clock
        self._poller = self._network.poller()
        self._context = self._network.context()
        self.engine = Engine(
            cast(zmq.Context[Any], self._context),
            poller=self._poller,
            clock=self.clock,
            burst_messages=topology.burst_messages,
            burst_bytes=topology.burst_bytes,
            pump="python",
            waiter=topology.waiter,
        )

    def socket(self, kind: int) -> Socket:
        return cast(Socket, self._context.socket(kind))

    def watch(self, broker: Broker) -> None:
        for port in working_broker(broker).ports:
            cast(SimSocket, port.sync_socket).watched = True

    def turn(self, meddle: Callable[[], None] | None) -> None:
        self._meddle(meddle)
        self.engine.step(0)
        self._meddle(None)

    def rest(self, meddle: Callable[[], None] | None) -> None:
        self._meddle(meddle)
        end_s = self.clock() + _PATIENCE_S
        counting = _ProgressWatch(self.engine, self.clock)
        idle = 0
        more = True
        while more or idle < _LAST_TURNS:
            more = self.engine.step(None)
            if self._poller.asleep:
                break
            if counting.moved():
                end_s = self.clock() + _PATIENCE_S
            idle = idle + 1 if self.clock() > end_s else 0
        self._meddle(None)

    def _meddle(self, meddle: Callable[[], None] | None) -> None:
        advance, operation_s = self.clock.advance, self._operation_s

        def interfere(socket: SimSocket, operation: str) -> None:  # noqa: ARG001 - the network passes both arguments
            if operation_s:
                advance(operation_s)
            if meddle is not None:
                meddle()

        self._network.meddle = interfere if meddle is not None or operation_s else None

    def movable(self, routing_ids: Iterable[bytes]) -> frozenset[FlowKey]:
        movable = set()
        known = tuple(routing_ids)
        for broker in _working_brokers(self.engine):
            if broker.state is not BrokerState.RUNNING:
                continue
            for flow in broker.hub.flows:
                if flow.state in (FlowState.PAUSED, FlowState.ENDED):
                    continue
                if flow.pump.held:
                    full = (_simulated(broker, flow.sinks[index]) for index in flow.pump.full_sinks)
                    can_move = any(_has_room(sink, known) for sink in full)
                else:
                    can_move = _simulated(broker, flow.source).can_receive()
                if can_move:
                    movable.add(FlowKey(broker.name, broker.watched_ports[flow.source].name))
        return frozenset(movable)

    def lost_with_peers(self, broker: str, port: str) -> int | None:
        ports = working_broker(self.engine.brokers[broker]).ports
        return next(cast(SimSocket, one.sync_socket).lost_so_far() for one in ports if one.name == port)

    def shut_down(self) -> None:
        self._context.shutdown()

    def close(self) -> None:
        try:
            self.engine.close(timeout_s=0)
        finally:
            self._network.close()


class InprocEnvironment:
    """Real inproc sockets, with either pump. The clock is simulated, so time passes only when the kit advances it."""

    def __init__(self, topology: Topology, pump: str) -> None:
        self.name = f"inproc, {pump} pump"
        self.clock = SimClock()
        self._context: zmq.Context[Socket] = zmq.Context()
        self._sockets: list[Socket] = []
        self.engine = Engine(
            self._context,
            clock=self.clock,
            burst_messages=topology.burst_messages,
            burst_bytes=topology.burst_bytes,
            pump=pump,
            waiter=topology.waiter,
        )

    def socket(self, kind: int) -> Socket:
        socket = self._context.socket(kind)
        socket.linger = 0
        self._sockets.append(socket)
        return socket

    def watch(self, broker: Broker) -> None:
        """Do nothing: the operations on a real socket cannot be observed."""

    def turn(self, meddle: Callable[[], None] | None) -> None:
        self.engine.step(0)
        _until_done(meddle)

    def rest(self, meddle: Callable[[], None] | None) -> None:
        _until_done(meddle)
        end_s = self.clock() + _PATIENCE_S
        counting = _ProgressWatch(self.engine, self.clock)
        quiet = 0
        while quiet < 3:  # one turn to find nothing, one for what brokers gave to each other, one to be sure
            more = self.engine.step(0)
            moved = counting.moved()
            quiet = 0 if more or moved else quiet + 1
            timer_s = self.engine.next_timer_s()
            if not more and timer_s is not None:
                if self.clock() + timer_s > end_s:
                    break
                self.clock.advance(timer_s)

    def movable(self, routing_ids: Iterable[bytes]) -> frozenset[FlowKey]:  # noqa: ARG002 - as `SimulatedEnvironment`
        """The flows that can move according to ZMQ_EVENTS. Two kinds of sockets are left out.

        A socket with commands to process is not asked, because reading ZMQ_EVENTS would take away the wake-up that
        these commands are. They wake the engine in any case. Where libzmq's own thread changes the events when a peer
        leaves, the change may come at any moment, also just after the engine fell asleep. That is the end of a
        subscription, room at a publisher, and the news at a ROUTER that a client is gone.
        """
        movable = set()
        for broker in _working_brokers(self.engine):
            if broker.state is not BrokerState.RUNNING:
                continue
            for flow in broker.hub.flows:
                if flow.state in (FlowState.PAUSED, FlowState.ENDED, FlowState.RETRYING):
                    continue
                event = zmq.POLLOUT if flow.pump.held else zmq.POLLIN
                full = tuple(flow.sinks[index] for index in flow.pump.full_sinks)
                for port_index in full or (flow.source,):
                    socket = broker.watched_ports[port_index].sync_socket
                    if socket.type in _TOLD_BY_LIBZMQ_ALONE[event] or _has_commands(socket):
                        continue
                    if int(socket.getsockopt(zmq.EVENTS)) & event:
                        movable.add(FlowKey(broker.name, broker.watched_ports[flow.source].name))
        return frozenset(movable)

    def lost_with_peers(self, broker: str, port: str) -> int | None:  # noqa: ARG002 - as `SimulatedEnvironment`
        return None

    def shut_down(self) -> None:
        shut_down(self._context)

    def close(self) -> None:
        self.engine.close(timeout_s=0)
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()


_TOLD_BY_LIBZMQ_ALONE: Final = {
    zmq.POLLIN: frozenset({zmq.XPUB}),
    zmq.POLLOUT: frozenset({zmq.PUB, zmq.XPUB, zmq.ROUTER}),
}
"""The socket types at which input, or room, may come about in libzmq's own thread."""


def _has_commands(socket: Socket) -> bool:
    return bool(select.select([int(socket.getsockopt(zmq.FD))], [], [], 0)[0])


def shut_down(context: zmq.Context[Any]) -> None:
    """Shut a context down without waiting until its sockets are closed, as `Context.term` does
    (zmq_ctx_shutdown(3))."""
    ctypes.CDLL(_zmq.__file__).zmq_ctx_shutdown(ctypes.c_void_p(context.underlying))


def _until_done(meddle: Callable[[], None] | None) -> None:
    if meddle is not None:
        for _ in range(64):  # `Meanwhile.after` is never greater than this
            meddle()


MakeEnvironment = Callable[[Topology], Environment]

ENVIRONMENTS: Final[dict[str, MakeEnvironment]] = {
    "simulation": SimulatedEnvironment,
    "python": lambda topology: InprocEnvironment(topology, "python"),
    "native": lambda topology: InprocEnvironment(topology, "native"),
}
"""The environments by name: simulated with the Python pump, inproc with the Python pump, inproc with the native
pump."""
