"""A device of a gevent program: `device`, as that of `zmq.green`, run by pollbroker's engine.

    from pollbroker.devices.green import device  # in place of: from zmq.green import device

All devices of a thread share one engine, which runs in one greenlet of gevent's hub there. The first device makes the
engine, and the last one closes it. This module imports gevent, so no other module of the package imports it before it
is needed.
"""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from weakref import WeakKeyDictionary

import gevent
import zmq

from pollbroker.devices.functions import check_sockets
from pollbroker.devices.sockets import DeviceSockets
from pollbroker.gevent import Engine
from pollbroker.pump import Socket

__all__ = ["device"]


@dataclass
class _SharedEngine:
    """An engine, and how many devices use it."""

    engine: Engine
    users: int = 0
    started: bool = False

    def start(self) -> None:
        """Run the engine in a greenlet of its own, if nobody has done so yet. Other greenlets run meanwhile."""
        if not self.started:
            self.started = True
            self.engine.start()


_ENGINES: Final[MutableMapping[Any, _SharedEngine]] = WeakKeyDictionary()
"""The shared engine of each hub that has devices. A fork has none."""

os.register_at_fork(after_in_child=_ENGINES.clear)


def device(device_type: int, isocket: Socket, osocket: Socket | int) -> NoReturn:  # noqa: ARG001 - pyzmq ignores it, too
    """Pass messages between two sockets until their context ends, as `zmq.green.device`. Other greenlets run meanwhile.

    Arguments:
        device_type: ignored, as in pyzmq. The types of the sockets say what can pass between them.
        isocket, osocket: the sockets, of `zmq.green` or plain ones. What one of them can receive goes to the other, if
            that can send. With -1 as `osocket` each message goes back to `isocket`.

    The sockets are the caller's: no option of theirs is changed, and none is closed. Nobody else may use them until the
    device has ended. A greenlet that is killed here, or whose `gevent.Timeout` is over, ends the device between two
    messages. A message that the device has read by then, and that nobody took, is lost, and the log says so.

    Raises `zmq.ContextTerminated` when the context of a socket is terminated, and `zmq.ZMQError` if a socket is closed
    or has an error; `TypeError` for what is no socket, and `ValueError` for a negative number; `DeviceError` for two
    sockets between which nothing can pass; `EngineError` for a socket that another device or engine uses.

    Source: pyzmq's documentation of `zmq.green.device`.
    """
    backend: Any = isocket if osocket == -1 else osocket
    for number in (isocket, backend):
        if isinstance(number, int) and number < 0:  # pyzmq takes a number for a descriptor
            raise ValueError(f"a descriptor cannot be a negative integer ({number}); expected a socket")
    check_sockets(zmq.ENOTSOCK, isocket=isocket, osocket=backend)
    with _shared_engine(isocket.context) as shared:
        broker = DeviceSockets(isocket, backend).start(shared.engine)
        try:
            shared.start()
            shared.engine.wait_for(broker.removed)
        finally:
            broker.remove(timeout_s=0.0)
    raise broker.error or zmq.ContextTerminated


@contextmanager
def _shared_engine(context: zmq.Context[Any] | None) -> Iterator[_SharedEngine]:
    """As a context: the engine of this thread's hub."""
    hub = gevent.get_hub()
    shared = _ENGINES.get(hub)
    if shared is None:
        # The engine opens no socket. It is given a context so that it does not make one, which a thread would end.
        shared = _ENGINES[hub] = _SharedEngine(Engine(context))
    shared.users += 1
    try:
        yield shared
    finally:
        shared.users -= 1
        if not shared.users:
            del _ENGINES[hub]
            shared.engine.close()
