"""`Device`: a device that opens its own sockets, and runs in the thread that starts it.

What a device is told before it starts is kept in a `SocketPlan` for each socket. Threads and processes (`threads.py`,
`processes.py`) differ in who runs it; proxies (`proxies.py`) have more sockets.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import zmq

from pollbroker.broker import Broker
from pollbroker.devices.functions import serve
from pollbroker.devices.plans import SocketPlan
from pollbroker.devices.reserving import reserve_port
from pollbroker.devices.sockets import DeviceSockets
from pollbroker.engine import Engine
from pollbroker.errors import EngineError
from pollbroker.pump import Socket
from pollbroker.statistics import BrokerStatistics

_OF_A_RUN: Final = (
    *("launcher", "_broker", "_context", "_ended", "_engine", "_runner", "_sockets"),
    *("_channel", "_channel_lock", "_last"),  # of a process
)
"""Attributes that belong to a run of the device in this process, and mean nothing in another."""


class Device:
    """A device that opens its own sockets, as `zmq.devices.Device`. `start` runs it in this thread.

        device = Device(zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
        device.bind_in("tcp://127.0.0.1:5559")
        device.bind_out("tcp://127.0.0.1:5560")
        device.start()  # returns when the context ends, or when another thread calls stop()

    Arguments:
        device_type: ignored, as in pyzmq; the types of the sockets say what can pass between them.
        in_type, out_type: the types of the two sockets, such as `zmq.ROUTER`. A negative `out_type` means that the
            device has one socket, which is both: each message goes back to the socket that it came from.

    Raises `TypeError` if a type is missing.

    A method that ends in `_in` or `_out` is about the one socket or the other. It is carried out when the device
    starts; what is wrong with it is raised by `start`.

    Source: pyzmq's documentation of `zmq.devices.Device`. `stop` and `statistics` are pollbroker's.
    """

    context_factory: Callable[[], zmq.Context[Any]] = zmq.Context.instance
    """Gives the context in which the sockets are opened. It may be set for a class or for one device. By default it is
    `zmq.Context.instance` for devices in this process, and `zmq.Context` for those in a process of their own."""

    daemon: bool
    """Whether the device ends with the program (True, the default), or the program waits for the device."""
    launcher: Any
    """What runs the device: see the subclasses. None before `start`."""
    _context: zmq.Context[Any]

    def __init__(self, device_type: int = zmq.QUEUE, in_type: int | None = None, out_type: int | None = None) -> None:
        for name, given in (("in_type", in_type), ("out_type", out_type)):
            if given is None:
                raise TypeError(f"{name}: expected a type of socket, such as zmq.ROUTER; none is given")
        assert in_type is not None
        assert out_type is not None
        self.device_type = device_type
        self.in_type = in_type
        self.out_type = out_type
        self.daemon = True
        self._in = SocketPlan()
        self._out = SocketPlan()
        self._random_addresses: list[str] = []
        self._forget_run()

    def _forget_run(self) -> None:
        self.launcher = None
        self._broker: Broker | None = None
        self._engine: Engine | None = None
        self._runner: int | None = None
        self._sockets: list[Socket] = []
        self._ended = threading.Event()

    def __getstate__(self) -> dict[str, Any]:
        """What a process that multiprocessing spawns is given of the device."""
        return {name: value for name, value in vars(self).items() if name not in _OF_A_RUN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._forget_run()
        vars(self).update(state)

    # -- before it starts ---------------------------------------------------------------------------------------------

    def bind_in(self, addr: str) -> None:
        """Bind the in socket there. See `zmq.Socket.bind`."""
        self._in.binds.append(addr)

    def bind_out(self, addr: str) -> None:
        """Bind the out socket there. See `zmq.Socket.bind`."""
        self._out.binds.append(addr)

    def connect_in(self, addr: str) -> None:
        """Connect the in socket to this address. See `zmq.Socket.connect`."""
        self._in.connects.append(addr)

    def connect_out(self, addr: str) -> None:
        """Connect the out socket to this address. See `zmq.Socket.connect`."""
        self._out.connects.append(addr)

    def setsockopt_in(self, opt: int, value: Any) -> None:
        """Set an option of the in socket, before it is bound or connected. See `zmq.Socket.setsockopt`."""
        self._in.add_option(opt, value)

    def setsockopt_out(self, opt: int, value: Any) -> None:
        """Set an option of the out socket, before it is bound or connected. See `zmq.Socket.setsockopt`."""
        self._out.add_option(opt, value)

    def bind_in_to_random_port(self, addr: str, *args: int, **kwargs: int) -> int:
        """Bind the in socket to a free port of an address such as `tcp://127.0.0.1`; the number of the port.

        The port is bound at once, and stays so until the device ends: nobody else can take it before `start`. Options
        of the listening socket, such as `zmq.IPV6`, `zmq.BACKLOG` or `zmq.RCVBUF`, are best set before: one that is set
        later has the port closed and bound anew.

        Arguments:
            args, kwargs: `min_port`, `max_port`, `max_tries`, as for `zmq.Socket.bind_to_random_port`.

        Raises `zmq.ZMQBindError` if no free port was found, and `zmq.ZMQError` for an address that cannot be bound.
        """
        return self._bind_to_random_port(self._in, addr, *args, **kwargs)

    def bind_out_to_random_port(self, addr: str, *args: int, **kwargs: int) -> int:
        """Bind the out socket to a free port. See `bind_in_to_random_port`."""
        return self._bind_to_random_port(self._out, addr, *args, **kwargs)

    def _bind_to_random_port(self, plan: SocketPlan, addr: str, *args: int, **kwargs: int) -> int:
        port, reserved = reserve_port(self._random_addresses, plan.options, addr, *args, **kwargs)
        plan.binds.append(reserved)
        return port

    def _plans(self) -> tuple[SocketPlan, ...]:
        """The plans of all sockets."""
        return self._in, self._out

    # -- its run ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the device in this thread, until its context ends or another thread calls `stop`.

        Raises `zmq.ZMQError` if a socket cannot be opened, bound or connected, as `zmq.Socket` does; `DeviceError` if
        nothing can pass between sockets of these types; `EngineError` if the device is running already.
        """
        self._begin_run()
        self.run()

    def run(self) -> None:
        """Run the device in this thread. The end of its context is an orderly end; its sockets are closed."""
        self._runner = threading.get_ident()
        try:
            self.run_device()
        except zmq.ZMQError as error:
            if error.errno not in (zmq.ETERM, zmq.ENOTSOCK):
                raise
        finally:
            self._close_sockets()
            self.done = True

    def run_device(self) -> None:
        """What `run` runs. A subclass may have its own; it then runs in a thread, or a process, of its own."""
        serve(self._describe(self._setup_sockets()), self._note)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the device has ended, for at most so many seconds; `done` says whether it has.

        A device whose sockets were closed under it, as by `zmq.Context.destroy`, ends now if it has not noticed.
        """
        if self._engine is not None and self._broker is not None and not self.done:
            with suppress(EngineError):  # the engine has just closed, or is that of the process that forked this one
                self._engine.call_soon_threadsafe(self._broker.statistics)  # which looks whether the sockets are open
        self._ended.wait(timeout)

    def stop(self, *, timeout_s: float = 1.0) -> None:
        """End the device and close its sockets. It takes nothing more, and for up to `timeout_s` goes on offering what
        it holds. What is lost then is logged. Of a device that is not running only the random ports are given up.

        May be called from any thread. It waits for the end, except in the thread that runs the device, such as in a
        signal handler: there the end comes soon after.
        """
        if self._engine is not None and self._broker is not None and not self.done:
            if self._runner == threading.get_ident():
                self._engine.call_soon_threadsafe(self._broker.remove)
                return
            self._broker.remove(timeout_s=timeout_s)
            self.join()
        for plan in self._plans():
            plan.release_ports()

    def statistics(self) -> BrokerStatistics:
        """A frozen snapshot of what the device has moved: of one that has ended, the last one.

        Raises `EngineError` if the device has not run yet.
        """
        if self._broker is None:
            raise EngineError("the device has no statistics: it has not run yet")
        return self._broker.statistics()

    @property
    def done(self) -> bool:
        """True when the device has ended and its sockets are closed."""
        return self._ended.is_set()

    @done.setter
    def done(self, ended: bool) -> None:
        if ended:
            self._ended.set()
        else:
            self._ended.clear()

    def _begin_run(self) -> None:
        if self._broker is not None and not self.done:
            raise EngineError("the device is running already")
        self._broker = None
        self.done = False

    def _note(self, engine: Engine, broker: Broker) -> None:
        """The device is about to run."""
        self._engine, self._broker = engine, broker

    def _setup_sockets(self) -> tuple[Socket, ...]:
        """Open the sockets. A subclass may do more to them here."""
        self._context = self.context_factory()
        ins = self._open(self.in_type)
        outs = ins if self.out_type < 0 else self._open(self.out_type)
        both = ((self._in, ins), (self._out, outs))
        for plan, socket in both:
            plan.set_options(socket)
        for plan, socket in both:
            plan.bind(socket)
        for plan, socket in both:
            plan.connect(socket)
        return ins, outs

    def _open(self, socket_type: int, plan: SocketPlan | None = None) -> Socket:
        """Open one socket; with a plan, do what that says."""
        socket: Socket = self._context.socket(socket_type)
        self._sockets.append(socket)
        if plan is not None:
            plan.set_options(socket)
            plan.bind(socket)
            plan.connect(socket)
        return socket

    def _describe(self, sockets: tuple[Socket, ...]) -> DeviceSockets:
        """What each of the sockets that `_setup_sockets` has returned is."""
        return DeviceSockets(*sockets)

    def _close_sockets(self) -> None:
        for socket in self._sockets:
            socket.close()
        self._sockets = []


def runs_in_its_own_way(device: Device) -> bool:
    """Return True if a subclass has a `run` or `run_device` of its own, which would block the engine's thread."""
    kind = type(device)
    return kind.run is not Device.run or kind.run_device is not Device.run_device
