"""Devices with a monitor socket and a control socket, which run in the thread that starts them."""

from dataclasses import replace
from typing import Any

import zmq

from pollbroker.devices.base import Device
from pollbroker.devices.functions import check_prefixes
from pollbroker.devices.plans import SocketPlan
from pollbroker.devices.sockets import DeviceSockets
from pollbroker.pump import Socket


class ProxyBase(Device):
    """What all proxies have: a third socket, the monitor."""

    def __init__(self, in_type: int, out_type: int, mon_type: int = zmq.PUB) -> None:
        super().__init__(in_type=in_type, out_type=out_type)
        self.mon_type = mon_type
        self._mon = SocketPlan()

    def bind_mon(self, addr: str) -> None:
        """Bind the monitor socket there. See `zmq.Socket.bind`."""
        self._mon.binds.append(addr)

    def bind_mon_to_random_port(self, addr: str, *args: int, **kwargs: int) -> int:
        """Bind the monitor socket to a free port. See `Device.bind_in_to_random_port`."""
        return self._bind_to_random_port(self._mon, addr, *args, **kwargs)

    def connect_mon(self, addr: str) -> None:
        """Connect the monitor socket to this address. See `zmq.Socket.connect`."""
        self._mon.connects.append(addr)

    def setsockopt_mon(self, opt: int, value: Any) -> None:
        """Set an option of the monitor socket, before it is bound or connected. See `zmq.Socket.setsockopt`."""
        self._mon.add_option(opt, value)

    def _plans(self) -> tuple[SocketPlan, ...]:
        return *super()._plans(), self._mon

    def _setup_sockets(self) -> tuple[Socket, ...]:
        return *super()._setup_sockets(), self._open(self.mon_type, self._mon)


class Proxy(ProxyBase):
    """A device with a third socket, the monitor, which gets a copy of each message; as `zmq.devices.Proxy`.

    Arguments:
        in_type, out_type: see `Device`.
        mon_type: the type of the monitor socket: PUB as a rule. If it is of another type, such as PUSH, and cannot take
            a copy, the traffic waits until it can, as in pyzmq.

    The methods that end in `_mon` are about the monitor socket.

    Source: pyzmq's documentation of `zmq.devices.Proxy`.
    """


class ProxySteerableBase(ProxyBase):
    """What all steerable proxies have: a fourth socket, which takes commands."""

    def __init__(self, in_type: int, out_type: int, mon_type: int = zmq.PUB, ctrl_type: int | None = None) -> None:
        super().__init__(in_type=in_type, out_type=out_type, mon_type=mon_type)
        self.ctrl_type = ctrl_type
        self._ctrl = SocketPlan()

    def bind_ctrl(self, addr: str) -> None:
        """Bind the control socket there. See `zmq.Socket.bind`."""
        self._ctrl.binds.append(addr)

    def bind_ctrl_to_random_port(self, addr: str, *args: int, **kwargs: int) -> int:
        """Bind the control socket to a free port. See `Device.bind_in_to_random_port`."""
        return self._bind_to_random_port(self._ctrl, addr, *args, **kwargs)

    def connect_ctrl(self, addr: str) -> None:
        """Connect the control socket to this address. See `zmq.Socket.connect`."""
        self._ctrl.connects.append(addr)

    def setsockopt_ctrl(self, opt: int, value: Any) -> None:
        """Set an option of the control socket, before it is bound or connected. See `zmq.Socket.setsockopt`."""
        self._ctrl.add_option(opt, value)

    def _plans(self) -> tuple[SocketPlan, ...]:
        return *super()._plans(), self._ctrl

    def _setup_sockets(self) -> tuple[Socket, ...]:
        sockets = super()._setup_sockets()
        return sockets if self.ctrl_type is None else (*sockets, self._open(self.ctrl_type, self._ctrl))


class ProxySteerable(ProxySteerableBase, Proxy):
    """A proxy with a fourth socket, which takes commands; as `zmq.devices.ProxySteerable`.

    Arguments:
        in_type, out_type, mon_type: see `Proxy`.
        ctrl_type: REP, PAIR, SUB, ROUTER, PULL or DEALER; without it the device is a `Proxy`, as pyzmq's documentation
            says (its code raises `TypeError`).

    PAUSE stops the traffic until RESUME; TERMINATE ends the device. These, STATISTICS, and the commands beyond libzmq's
    that docs/control.md describes, are about this device alone. What ends the device, TERMINATE and REMOVE, is answered
    just before its end, since the control socket ends with it, and so without what is lost, which is logged. A device
    that holds a message offers it for up to a second more before it ends. The methods that end in `_ctrl` are about the
    control socket; a SUB needs `setsockopt_ctrl(zmq.SUBSCRIBE, b"")`. A PAIR or DEALER has no reply to PAUSE, RESUME
    and TERMINATE, and a SUB or PULL none at all.

    Source: pyzmq's documentation of `zmq.devices.ProxySteerable`.
    """


class MonitoredQueueBase(ProxyBase):
    """What all monitored queues have: a prefix for each direction."""

    _in_prefix = b""
    _out_prefix = b""

    def __init__(
        self,
        in_type: int,
        out_type: int,
        mon_type: int = zmq.PUB,
        in_prefix: bytes = b"in",
        out_prefix: bytes = b"out",
    ) -> None:
        super().__init__(in_type=in_type, out_type=out_type, mon_type=mon_type)
        self._in_prefix = in_prefix
        self._out_prefix = out_prefix

    def _describe(self, sockets: tuple[Socket, ...]) -> DeviceSockets:
        return replace(super()._describe(sockets), prefixes=check_prefixes(self._in_prefix, self._out_prefix))


class MonitoredQueue(MonitoredQueueBase, Proxy):
    """A proxy whose monitor socket says where each message came from; as `zmq.devices.MonitoredQueue`.

    Arguments:
        in_type, out_type, mon_type: see `Proxy`. Between two ROUTERs the first two frames of each message are swapped;
            see `monitored_queue`.
        in_prefix, out_prefix: the frame before each captured message that came from the in socket, or from the out
            socket. `start` raises `TypeError` unless they are bytes.

    Source: pyzmq's documentation of `zmq.devices.MonitoredQueue`.
    """
