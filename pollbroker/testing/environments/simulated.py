"""The environment of simulated sockets."""

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import zmq

from pollbroker.broker import Broker, working_broker
from pollbroker.engine import Engine
from pollbroker.pump import FlowState, Socket
from pollbroker.states import BrokerState
from pollbroker.testing.environments.environment import PATIENCE_S, ProgressWatch, working_brokers
from pollbroker.testing.scenario import Topology
from pollbroker.testing.simulation import SimNetwork, SimSocket
from pollbroker.testing.trace import FlowKey
from pollbroker.working import WorkingBroker

_LAST_TURNS: Final = 6
"""How many more turns a rest makes after that time: a change in the last of them needs a few turns until the engine has
noticed it, has tried to move a message, and has found that none can move."""


def _simulated(broker: WorkingBroker, port_index: int) -> SimSocket:
    return cast(SimSocket, broker.watched_ports[port_index].sync_socket)


def _has_room(sink: SimSocket, routing_ids: Iterable[bytes]) -> bool:
    """Return True if any message could be sent there, whoever of these it is for."""
    if sink.type == zmq.ROUTER:
        return all(sink.can_send(routing_id) for routing_id in routing_ids)
    return sink.can_send()


class SimulatedEnvironment:
    """The Python pump on simulated sockets, with a simulated poller and clock. One seed decides all that is chance."""

    name = "simulation"
    transport: str | None = None
    queues = False

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

    def address(self, place: str) -> str:
        return f"inproc://{place}"

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
        end_s = self.clock() + PATIENCE_S
        counting = ProgressWatch(self.engine, self.clock)
        idle = quiet = 0
        more = True
        while more or (idle < _LAST_TURNS and quiet < _LAST_TURNS):
            timer_s = self.engine.next_timer_s()
            waits_long = timer_s is not None and timer_s > PATIENCE_S  # for a heartbeat, which comes again and again
            more = self.engine.step(0 if waits_long else None)
            if self._poller.asleep:
                break
            moved = counting.moved()
            if moved:
                end_s = self.clock() + PATIENCE_S
            idle = idle + 1 if self.clock() > end_s else 0
            quiet = quiet + 1 if waits_long and not moved else 0
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
        for broker in working_brokers(self.engine):
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

    def shut_down(self) -> bool:
        self._context.shutdown()
        return True

    def close(self) -> None:
        try:
            self.engine.close(timeout_s=0)
        finally:
            self._network.close()
