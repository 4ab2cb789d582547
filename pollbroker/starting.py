"""How a broker begins: its ports are opened or lent, claimed for it, and watched.

A socket can belong to one broker of the process only (`claims.py`). An address that a broker has released may be in use
for a moment still (`ReleasedAddresses`). Everything here happens in the engine's thread.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import zmq

from pollbroker.claims import CLAIMS
from pollbroker.device import Device
from pollbroker.errors import DeviceError, EngineError
from pollbroker.loop_access import LoopAccess
from pollbroker.opening import RELEASED, Plan, lend_ports
from pollbroker.port import WorkingPort
from pollbroker.pump import Implementation, Socket, StartTask
from pollbroker.statistics import BrokerStatistics
from pollbroker.working import WorkingBroker


class Starting:
    """Starts the brokers of an engine. `on_end` is called with each of them that has ended."""

    def __init__(
        self,
        context: zmq.Context[Any],
        implementation: Implementation,
        loop_access: LoopAccess,
        on_end: Callable[[WorkingBroker], None],
    ) -> None:
        self.released = RELEASED
        self.start_task: StartTask | None = None
        """Runs coroutine handlers; None if the engine is on no loop of the program. See `Engine.set_task_starter`."""
        self._context = context
        self._implementation = implementation
        self._loop_access = loop_access
        self._on_end = on_end

    def open(
        self,
        name: str,
        device: Device,
        plan: Plan,
        prefixes: Mapping[str, bytes],
        earlier: BrokerStatistics | None = None,
    ) -> WorkingBroker:
        """Open the ports of a plan and start a broker on them. Nothing stays open after an error."""
        self._check_handlers(name, device)
        ports = plan.open(self._context, self._loop_access.wire_context, self.released)
        return self._start(name, device, ports, prefixes, earlier)

    def register(
        self, name: str, device: Device, sockets: Mapping[str, Socket | None], prefixes: Mapping[str, bytes]
    ) -> WorkingBroker:
        """Start a broker on registered sockets."""
        self._check_handlers(name, device)
        ports = lend_ports(name, device, sockets)
        for port in ports.values():
            _check_different(name, port, ports)
        return self._start(name, device, ports, prefixes, None)

    def _start(
        self,
        name: str,
        device: Device,
        ports: Mapping[str, WorkingPort],
        prefixes: Mapping[str, bytes],
        earlier: BrokerStatistics | None,
    ) -> WorkingBroker:
        try:
            broker = WorkingBroker(
                name,
                device,
                ports,
                implementation=self._implementation,
                prefixes=prefixes,
                loop_access=self._loop_access,
                on_end=self._on_end,
                start_task=self.start_task,
                earlier=earlier,
            )
        except BaseException:  # such as an error of the function that makes the device's behaviour
            self._release(ports.values())
            raise
        try:
            for port in broker.ports:
                _claim(broker, port)
            broker.start()
        except BaseException:
            _give_claims_back(broker)
            self._release(broker.ports)
            raise
        self.forget_released(broker)
        return broker

    def _release(self, ports: Iterable[WorkingPort]) -> None:
        """Close the ports of a broker that could not begin. Their addresses may be in use for a moment still."""
        for port in ports:
            port.close()
            if port.owned:
                self.released.note(port.endpoints)

    def note_end(self, broker: WorkingBroker) -> None:
        """A broker has ended: other brokers may have its sockets, and soon its addresses."""
        _give_claims_back(broker)
        for port in broker.ports:
            if port.owned:
                self.released.note(port.endpoints)

    def forget_released(self, broker: WorkingBroker) -> None:
        """The addresses of a broker are in use, and will not soon be free."""
        for port in broker.ports:
            if port.owned:
                self.released.forget(port.endpoints)

    def _check_handlers(self, name: str, device: Device) -> None:
        for route in device.routes:
            if route.awaits and self.start_task is None:
                raise DeviceError(
                    f"brokers.{name}: device {device.name}: {route}: via is {route.via!r}, a coroutine function, and "
                    "this engine is on no loop that could run it; expected an engine of pollbroker.asyncio, "
                    "pollbroker.trio or pollbroker.anyio"
                )


def _claim(broker: WorkingBroker, port: WorkingPort) -> None:
    other = CLAIMS.owner(port.key)
    if isinstance(other, WorkingBroker) and other.engine_id is broker.engine_id:
        other.check_alive()  # a new socket may have the address of one that was closed under the engine
    CLAIMS.take(port.key, broker, f"brokers.{broker.name}.{port.name}")


def _give_claims_back(broker: WorkingBroker) -> None:
    for port in broker.ports:
        CLAIMS.give_back(port.key, broker)


def _check_different(name: str, port: WorkingPort, ports: Mapping[str, WorkingPort]) -> None:
    for other in ports.values():
        if other is not port and other.key == port.key:
            where = f"brokers.{name}.{port.name}"
            raise EngineError(f"{where}: the socket is registered twice here, as {other.name} too")
