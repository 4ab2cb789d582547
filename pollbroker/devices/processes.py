"""Devices that run in processes of their own.

The child opens the sockets, runs an engine, and tells the parent over a pipe that it has begun, or why it could not. By
the same pipe the parent stops it and asks for its statistics.
"""

import multiprocessing
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Final

import zmq

from pollbroker.broker import Broker
from pollbroker.devices.base import runs_in_its_own_way
from pollbroker.devices.failures import Failure, describe_failure
from pollbroker.devices.proxies import MonitoredQueueBase, ProxyBase, ProxySteerableBase
from pollbroker.devices.threads import BackgroundDevice
from pollbroker.engine import Engine
from pollbroker.errors import EngineError
from pollbroker.statistics import BrokerStatistics

_BEGUN: Final = "begun"
_LINGER_MS: Final = 1000
"""How long the process goes on sending what libzmq has accepted, after a device with libzmq's default, for ever, has
ended. Without it those messages would be lost with the process."""


class ProcessDevice(BackgroundDevice):
    """A device that runs in a process of its own, as `zmq.devices.ProcessDevice`; see `Device`.

    `launcher` is the `multiprocessing.Process`. The context is the process's own, so terminating one in this process
    does not end the device: `stop` does, or `launcher.terminate()`, which loses what is on its way.
    """

    _launch_class = multiprocessing.Process
    context_factory = zmq.Context

    _channel: Connection | None = None
    """The parent's end of the pipe; in the child, the child's."""
    _last: BrokerStatistics | None = None

    def start(self) -> None:
        """Start the process, and wait until it has opened the sockets and runs the device.

        Raises what opening the sockets raised there (see `ThreadDevice.start`), with the traceback of that process as a
        note. Raises `EngineError`, which says the same, for an exception that cannot be sent to another process; and
        also if the process ended before it came so far, or is running already.
        """
        if self.launcher is not None and self.launcher.is_alive():
            raise EngineError("the device is running already")
        if runs_in_its_own_way(self):
            super().start()
            return
        self._channel_lock = threading.Lock()
        self._last = None
        self._channel, theirs = multiprocessing.Pipe()
        self.launcher = self._launch_class(target=self._run_in_child, args=(theirs,))
        self.launcher.daemon = self.daemon
        self.launcher.start()
        theirs.close()
        for plan in self._plans():
            plan.release_ports()
        answer = self._receive()
        if answer != _BEGUN:
            self.launcher.join()
            if isinstance(answer, Failure):
                raise answer.error()
            raise EngineError(f"the process ended with exit code {self.launcher.exitcode} before its sockets were open")

    def stop(self, *, timeout_s: float = 1.0) -> None:
        """End the device and its process. It takes nothing more, and for up to `timeout_s` goes on offering what it
        holds. Of a device that is not running only the random ports are given up."""
        if self._channel is not None and not self.done:
            with self._channel_lock, suppress(OSError):  # the process has just ended
                self._channel.send(timeout_s)
            self.join()
        super().stop()

    def statistics(self) -> BrokerStatistics:
        """A frozen snapshot of what the device has moved: of one that has ended, the last one.

        Raises `EngineError` if the device has not run yet, or if its process was killed.
        """
        if self._channel is None:
            raise EngineError("the device has no statistics: it has not run yet")
        with self._channel_lock:
            with suppress(OSError):  # the process has just ended, and has sent its last statistics
                self._channel.send(None)
            self._last = self._receive() or self._last
        if self._last is None:
            raise EngineError("the device has no statistics: its process was killed")
        return self._last

    @property
    def done(self) -> bool:
        """True when the process has ended."""
        return self.launcher is not None and not self.launcher.is_alive()

    @done.setter
    def done(self, ended: bool) -> None:
        """In the child, where nobody asks for it."""

    def _receive(self) -> Any:
        """What the child sends next; None if it has ended."""
        assert self._channel is not None
        wait([self._channel, self.launcher.sentinel])
        try:
            return self._channel.recv() if self._channel.poll() else None
        except (EOFError, OSError):
            return None

    # -- in the child -------------------------------------------------------------------------------------------------

    def _run_in_child(self, channel: Connection) -> None:
        self._forget_run()
        self._channel = channel
        try:
            self.run()
        except Exception as error:
            if self._broker is not None:
                raise
            channel.send(describe_failure(error))
            sys.exit(1)
        finally:
            if self._broker is not None:
                with suppress(OSError):  # the parent has gone
                    channel.send(self._broker.statistics())
            if hasattr(self, "_context"):
                self._context.term()  # or what libzmq has accepted would be lost with the process

    def _note(self, engine: Engine, broker: Broker) -> None:
        super()._note(engine, broker)
        assert self._channel is not None
        self._channel.send(_BEGUN)
        engine.add_reader(self._channel.fileno(), self._obey, engine, broker, self._channel)

    def _obey(self, engine: Engine, broker: Broker, channel: Connection) -> None:
        """Carry out what the parent asks for: None means statistics, a number how long stopping may take."""
        try:
            timeout_s = channel.recv()
            if timeout_s is None:
                channel.send(broker.statistics())
            else:
                threading.Thread(target=broker.remove, kwargs={"timeout_s": timeout_s}, daemon=True).start()
        except (EOFError, OSError):
            engine.remove_reader(channel.fileno())  # the parent has gone, or has forgotten the device

    def _close_sockets(self) -> None:
        for socket in self._sockets:
            if not socket.closed and socket.getsockopt(zmq.LINGER) == -1:
                socket.setsockopt(zmq.LINGER, _LINGER_MS)
        super()._close_sockets()


class ProcessProxy(ProxyBase, ProcessDevice):
    """A `Proxy` in a process of its own, as `zmq.devices.ProcessProxy`; see `ProcessDevice`."""


class ProcessProxySteerable(ProxySteerableBase, ProcessProxy):
    """A `ProxySteerable` in a process of its own, as `zmq.devices.ProcessProxySteerable`; see `ProcessDevice`."""


class ProcessMonitoredQueue(MonitoredQueueBase, ProcessProxy):
    """A `MonitoredQueue` in a process of its own, as `zmq.devices.ProcessMonitoredQueue`; see `ProcessDevice`."""
