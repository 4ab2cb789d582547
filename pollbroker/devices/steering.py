"""The control socket of one device.

A control socket steers an engine, and a device may share its engine with others. So the commands are given to a
`SingleBroker`, which looks like an engine that has no other broker than that of the device.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, TypeVar

import zmq

from pollbroker.broker import Broker
from pollbroker.control import Control, ControlServer
from pollbroker.device import CAPTURE
from pollbroker.engine import Engine
from pollbroker.errors import ConfigError
from pollbroker.events import Event, EventReader
from pollbroker.frozen import FrozenDict
from pollbroker.port import WorkingPort, socket_type_of
from pollbroker.pump import Socket
from pollbroker.statistics import BrokerStatistics, EngineStatistics
from pollbroker.taps import Tap
from pollbroker.timers import Handle

T = TypeVar("T")

_SERVED_AS: Final[Mapping[int, zmq.SocketType]] = {
    zmq.REP: zmq.REP,
    zmq.PAIR: zmq.PAIR,
    zmq.SUB: zmq.SUB,
    zmq.ROUTER: zmq.ROUTER,
    zmq.PULL: zmq.SUB,
    zmq.DEALER: zmq.PAIR,
}
"""The types that a control socket may have. libzmq takes commands from any socket that it can receive from; a PULL and
a DEALER receive and answer as a SUB and a PAIR do."""

MONITOR: Final = "monitor"
"""The port of a monitor socket that is a sink of each route."""


class SingleBroker:
    """What a device's control socket can see of its engine: the one broker of the device."""

    def __init__(self, engine: Engine, broker: Broker) -> None:
        self._engine = engine
        self._broker = broker

    @property
    def brokers(self) -> Mapping[str, Broker]:
        """The broker, by its name."""
        return FrozenDict({self._broker.name: self._broker})

    def pause(self, broker: str, /) -> None:  # noqa: ARG002 - there is only one
        """As `Broker.pause`."""
        self._broker.pause()

    def begin_pause_and_flush(self, timeout_s: float, *, broker: str | None) -> "Future[tuple[str, ...]]":  # noqa: ARG002
        """As `Engine.begin_pause_and_flush`, for the one broker."""
        return self._engine.begin_pause_and_flush(timeout_s, broker=self._broker)

    def begin_drain(self, timeout_s: float, *, broker: str | None) -> "Future[tuple[str, ...]]":  # noqa: ARG002
        """As `Engine.begin_drain`, for the one broker."""
        return self._engine.begin_drain(timeout_s, broker=self._broker)

    def resume(self, broker: str, /) -> None:  # noqa: ARG002 - as above
        """As `Broker.resume`."""
        self._broker.resume()

    def disable(self, broker: str, /) -> None:  # noqa: ARG002 - as above
        """As `Broker.disable`."""
        self._broker.disable()

    def enable(self, broker: str, /, *, descriptors: Mapping[str, int] = FrozenDict()) -> None:  # noqa: ARG002
        """As `Engine.enable`, for the one broker."""
        self._engine.enable(self._broker, descriptors=descriptors)

    def reconnect(self, broker: str, /) -> None:  # noqa: ARG002 - as above
        """As `Broker.reconnect`."""
        self._broker.reconnect()

    def stop(self) -> None:
        """End the broker. It may take a moment to send what it holds, and the engine's thread does not wait for it; nor
        could the reply to the command be sent if the broker ended at once, with its control socket."""
        threading.Thread(target=self._broker.remove, name="pollbroker-terminate", daemon=True).start()

    def remove(self, broker: str, /, *, timeout_s: float) -> BrokerStatistics:  # noqa: ARG002 - as above
        """End the broker, as `stop`; its statistics up to now."""
        self.stop()
        return self.broker_statistics(broker)

    def begin_removal(self, broker: str, /, *, timeout_s: float) -> "Future[BrokerStatistics]":
        """As `remove`, and resolved at once: the reply could not be sent when the broker has ended. What is lost is not
        known by then, so that nothing counts as lost."""
        last = self.remove(broker, timeout_s=timeout_s)
        flows = {source: replace(flow, held=0, unread=0) for source, flow in last.flows.items()}
        begun: Future[BrokerStatistics] = Future()
        begun.set_result(replace(last, flows=FrozenDict(flows)))
        return begun

    def statistics(self, brokers: Iterable[str] | None = None, /) -> EngineStatistics:
        """The engine's, with the one broker, or with none if none is asked for."""
        names = self.brokers if brokers is None else brokers
        own = FrozenDict({name: self.broker_statistics(name) for name in names})
        return replace(self._engine.statistics(()), brokers=own)

    def begin_for_each(self, ask: Callable[[Broker], T], /) -> "Future[Mapping[str, T]]":
        """As `Engine.begin_for_each`, for the one broker, which is asked at once."""
        answered: Future[Mapping[str, T]] = Future()
        try:
            answered.set_result(FrozenDict({self._broker.name: ask(self._broker)}))
        except Exception as error:  # noqa: BLE001 - it is raised again where the answer is asked for
            answered.set_exception(error)
        return answered

    def broker_statistics(self, broker: str, /) -> BrokerStatistics:  # noqa: ARG002 - as above
        """As `Broker.statistics`. A monitor socket is called a capture socket, so that STATISTICS does not count its
        copies."""
        own = self._broker.statistics()
        ports = {CAPTURE if name == MONITOR else name: port for name, port in own.ports.items()}
        return replace(own, ports=FrozenDict(ports))

    def events(self, most: int, /) -> EventReader:
        """As `Engine.events`, for the one broker."""
        reader = EventReader(most)

        def put(event: Event) -> None:
            if event.broker in ("", self._broker.name):  # without a name: that some events are missing
                reader.put(event)

        reader.cancel = self._engine.on_event(put, at_end=reader.end)
        return reader

    def tap(self, broker: str, /, *, port: str | None, bodies: bool, most: int) -> Tap:  # noqa: ARG002 - as above
        """As `Engine.tap`, for the one broker."""
        return self._engine.tap(self._broker, port=port, bodies=bodies, most=most)

    def call_later(self, delay_s: float, fn: Callable[..., Any], /, *args: Any) -> Handle:
        """As `Engine.call_later`."""
        return self._engine.call_later(delay_s, fn, *args)


def steer(engine: Engine, broker: Broker, socket: Socket) -> ControlServer:
    """Carry out the commands that come in at a control socket, on this broker alone.

    Raises `ConfigError` for a socket of a type that cannot take commands.
    """
    port = WorkingPort("control", socket, owned=False)
    if port.type not in _SERVED_AS:
        found = socket_type_of(socket).name
        expected = "REP, PAIR, SUB, ROUTER, PULL or DEALER"
        raise ConfigError(f"control: a {found} socket cannot take commands; expected {expected}")
    control = Control(SingleBroker(engine, broker), _SERVED_AS[port.type])
    return ControlServer(engine, control, port)
