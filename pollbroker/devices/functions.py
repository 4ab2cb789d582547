"""The functions of pyzmq that run one device in the thread of their caller, until its context ends.

Each has an engine of its own for as long as it runs. The sockets are the caller's: no option of theirs is changed, and
none is closed.

A device reads a message before it knows whether somebody takes it, and holds it until then. One that holds messages is
given a second more at its end, in which it goes on offering them. What is left then is lost, since no socket takes a
message back, and the log says how many messages were lost.
"""

import errno
from collections.abc import Callable
from contextlib import closing
from typing import Any

import zmq

from pollbroker.broker import Broker
from pollbroker.devices.sockets import DeviceSockets
from pollbroker.engine import Engine
from pollbroker.pump import Socket
from pollbroker.states import BrokerState


def device(device_type: int, frontend: Socket, backend: Socket) -> int:  # noqa: ARG001 - pyzmq ignores it, too
    """Run a device, as `zmq.device` (deprecated there in favour of `zmq.proxy`).

    The `device_type` is ignored, as in pyzmq: the types of the sockets say what can pass between them. For everything
    else see `proxy`.
    """
    return proxy(frontend, backend)


def proxy(frontend: Socket, backend: Socket, capture: Socket | None = None) -> int:
    """Pass messages between two sockets until their context ends, as `zmq.proxy`.

    Arguments:
        frontend, backend: the sockets. What one of them can receive goes to the other, if that can send. If both are
            the same socket, each message goes back to the socket.
        capture: a socket that gets a copy of each message: a PUB as a rule. If it is of another type, such as PUSH, and
            cannot take a copy, the traffic waits until it can, as in `zmq.proxy`. A closed one counts as none, as in
            pyzmq.

    Raises `zmq.ContextTerminated` when the context of a socket is terminated, and `zmq.ZMQError` if a socket is closed
    or has an error; `TypeError` for what is no socket; `DeviceError` for two sockets between which nothing can pass,
    and for a capture socket that cannot send. In the main thread Ctrl-C raises `KeyboardInterrupt` between two
    messages.

    Messages that nobody takes wait in the frontend or the backend, except for one in each direction, which the proxy
    has read already. At Ctrl-C, or when a signal handler raises, it offers that one for up to a second more. If nobody
    takes it, it is lost, and a warning in the log says so. `zmq.proxy` reads no message that it cannot send.

    Source: pyzmq's documentation of `zmq.proxy`, and zmq_proxy(3).
    """
    return proxy_steerable(frontend, backend, capture)


def proxy_steerable(
    frontend: Socket, backend: Socket, capture: Socket | None = None, control: Socket | None = None
) -> int:
    """Pass messages between two sockets as `proxy` does, and obey a control socket, as `zmq.proxy_steerable`.

    Arguments:
        frontend, backend, capture: see `proxy`.
        control: a socket that takes the commands PAUSE, RESUME, TERMINATE and STATISTICS, and those beyond libzmq's
            that docs/control.md describes. A REP or ROUTER socket answers each command; a PAIR or DEALER has no reply
            to PAUSE, RESUME and TERMINATE; a SUB or PULL has none at all. Without it, or with a closed one, this is
            `proxy`.

    Returns 0 after TERMINATE: at once, or after up to a second in which it offers what it holds, as `proxy` does at
    Ctrl-C. What is lost is logged. Raises as `proxy`, and `ConfigError` for a control socket of a type that cannot take
    commands (expected REP, PAIR, SUB, ROUTER, PULL or DEALER).

    Source: pyzmq's documentation of `zmq.proxy_steerable`, and zmq_proxy_steerable(3).
    """
    check_sockets(errno.EFAULT, frontend=frontend, backend=backend)
    optional = {"capture": capture, "control": control}
    _check_types(**{name: socket for name, socket in optional.items() if socket is not None})
    capture, control = (None if socket is None or socket.closed else socket for socket in optional.values())
    serve(DeviceSockets(frontend, backend, capture, control))
    return 0


def monitored_queue(
    in_socket: Socket,
    out_socket: Socket,
    mon_socket: Socket,
    in_prefix: bytes = b"in",
    out_prefix: bytes = b"out",
) -> int:
    """Pass messages between two sockets and publish each on a third, as `zmq.devices.monitored_queue`.

    Arguments:
        in_socket, out_socket: the sockets, as for `proxy`. If both are ROUTERs, the first two frames of each message
            are swapped: a client names the receiver in the first frame that it sends, and the receiver finds the sender
            there.
        mon_socket: gets a copy of each message, as it was sent on, behind a prefix; see `capture` of `proxy`.
        in_prefix, out_prefix: the frame before each message that came from `in_socket`, or from `out_socket`.

    Raises as `proxy`, and `TypeError` for a prefix that is not `bytes`.

    Source: pyzmq's documentation of `zmq.devices.monitored_queue`.
    """
    check_sockets(zmq.ENOTSOCK, in_socket=in_socket, out_socket=out_socket, mon_socket=mon_socket)
    serve(DeviceSockets(in_socket, out_socket, mon_socket, prefixes=check_prefixes(in_prefix, out_prefix)))
    return 0


def serve(sockets: DeviceSockets, began: Callable[[Engine, Broker], None] | None = None) -> None:
    """Run one device in this thread until it ends. `began` is called when it is about to run.

    Raises `zmq.ContextTerminated` if its context ended, and the device's own error if it failed.
    """
    with closing(Engine()) as engine:
        broker = sockets.start(engine)
        broker.removed.add_done_callback(lambda _: engine.stop())
        try:
            if began is not None:
                began(engine, broker)
            engine.run()
        finally:
            broker.remove()
    if broker.error is not None:
        raise broker.error
    if broker.state is BrokerState.ENDED:
        raise zmq.ContextTerminated


def check_prefixes(in_prefix: bytes, out_prefix: bytes) -> tuple[bytes, bytes]:
    """Both prefixes of a monitored queue. Raises `TypeError` unless they are bytes."""
    for name, prefix in (("in_prefix", in_prefix), ("out_prefix", out_prefix)):
        if not isinstance(prefix, bytes):
            raise TypeError(f"{name}: {prefix!r}: expected bytes")
    return in_prefix, out_prefix


def check_sockets(error_number: int, **sockets: Any) -> None:
    """Raise `TypeError` for what is no socket, and `zmq.ZMQError` for a closed one."""
    _check_types(**sockets)
    for name, socket in sockets.items():
        if socket.closed:
            raise zmq.ZMQError(error_number, f"{name}: the socket is closed; expected an open one")


def _check_types(**sockets: object) -> None:
    for name, socket in sockets.items():
        if not isinstance(socket, zmq.Socket):
            raise TypeError(f"{name}: {socket!r}: expected a zmq.Socket")
