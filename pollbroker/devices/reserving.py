"""A random port that is bound from the moment at which its number is known.

pyzmq binds a socket to learn a free port, closes it, and binds the device's own socket later: in between, the port can
be taken by another program. Here the listening descriptor is kept, and given to the device's socket by the option
ZMQ_USE_FD. How an address is read, and which errors there are, remains libzmq's own affair.

What libzmq sets at a listening socket it sets before that is bound. So the device's options for listeners are set
where the port is bound, and if one of them is set later, the port is bound anew, at once.
"""

import os
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing import reduction
from typing import Any, Final, TypeAlias, TypeVar

import zmq

from pollbroker.pump import Socket

T = TypeVar("T")

Options: TypeAlias = Iterable[tuple[int, Any]]
"""Socket options and their values, in the order in which they are to be set."""

LISTENER_OPTIONS: Final = frozenset(
    {
        *(zmq.BACKLOG, zmq.BINDTODEVICE, zmq.BUSY_POLL, zmq.IPV4ONLY, zmq.IPV6),
        *(zmq.PRIORITY, zmq.RCVBUF, zmq.SNDBUF, zmq.TOS),
    }
)
"""The options that libzmq reads when it makes a listening socket (`tcp_listener.cpp` and `tcp_open_socket` of libzmq
4.3.5). All others it reads when a connection is made, and so they may be set after the port is bound."""

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
        self._keep(descriptor)

    def _keep(self, descriptor: int | None) -> None:
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

    def bind_anew(self, options: Options) -> None:
        """Bind the port again, by a listener with these options, if its descriptor is kept.

        If that fails, nothing is kept, and `bind` raises the error, or succeeds where somebody else had the port.
        """
        if self._descriptor is None:
            return
        self.release()
        with suppress(zmq.ZMQError):
            self._keep(_listen(options, lambda binder: binder.bind(self.address))[1])

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


def reserve_port(
    taken: list[str], options: Options, address: str, *args: int, **kwargs: int
) -> tuple[int, ReservedPort]:
    """The number of a free port at an address without a port, such as `tcp://127.0.0.1`, and the port itself.

    Arguments:
        taken: addresses that are not to be given again; the new one is added.
        options: those of the socket that is to have the port.
        args, kwargs: `min_port`, `max_port` and `max_tries`, as for `zmq.Socket.bind_to_random_port`.

    Raises `zmq.ZMQBindError` if no free port was found, and whatever else `bind_to_random_port` raises.
    """
    for _ in range(_TRIES):
        port, descriptor = _listen(options, lambda binder: binder.bind_to_random_port(address, *args, **kwargs))
        reserved = ReservedPort(f"{address}:{port}", descriptor)
        if reserved.address not in taken:
            taken.append(reserved.address)
            return port, reserved
        reserved.release()
    raise zmq.ZMQBindError(f"{address}: no port was found in {_TRIES} tries that this device has not been given before")


def _listen(options: Options, bind: Callable[[Socket], T]) -> tuple[T, int | None]:
    """Bind a socket with the options for listeners among these; what `bind` returns, and a copy of the listening
    descriptor if it is one of tcp."""
    context: zmq.Context[Socket] = zmq.Context()
    binder = context.socket(zmq.PUSH)
    try:
        for option, value in options:
            if option in LISTENER_OPTIONS:
                with suppress(zmq.ZMQError, TypeError, OverflowError):  # the device's start raises it
                    binder.setsockopt(option, value)
        monitor = binder.get_monitor_socket(zmq.EVENT_LISTENING)
        bound = bind(binder)
        if not binder.get_string(zmq.LAST_ENDPOINT).startswith("tcp:"):
            return bound, None
        # The frame of the event has its number in 16 bits, and in 32 bits the descriptor (zmq_socket_monitor(3)).
        event = monitor.recv_multipart(zmq.DONTWAIT)[0]
        return bound, os.dup(int.from_bytes(event[2:6], sys.byteorder))
    finally:
        binder.disable_monitor()
        context.destroy(linger=0)
