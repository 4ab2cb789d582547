"""A random port that is bound from the moment at which its number is known.

pyzmq binds a socket to learn a free port, closes it, and binds the device's own socket later: in between, the port can
be taken by another program. Here the listening descriptor is kept, and given to the device's socket by the option
ZMQ_USE_FD. How an address is read, and which errors there are, remains libzmq's own affair.
"""

import os
import sys
import weakref
from multiprocessing import reduction
from typing import Any, Final

import zmq

from pollbroker.pump import Socket

_TRIES: Final = 5
"""How often a port is asked for that the device has not been given before. Only transports without a descriptor that
could be kept, such as inproc, can give the same number twice."""


class ReservedPort:
    """An address to bind, with the descriptor that listens there already.

    Arguments:
        address: what the device's socket is to be bound to.
        descriptor: the listening descriptor, which is closed with this object; None if there is none to keep.
    """

    def __init__(self, address: str, descriptor: int | None = None) -> None:
        self.address = address
        self._descriptor = descriptor
        self._closing = None if descriptor is None else weakref.finalize(self, os.close, descriptor)

    def bind(self, socket: Socket) -> None:
        """Bind a socket there. libzmq then owns the descriptor, so a second call binds the address anew."""
        if self._descriptor is None or self._closing is None or not self._closing.detach():
            socket.bind(self.address)
            return
        descriptor, self._descriptor = self._descriptor, None
        before = socket.getsockopt(zmq.USE_FD)
        try:
            socket.setsockopt(zmq.USE_FD, descriptor)
            socket.bind(self.address)
        except BaseException:
            os.close(descriptor)  # libzmq fails before it looks at the descriptor, or not at all
            raise
        socket.setsockopt(zmq.USE_FD, before)

    def release(self) -> None:
        """Close the descriptor: another process has it, or nobody is going to need the port."""
        self._descriptor = None
        if self._closing is not None:
            self._closing()

    def __reduce__(self) -> tuple[Any, ...]:
        """Take the descriptor along to a process that multiprocessing spawns."""
        return _unpickle, (self.address, None if self._descriptor is None else reduction.DupFd(self._descriptor))


def _unpickle(address: str, descriptor: Any) -> ReservedPort:
    return ReservedPort(address, None if descriptor is None else descriptor.detach())


def reserve_port(taken: list[str], address: str, *args: int, **kwargs: int) -> tuple[int, ReservedPort]:
    """The number of a free port at an address without a port, such as `tcp://127.0.0.1`, and the port itself.

    Arguments:
        taken: addresses that are not to be given again; the new one is added.
        args, kwargs: `min_port`, `max_port` and `max_tries`, as for `zmq.Socket.bind_to_random_port`.

    Raises `zmq.ZMQBindError` if no free port was found, and whatever else `bind_to_random_port` raises.
    """
    for _ in range(_TRIES):
        port, descriptor = _listen(address, *args, **kwargs)
        reserved = ReservedPort(f"{address}:{port}", descriptor)
        if reserved.address not in taken:
            taken.append(reserved.address)
            return port, reserved
        reserved.release()
    raise zmq.ZMQBindError(f"{address}: no port was found in {_TRIES} tries that this device has not been given before")


def _listen(address: str, *args: int, **kwargs: int) -> tuple[int, int | None]:
    """Bind to a random port; its number, and a copy of the listening descriptor if it is one of tcp."""
    context: zmq.Context[Socket] = zmq.Context()
    binder = context.socket(zmq.PUSH)
    try:
        monitor = binder.get_monitor_socket(zmq.EVENT_LISTENING)
        port = binder.bind_to_random_port(address, *args, **kwargs)
        if not address.startswith("tcp:"):
            return port, None
        # The frame of the event has its number in 16 bits, and in 32 bits the descriptor (zmq_socket_monitor(3)).
        event = monitor.recv_multipart(zmq.DONTWAIT)[0]
        return port, os.dup(int.from_bytes(event[2:6], sys.byteorder))
    finally:
        binder.disable_monitor()
        context.destroy(linger=0)
