"""The environment of the wire: brokers whose ports speak ZMTP themselves, on simulated streams."""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

import zmq

from pollbroker.broker import Broker, working_broker
from pollbroker.engine import Engine
from pollbroker.engine.engine import engine_loop
from pollbroker.pump import Flow, FlowState, Socket
from pollbroker.states import BrokerState
from pollbroker.testing.environments.environment import PATIENCE_S, ProgressWatch, working_brokers
from pollbroker.testing.scenario import Topology
from pollbroker.testing.simulation import SimClock
from pollbroker.testing.streams.network import StreamNetwork
from pollbroker.testing.streams.opening import SimulatedStreams
from pollbroker.testing.streams.port_stream import PortStream
from pollbroker.testing.trace import FlowKey
from pollbroker.testing.violation import InvariantViolation
from pollbroker.wire.native import Port
from pollbroker.working import WorkingBroker

_BEGIN_S: Final = 1000.0
"""The time of the ports when the simulation begins. In the core of the wire 0 means that there is no deadline."""

_MOST_TURNS: Final = 200_000
"""Far more turns than the engine needs until it comes to rest."""

_EXPECTED_ENDS: Final = frozenset({"left", "broken", "closed"})
"""The reasons for which the connections of peers may end that keep to the protocol."""

_COUNTS_ALL: Final = frozenset({zmq.PULL, zmq.ROUTER, zmq.DEALER})
"""The types of ports from which a flow receives every message that comes."""


class StreamsEnvironment:
    """Brokers whose ports are the wire's, on streams that a seed cuts, delays and breaks.

    Arguments:
        seed: decides everything that is chance; by default it follows from the topology.
    """

    name = "streams"
    transport: str | None = "wire"
    queues = True

    def __init__(self, topology: Topology, seed: int | None = None) -> None:
        self.clock = SimClock()
        seed = zlib.crc32(repr(topology).encode()) if seed is None else seed
        self._places: dict[str, int] = {}
        self._network = StreamNetwork(seed, self.clock, topology.operation_s)
        self.engine = Engine(
            clock=self.clock,
            burst_messages=topology.burst_messages,
            burst_bytes=topology.burst_bytes,
            waiter=topology.waiter,
        )
        loop = engine_loop(self.engine)
        loop.wire_streams = SimulatedStreams(self._network, lambda: _BEGIN_S + self.clock())
        self._net = loop.access.wire_context().net

    def address(self, place: str) -> str:
        number = self._places.setdefault(place, len(self._places) + 1)
        return f"tcp://127.0.0.1:{number}"  # nothing is opened there

    def socket(self, kind: int) -> Socket:
        return cast(Socket, self._network.socket(kind))

    def watch(self, broker: Broker) -> None:
        """Do nothing: the operations on every stream are observed."""

    def turn(self, meddle: Callable[[], None] | None) -> None:
        self._network.meddle = meddle
        self._step()
        self._network.meddle = None

    def _step(self) -> bool:
        self._network.tick()
        if self._net.due_s and self._net.due_s <= _BEGIN_S + self.clock():
            self._net.wake()
        more = self.engine.step(0)
        if self._net.failure is not None:
            raise self._net.failure
        return more

    def rest(self, meddle: Callable[[], None] | None) -> None:
        self._network.meddle = meddle
        end_s = self.clock() + PATIENCE_S
        counting = ProgressWatch(self.engine, self.clock)
        quiet = 0
        for _ in range(_MOST_TURNS):
            more = self._step()
            busy = self._network.is_busy
            if busy:
                counting.has_cause()
            quiet = 0 if counting.moved() or more or busy else quiet + 1
            due_s = self._next_s()
            if quiet and due_s is not None and self.clock() + due_s <= end_s:
                self.clock.advance(due_s)
            if quiet == 3:
                break
        else:
            raise InvariantViolation("never spins", f"the engine did not come to rest in {_MOST_TURNS} turns")
        self._network.meddle = None
        self._check_read()

    def _next_s(self) -> float | None:
        """How long it is until the earliest timer of the engine or of its ports is due; None if there is none."""
        timers = [self.engine.next_timer_s(), self._net.due_s - _BEGIN_S - self.clock() if self._net.due_s else None]
        return min((max(0.0, one) for one in timers if one is not None), default=None)

    def _check_read(self) -> None:
        """Raise `InvariantViolation` if a flow waits for its source, and bytes have come there that were not read."""
        for broker, flow in self._flows():
            if flow.state == FlowState.WAITING:
                port = broker.watched_ports[flow.source]
                unread = sum(len(one.input.arrived) for one in self._streams(broker, flow.source) if one.is_open)
                if unread:
                    account = f"the engine fell asleep although {unread} bytes have come to {broker.name}.{port.name}"
                    raise InvariantViolation("progress", account)

    def movable(self, routing_ids: Iterable[bytes]) -> frozenset[FlowKey]:  # noqa: ARG002 - as `SimulatedEnvironment`
        """The flows that can move, by what has arrived at their sources, and the room and the streams of their sinks.

        A flow that waits for messages from publishers, or for subscriptions, is left out: it need not take all that
        comes.
        """
        return frozenset(
            FlowKey(broker.name, broker.watched_ports[flow.source].name)
            for broker, flow in self._flows()
            if self._can_write(broker, flow) or self._can_move(broker, flow)
        )

    def _flows(self) -> Iterator[tuple[WorkingBroker, Flow]]:
        for broker in working_brokers(self.engine):
            if broker.state is BrokerState.RUNNING:
                for flow in broker.hub.flows:
                    if flow.state not in (FlowState.PAUSED, FlowState.ENDED, FlowState.RETRYING):
                        yield broker, flow

    def _can_move(self, broker: WorkingBroker, flow: Flow) -> bool:
        full = [_port(broker, flow.sinks[index]) for index in flow.pump.full_sinks]
        if full and not all(port.has_room for port in full):
            return False
        source = _port(broker, flow.source)
        if source.type not in _COUNTS_ALL:
            return False
        came = sum(stream.input.messages for stream in self._streams(broker, flow.source))
        return came > flow.pump.received

    def _can_write(self, broker: WorkingBroker, flow: Flow) -> bool:
        """Return True if messages are queued, and every stream to which they may go has room."""
        if not flow.pump.held or flow.pump.full_sinks or len(flow.sinks) > 1:
            return False
        streams = [one for one in self._streams(broker, flow.sinks[0]) if one.is_open]
        if len(streams) != _port(broker, flow.sinks[0]).peer_count:
            return False  # one has yet to shake hands, or is about to leave
        return bool(streams) and all(one.is_idle for one in streams)

    def _streams(self, broker: WorkingBroker, port_index: int) -> list[PortStream]:
        return self._network.streams_of(_port(broker, port_index))

    def lost_with_peers(self, broker: str, port: str) -> int | None:
        found = working_broker(self.engine.brokers[broker]).port(port)
        return self._network.messages_lost(cast(Port, found.wire))

    def shut_down(self) -> bool:
        return False

    def close(self) -> None:
        """Close everything. Raises `InvariantViolation` if a connection ended for a reason for which it must not, or if
        something of the wire is left."""
        failed = sys.exc_info()[0] is not None
        try:
            for broker in self.engine.brokers:
                self.engine.remove(broker, timeout_s=0)
            self._net.serve()
            alive = self._net.alive
        finally:
            self.engine.close(timeout_s=0)
        if failed:
            return
        ends = {reason for port in self._network.ports for reason in port.ended_by}
        if not ends <= _EXPECTED_ENDS:
            account = f"connections have ended for {', '.join(sorted(ends - _EXPECTED_ENDS))}"
            raise InvariantViolation("peers that keep to the protocol stay", account)
        if any(alive):
            account = f"slabs, segments, ports and peers are left: {alive}"
            raise InvariantViolation("nothing is left at the end", account)


def _port(broker: WorkingBroker, port_index: int) -> Any:
    return broker.watched_ports[port_index].wire
