"""The environment of real inproc sockets."""

import ctypes
import select
from collections.abc import Callable, Iterable
from typing import Any, Final

import zmq
from zmq.backend.cython import _zmq

from pollbroker.broker import Broker
from pollbroker.engine import Engine
from pollbroker.pump import FlowState, Socket
from pollbroker.states import BrokerState
from pollbroker.testing.environments.environment import PATIENCE_S, ProgressWatch, working_brokers
from pollbroker.testing.scenario import Topology
from pollbroker.testing.simulation import SimClock
from pollbroker.testing.trace import FlowKey

_TOLD_BY_LIBZMQ_ALONE: Final = {
    zmq.POLLIN: frozenset({zmq.XPUB}),
    zmq.POLLOUT: frozenset({zmq.PUB, zmq.XPUB, zmq.ROUTER}),
}
"""The socket types at which input, or room, may come about in libzmq's own thread."""


class InprocEnvironment:
    """Real inproc sockets, with either pump. The clock is simulated, so time passes only when the kit advances it."""

    transport: str | None = None
    queues = False

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

    def address(self, place: str) -> str:
        return f"inproc://{place}"

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
        end_s = self.clock() + PATIENCE_S
        counting = ProgressWatch(self.engine, self.clock)
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
        for broker in working_brokers(self.engine):
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

    def shut_down(self) -> bool:
        shut_down(self._context)
        return True

    def close(self) -> None:
        self.engine.close(timeout_s=0)
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()


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
