"""Devices that run in the background, in this process: all of them in one thread.

The first device that starts makes an engine and its thread, and the last one that ends stops them. A device that is not
a daemon needs a thread for which the program waits, so there is one engine for daemons (the default) and one for
others. A fork inherits no thread, so it makes its own.
"""

import os
import threading
import time
from typing import Any, Final

from pollbroker.devices.base import Device, runs_in_its_own_way
from pollbroker.devices.proxies import MonitoredQueueBase, ProxyBase, ProxySteerableBase
from pollbroker.engine import Engine


class SharedEngine:
    """An engine, the thread that runs it, and how many devices use it."""

    def __init__(self, *, daemon: bool) -> None:
        self.engine = Engine()
        self.thread = threading.Thread(target=self._run, name="pollbroker-devices", daemon=daemon)
        self.users = 0
        self.ended = False
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self.ended:
                self.engine.run()  # returns early if its only device ended before `start` could take note of that
        finally:
            self.engine.close()


class SharedEngines:
    """The shared engines of this process: one for daemons, one for devices that the program waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[bool, SharedEngine] = {}

    def borrow(self, *, daemon: bool) -> SharedEngine:
        """The engine for one more device, which is made if there is none."""
        with self._lock:
            shared = self._engines.get(daemon)
            if shared is None or not shared.thread.is_alive():
                shared = self._engines[daemon] = SharedEngine(daemon=daemon)
            shared.users += 1
            return shared

    def give_back(self, shared: SharedEngine) -> None:
        """A device has ended; if it was the last one, the engine stops."""
        with self._lock:
            shared.users -= 1
            if not shared.users:
                self._engines = {daemon: one for daemon, one in self._engines.items() if one is not shared}
                shared.ended = True
                shared.engine.stop()

    def forget(self) -> None:
        """Begin anew in a fork, whoever held the lock."""
        self._lock = threading.Lock()
        self._engines = {}


_ENGINES: Final = SharedEngines()
os.register_at_fork(after_in_child=_ENGINES.forget)


class SharedThread:
    """The `launcher` of a `ThreadDevice`: what a `threading.Thread` would say of a device that shares its thread."""

    def __init__(self, device: "ThreadDevice", shared: SharedEngine) -> None:
        self.daemon = shared.thread.daemon
        self.name = shared.thread.name
        self.ident = shared.thread.ident
        self.native_id = shared.thread.native_id
        self._device = device
        self._shared = shared
        self._pid = os.getpid()

    def is_alive(self) -> bool:
        """Return True if the device runs. It does not run in a fork."""
        return self._pid == os.getpid() and not self._device.done

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the device, and of the thread if no other device uses it, for at most so many seconds."""
        if self._pid != os.getpid() or self.ident == threading.get_ident():
            return
        begun_s = time.monotonic()
        Device.join(self._device, timeout)
        if self._device.done and not self._shared.users:
            left_s = None if timeout is None else max(0.0, timeout - (time.monotonic() - begun_s))
            self._shared.thread.join(left_s)


class BackgroundDevice(Device):
    """What devices in threads and in processes share."""

    _launch_class: Any = None

    def start(self) -> None:
        """Run the device in a thread, or a process, of its own: for a subclass with a `run` of its own."""
        self._begin_run()
        self.launcher = self._launch_class(target=self.run)
        self.launcher.daemon = self.daemon
        self.launcher.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the device has ended, for at most so many seconds; `done` says whether it has.

        Raises `RuntimeError` if it was not started, as `threading.Thread.join`.
        """
        if self.launcher is None:
            raise RuntimeError("a device cannot be joined before it is started")
        self.launcher.join(timeout)


class ThreadDevice(BackgroundDevice):
    """A device that runs in the background, as `zmq.devices.ThreadDevice`; see `Device`.

    All devices of this kind in a process share one engine, and so one thread. `launcher` has the methods and attributes
    of a `threading.Thread` that make sense for a shared one: `join`, `is_alive`, `daemon`, `name`, `ident`.
    """

    _launch_class = threading.Thread

    def start(self) -> None:
        """Open the sockets in this thread, and have the shared engine run the device.

        Raises `zmq.ZMQError` if a socket cannot be opened, bound or connected, as `zmq.Socket` does; `DeviceError` if
        nothing can pass between sockets of these types; `EngineError` if the device is running already.
        """
        if runs_in_its_own_way(self):
            super().start()
            return
        self._begin_run()
        shared = _ENGINES.borrow(daemon=self.daemon)
        try:
            broker = self._describe(self._setup_sockets()).start(shared.engine)
        except BaseException:
            self._end(shared)
            raise
        self._runner = shared.thread.ident
        self.launcher = SharedThread(self, shared)
        self._note(shared.engine, broker)

        def end(_: object) -> None:
            if not shared.engine.closed:
                shared.engine.call_soon_threadsafe(broker.remove)  # one that ended by itself stays in the table
            self._end(shared)

        broker.removed.add_done_callback(end)

    def _end(self, shared: SharedEngine) -> None:
        self._close_sockets()
        _ENGINES.give_back(shared)
        self.done = True


class ThreadProxy(ProxyBase, ThreadDevice):
    """A `Proxy` that runs in the background, as `zmq.devices.ThreadProxy`; see `ThreadDevice`."""


class ThreadProxySteerable(ProxySteerableBase, ThreadProxy):
    """A `ProxySteerable` that runs in the background, as `zmq.devices.ThreadProxySteerable`; see `ThreadDevice`."""


class ThreadMonitoredQueue(MonitoredQueueBase, ThreadProxy):
    """A `MonitoredQueue` that runs in the background, as `zmq.devices.ThreadMonitoredQueue`; see `ThreadDevice`."""
